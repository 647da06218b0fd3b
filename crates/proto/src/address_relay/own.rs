//! Which address of ours a peer is told.

use std::net::{IpAddr, SocketAddr};

use crate::address_book::{canonical, is_routable};
use crate::lifecycle::{Direction, Introduction};
use crate::random::Random;

/// What is known of our own addresses.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct OwnAddresses {
    /// The port of the first listening socket; `None`: we accept nobody, and announce nothing.
    pub port: Option<u16>,
    /// What the operator says. If there are any, nothing else is announced.
    pub named: Vec<SocketAddr>,
    /// What we listen on; of these only routable ones count.
    pub bound: Vec<SocketAddr>,
}

impl OwnAddresses {
    /// Whether an address is one of them.
    pub(super) fn contains(&self, addr: SocketAddr) -> bool {
        let same = |own: &SocketAddr| canonical(*own) == addr;
        self.named.iter().any(same) || self.bound.iter().any(same)
    }

    /// The address to tell this peer, as Core's `GetLocalAddrForPeer`; `None`: there is none
    /// that it could reach.
    ///
    /// Where the operator names none, half of the peers are told the address by which they say
    /// that they see us, and all of them if we know no better. A peer that lies about it is told
    /// its own lie.
    pub(super) fn for_peer(&self, peer: &Introduction, random: &mut Random) -> Option<SocketAddr> {
        let port = self.port?;
        if !self.named.is_empty() {
            return nearest(self.named.iter().copied(), peer.remote.ip());
        }
        let bound = self.bound.iter().copied().map(canonical);
        let known = nearest(bound.filter(|own| is_routable(own.ip())), peer.remote.ip());
        let seen = peer.sees_us_at.map(canonical);
        let seen = seen.filter(|seen| is_routable(seen.ip()) && is_routable(peer.remote.ip()));
        match seen {
            Some(seen) if known.is_none() || random.below(2) == 0 => Some(match peer.direction {
                Direction::Inbound => seen,
                // It sees the port from which we dialled.
                Direction::Outbound | Direction::Manual => SocketAddr::new(seen.ip(), port),
            }),
            _ => known,
        }
    }
}

/// The first address of the peer's own family, else the first.
fn nearest(own: impl Iterator<Item = SocketAddr> + Clone, peer: IpAddr) -> Option<SocketAddr> {
    let v4 = peer.to_canonical().is_ipv4();
    own.clone()
        .find(|own| own.is_ipv4() == v4)
        .or_else(|| own.clone().next())
}
