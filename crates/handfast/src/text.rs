//! Numbers for display.

use std::time::Duration;

use time::UtcDateTime;

/// `3d 4h`, `4h 5m`, `5m 6s`, `6s`.
pub(crate) fn duration(seconds: u64) -> String {
    handfast_proto::text::passed(Duration::from_secs(seconds))
}

/// The UTC date of a block's time, `YYYY-MM-DD`.
pub(crate) fn bitcoin_date(unix: u32) -> String {
    // The sum is in range: 32 bits of seconds end in the year 2106.
    let moment = UtcDateTime::UNIX_EPOCH + Duration::from_secs(unix.into());
    moment.date().to_string()
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
