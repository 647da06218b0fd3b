//! Outbound peers that stay behind our chain are replaced. Core `ConsiderEviction`.
//!
//! Outbound peers are there to announce blocks. One that lags has none for us; eight of them, and
//! we are cut off from the network without noticing, since no peer shows more than we have. So an
//! automatic outbound peer that has not shown as much work as our tip for [`CHAIN_SYNC_TIMEOUT`] is
//! sent one more `getheaders`, from before the tip that it should have reached by then, and
//! disconnected when it has not answered with it within [`HEADERS_RESPONSE_TIME`]. Four peers that
//! have once caught up are protected, so that no peer can empty our slots by giving us a chain that
//! others refuse.
//!
//! # Which peers
//!
//! Core compares with our tip, on every network. So do we where blocks are found all the time: a
//! peer that is 22 minutes behind there is stuck, or syncs from us. On a private chain that proves
//! nothing: we may have mined the tip ourselves and be the source of all peers. There a peer counts
//! as behind only when another live peer has our tip's work; eight peers behind and none level stay
//! connected, and the state says that we are synced since no peer has shown more. Manual peers,
//! inbound peers, peers whose low-work headers are being followed, and all peers before our chain
//! has the minimum work are exempt.

use std::collections::BTreeMap;
use std::time::Duration;

use bitcoin::{BlockHash, Work};

use crate::headers::{Entry, HeaderTree};
use crate::lifecycle::{ConnId, Direction};

use super::header_sync::{HEADERS_RESPONSE_TIME, HeaderSync};
use super::known_work::KnownWork;
use super::peers::Peers;

/// Time for a peer to reach the tip that we have. Core `CHAIN_SYNC_TIMEOUT`.
const CHAIN_SYNC_TIMEOUT: Duration = Duration::from_secs(20 * 60);
/// Peers never disconnected for lagging. Core
/// `MAX_OUTBOUND_PEERS_TO_PROTECT_FROM_DISCONNECT`.
pub(super) const MAX_PROTECTED: usize = 4;

/// Whether a peer keeps up with us. A peer without an entry is level: it has shown as much work as
/// our tip, or is exempt.
#[derive(Clone, Copy, Debug)]
enum Standing {
    /// It was level once and is never disconnected for lagging.
    Protected,
    /// It has less work than our tip when its timeout began.
    Behind(Behind),
}

/// A peer that must reach our tip.
#[derive(Clone, Copy, Debug)]
struct Behind {
    /// Our tip when the timeout began, which it must reach.
    target: BlockHash,
    work: Work,
    /// When the timeout ends, monotonic.
    until: Duration,
    /// It was sent the last `getheaders`; the next timeout disconnects it.
    asked: bool,
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

/// The action for a peer that stays behind.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Lagging {
    /// Request headers after this block, unless a request is outstanding.
    Ask(BlockHash),
    /// Disconnect it.
    Disconnect,
}

/// The state that the decision depends on.
#[derive(Clone, Copy)]
pub(super) struct View<'a> {
    pub(super) tree: &'a HeaderTree,
    pub(super) peers: &'a Peers,
    pub(super) known: &'a KnownWork,
    /// Blocks are found on this network all the time.
    pub(super) always_mined: bool,
    /// Monotonic.
    pub(super) now: Duration,
}

impl View<'_> {
    /// The work that a peer has shown; every peer has the genesis block.
    fn work_of(&self, id: ConnId) -> Work {
        let genesis = || self.tree.at_height(0).expect("every tree has it").work;
        self.known.best(id).map_or_else(genesis, |best| best.work)
    }

    fn lagging_matters(&self, id: ConnId, tip: Work) -> bool {
        let mut others = self.peers.iter_live().filter(|(other, _)| *other != id);
        self.always_mined || others.any(|(other, _)| self.work_of(other) >= tip)
    }
}

/// Peers that stay behind our chain. See the module.
///
/// Invariant: at most [`MAX_PROTECTED`] peers are protected.
#[derive(Clone, Debug, Default)]
pub(super) struct ChainSync {
    peers: BTreeMap<ConnId, Standing>,
}

impl ChainSync {
    pub(super) fn removed(&mut self, id: ConnId) {
        self.peers.remove(&id);
    }

    /// Peers that are not exempt.
    pub(super) fn judged(peers: &Peers, headers: &HeaderSync) -> Vec<ConnId> {
        peers
            .iter()
            .filter(|(_, peer)| peer.direction() == Direction::Outbound && peer.serves_headers())
            .filter(|(id, _)| headers.low_work_of(*id).is_none())
            .map(|(id, _)| id)
            .collect()
    }

    /// Checks one of [`ChainSync::judged`]. Called with every check of the watchdog; the timeouts
    /// are far longer than the time between those.
    pub(super) fn judge(&mut self, view: View<'_>, id: ConnId) -> Option<Lagging> {
        let tip = view.tree.tip();
        let shown = view.work_of(id);
        let before = self.peers.get(&id).copied();
        let (after, lagging) = match before {
            Some(Standing::Protected) => return None,
            _ if shown >= tip.work => {
                let proven = view.known.best(id).is_some();
                let protect = proven && self.may_protect();
                (protect.then_some(Standing::Protected), None)
            }
            _ if !view.lagging_matters(id, tip.work) => (None, None),
            None => (Some(Standing::Behind(Behind::new(&tip, view.now))), None),
            // It has advanced: it has time to reach the current tip from now on.
            Some(Standing::Behind(behind)) if shown >= behind.work => {
                (Some(Standing::Behind(Behind::new(&tip, view.now))), None)
            }
            Some(Standing::Behind(behind)) if view.now < behind.until => return None,
            Some(Standing::Behind(Behind { asked: true, .. })) => {
                return Some(Lagging::Disconnect);
            }
            Some(Standing::Behind(behind)) => {
                let parent = view.tree.parent(&behind.target);
                let from = parent.map_or(behind.target, |parent| parent.hash);
                let last = Behind {
                    until: view.now + HEADERS_RESPONSE_TIME,
                    asked: true,
                    ..behind
                };
                (Some(Standing::Behind(last)), Some(Lagging::Ask(from)))
            }
        };
        match after {
            Some(standing) => self.peers.insert(id, standing),
            None => self.peers.remove(&id),
        };
        lagging
    }

    fn may_protect(&self) -> bool {
        let protected = |standing: &&Standing| matches!(standing, Standing::Protected);
        self.peers.values().filter(protected).count() < MAX_PROTECTED
    }

    /// Whether the peer was level once and is never disconnected for lagging.
    pub(super) fn is_protected(&self, id: ConnId) -> bool {
        matches!(self.peers.get(&id), Some(Standing::Protected))
    }

    /// When the peer's timeout ends, and whether it was sent the last `getheaders`.
    pub(super) fn behind(&self, id: ConnId) -> Option<(Duration, bool)> {
        match self.peers.get(&id)? {
            Standing::Protected => None,
            Standing::Behind(behind) => Some((behind.until, behind.asked)),
        }
    }

    /// We were stalled and may not have read answers.
    pub(super) fn extend_deadlines(&mut self, late: Duration) {
        for standing in self.peers.values_mut() {
            match standing {
                Standing::Behind(behind) => behind.until += late,
                Standing::Protected => {}
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sync::header_sync::tests::version_info;
    use crate::testing::chains::Blocks;

    /// We have 20 blocks, and so has each peer with `true`; others have 15.
    fn judging(levels: &[bool]) -> (Blocks, Peers, KnownWork, ChainSync) {
        let chain = Blocks::new(20, 1);
        let (mut peers, mut known) = (Peers::default(), KnownWork::default());
        for (id, level) in (0..).map(ConnId).zip(levels) {
            peers.added(&version_info(id, Direction::Outbound));
            known.added(id);
            let height = if *level { 20 } else { 15 };
            known.learn(&chain.tree(), id, chain.at(height).hash);
        }
        (chain, peers, known, ChainSync::default())
    }

    fn judge(
        (chain, peers, known, chain_sync): &mut (Blocks, Peers, KnownWork, ChainSync),
        id: u64,
        minutes: u64,
    ) -> Option<Lagging> {
        let view = View {
            tree: &chain.tree(),
            peers,
            known,
            always_mined: false,
            now: Duration::from_secs(minutes * 60),
        };
        chain_sync.judge(view, ConnId(id))
    }

    #[test]
    fn a_peer_that_stays_behind_is_asked_once_from_before_our_tip_and_then_disconnected() {
        let mut all = judging(&[false, true]);
        assert_eq!(judge(&mut all, 0, 0), None);
        assert_eq!(judge(&mut all, 0, 19), None);
        let from = all.0.at(19).hash;
        assert_eq!(judge(&mut all, 0, 20), Some(Lagging::Ask(from)));
        assert_eq!(judge(&mut all, 0, 21), None);
        assert_eq!(judge(&mut all, 0, 22), Some(Lagging::Disconnect));
    }

    #[test]
    fn where_no_other_peer_has_our_tip_being_behind_it_proves_nothing() {
        let mut all = judging(&[false, false]);
        assert_eq!(judge(&mut all, 0, 0), None);
        assert_eq!(all.3.behind(ConnId(0)), None);
    }

    #[test]
    fn four_peers_that_were_level_are_protected_and_the_next_one_when_one_of_them_left() {
        let mut all = judging(&[true; 5]);
        for id in 0..5 {
            judge(&mut all, id, 0);
        }
        let protected = |all: &(Blocks, Peers, KnownWork, ChainSync)| {
            let ids = (0..5).map(ConnId);
            ids.map(|id| all.3.is_protected(id)).collect::<Vec<_>>()
        };
        assert_eq!(protected(&all), [true, true, true, true, false]);
        all.3.removed(ConnId(0));
        judge(&mut all, 4, 1);
        assert_eq!(protected(&all), [false, true, true, true, true]);
    }
}
