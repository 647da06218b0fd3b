//! Peers that announce blocks: the target may select them as sync peer, and then they disconnect,
//! or worse, stay silent.

use bitcoin::BlockHash;
use bitcoin::block::{Header, Version};
use bitcoin::hashes::Hash;
use bitcoin::p2p::message_blockdata::Inventory;
use handfast_wire::{Kind, Message};

use super::behaviour::Behaviour;
use super::machine::ReceivedFrame;
use crate::blocks::BLOCK_VERSION;
use crate::writer::{ConnectionRng, PeerParams, Writer};

/// Most sibling headers on one block, of all connections.
///
/// On regtest Core's engine checks its whole index with every header
/// (`fDefaultConsistencyChecks`), in time quadratic in the number of siblings: with 3,000 of them
/// 50 ms a header, in which it connects no block. That is no property of the target, nor of a
/// network where headers cost work.
const BESIDE_EACH_OTHER: u64 = 16;
/// How much later than the start of the run an announced header is, seconds. It must be later
/// than the median of the eleven blocks before it, of which the fuzzer makes one every few
/// seconds, or it is refused at once; and at most two hours later than the target's clock. Core
/// `MAX_FUTURE_BLOCK_TIME`.
const LATER: u32 = 3_600;
/// Regtest's limit: every second hash is below it.
const EASY_BITS: u32 = 0x207f_ffff;

/// What is announced, and why it is never delivered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Promise {
    /// Claims a great height in its `version`, and does not answer `getheaders`.
    HighClaim,
    /// Answers the first `getheaders`, if possible with a header that has more work than the
    /// target's chain, and disconnects.
    SyncThenDrop,
    /// Announces a block and never delivers it.
    Stall,
}

/// A peer that announces blocks.
#[derive(Debug)]
pub(super) struct Promising(pub(super) Promise);

impl Behaviour for Promising {
    fn version(&mut self, writer: &mut Writer<'_>) {
        let height = writer.rng.pick(1_000_000..1 << 31);
        let height = i32::try_from(height).expect("below 2^31");
        writer.version_claiming(height);
    }

    fn ready(&mut self, writer: &mut Writer<'_>) {
        let stay = match self.0 {
            // Long enough to get a request, short enough for a run of many connections.
            Promise::HighClaim | Promise::SyncThenDrop => writer.rng.time(200..3_000),
            Promise::Stall => {
                announce(writer);
                writer.rng.time(500..5_000)
            }
        };
        writer.wake(stay);
    }

    fn received(&mut self, received: ReceivedFrame<'_>, writer: &mut Writer<'_>) {
        match (self.0, received.kind) {
            (Promise::SyncThenDrop, Some(Kind::GetHeaders)) => {
                let headers = better_header(received, writer);
                writer.send(&Message::Headers(headers.into_iter().collect()));
                writer.leave_randomly();
            }
            (Promise::Stall, Some(Kind::GetHeaders)) => {
                let headers = better_header(received, writer);
                writer.send(&Message::Headers(headers.into_iter().collect()));
            }
            // It stays silent on purpose.
            _ => {}
        }
    }
}

/// Announces an unknown block: by a header where one can be made, else by a hash.
fn announce(writer: &mut Writer<'_>) {
    let params = &writer.frame_set.params;
    if params.easy_work {
        let parent = params.genesis.block_hash();
        let time = params.genesis.time + 1;
        let header = easy_header(parent, time, writer.rng);
        writer.send(&Message::Headers(vec![header]));
    } else {
        let hash = random_hash(writer.rng);
        writer.send(&Message::Inv(vec![Inventory::Block(hash)]));
    }
}

/// A header on top of the block that the target's `getheaders` starts from; none where headers
/// cost work.
/// cost work.
fn better_header(received: ReceivedFrame<'_>, writer: &mut Writer<'_>) -> Option<Header> {
    let params: &PeerParams = &writer.frame_set.params;
    if !params.easy_work {
        return None;
    }
    let payload = bytes::Bytes::copy_from_slice(received.payload);
    let Ok(Message::GetHeaders(locator)) = Message::decode(Kind::GetHeaders.name(), payload) else {
        return None;
    };
    let tip = *locator.hashes.first()?;
    let time = params.time.saturating_add(LATER);
    Some(easy_header(tip, time, writer.rng))
}

pub(super) fn random_hash(rng: &mut ConnectionRng) -> BlockHash {
    let bytes = rng.bytes(32);
    BlockHash::from_slice(&bytes).expect("32 bytes")
}

/// A header with regtest's proof of work, for transactions that do not exist.
fn easy_header(parent: BlockHash, time: u32, rng: &mut ConnectionRng) -> Header {
    let mut root = [0x68; 32];
    root[0] = u8::try_from(rng.pick(0..BESIDE_EACH_OTHER)).expect("they are few");
    let mut header = Header {
        version: Version::from_consensus(BLOCK_VERSION),
        prev_blockhash: parent,
        merkle_root: bitcoin::TxMerkleNode::from_slice(&root).expect("32 bytes"),
        time,
        bits: bitcoin::CompactTarget::from_consensus(EASY_BITS),
        nonce: 0,
    };
    // Two tries on average.
    while !header.target().is_met_by(header.block_hash()) {
        header.nonce += 1;
    }
    header
}

#[cfg(test)]
mod tests {
    use handfast_wire::{Locator, Network};

    use super::*;
    use crate::writer::{FrameSet, Memory};

    #[test]
    fn few_headers_are_siblings_and_they_differ_on_every_block() {
        let of = |parent: BlockHash| {
            let headers =
                (0..1_000).map(|seed| easy_header(parent, 1, &mut ConnectionRng::new(seed)));
            let hashes = headers.map(|header| header.block_hash());
            hashes.collect::<std::collections::BTreeSet<_>>()
        };
        let first = of(BlockHash::all_zeros());
        assert_eq!(first.len(), 16);
        let second = of(*first.first().expect("sixteen"));
        assert!(first.is_disjoint(&second));
    }

    #[test]
    fn a_promised_header_has_the_work_that_it_claims() {
        let parent = BlockHash::all_zeros();
        for seed in 0..50 {
            let header = easy_header(parent, 1, &mut ConnectionRng::new(seed));
            header
                .validate_pow(bitcoin::Target::MAX_ATTAINABLE_REGTEST)
                .expect("it meets the target");
        }
    }

    #[test]
    fn a_promised_header_is_later_than_the_blocks_that_the_fuzzer_makes_within_an_hour() {
        let params = PeerParams::new(&Network::Regtest, 1_700_000_000);
        let locator = Message::GetHeaders(Locator {
            hashes: vec![params.genesis.block_hash()],
            stop: BlockHash::all_zeros(),
        });
        let mut payload = bytes::BytesMut::new();
        locator.encode_payload(&mut payload);
        let received = ReceivedFrame {
            kind: Some(Kind::GetHeaders),
            payload: &payload,
        };
        let frame_set = FrameSet::new(params);
        let mut writer = Writer {
            frame_set: &frame_set,
            rng: &mut ConnectionRng::new(1),
            memory: &mut Memory::default(),
            acts: &mut Vec::new(),
        };
        let header = better_header(received, &mut writer).expect("they cost no work");
        assert_eq!(header.time, 1_700_000_000 + 3_600);
    }
}
