//! Reports a stalled sync, once.

use std::time::Duration;

use tokio::time::Instant;

/// Time until a stall is reported: shorter ones end by themselves when another peer is used.
const REPORT_AFTER: Duration = Duration::from_secs(10);

/// The state of a stall.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Stall {
    #[default]
    None,
    Since(Instant),
    Reported,
}

/// A change to report.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum StallChange {
    Stalled,
    Resumed,
}

impl Stall {
    /// Adds whether sync is stalled now.
    pub(super) fn update(&mut self, now: Instant, stalled: bool) -> Option<StallChange> {
        match (*self, stalled) {
            (Self::None, true) => *self = Self::Since(now),
            (Self::Since(since), true) if now.duration_since(since) >= REPORT_AFTER => {
                *self = Self::Reported;
                return Some(StallChange::Stalled);
            }
            (Self::Reported, false) => {
                *self = Self::None;
                return Some(StallChange::Resumed);
            }
            (Self::Since(_), false) => *self = Self::None,
            (Self::None, false) | (Self::Since(_) | Self::Reported, true) => {}
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stall_is_reported_once_when_it_lasts_and_once_when_it_ends() {
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        let mut stall = Stall::default();
        assert_eq!(stall.update(at(0), true), None);
        assert_eq!(stall.update(at(9), true), None);
        assert_eq!(stall.update(at(10), true), Some(StallChange::Stalled));
        assert_eq!(stall.update(at(99), true), None);
        assert_eq!(stall.update(at(100), false), Some(StallChange::Resumed));
        assert_eq!(stall.update(at(101), true), None);
        assert_eq!(stall.update(at(102), false), None, "too short to report");
    }
}
