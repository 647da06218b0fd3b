//! Long requests, on a thread of their own.
//!
//! A request of 32 MiB takes a second to read where it is a batch of short calls, and three
//! where it is a list of numbers. On a worker all its other callers would wait for that.
//! Here only other long requests do.

use std::io;

use actix_rt::Arbiter;
use handfast_node::scheduling::{Policy, schedule_this_thread};
use tokio::sync::oneshot;

use super::workers::event_loop;

/// A longer request is a long one, bytes of its body. Of such a length the worst is read in
/// about 6 ms.
pub(super) const SHORT: usize = 64 * 1024;

/// The thread. It ends when dropped.
#[derive(Debug)]
pub(super) struct LongCalls {
    thread: Arbiter,
}

impl LongCalls {
    /// # Errors
    /// Of the system, for want of a thread, descriptors or memory.
    pub(super) fn start() -> io::Result<Self> {
        let thread = Arbiter::try_with_tokio_rt(event_loop)?;
        thread.spawn_fn(|| {
            // It has much to do, and workers, who have little, should not wait for a core
            // until it has had its share. Where it is refused, they do.
            let _ = schedule_this_thread(Policy::Batch);
        });
        Ok(Self { thread })
    }

    /// Carries out `call` on the thread, beside those that wait for something there. It is
    /// given up where it waits, when this future is dropped. `None`: it panicked, or the
    /// server ends.
    pub(super) async fn carry_out<F, T>(
        &self,
        call: impl FnOnce() -> F + Send + 'static,
    ) -> Option<T>
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
    async fn whoever_waits_on_the_thread_keeps_nobody_from_it() {
        let calls = LongCalls::start().expect("a thread");
        let (release, released) = oneshot::channel::<()>();
        let waiting = calls.carry_out(|| released);
        tokio::pin!(waiting);
        let other = calls.carry_out(async || 2);
        tokio::select! {
            biased;
            _ = &mut waiting => panic!("nobody has released it"),
            other = other => assert_eq!(other, Some(2)),
        }
        release.send(()).expect("it waits");
        assert_eq!(waiting.await, Some(Ok(())));
    }

    #[actix_rt::test]
    async fn a_call_whose_caller_has_gone_is_given_up() {
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
            let endless = calls.carry_out(move || async move {
                std::future::pending::<()>().await;
                drop(ends);
            });
            tokio::pin!(endless);
            // Another call is answered after this one has begun.
            let later = async { calls.carry_out(async || ()).await };
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
        let broken = calls.carry_out(async || panic!("what the test is about"));
        assert_eq!(broken.await, None::<()>);
        assert_eq!(calls.carry_out(async || 1).await, Some(1));
    }
}
