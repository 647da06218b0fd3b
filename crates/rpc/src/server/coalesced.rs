//! One computation shared by all who request it at the same time.
//!
//! A page of metrics asks the managers, which also serve peers. Unauthenticated clients could
//! request thousands at once; here they share one.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use tokio::sync::Mutex;

/// See the module.
#[derive(Debug)]
pub(super) struct Coalesced<T> {
    /// How many computations have begun.
    begun: AtomicU64,
    /// The last result, and the number of its computation.
    last: Mutex<(u64, Option<Arc<T>>)>,
}

impl<T> Default for Coalesced<T> {
    fn default() -> Self {
        Self {
            begun: AtomicU64::new(0),
            last: Mutex::new((0, None)),
        }
    }
}

impl<T> Coalesced<T> {
    /// The result of a computation that began after this call: never older than the request.
    ///
    /// # Cancel safety
    /// May be dropped; another waiter computes then.
    pub(super) async fn get(&self, find_out: impl AsyncFnOnce() -> T) -> Arc<T> {
        let begun_before = self.begun.load(Ordering::SeqCst);
        let mut last = self.last.lock().await;
        if let (time, Some(found)) = &*last
            && *time > begun_before
        {
            return found.clone();
        }
        // Under the lock: the next computation begins when this one is done.
        let time = self.begun.fetch_add(1, Ordering::SeqCst) + 1;
        let found = Arc::new(find_out().await);
        *last = (time, Some(found.clone()));
        found
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use futures_util::future::join_all;

    use super::*;

    #[tokio::test]
    async fn concurrent_requests_share_a_result_that_is_never_older_than_they_are() {
        let (coalesced, asked) = (Coalesced::default(), Cell::new(0));
        let ask = || {
            coalesced.get(async || {
                asked.set(asked.get() + 1);
                tokio::task::yield_now().await;
                asked.get()
            })
        };
        assert_eq!(*ask().await, 1);
        let found = join_all((0..1_000).map(|_| ask())).await;
        // The first request computes; the others arrive meanwhile.
        assert_eq!(asked.get(), 3);
        assert!(found.iter().all(|found| **found > 1));
        assert_eq!(*ask().await, 4);
    }
}
