//! What sync knows of one peer.

use std::collections::{BTreeMap, VecDeque};
use std::net::SocketAddr;
use std::time::Duration;

use bitcoin::BlockHash;
use bitcoin::Work;
use bitcoin::p2p::ServiceFlags;

use crate::headers::{Entry, LowWork};
use crate::lifecycle::{Direction, Introduction};

use super::HeadersAsk;
use super::chain_sync::ChainSync;

/// Blocks behind its tip that a pruned peer (BIP159) keeps, less two for races. Core
/// `NODE_NETWORK_LIMITED_MIN_BLOCKS`.
const LIMITED_DEPTH: u32 = 288 - 2;

/// Which blocks a peer offers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Serves {
    /// None: it is no full node.
    Nothing,
    /// The latest ones (`NODE_NETWORK_LIMITED`).
    Recent,
    /// All (`NODE_NETWORK`).
    Everything,
}

/// A block that a peer has, with what is needed to compare it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Known {
    pub(super) hash: BlockHash,
    pub(super) height: u32,
    pub(super) work: Work,
}

impl From<&Entry> for Known {
    fn from(entry: &Entry) -> Self {
        Self {
            hash: entry.hash,
            height: entry.height,
            work: entry.work,
        }
    }
}

/// A `getheaders` without an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Ask {
    pub(super) kind: HeadersAsk,
    /// When it was sent, monotonic.
    pub(super) at: Duration,
    /// Height of the first hash of its locator.
    pub(super) from: u32,
}

/// A peer that is not to be the sync peer for some time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Aside {
    /// Until then, monotonic.
    pub(super) until: Duration,
    pub(super) why: &'static str,
    /// It was silent, so any answer ends it.
    pub(super) ends_by_answer: bool,
}

/// A `getheaders` that asks whether the peer has `block`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Probe {
    pub(super) block: BlockHash,
    pub(super) at: Duration,
}

/// Why a block that a peer has shown could not be had of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Unavailable {
    /// It said that it does not have it.
    Lacked,
    /// Its time, Unix seconds, is too far ahead of our clock.
    TooNew(u32),
    /// The engine could not judge it.
    Unjudged,
}

/// A chain that a peer has shown, with a block that could not be had of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Retry {
    /// The end of the chain.
    pub(super) best: BlockHash,
    pub(super) why: Unavailable,
    /// Not to be tried again before, monotonic.
    pub(super) again: Duration,
}

/// One admitted peer.
#[derive(Clone, Debug)]
pub(super) struct Peer {
    pub(super) direction: Direction,
    pub(super) remote: SocketAddr,
    pub(super) serves: Serves,
    /// It serves witness data; without that no block is asked of it.
    pub(super) witness: bool,
    /// We ordered its end; only `Done` is awaited.
    pub(super) leaving: bool,
    pub(super) headers: PeerHeaders,
    pub(super) known: PeerKnown,
    /// When PeerManager last heard that it brought a new block.
    pub(super) told_useful: Option<Duration>,
    pub(super) serving: PeerServing,
    pub(super) chain_sync: ChainSync,
}

/// Header sync with one peer.
#[derive(Clone, Debug, Default)]
pub(super) struct PeerHeaders {
    pub(super) ask: Option<Ask>,
    /// When it was last asked for anything but a probe.
    pub(super) last_asked: Duration,
    /// It has answered a `getheaders` at least once.
    pub(super) answered: bool,
    /// Its headers were followed to their end (as of then).
    pub(super) ended: bool,
    /// Not to be the sync peer until then, and why.
    pub(super) aside: Option<Aside>,
    /// Low-work chains of it that were given up.
    pub(super) given_up: u32,
    /// When its low-work headers began to be followed, monotonic.
    pub(super) low_work_since: Duration,
    pub(super) low_work: Option<Box<LowWork>>,
    /// Since when an announcement of it waits: it named a block that we do not know, and
    /// could not be asked for its headers at once.
    pub(super) unasked_announcement: Option<Duration>,
    /// It sent `sendheaders`.
    pub(super) wants_headers: bool,
    /// We sent `sendheaders`.
    pub(super) told_sendheaders: bool,
}

/// What a peer has shown to have.
#[derive(Clone, Debug)]
pub(super) struct PeerKnown {
    /// The best block it has shown. Core `pindexBestKnownBlock`.
    pub(super) best: Option<Known>,
    /// The last block it announced that we have no header of. Core `hashLastUnknownBlock`.
    pub(super) unknown: Option<BlockHash>,
    /// What it has shown, and cannot be had for now.
    pub(super) retry: Option<Retry>,
    /// How often it has lacked a block that it had shown, since it last delivered one.
    pub(super) lacked: u32,
    /// The best header we sent it. Core `pindexBestHeaderSent`.
    pub(super) sent: Option<BlockHash>,
    pub(super) probe: Option<Probe>,
    /// Not to be probed before.
    pub(super) next_probe: Duration,
    /// Pause after the next probe that shows nothing new.
    pub(super) probe_pause: Duration,
}

/// What we serve to one peer.
#[derive(Clone, Debug, Default)]
pub(super) struct PeerServing {
    /// Blocks it asked for, and whether with witness.
    pub(super) queue: VecDeque<(BlockHash, bool)>,
    /// Being read and sent, by ticket.
    pub(super) active: BTreeMap<u64, BlockHash>,
    /// When this one was sent, it wants to hear of the tip (`getblocks`). Core
    /// `m_continuation_block`.
    pub(super) continuation: Option<BlockHash>,
}

impl Peer {
    pub(super) fn new(intro: &Introduction, first_probe_pause: Duration) -> Self {
        let serves = if intro.services.has(ServiceFlags::NETWORK) {
            Serves::Everything
        } else if intro.services.has(ServiceFlags::NETWORK_LIMITED) {
            Serves::Recent
        } else {
            Serves::Nothing
        };
        Self {
            direction: intro.direction,
            remote: intro.remote,
            serves,
            witness: intro.services.has(ServiceFlags::WITNESS),
            leaving: false,
            headers: PeerHeaders::default(),
            known: PeerKnown {
                best: None,
                unknown: None,
                retry: None,
                lacked: 0,
                sent: None,
                probe: None,
                next_probe: Duration::ZERO,
                probe_pause: first_probe_pause,
            },
            told_useful: None,
            serving: PeerServing::default(),
            chain_sync: ChainSync::default(),
        }
    }

    /// Whether headers may be asked of it at all.
    pub(super) fn serves_headers(&self) -> bool {
        !self.leaving && self.serves != Serves::Nothing
    }

    /// Whether blocks may be asked of it at all.
    pub(super) fn serves_blocks(&self) -> bool {
        self.serves_headers() && self.witness
    }

    /// Whether it may be the sync peer now.
    pub(super) fn eligible(&self) -> bool {
        self.serves_headers() && self.headers.aside.is_none()
    }

    /// The lowest height that it keeps.
    pub(super) fn lowest_kept(&self) -> u32 {
        match (self.serves, self.known.best) {
            (Serves::Everything, _) | (_, None) => 0,
            (Serves::Recent | Serves::Nothing, Some(best)) => {
                best.height.saturating_sub(LIMITED_DEPTH)
            }
        }
    }

    /// Shifts every running timer by the time during which we did not look.
    pub(super) fn pardon(&mut self, late: Duration) {
        if let Some(ask) = &mut self.headers.ask {
            ask.at += late;
        }
        if let Some(probe) = &mut self.known.probe {
            probe.at += late;
        }
        self.chain_sync.pardon(late);
    }
}
