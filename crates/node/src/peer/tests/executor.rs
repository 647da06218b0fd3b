//! An executor that polls woken futures in an order that follows from a seed.

use std::cell::RefCell;
use std::future::Future;
use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, Wake, Waker};

use handfast_proto::random::Random;
use tokio::io::{AsyncRead, ReadBuf};

/// Whether a future was woken.
#[derive(Default)]
struct Flag(AtomicBool);

impl Wake for Flag {
    fn wake(self: Arc<Self>) {
        self.0.store(true, Ordering::Relaxed);
    }
}

struct Task {
    name: &'static str,
    future: Pin<Box<dyn Future<Output = ()>>>,
    woken: Arc<Flag>,
}

/// Polls only in [`Executor::until_idle`]: what is made ready between two calls
/// is ready in the same poll.
pub(super) struct Executor {
    random: Random,
    tasks: Vec<Task>,
    /// Who was polled, in order.
    pub(super) polled: Vec<&'static str>,
}

impl Executor {
    pub(super) fn new(seed: u64) -> Self {
        Self {
            random: Random::new(seed),
            tasks: Vec::new(),
            polled: Vec::new(),
        }
    }

    pub(super) fn add(&mut self, name: &'static str, future: impl Future<Output = ()> + 'static) {
        let woken = Arc::<Flag>::default();
        woken.0.store(true, Ordering::Relaxed);
        self.tasks.push(Task {
            name,
            future: Box::pin(future),
            woken,
        });
    }

    /// Polls the woken tasks, one after the other, until none is left.
    pub(super) fn until_idle(&mut self) {
        while self.poll_one() {}
    }

    /// Polls one of those that were woken, if anybody was.
    pub(super) fn poll_one(&mut self) -> bool {
        let woken = |task: &Task| task.woken.0.load(Ordering::Relaxed);
        let ready: Vec<usize> = (0..self.tasks.len())
            .filter(|at| woken(&self.tasks[*at]))
            .collect();
        if ready.is_empty() {
            return false;
        }
        let at = ready[self.random.index(ready.len())];
        let task = &mut self.tasks[at];
        task.woken.0.store(false, Ordering::Relaxed);
        self.polled.push(task.name);
        let waker = Waker::from(task.woken.clone());
        let polled = task.future.as_mut().poll(&mut Context::from_waker(&waker));
        if polled.is_ready() {
            drop(self.tasks.remove(at));
        }
        true
    }

    /// Whether a future of this name still runs.
    pub(super) fn runs(&self, name: &str) -> bool {
        self.tasks.iter().any(|task| task.name == name)
    }
}

/// How a socket ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum End {
    Eof,
    Reset,
}

#[derive(Default)]
struct Arrived {
    chunks: std::collections::VecDeque<Vec<u8>>,
    end: Option<End>,
    reader: Option<Waker>,
}

impl Arrived {
    fn wake(&mut self) {
        if let Some(reader) = self.reader.take() {
            reader.wake();
        }
    }
}

/// The reading side of a socket, filled by the test: one read gives one chunk at most.
#[derive(Clone, Default)]
pub(super) struct Socket(Rc<RefCell<Arrived>>);

impl Socket {
    pub(super) fn arrive(&self, chunk: Vec<u8>) {
        let mut arrived = self.0.borrow_mut();
        arrived.chunks.push_back(chunk);
        arrived.wake();
    }

    pub(super) fn end(&self, end: End) {
        let mut arrived = self.0.borrow_mut();
        arrived.end.get_or_insert(end);
        arrived.wake();
    }
}

impl AsyncRead for Socket {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let mut arrived = self.0.borrow_mut();
        if let Some(mut chunk) = arrived.chunks.pop_front() {
            let rest = chunk.split_off(chunk.len().min(buf.remaining()));
            buf.put_slice(&chunk);
            if !rest.is_empty() {
                arrived.chunks.push_front(rest);
            }
            return Poll::Ready(Ok(()));
        }
        match arrived.end {
            Some(End::Eof) => Poll::Ready(Ok(())),
            Some(End::Reset) => Poll::Ready(Err(io::ErrorKind::ConnectionReset.into())),
            None => {
                arrived.reader = Some(cx.waker().clone());
                Poll::Pending
            }
        }
    }
}

/// Cuts `bytes` into chunks of one byte and more.
pub(super) fn chunks(bytes: &[u8], random: &mut Random) -> Vec<Vec<u8>> {
    let mut rest = bytes;
    let mut chunks = Vec::new();
    // Sometimes all at once, sometimes a few bytes at a time.
    let longest = [4, 40, bytes.len().max(1)][random.index(3)];
    while !rest.is_empty() {
        let (chunk, after) = rest.split_at((1 + random.index(longest)).min(rest.len()));
        chunks.push(chunk.to_vec());
        rest = after;
    }
    chunks
}
