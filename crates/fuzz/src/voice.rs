//! What connections say: messages to bytes, random numbers from the connection's seed.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bitcoin::BlockHash;
use bitcoin::block::Header;
use bitcoin::hashes::Hash;
use bitcoin::p2p::ServiceFlags;
use bitcoin::p2p::address::Address;
use bytes::{Bytes, BytesMut};
pub use handfast_wire::constants::{PONG_ABOVE_VERSION, PROTOCOL_VERSION};
use handfast_wire::{HEADER_BYTES, Message, Network, RawBlock, Version, checksum};
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

use crate::blocks;
use crate::scenario::{Act, Frames, Leave, Wrong};

/// What we say that we are (BIP14).
const USER_AGENT: &str = "/handfast-fuzz/";

/// Blocks that connections claim to have more than the target: a long run mines fewer.
const AHEAD: i32 = 10_000;

/// Where the nonce is in the payload of a `version`: after version, services, time and two
/// addresses.
pub(crate) const NONCE_AT: usize = 4 + 8 + 8 + 26 + 26;
/// Where the checksum is in a frame header.
const CHECKSUM_AT: usize = 20;

/// How the target is to be addressed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Dialect {
    /// Opens every frame.
    pub magic: [u8; 4],
    /// The protocol version that we claim.
    pub version: i32,
    /// Unix seconds, the same for all connections of a run, so that the same seed gives the
    /// same bytes.
    pub time: u32,
    /// Whether blocks can be made for the asking: the target's proof-of-work limit is that
    /// of regtest.
    pub easy_work: bool,
    /// Whether blocks of ours are valid there, at whatever cost.
    pub mines: bool,
    /// The genesis block, which every node of the network knows.
    pub genesis: Header,
    /// After so long the target gives up a handshake.
    pub handshake_deadline: Duration,
    /// The height of the target's chain, as it says itself; 0 until it was asked.
    pub height: i32,
}

impl Dialect {
    /// That of a network, with the current protocol version and Core's handshake timeout.
    #[must_use]
    pub fn new(network: &Network, time: u32) -> Self {
        Self {
            magic: network.magic().to_bytes(),
            version: PROTOCOL_VERSION,
            time,
            easy_work: *network == Network::Regtest,
            mines: *network == Network::Regtest,
            genesis: network.genesis(),
            handshake_deadline: Duration::from_secs(60),
            height: 0,
        }
    }

    /// The time for a block, Unix seconds: the real one, since a target judges it by its
    /// own clock.
    #[must_use]
    pub fn now(&self) -> u32 {
        let now = SystemTime::now().duration_since(UNIX_EPOCH);
        now.map_or(self.time, |now| {
            u32::try_from(now.as_secs()).unwrap_or(u32::MAX)
        })
    }

    pub(crate) fn bitcoin_magic(&self) -> bitcoin::p2p::Magic {
        bitcoin::p2p::Magic::from_bytes(self.magic)
    }
}

/// The frames that most connections send, made once.
#[derive(Clone, Debug)]
pub struct Phrases {
    pub(crate) dialect: Dialect,
    /// With a nonce of zero.
    version: Bytes,
    verack: Bytes,
    /// Those of some megabytes.
    pub(crate) heavy: Frames,
}

impl Phrases {
    /// Those of a dialect.
    #[must_use]
    pub fn new(dialect: Dialect) -> Self {
        let magic = dialect.bitcoin_magic();
        let version = encode(magic, &version(&dialect, 0, claimed(&dialect)));
        assert_eq!(version[HEADER_BYTES + NONCE_AT..][..8], [0; 8]);
        Self {
            verack: encode(magic, &Message::Verack),
            heavy: Frames::default(),
            version,
            dialect,
        }
    }

    /// A `version` frame with this nonce.
    fn version(&self, nonce: u64) -> Bytes {
        let mut frame = BytesMut::from(&self.version[..]);
        let (head, payload) = frame.split_at_mut(HEADER_BYTES);
        payload[NONCE_AT..][..8].copy_from_slice(&nonce.to_le_bytes());
        head[CHECKSUM_AT..].copy_from_slice(&checksum(payload));
        frame.freeze()
    }
}

fn encode(magic: bitcoin::p2p::Magic, message: &Message) -> Bytes {
    let mut frame = BytesMut::new();
    message.encode_into(magic, &mut frame);
    frame.freeze()
}

/// What connections claim, but for those that claim more: enough that a target which chooses
/// by it takes them for peers to sync from, also when its chain has grown meanwhile. One that
/// is nobody to sync from is no loss when it leaves.
fn claimed(dialect: &Dialect) -> i32 {
    dialect.height.saturating_add(AHEAD)
}

/// A `version` that wants no transactions (BIP37).
fn version(dialect: &Dialect, nonce: u64, height: i32) -> Message {
    let nowhere = SocketAddr::from((Ipv4Addr::UNSPECIFIED, 0));
    let nowhere = Address::new(&nowhere, ServiceFlags::NONE);
    Message::Version(Version {
        version: dialect.version,
        services: ServiceFlags::NETWORK | ServiceFlags::WITNESS,
        timestamp: dialect.time.into(),
        receiver: nowhere.clone(),
        sender: Some(nowhere),
        nonce: Some(nonce),
        user_agent: USER_AGENT.to_owned(),
        start_height: Some(height),
        relay: false,
    })
}

/// The `version` of a peer who means well, and may have a block that is new to the target.
pub(crate) fn honest_version(dialect: &Dialect, nonce: u64) -> Message {
    version(dialect, nonce, dialect.height.saturating_add(1))
}

/// The random numbers of one connection.
#[derive(Clone, Debug)]
pub struct Dice(ChaCha8Rng);

impl Dice {
    /// Those that belong to a seed.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        Self(ChaCha8Rng::seed_from_u64(seed))
    }

    /// A number of this range.
    pub fn pick(&mut self, range: std::ops::Range<u64>) -> u64 {
        self.0.random_range(range)
    }

    /// A time of this range, in whole milliseconds.
    pub fn time(&mut self, milliseconds: std::ops::Range<u64>) -> Duration {
        Duration::from_millis(self.pick(milliseconds))
    }

    /// Any number.
    pub fn any(&mut self) -> u64 {
        self.0.random()
    }

    /// So many random bytes.
    pub fn bytes(&mut self, count: usize) -> Vec<u8> {
        let mut bytes = vec![0; count];
        self.0.fill(&mut bytes[..]);
        bytes
    }
}

/// What connections of a run know of the target from one another.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Memory {
    /// The nonce of the target's latest `version`.
    pub nonce: Option<u64>,
    /// Blocks that were made, by what they are on top of and their number: where they cost work
    /// they are made once. What is in it follows from what it is found by.
    mined: BTreeMap<(BlockHash, u64), RawBlock>,
}

/// Blocks that are kept at most.
const MINED: usize = 256;

/// How a machine acts: in messages, or in bytes where a message would be too well-formed.
#[derive(Debug)]
pub struct Voice<'a> {
    pub(crate) phrases: &'a Phrases,
    pub(crate) dice: &'a mut Dice,
    pub(crate) memory: &'a mut Memory,
    pub(crate) acts: &'a mut Vec<Act>,
}

impl Voice<'_> {
    /// What the target is like.
    pub(crate) fn dialect(&self) -> &Dialect {
        &self.phrases.dialect
    }

    /// See [`blocks::shown`].
    pub(crate) fn shown(&mut self, chain: &[Header], number: u64) -> Option<RawBlock> {
        let parent = chain.last().map(Header::block_hash);
        let key = (parent.unwrap_or(BlockHash::all_zeros()), number);
        if let Some(block) = self.memory.mined.get(&key) {
            return Some(block.clone());
        }
        if self.memory.mined.len() >= MINED {
            self.memory.mined.clear();
        }
        let block = blocks::shown(chain, &self.phrases.dialect, number, || true)?;
        self.memory.mined.insert(key, block.clone());
        Some(block)
    }

    pub(crate) fn say(&mut self, message: &Message) {
        let frame = encode(self.phrases.dialect.bitcoin_magic(), message);
        self.raw(frame);
    }

    pub(crate) fn raw(&mut self, bytes: Bytes) {
        self.acts.push(Act::Send(bytes));
    }

    /// Our `version`, with a nonce from the seed.
    pub(crate) fn version(&mut self) {
        let nonce = self.dice.any();
        let frame = self.phrases.version(nonce);
        self.raw(frame);
    }

    /// The same with a nonce that is not ours.
    pub(crate) fn version_with_nonce(&mut self, nonce: u64) {
        let frame = self.phrases.version(nonce);
        self.raw(frame);
    }

    /// The same with a claim.
    pub(crate) fn version_claiming(&mut self, height: i32) {
        let nonce = self.dice.any();
        let message = version(&self.phrases.dialect, nonce, height);
        self.say(&message);
    }

    pub(crate) fn verack(&mut self) {
        self.raw(self.phrases.verack.clone());
    }

    pub(crate) fn wake(&mut self, after: Duration) {
        self.acts.push(Act::Wake(after));
    }

    pub(crate) fn gather(&mut self) {
        self.acts.push(Act::Gather);
    }

    pub(crate) fn complain(&mut self, wrong: Wrong) {
        self.acts.push(Act::Complain(wrong));
    }

    pub(crate) fn leave(&mut self, how: Leave) {
        self.acts.push(Act::Leave(how));
    }

    /// Leaves in a way that the seed chooses.
    pub(crate) fn leave_somehow(&mut self) {
        let how = match self.dice.pick(0..3) {
            0 => Leave::Orderly,
            1 => Leave::Drop,
            _ => Leave::Reset,
        };
        self.leave(how);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use handfast_wire::Kind;

    fn phrases() -> Phrases {
        Phrases::new(Dialect::new(&Network::Regtest, 1_700_000_000))
    }

    #[test]
    fn a_patched_version_is_the_one_that_would_have_been_encoded() {
        let phrases = phrases();
        let nonce = 0x0123_4567_89ab_cdef;
        let expected = version(&phrases.dialect, nonce, AHEAD);
        let expected = encode(phrases.dialect.bitcoin_magic(), &expected);
        assert_eq!(phrases.version(nonce), expected);
        let payload = expected.slice(HEADER_BYTES..);
        let Ok(Message::Version(decoded)) = Message::decode(Kind::Version.name(), payload) else {
            panic!("it is a version");
        };
        assert_eq!(decoded.nonce, Some(nonce));
    }

    #[test]
    fn connections_claim_far_more_than_the_target_has_and_an_honest_peer_one_block() {
        let dialect = Dialect {
            height: 500,
            ..phrases().dialect
        };
        let claims =
            |frame: Bytes| match Message::decode(Kind::Version.name(), frame.slice(HEADER_BYTES..))
            {
                Ok(Message::Version(version)) => version.start_height,
                other => panic!("it is a version: {other:?}"),
            };
        let honest = encode(dialect.bitcoin_magic(), &honest_version(&dialect, 1));
        assert_eq!(claims(honest), Some(501));
        assert_eq!(claims(Phrases::new(dialect).version(1)), Some(500 + AHEAD));
    }

    #[test]
    fn the_same_seed_gives_the_same_numbers_and_another_one_others() {
        let numbers = |seed| {
            let mut dice = Dice::new(seed);
            (dice.any(), dice.pick(0..1_000_000), dice.bytes(9))
        };
        assert_eq!(numbers(7), numbers(7));
        assert_ne!(numbers(7), numbers(8));
    }
}
