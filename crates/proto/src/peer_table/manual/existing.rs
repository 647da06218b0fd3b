//! Connections to manual peers that were not opened for them: one that there was before
//! `addnode`, or that the peer opened itself from the port at which it listens.
//!
//! As in Core, such a connection stays what it is, and the manual peer counts as connected:
//! it is neither dialled beside it nor said to be missing. When it ends, the manual peer was
//! lost like any other. Automatic dialling leaves the addresses of manual peers alone, so that
//! the operator's peer does not come back as an automatic one, with fewer rights.

use std::cmp::Reverse;
use std::net::SocketAddr;

use super::super::admitted_peers::AdmittedPeers;
use super::{Given, Manual, Node, State, canonical};

/// Most addresses of one look-up that are stored.
const MAX_ADDRESSES: usize = 256;

impl Node {
    /// Its name was looked up.
    pub(super) fn learn(&mut self, addrs: &[SocketAddr]) {
        let addrs = addrs.iter().take(MAX_ADDRESSES);
        self.addresses = addrs.copied().map(canonical).collect();
    }

    fn is_connected(&self) -> bool {
        matches!(self.state, State::Connected { .. })
    }
}

impl Manual {
    /// Whether a manual peer is at this address, as far as that is known.
    pub(in super::super) fn is_at(&self, addr: SocketAddr) -> bool {
        self.nodes
            .values()
            .any(|node| node.addresses.contains(&addr))
    }

    /// Whether it is connected, by a dial for it or otherwise.
    pub(in super::super) fn is_connected(&self, name: &str) -> bool {
        self.nodes.get(name).is_some_and(Node::is_connected)
    }

    /// One that is not connected.
    pub(super) fn unconnected(&mut self, name: &str) -> Option<&mut Node> {
        self.nodes.get_mut(name).filter(|node| !node.is_connected())
    }

    /// Those at whose address a peer is connected are connected. One that is to be tried once
    /// is not: its try ends with the answer that there is a connection.
    pub(in super::super) fn adopt(&mut self, peers: &AdmittedPeers) {
        let missing = |node: &&mut Node| node.given != Given::Once && !node.is_connected();
        for node in self.nodes.values_mut().filter(missing) {
            let at_it = peers.values().filter(|peer| {
                let remote = canonical(peer.version_info().remote);
                node.addresses.contains(&remote)
            });
            let best = at_it.max_by_key(|peer| (peer.is_outgoing(), Reverse(peer.id())));
            let Some(peer) = best else { continue };
            node.failure = None;
            node.state = State::Connected {
                id: peer.id(),
                since: peer.admitted_at().mono,
                own: false,
            };
        }
    }
}
