//! Results that are made of whole blocks: a hundred megabytes in memory where a block is
//! full, in millions of pieces. They are made a few at a time, and what they took is given
//! back to the system a moment after.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use handfast_node::allocator;

use super::progress::Progress;
use super::share::Share;
use crate::address_group::AddressGroup;

/// Made at the same time, at most.
const MOST: usize = 2;
/// After so long without another one memory is given back; others who come before that use
/// it again.
const PAUSE: Duration = Duration::from_secs(1);

/// See the module.
#[derive(Debug)]
pub(super) struct Large {
    /// Given out by address, so that who asks for many keeps others waiting for one.
    turns: Arc<Share>,
    /// Memory will be given back.
    planned: AtomicBool,
}

impl Default for Large {
    fn default() -> Self {
        Self {
            // Nobody who has a turn is idle.
            turns: Share::new(MOST, Duration::MAX),
            planned: AtomicBool::new(false),
        }
    }
}

impl Large {
    /// Makes a result for a caller of `group` when its turn has come, until when the request
    /// waits.
    pub(super) async fn make<T>(
        &self,
        of: &Progress,
        group: AddressGroup,
        make: impl Future<Output = T>,
    ) -> T {
        let turn = loop {
            let turn = of.queued(self.turns.seat(group)).await;
            // From here on it is taken from nobody, unless somebody was quicker.
            if turn.logged_in() {
                break turn;
            }
        };
        turn.idles(false);
        let made = make.await;
        drop(turn);
        made
    }

    /// Gives back what a long result took, in a moment.
    fn give_back_soon(self: &Arc<Self>) {
        // Without a runtime the process ends.
        let Ok(runtime) = tokio::runtime::Handle::try_current() else {
            return;
        };
        if !self.planned.swap(true, Ordering::Relaxed) {
            let large = self.clone();
            runtime.spawn(async move {
                tokio::time::sleep(PAUSE).await;
                large.planned.store(false, Ordering::Relaxed);
                // The server may end before it is done, which does no harm.
                let _ = tokio::task::spawn_blocking(allocator::give_back).await;
            });
        }
    }

    /// Whether memory will be given back.
    #[cfg(test)]
    pub(super) fn is_planned(&self) -> bool {
        self.planned.load(Ordering::Relaxed)
    }
}

/// Gives memory back when dropped.
#[derive(Debug)]
pub(super) struct GiveBack(pub(super) Arc<Large>);

impl Drop for GiveBack {
    fn drop(&mut self) {
        self.0.give_back_soon();
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use futures_util::future::join_all;

    use super::*;

    #[actix_rt::test]
    async fn no_more_are_made_at_once_than_may_be_and_all_are_made() {
        let (large, now, peak) = (Large::default(), Cell::new(0), Cell::new(0));
        let progress = Progress::default();
        let make = || async {
            now.set(now.get() + 1);
            peak.set(now.get().max(peak.get()));
            tokio::task::yield_now().await;
            now.set(now.get() - 1);
            1
        };
        let made =
            join_all((0..20).map(|_| large.make(&progress, AddressGroup::Unix, make()))).await;
        assert_eq!(made.iter().sum::<usize>(), 20);
        assert_eq!(peak.get(), MOST);
    }

    #[actix_rt::test]
    async fn memory_is_given_back_once_for_all_results_of_a_moment() {
        let large = Arc::new(Large::default());
        tokio::time::pause();
        for _ in 0..3 {
            large.give_back_soon();
            large.give_back_soon();
            assert_eq!(Arc::strong_count(&large), 2, "one task");
            tokio::time::sleep(PAUSE * 2).await;
            assert!(!large.planned.load(Ordering::Relaxed));
            tokio::time::resume();
            while Arc::strong_count(&large) > 1 {
                tokio::task::yield_now().await;
            }
            tokio::time::pause();
        }
    }
}
