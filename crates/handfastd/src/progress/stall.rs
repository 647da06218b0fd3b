//! A sync that has stopped though peers have more, told once.

use std::time::Duration;

use tokio::time::Instant;

/// It is told after this: shorter ones end by themselves when another peer is asked.
const TOLD_AFTER: Duration = Duration::from_secs(10);

/// What is known of a stall.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Stall {
    #[default]
    None,
    Since(Instant),
    Told,
}

/// What is to be told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum News {
    Stalled,
    GoesOn,
}

impl Stall {
    /// Notes whether sync is stalled now.
    pub(super) fn look(&mut self, now: Instant, stalled: bool) -> Option<News> {
        match (*self, stalled) {
            (Self::None, true) => *self = Self::Since(now),
            (Self::Since(since), true) if now.duration_since(since) >= TOLD_AFTER => {
                *self = Self::Told;
                return Some(News::Stalled);
            }
            (Self::Told, false) => {
                *self = Self::None;
                return Some(News::GoesOn);
            }
            (Self::Since(_), false) => *self = Self::None,
            (Self::None, false) | (Self::Since(_) | Self::Told, true) => {}
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stall_is_told_once_when_it_lasts_and_when_it_is_over() {
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        let mut stall = Stall::default();
        assert_eq!(stall.look(at(0), true), None);
        assert_eq!(stall.look(at(9), true), None);
        assert_eq!(stall.look(at(10), true), Some(News::Stalled));
        assert_eq!(stall.look(at(99), true), None);
        assert_eq!(stall.look(at(100), false), Some(News::GoesOn));
        assert_eq!(stall.look(at(101), true), None);
        assert_eq!(stall.look(at(102), false), None, "too short to tell of");
    }
}
