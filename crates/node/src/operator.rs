//! What an operator asks of PeerManager for tests and diagnosis: see the RPC methods of
//! these names.

use actix::{Handler, MessageResult};
use handfast_proto::lifecycle::DoneReason;
use handfast_proto::peer_table::{AddAddressError, AtCapacity, Input};

use crate::peer::messages::Ping;
use crate::peer_manager::PeerManager;
use crate::peer_manager::messages::{
    AddAddress, Connect, KnownAddresses, PingPeers, SendPacket, SetNetworkActive,
};
use crate::post::post_to;

impl Handler<PingPeers> for PeerManager {
    type Result = ();
    fn handle(&mut self, _: PingPeers, _: &mut Self::Context) {
        for link in self.links.values() {
            post_to(&link.actor.ping, Ping);
        }
    }
}

impl Handler<SetNetworkActive> for PeerManager {
    type Result = ();
    fn handle(&mut self, SetNetworkActive { active }: SetNetworkActive, _: &mut Self::Context) {
        // Before the peers are told to go: nobody takes the slots that they give back.
        self.shared.slots.set_active(active);
        self.step(Input::SetNetworkActive(active));
        if !active {
            self.disconnect_half_open(|_| true, DoneReason::Requested);
        }
        self.publish_outlook();
    }
}

impl Handler<KnownAddresses> for PeerManager {
    type Result = MessageResult<KnownAddresses>;
    fn handle(
        &mut self,
        KnownAddresses { good }: KnownAddresses,
        _: &mut Self::Context,
    ) -> Self::Result {
        let book = self.table.book();
        MessageResult(if good {
            book.good_rows(self.shared.clock.now()).collect()
        } else {
            book.rows().collect()
        })
    }
}

impl Handler<AddAddress> for PeerManager {
    type Result = Result<(), AddAddressError>;
    fn handle(
        &mut self,
        AddAddress { addr, tried }: AddAddress,
        _: &mut Self::Context,
    ) -> Self::Result {
        self.answer(|table, now| table.add_address(now, addr, tried))
    }
}

impl Handler<Connect> for PeerManager {
    type Result = Result<(), AtCapacity>;
    fn handle(&mut self, Connect { addr }: Connect, _: &mut Self::Context) -> Self::Result {
        self.answer(|table, now| table.connect(now, addr))
    }
}

impl Handler<SendPacket> for PeerManager {
    type Result = bool;
    fn handle(&mut self, SendPacket { id, packet }: SendPacket, _: &mut Self::Context) -> bool {
        let link = self.links.get(&id);
        link.is_some_and(|link| link.outbox.push_packet(packet).is_ok())
    }
}
