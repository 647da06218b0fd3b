//! Those who steer: what they say is right, or could be, and they say it so that the target
//! does not get or does not take the blocks that others have.

use std::time::Duration;

use bitcoin::block::Header;
use bitcoin::p2p::message_blockdata::Inventory;
use bytes::Bytes;
use handfast_wire::{Kind, Message, RawBlock};

use super::behaviour::Behaviour;
use super::learned::{Learned, decode};
use super::machine::Heard;
use super::syncing::random_hash;
use crate::blocks::{self, Variety, block_hash};
use crate::tamper::Tamper;
use crate::voice::Voice;

/// Blocks of a branch on top of the tip that is withheld.
const WITHHELD_LENGTH: usize = 2;

/// Headers of the target's own that are announced where none can be made.
const KNOWN: usize = 8;

/// How the target is steered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Steer {
    /// Sends a block with the header of a valid one and other content.
    TamperedBlock,
    /// Announces a branch with more work, and delivers its first block tampered with.
    PoisonedBranch,
    /// Answers every `getheaders` with headers that the target knows.
    StaleSource,
    /// Shows a branch of its own with more work and gives none of its blocks.
    WithheldBranch,
    /// The same, and says `notfound`, and announces it again.
    NotFoundBranch,
    /// Shows the next block of the chain itself and does not give it.
    WithheldChain,
    /// The same, and answers for it with a block of 4 MB at a megabit a second, of which the
    /// last byte does not come.
    SlowBlock,
}

/// Bytes that [`Steer::SlowBlock`] sends at a time.
const PIECE: usize = 13_000;
/// Between two pieces.
const BETWEEN_PIECES: Duration = Duration::from_millis(100);

/// A peer that steers.
#[derive(Debug)]
pub(super) struct Steering {
    steer: Steer,
    learned: Learned,
    /// What it announces and repeats.
    shown: Vec<Header>,
    /// What it could give, and gives as it likes.
    blocks: Vec<RawBlock>,
    /// The target asked for headers before there was anything to answer.
    asked: bool,
    /// Answers to `getheaders` so far.
    answered: u64,
    /// How often it says `notfound` before it is silent: a target that asks again at once
    /// would be asked and would ask as fast as both of us can.
    not_found: u64,
    /// What is to come of the frame of [`Steer::SlowBlock`].
    rest: Bytes,
    /// Time that it still stays.
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
    fn learned(&mut self, voice: &mut Voice<'_>) {
        let variety = Variety::of(voice.dialect());
        match self.steer {
            Steer::TamperedBlock => self.tamper_with_a_block(voice),
            Steer::StaleSource => self.shown = self.learned.first(),
            Steer::PoisonedBranch => {
                let number = voice.dice.pick(0..variety.branches);
                let branch = self.on_the_chain(voice, |chain, voice| {
                    blocks::branch(chain, number, |chain, number| voice.shown(chain, number))
                });
                self.show(branch, voice);
            }
            Steer::WithheldBranch | Steer::NotFoundBranch => {
                // Not the numbers of other blocks that are beside them.
                let number = (1 << 32) + voice.dice.pick(0..variety.withheld);
                let row = self.on_the_chain(voice, |chain, voice| {
                    let shown = |chain: &[Header], number| voice.shown(chain, number);
                    blocks::row(chain, WITHHELD_LENGTH, number, shown)
                });
                self.show(row, voice);
            }
            Steer::WithheldChain | Steer::SlowBlock => {
                let number = voice.dice.pick(0..variety.shown);
                let next = self.on_the_chain(voice, |chain, voice| {
                    Some(vec![voice.shown(chain, number)?])
                });
                self.show(next, voice);
            }
        }
        if self.steer == Steer::StaleSource || std::mem::take(&mut self.asked) {
            self.answer_headers(voice);
        }
    }

    /// Blocks on top of the target's chain; none where they cannot be made.
    fn on_the_chain(
        &self,
        voice: &mut Voice<'_>,
        make: impl FnOnce(&[Header], &mut Voice<'_>) -> Option<Vec<RawBlock>>,
    ) -> Vec<RawBlock> {
        let chain = self.learned.to_build_on(voice.dialect());
        let made = chain.and_then(|chain| make(chain, voice));
        made.unwrap_or_default()
    }

    /// Announces blocks. Where none can be made: headers that the target has, or a block that
    /// nobody has.
    fn show(&mut self, blocks: Vec<RawBlock>, voice: &mut Voice<'_>) {
        self.shown = match blocks.is_empty() {
            true => self.learned.last(KNOWN),
            false => blocks.iter().map(|block| block.header).collect(),
        };
        if blocks.is_empty() && self.steer == Steer::NotFoundBranch {
            let hash = random_hash(voice.dice);
            voice.say(&Message::Inv(vec![Inventory::Block(hash)]));
        }
        self.blocks = blocks;
        self.announce(voice);
    }

    fn announce(&self, voice: &mut Voice<'_>) {
        if !self.shown.is_empty() {
            voice.say(&Message::Headers(self.shown.clone()));
        }
    }

    /// One of its own where that can be made, or the target's newest.
    fn tamper_with_a_block(&mut self, voice: &mut Voice<'_>) {
        let variety = Variety::of(voice.dialect());
        let (own, number) = (voice.dice.pick(0..4) > 0, voice.dice.pick(0..variety.shown));
        let tip = self.learned.last(1).first().map(Header::block_hash);
        let next = match own || tip.is_none() {
            true => self.on_the_chain(voice, |chain, voice| {
                Some(vec![voice.shown(chain, number)?])
            }),
            false => Vec::new(),
        };
        match (next.into_iter().next(), tip) {
            (Some(block), _) => self.give_tampered(block, voice),
            (None, Some(tip)) => voice.say(&Message::GetData(vec![Inventory::WitnessBlock(tip)])),
            (None, None) => {}
        }
    }

    fn give_tampered(&mut self, block: RawBlock, voice: &mut Voice<'_>) {
        // Announced before, as honest peers do, or not.
        if voice.dice.pick(0..2) == 0 {
            voice.say(&Message::Headers(vec![block.header]));
        }
        self.shown = vec![block.header];
        give(&block, voice);
        self.blocks = vec![block];
    }

    fn answer_headers(&mut self, voice: &mut Voice<'_>) {
        self.answered += 1;
        let none = self.steer == Steer::StaleSource && self.answered.is_multiple_of(2);
        voice.say(&Message::Headers(match none {
            true => Vec::new(),
            false => self.shown.clone(),
        }));
    }

    fn wanted(&mut self, heard: Heard<'_>, voice: &mut Voice<'_>) {
        let Some(Message::GetData(items)) = decode(Kind::GetData, heard.payload) else {
            return;
        };
        match self.steer {
            Steer::NotFoundBranch if self.not_found > 0 => {
                self.not_found -= 1;
                voice.say(&Message::NotFound(items));
                self.announce(voice);
            }
            Steer::TamperedBlock | Steer::PoisonedBranch => {
                for hash in items.iter().filter_map(block_hash) {
                    let found = self.blocks.iter().position(|block| block.hash == hash);
                    match found {
                        Some(0) => give(&self.blocks[0], voice),
                        Some(later) => voice.say(&Message::Block(self.blocks[later].clone())),
                        None => {}
                    }
                }
            }
            Steer::SlowBlock if self.rest.is_empty() => {
                let magic = voice.dialect().bitcoin_magic();
                self.rest = voice.phrases.heavy.half(magic);
                self.send_piece(voice);
            }
            Steer::StaleSource
            | Steer::WithheldBranch
            | Steer::NotFoundBranch
            | Steer::WithheldChain
            | Steer::SlowBlock => {}
        }
    }

    /// The next piece of the frame, if the time for which it stays is not over.
    fn send_piece(&mut self, voice: &mut Voice<'_>) {
        if self.rest.is_empty() || self.stay.is_zero() {
            return voice.leave_somehow();
        }
        self.stay = self.stay.saturating_sub(BETWEEN_PIECES);
        voice.raw(self.rest.split_to(PIECE.min(self.rest.len())));
        voice.wake(BETWEEN_PIECES);
    }
}

impl Behaviour for Steering {
    fn ready(&mut self, voice: &mut Voice<'_>) {
        // Long enough to be asked and to keep others waiting.
        self.stay = voice.dice.time(1_000..4_000);
        voice.wake(self.stay);
        self.learned.begin(voice);
    }

    fn due(&mut self, voice: &mut Voice<'_>) {
        self.send_piece(voice);
    }

    fn heard(&mut self, heard: Heard<'_>, voice: &mut Voice<'_>) {
        if self.learned.hear(heard, voice) {
            return self.learned(voice);
        }
        match heard.kind {
            Some(Kind::GetHeaders) if self.learned.is_complete() => self.answer_headers(voice),
            Some(Kind::GetHeaders) => self.asked = true,
            Some(Kind::GetData) => self.wanted(heard, voice),
            Some(Kind::Block) if self.steer == Steer::TamperedBlock && self.blocks.is_empty() => {
                if let Some(Message::Block(block)) = decode(Kind::Block, heard.payload) {
                    self.give_tampered(block, voice);
                }
            }
            _ => {}
        }
    }
}

/// Gives a block in another form than its own.
fn give(block: &RawBlock, voice: &mut Voice<'_>) {
    let tamper = Tamper::pick(voice.dice);
    if let Some(other) = tamper.apply(block, voice.dice) {
        voice.say(&Message::Block(other));
    }
}
