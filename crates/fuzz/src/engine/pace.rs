//! When connections begin, and how long they may take to end.

use std::time::{Duration, Instant};

use super::{DRAIN, Engine};
use crate::scenario::StartMode;
use crate::trace::ReplayEntry;

impl Engine {
    /// Whether more connections are to begin.
    pub(super) fn goes_on(&self, now: Instant) -> bool {
        let limit = self.plan.limit;
        self.begun < limit.cycles && now.duration_since(self.started) < limit.duration
    }

    /// Time for the last connections: as long as they need when the number of connections ended
    /// the run, and short when the time limit did. Those that are cut off count as begun and not
    /// as ended.
    pub(super) fn grace(&self, now: Instant) -> Duration {
        match now.duration_since(self.started) < self.plan.limit.duration {
            true => {
                self.plan.answer_timeout + DRAIN + self.context.frame_set.params.handshake_deadline
            }
            false => DRAIN,
        }
    }

    pub(super) fn may_begin(&self, now: Instant) -> bool {
        let free = match self.start_mode() {
            StartMode::Continuous => self.live < self.plan.concurrency,
            StartMode::Waves => self.live == 0,
        };
        free && self.goes_on(now) && self.begins_at().is_none_or(|at| at <= now)
    }

    /// A replay begins each connection at its recorded time.
    pub(super) fn start_mode(&self) -> StartMode {
        match self.entries.is_empty() {
            true => self.plan.start_mode(),
            false => StartMode::Continuous,
        }
    }

    pub(super) fn next_entry(&self) -> Option<&ReplayEntry> {
        self.entries.get(usize::try_from(self.begun).ok()?)
    }

    /// The time before which no connection may begin.
    pub(super) fn begins_at(&self) -> Option<Instant> {
        if let Some(entry) = self.next_entry() {
            return Some(self.started + entry.at);
        }
        let by_rate = self.plan.rate.map(|rate| {
            let since = self.begun as f64 / f64::from(rate.max(1));
            self.started + Duration::from_secs_f64(since)
        });
        by_rate.max(self.pause.map(|(until, _)| until))
    }
}
