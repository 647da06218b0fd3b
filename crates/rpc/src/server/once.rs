//! Something that takes a while to be found out, and is found out once for all who ask at
//! the same time.
//!
//! A page of metrics asks the managers, which also have peers to serve. Callers without a
//! password could ask for thousands at once; here they share one.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use tokio::sync::Mutex;

/// See the module.
#[derive(Debug)]
pub(super) struct Once<T> {
    /// How often it was begun to be found out.
    begun: AtomicU64,
    /// What was found out last, and which time that was.
    last: Mutex<(u64, Option<Arc<T>>)>,
}

impl<T> Default for Once<T> {
    fn default() -> Self {
        Self {
            begun: AtomicU64::new(0),
            last: Mutex::new((0, None)),
        }
    }
}

impl<T> Once<T> {
    /// What `find_out` finds, of a time that began after this call did: it is never older
    /// than the question.
    ///
    /// # Cancel safety
    /// May be dropped; another one who waits finds out then.
    pub(super) async fn get(&self, find_out: impl AsyncFnOnce() -> T) -> Arc<T> {
        let begun_before = self.begun.load(Ordering::SeqCst);
        let mut last = self.last.lock().await;
        if let (time, Some(found)) = &*last
            && *time > begun_before
        {
            return found.clone();
        }
        // Under the lock: what begins next begins when this is over.
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
    async fn those_who_ask_together_are_answered_together_and_nobody_by_what_was_before() {
        let (once, asked) = (Once::default(), Cell::new(0));
        let ask = || {
            once.get(async || {
                asked.set(asked.get() + 1);
                tokio::task::yield_now().await;
                asked.get()
            })
        };
        assert_eq!(*ask().await, 1);
        let found = join_all((0..1_000).map(|_| ask())).await;
        // The first of them begins, and the others come while it is at it.
        assert_eq!(asked.get(), 3);
        assert!(found.iter().all(|found| **found > 1));
        assert_eq!(*ask().await, 4);
    }
}
