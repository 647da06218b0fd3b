//! What an operator asks of PeerManager, beyond what its table answers alone
//! ([`PeerManager::answer`]): see the RPC methods of these names.

use handfast_proto::bans::{BanCommand, BanError};
use handfast_proto::lifecycle::{ConnId, DoneReason, VersionInfo};
use handfast_proto::peer_table::{DisconnectTarget, Input, PeerRow};
use handfast_wire::Packet;

use crate::peer::messages::Ping;
use crate::peer_manager::PeerManager;
use crate::post::post_to;
use crate::view::PeerInfo;

impl PeerManager {
    /// Every connection, those in the handshake too, oldest first.
    pub(crate) fn peers(&self) -> Vec<PeerInfo> {
        let now = self.shared.clock.now();
        let info = |row: PeerRow| {
            let link = self.links.get(&row.id);
            let traffic = link
                .map(|link| link.counters.read(now.mono))
                .unwrap_or_default();
            PeerInfo {
                row,
                traffic,
                half_open: false,
            }
        };
        let mut rows: Vec<PeerInfo> = self.table.peers().into_iter().map(info).collect();
        let half_open = &self.shared.half_open;
        let half_open = half_open.rows(now).into_iter();
        rows.extend(half_open.map(|(row, traffic)| PeerInfo {
            row,
            traffic,
            half_open: true,
        }));
        rows.sort_by_key(|info| info.row.id);
        rows
    }

    /// Disconnects one peer. False: there is none.
    pub(crate) fn disconnect_peer(&mut self, target: DisconnectTarget) -> bool {
        let admitted = self.answer(|table, now| table.disconnect(now, target));
        let half_open = self.disconnect_half_open(|peer| target.means(peer), DoneReason::Requested);
        admitted.is_ok() || half_open
    }

    /// Bans, lifts a ban, or lifts all.
    pub(crate) fn ban(&mut self, order: BanCommand) -> Result<(), BanError> {
        self.answer(|table, now| table.ban(now, order))?;
        if let BanCommand::Add { target, .. } = order {
            let meant = |peer: &VersionInfo| target.contains(peer.remote.ip());
            self.disconnect_half_open(meant, DoneReason::Banned);
        }
        let now = self.shared.clock.now();
        self.log.bans_changed(now, order, self.table.bans());
        Ok(())
    }

    /// Sends a ping to every peer.
    pub(crate) fn ping(&self) {
        for link in self.links.values() {
            post_to(&link.actor.ping, Ping);
        }
    }

    /// Switches the network on or off.
    pub(crate) fn set_network_active(&mut self, active: bool) {
        // Before the peers are disconnected: no new connection takes the slots that they free.
        self.shared.slots.set_active(active);
        self.step(Input::SetNetworkActive(active));
        if !active {
            self.disconnect_half_open(|_| true, DoneReason::Requested);
        }
    }

    /// Queues a packet. False: no such peer, or its queue is full.
    pub(crate) fn send_packet(&self, id: ConnId, packet: Packet) -> bool {
        let link = self.links.get(&id);
        link.is_some_and(|link| link.outbox.push_packet(packet).is_ok())
    }
}
