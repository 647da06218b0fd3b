//! The state of header sync for other parts, reports and the watchdog.

use std::time::Duration;

use crate::headers::LowWork;
use crate::lifecycle::ConnId;

use super::{Ask, CoolDown, HeaderSync, Peers, SourceChange, SourcePeer};

impl HeaderSync {
    /// The peer that headers are synced from.
    pub(in crate::sync) fn source(&self) -> Option<&SourcePeer> {
        self.source.as_ref()
    }

    pub(in crate::sync) fn source_id(&self) -> Option<ConnId> {
        Some(self.source.as_ref()?.id)
    }

    pub(in crate::sync) fn is_source(&self, id: ConnId) -> bool {
        self.source_id() == Some(id)
    }

    pub(in crate::sync) fn source_changes(&self) -> impl Iterator<Item = &SourceChange> {
        self.source_changes.iter()
    }

    /// Whether the peer is eligible as the source now.
    pub(in crate::sync) fn is_eligible(&self, peers: &Peers, id: ConnId) -> bool {
        let cools = self.peers.get(&id).map(|peer| peer.cool_down.is_some());
        peers.serves_headers(id) && cools == Some(false)
    }

    /// Peers that are eligible as the source now.
    pub(in crate::sync) fn eligible_ids<'a>(
        &'a self,
        peers: &'a Peers,
    ) -> impl Iterator<Item = ConnId> + Clone {
        self.eligible(peers).map(|(id, ..)| id)
    }

    /// The outstanding request to the peer, other than a probe.
    pub(in crate::sync) fn ask_of(&self, id: ConnId) -> Option<Ask> {
        self.peers.get(&id)?.ask
    }

    /// When the peer was last sent a request other than a probe, monotonic.
    pub(in crate::sync) fn last_asked(&self, id: ConnId) -> Duration {
        self.peers
            .get(&id)
            .map_or(Duration::ZERO, |peer| peer.last_asked)
    }

    /// Whether the peer has answered a `getheaders`.
    pub(in crate::sync) fn has_answered(&self, id: ConnId) -> bool {
        self.peers.get(&id).is_some_and(|peer| peer.answered)
    }

    /// Whether the headers of the peer were followed to their end.
    pub(in crate::sync) fn has_ended(&self, id: ConnId) -> bool {
        self.peers.get(&id).is_some_and(|peer| peer.ended)
    }

    /// The cool-down of the peer.
    pub(in crate::sync) fn cool_down_of(&self, id: ConnId) -> Option<CoolDown> {
        self.peers.get(&id)?.cool_down
    }

    /// Low-work chains of the peer that were given up.
    pub(in crate::sync) fn given_up(&self, id: ConnId) -> u32 {
        self.peers.get(&id).map_or(0, |peer| peer.given_up)
    }

    /// The low-work sync with the peer.
    pub(in crate::sync) fn low_work_of(&self, id: ConnId) -> Option<&LowWork> {
        self.peers.get(&id)?.low_work.as_deref()
    }

    /// Since when an announcement of the peer waits for a request, monotonic.
    pub(in crate::sync) fn unasked_announcement(&self, id: ConnId) -> Option<Duration> {
        self.peers.get(&id)?.unasked_announcement
    }

    /// How often others were asked than a silent source.
    pub(in crate::sync) fn hedges(&self) -> u32 {
        self.hedges
    }

    /// Whether the peer may be sent another request.
    pub(in crate::sync) fn is_idle(&self, id: ConnId) -> bool {
        let peer = self.peers.get(&id);
        peer.is_some_and(|peer| peer.ask.is_none() && peer.low_work.is_none())
    }
}
