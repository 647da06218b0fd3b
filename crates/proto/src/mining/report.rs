//! The machine's state, as it is shown.

use std::time::Duration;

use bitcoin::CompactTarget;

use super::miner::{Activity, Miner};
use super::vocabulary::{MiningState, Why};
use crate::headers::block_work;
use crate::time::Now;

impl Miner {
    /// The current state of mining.
    #[must_use]
    pub fn state(&self, now: Now) -> MiningState {
        let mut state = MiningState {
            hashes: self.hashes_before + self.hashes,
            found: self.totals.found,
            generated: self.totals.generated,
            stale: self.totals.stale,
            refused: self.totals.refused,
            requests: self.requests.len(),
            ..MiningState::off(self.config.interval)
        };
        let Some(mining) = &self.mining else {
            return state;
        };
        let per_second = self.rate.per_second();
        state.threads = mining.threads;
        state.payout = Some(mining.payout.clone());
        state.hashes_per_second = per_second;
        let wait = mining.due.saturating_sub(now.mono);
        match &mining.activity {
            Activity::Waiting(why) => {
                state.why = why.clone();
                if matches!(why, Why::Paced | Why::Refused(_)) {
                    let bits = self.next_block(now).bits;
                    state.expected = expected(bits, per_second, self.config.interval)
                        .map(|search| wait.saturating_add(search));
                }
            }
            Activity::Hashing { work, .. } => {
                let next = work.template.next();
                state.why = Why::Hashing;
                state.height = Some(next.height);
                state.bits = Some(next.bits.to_consensus());
                state.expected = expected(next.bits, per_second, Duration::ZERO);
            }
            Activity::Judging { .. } => state.why = Why::Judging,
        }
        state
    }
}

/// Mean time to find a block with these bits. With a pace the threads are idle most of the time and
/// their rate means nothing; then the search is assumed to take no time.
fn expected(bits: CompactTarget, per_second: f64, interval: Duration) -> Option<Duration> {
    if !interval.is_zero() {
        return Some(Duration::ZERO);
    }
    let seconds = block_work(bits) as f64 / per_second;
    Duration::try_from_secs_f64(seconds).ok()
}
