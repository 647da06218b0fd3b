//! Dialled peers that stay behind our chain make room for others. Core `ConsiderEviction`.
//!
//! We dial peers to learn of blocks. One that lags has none for us; eight of them, and we
//! are cut off from the network without noticing, since nobody shows more than we have.
//! So an automatic outbound peer that has not shown as much work as our tip for
//! [`CHAIN_SYNC_TIMEOUT`] is asked once more, from before the tip that it should have
//! reached by then, and disconnected when it has not answered with it within
//! [`HEADERS_RESPONSE_TIME`]. Four peers that have once been level are protected, so that
//! nobody can empty our slots by giving us a chain that others refuse.
//!
//! # Which peers
//!
//! Core compares with our own tip, on every network. So do we where blocks are found
//! all the time: who is 22 minutes behind there is stuck, or syncs from us. On a chain of
//! one's own that proves nothing: we may have mined the tip ourselves and be everybody's
//! source. There a peer counts as behind only when another live peer has our tip's work;
//! eight peers behind and none level are kept, and the state says that we are synced
//! since nobody has shown more. Never judged are peers that the operator named, those that
//! dialled us, those whose low-work headers are being followed, and anybody before our own
//! chain has the minimum work.

use std::time::Duration;

use bitcoin::{BlockHash, Work};

use crate::headers::Entry;
use crate::lifecycle::{ConnId, Direction, DoneReason};

use super::HeadersAsk;
use super::header_sync::HEADERS_RESPONSE_TIME;
use super::manager::{Step, SyncManager};
use super::peer::Peer;

/// Time for a peer to reach the tip that we have. Core `CHAIN_SYNC_TIMEOUT`.
pub(super) const CHAIN_SYNC_TIMEOUT: Duration = Duration::from_secs(20 * 60);
/// Peers never disconnected for lagging. Core
/// `MAX_OUTBOUND_PEERS_TO_PROTECT_FROM_DISCONNECT`.
pub(super) const MAX_PROTECTED: usize = 4;

/// Whether a peer keeps up with us.
#[derive(Clone, Copy, Debug, Default)]
pub(super) enum ChainSync {
    /// It has shown as much work as our tip, or need not.
    #[default]
    Level,
    /// It was level once and is never given up for lagging.
    Protected,
    /// It has less than we had when the time began.
    Behind(Behind),
}

/// A peer that is to reach our tip.
#[derive(Clone, Copy, Debug)]
pub(super) struct Behind {
    /// Our tip when the time began, which it must reach.
    pub(super) target: BlockHash,
    work: Work,
    /// When the time is over, monotonic.
    pub(super) until: Duration,
    /// It was asked once more; the end is its end.
    pub(super) asked: bool,
}

impl Behind {
    fn new(tip: &Entry, now: Duration) -> Self {
        Self {
            target: tip.hash,
            work: tip.work,
            until: now + CHAIN_SYNC_TIMEOUT,
            asked: false,
        }
    }
}

impl ChainSync {
    /// We were held up and may not have read its answer.
    pub(super) fn pardon(&mut self, late: Duration) {
        match self {
            Self::Behind(behind) => behind.until += late,
            Self::Level | Self::Protected => {}
        }
    }
}

impl SyncManager {
    /// Run with every check of the watchdog; the times are far longer than between those.
    pub(super) fn consider_evictions(&mut self, step: &mut Step) {
        if self.tree.tip().work < self.config.minimum_work {
            return;
        }
        let judged = |peer: &Peer| peer.direction == Direction::Outbound && peer.serves_headers();
        let ids: Vec<ConnId> = self
            .peers
            .iter()
            .filter(|(_, peer)| judged(peer) && peer.headers.low_work.is_none())
            .map(|(id, _)| *id)
            .collect();
        for id in ids {
            self.consider_eviction(step, id);
        }
    }

    fn consider_eviction(&mut self, step: &mut Step, id: ConnId) {
        let now = step.now.mono;
        let tip = self.tree.tip();
        let peer = &self.peers[&id];
        let (shown, before) = (self.work_of(peer), peer.chain_sync);
        let proven = peer.known.best.is_some();
        let after = match before {
            ChainSync::Protected => return,
            ChainSync::Level | ChainSync::Behind(_) if shown >= tip.work => {
                if proven && self.may_protect() {
                    ChainSync::Protected
                } else {
                    ChainSync::Level
                }
            }
            ChainSync::Level | ChainSync::Behind(_) if !self.lagging_matters(id, tip.work) => {
                ChainSync::Level
            }
            ChainSync::Level => ChainSync::Behind(Behind::new(&tip, now)),
            // It has moved: from now on it has time to reach the present tip.
            ChainSync::Behind(behind) if shown >= behind.work => {
                ChainSync::Behind(Behind::new(&tip, now))
            }
            ChainSync::Behind(behind) if now < behind.until => return,
            ChainSync::Behind(Behind { asked: true, .. }) => {
                return self.disconnect(step, id, DoneReason::StaleChain);
            }
            ChainSync::Behind(behind) => {
                let parent = self.tree.parent(&behind.target);
                let from = parent.map_or(behind.target, |parent| parent.hash);
                if self.peers[&id].headers.ask.is_none() {
                    self.ask(step, id, HeadersAsk::Tip, from);
                }
                ChainSync::Behind(Behind {
                    until: now + HEADERS_RESPONSE_TIME,
                    asked: true,
                    ..behind
                })
            }
        };
        self.live(id).chain_sync = after;
    }

    /// The work that a peer has shown; everybody has the genesis block.
    fn work_of(&self, peer: &Peer) -> Work {
        let genesis = || self.tree.at_height(0).expect("every tree has it").work;
        peer.known.best.map_or_else(genesis, |best| best.work)
    }

    fn lagging_matters(&self, id: ConnId, tip: Work) -> bool {
        let mut others = self.peers.iter().filter(|(other, _)| **other != id);
        self.config.always_mined
            || others.any(|(_, peer)| !peer.leaving && self.work_of(peer) >= tip)
    }

    fn may_protect(&self) -> bool {
        let protected = |peer: &&Peer| matches!(peer.chain_sync, ChainSync::Protected);
        self.peers.values().filter(protected).count() < MAX_PROTECTED
    }
}
