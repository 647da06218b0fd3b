//! Numbers for display.

use std::time::Duration;

/// `3d 4h`, `4h 5m`, `5m 6s`, `6s`.
pub(crate) fn duration(seconds: u64) -> String {
    handfast_proto::text::passed(Duration::from_secs(seconds))
}

/// The UTC date of a block's time, `YYYY-MM-DD`.
pub(crate) fn bitcoin_date(unix: u32) -> String {
    // Days since 1970 to a date of the Gregorian calendar; years begin in March, so
    // that the leap day is the last of its year.
    let days = u64::from(unix) / 86_400 + 719_468;
    let era = days / 146_097;
    let of_era = days % 146_097;
    let year_of_era = (of_era - of_era / 1_460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_from_march = (5 * of_year + 2) / 153;
    let day = of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = if month_from_march < 10 {
        month_from_march + 3
    } else {
        month_from_march - 9
    };
    let year = year_of_era + era * 400 + u64::from(month <= 2);
    format!("{year:04}-{month:02}-{day:02}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn block_times_become_dates_across_leap_years() {
        assert_eq!(bitcoin_date(0), "1970-01-01");
        assert_eq!(bitcoin_date(1_231_006_505), "2009-01-03");
        assert_eq!(bitcoin_date(1_709_164_800), "2024-02-29");
        assert_eq!(bitcoin_date(1_709_251_200), "2024-03-01");
        assert_eq!(bitcoin_date(u32::MAX), "2106-02-07");
    }
}
