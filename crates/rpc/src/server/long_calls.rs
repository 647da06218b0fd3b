//! Long requests, on a thread of their own.
//!
//! A request of 32 MiB takes a second to parse as a batch of short calls, and three as a list of
//! numbers. On a worker it would hold up all other clients; here it holds up only other long
//! requests.

use std::io;

use actix_rt::Arbiter;
use handfast_node::scheduling::{Policy, schedule_this_thread};
use tokio::sync::oneshot;

use super::workers::event_loop;

/// Longest short request, bytes of its body. The worst of that length is parsed in about 6 ms.
pub(super) const SHORT: usize = 64 * 1024;

/// The thread. It ends when dropped.
#[derive(Debug)]
pub(super) struct LongCalls {
    thread: Arbiter,
}

impl LongCalls {
    /// # Errors
    /// The system has no thread, descriptor or memory left.
    pub(super) fn start() -> io::Result<Self> {
        let thread = Arbiter::try_with_tokio_rt(event_loop)?;
        thread.spawn_fn(|| {
            // It has much to do; workers, which have little, should not wait for its time slice.
            // If the policy is refused, they do.
            let _ = schedule_this_thread(Policy::Batch);
        });
        Ok(Self { thread })
    }

    /// Executes `call` on the thread, concurrently with calls that wait there. Dropping this
    /// future drops the call where it waits. `None`: it panicked, or the server ends.
    pub(super) async fn execute<F, T>(&self, call: impl FnOnce() -> F + Send + 'static) -> Option<T>
    where
        F: Future<Output = T> + 'static,
        T: Send + 'static,
    {
        let (mut answered, answer) = oneshot::channel();
        self.thread.spawn_fn(move || {
            actix_rt::spawn(async move {
                let carried_out = tokio::select! {
                    carried_out = call() => carried_out,
                    () = answered.closed() => return,
                };
                let _ = answered.send(carried_out);
            });
        });
        answer.await.ok()
    }
}

impl Drop for LongCalls {
    fn drop(&mut self) {
        self.thread.stop();
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use super::*;

    #[actix_rt::test]
    async fn a_waiting_call_does_not_block_the_thread_of_long_calls() {
        let calls = LongCalls::start().expect("a thread");
        let (release, released) = oneshot::channel::<()>();
        let waiting = calls.execute(|| released);
        tokio::pin!(waiting);
        let other = calls.execute(async || 2);
        tokio::select! {
            biased;
            _ = &mut waiting => panic!("it is not released"),
            other = other => assert_eq!(other, Some(2)),
        }
        release.send(()).expect("it waits");
        assert_eq!(waiting.await, Some(Ok(())));
    }

    #[actix_rt::test]
    async fn a_call_is_dropped_when_its_client_disconnects() {
        struct Ends(mpsc::Sender<()>);
        impl Drop for Ends {
            fn drop(&mut self) {
                let _ = self.0.send(());
            }
        }
        let calls = LongCalls::start().expect("a thread");
        let (ends, ended) = mpsc::channel();
        let ends = Ends(ends);
        {
            let endless = calls.execute(move || async move {
                std::future::pending::<()>().await;
                drop(ends);
            });
            tokio::pin!(endless);
            // Another call is answered after this one has begun.
            let later = async { calls.execute(async || ()).await };
            tokio::select! {
                biased;
                _ = &mut endless => panic!("it has no end"),
                later = later => assert_eq!(later, Some(())),
            }
            assert_eq!(ended.try_recv(), Err(mpsc::TryRecvError::Empty));
        }
        let waited = tokio::task::spawn_blocking(move || ended.recv()).await;
        waited.expect("no panic").expect("it was dropped");
    }

    #[actix_rt::test]
    async fn a_call_that_panics_has_no_answer_and_others_have_theirs() {
        let calls = LongCalls::start().expect("a thread");
        let broken = calls.execute(async || panic!("what the test is about"));
        assert_eq!(broken.await, None::<()>);
        assert_eq!(calls.execute(async || 1).await, Some(1));
    }
}
