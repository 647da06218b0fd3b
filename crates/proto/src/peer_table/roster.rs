//! The admitted peers, and how many there are of each direction.
//!
//! How many is asked in every step, so it is counted as peers come and go instead of
//! by looking at each of them: with 300 peers that was a third of a step's work.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::ops::Deref;
use std::time::Duration;

use super::PeerRow;
use super::gossip::Allowance;
use crate::lifecycle::{ConnId, Direction, Introduction};
use crate::time::Now;

/// An admitted peer.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Peer {
    pub(super) introduction: Introduction,
    pub(super) admitted_at: Now,
    /// The named node that it is.
    pub(super) name: Option<String>,
    /// It was told to go. Set by [`Roster::begin_closing`], which counts it.
    closing: bool,
    pub(super) allowance: Allowance,
    pub(super) getaddr_answered: bool,
    /// We asked it for addresses, and its answer is not over.
    pub(super) getaddr_pending: bool,
    /// Our end of its socket.
    pub(super) local: Option<SocketAddr>,
    pub(super) fee_filter: Option<u64>,
    /// When it last brought a block that was new to us, as far as sync told.
    pub(super) useful_at: Option<Duration>,
    /// Its shortest round trip when it was last asked for.
    pub(super) round_trip: Option<Duration>,
}

impl Peer {
    pub(super) fn new(introduction: Introduction, name: Option<String>, now: Now) -> Self {
        let outgoing = introduction.direction.is_outgoing();
        Self {
            introduction,
            admitted_at: now,
            name,
            closing: false,
            allowance: Allowance::new(now, outgoing),
            getaddr_answered: false,
            getaddr_pending: outgoing,
            local: None,
            fee_filter: None,
            useful_at: None,
            round_trip: None,
        }
    }

    /// Whether it was told to go.
    pub(super) fn closing(&self) -> bool {
        self.closing
    }

    pub(super) fn row(&self) -> PeerRow {
        PeerRow {
            id: self.introduction.id,
            remote: self.introduction.remote,
            direction: self.introduction.direction,
            name: self.name.clone(),
            introduction: self.introduction.clone(),
            admitted_at: self.admitted_at,
            closing: self.closing,
            fee_filter: self.fee_filter,
            relays_addresses: false,
            addresses_processed: self.allowance.processed,
            addresses_rate_limited: self.allowance.rate_limited,
        }
    }
}

/// Peers of one direction.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
struct Count {
    all: usize,
    closing: usize,
}

/// The admitted peers, and no others. Reads as the map that it keeps.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(super) struct Roster {
    peers: BTreeMap<ConnId, Peer>,
    inbound: Count,
    outbound: Count,
    manual: Count,
}

impl Deref for Roster {
    type Target = BTreeMap<ConnId, Peer>;

    fn deref(&self) -> &Self::Target {
        &self.peers
    }
}

impl Roster {
    /// Adds a peer that is not in the table.
    pub(super) fn insert(&mut self, peer: Peer) {
        self.count_mut(peer.introduction.direction).all += 1;
        let id = peer.introduction.id;
        let before = self.peers.insert(id, peer);
        assert!(before.is_none(), "L2: {id} is admitted once");
    }

    pub(super) fn remove(&mut self, id: ConnId) -> Option<Peer> {
        let peer = self.peers.remove(&id)?;
        let count = self.count_mut(peer.introduction.direction);
        count.all -= 1;
        count.closing -= usize::from(peer.closing);
        Some(peer)
    }

    pub(super) fn get_mut(&mut self, id: ConnId) -> Option<&mut Peer> {
        self.peers.get_mut(&id)
    }

    /// Marks a peer as told to go. False when it was told before, or is not here.
    pub(super) fn begin_closing(&mut self, id: ConnId) -> bool {
        let Some(peer) = self.peers.get_mut(&id).filter(|peer| !peer.closing) else {
            return false;
        };
        peer.closing = true;
        let direction = peer.introduction.direction;
        self.count_mut(direction).closing += 1;
        true
    }

    /// Peers of this direction, closing ones included: their slots are not home yet.
    pub(super) fn count(&self, direction: Direction) -> usize {
        self.counted(direction).all
    }

    /// Peers of this direction that were not told to go.
    pub(super) fn count_staying(&self, direction: Direction) -> usize {
        let count = self.counted(direction);
        count.all - count.closing
    }

    /// Those peers themselves.
    pub(super) fn staying(&self, direction: Direction) -> impl Iterator<Item = &Peer> {
        self.peers
            .values()
            .filter(move |peer| peer.introduction.direction == direction && !peer.closing)
    }

    fn counted(&self, direction: Direction) -> Count {
        match direction {
            Direction::Inbound => self.inbound,
            Direction::Outbound => self.outbound,
            Direction::Manual => self.manual,
        }
    }

    fn count_mut(&mut self, direction: Direction) -> &mut Count {
        match direction {
            Direction::Inbound => &mut self.inbound,
            Direction::Outbound => &mut self.outbound,
            Direction::Manual => &mut self.manual,
        }
    }
}
