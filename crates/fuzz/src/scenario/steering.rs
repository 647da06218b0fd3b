//! Peers that steer the target's sync: their messages are valid, or could be, and keep the target
//! from getting or accepting other peers' blocks.

use std::time::Duration;

use bitcoin::block::Header;
use bitcoin::p2p::message_blockdata::Inventory;
use bytes::Bytes;
use handfast_wire::{Kind, Message, RawBlock};

use super::behaviour::Behaviour;
use super::learned::{Learned, decode};
use super::machine::ReceivedFrame;
use super::syncing::random_hash;
use crate::blocks::{self, Variety, block_hash};
use crate::tamper::Tamper;
use crate::writer::Writer;

/// Length of a withheld branch on top of the tip.
const WITHHELD_LENGTH: usize = 2;

/// Number of the target's own headers that are announced where none can be made.
const KNOWN: usize = 8;

/// How the target is misled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Steer {
    /// Sends a block with the header of a valid one and other content.
    TamperedBlock,
    /// Announces a branch with more work, and delivers its first block tampered with.
    PoisonedBranch,
    /// Answers every `getheaders` with headers that the target knows.
    StaleSource,
    /// Announces a branch with more work and delivers none of its blocks.
    WithheldBranch,
    /// The same, answers `notfound`, and announces it again.
    NotFoundBranch,
    /// Announces the next block of the chain and does not deliver it.
    WithheldChain,
    /// The same, and delivers it as a block of 4 MB at a megabit a second, without the last byte.
    SlowBlock,
}

/// Bytes that [`Steer::SlowBlock`] sends at a time.
const PIECE: usize = 13_000;
/// Interval of the pieces.
const BETWEEN_PIECES: Duration = Duration::from_millis(100);

/// A peer that misleads the target.
#[derive(Debug)]
pub(super) struct Steering {
    steer: Steer,
    learned: Learned,
    /// The headers that it announces and repeats.
    shown: Vec<Header>,
    /// The blocks that it could deliver.
    blocks: Vec<RawBlock>,
    /// The target sent `getheaders` before there was an answer.
    asked: bool,
    /// Answers to `getheaders` so far.
    answered: u64,
    /// How often it answers `notfound` before it is silent: a target that requests again at once
    /// would do so at full speed.
    not_found: u64,
    /// The rest of the frame of [`Steer::SlowBlock`].
    rest: Bytes,
    /// The time that it still stays.
    stay: Duration,
}

/// See there.
const NOT_FOUND: u64 = 100;

impl Steering {
    pub(super) fn new(steer: Steer) -> Self {
        Self {
            steer,
            learned: Learned::default(),
            shown: Vec::new(),
            blocks: Vec::new(),
            asked: false,
            answered: 0,
            not_found: NOT_FOUND,
            rest: Bytes::new(),
            stay: Duration::ZERO,
        }
    }

    /// The target's chain is known.
    fn learned(&mut self, writer: &mut Writer<'_>) {
        let variety = Variety::of(writer.params());
        match self.steer {
            Steer::TamperedBlock => self.tamper_with_a_block(writer),
            Steer::StaleSource => self.shown = self.learned.first(),
            Steer::PoisonedBranch => {
                let number = writer.rng.pick(0..variety.branches);
                let branch = self.on_the_chain(writer, |chain, writer| {
                    blocks::branch(chain, number, |chain, number| writer.shown(chain, number))
                });
                self.show(branch, writer);
            }
            Steer::WithheldBranch | Steer::NotFoundBranch => {
                // Not the numbers of sibling blocks.
                let number = (1 << 32) + writer.rng.pick(0..variety.withheld);
                let row = self.on_the_chain(writer, |chain, writer| {
                    let shown = |chain: &[Header], number| writer.shown(chain, number);
                    blocks::row(chain, WITHHELD_LENGTH, number, shown)
                });
                self.show(row, writer);
            }
            Steer::WithheldChain | Steer::SlowBlock => {
                let number = writer.rng.pick(0..variety.shown);
                let next = self.on_the_chain(writer, |chain, writer| {
                    Some(vec![writer.shown(chain, number)?])
                });
                self.show(next, writer);
            }
        }
        if self.steer == Steer::StaleSource || std::mem::take(&mut self.asked) {
            self.answer_headers(writer);
        }
    }

    /// Blocks on top of the target's chain; none where they cannot be made.
    fn on_the_chain(
        &self,
        writer: &mut Writer<'_>,
        make: impl FnOnce(&[Header], &mut Writer<'_>) -> Option<Vec<RawBlock>>,
    ) -> Vec<RawBlock> {
        let chain = self.learned.to_build_on(writer.params());
        let made = chain.and_then(|chain| make(chain, writer));
        made.unwrap_or_default()
    }

    /// Announces blocks. Where none can be made: headers that the target has, or an unknown
    /// block.
    fn show(&mut self, blocks: Vec<RawBlock>, writer: &mut Writer<'_>) {
        self.shown = match blocks.is_empty() {
            true => self.learned.last(KNOWN),
            false => blocks.iter().map(|block| block.header).collect(),
        };
        if blocks.is_empty() && self.steer == Steer::NotFoundBranch {
            let hash = random_hash(writer.rng);
            writer.send(&Message::Inv(vec![Inventory::Block(hash)]));
        }
        self.blocks = blocks;
        self.announce(writer);
    }

    fn announce(&self, writer: &mut Writer<'_>) {
        if !self.shown.is_empty() {
            writer.send(&Message::Headers(self.shown.clone()));
        }
    }

    /// A block of its own where that can be made, or the target's newest.
    fn tamper_with_a_block(&mut self, writer: &mut Writer<'_>) {
        let variety = Variety::of(writer.params());
        let (own, number) = (writer.rng.pick(0..4) > 0, writer.rng.pick(0..variety.shown));
        let tip = self.learned.last(1).first().map(Header::block_hash);
        let next = match own || tip.is_none() {
            true => self.on_the_chain(writer, |chain, writer| {
                Some(vec![writer.shown(chain, number)?])
            }),
            false => Vec::new(),
        };
        match (next.into_iter().next(), tip) {
            (Some(block), _) => self.give_tampered(block, writer),
            (None, Some(tip)) => writer.send(&Message::GetData(vec![Inventory::WitnessBlock(tip)])),
            (None, None) => {}
        }
    }

    fn give_tampered(&mut self, block: RawBlock, writer: &mut Writer<'_>) {
        // Announced before, as honest peers do, or not.
        if writer.rng.pick(0..2) == 0 {
            writer.send(&Message::Headers(vec![block.header]));
        }
        self.shown = vec![block.header];
        give(&block, writer);
        self.blocks = vec![block];
    }

    fn answer_headers(&mut self, writer: &mut Writer<'_>) {
        self.answered += 1;
        let none = self.steer == Steer::StaleSource && self.answered.is_multiple_of(2);
        writer.send(&Message::Headers(match none {
            true => Vec::new(),
            false => self.shown.clone(),
        }));
    }

    fn wanted(&mut self, received: ReceivedFrame<'_>, writer: &mut Writer<'_>) {
        let Some(Message::GetData(items)) = decode(Kind::GetData, received.payload) else {
            return;
        };
        match self.steer {
            Steer::NotFoundBranch if self.not_found > 0 => {
                self.not_found -= 1;
                writer.send(&Message::NotFound(items));
                self.announce(writer);
            }
            Steer::TamperedBlock | Steer::PoisonedBranch => {
                for hash in items.iter().filter_map(block_hash) {
                    let found = self.blocks.iter().position(|block| block.hash == hash);
                    match found {
                        Some(0) => give(&self.blocks[0], writer),
                        Some(later) => writer.send(&Message::Block(self.blocks[later].clone())),
                        None => {}
                    }
                }
            }
            Steer::SlowBlock if self.rest.is_empty() => {
                let magic = writer.params().bitcoin_magic();
                self.rest = writer.frame_set.heavy.half(magic);
                self.send_piece(writer);
            }
            Steer::StaleSource
            | Steer::WithheldBranch
            | Steer::NotFoundBranch
            | Steer::WithheldChain
            | Steer::SlowBlock => {}
        }
    }

    /// Sends the next piece of the frame, unless its time is over.
    fn send_piece(&mut self, writer: &mut Writer<'_>) {
        if self.rest.is_empty() || self.stay.is_zero() {
            return writer.leave_randomly();
        }
        self.stay = self.stay.saturating_sub(BETWEEN_PIECES);
        writer.raw(self.rest.split_to(PIECE.min(self.rest.len())));
        writer.wake(BETWEEN_PIECES);
    }
}

impl Behaviour for Steering {
    fn ready(&mut self, writer: &mut Writer<'_>) {
        // Long enough to get a request and to block other requests.
        self.stay = writer.rng.time(1_000..4_000);
        writer.wake(self.stay);
        self.learned.begin(writer);
    }

    fn due(&mut self, writer: &mut Writer<'_>) {
        self.send_piece(writer);
    }

    fn received(&mut self, received: ReceivedFrame<'_>, writer: &mut Writer<'_>) {
        if self.learned.receive(received, writer) {
            return self.learned(writer);
        }
        match received.kind {
            Some(Kind::GetHeaders) if self.learned.is_complete() => self.answer_headers(writer),
            Some(Kind::GetHeaders) => self.asked = true,
            Some(Kind::GetData) => self.wanted(received, writer),
            Some(Kind::Block) if self.steer == Steer::TamperedBlock && self.blocks.is_empty() => {
                if let Some(Message::Block(block)) = decode(Kind::Block, received.payload) {
                    self.give_tampered(block, writer);
                }
            }
            _ => {}
        }
    }
}

/// Delivers a tampered block.
fn give(block: &RawBlock, writer: &mut Writer<'_>) {
    let tamper = Tamper::pick(writer.rng);
    if let Some(other) = tamper.apply(block, writer.rng) {
        writer.send(&Message::Block(other));
    }
}
