//! The traffic between a node and each of its peers, as visible on the wire: what the peer showed
//! and announced, the requests to it, and its answers.
//!
//! Nothing here is read from the observed machine: a machine that forgets a peer also forgets it in
//! its own records.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use bitcoin::BlockHash;
use bitcoin::block::Header;
use bitcoin::p2p::message_blockdata::Inventory;
use handfast_proto::headers::HeaderTree;
use handfast_proto::lifecycle::ConnId;
use handfast_wire::Message;
use handfast_wire::limits::MAX_HEADERS;

/// One peer.
#[derive(Debug)]
pub(super) struct Seen {
    /// When its handshake was complete.
    pub(super) ready: Duration,
    /// The block with most work that it has shown: it sent its header and all before it.
    pub(super) shown: Option<(BlockHash, Duration)>,
    /// The last block that it announced without showing its chain.
    pub(super) announced: Option<(BlockHash, Duration)>,
    /// The last header of a full `headers` message of it, after which no more were requested: it
    /// may have more.
    pub(super) more_after: Option<BlockHash>,
    /// Blocks that it answered with `notfound`: showing them again does not count.
    denied: BTreeSet<BlockHash>,
    /// When it was last asked for headers, last sent some, and the time before that.
    pub(super) headers_asked: Option<Duration>,
    pub(super) headers_came: Option<Duration>,
    pub(super) headers_before: Option<Duration>,
    /// Block requests without an answer, since when.
    pub(super) outstanding: BTreeMap<BlockHash, Duration>,
    /// When a block was last requested from it.
    pub(super) block_asked: Option<Duration>,
    /// Since when it should have been asked for headers, and for a block.
    pub(super) unasked_headers: Option<Duration>,
    pub(super) unasked_blocks: Option<Duration>,
}

impl Seen {
    fn new(now: Duration) -> Self {
        Self {
            ready: now,
            shown: None,
            announced: None,
            more_after: None,
            denied: BTreeSet::new(),
            headers_asked: None,
            headers_came: None,
            headers_before: None,
            outstanding: BTreeMap::new(),
            block_asked: None,
            unasked_headers: None,
            unasked_blocks: None,
        }
    }

    /// A request for headers is outstanding, and may still be answered.
    pub(super) fn is_asked_for_headers(&self, now: Duration, patience: Duration) -> bool {
        self.headers_asked
            .is_some_and(|at| self.headers_came.is_none_or(|came| came < at) && at + patience > now)
    }

    fn announces(&mut self, hash: BlockHash, now: Duration) {
        // The first time counts: a repeated announcement does not extend the wait.
        if self.announced.is_none_or(|(before, _)| before != hash) {
            self.announced = Some((hash, now));
        }
    }

    fn shows(&mut self, hash: BlockHash, headers: &HeaderTree, now: Duration) {
        let work = headers.get(&hash).map(|entry| entry.work);
        let before = self.shown.and_then(|(before, _)| headers.get(&before));
        if work > before.map(|entry| entry.work) && !self.denied.contains(&hash) {
            self.shown = Some((hash, now));
        }
    }
}

/// All peers of one node in one of its runs.
#[derive(Debug, Default)]
pub(super) struct Wire {
    pub(super) peers: BTreeMap<ConnId, Seen>,
    /// Hashes of all headers that any peer sent.
    received: BTreeSet<BlockHash>,
    /// When a header last came that no peer had sent before, and when a peer last sent a block that
    /// the kernel stored.
    pub(super) new_header: Duration,
    pub(super) new_block: Duration,
}

impl Wire {
    pub(super) fn begins(&mut self, id: ConnId, now: Duration) {
        self.peers.insert(id, Seen::new(now));
    }

    pub(super) fn ends(&mut self, id: ConnId) {
        self.peers.remove(&id);
    }

    /// The message was sent to a peer.
    pub(super) fn sent(&mut self, id: ConnId, message: &Message, now: Duration) {
        let Some(peer) = self.peers.get_mut(&id) else {
            return;
        };
        match message {
            Message::GetHeaders(locator) => {
                peer.headers_asked = Some(now);
                if locator.hashes.first() == peer.more_after.as_ref() {
                    peer.more_after = None;
                }
            }
            Message::GetData(items) => {
                for hash in blocks(items) {
                    peer.outstanding.entry(hash).or_insert(now);
                    peer.block_asked = Some(now);
                }
            }
            _ => {}
        }
    }

    /// A peer sent the message. `headers` are all headers that were ever sent in the run.
    pub(super) fn received(
        &mut self,
        id: ConnId,
        message: &Message,
        headers: &mut HeaderTree,
        now: Duration,
    ) {
        let Some(peer) = self.peers.get_mut(&id) else {
            return;
        };
        match message {
            Message::Headers(batch) => {
                peer.headers_before = peer.headers_came.replace(now);
                let Some(last) = batch.last().map(Header::block_hash) else {
                    return;
                };
                if note(headers, batch) {
                    peer.shows(last, headers, now);
                    if batch.len() == MAX_HEADERS {
                        peer.more_after = Some(last);
                    } else if peer.shown.is_some_and(|(shown, _)| shown == last) {
                        peer.more_after = None;
                    }
                    if self.received.insert(last) {
                        self.new_header = now;
                        self.received.extend(batch.iter().map(Header::block_hash));
                    }
                } else {
                    peer.announces(last, now);
                }
            }
            Message::Inv(items) => {
                for hash in blocks(items) {
                    peer.announces(hash, now);
                }
            }
            Message::Block(block) => {
                peer.outstanding.remove(&block.hash);
                if note(headers, &[block.header]) {
                    peer.shows(block.hash, headers, now);
                }
            }
            Message::NotFound(items) => {
                for hash in blocks(items) {
                    peer.outstanding.remove(&hash);
                    let shown = peer
                        .shown
                        .filter(|(shown, _)| *shown == hash || headers.is_ancestor(&hash, shown));
                    if let Some((shown, _)) = shown {
                        peer.denied.insert(shown);
                        peer.shown = None;
                    }
                }
            }
            _ => {}
        }
    }
}

/// Adds headers to the tree of all that were seen. False when they are not a chain with proof of
/// work on a known header.
fn note(headers: &mut HeaderTree, batch: &[Header]) -> bool {
    let mut pairs = batch.windows(2);
    if !pairs.all(|pair| pair[1].prev_blockhash == pair[0].block_hash()) {
        return false;
    }
    batch.iter().all(|header| {
        let hash = header.block_hash();
        header.target().is_met_by(hash) && headers.insert_hashed(hash, *header).is_ok()
    })
}

fn blocks(items: &[Inventory]) -> impl Iterator<Item = BlockHash> {
    items.iter().filter_map(|item| match item {
        Inventory::Block(hash) | Inventory::WitnessBlock(hash) => Some(*hash),
        _ => None,
    })
}
