//! What the table waits for.
//!
//! The times are the parts' own and are asked for, not copied into a table: some of them change
//! between two steps, as when the node leaves its initial download.

use std::time::Duration;

use super::PeerTable;

/// A time at which the table has something to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) enum PeerTimer {
    /// A dial was not answered in time.
    DialExpires,
    /// A manual peer is dialled, or its look-up has failed.
    Manual,
    /// An address of the book may be dialled.
    Dial,
    /// DNS seeds are asked, or a round of look-ups is over.
    Seeds,
    /// More outbound peers than usual are no longer wanted.
    MorePeers,
    /// Peers are sent addresses.
    Addresses,
}

impl PeerTimer {
    /// Every timer.
    pub(super) const ALL: [Self; 6] = [
        Self::DialExpires,
        Self::Manual,
        Self::Dial,
        Self::Seeds,
        Self::MorePeers,
        Self::Addresses,
    ];
}

impl PeerTable {
    /// When `timer` goes off. While the network is off dials in flight end, and nothing else
    /// is done; while the node stops, nothing is.
    pub(super) fn due(&self, timer: PeerTimer) -> Option<Duration> {
        let network = self.admission.network();
        if network.draining || !network.active && timer != PeerTimer::DialExpires {
            return None;
        }
        match timer {
            PeerTimer::DialExpires => self.dialer.expiry(),
            PeerTimer::Manual => self.manual.due(),
            PeerTimer::Dial => self.dialer.due(&self.peers, self.outbound_limit()),
            PeerTimer::Seeds => self.seeds.due(self.prospects()),
            PeerTimer::MorePeers => self.more.due(),
            PeerTimer::Addresses => self.gossip.due(),
        }
    }
}
