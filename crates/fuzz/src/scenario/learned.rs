//! The target's chain, as a connection learns it from the target itself.

use bitcoin::BlockHash;
use bitcoin::block::Header;
use bitcoin::hashes::Hash;
use handfast_wire::limits::MAX_HEADERS;
use handfast_wire::{Kind, Locator, Message};

use super::machine::Heard;
use crate::blocks;
use crate::voice::{Dialect, Voice};

/// Messages of headers that are asked for at most. A chain that is longer is known up to there:
/// enough to repeat it, not to build on top of it.
const MESSAGES: usize = 8;

/// Asks for headers from the genesis block on until there are no more.
#[derive(Debug, Default)]
pub(super) struct Learned {
    /// From the genesis block on; empty until it was asked for.
    chain: Vec<Header>,
    heard: usize,
    complete: bool,
}

impl Learned {
    /// Asks for the first.
    pub(super) fn begin(&mut self, voice: &mut Voice<'_>) {
        self.chain = vec![voice.dialect().genesis];
        self.ask(voice);
    }

    /// Takes a frame; whether the chain is known by it.
    pub(super) fn hear(&mut self, heard: Heard<'_>, voice: &mut Voice<'_>) -> bool {
        if self.complete || heard.kind != Some(Kind::Headers) {
            return false;
        }
        let Some(Message::Headers(headers)) = decode(Kind::Headers, heard.payload) else {
            return false;
        };
        self.heard += 1;
        let count = headers.len();
        for header in headers {
            let follows = |tip: &Header| header.prev_blockhash == tip.block_hash();
            if self.chain.last().is_some_and(follows) {
                self.chain.push(header);
            }
        }
        self.complete = count < MAX_HEADERS || self.heard >= MESSAGES;
        if !self.complete {
            self.ask(voice);
        }
        self.complete
    }

    fn ask(&self, voice: &mut Voice<'_>) {
        let tip = self.chain.last().map(Header::block_hash);
        voice.say(&Message::GetHeaders(Locator {
            hashes: tip.into_iter().collect(),
            stop: BlockHash::all_zeros(),
        }));
    }

    /// Whether the target has served all that it would.
    pub(super) fn is_complete(&self) -> bool {
        self.complete
    }

    /// What is known of it, if blocks can be made on top in a moment, and its end was seen: all
    /// connections wait while one of them makes a block.
    pub(super) fn to_build_on(&self, dialect: &Dialect) -> Option<&[Header]> {
        let ends = self.complete && self.heard < MESSAGES;
        let makes = ends && dialect.mines && blocks::is_cheap(&self.chain, dialect.easy_work);
        makes.then_some(&self.chain)
    }

    /// Its first headers, as many as a message holds.
    pub(super) fn first(&self) -> Vec<Header> {
        let chain = self.chain.iter().skip(1);
        chain.take(MAX_HEADERS).copied().collect()
    }

    /// The newest of them.
    pub(super) fn last(&self, count: usize) -> Vec<Header> {
        let above_genesis = self.chain.get(1..).unwrap_or_default();
        let from = above_genesis.len().saturating_sub(count);
        above_genesis[from..].to_vec()
    }
}

/// What a frame says, if it is what it says it is.
pub(super) fn decode(kind: Kind, payload: &[u8]) -> Option<Message> {
    Message::decode(kind.name(), bytes::Bytes::copy_from_slice(payload)).ok()
}
