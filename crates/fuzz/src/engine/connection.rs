//! One connection: a socket, what waits to be written, and the machine that it obeys.

use std::collections::VecDeque;
use std::io::{self, IoSlice, Read};
use std::net::Shutdown;
use std::time::{Duration, Instant};

use bytes::{Buf, Bytes};
use socket2::{Domain, SockAddr, Socket, Type};

use super::failure::Failure;
use super::frames;
use super::tally::Ending;
use crate::plan::Part;
use crate::recorder::Recorder;
use crate::scenario::{Act, Door, Event, Expect, Leave, Machine, Stage};
use crate::trace::What;
use crate::voice::{Dice, Memory, Phrases, Voice};
use handfast_wire::Kind;

/// Frames longer than this are not waited for: nothing here asks for a block.
const MAX_PARTIAL: usize = 8 << 20;

/// For `send`: more follows at once, so that it need not be a packet of its own.
const MSG_MORE: i32 = 0x8000;
/// Pieces that are written at once.
const PIECES: usize = 16;
/// How many times the run's patience a target may go on talking to one who has closed.
const LAST_WORDS: u32 = 3;

/// What a connection wants after it was looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Next {
    /// To be looked at again.
    Wait,
    /// It is over.
    Over(Ending),
}

/// What the loop learns while a connection acts.
#[derive(Debug, Default)]
pub(super) struct Notes {
    /// It wants to be told when so much time is over.
    pub(super) wake: Option<Duration>,
    /// It waits at the barrier now.
    pub(super) gathered: bool,
    /// The target's `verack` came just now, or the whole answer to a call.
    pub(super) shaken: bool,
    /// Complaints about answers.
    pub(super) complaints: Vec<Failure>,
}

/// What all connections of a run share.
#[derive(Debug)]
pub(super) struct Desk {
    pub(super) phrases: Phrases,
    pub(super) memory: Memory,
    /// What one read takes.
    pub(super) buffer: Vec<u8>,
    pub(super) acts: Vec<Act>,
    pub(super) notes: Notes,
    /// Writes everything down, where that is wanted.
    pub(super) recorder: Option<Recorder>,
}

impl Desk {
    /// `what` is worked out only if it is written down.
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
    dice: Dice,
    stage: Stage,
    /// What the target owes by its machine.
    expects: Expect,
    /// Since when it owes that. Whatever else it says in the meantime does not count: one that
    /// relays blocks and never answers a ping is no well target.
    owed_since: Instant,
    /// When something last came.
    heard: Instant,
    unsent: VecDeque<Bytes>,
    /// The beginning of a frame whose end is still to come.
    partial: Vec<u8>,
    /// Waits at the barrier: nothing is owed to it.
    pub(super) gathered: bool,
    /// Ends in good order as soon as everything is written.
    closes_when_written: bool,
}

impl Connection {
    /// Begins a connection. The second value: it is established already, as a rule on
    /// loopback.
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
        // What is said in two breaths is sent in two packets, a byte if it is a byte.
        if domain != Domain::UNIX {
            socket.set_tcp_nodelay(true).map_err(failed)?;
        }
        let connected = match socket.connect(target) {
            Ok(()) => true,
            // EINPROGRESS has no kind of its own in stable Rust. On loopback the handshake of
            // TCP was made within the call, and who knows its peer need not wait to hear so.
            Err(error)
                if error.raw_os_error() == Some(rustix::io::Errno::INPROGRESS.raw_os_error()) =>
            {
                socket.peer_addr().is_ok()
            }
            Err(error) => return Err(failed(error)),
        };
        let connection = Self {
            socket,
            dice: Dice::new(part.seed),
            part,
            index,
            begun: now,
            expects: machine.expect(),
            machine,
            stage: match connected {
                true => Stage::Handshake,
                false => Stage::Connecting,
            },
            owed_since: now,
            heard: now,
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

    /// Whether it wants to know when the socket can be written.
    pub(super) fn wants_to_write(&self) -> bool {
        self.stage == Stage::Connecting || !self.unsent.is_empty()
    }

    /// The failure that it is when the target has owed something for `patience`.
    pub(super) fn overdue(&self, now: Instant, patience: Duration) -> Option<Failure> {
        let owed_for = now.duration_since(self.owed_since);
        let (stage, late) = match (self.stage, self.expects) {
            (Stage::Connecting, _) => (self.stage, owed_for > patience),
            // What it had said before it heard of our end is still on its way.
            (Stage::Closing, _) => {
                let silent = now.duration_since(self.heard) > patience;
                (self.stage, silent || owed_for > patience * LAST_WORDS)
            }
            _ if self.gathered => return None,
            (_, Expect::Answer(stage)) => (stage, owed_for > patience),
            (_, Expect::Anything) => return None,
        };
        late.then_some(Failure::Unanswered(stage))
    }

    /// The failure that it is to have no answer at the end of a run, if it is a call.
    pub(super) fn unanswered_call(&self) -> Option<Failure> {
        let stage = match self.stage {
            Stage::Connecting => Stage::Connecting,
            Stage::Handshake | Stage::Ready | Stage::Closing => self.owed_stage(),
        };
        let is_call = self.part.scenario.door() == Door::Rpc;
        is_call.then_some(Failure::Unanswered(stage))
    }

    /// The poller says that something can be done.
    pub(super) fn look(&mut self, desk: &mut Desk, now: Instant) -> Next {
        if self.stage == Stage::Connecting {
            return match self.socket.take_error() {
                Ok(None) => self.established(desk, now),
                Ok(Some(error)) | Err(error) => {
                    Next::Over(Ending::Failed(Failure::of(&error, Stage::Connecting)))
                }
            };
        }
        if !self.unsent.is_empty()
            && let Some(over) = self.flush(self.closes_when_written, now)
        {
            return over;
        }
        let read = (&self.socket).read(&mut desk.buffer);
        match read {
            Ok(0) if self.stage == Stage::Closing => Next::Over(Ending::Left),
            Ok(0) => self.closed_by_target(None),
            Ok(_) if self.stage == Stage::Closing => {
                self.heard = now;
                Next::Wait
            }
            Ok(length) => self.take(length, desk, now),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Next::Wait,
            // It had more to say to one who had gone.
            Err(error)
                if self.stage == Stage::Closing
                    && error.kind() == io::ErrorKind::ConnectionReset =>
            {
                Next::Over(Ending::Left)
            }
            Err(error) => self.closed_by_target(Some(&error)),
        }
    }

    /// The connection is there.
    pub(super) fn established(&mut self, desk: &mut Desk, now: Instant) -> Next {
        self.stage = Stage::Handshake;
        self.owed_since = now;
        self.tell(Event::Connected, desk, now)
    }

    /// Something other than the target has news for it.
    pub(super) fn tell(&mut self, event: Event<'_>, desk: &mut Desk, now: Instant) -> Next {
        if self.stage == Stage::Closing {
            return Next::Wait;
        }
        if event == Event::Opened {
            self.gathered = false;
        }
        match event {
            Event::Due => desk.record(self, now, || What::Due),
            Event::Opened => desk.record(self, now, || What::Opened),
            Event::Connected | Event::Heard(_) | Event::Raw(_) => {}
        }
        self.step(event, desk, now);
        let leave = self.note(desk, now);
        self.carry_out(leave, now)
    }

    fn step(&mut self, event: Event<'_>, desk: &mut Desk, now: Instant) {
        let mut voice = Voice {
            phrases: &desk.phrases,
            dice: &mut self.dice,
            memory: &mut desk.memory,
            acts: &mut desk.acts,
        };
        self.machine.step(event, &mut voice);
        // Machines say what they ask for with what they are told: a new debt begins here.
        let expects = self.machine.expect();
        if expects != self.expects {
            self.expects = expects;
            self.owed_since = now;
        }
    }

    /// Takes note of what the machine said; how it leaves, if it does.
    fn note(&mut self, desk: &mut Desk, now: Instant) -> Option<Leave> {
        let mut leave = None;
        let mut acts = std::mem::take(&mut desk.acts);
        for act in acts.drain(..) {
            match act {
                Act::Send(bytes) => {
                    desk.record(self, now, || What::sent(&bytes));
                    self.unsent.push_back(bytes);
                }
                Act::Wake(after) => desk.notes.wake = Some(after),
                Act::Gather => {
                    self.gathered = true;
                    desk.notes.gathered = true;
                }
                Act::Complain(wrong) => desk.notes.complaints.push(Failure::Wrong(wrong)),
                Act::Leave(how) => {
                    desk.record(self, now, || What::left(how));
                    leave = Some(how);
                }
            }
        }
        // Its memory is used again.
        desk.acts = acts;
        leave
    }

    /// Writes what was said, then leaves, if that is next.
    fn carry_out(&mut self, leave: Option<Leave>, now: Instant) -> Next {
        let last = matches!(leave, Some(Leave::Orderly | Leave::Drop));
        if let Some(over) = self.flush(last, now) {
            return match leave {
                // Whatever was to be said, the target had gone before.
                Some(_) => Next::Over(Ending::Left),
                None => over,
            };
        }
        match leave {
            None => Next::Wait,
            Some(Leave::Orderly) => {
                self.closes_when_written = true;
                self.close_if_written(now)
            }
            Some(Leave::Drop) => Next::Over(Ending::Left),
            Some(Leave::Reset) => {
                // Fails only for a socket that is gone already.
                let _ = self.socket.set_linger(Some(Duration::ZERO));
                Next::Over(Ending::Left)
            }
        }
    }

    /// Handles the bytes at the front of the buffer.
    fn take(&mut self, length: usize, desk: &mut Desk, now: Instant) -> Next {
        if self.part.scenario.door() == Door::Rpc {
            let bytes = std::mem::take(&mut desk.buffer);
            self.step(Event::Raw(&bytes[..length]), desk, now);
            desk.buffer = bytes;
            let leave = self.note(desk, now);
            // Whoever calls leaves when the answer is whole.
            desk.notes.shaken |= leave.is_some();
            return self.carry_out(leave, now);
        }
        self.partial.extend_from_slice(&desk.buffer[..length]);
        let joined = std::mem::take(&mut self.partial);
        let magic = desk.phrases.dialect.magic;
        let mut bytes = &joined[..];
        // All that came is answered in one write.
        let mut leave = None;
        while leave.is_none() {
            match frames::next(&mut bytes, magic) {
                Ok(None) if bytes.len() <= MAX_PARTIAL => break,
                Ok(None) | Err(_) => {
                    // Whoever hears no frame may answer with none: Core takes bytes that are
                    // no frame for the beginning of BIP324, and answers with its own.
                    return Next::Over(match self.expects {
                        Expect::Answer(stage) => Ending::Failed(Failure::Garbled(stage)),
                        Expect::Anything => Ending::Left,
                    });
                }
                Ok(Some(heard)) => {
                    desk.notes.shaken |= heard.kind == Some(Kind::Verack);
                    desk.record(self, now, || What::heard(heard.kind, heard.payload));
                    self.step(Event::Heard(heard), desk, now);
                    leave = self.note(desk, now);
                }
            }
        }
        self.partial.extend_from_slice(bytes);
        self.carry_out(leave, now)
    }

    /// Writes as much as the socket takes. `Some`: the target is gone.
    ///
    /// `last`: nothing follows but our end, which goes out with the last word, in one packet.
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
        self.owed_since = now;
        self.heard = now;
        match self.socket.shutdown(Shutdown::Write) {
            Ok(()) => Next::Wait,
            // It has left at the same moment.
            Err(_) => Next::Over(Ending::Left),
        }
    }

    /// The target has ended it: its right, or a failure.
    fn closed_by_target(&self, error: Option<&io::Error>) -> Next {
        Next::Over(match (self.expects, error) {
            _ if self.closes_when_written => Ending::Left,
            (Expect::Anything, _) if !self.gathered => Ending::ByTarget,
            (_, None) => Ending::Failed(Failure::Closed(self.owed_stage())),
            (_, Some(error)) => Ending::Failed(Failure::of(error, self.owed_stage())),
        })
    }

    fn owed_stage(&self) -> Stage {
        match self.expects {
            Expect::Answer(stage) => stage,
            Expect::Anything => Stage::Ready,
        }
    }
}
