//! One connection: a socket, unsent bytes, and the machine that drives it.

use std::collections::VecDeque;
use std::io::{self, IoSlice, Read};
use std::net::Shutdown;
use std::time::{Duration, Instant};

use bytes::{Buf, Bytes};
use socket2::{Domain, SockAddr, Socket, Type};

use super::counters::Disconnection;
use super::failure::Failure;
use super::frames;
use crate::plan::Part;
use crate::recorder::Recorder;
use crate::scenario::{Act, Event, Expect, Interface, Leave, Machine, Stage};
use crate::trace::What;
use crate::writer::{ConnectionRng, FrameSet, Memory, Writer};
use handfast_wire::Kind;

/// Longer frames are not waited for: no scenario here requests a block.
const MAX_PARTIAL: usize = 8 << 20;

/// For `send`: more follows at once, so that it need not be a packet of its own.
const MSG_MORE: i32 = 0x8000;
/// Most buffers in one write.
const PIECES: usize = 16;
/// How many times the timeout a target may go on sending after we have closed.
const CLOSING_FACTOR: u32 = 3;

/// What the engine does with a connection after a step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Next {
    /// Waits for its next event.
    Wait,
    /// Ends it.
    Over(Disconnection),
}

/// What the engine learns from a step of a connection.
#[derive(Debug, Default)]
pub(super) struct Notes {
    /// It set a timer.
    pub(super) wake: Option<Duration>,
    /// It waits at the barrier now.
    pub(super) gathered: bool,
    /// The target's `verack` was received, or the whole answer to a call.
    pub(super) handshake_done: bool,
    /// Wrong answers.
    pub(super) wrong_answers: Vec<Failure>,
}

/// State shared by all connections of a run.
#[derive(Debug)]
pub(super) struct Context {
    pub(super) frame_set: FrameSet,
    pub(super) memory: Memory,
    /// The buffer of one read.
    pub(super) buffer: Vec<u8>,
    pub(super) acts: Vec<Act>,
    pub(super) notes: Notes,
    /// Records events, if wanted.
    pub(super) recorder: Option<Recorder>,
}

impl Context {
    /// `what` is computed only if it is recorded.
    fn record(&mut self, connection: &Connection, now: Instant, what: impl FnOnce() -> What) {
        if let Some(recorder) = &mut self.recorder {
            let since = now.duration_since(connection.begun);
            recorder.did(connection.index, since, what());
        }
    }
}

/// See the module.
#[derive(Debug)]
pub(super) struct Connection {
    socket: Socket,
    pub(super) part: Part,
    /// Connections of this run that began before it.
    pub(super) index: usize,
    pub(super) begun: Instant,
    machine: Box<dyn Machine>,
    rng: ConnectionRng,
    stage: Stage,
    /// What its machine expects of the target.
    expects: Expect,
    /// Since when it expects that. Other messages do not count as an answer: a target that relays
    /// blocks and never answers a ping fails.
    expected_since: Instant,
    /// When bytes were last received.
    received: Instant,
    unsent: VecDeque<Bytes>,
    /// The beginning of a frame that is not complete.
    partial: Vec<u8>,
    /// Waits at the barrier: no answer is expected.
    pub(super) gathered: bool,
    /// Closes as soon as everything is written.
    closes_when_written: bool,
}

impl Connection {
    /// Begins a connection. The second value: it is established already, as usual on loopback.
    pub(super) fn connect(
        target: &SockAddr,
        source: Option<&SockAddr>,
        (index, part): (usize, Part),
        machine: Box<dyn Machine>,
        now: Instant,
    ) -> Result<(Self, bool), Failure> {
        let failed = |error: io::Error| Failure::of(&error, Stage::Connecting);
        let domain = Domain::from(i32::from(target.family()));
        let kind = Type::STREAM.nonblocking().cloexec();
        let socket = Socket::new_raw(domain, kind, None).map_err(failed)?;
        if let Some(source) = source {
            let bound = socket.bind(source);
            bound.map_err(|error| Failure::of_source(&error))?;
        }
        // Two writes become two packets, even of a byte each.
        if domain != Domain::UNIX {
            socket.set_tcp_nodelay(true).map_err(failed)?;
        }
        let connected = match socket.connect(target) {
            Ok(()) => true,
            // EINPROGRESS has no kind of its own in stable Rust. On loopback the TCP handshake is
            // complete when the call returns, which `peer_addr` shows.
            Err(error)
                if error.raw_os_error() == Some(rustix::io::Errno::INPROGRESS.raw_os_error()) =>
            {
                socket.peer_addr().is_ok()
            }
            Err(error) => return Err(failed(error)),
        };
        let connection = Self {
            socket,
            rng: ConnectionRng::new(part.seed),
            part,
            index,
            begun: now,
            expects: machine.expect(),
            machine,
            stage: match connected {
                true => Stage::Handshake,
                false => Stage::Connecting,
            },
            expected_since: now,
            received: now,
            unsent: VecDeque::new(),
            partial: Vec::new(),
            gathered: false,
            closes_when_written: false,
        };
        Ok((connection, connected))
    }

    pub(super) fn socket(&self) -> &Socket {
        &self.socket
    }

    /// Whether it waits for the socket to be writable.
    pub(super) fn wants_to_write(&self) -> bool {
        self.stage == Stage::Connecting || !self.unsent.is_empty()
    }

    /// The failure if the target has not answered for `answer_timeout`.
    pub(super) fn overdue(&self, now: Instant, answer_timeout: Duration) -> Option<Failure> {
        let waited = now.duration_since(self.expected_since);
        let (stage, late) = match (self.stage, self.expects) {
            (Stage::Connecting, _) => (self.stage, waited > answer_timeout),
            // Bytes that the target sent before it saw our close may still arrive.
            (Stage::Closing, _) => {
                let silent = now.duration_since(self.received) > answer_timeout;
                (
                    self.stage,
                    silent || waited > answer_timeout * CLOSING_FACTOR,
                )
            }
            _ if self.gathered => return None,
            (_, Expect::Answer(stage)) => (stage, waited > answer_timeout),
            (_, Expect::Anything) => return None,
        };
        late.then_some(Failure::Unanswered(stage))
    }

    /// The failure of a call that is not answered at the end of a run.
    pub(super) fn unanswered_call(&self) -> Option<Failure> {
        let stage = match self.stage {
            Stage::Connecting => Stage::Connecting,
            Stage::Handshake | Stage::Ready | Stage::Closing => self.expected_stage(),
        };
        let is_call = self.part.scenario.interface() == Interface::Rpc;
        is_call.then_some(Failure::Unanswered(stage))
    }

    /// Handles readiness of the socket.
    pub(super) fn on_ready(&mut self, context: &mut Context, now: Instant) -> Next {
        if self.stage == Stage::Connecting {
            return match self.socket.take_error() {
                Ok(None) => self.established(context, now),
                Ok(Some(error)) | Err(error) => Next::Over(Disconnection::Failed(Failure::of(
                    &error,
                    Stage::Connecting,
                ))),
            };
        }
        if !self.unsent.is_empty()
            && let Some(over) = self.flush(self.closes_when_written, now)
        {
            return over;
        }
        let read = (&self.socket).read(&mut context.buffer);
        match read {
            Ok(0) if self.stage == Stage::Closing => Next::Over(Disconnection::Left),
            Ok(0) => self.closed_by_target(None),
            Ok(_) if self.stage == Stage::Closing => {
                self.received = now;
                Next::Wait
            }
            Ok(length) => self.take(length, context, now),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Next::Wait,
            // It was still sending when we had closed.
            Err(error)
                if self.stage == Stage::Closing
                    && error.kind() == io::ErrorKind::ConnectionReset =>
            {
                Next::Over(Disconnection::Left)
            }
            Err(error) => self.closed_by_target(Some(&error)),
        }
    }

    /// The connection is established.
    pub(super) fn established(&mut self, context: &mut Context, now: Instant) -> Next {
        self.stage = Stage::Handshake;
        self.expected_since = now;
        self.deliver(Event::Connected, context, now)
    }

    /// Delivers an event that does not come from the target.
    pub(super) fn deliver(
        &mut self,
        event: Event<'_>,
        context: &mut Context,
        now: Instant,
    ) -> Next {
        if self.stage == Stage::Closing {
            return Next::Wait;
        }
        if event == Event::Opened {
            self.gathered = false;
        }
        match event {
            Event::Due => context.record(self, now, || What::Due),
            Event::Opened => context.record(self, now, || What::Opened),
            Event::Connected | Event::Frame(_) | Event::Raw(_) => {}
        }
        self.step(event, context, now);
        let leave = self.note(context, now);
        self.write_and_leave(leave, now)
    }

    fn step(&mut self, event: Event<'_>, context: &mut Context, now: Instant) {
        let mut writer = Writer {
            frame_set: &context.frame_set,
            rng: &mut self.rng,
            memory: &mut context.memory,
            acts: &mut context.acts,
        };
        self.machine.step(event, &mut writer);
        // A step may change what the machine expects: the timeout starts again.
        let expects = self.machine.expect();
        if expects != self.expects {
            self.expects = expects;
            self.expected_since = now;
        }
    }

    /// Executes the actions of the machine; returns how it disconnects, if it does.
    fn note(&mut self, context: &mut Context, now: Instant) -> Option<Leave> {
        let mut leave = None;
        let mut acts = std::mem::take(&mut context.acts);
        for act in acts.drain(..) {
            match act {
                Act::Send(bytes) => {
                    context.record(self, now, || What::sent(&bytes));
                    self.unsent.push_back(bytes);
                }
                Act::Wake(after) => context.notes.wake = Some(after),
                Act::Gather => {
                    self.gathered = true;
                    context.notes.gathered = true;
                }
                Act::ReportWrong(wrong) => context.notes.wrong_answers.push(Failure::Wrong(wrong)),
                Act::Leave(how) => {
                    context.record(self, now, || What::left(how));
                    leave = Some(how);
                }
            }
        }
        // The buffer is reused.
        context.acts = acts;
        leave
    }

    /// Writes what is unsent, then disconnects, if that is next.
    fn write_and_leave(&mut self, leave: Option<Leave>, now: Instant) -> Next {
        let last = matches!(leave, Some(Leave::Orderly | Leave::Drop));
        if let Some(over) = self.flush(last, now) {
            return match leave {
                // Unsent bytes do not matter: the target closed first.
                Some(_) => Next::Over(Disconnection::Left),
                None => over,
            };
        }
        match leave {
            None => Next::Wait,
            Some(Leave::Orderly) => {
                self.closes_when_written = true;
                self.close_if_written(now)
            }
            Some(Leave::Drop) => Next::Over(Disconnection::Left),
            Some(Leave::Reset) => {
                // Fails only for a socket that is closed already.
                let _ = self.socket.set_linger(Some(Duration::ZERO));
                Next::Over(Disconnection::Left)
            }
        }
    }

    /// Handles the bytes at the front of the buffer.
    fn take(&mut self, length: usize, context: &mut Context, now: Instant) -> Next {
        if self.part.scenario.interface() == Interface::Rpc {
            let bytes = std::mem::take(&mut context.buffer);
            self.step(Event::Raw(&bytes[..length]), context, now);
            context.buffer = bytes;
            let leave = self.note(context, now);
            // A caller disconnects when the answer is complete.
            context.notes.handshake_done |= leave.is_some();
            return self.write_and_leave(leave, now);
        }
        self.partial.extend_from_slice(&context.buffer[..length]);
        let joined = std::mem::take(&mut self.partial);
        let magic = context.frame_set.params.magic;
        let mut bytes = &joined[..];
        // The answers to all frames received go out in one write.
        let mut leave = None;
        while leave.is_none() {
            match frames::next(&mut bytes, magic) {
                Ok(None) if bytes.len() <= MAX_PARTIAL => break,
                Ok(None) | Err(_) => {
                    // To bytes that are no frame, other bytes are a valid reaction: Core takes
                    // them for the beginning of BIP324, and answers with its own.
                    return Next::Over(match self.expects {
                        Expect::Answer(stage) => Disconnection::Failed(Failure::Garbled(stage)),
                        Expect::Anything => Disconnection::Left,
                    });
                }
                Ok(Some(received)) => {
                    context.notes.handshake_done |= received.kind == Some(Kind::Verack);
                    context.record(self, now, || {
                        What::received(received.kind, received.payload)
                    });
                    self.step(Event::Frame(received), context, now);
                    leave = self.note(context, now);
                }
            }
        }
        self.partial.extend_from_slice(bytes);
        self.write_and_leave(leave, now)
    }

    /// Writes as much as the socket takes. `Some`: the target has closed.
    ///
    /// `last`: only our close follows, which goes out in one packet with the last bytes.
    fn flush(&mut self, last: bool, now: Instant) -> Option<Next> {
        let flags = match last {
            true => MSG_MORE,
            false => 0,
        };
        while !self.unsent.is_empty() {
            let pieces: Vec<IoSlice<'_>> = self
                .unsent
                .iter()
                .take(PIECES)
                .map(|piece| IoSlice::new(piece))
                .collect();
            match self.socket.send_vectored_with_flags(&pieces, flags) {
                Ok(sent) => self.written(sent),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return None,
                Err(error) => return Some(self.closed_by_target(Some(&error))),
            }
        }
        match self.close_if_written(now) {
            Next::Wait => None,
            over @ Next::Over(_) => Some(over),
        }
    }

    fn written(&mut self, mut bytes: usize) {
        while let Some(first) = self.unsent.front_mut() {
            if bytes < first.len() {
                return first.advance(bytes);
            }
            bytes -= first.len();
            self.unsent.pop_front();
        }
    }

    fn close_if_written(&mut self, now: Instant) -> Next {
        if !self.closes_when_written || !self.unsent.is_empty() || self.stage == Stage::Closing {
            return Next::Wait;
        }
        self.stage = Stage::Closing;
        self.expected_since = now;
        self.received = now;
        match self.socket.shutdown(Shutdown::Write) {
            Ok(()) => Next::Wait,
            // The target has closed at the same moment.
            Err(_) => Next::Over(Disconnection::Left),
        }
    }

    /// The target has closed: allowed, or a failure.
    fn closed_by_target(&self, error: Option<&io::Error>) -> Next {
        Next::Over(match (self.expects, error) {
            _ if self.closes_when_written => Disconnection::Left,
            (Expect::Anything, _) if !self.gathered => Disconnection::ByTarget,
            (_, None) => Disconnection::Failed(Failure::Closed(self.expected_stage())),
            (_, Some(error)) => Disconnection::Failed(Failure::of(error, self.expected_stage())),
        })
    }

    fn expected_stage(&self) -> Stage {
        match self.expects {
            Expect::Answer(stage) => stage,
            Expect::Anything => Stage::Ready,
        }
    }
}
