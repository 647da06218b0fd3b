//! Those who promise blocks: the target may choose them to sync from, and then they are
//! gone, or worse, still there.

use bitcoin::BlockHash;
use bitcoin::block::{Header, Version};
use bitcoin::hashes::Hash;
use bitcoin::p2p::message_blockdata::Inventory;
use handfast_wire::{Kind, Message};

use super::behaviour::Behaviour;
use super::machine::Heard;
use crate::blocks::BLOCK_VERSION;
use crate::voice::{Dialect, Dice, Voice};

/// Different headers on top of one block at most, all connections together.
///
/// On regtest Core's engine checks its whole index with every header (`fDefaultConsistencyChecks`),
/// which takes as long as the square of the headers beside each other: with 3,000 of them 50 ms
/// a header, in which it connects no block. That says nothing of the target, nor of any
/// network where a header costs work.
const BESIDE_EACH_OTHER: u64 = 16;
/// How much later than the beginning of the run a promised header is, seconds. It must be later
/// than the median of the eleven blocks before it, of which the fuzzer makes one every few
/// seconds, or it is refused at once and promises nothing; and at most two hours later than the
/// target's clock. Core `MAX_FUTURE_BLOCK_TIME`.
const LATER: u32 = 3_600;
/// Regtest's limit: every second hash meets it.
const EASY_BITS: u32 = 0x207f_ffff;

/// What is promised, and how the promise is broken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Promise {
    /// Claims a great height in its `version`, and is silent once it is asked for headers.
    HighClaim,
    /// Answers the first `getheaders`, where it can with a header that has more work than
    /// the target's chain, and leaves.
    SyncThenDrop,
    /// Announces a block and never delivers it.
    Stall,
}

/// A peer that promises blocks.
#[derive(Debug)]
pub(super) struct Promising(pub(super) Promise);

impl Behaviour for Promising {
    fn version(&mut self, voice: &mut Voice<'_>) {
        let height = voice.dice.pick(1_000_000..1 << 31);
        let height = i32::try_from(height).expect("below 2^31");
        voice.version_claiming(height);
    }

    fn ready(&mut self, voice: &mut Voice<'_>) {
        let stay = match self.0 {
            // Long enough to be asked, not so long that a run consists of waiting.
            Promise::HighClaim | Promise::SyncThenDrop => voice.dice.time(200..3_000),
            Promise::Stall => {
                announce(voice);
                voice.dice.time(500..5_000)
            }
        };
        voice.wake(stay);
    }

    fn heard(&mut self, heard: Heard<'_>, voice: &mut Voice<'_>) {
        match (self.0, heard.kind) {
            (Promise::SyncThenDrop, Some(Kind::GetHeaders)) => {
                let headers = better_header(heard, voice);
                voice.say(&Message::Headers(headers.into_iter().collect()));
                voice.leave_somehow();
            }
            (Promise::Stall, Some(Kind::GetHeaders)) => {
                let headers = better_header(heard, voice);
                voice.say(&Message::Headers(headers.into_iter().collect()));
            }
            // Silence is what this is about.
            _ => {}
        }
    }
}

/// Announces a block that nobody has: by a header where one can be made, else by a hash.
fn announce(voice: &mut Voice<'_>) {
    let dialect = &voice.phrases.dialect;
    if dialect.easy_work {
        let parent = dialect.genesis.block_hash();
        let time = dialect.genesis.time + 1;
        let header = easy_header(parent, time, voice.dice);
        voice.say(&Message::Headers(vec![header]));
    } else {
        let hash = random_hash(voice.dice);
        voice.say(&Message::Inv(vec![Inventory::Block(hash)]));
    }
}

/// A header on top of the block that the target asks for more after; none where headers
/// cost work.
fn better_header(heard: Heard<'_>, voice: &mut Voice<'_>) -> Option<Header> {
    let dialect: &Dialect = &voice.phrases.dialect;
    if !dialect.easy_work {
        return None;
    }
    let payload = bytes::Bytes::copy_from_slice(heard.payload);
    let Ok(Message::GetHeaders(locator)) = Message::decode(Kind::GetHeaders.name(), payload) else {
        return None;
    };
    let tip = *locator.hashes.first()?;
    let time = dialect.time.saturating_add(LATER);
    Some(easy_header(tip, time, voice.dice))
}

pub(super) fn random_hash(dice: &mut Dice) -> BlockHash {
    let bytes = dice.bytes(32);
    BlockHash::from_slice(&bytes).expect("32 bytes")
}

/// A header with the proof of work that regtest wants, for transactions that do not exist.
fn easy_header(parent: BlockHash, time: u32, dice: &mut Dice) -> Header {
    let mut root = [0x68; 32];
    root[0] = u8::try_from(dice.pick(0..BESIDE_EACH_OTHER)).expect("they are few");
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
    use crate::voice::{Memory, Phrases};

    #[test]
    fn few_headers_are_beside_each_other_and_are_different_on_every_block() {
        let of = |parent: BlockHash| {
            let headers = (0..1_000).map(|seed| easy_header(parent, 1, &mut Dice::new(seed)));
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
            let header = easy_header(parent, 1, &mut Dice::new(seed));
            header
                .validate_pow(bitcoin::Target::MAX_ATTAINABLE_REGTEST)
                .expect("it meets the target");
        }
    }

    #[test]
    fn a_promised_header_is_later_than_the_blocks_that_the_fuzzer_makes_within_an_hour() {
        let dialect = Dialect::new(&Network::Regtest, 1_700_000_000);
        let locator = Message::GetHeaders(Locator {
            hashes: vec![dialect.genesis.block_hash()],
            stop: BlockHash::all_zeros(),
        });
        let mut payload = bytes::BytesMut::new();
        locator.encode_payload(&mut payload);
        let heard = Heard {
            kind: Some(Kind::GetHeaders),
            payload: &payload,
        };
        let phrases = Phrases::new(dialect);
        let mut voice = Voice {
            phrases: &phrases,
            dice: &mut Dice::new(1),
            memory: &mut Memory::default(),
            acts: &mut Vec::new(),
        };
        let header = better_header(heard, &mut voice).expect("they cost no work");
        assert_eq!(header.time, 1_700_000_000 + 3_600);
    }
}
