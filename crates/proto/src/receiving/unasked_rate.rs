//! The rate of unsolicited messages of a peer.

use std::time::Duration;

use crate::time::Now;

/// Bytes a second that each connection may send on average, whatever others do. 256 KiB: a thousand
/// times the announcements of a node, or eight thousand pings.
pub const LEAST_UNASKED: u64 = 256 << 10;
/// Bytes a second of one connection while few exceed their burst.
pub const MOST_UNASKED: u64 = 1 << 20;
/// Bytes a second that the connections share which exceed their burst, as far as that is more than
/// [`LEAST_UNASKED`] for each.
pub const SHARED_UNASKED: u64 = 8 << 20;
/// Bytes of one connection that are read at once before the rate applies: the longest `inv`,
/// `getdata` or `notfound`, twice.
pub const UNASKED_BURST: u64 = 4 << 20;

const NANOS: u128 = 1_000_000_000;

/// Bytes a second of a connection, when so many connections have exceeded their burst.
#[must_use]
pub fn unasked_rate(exceeding: usize) -> u64 {
    let exceeding = u64::try_from(exceeding).unwrap_or(u64::MAX).max(1);
    (SHARED_UNASKED / exceeding).clamp(LEAST_UNASKED, MOST_UNASKED)
}

/// A token bucket, counted as a debt: received bytes that time has not paid off.
///
/// Exceeding the rate is legal, so nothing is dropped: the socket is read later.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct UnaskedRate {
    /// Bytes, as of `at`.
    debt: u64,
    /// Time since node start.
    at: Duration,
    /// Bytes a second since then.
    rate: u64,
}

impl Default for UnaskedRate {
    fn default() -> Self {
        Self {
            debt: 0,
            at: Duration::ZERO,
            rate: MOST_UNASKED,
        }
    }
}

impl UnaskedRate {
    /// From now on the debt is paid at this rate, bytes a second; see [`unasked_rate`].
    pub fn set_rate(&mut self, now: Now, rate: u64) {
        self.pay(now.mono);
        self.rate = rate.max(1);
    }

    /// Counts a frame of so many bytes.
    pub fn received(&mut self, now: Now, bytes: usize) {
        self.pay(now.mono);
        let bytes = u64::try_from(bytes).unwrap_or(u64::MAX);
        self.debt = self.debt.saturating_add(bytes);
    }

    /// When the socket may be read again, time since node start; `None`: now.
    pub fn pauses_until(&mut self, now: Now) -> Option<Duration> {
        self.pay(now.mono);
        let excess = self
            .debt
            .checked_sub(UNASKED_BURST)
            .filter(|&over| over > 0)?;
        let pause = self.time_for(excess);
        // At least the resolution of timers: a shorter pause would end before it began.
        Some(now.mono.saturating_add(pause.max(Duration::from_millis(1))))
    }

    fn pay(&mut self, now: Duration) {
        let passed = now.saturating_sub(self.at);
        let paid = passed.as_nanos() * u128::from(self.rate) / NANOS;
        let paid = u64::try_from(paid).unwrap_or(u64::MAX);
        self.debt = self.debt.saturating_sub(paid);
        // The remainder of a byte counts on.
        let of_these = self.time_for(paid);
        self.at = self.at.saturating_add(of_these);
    }

    /// The time in which so many bytes are paid, rounded up.
    fn time_for(&self, bytes: u64) -> Duration {
        let nanos = (u128::from(bytes) * NANOS).div_ceil(u128::from(self.rate));
        Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(millis: u64) -> Now {
        Now {
            mono: Duration::from_millis(millis),
            unix: 0,
        }
    }

    #[test]
    fn a_burst_is_read_at_once_and_a_flood_at_the_rate() {
        for per_second in [LEAST_UNASKED, MOST_UNASKED] {
            let mut rate = UnaskedRate::default();
            rate.set_rate(at(0), per_second);
            let (mut clock, mut read) = (0, 0);
            while clock < 60_000 {
                match rate.pauses_until(at(clock)) {
                    None => {
                        rate.received(at(clock), 100_000);
                        read += 100_000;
                    }
                    Some(until) => clock = u64::try_from(until.as_millis()).expect("small") + 1,
                }
            }
            let fair = UNASKED_BURST + 60 * per_second;
            let off = per_second / 100 * 6 + 200_000;
            assert!((fair - off..fair + off).contains(&read), "{read}");
        }
    }

    #[test]
    fn few_flooders_are_read_faster_and_many_share() {
        assert_eq!(unasked_rate(0), MOST_UNASKED);
        assert_eq!(unasked_rate(8), MOST_UNASKED);
        assert_eq!(unasked_rate(16), MOST_UNASKED / 2);
        assert_eq!(unasked_rate(114), LEAST_UNASKED);
        // A new rate applies from when it is set.
        let mut rate = UnaskedRate::default();
        rate.received(at(0), 6 << 20);
        rate.set_rate(at(1_000), LEAST_UNASKED);
        let until = rate.pauses_until(at(1_000));
        assert_eq!(until, Some(Duration::from_secs(5)));
    }

    #[test]
    fn the_usual_messages_of_a_node_never_pause_it() {
        let mut rate = UnaskedRate::default();
        rate.set_rate(at(0), LEAST_UNASKED);
        for second in 0..3_600 {
            for _ in 0..1_000 {
                rate.received(at(second * 1_000), 200);
                assert_eq!(rate.pauses_until(at(second * 1_000)), None);
            }
        }
    }

    #[test]
    fn looking_often_does_not_keep_the_debt_from_being_paid() {
        let mut rate = UnaskedRate::default();
        rate.set_rate(at(0), LEAST_UNASKED);
        rate.received(at(0), 5 << 20);
        let mut micros = 0;
        let now = |micros| Now {
            mono: Duration::from_micros(micros),
            unix: 0,
        };
        while rate.pauses_until(now(micros)).is_some() {
            micros += 1;
            assert!(micros < 4_004_000, "a MiB is paid in four seconds");
        }
        assert!(micros >= 4_000_000, "{micros}");
    }
}
