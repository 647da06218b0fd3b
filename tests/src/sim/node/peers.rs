//! PeerManager: `node/src/peer_manager.rs`, handler by handler.

use bitcoin::BlockHash;
use handfast_proto::fair_queue::{LIFECYCLE, cost};
use handfast_proto::lifecycle::{
    ConnId, Direction, Disconnection, DoneReason, Role, Roles, VersionInfo,
};
use handfast_proto::peer_table::{AddNodeCommand, DisconnectTarget, Effect, Input, Order};
use handfast_wire::Message;
use std::net::SocketAddr;
use std::sync::Arc;

use super::acceptor::Dial;
use super::peer::{Credit, PeerMail};
use super::second::SecondMail;
use super::sync::SyncMail;
use super::{Running, Stage};
use crate::sim::Mutant;
use crate::sim::engine::{Actor, Engine};
use crate::sim::label::Label;

/// The messages of PeerManager.
#[derive(Debug)]
pub(super) enum PeersMail {
    Add(Box<VersionInfo>),
    Input(ConnId, Arc<Message>, Credit),
    /// With its slot.
    Done(Disconnection, Option<Direction>),
    Order(Role, Order),
    Serve {
        id: ConnId,
        ticket: u64,
        hash: BlockHash,
    },
    Served(ConnId, u64),
    DialFailed(Dial, String),
    NotDialled(Dial),
    AddNode(String, AddNodeCommand),
    Disconnect(DisconnectTarget),
    Drain,
    Stop,
}

impl PeersMail {
    /// The connection that sent it, and what it costs to handle.
    fn flow(&self) -> Option<(ConnId, u64)> {
        match self {
            Self::Add(version_info) => Some((version_info.id, LIFECYCLE)),
            Self::Input(id, message, _) => Some((*id, cost(message))),
            Self::Done(disconnection, _) => Some((disconnection.id, LIFECYCLE)),
            _ => None,
        }
    }
}

/// The permits that the input of a step holds.
#[derive(Debug, Default)]
struct Carried {
    credit: Option<Credit>,
    slot: Option<Direction>,
}

impl Running {
    pub(super) fn post_peers(&mut self, engine: &mut Engine, mail: PeersMail) {
        self.peers_mail.push_back(mail);
        self.wake(engine, Actor::Peers);
    }

    /// `node/src/turns.rs`: messages of connections go from the mailbox into the queue, and are
    /// handled in turns; others are handled at once.
    fn next_peers_mail(&mut self, engine: &mut Engine) -> Option<PeersMail> {
        loop {
            let waits = self.peers_mail.is_empty() || engine.random.below(2) == 0;
            if waits && let Some((_, mail)) = self.peers_queue.pop() {
                return Some(mail);
            }
            let mail = self.peers_mail.pop_front()?;
            match mail.flow() {
                Some((id, cost)) => self.peers_queue.push(id, cost, mail),
                None => return Some(mail),
            }
        }
    }

    pub(super) fn poll_peers(&mut self, engine: &mut Engine) {
        for _ in 0..Self::portion(engine) {
            let express = engine.is_mutant(Mutant::TwoQueues) && engine.random.below(2) == 0;
            let mail = express.then(|| self.peers_express.pop_front()).flatten();
            let mail = mail
                .or_else(|| self.next_peers_mail(engine))
                .or_else(|| self.peers_express.pop_front());
            let Some(mail) = mail else { return };
            self.handle_peers(engine, mail);
            self.compare_tables(engine);
            if engine.breach.is_some() {
                return;
            }
        }
        self.wake(engine, Actor::Peers);
    }

    fn handle_peers(&mut self, engine: &mut Engine, mail: PeersMail) {
        match mail {
            PeersMail::Add(version_info) => self.peer_add(engine, *version_info),
            PeersMail::Input(id, message, credit) => {
                let carried = Carried {
                    credit: Some(credit),
                    slot: None,
                };
                self.step_peers(engine, Input::Message { id, message }, carried);
            }
            PeersMail::Done(disconnection, slot) => self.peer_done(engine, disconnection, slot),
            PeersMail::Order(from, order) => {
                self.step_peers(engine, Input::Order { from, order }, Carried::default());
            }
            PeersMail::Serve { id, ticket, hash } => {
                if self.links.contains(&id) {
                    self.post_peer(engine, id, PeerMail::Serve { ticket, hash });
                }
            }
            PeersMail::Served(id, ticket) => {
                if self.links.contains(&id) && !engine.is_mutant(Mutant::ServedIsForgotten) {
                    self.post_sync(engine, SyncMail::Served(id, ticket));
                }
            }
            PeersMail::DialFailed(Dial { addr, name, .. }, error) => {
                let input = Input::DialFailed { addr, name, error };
                self.step_peers(engine, input, Carried::default());
            }
            PeersMail::NotDialled(Dial { addr, name, .. }) => {
                self.step_peers(engine, Input::NotDialled { addr, name }, Carried::default());
            }
            PeersMail::AddNode(name, command) => {
                // "Already added" and "not added" are answers like any other.
                let (_, effects) = self.table.add_node(self.now(engine), name, command);
                self.perform(engine, effects, Carried::default());
            }
            PeersMail::Disconnect(target) => {
                let (_, effects) = self.table.disconnect(self.now(engine), target);
                self.perform(engine, effects, Carried::default());
            }
            PeersMail::Drain => {
                self.step_peers(engine, Input::Drain, Carried::default());
            }
            PeersMail::Stop => self.stop_peers(engine),
        }
    }

    /// `Handler<PeerAdd>`.
    fn peer_add(&mut self, engine: &mut Engine, version_info: VersionInfo) {
        let id = version_info.id;
        engine.line(format_args!("n{} peers: Add({id})", self.host.node));
        self.observe(engine, |ledger| ledger.peer_add(id));
        if self.table.wants_round_trips(version_info.direction) {
            let round_trips = Input::RoundTrips(self.round_trips());
            self.step_peers(engine, round_trips, Carried::default());
        }
        self.links.insert(id);
        self.step_peers(engine, Input::Add(version_info), Carried::default());
    }

    /// `Handler<PeerDone>`.
    fn peer_done(
        &mut self,
        engine: &mut Engine,
        disconnection: Disconnection,
        slot: Option<Direction>,
    ) {
        let id = disconnection.id;
        engine.line(format_args!("n{} peers: Done({id})", self.host.node));
        self.observe(engine, |ledger| ledger.peer_done(id));
        self.links.remove(&id);
        let carried = Carried { credit: None, slot };
        self.step_peers(engine, Input::Done(disconnection), carried);
    }

    /// `PeerManager::step_with`.
    fn step_peers(&mut self, engine: &mut Engine, input: Input, carried: Carried) {
        let added = match &input {
            Input::Add(version_info) => Some(version_info.id),
            _ => None,
        };
        let effects = self.table.step(self.now(engine), input);
        if let Some(id) = added {
            let wanted = effects.iter().find_map(|effect| match effect {
                Effect::Admit { peer, roles } if peer.id == id => Some(*roles),
                _ => None,
            });
            self.observe(engine, |ledger| match wanted {
                Some(roles) => ledger.admitted(id, roles),
                None => ledger.refused(id),
            });
        }
        self.perform(engine, effects, carried);
    }

    fn perform(&mut self, engine: &mut Engine, effects: Vec<Effect>, mut carried: Carried) {
        for effect in effects {
            match effect {
                Effect::Admit { peer, roles } => {
                    if roles.contains(Role::Test) {
                        self.post_second(engine, SecondMail::Add(peer.id));
                    }
                    if roles.contains(Role::Sync) {
                        self.post_sync(engine, SyncMail::Add(Box::new(peer)));
                    }
                }
                Effect::Retire { id, roles } => {
                    self.retire(engine, id, roles, carried.slot.take());
                }
                Effect::Forward { id, message, roles } => {
                    let credit = carried.credit.take();
                    let credit = credit.expect("a message is forwarded once, when it arrives");
                    self.forward(engine, id, roles, message, Arc::new(credit));
                }
                Effect::Send { id, message } => self.send(engine, id, &message),
                Effect::Disconnect { id, reason } => self.disconnect(engine, id, reason),
                Effect::Dial {
                    addr,
                    direction,
                    name,
                } if self.is_open() => {
                    self.connector_mail.push_back(Dial {
                        addr,
                        direction,
                        name,
                    });
                    self.wake(engine, Actor::Connector);
                }
                // The connector has stopped; messages to it are dropped.
                Effect::Dial { .. } => {}
                Effect::Resolve { name, .. } => {
                    engine.breach(
                        "names",
                        format!("{name} is an address, and must not be resolved"),
                    );
                }
                // Written to disk by another actor.
                Effect::BansChanged | Effect::Notice(_) => {}
            }
        }
        if let Some(credit) = carried.credit {
            self.give_back(engine, credit);
        }
        self.slots.free(carried.slot);
        self.home(engine);
    }

    fn forward(
        &mut self,
        engine: &mut Engine,
        id: ConnId,
        roles: Roles,
        message: Arc<Message>,
        credit: Arc<Credit>,
    ) {
        if roles.contains(Role::Test) {
            let mail = SecondMail::Input(id, message.clone(), credit.clone());
            self.post_second(engine, mail);
        }
        if roles.contains(Role::Sync) {
            self.post_sync(engine, SyncMail::Input(id, message, credit));
        }
    }

    fn retire(&mut self, engine: &mut Engine, id: ConnId, roles: Roles, slot: Option<Direction>) {
        if engine.is_mutant(Mutant::SyncIsNotTold) {
            self.slots.free(slot);
        } else if engine.is_mutant(Mutant::SeparateSenders) {
            // The connection has reported its end to SyncManager itself.
            self.slots.free(slot);
        } else {
            let (mut of_sync, mut of_second) = (Arc::new(slot), Arc::new(None));
            if roles.contains(Role::Test) {
                of_second = of_sync.clone();
                if engine.is_mutant(Mutant::SlotFreedAfterOne) {
                    // The other one's part frees nothing.
                    match engine.random.below(2) {
                        0 => of_second = Arc::new(None),
                        _ => of_sync = Arc::new(None),
                    }
                }
            }
            if roles.contains(Role::Test) {
                self.post_second(engine, SecondMail::Done(id, of_second));
            }
            if roles.contains(Role::Sync) {
                self.post_sync(engine, SyncMail::Done(id, of_sync));
            }
        }
    }

    /// `PeerManager::send`.
    fn send(&mut self, engine: &mut Engine, id: ConnId, message: &Message) {
        if !self.links.contains(&id) {
            return;
        }
        engine.line(format_args!(
            "n{} {id} is sent {}",
            self.host.node,
            Label(message)
        ));
        self.watch.sent(id, message, engine);
        if !self.push_to(engine, id, message) {
            self.disconnect(engine, id, DoneReason::SlowReader);
        }
    }

    fn disconnect(&mut self, engine: &mut Engine, id: ConnId, reason: DoneReason) {
        if self.links.contains(&id) {
            engine.line(format_args!(
                "n{} {id} is disconnected: {reason}",
                self.host.node
            ));
            self.post_peer(engine, id, PeerMail::Disconnect(reason));
        }
    }

    /// `Timed::on_deadline`.
    pub(super) fn tick_peers(&mut self, engine: &mut Engine) {
        self.step_peers(engine, Input::Tick, Carried::default());
        self.compare_tables(engine);
    }

    /// `Handler<StopPeers>` after all slots are free.
    fn stop_peers(&mut self, engine: &mut Engine) {
        self.table.assert_all_free();
        if !self.links.is_empty() {
            engine.breach(
                "L6",
                "all slots are free and PeerManager still has links".into(),
            );
        }
        self.stage = Stage::PeersStopped;
        if self.has_second() {
            self.post_second(engine, SecondMail::Stop);
        } else {
            self.stop_sync_next(engine);
        }
    }

    /// The operator's `addnode`.
    pub(crate) fn add_node(&mut self, engine: &mut Engine, name: String, command: AddNodeCommand) {
        self.post_peers(engine, PeersMail::AddNode(name, command));
    }

    /// The operator's `disconnectnode` of one of the connections, if there is one.
    pub(crate) fn disconnect_some(&mut self, engine: &mut Engine) {
        let rows = self.table.peers();
        if rows.is_empty() {
            return;
        }
        let row = &rows[engine.random.index(rows.len())];
        let (id, remote): (ConnId, SocketAddr) = (row.id, row.remote);
        let target = if engine.chance(500) {
            DisconnectTarget::ById(id)
        } else {
            DisconnectTarget::ByAddr(remote)
        };
        self.post_peers(engine, PeersMail::Disconnect(target));
    }
}
