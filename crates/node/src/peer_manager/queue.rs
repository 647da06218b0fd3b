//! What connections sent, on its way through the manager's queue.

use actix::Handler;
use handfast_proto::fair_queue::{FairQueue, LIFECYCLE, cost};
use handfast_proto::peer_table::Input;
use handfast_wire::{HandledBy, Kind, Message};

use super::{EffectPermits, PeerManager};
use crate::audit::Inquiry;
use crate::peer_manager::messages::{AuditPeers, PeerAdd, PeerDone, PeerInput};
use crate::turns::TakesTurns;

/// What goes through the queue.
#[derive(Debug)]
pub(crate) enum FromPeer {
    Add(Box<PeerAdd>),
    Input(PeerInput),
    Done(Box<PeerDone>),
    Audit(AuditPeers),
}

impl TakesTurns for PeerManager {
    type Item = FromPeer;

    fn queue(&mut self) -> &mut FairQueue<FromPeer> {
        &mut self.queue
    }

    fn handle_item(&mut self, item: FromPeer) {
        match item {
            FromPeer::Add(add) => self.added(*add),
            FromPeer::Input(input) => self.received(input),
            FromPeer::Done(done) => self.ended(*done),
            FromPeer::Audit(question) => self.audit(question),
        }
    }
}

impl PeerManager {
    fn added(&mut self, add: PeerAdd) {
        let PeerAdd {
            listed,
            version_info,
            link,
            queued,
        } = add;
        self.shared.slots.assert_bounded();
        self.handled.adds += 1;
        if self.table.wants_round_trips(version_info.direction) {
            self.step(Input::RoundTrips(self.round_trips()));
        }
        let outgoing = version_info.direction.is_outgoing();
        let (id, local) = (version_info.id, link.counters.local());
        self.links.insert(id, link);
        let permits = EffectPermits {
            queued: Some(queued),
            ..EffectPermits::default()
        };
        self.step_with(Input::Add(version_info), permits);
        // An inbound peer may be the first that we know.
        if outgoing || self.shared.outlook.load().nobody_known {
            self.publish_outlook();
        }
        if let Some(local) = local {
            self.table.set_local_address(id, local);
        }
        self.publish_displaced();
        self.publish_own_addresses();
        drop(listed);
    }

    fn received(&mut self, input: PeerInput) {
        let PeerInput {
            id,
            message,
            credit,
        } = input;
        let permits = EffectPermits {
            credit: Some(credit),
            ..EffectPermits::default()
        };
        self.step_with(Input::Message { id, message }, permits);
    }

    fn ended(&mut self, done: PeerDone) {
        let PeerDone {
            disconnection,
            queued,
            slot,
        } = done;
        self.shared.slots.assert_bounded();
        self.handled.dones += 1;
        let now = self.shared.clock.now();
        let admitted = self.table.is_admitted(disconnection.id);
        let outgoing = disconnection.direction.is_outgoing();
        self.log.ended(now.mono, &disconnection, admitted);
        self.shared.events.disconnected(&disconnection.reason);
        self.links.remove(&disconnection.id);
        let permits = EffectPermits {
            credit: None,
            queued: Some(queued),
            slot: Some(slot),
        };
        self.step_with(Input::Done(disconnection), permits);
        if outgoing {
            self.publish_outlook();
        }
    }

    fn audit(&self, AuditPeers { answer }: AuditPeers) {
        let roles = self.subscribers.roles();
        let told = roles.iter().map(|role| (role, self.table.ids_of(role)));
        let inquiry = Inquiry::new(self.table.ids(), self.handled, told.collect(), answer);
        self.subscribers.audit(inquiry);
    }
}

impl Handler<PeerAdd> for PeerManager {
    type Result = ();
    fn handle(&mut self, add: PeerAdd, _: &mut Self::Context) {
        let id = add.version_info.id;
        self.queue.push(id, LIFECYCLE, FromPeer::Add(Box::new(add)));
    }
}

impl Handler<PeerInput> for PeerManager {
    type Result = ();
    fn handle(&mut self, input: PeerInput, _: &mut Self::Context) {
        let cost = table_cost(&input.message);
        let id = input.id;
        self.queue.push(id, cost, FromPeer::Input(input));
    }
}

impl Handler<PeerDone> for PeerManager {
    type Result = ();
    fn handle(&mut self, done: PeerDone, _: &mut Self::Context) {
        let id = done.disconnection.id;
        self.queue
            .push(id, LIFECYCLE, FromPeer::Done(Box::new(done)));
    }
}

/// What a message costs here: addresses are handled, most others passed on as they are.
fn table_cost(message: &Message) -> u64 {
    match message.kind().map(Kind::handled_by) {
        Some(HandledBy::PeerManager) => cost(message),
        _ => PASSED_ON,
    }
}

/// A message that is passed on, in units of [`cost`].
const PASSED_ON: u64 = 2;

impl Handler<AuditPeers> for PeerManager {
    type Result = ();
    fn handle(&mut self, question: AuditPeers, _: &mut Self::Context) {
        self.queue.push_barrier(FromPeer::Audit(question));
    }
}
