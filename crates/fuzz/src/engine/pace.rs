//! When connections of a run begin, and how long they may take to end.

use std::time::{Duration, Instant};

use super::{DRAIN, Engine};
use crate::scenario::Arrival;
use crate::trace::Cue;

impl Engine {
    /// Whether more connections are to begin.
    pub(super) fn goes_on(&self, now: Instant) -> bool {
        let limit = self.plan.limit;
        self.begun < limit.cycles && now.duration_since(self.started) < limit.duration
    }

    /// How long the last connections may take: as long as they can when all of them were
    /// wanted, not for ever when it is the time that is over. Those that are cut off are
    /// counted as begun and not as ended.
    pub(super) fn grace(&self, now: Instant) -> Duration {
        match now.duration_since(self.started) < self.plan.limit.duration {
            true => self.plan.patience + DRAIN + self.desk.phrases.dialect.handshake_deadline,
            false => DRAIN,
        }
    }

    pub(super) fn may_begin(&self, now: Instant) -> bool {
        let room = match self.arrival() {
            Arrival::Continuous => self.live < self.plan.concurrency,
            Arrival::Waves => self.live == 0,
        };
        room && self.goes_on(now) && self.begins_at().is_none_or(|at| at <= now)
    }

    /// What is made again comes when it came.
    pub(super) fn arrival(&self) -> Arrival {
        match self.cues.is_empty() {
            true => self.plan.arrival(),
            false => Arrival::Continuous,
        }
    }

    pub(super) fn next_cue(&self) -> Option<&Cue> {
        self.cues.get(usize::try_from(self.begun).ok()?)
    }

    /// The moment before which nobody may begin.
    pub(super) fn begins_at(&self) -> Option<Instant> {
        if let Some(cue) = self.next_cue() {
            return Some(self.started + cue.at);
        }
        let by_rate = self.plan.rate.map(|rate| {
            let since = self.begun as f64 / f64::from(rate.max(1));
            self.started + Duration::from_secs_f64(since)
        });
        by_rate.max(self.pause.map(|(until, _)| until))
    }
}
