//! The bytes of a connection on their way between the system and hyper: how many, and when.
//!
//! hyper reads when it wants a request, or more of one. While a request is carried out it
//! reads nothing, and then this reads a little ahead, to see whether the caller has left.

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
use super::super::gate::MAX_HEAD;
use super::Client;

/// Time that an idle connection is kept open.
const KEEP_ALIVE: Duration = Duration::from_secs(75);
/// Time in which a caller reads something of its answer.
const SEND_TIMEOUT: Duration = READ_TIMEOUT;
/// How often it is looked whether a caller is there, where the system does not tell it.
const LOOK: Duration = Duration::from_secs(1);
/// What is received of later requests while one is carried out, bytes, at most. The rest
/// stays with the system, and then with the caller.
const MAX_AHEAD: usize = 16 * 1024;
/// The same of a caller who has not logged in.
const MAX_AHEAD_OF_STRANGER: usize = 4 * 1024;
/// Lines of a head that hyper takes by itself.
const FEW_LINES: usize = 100;
/// Read at once of what is ahead, bytes.
const READ_AHEAD: usize = 4 * 1024;

/// A connected socket.
pub(in crate::server) trait Stream:
    AsyncRead + AsyncWrite + Unpin + 'static
{
    /// Whether the system has told that nobody can read at the other end.
    fn is_gone(&self) -> bool;

    /// Whether the system has told that the other end sends no more, however much of what it
    /// has sent is not read.
    fn has_ended(&self) -> bool;
}

/// What the event loop was told. Not waited for.
fn told(ready: impl Future<Output = io::Result<Ready>>) -> Ready {
    let ready = ready.now_or_never();
    ready.and_then(Result::ok).unwrap_or(Ready::EMPTY)
}

impl Stream for TcpStream {
    fn is_gone(&self) -> bool {
        told(self.ready(Interest::WRITABLE)).is_write_closed()
    }

    fn has_ended(&self) -> bool {
        told(self.ready(Interest::READABLE)).is_read_closed()
    }
}

impl Stream for UnixStream {
    fn is_gone(&self) -> bool {
        told(self.ready(Interest::WRITABLE)).is_write_closed()
    }

    fn has_ended(&self) -> bool {
        told(self.ready(Interest::READABLE)).is_read_closed()
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

/// What a connection is at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    /// Nothing of a request is there.
    Idle,
    /// A part of its head.
    Head,
    /// It is carried out; its body may be on the way.
    Call,
    /// The answer is on the way.
    Answer,
}

/// What an alarm is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Alarm {
    /// The head of a request takes too long.
    Slow,
    /// Nothing is to be expected of the caller.
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
    /// When it began; of the first request: when the connection did.
    since: Instant,
    first: bool,
    /// Bytes of the head that is being read, but for those that came with the end of the
    /// request before it.
    head: usize,
    /// It has as many as it may have, and is not whole.
    too_long: bool,
    lines: Lines,
    /// hyper takes any number of lines: see [`Pipe::has_many_lines`].
    many_lines: bool,
    /// hyper waits for bytes.
    wanted: bool,
    /// Received before hyper wanted it.
    ahead: BytesMut,
    /// The caller sends no more.
    ended: bool,
    /// When the caller began to read nothing of what is there for it.
    blocked: Option<Instant>,
    /// When it was looked last whether the caller is there.
    looked: Instant,
    /// A part of the last request's body was not read.
    body_left: bool,
}

/// The pipe as hyper sees it.
pub(super) struct Io<S>(pub(super) Rc<Pipe<S>>);

impl<S: Stream> Pipe<S> {
    pub(super) fn new(stream: S, client: Rc<Client>) -> Self {
        let now = Instant::now();
        client.visitor.seat.idles(true);
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
            looked: now,
            body_left: false,
        };
        Self {
            stream: RefCell::new(stream),
            state: RefCell::new(state),
            client,
        }
    }

    /// A request has come, and is carried out now.
    pub(super) fn called(&self) {
        self.client.visitor.seat.idles(false);
        let mut state = self.state.borrow_mut();
        state.phase = Phase::Call;
        state.head = 0;
        state.lines = Lines::default();
        state.first = false;
    }

    /// There is an answer, which hyper sends. `settled`: all of the request was read.
    pub(super) fn answered(&self, settled: bool) {
        let mut state = self.state.borrow_mut();
        state.phase = Phase::Answer;
        state.body_left = !settled;
    }

    /// Whether a part of a request is there, and no more.
    pub(super) fn is_in_head(&self) -> bool {
        self.state.borrow().phase == Phase::Head
    }

    /// Whether the head is longer than any may be, be it one line that does not end.
    pub(super) fn is_too_long(&self) -> bool {
        self.state.borrow().too_long
    }

    /// Whether the head has more lines than hyper takes without a price: room for so many as a
    /// head can have costs each request 40 µs. True once; hyper is to be made anew then, with
    /// that room, and gets all of the head again by [`Pipe::give_again`].
    pub(super) fn has_many_lines(&self) -> bool {
        let mut state = self.state.borrow_mut();
        let many = state.lines.count > FEW_LINES && state.blocked.is_none();
        many && !std::mem::replace(&mut state.many_lines, true)
    }

    /// hyper is given these bytes again, before all others.
    pub(super) fn give_again(&self, bytes: &[u8]) {
        let mut state = self.state.borrow_mut();
        state.give_back(bytes);
        state.head = 0;
    }

    /// Whether the caller has sent what hyper has not read.
    pub(super) fn has_unread(&self) -> bool {
        let state = self.state.borrow();
        state.body_left || !state.ahead.is_empty()
    }

    /// Ready when the caller can get no answer any more, or is taken for somebody who can
    /// not. Reads ahead for that.
    pub(super) fn poll_gone(&self, cx: &mut Context<'_>) -> Poll<()> {
        let most = match self.client.visitor.seat.is_stranger() {
            true => MAX_AHEAD_OF_STRANGER,
            false => MAX_AHEAD,
        };
        let mut state = self.state.borrow_mut();
        if !matches!(state.phase, Phase::Call | Phase::Answer) || state.wanted {
            return Poll::Pending;
        }
        while !state.ended && state.ahead.len() < most {
            let mut room = [MaybeUninit::uninit(); READ_AHEAD];
            let mut read = ReadBuf::uninit(&mut room);
            let mut stream = self.stream.borrow_mut();
            if ready!(Pin::new(&mut *stream).poll_read(cx, &mut read)).is_err() {
                return Poll::Ready(());
            }
            state.ended = read.filled().is_empty();
            state.ahead.extend_from_slice(read.filled());
        }
        match state.ended && self.has_left() {
            true => Poll::Ready(()),
            false => Poll::Pending,
        }
    }

    /// Whether a caller who sends no more has left, as far as can be told. One over TCP who
    /// would read is not told apart until something is sent, and nothing is while it waits.
    fn has_left(&self) -> bool {
        let over_tcp = self.client.visitor.addr.is_some();
        over_tcp && self.client.progress().waits() || self.stream.borrow().is_gone()
    }

    /// When [`Pipe::alarm`] is to be asked.
    pub(super) fn next_alarm(&self) -> Option<Instant> {
        let state = self.state.borrow();
        let phase = state.phase_ends();
        let blocked = state.blocked.map(|since| since + SEND_TIMEOUT);
        let look = state.is_looked_after().then(|| state.looked + LOOK);
        [phase, blocked, look].into_iter().flatten().min()
    }

    /// What is to be done at this time, if anything.
    pub(super) fn alarm(&self, now: Instant) -> Option<Alarm> {
        let mut state = self.state.borrow_mut();
        let is_over = |end: Option<Instant>| end.is_some_and(|end| end <= now);
        if is_over(state.blocked.map(|since| since + SEND_TIMEOUT)) {
            return Some(Alarm::Over);
        }
        if is_over(state.phase_ends()) {
            return Some(match state.phase {
                Phase::Head => Alarm::Slow,
                Phase::Idle | Phase::Call | Phase::Answer => Alarm::Over,
            });
        }
        if state.is_looked_after() && state.looked + LOOK <= now {
            state.looked = now;
            // Behind as much as is read ahead the end is not read.
            let ended = state.ended || self.stream.borrow().has_ended();
            let left = ended && self.has_left() || self.stream.borrow().is_gone();
            return (left || self.client.is_to_leave()).then_some(Alarm::Over);
        }
        None
    }

    /// Tells the caller why nothing more is read, if it was not told; closes our half, and
    /// throws away what arrives, until the caller has closed its half.
    pub(super) async fn say_last(&self, refusal: Option<StatusCode>) -> io::Result<()> {
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

/// The lines of a head, as its bytes go by.
#[derive(Default)]
struct Lines {
    count: usize,
    /// Nothing of the present one is there; not so of the first one.
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
    /// These bytes are before all others that were received.
    fn give_back(&mut self, bytes: &[u8]) {
        let mut all = BytesMut::from(bytes);
        all.extend_from_slice(&self.ahead);
        self.ahead = all;
    }

    /// When the caller has had its time for what the connection is at.
    fn phase_ends(&self) -> Option<Instant> {
        match self.phase {
            Phase::Idle if !self.first => Some(self.since + KEEP_ALIVE),
            Phase::Idle | Phase::Head => Some(self.since + READ_TIMEOUT),
            Phase::Call | Phase::Answer => None,
        }
    }

    /// Whether the system may not tell that the caller leaves, or that others want its seat.
    fn is_looked_after(&self) -> bool {
        let busy = matches!(self.phase, Phase::Call | Phase::Answer);
        busy && (self.ended || !self.ahead.is_empty() || self.blocked.is_some())
    }

    /// hyper has received so much.
    fn received(&mut self, count: usize, client: &Client) {
        if count > 0 && self.phase == Phase::Idle {
            self.phase = Phase::Head;
            client.visitor.seat.idles(false);
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
            // It has been sent: hyper reads no request before that.
            state.phase = Phase::Idle;
            state.since = Instant::now();
            pipe.client.visitor.seat.idles(true);
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
            // What hyper has not sent yet would be lost with it.
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
