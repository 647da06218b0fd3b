//! The bytes of a connection between the system and hyper: limits and timeouts.
//!
//! hyper reads when it needs a request, or more of one. It reads nothing while a request is
//! executed; then this reads a little ahead, to see whether the client has disconnected.

use std::cell::RefCell;
use std::future::poll_fn;
use std::io::{self, IoSlice};
use std::mem::MaybeUninit;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::{Buf, BytesMut};
use futures_util::FutureExt;
use hyper::StatusCode;
use tokio::io::{AsyncRead, AsyncWrite, Interest, ReadBuf, Ready};
use tokio::net::{TcpStream, UnixStream};
use tokio::time::Instant;

use super::super::READ_TIMEOUT;
use super::super::authorize::MAX_HEAD;
use super::Client;

/// Time that an idle connection is kept open.
const KEEP_ALIVE: Duration = Duration::from_secs(75);
/// Time without a byte of an answer read by the client.
const SEND_TIMEOUT: Duration = READ_TIMEOUT;
/// Interval of checking for a disconnect where the system does not report it.
const POLL_INTERVAL: Duration = Duration::from_secs(1);
/// Most bytes received of later requests while one is executed. The rest stays in the kernel's
/// buffer, and then with the client.
const MAX_AHEAD: usize = 16 * 1024;
/// The same for an unauthenticated client.
const MAX_AHEAD_UNAUTHENTICATED: usize = 4 * 1024;
/// Lines of a head that hyper's default accepts.
const FEW_LINES: usize = 100;
/// Bytes of one read ahead.
const READ_AHEAD: usize = 4 * 1024;

/// A connected socket.
pub(in crate::server) trait Stream:
    AsyncRead + AsyncWrite + Unpin + 'static
{
    /// Whether the system has reported that the remote end cannot be written to.
    fn is_gone(&self) -> bool;

    /// Whether the system has reported that the remote end sends no more, even if some of what it
    /// sent is unread.
    fn has_ended(&self) -> bool;
}

/// The readiness that the event loop has recorded, without waiting.
fn readiness(ready: impl Future<Output = io::Result<Ready>>) -> Ready {
    let ready = ready.now_or_never();
    ready.and_then(Result::ok).unwrap_or(Ready::EMPTY)
}

impl Stream for TcpStream {
    fn is_gone(&self) -> bool {
        readiness(self.ready(Interest::WRITABLE)).is_write_closed()
    }

    fn has_ended(&self) -> bool {
        readiness(self.ready(Interest::READABLE)).is_read_closed()
    }
}

impl Stream for UnixStream {
    fn is_gone(&self) -> bool {
        readiness(self.ready(Interest::WRITABLE)).is_write_closed()
    }

    fn has_ended(&self) -> bool {
        readiness(self.ready(Interest::READABLE)).is_read_closed()
    }
}

#[cfg(test)]
impl Stream for tokio::io::DuplexStream {
    fn is_gone(&self) -> bool {
        false
    }

    fn has_ended(&self) -> bool {
        false
    }
}

/// The phase of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    /// No byte of a request was received.
    Idle,
    /// A part of a head was received.
    Head,
    /// A request is executed; its body may still arrive.
    Call,
    /// The answer is being sent.
    Answer,
}

/// Why a timeout ends a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Alarm {
    /// The head of a request takes too long.
    Slow,
    /// Nothing is to be expected of the client.
    Over,
}

/// See the module.
pub(super) struct Pipe<S> {
    stream: RefCell<S>,
    state: RefCell<State>,
    client: Rc<Client>,
}

struct State {
    phase: Phase,
    /// When the phase began; of the first request: when the connection did.
    since: Instant,
    first: bool,
    /// Bytes of the head that is being read, without those received with the end of the request
    /// before it.
    head: usize,
    /// The head has the maximum length and is not complete.
    too_long: bool,
    lines: Lines,
    /// hyper accepts any number of lines: see [`Pipe::has_many_lines`].
    many_lines: bool,
    /// hyper waits for bytes.
    wanted: bool,
    /// Received before hyper read it.
    ahead: BytesMut,
    /// The client sends no more.
    ended: bool,
    /// When the client stopped reading.
    blocked: Option<Instant>,
    /// When the client was last checked.
    last_poll: Instant,
    /// A part of the last request's body is unread.
    body_left: bool,
}

/// The pipe as hyper's I/O.
pub(super) struct Io<S>(pub(super) Rc<Pipe<S>>);

impl<S: Stream> Pipe<S> {
    pub(super) fn new(stream: S, client: Rc<Client>) -> Self {
        let now = Instant::now();
        client.caller.slot.set_idle(true);
        let state = State {
            phase: Phase::Idle,
            since: now,
            first: true,
            head: 0,
            too_long: false,
            lines: Lines::default(),
            many_lines: false,
            wanted: false,
            ahead: BytesMut::new(),
            ended: false,
            blocked: None,
            last_poll: now,
            body_left: false,
        };
        Self {
            stream: RefCell::new(stream),
            state: RefCell::new(state),
            client,
        }
    }

    /// A request was received, and is executed now.
    pub(super) fn called(&self) {
        self.client.caller.slot.set_idle(false);
        let mut state = self.state.borrow_mut();
        state.phase = Phase::Call;
        state.head = 0;
        state.lines = Lines::default();
        state.first = false;
    }

    /// hyper sends an answer now. `settled`: all of the request was read.
    pub(super) fn answered(&self, settled: bool) {
        let mut state = self.state.borrow_mut();
        state.phase = Phase::Answer;
        state.body_left = !settled;
    }

    /// Whether only a part of a head was received.
    pub(super) fn is_in_head(&self) -> bool {
        self.state.borrow().phase == Phase::Head
    }

    /// Whether the head is too long.
    pub(super) fn is_too_long(&self) -> bool {
        self.state.borrow().too_long
    }

    /// Whether the head has more lines than hyper accepts cheaply: space for the maximum costs
    /// each request 40 µs. True once; the caller then makes hyper again with that room, and gives
    /// it the head again by [`Pipe::replay`].
    pub(super) fn has_many_lines(&self) -> bool {
        let mut state = self.state.borrow_mut();
        let many = state.lines.count > FEW_LINES && state.blocked.is_none();
        many && !std::mem::replace(&mut state.many_lines, true)
    }

    /// Makes hyper read these bytes again, before all others.
    pub(super) fn replay(&self, bytes: &[u8]) {
        let mut state = self.state.borrow_mut();
        state.give_back(bytes);
        state.head = 0;
    }

    /// Whether the client has sent bytes that hyper has not read.
    pub(super) fn has_unread(&self) -> bool {
        let state = self.state.borrow();
        state.body_left || !state.ahead.is_empty()
    }

    /// Ready when the client has disconnected, or is taken for it. Reads ahead for that.
    pub(super) fn poll_closed(&self, cx: &mut Context<'_>) -> Poll<()> {
        let most = match self.client.caller.slot.is_unauthenticated() {
            true => MAX_AHEAD_UNAUTHENTICATED,
            false => MAX_AHEAD,
        };
        let mut state = self.state.borrow_mut();
        if !matches!(state.phase, Phase::Call | Phase::Answer) || state.wanted {
            return Poll::Pending;
        }
        while !state.ended && state.ahead.len() < most {
            let mut chunk = [MaybeUninit::uninit(); READ_AHEAD];
            let mut read = ReadBuf::uninit(&mut chunk);
            let mut stream = self.stream.borrow_mut();
            if ready!(Pin::new(&mut *stream).poll_read(cx, &mut read)).is_err() {
                return Poll::Ready(());
            }
            state.ended = read.filled().is_empty();
            state.ahead.extend_from_slice(read.filled());
        }
        match state.ended && self.is_disconnected() {
            true => Poll::Ready(()),
            false => Poll::Pending,
        }
    }

    /// Whether a client that sends no more has disconnected. Over TCP a half-closed client looks
    /// the same until something is sent, and nothing is sent while a call waits.
    fn is_disconnected(&self) -> bool {
        let over_tcp = self.client.caller.addr.is_some();
        over_tcp && self.client.progress().waits() || self.stream.borrow().is_gone()
    }

    /// When [`Pipe::alarm`] is to be called.
    pub(super) fn next_alarm(&self) -> Option<Instant> {
        let state = self.state.borrow();
        let phase = state.phase_deadline();
        let blocked = state.blocked.map(|since| since + SEND_TIMEOUT);
        let look = state.needs_poll().then(|| state.last_poll + POLL_INTERVAL);
        [phase, blocked, look].into_iter().flatten().min()
    }

    /// The timeout that has passed at `now`, if any.
    pub(super) fn alarm(&self, now: Instant) -> Option<Alarm> {
        let mut state = self.state.borrow_mut();
        let is_over = |end: Option<Instant>| end.is_some_and(|end| end <= now);
        if is_over(state.blocked.map(|since| since + SEND_TIMEOUT)) {
            return Some(Alarm::Over);
        }
        if is_over(state.phase_deadline()) {
            return Some(match state.phase {
                Phase::Head => Alarm::Slow,
                Phase::Idle | Phase::Call | Phase::Answer => Alarm::Over,
            });
        }
        if state.needs_poll() && state.last_poll + POLL_INTERVAL <= now {
            state.last_poll = now;
            // Beyond the read-ahead limit the end of the stream is not read.
            let ended = state.ended || self.stream.borrow().has_ended();
            let left = ended && self.is_disconnected() || self.stream.borrow().is_gone();
            return (left || self.client.should_close()).then_some(Alarm::Over);
        }
        None
    }

    /// Sends the refusal if there is one, closes our half, and discards what arrives until the
    /// client has closed its half.
    pub(super) async fn close_gracefully(&self, refusal: Option<StatusCode>) -> io::Result<()> {
        let last = refusal.map(|status| {
            format!("HTTP/1.1 {status}\r\nconnection: close\r\ncontent-length: 0\r\n\r\n")
        });
        let last = last.unwrap_or_default();
        let mut left = last.as_bytes();
        poll_fn(|cx| {
            let mut stream = self.stream.borrow_mut();
            while !left.is_empty() {
                match ready!(Pin::new(&mut *stream).poll_write(cx, left))? {
                    0 => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                    count => left = &left[count..],
                }
            }
            Pin::new(&mut *stream).poll_shutdown(cx)
        })
        .await?;
        poll_fn(|cx| {
            let (mut state, mut stream) = (self.state.borrow_mut(), self.stream.borrow_mut());
            while !state.ended {
                let mut discarded = [MaybeUninit::uninit(); READ_AHEAD];
                let mut read = ReadBuf::uninit(&mut discarded);
                ready!(Pin::new(&mut *stream).poll_read(cx, &mut read))?;
                state.ended = read.filled().is_empty();
            }
            Poll::Ready(Ok(()))
        })
        .await
    }
}

/// Counts the lines of a head in a stream of bytes.
#[derive(Default)]
struct Lines {
    count: usize,
    /// The present line is empty so far; false for the first line.
    is_empty: bool,
    /// An empty line has ended the head.
    over: bool,
}

impl Lines {
    fn add(&mut self, bytes: &[u8]) {
        for byte in bytes {
            match byte {
                _ if self.over => return,
                b'\n' => {
                    self.count += 1;
                    self.over = std::mem::replace(&mut self.is_empty, true);
                }
                b'\r' => {}
                _ => self.is_empty = false,
            }
        }
    }
}

impl State {
    /// Puts these bytes before all others received.
    fn give_back(&mut self, bytes: &[u8]) {
        let mut all = BytesMut::from(bytes);
        all.extend_from_slice(&self.ahead);
        self.ahead = all;
    }

    /// When the client's time for this phase is up.
    fn phase_deadline(&self) -> Option<Instant> {
        match self.phase {
            Phase::Idle if !self.first => Some(self.since + KEEP_ALIVE),
            Phase::Idle | Phase::Head => Some(self.since + READ_TIMEOUT),
            Phase::Call | Phase::Answer => None,
        }
    }

    /// Whether a disconnect, or eviction of the answer's slot, must be polled for.
    fn needs_poll(&self) -> bool {
        let busy = matches!(self.phase, Phase::Call | Phase::Answer);
        busy && (self.ended || !self.ahead.is_empty() || self.blocked.is_some())
    }

    /// hyper has received `count` bytes.
    fn received(&mut self, count: usize, client: &Client) {
        if count > 0 && self.phase == Phase::Idle {
            self.phase = Phase::Head;
            client.caller.slot.set_idle(false);
            if !self.first {
                self.since = Instant::now();
            }
        }
        if self.phase == Phase::Head {
            self.head += count;
        }
    }
}

impl<S: Stream> AsyncRead for Io<S> {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let pipe = &*self.0;
        let mut state = pipe.state.borrow_mut();
        if state.phase == Phase::Answer {
            // The answer was sent: hyper reads no request before that.
            state.phase = Phase::Idle;
            state.since = Instant::now();
            pipe.client.caller.slot.set_idle(true);
        }
        if state.phase == Phase::Head && state.head >= MAX_HEAD {
            state.too_long = true;
            return Poll::Pending;
        }
        let before = buf.filled().len();
        if !state.ahead.is_empty() {
            let count = state.ahead.len().min(buf.remaining());
            buf.put_slice(&state.ahead[..count]);
            state.ahead.advance(count);
            if state.ahead.is_empty() {
                state.ahead = BytesMut::new();
            }
        } else if !state.ended {
            state.wanted = true;
            let mut stream = pipe.stream.borrow_mut();
            ready!(Pin::new(&mut *stream).poll_read(cx, buf))?;
            state.ended = buf.filled().len() == before;
        }
        if matches!(state.phase, Phase::Idle | Phase::Head) && !state.many_lines {
            state.lines.add(&buf.filled()[before..]);
            // Output that hyper has not flushed would be lost with it.
            if state.lines.count > FEW_LINES && state.blocked.is_none() {
                state.give_back(&buf.filled()[before..]);
                buf.set_filled(before);
                return Poll::Pending;
            }
        }
        state.wanted = false;
        let count = buf.filled().len() - before;
        state.received(count, &pipe.client);
        Poll::Ready(Ok(()))
    }
}

impl<S: Stream> Io<S> {
    fn send(
        &self,
        write: impl FnOnce(Pin<&mut S>) -> Poll<io::Result<usize>>,
    ) -> Poll<io::Result<usize>> {
        let written = write(Pin::new(&mut *self.0.stream.borrow_mut()));
        let mut state = self.0.state.borrow_mut();
        match written {
            Poll::Pending => _ = state.blocked.get_or_insert_with(Instant::now),
            Poll::Ready(_) => {
                state.blocked = None;
                self.0.client.has_read();
            }
        }
        written
    }
}

impl<S: Stream> AsyncWrite for Io<S> {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.send(|stream| stream.poll_write(cx, bytes))
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.send(|stream| stream.poll_write_vectored(cx, bytes))
    }

    fn is_write_vectored(&self) -> bool {
        self.0.stream.borrow().is_write_vectored()
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut *self.0.stream.borrow_mut()).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut *self.0.stream.borrow_mut()).poll_shutdown(cx)
    }
}
