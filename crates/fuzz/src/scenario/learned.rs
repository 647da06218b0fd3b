//! The target's chain, as a connection learns it by `getheaders`.

use bitcoin::BlockHash;
use bitcoin::block::Header;
use bitcoin::hashes::Hash;
use handfast_wire::limits::MAX_HEADERS;
use handfast_wire::{Kind, Locator, Message};

use super::machine::ReceivedFrame;
use crate::blocks;
use crate::writer::{PeerParams, Writer};

/// Most `headers` messages requested. A longer chain is known up to there: enough to repeat it,
/// not to build on it.
const MESSAGES: usize = 8;

/// Requests headers from the genesis block on until there are no more.
#[derive(Debug, Default)]
pub(super) struct Learned {
    /// From the genesis block on; empty before it is requested.
    chain: Vec<Header>,
    received: usize,
    complete: bool,
}

impl Learned {
    /// Sends the first `getheaders`.
    pub(super) fn begin(&mut self, writer: &mut Writer<'_>) {
        self.chain = vec![writer.params().genesis];
        self.ask(writer);
    }

    /// Handles a frame; whether the chain is complete by it.
    pub(super) fn receive(&mut self, received: ReceivedFrame<'_>, writer: &mut Writer<'_>) -> bool {
        if self.complete || received.kind != Some(Kind::Headers) {
            return false;
        }
        let Some(Message::Headers(headers)) = decode(Kind::Headers, received.payload) else {
            return false;
        };
        self.received += 1;
        let count = headers.len();
        for header in headers {
            let follows = |tip: &Header| header.prev_blockhash == tip.block_hash();
            if self.chain.last().is_some_and(follows) {
                self.chain.push(header);
            }
        }
        self.complete = count < MAX_HEADERS || self.received >= MESSAGES;
        if !self.complete {
            self.ask(writer);
        }
        self.complete
    }

    fn ask(&self, writer: &mut Writer<'_>) {
        let tip = self.chain.last().map(Header::block_hash);
        writer.send(&Message::GetHeaders(Locator {
            hashes: tip.into_iter().collect(),
            stop: BlockHash::all_zeros(),
        }));
    }

    /// Whether the target has served all its headers.
    pub(super) fn is_complete(&self) -> bool {
        self.complete
    }

    /// The chain, if blocks can be made on it in a moment and its tip is known: all connections
    /// wait while one of them makes a block.
    pub(super) fn to_build_on(&self, params: &PeerParams) -> Option<&[Header]> {
        let ends = self.complete && self.received < MESSAGES;
        let makes = ends && params.mines && blocks::is_cheap(&self.chain, params.easy_work);
        makes.then_some(&self.chain)
    }

    /// Its first headers, as many as a message holds.
    pub(super) fn first(&self) -> Vec<Header> {
        let chain = self.chain.iter().skip(1);
        chain.take(MAX_HEADERS).copied().collect()
    }

    /// Its newest headers.
    pub(super) fn last(&self, count: usize) -> Vec<Header> {
        let above_genesis = self.chain.get(1..).unwrap_or_default();
        let from = above_genesis.len().saturating_sub(count);
        above_genesis[from..].to_vec()
    }
}

/// Decodes a frame; `None` if it is invalid.
pub(super) fn decode(kind: Kind, payload: &[u8]) -> Option<Message> {
    Message::decode(kind.name(), bytes::Bytes::copy_from_slice(payload)).ok()
}
