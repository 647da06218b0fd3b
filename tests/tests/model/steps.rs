//! What each action does: the actors' part, which is wiring.

use std::sync::Arc;
use std::time::Duration;

use handfast_proto::bans::{BanCommand, BanTime, Subnet};
use handfast_proto::lifecycle::{
    ConnId, Disconnection, DoneReason, Ledger, Reached, Role, Roles, VersionInfo, Violation,
};
use handfast_proto::peer_table::{self, DisconnectTarget, Order};
use handfast_proto::session;
use handfast_proto::sync;
use handfast_proto::time::Now;
use handfast_wire::Message;

use crate::action::Action;
use crate::machines::{Panicked, Table};
use crate::node::Node;
use crate::remotes::{Conn, Kind, SILENCE, Say};
use crate::wiring::{Lane, Wiring};
use crate::world::{Broken, Slot, Stage, ToPeers, Told, World, disconnection};

/// What the message of a step carried, as in the real PeerManager: passed on with an
/// effect, or home when the step is over.
#[derive(Default)]
struct Carried {
    slot: Option<Slot>,
    say: Option<Say>,
}

impl World {
    /// Does `action`, which is enabled.
    pub(crate) fn act(&mut self, node: &Node, action: Action) {
        match action {
            Action::Opens(kind) => self.open(kind),
            Action::Version(id) => {
                let version = self.conns[&id].version(id);
                self.receive(node, id, version, None);
            }
            Action::Verack(id) => self.verack(node, id),
            Action::Says(id, say) => {
                self.conn(id).spoke = true;
                self.receive(node, id, say.message(), Some(say));
            }
            Action::Closes(id) => self.session(node, id, Conn::now(), session::Input::RemoteClosed),
            Action::Timer(id) => {
                let now = self.conns[&id].timer().expect("an open session has one");
                self.session(node, id, now, session::Input::Deadline);
            }
            Action::Panics(id) => self.drop_guard(node, id, DoneReason::Panicked),
            Action::Obeys(id) => {
                let reason = self.conn(id).orders.remove(0);
                self.session(node, id, Conn::now(), session::Input::Disconnect(reason));
            }
            Action::HearsOfTheStop(id) => {
                let stop = session::Input::Disconnect(DoneReason::Shutdown);
                self.session(node, id, Conn::now(), stop);
            }
            Action::PeerManager(lane) => self.peer_manager(node, lane),
            Action::Subscriber(Role::Sync, lane) => self.sync_manager(node, lane),
            Action::Subscriber(Role::Test, lane) => self.second_subscriber(node, lane),
            Action::Silence => self.silence(node),
            Action::Disconnect(id) => {
                let (now, target) = (self.now(), DisconnectTarget::ById(id));
                let stepped = self.table.call(|table| table.disconnect(now, target));
                self.perform(node, stepped, Carried::default());
            }
            Action::Ban => {
                let target = Subnet::of(Kind::Inbound.host()).into();
                let order = BanCommand::Add {
                    target,
                    time: BanTime::Default,
                };
                let now = self.now();
                let stepped = self.table.call(|table| table.ban(now, order));
                self.perform(node, stepped, Carried::default());
            }
            Action::StopAccepting => self.stage = Stage::IntakeStopped,
            Action::Drain => {
                self.stage = Stage::Draining;
                self.step_table(node, peer_table::Input::Drain, Carried::default());
            }
            Action::AllHome => self.all_free(),
            Action::AddArrives(id) => {
                let add = self.underway.remove(&id).expect("it is under way");
                self.to_peers.post(Lane::First, ToPeers::Add(add));
            }
            Action::Callback(id) => self.callback(node, id),
        }
    }

    fn conn(&mut self, id: ConnId) -> &mut Conn {
        self.conns
            .get_mut(&id)
            .expect("the action is about one that is")
    }

    // ---- The connection: `Peer` and its lifecycle guard.

    fn open(&mut self, kind: Kind) {
        let id = ConnId(self.opened);
        self.opened += 1;
        self.free_slots -= 1;
        self.conns.insert(id, Conn::new(id, kind));
    }

    fn verack(&mut self, node: &Node, id: ConnId) {
        if node.wiring != Wiring::FlagBeforeCallback {
            return self.receive(node, id, Message::Verack, None);
        }
        // The connection goes on as if it had not seen it until its callback has run.
        let mut seen = (*self.conns[&id].session).clone();
        let effects = seen.step(Conn::now(), session::Input::Received(Message::Verack));
        let version_info = effects.into_iter().find_map(|effect| match effect {
            session::Effect::Ready(version_info) => Some(version_info),
            _ => None,
        });
        let version_info = version_info.expect("verack completes the handshake");
        self.callbacks.insert(id, Arc::new(version_info));
    }

    /// Mutant (c): the callback runs, whatever has become of the connection.
    fn callback(&mut self, node: &Node, id: ConnId) {
        let version_info = self.callbacks.remove(&id).expect("it has not run");
        if let Some(conn) = self.conns.get_mut(&id) {
            let session = Arc::make_mut(&mut conn.session);
            session.step(Conn::now(), session::Input::Received(Message::Verack));
        }
        self.post_add(node, version_info);
    }

    fn receive(&mut self, node: &Node, id: ConnId, message: Message, say: Option<Say>) {
        let input = session::Input::Received(message);
        self.session_with(node, id, Conn::now(), input, say);
    }

    fn session(&mut self, node: &Node, id: ConnId, now: Now, input: session::Input) {
        self.session_with(node, id, now, input, None);
    }

    fn session_with(
        &mut self,
        node: &Node,
        id: ConnId,
        now: Now,
        input: session::Input,
        say: Option<Say>,
    ) {
        let session = Arc::make_mut(&mut self.conn(id).session);
        for effect in session.step(now, input) {
            match effect {
                session::Effect::Send(_) | session::Effect::Rtt(_) => {}
                session::Effect::Ready(version_info) => {
                    self.post_add(node, Arc::new(version_info));
                }
                session::Effect::Deliver(_) => {
                    let say = say.expect("only what the remote says is delivered");
                    self.to_peers.post(Lane::First, ToPeers::Said(id, say));
                }
                session::Effect::Close(reason) => self.drop_guard(node, id, reason),
            }
        }
    }

    fn post_add(&mut self, node: &Node, version_info: Arc<VersionInfo>) {
        let id = version_info.id;
        self.posted(node, id);
        if node.wiring == Wiring::SeparateSenders {
            self.underway.insert(id, version_info);
        } else {
            self.to_peers.post(Lane::First, ToPeers::Add(version_info));
        }
    }

    /// The actor is gone: its mailbox is lost, and its guard sends `Done` with the slot.
    fn drop_guard(&mut self, node: &Node, id: ConnId, reason: DoneReason) {
        let conn = self.conns.remove(&id).expect("it ends once");
        let mut disconnection = disconnection(id, &conn, reason);
        if self.callbacks.contains_key(&id) {
            disconnection.reached = Reached::Handshake;
        }
        self.posted(node, id);
        let slot = if node.wiring == Wiring::SlotFreedWhenSent {
            self.free_slots += 1;
            None
        } else {
            Some(Slot)
        };
        let lane = match node.wiring {
            Wiring::TwoQueuesAtPeers => Lane::Second,
            _ => Lane::First,
        };
        self.to_peers
            .post(lane, ToPeers::Done(Arc::new(disconnection), slot));
    }

    fn posted(&mut self, node: &Node, id: ConnId) {
        if node.observed {
            let result = self.ledger.posted(id);
            self.observe("observer", result);
        }
    }

    // ---- PeerManager.

    fn peer_manager(&mut self, node: &Node, lane: Lane) {
        let mail = self.to_peers.take(lane).expect("enabled with mail only");
        if node.wiring == Wiring::DrainDropsEvents && self.stage >= Stage::Draining {
            // Dropping a Done drops its slot, which goes home.
            if let ToPeers::Done(_, Some(Slot)) = mail {
                self.free_slots += 1;
            }
            return;
        }
        match mail {
            ToPeers::Add(version_info) => self.handle_add(node, &version_info),
            ToPeers::Said(id, say) => {
                let message = say.message().into();
                let carried = Carried {
                    say: Some(say),
                    slot: None,
                };
                self.step_table(node, peer_table::Input::Message { id, message }, carried);
            }
            ToPeers::Done(disconnection, slot) => self.handle_done(node, &disconnection, slot),
            ToPeers::Order(from, order) => {
                let order = (*order).clone();
                let order = peer_table::Input::Order { from, order };
                self.step_table(node, order, Carried::default());
            }
        }
    }

    fn handle_add(&mut self, node: &Node, version_info: &VersionInfo) {
        let id = version_info.id;
        if node.observed {
            let result = self.ledger.peer_add(id);
            self.observe("observer", result);
        }
        let input = peer_table::Input::Add(version_info.clone());
        self.step_table(node, input, Carried::default());
        if node.observed && self.broken.is_empty() {
            let result = if self.table.ids.contains(&id) {
                self.ledger.admitted(id, self.table.notified_of(id))
            } else {
                self.ledger.refused(id)
            };
            self.observe("observer", result);
        }
    }

    fn handle_done(&mut self, node: &Node, disconnection: &Disconnection, slot: Option<Slot>) {
        if node.observed {
            let result = self.ledger.peer_done(disconnection.id);
            self.observe("observer", result);
        }
        let was_admitted = self.table.ids.contains(&disconnection.id);
        let input = peer_table::Input::Done(disconnection.clone());
        self.step_table(node, input, Carried { slot, say: None });
        let by_flag = node.wiring == Wiring::DoneByThePeersFlag;
        if by_flag && !was_admitted && disconnection.reached >= Reached::Handshake {
            self.post_done(node, Role::Sync.into(), disconnection.id, None);
        }
    }

    /// One step of the table, and its effects, as the PeerManager actor performs them.
    fn step_table(&mut self, node: &Node, input: peer_table::Input, carried: Carried) {
        let stepped = self.table.step(self.now(), input);
        self.perform(node, stepped, carried);
    }

    fn perform(
        &mut self,
        node: &Node,
        stepped: Result<(Arc<Table>, Vec<peer_table::Effect>), Panicked>,
        mut carried: Carried,
    ) {
        let effects = match stepped {
            Ok((table, effects)) => {
                self.table = table;
                effects
            }
            Err(panicked) => return self.panicked("PeerManager", panicked),
        };
        for effect in effects {
            match effect {
                peer_table::Effect::Admit { peer, roles } => {
                    let added = Told::Added(Arc::new(peer));
                    self.tell(roles, Lane::First, &added);
                }
                peer_table::Effect::Retire { id, roles } => {
                    // Without a subscriber that wants it, it stays here and is free when the step is over.
                    let slot = carried.slot.take_if(|_| !roles.is_empty());
                    self.post_done(node, roles, id, slot);
                }
                peer_table::Effect::Forward {
                    id,
                    message: _,
                    roles,
                } => {
                    let say = carried.say.take().expect("forwarded when it arrives");
                    self.tell(roles, Lane::First, &Told::Said(id, say));
                }
                peer_table::Effect::Disconnect { id, reason } => {
                    // A connection that has ended lost its mailbox.
                    if let Some(conn) = self.conns.get_mut(&id) {
                        conn.orders.push(reason);
                    }
                }
                peer_table::Effect::Dial { .. } | peer_table::Effect::Resolve { .. } => {
                    self.broken.push(Broken {
                        invariant: "?",
                        text: "PeerManager dials, though it must not".into(),
                    });
                }
                // To the remote, the operator, the log.
                peer_table::Effect::Send { .. }
                | peer_table::Effect::BansChanged
                | peer_table::Effect::Notice(_) => {}
            }
        }
        self.free_slots += usize::from(carried.slot.is_some());
    }

    fn post_done(&mut self, node: &Node, to: Roles, id: ConnId, slot: Option<Slot>) {
        let lane = match node.wiring {
            Wiring::TwoQueuesAtSync => Lane::Second,
            _ => Lane::First,
        };
        self.tell(to, lane, &Told::Done(id, slot));
    }

    fn tell(&mut self, to: Roles, lane: Lane, what: &Told) {
        for role in to.iter() {
            let mailbox = self.to.get_mut(&role).expect("it is a subscriber");
            mailbox.post(lane, what.clone());
        }
    }

    // ---- The subscribers.

    fn take(&mut self, role: Role, lane: Lane) -> Told {
        let mailbox = self.to.get_mut(&role).expect("it is a subscriber");
        mailbox.take(lane).expect("enabled with mail only")
    }

    /// A subscriber has handled `Done`: its part of the slot is dropped.
    fn drop_part(&mut self, node: &Node, id: ConnId, part: Option<Slot>) {
        let mail = self.to.values_mut().flat_map(|it| it.iter_mut());
        let parts = mail.filter_map(|mail| match mail {
            Told::Done(of, part) if *of == id => part.is_some().then_some(part),
            Told::Done(..) | Told::Added(_) | Told::Said(..) => None,
        });
        let mut others: Vec<&mut Option<Slot>> = parts.collect();
        if node.wiring == Wiring::SlotFreedAfterTheFirst {
            others.drain(..).for_each(|part| *part = None);
        }
        self.free_slots += usize::from(part.is_some() && others.is_empty());
    }

    /// The test subscriber, which wants peers disconnected that send a bad header.
    fn second_subscriber(&mut self, node: &Node, lane: Lane) {
        match self.take(Role::Test, lane) {
            Told::Added(version_info) => {
                self.handled(node, |ledger| ledger.add(Role::Test, version_info.id));
                let result = self.second.added(version_info.id);
                self.observe("TestManager", result);
            }
            Told::Said(id, Say::BadHeader) => {
                let reason = DoneReason::Requested;
                let order = Arc::new(Order::Disconnect { id, reason });
                self.to_peers
                    .post(Lane::First, ToPeers::Order(Role::Test, order));
            }
            Told::Said(_, Say::NothingNew) => {}
            Told::Done(id, slot) => {
                self.handled(node, |ledger| ledger.done(Role::Test, id));
                let result = self.second.ended(id);
                self.observe("TestManager", result);
                self.drop_part(node, id, slot);
            }
        }
    }

    /// Tells the observer what a subscriber handles.
    fn handled(&mut self, node: &Node, tell: impl FnOnce(&mut Ledger) -> Result<(), Violation>) {
        if node.observed {
            let result = tell(&mut self.ledger);
            self.observe("observer", result);
        }
    }

    fn sync_manager(&mut self, node: &Node, lane: Lane) {
        match self.take(Role::Sync, lane) {
            Told::Added(version_info) => {
                self.handled(node, |ledger| ledger.add(Role::Sync, version_info.id));
                let input = sync::Input::Added((*version_info).clone());
                self.step_sync(node, self.now(), input);
            }
            Told::Said(id, say) => {
                let message = say.message().into();
                self.step_sync(node, self.now(), sync::Input::Message { id, message });
            }
            Told::Done(id, slot) => {
                self.handled(node, |ledger| ledger.done(Role::Sync, id));
                self.step_sync(node, self.now(), sync::Input::Done { id });
                self.drop_part(node, id, slot);
            }
        }
    }

    /// One step of the machine, and its effects, as the SyncManager actor performs them.
    fn step_sync(&mut self, node: &Node, now: Now, input: sync::Input) {
        let effects = match self.sync.step(now, input) {
            Ok((sync, effects)) => {
                self.sync = sync;
                effects
            }
            Err(panicked) => return self.panicked("SyncManager", panicked),
        };
        if node.observed {
            let result = self.ledger.sync_peer(self.sync.source);
            self.observe("observer", result);
        }
        for effect in effects {
            let order = match effect {
                sync::Effect::Send { id, message } if node.sends => Order::Send { id, message },
                sync::Effect::Disconnect { id, reason } => Order::Disconnect { id, reason },
                sync::Effect::Useful { id } => Order::Useful { id },
                sync::Effect::WantPeers => Order::MorePeers,
                // Nothing is fed that needs the kernel, the disk or RPC.
                sync::Effect::Send { .. }
                | sync::Effect::CheckHeaders { .. }
                | sync::Effect::CheckBlock { .. }
                | sync::Effect::ServeBlock { .. }
                | sync::Effect::Answer { .. }
                | sync::Effect::TreeChanged => continue,
            };
            self.to_peers
                .post(Lane::First, ToPeers::Order(Role::Sync, Arc::new(order)));
        }
    }

    /// Every timer of SyncManager that falls due in [`SILENCE`] fires on time.
    fn silence(&mut self, node: &Node) {
        let end = self.now().after(SILENCE);
        let begin = self.now();
        self.silences += 1;
        while let Some(due) = self.sync.deadline().filter(|due| *due <= end.mono) {
            let at = begin.after(due.saturating_sub(begin.mono).max(Duration::ZERO));
            self.step_sync(node, at, sync::Input::Tick);
            let moved = self.sync.deadline().is_none_or(|next| next > due);
            if !self.broken.is_empty() || !moved {
                break;
            }
        }
    }

    // ---- The end.

    /// The barrier is passed: what `StopPeers` and `StopSubscriber` assert.
    fn all_free(&mut self) {
        self.stage = Stage::Stopped;
        if let Err(panicked) = self.table.assert_all_free() {
            self.panicked("PeerManager", panicked);
        }
        let result = self.ledger.all_slots_free();
        self.observe("observer", result);
        let mut left = vec![
            ("peers in the peer table".to_owned(), self.table.ids.len()),
            (
                "lifecycle messages in mailboxes".to_owned(),
                self.lifecycle_messages(),
            ),
        ];
        let table = |role: Role| format!("peers in the {} table", role.name());
        left.extend(
            self.subscribers()
                .map(|(role, ids)| (table(role), ids.len())),
        );
        for (what, count) in left.into_iter().filter(|(_, count)| *count > 0) {
            self.broken.push(Broken {
                invariant: "L6",
                text: format!("all slots are free and there are {count} {what}"),
            });
        }
    }
}
