//! Where a Bech32 string is probably wrong (BIP173, BIP350). The result agrees with Core's
//! `bech32::LocateErrors`; the way there is another: the code is linear, so one or two wrong
//! characters show in the checksum as the sum of what each of them does to it alone.

use std::collections::BTreeMap;

use bitcoin::bech32::primitives::checksum::{Checksum, Engine};
use bitcoin::bech32::{Bech32, Bech32m, Fe32, Hrp};

/// Why a string is no Bech32, and at which of its bytes, as far as that is known.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Malformed {
    pub(super) message: &'static str,
    pub(super) at: Vec<usize>,
}

/// A Bech32 string, taken apart. The checksum is right.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Parts {
    /// In lower case.
    pub(super) prefix: String,
    /// Between prefix and checksum.
    pub(super) data: Vec<Fe32>,
    /// BIP350 rather than BIP173.
    pub(super) is_bech32m: bool,
}

/// Longest Bech32 address. Core `CharLimit::BECH32`.
const MAX_LENGTH: usize = 90;
/// Characters of the checksum.
const CHECKSUM: usize = 6;
/// Positions beyond the longest address that are listed at most.
const MAX_LISTED: usize = 1_000;

pub(super) fn parse(text: &str) -> Result<Parts, Malformed> {
    let wrong = |message, at| Err(Malformed { message, at });
    if text.len() > MAX_LENGTH {
        let beyond = (MAX_LENGTH..text.len()).take(MAX_LISTED);
        return wrong("Bech32 string too long", beyond.collect());
    }
    let strange = strange_characters(text);
    if !strange.is_empty() {
        return wrong("Invalid character or mixed case", strange);
    }
    let Some(separator) = text.rfind('1') else {
        return wrong("Missing separator", Vec::new());
    };
    let length = text.len() - separator - 1;
    let Ok(prefix) = Hrp::parse(&text[..separator]) else {
        return wrong("Invalid separator position", vec![separator]);
    };
    if length < CHECKSUM {
        return wrong("Invalid separator position", vec![separator]);
    }
    let mut values = Vec::with_capacity(length);
    for (at, character) in text.char_indices().skip(separator + 1) {
        match Fe32::from_char(character) {
            Ok(value) => values.push(value),
            Err(_) => return wrong("Invalid Base 32 character", vec![at]),
        }
    }
    let (old, new) = (
        check::<Bech32>(prefix, &values),
        check::<Bech32m>(prefix, &values),
    );
    let is_bech32m = match (&old, &new) {
        (Verdict::Right, _) => false,
        (_, Verdict::Right) => true,
        (Verdict::Wrong(old), Verdict::Wrong(new)) => {
            let use_new = old.is_empty() || (!new.is_empty() && new.len() < old.len());
            let from_right = if use_new { new } else { old };
            let at = from_right.iter().map(|at| text.len() - 1 - at).collect();
            let message = match (from_right.is_empty(), use_new) {
                (true, _) => "Invalid checksum",
                (false, true) => "Invalid Bech32m checksum",
                (false, false) => "Invalid Bech32 checksum",
            };
            return wrong(message, at);
        }
    };
    values.truncate(length - CHECKSUM);
    Ok(Parts {
        prefix: text[..separator].to_ascii_lowercase(),
        data: values,
        is_bech32m,
    })
}

/// Characters that cannot be printed, and letters in another case than the first.
fn strange_characters(text: &str) -> Vec<usize> {
    let first = text.bytes().find(u8::is_ascii_alphabetic);
    let upper = first.is_some_and(|byte| byte.is_ascii_uppercase());
    let strange = |byte: u8| match byte {
        b'a'..=b'z' => upper,
        b'A'..=b'Z' => !upper,
        other => !(33..=126).contains(&other),
    };
    let bytes = text.bytes().enumerate();
    bytes
        .filter(|(_, byte)| strange(*byte))
        .map(|(at, _)| at)
        .collect()
}

enum Verdict {
    Right,
    /// At these characters, counted from the right, the leftmost first; none: more than two
    /// are wrong.
    Wrong(Vec<usize>),
}

fn check<C: Checksum<MidstateRepr = u32>>(prefix: Hrp, values: &[Fe32]) -> Verdict {
    let mut engine = Engine::<C>::new();
    engine.input_hrp(prefix);
    for value in values {
        engine.input_fe(*value);
    }
    let difference = engine.residue() ^ C::TARGET_RESIDUE;
    if difference == 0 {
        return Verdict::Right;
    }
    let alone = single_errors::<C>(values.len());
    if let Some(at) = alone.get(&difference) {
        return Verdict::Wrong(vec![*at]);
    }
    let pair = alone.iter().find_map(|(effect, one)| {
        let other = alone.get(&(difference ^ effect))?;
        (one != other).then(|| vec![*one.max(other), *one.min(other)])
    });
    Verdict::Wrong(pair.unwrap_or_default())
}

/// What one wrong character does to the checksum, and where it stands, from the right.
fn single_errors<C: Checksum<MidstateRepr = u32>>(length: usize) -> BTreeMap<u32, usize> {
    let after = |first: Fe32, zeros: usize| {
        let mut engine = Engine::<C>::new();
        engine.input_fe(first);
        for _ in 0..zeros {
            engine.input_fe(Fe32::Q);
        }
        *engine.residue()
    };
    let errors = (0..length).flat_map(|at| {
        let right = after(Fe32::Q, at);
        Fe32::iter_alpha()
            .filter(|error| *error != Fe32::Q)
            .map(move |error| (right ^ after(error, at), at))
    });
    errors.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = "bcrt1q049ldschfnwystcqnsvyfpj23mpsg3jcedq9xv";

    fn with(changes: &[(usize, char)]) -> String {
        let mut text: Vec<char> = GOOD.chars().collect();
        for (at, character) in changes {
            text[*at] = *character;
        }
        text.into_iter().collect()
    }

    #[test]
    fn one_or_two_wrong_characters_are_found_wherever_they_are() {
        assert!(parse(GOOD).is_ok_and(|parts| !parts.is_bech32m && parts.prefix == "bcrt"));
        let other = |at: usize| {
            if GOOD.as_bytes()[at] == b'p' {
                'z'
            } else {
                'p'
            }
        };
        for one in 5..GOOD.len() {
            let error = parse(&with(&[(one, other(one))])).expect_err("it is wrong");
            assert_eq!(
                (error.message, error.at.as_slice()),
                ("Invalid Bech32 checksum", [one].as_slice())
            );
            let two = 5 + (one * 7) % (GOOD.len() - 5);
            if one != two {
                let error = parse(&with(&[(one, other(one)), (two, other(two))]));
                let error = error.expect_err("it is wrong");
                assert_eq!(error.at, [one.min(two), one.max(two)]);
            }
        }
    }

    #[test]
    fn invalid_bech32_is_reported_with_its_position() {
        for (text, message, at) in [
            (
                "bcrt1q049ldschfnwystcqnsvyfpj23mpsg3jcedq9xvV",
                "Invalid character or mixed case",
                vec![44],
            ),
            ("bcrt", "Missing separator", vec![]),
            ("1q049ldschfnwystc", "Invalid separator position", vec![0]),
            ("bcrt1qqqq", "Invalid separator position", vec![4]),
            (
                "bcrt1qb49ldschfnwystcqnsvyfpj23mpsg3jcedq9xv",
                "Invalid Base 32 character",
                vec![6],
            ),
        ] {
            let message = message.to_owned();
            let error = parse(text).expect_err("it is wrong");
            assert_eq!(
                (error.message.to_owned(), error.at),
                (message, at),
                "{text}"
            );
        }
        let long = "b".repeat(92);
        assert_eq!(parse(&long).expect_err("too long").at, [90, 91]);
    }

    #[test]
    fn three_wrong_characters_have_no_position() {
        let error = parse(&with(&[(6, 'q'), (11, 'q'), (17, 'p')])).expect_err("it is wrong");
        assert_eq!((error.message, error.at.len()), ("Invalid checksum", 0));
    }
}
