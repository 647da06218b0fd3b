//! Those who leave: at every moment at which a peer can be half-known.

use std::time::Duration;

use super::machine::{Event, Expect, Leave, Machine, Stage};
use super::visit::{Reached, Visit, ping};
use crate::voice::Voice;

/// When a peer leaves, and how.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Moment {
    /// On the target's `verack`: ours goes out and the socket is closed in one breath, so
    /// that the target learns of the peer and of its end at once.
    OnVerack,
    /// On the target's `verack`, without ours: it was never a peer.
    BeforeVerack,
    /// Our `version` goes out, and nothing after it; it stays a while, then it is reset.
    HalfOpen,
    /// Our `version` goes out, and a reset behind it.
    BehindVersion,
    /// Once settled, in good order; everything we say goes out in one write.
    Pipelined,
    /// Once settled, by a reset.
    ResetWhenSettled,
    /// Once all are settled, all together.
    Together,
    /// Once settled, in good order.
    Orderly,
}

/// A peer that leaves.
#[derive(Debug)]
pub(super) struct Leaving {
    moment: Moment,
    visit: Visit,
    /// Nothing is owed any more: it waits for its time, or for the others.
    waits: bool,
}

impl Leaving {
    pub(super) fn new(moment: Moment) -> Self {
        let visit = match moment {
            Moment::Orderly | Moment::ResetWhenSettled | Moment::Together => Visit::default(),
            Moment::OnVerack
            | Moment::BeforeVerack
            | Moment::HalfOpen
            | Moment::BehindVersion
            | Moment::Pipelined => Visit::with_its_own_verack(),
        };
        Self {
            moment,
            visit,
            waits: false,
        }
    }

    fn begin(&mut self, voice: &mut Voice<'_>) {
        voice.version();
        match self.moment {
            Moment::Pipelined => {
                voice.verack();
                ping(voice);
            }
            Moment::HalfOpen => {
                let stay = voice.dice.time(50..3_000);
                voice.wake(stay);
                self.waits = true;
            }
            Moment::BehindVersion => voice.leave(Leave::Reset),
            Moment::OnVerack
            | Moment::BeforeVerack
            | Moment::ResetWhenSettled
            | Moment::Together
            | Moment::Orderly => {}
        }
    }

    fn reached(&mut self, reached: Reached, voice: &mut Voice<'_>) {
        match (self.moment, reached) {
            (Moment::OnVerack, Reached::Ready) => {
                voice.verack();
                voice.leave(Leave::Drop);
            }
            (Moment::BeforeVerack, Reached::Ready) => voice.leave(Leave::Drop),
            (Moment::ResetWhenSettled | Moment::Together | Moment::Orderly, Reached::Ready) => {
                ping(voice)
            }
            (Moment::Pipelined | Moment::Orderly, Reached::Settled) => {
                voice.leave(Leave::Orderly);
            }
            (Moment::ResetWhenSettled, Reached::Settled) => voice.leave(Leave::Reset),
            (Moment::Together, Reached::Settled) => {
                self.waits = true;
                voice.gather();
            }
            (Moment::Pipelined | Moment::HalfOpen | Moment::BehindVersion, Reached::Ready)
            | (
                Moment::OnVerack | Moment::BeforeVerack | Moment::HalfOpen | Moment::BehindVersion,
                Reached::Settled,
            ) => {}
        }
    }
}

impl Machine for Leaving {
    fn step(&mut self, event: Event<'_>, voice: &mut Voice<'_>) {
        match event {
            Event::Connected => self.begin(voice),
            Event::Heard(heard) => {
                if let Some(reached) = self.visit.hear(heard, voice) {
                    self.reached(reached, voice);
                }
            }
            Event::Opened => voice.leave_somehow(),
            Event::Due => voice.leave(Leave::Reset),
            Event::Raw(_) => {}
        }
    }

    fn expect(&self) -> Expect {
        match self.waits {
            true => Expect::Anything,
            false => self.visit.expect(),
        }
    }
}

/// Sends its `verack` when the target is about to give up on it.
///
/// A node that has two roads for "the handshake took too long" and "the peer is here" tells
/// two stories of this peer.
#[derive(Debug)]
pub(super) struct AtTheDeadline {
    visit: Visit,
    verack_sent: bool,
}

impl AtTheDeadline {
    /// How far before and after the deadline the `verack` may go out.
    const AROUND: Duration = Duration::from_millis(60);

    pub(super) fn new() -> Self {
        Self {
            visit: Visit::with_its_own_verack(),
            verack_sent: false,
        }
    }
}

impl Machine for AtTheDeadline {
    fn step(&mut self, event: Event<'_>, voice: &mut Voice<'_>) {
        match event {
            Event::Connected => {
                voice.version();
                let earliest = voice
                    .dialect()
                    .handshake_deadline
                    .saturating_sub(Self::AROUND);
                let width = u64::try_from(2 * Self::AROUND.as_millis()).unwrap_or(1);
                let wait = earliest + voice.dice.time(0..width);
                voice.wake(wait);
            }
            Event::Heard(heard) => {
                let _ = self.visit.hear(heard, voice);
            }
            Event::Due if self.verack_sent => voice.leave_somehow(),
            Event::Due => {
                self.verack_sent = true;
                voice.verack();
                let stay = voice.dice.time(0..20);
                voice.wake(stay);
            }
            Event::Opened | Event::Raw(_) => {}
        }
    }

    /// It may be given up at any moment.
    fn expect(&self) -> Expect {
        Expect::Anything
    }
}

/// Who connects and says nothing, or says too little.
#[derive(Debug)]
pub(super) struct Silent;

impl Machine for Silent {
    fn step(&mut self, event: Event<'_>, voice: &mut Voice<'_>) {
        match event {
            Event::Connected => {
                let stay = voice.dice.time(200..5_000);
                voice.wake(stay);
            }
            Event::Due => voice.leave_somehow(),
            Event::Heard(_) | Event::Opened | Event::Raw(_) => {}
        }
    }

    fn expect(&self) -> Expect {
        Expect::Anything
    }
}

/// Sends a handshake byte by byte.
#[derive(Debug, Default)]
pub(super) struct SlowLoris {
    /// What is still to be said.
    rest: bytes::Bytes,
    visit: Visit,
    /// Bytes after which it loses its patience with itself.
    gives_up_after: u64,
}

impl SlowLoris {
    fn next_byte(&mut self, voice: &mut Voice<'_>) {
        if self.rest.is_empty() || self.gives_up_after == 0 {
            return voice.leave_somehow();
        }
        self.gives_up_after -= 1;
        let byte = self.rest.split_to(1);
        voice.raw(byte);
        let pause = voice.dice.time(5..40);
        voice.wake(pause);
    }
}

impl Machine for SlowLoris {
    fn step(&mut self, event: Event<'_>, voice: &mut Voice<'_>) {
        match event {
            Event::Connected => {
                self.gives_up_after = voice.dice.pick(1..200);
                let before = voice.acts.len();
                voice.version();
                voice.verack();
                ping(voice);
                self.rest = super::said_since(before, voice);
                self.visit = Visit::with_its_own_verack();
                self.next_byte(voice);
            }
            Event::Due => self.next_byte(voice),
            Event::Heard(heard) => {
                let _ = self.visit.hear(heard, voice);
            }
            Event::Opened | Event::Raw(_) => {}
        }
    }

    fn expect(&self) -> Expect {
        Expect::Anything
    }
}

/// The stage that a machine without a handshake is in.
pub(super) const READY: Expect = Expect::Answer(Stage::Ready);
