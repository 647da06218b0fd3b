//! One connection of a churn.

use std::io::{self, Read};
use std::net::Shutdown;
use std::time::{Duration, Instant};

use socket2::{Domain, SockAddr, Socket, Type};

use super::frames::{self, Heard};
use super::report::{Failure, Report, Stage};
use super::script::{Script, Variant};

/// What a connection wants after it was looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Next {
    /// To be looked at again when there is something to read (or the socket connected).
    Wait,
    /// It has shaken hands and its pings are answered.
    Settled,
    /// It has ended as it should.
    Over,
}

/// The socket and how far it is.
#[derive(Debug)]
pub(super) struct Peer {
    socket: Socket,
    variant: Variant,
    stage: Stage,
    begun: Instant,
    /// When it last came one stage further.
    moved: Instant,
    /// Whether a ping of the node's is to be answered before it settles.
    answers: bool,
    /// A ping of the node's was answered.
    answered: bool,
    /// The node answered our ping.
    ponged: bool,
    /// The beginning of a frame whose end is still to come.
    partial: Vec<u8>,
}

/// What all connections of a run share.
pub(super) struct Desk<'a> {
    pub(super) script: &'a Script,
    pub(super) report: &'a mut Report,
    /// What one read takes.
    pub(super) buffer: &'a mut [u8],
}

impl Peer {
    /// Begins a connection. On loopback it is established, or refused, at once as a rule.
    pub(super) fn connect(
        target: &SockAddr,
        variant: Variant,
        answers: bool,
        desk: &mut Desk<'_>,
    ) -> Result<(Self, Next), Failure> {
        let begun = Instant::now();
        let open = || Socket::new_raw(Domain::IPV4, Type::STREAM.nonblocking().cloexec(), None);
        let socket = open().map_err(|error| Failure::of(&error, Stage::Connecting))?;
        let connected = match socket.connect(target) {
            Ok(()) => true,
            // EINPROGRESS has no kind of its own in stable Rust.
            Err(error)
                if error.raw_os_error() == Some(rustix::io::Errno::INPROGRESS.raw_os_error()) =>
            {
                false
            }
            Err(error) => return Err(Failure::of(&error, Stage::Connecting)),
        };
        let mut peer = Self {
            socket,
            variant,
            stage: Stage::Connecting,
            begun,
            moved: begun,
            answers,
            answered: false,
            ponged: false,
            partial: Vec::new(),
        };
        let next = if connected {
            peer.greet(desk.script)?
        } else {
            Next::Wait
        };
        Ok((peer, next))
    }

    pub(super) fn socket(&self) -> &Socket {
        &self.socket
    }

    pub(super) fn is_connecting(&self) -> bool {
        self.stage == Stage::Connecting
    }

    /// The failure that it is when it made no progress for `patience`. One that waits
    /// for its wave is not waiting for the node.
    pub(super) fn overdue(&self, now: Instant, patience: Duration) -> Option<Failure> {
        let late = self.stage != Stage::Idle && now.duration_since(self.moved) > patience;
        late.then_some(Failure::Unanswered(self.stage))
    }

    /// The poller says that something can be done.
    pub(super) fn look(&mut self, desk: &mut Desk<'_>) -> Result<Next, Failure> {
        if self.stage == Stage::Connecting {
            match self.socket.take_error() {
                Ok(None) => return self.greet(desk.script),
                Ok(Some(error)) | Err(error) => return Err(self.failure(&error)),
            }
        }
        match (&self.socket).read(desk.buffer) {
            Ok(0) if self.stage == Stage::Closing => Ok(Next::Over),
            Ok(0) => Err(Failure::Closed(self.stage)),
            Ok(read) => self.take(read, desk),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(Next::Wait),
            Err(error) => Err(self.failure(&error)),
        }
    }

    /// Ends it as its variant has it, once it settled.
    pub(super) fn leave(&mut self) -> Result<Next, Failure> {
        match self.variant {
            Variant::Orderly | Variant::Pipelined => {
                self.socket
                    .shutdown(Shutdown::Write)
                    .map_err(|error| self.failure(&error))?;
                self.advance(Stage::Closing);
                Ok(Next::Wait)
            }
            Variant::Reset => self.reset(),
            Variant::DropOnVerack | Variant::BeforeVerack | Variant::AfterVersion => {
                unreachable!("{:?} never settles", self.variant)
            }
        }
    }

    fn greet(&mut self, script: &Script) -> Result<Next, Failure> {
        self.advance(Stage::Handshake);
        match self.variant {
            Variant::Pipelined => self.send(&script.all_at_once)?,
            Variant::AfterVersion => {
                self.send(&script.version)?;
                return self.reset();
            }
            Variant::Orderly | Variant::Reset | Variant::DropOnVerack | Variant::BeforeVerack => {
                self.send(&script.version)?;
            }
        }
        Ok(Next::Wait)
    }

    /// Handles the frames in the first `read` bytes of the buffer.
    fn take(&mut self, read: usize, desk: &mut Desk<'_>) -> Result<Next, Failure> {
        let joined;
        let mut bytes = if self.partial.is_empty() {
            &desk.buffer[..read]
        } else {
            self.partial.extend_from_slice(&desk.buffer[..read]);
            joined = std::mem::take(&mut self.partial);
            &joined
        };
        let mut last = Next::Wait;
        loop {
            let heard = frames::next(&mut bytes, desk.script.magic);
            match heard.map_err(|_| Failure::Garbled(self.stage))? {
                None => break,
                Some(heard) => match self.hear(heard, desk.script, desk.report)? {
                    Next::Wait => {}
                    Next::Settled => last = Next::Settled,
                    Next::Over => return Ok(Next::Over),
                },
            }
        }
        self.partial.extend_from_slice(bytes);
        Ok(last)
    }

    fn hear(
        &mut self,
        heard: Heard,
        script: &Script,
        report: &mut Report,
    ) -> Result<Next, Failure> {
        match (self.stage, heard) {
            (Stage::Handshake, Heard::Verack) => {
                report.handshake_took(self.begun.elapsed());
                self.verack(script)
            }
            // Feature messages come between the two.
            (Stage::Handshake, Heard::Version | Heard::Other) => Ok(Next::Wait),
            (Stage::Ping, Heard::Pong) => {
                self.ponged = true;
                Ok(self.settled())
            }
            (Stage::Ping, Heard::Ping(payload)) if self.answers => {
                self.send(&pong(script.magic, payload))?;
                self.answered = true;
                report.pings_answered += 1;
                Ok(self.settled())
            }
            (Stage::Idle, Heard::Ping(payload)) => {
                self.send(&pong(script.magic, payload))?;
                report.pings_answered += 1;
                Ok(Next::Wait)
            }
            (Stage::Ping, Heard::Ping(_) | Heard::Other)
            | (Stage::Idle, Heard::Other)
            | (Stage::Closing, Heard::Ping(_) | Heard::Other) => Ok(Next::Wait),
            (Stage::Handshake, Heard::Ping(_) | Heard::Pong)
            | (Stage::Ping, Heard::Version | Heard::Verack)
            | (Stage::Idle | Stage::Closing, Heard::Version | Heard::Verack | Heard::Pong)
            | (Stage::Connecting, _) => Err(Failure::Garbled(self.stage)),
        }
    }

    /// The node's `verack` came.
    fn verack(&mut self, script: &Script) -> Result<Next, Failure> {
        self.advance(Stage::Ping);
        match self.variant {
            Variant::Orderly | Variant::Reset => self.send(&script.verack_ping)?,
            // It has been sent already.
            Variant::Pipelined => {}
            Variant::DropOnVerack => {
                self.send(&script.verack)?;
                return Ok(Next::Over);
            }
            Variant::BeforeVerack => return Ok(Next::Over),
            Variant::AfterVersion => unreachable!("it left before"),
        }
        Ok(Next::Wait)
    }

    /// Whether all that is to happen before it may leave has happened.
    fn settled(&mut self) -> Next {
        if !self.ponged || (self.answers && !self.answered) {
            return Next::Wait;
        }
        self.advance(Stage::Idle);
        Next::Settled
    }

    fn advance(&mut self, stage: Stage) {
        self.stage = stage;
        self.moved = Instant::now();
    }

    /// Closes with a reset instead of the usual goodbye.
    fn reset(&mut self) -> Result<Next, Failure> {
        self.socket
            .set_linger(Some(Duration::ZERO))
            .map_err(|error| self.failure(&error))?;
        Ok(Next::Over)
    }

    /// A fresh connection takes a few hundred bytes at once: less is a failure.
    fn send(&self, bytes: &[u8]) -> Result<(), Failure> {
        match self.socket.send(bytes) {
            Ok(sent) if sent == bytes.len() => Ok(()),
            Ok(_) => Err(Failure::Io(self.stage, io::ErrorKind::WriteZero)),
            Err(error) => Err(self.failure(&error)),
        }
    }

    fn failure(&self, error: &io::Error) -> Failure {
        Failure::of(error, self.stage)
    }
}

/// The answer to a ping.
fn pong(magic: [u8; 4], payload: [u8; 8]) -> Vec<u8> {
    let head = handfast_wire::encode_head(
        bitcoin::p2p::Magic::from_bytes(magic),
        "pong",
        payload.len(),
        handfast_wire::checksum(&payload),
    );
    [&head[..], &payload[..]].concat()
}
