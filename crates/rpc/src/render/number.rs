//! Numbers with the digits that Bitcoin Core prints.

use std::time::Duration;

use bitcoin::{Amount, CompactTarget, Target, Work};
use serde_json::{Number, Value};

/// Significant digits of a real number. Core's `UniValue` uses 16.
const SIGNIFICANT: i32 = 16;

/// A real number as `%.16g` would print it. Not finite: `null`.
pub(crate) fn real(value: f64) -> Value {
    if !value.is_finite() {
        return Value::Null;
    }
    let scientific = format!("{value:.*e}", SIGNIFICANT as usize - 1);
    let (mantissa, exponent) = scientific
        .split_once('e')
        .expect("`e` formatting always writes an exponent");
    let exponent: i32 = exponent.parse().expect("the exponent is a decimal integer");
    let text = if (-4..SIGNIFICANT).contains(&exponent) {
        let decimals =
            usize::try_from(SIGNIFICANT - 1 - exponent).expect("the exponent is below 16 here");
        trim(&format!("{value:.decimals$}")).to_owned()
    } else {
        let sign = if exponent < 0 { '-' } else { '+' };
        format!("{}e{sign}{:02}", trim(mantissa), exponent.abs())
    };
    number(text)
}

/// An amount in bitcoin, eight decimals. Negative as Core reads it: an unchecked transaction may
/// have any value.
pub(crate) fn amount(amount: Amount) -> Value {
    let signed = amount.to_sat().cast_signed();
    let (sign, satoshis) = (if signed < 0 { "-" } else { "" }, signed.unsigned_abs());
    number(format!(
        "{sign}{}.{:08}",
        satoshis / 100_000_000,
        satoshis % 100_000_000
    ))
}

/// Accumulated work, 64 hex digits.
pub(crate) fn work_hex(work: Work) -> String {
    super::hex(&work.to_be_bytes())
}

/// What `bits` means: itself in hex, the target in hex, the difficulty.
pub(crate) fn work_fields(bits: CompactTarget) -> (String, String, Value) {
    let consensus = bits.to_consensus();
    let target = super::hex(&Target::from_compact(bits).to_be_bytes());
    (
        format!("{consensus:08x}"),
        target,
        real(difficulty(consensus)),
    )
}

/// How much harder than the easiest target of mainnet. Computed in floating
/// point from the compact form, as Core's `GetDifficulty` does, for equal digits.
fn difficulty(bits: u32) -> f64 {
    let exponent = i32::try_from(bits >> 24).expect("eight bits fit");
    let scale = 256f64.powi((29 - exponent).abs());
    let ratio = f64::from(0xffffu32) / f64::from(bits & 0x00ff_ffff);
    if exponent <= 29 {
        ratio * scale
    } else {
        ratio / scale
    }
}

fn trim(digits: &str) -> &str {
    if digits.contains('.') {
        digits.trim_end_matches('0').trim_end_matches('.')
    } else {
        digits
    }
}

fn number(text: String) -> Value {
    Value::Number(
        text.parse::<Number>()
            .expect("formatted above as a JSON number"),
    )
}

/// A time in seconds, to the millisecond: what a node measures is no more exact. Less than one
/// is shown as one, to distinguish a short time from none.
pub(crate) fn seconds(time: Duration) -> Value {
    let least = u128::from(!time.is_zero());
    let millis = u64::try_from(time.as_millis().max(least)).unwrap_or(u64::MAX);
    real(millis as f64 / 1_000.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_printed_to_the_millisecond() {
        for (micros, text) in [
            (5_832_145, "5.832"),
            (0, "0"),
            (1_000_000, "1"),
            (999, "0.001"),
        ] {
            assert_eq!(seconds(Duration::from_micros(micros)).to_string(), text);
        }
    }

    #[test]
    fn reals_are_printed_with_sixteen_significant_digits_and_no_idle_zeros() {
        for (value, text) in [
            (0.0, "0"),
            (1.0, "1"),
            (4.656542373906925e-10, "4.656542373906925e-10"),
            (0.9999999999, "0.9999999999"),
            (0.1, "0.1"),
            (129_699_156_960_680.9, "129699156960680.9"),
            (1e300, "1e+300"),
        ] {
            assert_eq!(real(value).to_string(), text);
        }
        assert_eq!(real(f64::NAN), Value::Null);
    }

    #[test]
    fn amounts_always_have_eight_decimals() {
        assert_eq!(
            amount(Amount::from_sat(5_000_000_000)).to_string(),
            "50.00000000"
        );
        assert_eq!(amount(Amount::from_sat(1)).to_string(), "0.00000001");
        assert_eq!(amount(Amount::ZERO).to_string(), "0.00000000");
        let nonsense = Amount::from_sat((-150_000_000i64).cast_unsigned());
        assert_eq!(amount(nonsense).to_string(), "-1.50000000");
    }

    #[test]
    fn difficulty_is_one_at_the_easiest_target_of_mainnet() {
        let (bits, target, difficulty) = work_fields(CompactTarget::from_consensus(0x1d00_ffff));
        assert_eq!(bits, "1d00ffff");
        assert_eq!(target, format!("00000000ffff{}", "0".repeat(52)));
        assert_eq!(difficulty.to_string(), "1");
        // Regtest; the digits are Core's.
        let (.., regtest) = work_fields(CompactTarget::from_consensus(0x207f_ffff));
        assert_eq!(regtest.to_string(), "4.656542373906925e-10");
    }
}
