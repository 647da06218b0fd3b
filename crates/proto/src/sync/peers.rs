//! The admitted peers, with what does not change while they are connected.
//!
//! What a part learns of a peer it keeps itself. Here is what all of them ask: who opened the
//! connection, what the peer serves, and whether its disconnection was ordered, after which
//! nothing is asked of it.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use bitcoin::p2p::ServiceFlags;

use crate::lifecycle::{ConnId, Direction, DoneReason, VersionInfo};

use super::Effect;
use super::known_work::Known;
use super::step::Step;

/// Blocks behind its tip that a pruned peer (BIP159) keeps, less two for races. Core
/// `NODE_NETWORK_LIMITED_MIN_BLOCKS`.
const LIMITED_DEPTH: u32 = 288 - 2;

/// Which blocks a peer offers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Serves {
    /// None: it is no full node.
    Nothing,
    /// The latest ones (`NODE_NETWORK_LIMITED`).
    Recent,
    /// All (`NODE_NETWORK`).
    Everything,
}

impl Serves {
    fn of(services: ServiceFlags) -> Self {
        if services.has(ServiceFlags::NETWORK) {
            Self::Everything
        } else if services.has(ServiceFlags::NETWORK_LIMITED) {
            Self::Recent
        } else {
            Self::Nothing
        }
    }
}

/// One admitted peer.
#[derive(Clone, Debug)]
pub(super) struct Peer {
    direction: Direction,
    remote: SocketAddr,
    serves: Serves,
    /// It serves witness data; without that no block is asked of it.
    witness: bool,
    /// We ordered its disconnection; only `Done` is awaited.
    leaving: bool,
}

impl Peer {
    fn new(intro: &VersionInfo) -> Self {
        Self {
            direction: intro.direction,
            remote: intro.remote,
            serves: Serves::of(intro.services),
            witness: intro.services.has(ServiceFlags::WITNESS),
            leaving: false,
        }
    }

    pub(super) fn direction(&self) -> Direction {
        self.direction
    }

    /// Whether we opened the connection.
    pub(super) fn is_dialled(&self) -> bool {
        self.direction.is_outgoing()
    }

    pub(super) fn remote(&self) -> SocketAddr {
        self.remote
    }

    pub(super) fn is_leaving(&self) -> bool {
        self.leaving
    }

    pub(super) fn is_full_node(&self) -> bool {
        self.serves != Serves::Nothing
    }

    pub(super) fn serves_witness(&self) -> bool {
        self.witness
    }

    /// Whether headers may be asked of it at all.
    pub(super) fn serves_headers(&self) -> bool {
        !self.leaving && self.is_full_node()
    }

    /// Whether blocks may be asked of it at all.
    pub(super) fn serves_blocks(&self) -> bool {
        self.serves_headers() && self.witness
    }

    /// The lowest height that it keeps of a chain that ends with `best`.
    pub(super) fn lowest_kept(&self, best: Option<Known>) -> u32 {
        match (self.serves, best) {
            (Serves::Everything, _) | (_, None) => 0,
            (Serves::Recent | Serves::Nothing, Some(best)) => {
                best.height.saturating_sub(LIMITED_DEPTH)
            }
        }
    }
}

/// All admitted peers.
///
/// Invariant (L3): a peer is in the table from its `Add` to its `Done`. Its disconnection is
/// ordered at most once.
#[derive(Clone, Debug, Default)]
pub(super) struct Peers {
    peers: BTreeMap<ConnId, Peer>,
    /// Whose disconnection was ordered and not yet handled by every part.
    disconnected: Vec<ConnId>,
}

impl Peers {
    /// # Panics
    /// When the peer is in the table (L2): our own bug.
    pub(super) fn added(&mut self, intro: &VersionInfo) {
        let id = intro.id;
        let before = self.peers.insert(id, Peer::new(intro));
        assert!(before.is_none(), "L2: {id} is added once");
    }

    /// # Panics
    /// When the peer is not in the table (L3): our own bug.
    pub(super) fn removed(&mut self, id: ConnId) {
        let peer = self.peers.remove(&id);
        assert!(peer.is_some(), "L3: {id} was added before it is done");
    }

    /// Orders the end of a connection, unless that was ordered before. Whether it was not.
    pub(super) fn disconnect(&mut self, step: &mut Step, id: ConnId, reason: DoneReason) -> bool {
        let Some(peer) = self.peers.get_mut(&id).filter(|peer| !peer.leaving) else {
            return false;
        };
        tracing::debug!(%id, %reason, "disconnecting");
        peer.leaving = true;
        self.disconnected.push(id);
        step.effects.push(Effect::Disconnect { id, reason });
        true
    }

    /// Peers whose disconnection was ordered since this was asked last.
    pub(super) fn take_disconnected(&mut self) -> Vec<ConnId> {
        std::mem::take(&mut self.disconnected)
    }

    pub(super) fn get(&self, id: ConnId) -> Option<&Peer> {
        self.peers.get(&id)
    }

    /// A peer whose disconnection was not ordered.
    pub(super) fn live(&self, id: ConnId) -> Option<&Peer> {
        self.get(id).filter(|peer| !peer.leaving)
    }

    pub(super) fn is_live(&self, id: ConnId) -> bool {
        self.live(id).is_some()
    }

    pub(super) fn serves_headers(&self, id: ConnId) -> bool {
        self.get(id).is_some_and(Peer::serves_headers)
    }

    pub(super) fn is_dialled(&self, id: ConnId) -> bool {
        self.get(id).is_some_and(Peer::is_dialled)
    }

    pub(super) fn is_empty(&self) -> bool {
        self.peers.is_empty()
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (ConnId, &Peer)> + Clone {
        self.peers.iter().map(|(id, peer)| (*id, peer))
    }

    /// Peers whose disconnection was not ordered.
    pub(super) fn iter_live(&self) -> impl Iterator<Item = (ConnId, &Peer)> + Clone {
        self.iter().filter(|(_, peer)| !peer.leaving)
    }

    /// As if the disconnection of a peer had been ordered and no part had heard of it.
    #[cfg(test)]
    pub(super) fn forget_to_disconnect(&mut self, id: ConnId) {
        self.peers.get_mut(&id).expect("a peer of the test").leaving = true;
    }
}

#[cfg(test)]
mod tests {
    use bitcoin::BlockHash;
    use bitcoin::Work;
    use bitcoin::hashes::Hash;

    use super::*;
    use crate::sync::header_sync::tests::version_info;
    use crate::time::Now;

    #[test]
    fn a_disconnection_is_ordered_once_and_nothing_is_asked_of_the_peer_from_then_on() {
        let (id, mut peers) = (ConnId(1), Peers::default());
        peers.added(&version_info(id, Direction::Outbound));
        assert!(peers.is_live(id) && peers.serves_headers(id));
        let mut step = Step::new(Now::default());
        assert!(peers.disconnect(&mut step, id, DoneReason::StaleChain));
        assert!(!peers.disconnect(&mut step, id, DoneReason::HeadersTimeout));
        assert_eq!(step.effects.len(), 1);
        assert!(!peers.is_live(id) && !peers.serves_headers(id));
        assert_eq!(peers.take_disconnected(), [id]);
        assert_eq!(peers.take_disconnected(), []);
        peers.removed(id);
        assert!(peers.is_empty());
    }

    #[test]
    fn a_pruned_peer_keeps_the_last_blocks_of_its_chain() {
        let mut intro = version_info(ConnId(1), Direction::Outbound);
        let best = Known {
            hash: BlockHash::all_zeros(),
            height: 1_000,
            work: Work::from_be_bytes([0; 32]),
        };
        assert_eq!(Peer::new(&intro).lowest_kept(Some(best)), 0);
        intro.services = ServiceFlags::NETWORK_LIMITED | ServiceFlags::WITNESS;
        assert_eq!(Peer::new(&intro).lowest_kept(Some(best)), 714);
        intro.services = ServiceFlags::WITNESS;
        assert!(!Peer::new(&intro).serves_headers());
    }
}
