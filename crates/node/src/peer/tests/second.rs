//! Two subscribers of PeerManager: SyncManager, and an actor beside it that does what every
//! subscriber does. Both are real, on one arbiter and on virtual time.

use std::cell::{Cell, RefCell};
use std::collections::BTreeSet;
use std::rc::Rc;

use actix::{Context, MessageResult};
use bitcoin::p2p::ServiceFlags;
use handfast_proto::fair_queue::{FairQueue, LIFECYCLE, cost};
use handfast_proto::lifecycle::{AssertHeld, Ledger, Role, Roles, Scope};
use handfast_proto::peer_table::Order;

use super::managers::{House, assert_all_gone, handled, sync, with_subscribers};
use super::*;
use crate::audit::{Handled, Report};
use crate::credit::MAX_FRAMES;
use crate::peer_manager::messages::Command;
use crate::post::post;
use crate::subscribers::{
    StopSubscriber, SubscriberAdd, SubscriberAudit, SubscriberDone, SubscriberInput,
};
use crate::turns::{self, TakesTurns};

/// What goes through the queue, and what remains of it.
#[derive(Debug)]
pub(super) enum Told {
    Add(Box<SubscriberAdd>),
    Input(SubscriberInput),
    Done(SubscriberDone),
    Audit(SubscriberAudit),
}

/// What the subscriber tells the test, and the test it.
#[derive(Debug)]
pub(super) struct Notes {
    roles: Roles,
    heard: RefCell<Vec<Heard>>,
    /// What it receives is held, as if it were not handled yet.
    keeps: Cell<bool>,
    kept: RefCell<Vec<Told>>,
}

impl Notes {
    /// Whether the subscriber is one of PeerManager's.
    pub(super) fn is_there(&self) -> bool {
        self.roles.contains(Role::Test)
    }

    /// What was held is handled now, and what arrives too.
    fn go_on(&self) {
        self.keeps.set(false);
        self.kept.borrow_mut().clear();
    }
}

/// See the module. It keeps a table and an account, as every subscriber does.
pub(super) struct Second {
    queue: FairQueue<Told>,
    account: Ledger,
    peers: BTreeSet<ConnId>,
    handled: Handled,
    slots: Slots,
    notes: Rc<Notes>,
}

impl Second {
    pub(super) fn new(slots: Slots, roles: Roles) -> (Self, Rc<Notes>) {
        let notes = Rc::new(Notes {
            roles,
            heard: RefCell::default(),
            keeps: Cell::new(false),
            kept: RefCell::default(),
        });
        let second = Self {
            queue: FairQueue::default(),
            account: Ledger::new(Scope::Subscriber(Role::Test)),
            peers: BTreeSet::new(),
            handled: Handled::default(),
            slots,
            notes: notes.clone(),
        };
        (second, notes)
    }

    fn hear(&self, heard: Heard) {
        self.notes.heard.borrow_mut().push(heard);
    }
}

impl Actor for Second {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Self::Context) {
        ctx.set_mailbox_capacity(0);
        turns::start(ctx);
    }
}

impl TakesTurns for Second {
    type Item = Told;

    fn queue(&mut self) -> &mut FairQueue<Told> {
        &mut self.queue
    }

    fn handle_item(&mut self, item: Told) {
        self.slots.assert_bounded();
        match &item {
            Told::Add(add) => {
                let id = add.version_info.id;
                self.account.add(Role::Test, id).assert_held();
                self.handled.adds += 1;
                self.peers.insert(id);
                self.hear(Heard::Add(id.0));
            }
            Told::Input(input) => {
                let (id, kind) = (input.id, input.message.kind());
                assert!(self.peers.contains(&id), "L3: {id} is no peer");
                let name = kind.expect("only what is known is forwarded").name();
                self.hear(Heard::Input(id.0, name));
            }
            Told::Done(done) => {
                self.account.done(Role::Test, done.id).assert_held();
                self.handled.dones += 1;
                self.peers.remove(&done.id);
                // The reason is PeerManager's.
                self.hear(Heard::Done(done.id.0, DoneReason::RemoteClosed));
            }
            Told::Audit(SubscriberAudit(inquiry)) => {
                let report = Report {
                    peers: self.peers.clone(),
                    sync_peer: None,
                    handled: self.handled,
                    slot_counts: self.slots.counts(),
                };
                return inquiry.answer(Role::Test, report);
            }
        }
        if self.notes.keeps.get() {
            self.notes.kept.borrow_mut().push(item);
        }
    }
}

impl Handler<SubscriberAdd> for Second {
    type Result = ();
    fn handle(&mut self, add: SubscriberAdd, _: &mut Self::Context) {
        let id = add.version_info.id;
        self.queue.push(id, LIFECYCLE, Told::Add(Box::new(add)));
    }
}

impl Handler<SubscriberInput> for Second {
    type Result = ();
    fn handle(&mut self, input: SubscriberInput, _: &mut Self::Context) {
        let cost = cost(&input.message);
        self.queue.push(input.id, cost, Told::Input(input));
    }
}

impl Handler<SubscriberDone> for Second {
    type Result = ();
    fn handle(&mut self, done: SubscriberDone, _: &mut Self::Context) {
        self.queue.push(done.id, LIFECYCLE, Told::Done(done));
    }
}

impl Handler<SubscriberAudit> for Second {
    type Result = ();
    fn handle(&mut self, question: SubscriberAudit, _: &mut Self::Context) {
        self.queue.push_barrier(Told::Audit(question));
    }
}

impl Handler<StopSubscriber> for Second {
    type Result = MessageResult<StopSubscriber>;
    fn handle(&mut self, _: StopSubscriber, ctx: &mut Self::Context) -> Self::Result {
        ctx.stop();
        MessageResult(self.handled)
    }
}

/// A house with both subscribers.
fn with_two(test: impl AsyncFnOnce(&mut House)) {
    with_subscribers(Role::ALL.into(), 8, test);
}

fn heard(house: &House) -> Vec<Heard> {
    house.second.heard.borrow().clone()
}

#[test]
fn a_slot_is_free_when_the_last_of_two_subscribers_has_handled_done() {
    with_two(async |house| {
        house.second.keeps.set(true);
        let (_actor, mut remote) = house.connect();
        handshake(&mut remote).await;
        drop(remote);
        settle().await;
        let audit = house.audit().await;
        assert_eq!(sync(&audit).handled, handled(1, 1), "one has handled it");
        assert_eq!((audit.sockets, audit.slots_taken), (0, 1));
        assert_eq!(audit.lifecycle.queued, 2, "Add and Done of the other one");
        house.second.go_on();
        assert_all_gone(&house.audit().await);
    });
}

#[test]
fn a_subscriber_hears_add_messages_and_done_in_order_and_of_those_alone_that_it_wants() {
    with_two(async |house| {
        let (_full, mut full) = house.connect();
        let (_light, mut light) = house.connect();
        handshake(&mut full).await;
        handshake_as(&mut light, version_of(ServiceFlags::NONE)).await;
        for remote in [&mut full, &mut light] {
            send(remote, Message::SendHeaders).await;
            send(remote, Message::GetAddr).await;
            send(remote, Message::Inv(vec![])).await;
        }
        settle().await;
        let audit = house.audit().await;
        assert_eq!(sync(&audit).peers, [ConnId(0), ConnId(1)].into());
        let of_second = audit.of(Role::Test).expect("it is a subscriber");
        assert_eq!(of_second.peers, [ConnId(0)].into());
        assert!(audit.agrees());
        drop((full, light));
        settle().await;
        let all = [
            Heard::Add(0),
            Heard::Input(0, "sendheaders"),
            Heard::Input(0, "inv"),
            Heard::Done(0, DoneReason::RemoteClosed),
        ];
        assert_eq!(heard(house), all);
        let audit = house.audit().await;
        assert_eq!(sync(&audit).handled, handled(2, 2));
        assert_all_gone(&audit);
    });
}

#[test]
fn the_credit_of_a_message_is_released_when_both_subscribers_have_handled_it() {
    with_two(async |house| {
        let (_actor, mut remote) = house.connect();
        handshake(&mut remote).await;
        settle().await;
        house.second.keeps.set(true);
        let more = 3;
        for _ in 0..MAX_FRAMES + more {
            send(&mut remote, Message::SendHeaders).await;
        }
        settle().await;
        // SyncManager has handled what came; without credit nothing more is read.
        assert_eq!(heard(house).len(), 1 + MAX_FRAMES);
        house.second.go_on();
        settle().await;
        assert_eq!(heard(house).len(), 1 + MAX_FRAMES + more);
    });
}

#[test]
fn an_order_ends_a_peer_that_its_subscriber_was_notified_of_and_no_other() {
    with_two(async |house| {
        let (_full, mut full) = house.connect();
        let (_light, mut light) = house.connect();
        handshake(&mut full).await;
        handshake_as(&mut light, version_of(ServiceFlags::NONE)).await;
        settle().await;
        for id in [0, 1].map(ConnId) {
            let (from, reason) = (Role::Test, DoneReason::Requested);
            let order = Order::Disconnect { id, reason };
            post(&house.peers, Command { from, order });
        }
        settle().await;
        let audit = house.audit().await;
        assert_eq!(audit.peer_table, [ConnId(1)].into());
        send(&mut light, Message::Ping(4)).await;
        wait_for(&mut light, |message| *message == Message::Pong(4)).await;
    });
}
