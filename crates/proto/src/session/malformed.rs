//! How many messages of one peer may be unreadable.

use std::time::Duration;

/// Malformed messages of one connection that are dropped at once before the rate holds.
pub const MALFORMED_BURST: u32 = 100;
/// One more is dropped for each of these; what exceeds that ends the connection.
pub const MALFORMED_INTERVAL: Duration = Duration::from_secs(10);

/// A token bucket over the malformed messages of one connection, counted as the time that
/// its debt takes to be paid.
///
/// A peer whose software writes one message in a way that we do not read is of use for all
/// others, so Bitcoin Core drops what it cannot read however much of it there is. A flood of
/// it is of use to no peer.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(super) struct Malformed {
    /// When the debt is paid, time since node start.
    paid_at: Duration,
}

impl Malformed {
    /// Counts one message. Whether it was one too many.
    pub(super) fn exceeds(&mut self, now: Duration) -> bool {
        self.paid_at = self.paid_at.max(now).saturating_add(MALFORMED_INTERVAL);
        self.paid_at > now.saturating_add(MALFORMED_INTERVAL * MALFORMED_BURST)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Duration = Duration::from_secs(1_000);

    #[test]
    fn a_burst_is_dropped_and_one_more_is_too_many() {
        let mut malformed = Malformed::default();
        for count in 0..MALFORMED_BURST {
            assert!(!malformed.exceeds(NOW), "number {count}");
        }
        assert!(malformed.exceeds(NOW));
    }

    #[test]
    fn one_now_and_then_is_never_too_many() {
        let mut malformed = Malformed::default();
        for count in 0..10 * MALFORMED_BURST {
            assert!(!malformed.exceeds(NOW + MALFORMED_INTERVAL * count));
        }
    }

    #[test]
    fn twice_the_rate_is_too_much_when_the_burst_is_used_up() {
        let mut malformed = Malformed::default();
        let flood = (0..).position(|count| malformed.exceeds(NOW + MALFORMED_INTERVAL / 2 * count));
        let flood = u32::try_from(flood.expect("it ends")).expect("small");
        assert!(
            (2 * MALFORMED_BURST - 4..=2 * MALFORMED_BURST).contains(&flood),
            "{flood}"
        );
    }
}
