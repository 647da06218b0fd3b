//! Results made of whole blocks: a hundred megabytes in memory where a block is full, in millions
//! of allocations. A few are made at a time, and their memory is returned to the system a moment
//! after.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use handfast_node::allocator;

use super::progress::Progress;
use super::quota::Quota;
use crate::address_group::AddressGroup;

/// Most results made at the same time.
const MAX_CONCURRENT: usize = 2;
/// Memory is returned to the system after so long; results made before that reuse it.
const PAUSE: Duration = Duration::from_secs(1);

/// See the module.
#[derive(Debug)]
pub(super) struct LargeResults {
    /// By address, so that one with many requests delays another by one.
    slots: Arc<Quota>,
    /// A return of memory is scheduled.
    planned: AtomicBool,
}

impl Default for LargeResults {
    fn default() -> Self {
        Self {
            // A result being made is never idle, so it is never evicted.
            slots: Quota::new(MAX_CONCURRENT, Duration::MAX),
            planned: AtomicBool::new(false),
        }
    }
}

impl LargeResults {
    /// Makes a result for a client of `group` when a slot is free; until then the request is
    /// queued.
    pub(super) async fn make<T>(
        &self,
        of: &Progress,
        group: AddressGroup,
        make: impl Future<Output = T>,
    ) -> T {
        let slot = loop {
            let slot = of.queued(self.slots.slot(group)).await;
            // From here on it cannot be evicted; the login fails if it was evicted before.
            if slot.logged_in() {
                break slot;
            }
        };
        slot.set_idle(false);
        let made = make.await;
        drop(slot);
        made
    }

    /// Schedules the return of memory.
    fn release_soon(self: &Arc<Self>) {
        // Without a runtime the process is ending.
        let Ok(runtime) = tokio::runtime::Handle::try_current() else {
            return;
        };
        if !self.planned.swap(true, Ordering::Relaxed) {
            let large_results = self.clone();
            runtime.spawn(async move {
                tokio::time::sleep(PAUSE).await;
                large_results.planned.store(false, Ordering::Relaxed);
                // The server may end before it is done, which does no harm.
                let _ = tokio::task::spawn_blocking(allocator::give_back).await;
            });
        }
    }

    /// Whether a return of memory is scheduled.
    #[cfg(test)]
    pub(super) fn is_planned(&self) -> bool {
        self.planned.load(Ordering::Relaxed)
    }
}

/// Schedules the return of memory when dropped.
#[derive(Debug)]
pub(super) struct ReleaseOnDrop(pub(super) Arc<LargeResults>);

impl Drop for ReleaseOnDrop {
    fn drop(&mut self) {
        self.0.release_soon();
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use futures_util::future::join_all;

    use super::*;

    #[actix_rt::test]
    async fn large_results_are_made_within_the_limit_and_all_are_made() {
        let (large_results, now, peak) = (LargeResults::default(), Cell::new(0), Cell::new(0));
        let progress = Progress::default();
        let make = || async {
            now.set(now.get() + 1);
            peak.set(now.get().max(peak.get()));
            tokio::task::yield_now().await;
            now.set(now.get() - 1);
            1
        };
        let made =
            join_all((0..20).map(|_| large_results.make(&progress, AddressGroup::Unix, make())))
                .await;
        assert_eq!(made.iter().sum::<usize>(), 20);
        assert_eq!(peak.get(), MAX_CONCURRENT);
    }

    #[actix_rt::test]
    async fn memory_is_returned_once_for_results_that_end_together() {
        let large_results = Arc::new(LargeResults::default());
        tokio::time::pause();
        for _ in 0..3 {
            large_results.release_soon();
            large_results.release_soon();
            assert_eq!(Arc::strong_count(&large_results), 2, "one task");
            tokio::time::sleep(PAUSE * 2).await;
            assert!(!large_results.planned.load(Ordering::Relaxed));
            tokio::time::resume();
            while Arc::strong_count(&large_results) > 1 {
                tokio::task::yield_now().await;
            }
            tokio::time::pause();
        }
    }
}
