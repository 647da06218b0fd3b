//! What connections send: messages as bytes, and random numbers from the connection's seed.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bitcoin::BlockHash;
use bitcoin::block::Header;
use bitcoin::hashes::Hash;
use bitcoin::p2p::ServiceFlags;
use bitcoin::p2p::address::Address;
use bytes::{Bytes, BytesMut};
use handfast_wire::{HEADER_BYTES, Message, Network, RawBlock, Version, checksum};
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

use crate::blocks;
use crate::scenario::{Act, Frames, Leave, Wrong};

/// Core `PROTOCOL_VERSION` since `wtxidrelay`.
pub const PROTOCOL_VERSION: i32 = 70_016;
/// Versions above this are answered `pong` (BIP31). Core `BIP0031_VERSION`.
pub const PONG_ABOVE_VERSION: i32 = 60_000;
/// Our user agent (BIP14).
const USER_AGENT: &str = "/handfast-fuzz/";

/// How far above the target's height connections claim to be: a long run mines fewer blocks.
const AHEAD: i32 = 10_000;

/// Where the nonce is in the payload of a `version`: after version, services, time and two
/// addresses.
const NONCE_AT: usize = 4 + 8 + 8 + 26 + 26;
/// Where the checksum is in a frame header.
const CHECKSUM_AT: usize = 20;

/// Parameters of our peers for one target.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PeerParams {
    /// The message start bytes.
    pub magic: [u8; 4],
    /// The protocol version in our `version` message.
    pub version: i32,
    /// Unix seconds, the same for all connections of a run, so that the same seed gives the
    /// same bytes.
    pub time: u32,
    /// Whether blocks cost no work: the proof-of-work limit is that of regtest.
    pub easy_work: bool,
    /// Whether our blocks are valid there, at whatever cost.
    pub mines: bool,
    /// The genesis block, which every node of the network knows.
    pub genesis: Header,
    /// The target's handshake timeout.
    pub handshake_deadline: Duration,
    /// The height of the target's chain, as it reports; 0 before that is known.
    pub height: i32,
}

impl PeerParams {
    /// The parameters of a network, with the current protocol version and Core's handshake
    /// timeout.
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

    /// The time for a block, Unix seconds: the real one, since a target checks it against its own
    /// clock.
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

/// The frames that most connections send, encoded once.
#[derive(Clone, Debug)]
pub struct FrameSet {
    pub(crate) params: PeerParams,
    /// With a nonce of zero.
    version: Bytes,
    verack: Bytes,
    /// Frames of some megabytes.
    pub(crate) heavy: Frames,
}

impl FrameSet {
    /// The frames for these parameters.
    #[must_use]
    pub fn new(params: PeerParams) -> Self {
        let magic = params.bitcoin_magic();
        let version = encode(magic, &version(&params, 0, claimed(&params)));
        assert_eq!(version[HEADER_BYTES + NONCE_AT..][..8], [0; 8]);
        Self {
            verack: encode(magic, &Message::Verack),
            heavy: Frames::default(),
            version,
            params,
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

/// The height that most connections claim: high enough that a target which selects its sync peer
/// by it selects them, even when its chain has grown meanwhile. Losing a peer that is no
/// candidate would test nothing.
fn claimed(params: &PeerParams) -> i32 {
    params.height.saturating_add(AHEAD)
}

/// A `version` without transaction relay (BIP37).
fn version(params: &PeerParams, nonce: u64, height: i32) -> Message {
    let nowhere = SocketAddr::from((Ipv4Addr::UNSPECIFIED, 0));
    let nowhere = Address::new(&nowhere, ServiceFlags::NONE);
    Message::Version(Version {
        version: params.version,
        services: ServiceFlags::NETWORK | ServiceFlags::WITNESS,
        timestamp: params.time.into(),
        receiver: nowhere.clone(),
        sender: Some(nowhere),
        nonce: Some(nonce),
        user_agent: USER_AGENT.to_owned(),
        start_height: Some(height),
        relay: false,
    })
}

/// The `version` of an honest peer, which may have a block that is new to the target.
pub(crate) fn honest_version(params: &PeerParams, nonce: u64) -> Message {
    version(params, nonce, params.height.saturating_add(1))
}

/// The random numbers of one connection.
#[derive(Clone, Debug)]
pub struct ConnectionRng(ChaCha8Rng);

impl ConnectionRng {
    /// The numbers of a seed.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        Self(ChaCha8Rng::seed_from_u64(seed))
    }

    /// A number in this range.
    pub fn pick(&mut self, range: std::ops::Range<u64>) -> u64 {
        self.0.random_range(range)
    }

    /// A time in this range, in whole milliseconds.
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

/// What connections of a run learn about the target and share.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Memory {
    /// The nonce of the target's latest `version`.
    pub nonce: Option<u64>,
    /// Blocks made so far, by parent and number: where they cost work they are made once. The
    /// content depends on the key only.
    mined: BTreeMap<(BlockHash, u64), RawBlock>,
}

/// Most blocks in memory.
const MINED: usize = 256;

/// The actions of a machine: messages, or raw bytes where a message would be too well-formed.
#[derive(Debug)]
pub struct Writer<'a> {
    pub(crate) frame_set: &'a FrameSet,
    pub(crate) rng: &'a mut ConnectionRng,
    pub(crate) memory: &'a mut Memory,
    pub(crate) acts: &'a mut Vec<Act>,
}

impl Writer<'_> {
    /// The parameters of the target.
    pub(crate) fn params(&self) -> &PeerParams {
        &self.frame_set.params
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
        let block = blocks::shown(chain, &self.frame_set.params, number, || true)?;
        self.memory.mined.insert(key, block.clone());
        Some(block)
    }

    pub(crate) fn send(&mut self, message: &Message) {
        let frame = encode(self.frame_set.params.bitcoin_magic(), message);
        self.raw(frame);
    }

    pub(crate) fn raw(&mut self, bytes: Bytes) {
        self.acts.push(Act::Send(bytes));
    }

    /// Our `version`, with a nonce from the seed.
    pub(crate) fn version(&mut self) {
        let nonce = self.rng.any();
        let frame = self.frame_set.version(nonce);
        self.raw(frame);
    }

    /// The same with a nonce of another peer.
    pub(crate) fn version_with_nonce(&mut self, nonce: u64) {
        let frame = self.frame_set.version(nonce);
        self.raw(frame);
    }

    /// The same with this height.
    pub(crate) fn version_claiming(&mut self, height: i32) {
        let nonce = self.rng.any();
        let message = version(&self.frame_set.params, nonce, height);
        self.send(&message);
    }

    pub(crate) fn verack(&mut self) {
        self.raw(self.frame_set.verack.clone());
    }

    pub(crate) fn wake(&mut self, after: Duration) {
        self.acts.push(Act::Wake(after));
    }

    pub(crate) fn gather(&mut self) {
        self.acts.push(Act::Gather);
    }

    pub(crate) fn report_wrong(&mut self, wrong: Wrong) {
        self.acts.push(Act::ReportWrong(wrong));
    }

    pub(crate) fn leave(&mut self, how: Leave) {
        self.acts.push(Act::Leave(how));
    }

    /// Disconnects in a way that the seed selects.
    pub(crate) fn leave_randomly(&mut self) {
        let how = match self.rng.pick(0..3) {
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

    fn frame_set() -> FrameSet {
        FrameSet::new(PeerParams::new(&Network::Regtest, 1_700_000_000))
    }

    #[test]
    fn a_patched_version_is_the_one_that_would_have_been_encoded() {
        let frame_set = frame_set();
        let nonce = 0x0123_4567_89ab_cdef;
        let expected = version(&frame_set.params, nonce, AHEAD);
        let expected = encode(frame_set.params.bitcoin_magic(), &expected);
        assert_eq!(frame_set.version(nonce), expected);
        let payload = expected.slice(HEADER_BYTES..);
        let Ok(Message::Version(decoded)) = Message::decode(Kind::Version.name(), payload) else {
            panic!("it is a version");
        };
        assert_eq!(decoded.nonce, Some(nonce));
    }

    #[test]
    fn connections_claim_a_much_greater_height_and_an_honest_peer_one_more_block() {
        let params = PeerParams {
            height: 500,
            ..frame_set().params
        };
        let claims =
            |frame: Bytes| match Message::decode(Kind::Version.name(), frame.slice(HEADER_BYTES..))
            {
                Ok(Message::Version(version)) => version.start_height,
                other => panic!("it is a version: {other:?}"),
            };
        let honest = encode(params.bitcoin_magic(), &honest_version(&params, 1));
        assert_eq!(claims(honest), Some(501));
        assert_eq!(claims(FrameSet::new(params).version(1)), Some(500 + AHEAD));
    }

    #[test]
    fn the_same_seed_gives_the_same_numbers_and_another_one_others() {
        let numbers = |seed| {
            let mut rng = ConnectionRng::new(seed);
            (rng.any(), rng.pick(0..1_000_000), rng.bytes(9))
        };
        assert_eq!(numbers(7), numbers(7));
        assert_ne!(numbers(7), numbers(8));
    }
}
