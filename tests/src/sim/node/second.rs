//! The test subscriber: what every subscriber of PeerManager does, and no more. It keeps a
//! table and an account of its own, and releases slots and credit when it has handled what it got.

use std::collections::{BTreeSet, VecDeque};
use std::sync::Arc;

use handfast_proto::fair_queue::{FairQueue, LIFECYCLE, cost};
use handfast_proto::lifecycle::{ConnId, Direction, Ledger, Role, Scope};
use handfast_wire::Message;

use super::peer::Credit;
use super::{Running, Stage};
use crate::sim::engine::{Actor, Engine};

/// What comes into its mailbox.
#[derive(Debug)]
pub(super) enum SecondMail {
    Add(ConnId),
    Input(ConnId, Arc<Message>, Arc<Credit>),
    /// With its part of the slot.
    Done(ConnId, Arc<Option<Direction>>),
    Stop,
}

impl SecondMail {
    /// The connection that sent it, and what it costs to handle.
    fn flow(&self) -> Option<(ConnId, u64)> {
        match self {
            Self::Add(id) | Self::Done(id, _) => Some((*id, LIFECYCLE)),
            Self::Input(id, message, _) => Some((*id, cost(message))),
            Self::Stop => None,
        }
    }
}

/// See the module.
#[derive(Debug)]
pub(super) struct Second {
    mail: VecDeque<SecondMail>,
    queue: FairQueue<SecondMail>,
    pub(super) peers: BTreeSet<ConnId>,
    account: Ledger,
}

impl Default for Second {
    fn default() -> Self {
        Self {
            mail: VecDeque::new(),
            queue: FairQueue::default(),
            peers: BTreeSet::new(),
            account: Ledger::new(Scope::Subscriber(Role::Test)),
        }
    }
}

impl Second {
    /// `node/src/turns.rs`, as at the managers.
    fn next(&mut self, engine: &mut Engine) -> Option<SecondMail> {
        loop {
            let waits = self.mail.is_empty() || engine.random.below(2) == 0;
            if waits && let Some((_, mail)) = self.queue.pop() {
                return Some(mail);
            }
            let mail = self.mail.pop_front()?;
            match mail.flow() {
                Some((id, cost)) => self.queue.push(id, cost, mail),
                None => return Some(mail),
            }
        }
    }
}

impl Running {
    /// Whether PeerManager has this subscriber.
    pub(crate) fn has_second(&self) -> bool {
        self.profile.subscribers.contains(Role::Test)
    }

    pub(super) fn post_second(&mut self, engine: &mut Engine, mail: SecondMail) {
        self.second.mail.push_back(mail);
        self.wake(engine, Actor::Second);
    }

    pub(super) fn poll_second(&mut self, engine: &mut Engine) {
        for _ in 0..Self::portion(engine) {
            let Some(mail) = self.second.next(engine) else {
                return;
            };
            self.handle_second(engine, mail);
            self.compare_tables(engine);
            if engine.breach.is_some() {
                return;
            }
        }
        self.wake(engine, Actor::Second);
    }

    fn handle_second(&mut self, engine: &mut Engine, mail: SecondMail) {
        let node = self.host.node;
        match mail {
            SecondMail::Add(id) => {
                engine.line(format_args!("n{node} second: Add({id})"));
                self.observe(engine, |ledger| ledger.add(Role::Test, id));
                let second = &mut self.second;
                let accounted = second.account.add(Role::Test, id);
                second.peers.insert(id);
                self.judge(engine, accounted);
            }
            SecondMail::Input(id, message, credit) => {
                if !self.second.peers.contains(&id) {
                    let text = format!("n{node}: {id} sent {message:?} and is no peer");
                    engine.breach("L3", text);
                }
                engine.counts.count("message shared by two subscribers");
                self.handled_by_one(engine, credit);
            }
            SecondMail::Done(id, slot) => {
                engine.line(format_args!("n{node} second: Done({id})"));
                self.observe(engine, |ledger| ledger.done(Role::Test, id));
                let second = &mut self.second;
                let accounted = second.account.done(Role::Test, id);
                second.peers.remove(&id);
                self.judge(engine, accounted);
                self.drop_part(engine, slot);
            }
            SecondMail::Stop => {
                let left = &self.second.peers;
                if !left.is_empty() {
                    let text = format!("all slots are free and the second still knows {left:?}");
                    engine.breach("L6", text);
                }
                self.stage = Stage::SecondStopped;
                self.stop_sync_next(engine);
            }
        }
    }

    /// `Drop` of one part of a message's credit.
    pub(super) fn handled_by_one(&mut self, engine: &mut Engine, credit: Arc<Credit>) {
        if let Some(credit) = Arc::into_inner(credit) {
            self.give_back(engine, credit);
        }
    }

    /// `Drop` of one part of a slot.
    pub(super) fn drop_part(&mut self, engine: &mut Engine, slot: Arc<Option<Direction>>) {
        if let Some(slot) = Arc::into_inner(slot) {
            self.slots.free(slot);
            self.home(engine);
        }
    }
}
