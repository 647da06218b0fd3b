//! Checks the invariants L1-L6 of [`crate::lifecycle`] on what really happens.
//!
//! Each manager keeps one ledger of its own ([`Scope::PeerManager`],
//! [`Scope::Subscriber`]) and asserts every answer in release builds too; a
//! model, a simulator or a trace of a run keeps one over all of them
//! ([`Scope::Whole`]), which also sees what lies between them.
//!
//! # Memory
//!
//! An ended connection must not be forgotten, or its id could come back
//! unnoticed; and it must not be remembered for ever. A high-water mark alone
//! would be wrong: ids are issued in order but handshakes end out of order, so
//! `Add` of id 4 after `Done` of id 5 is right. Ended ids are therefore kept as
//! runs `first..=last`. Between two runs lies at least one connection that has
//! not ended, so while every issued id ends (L2) there are never more runs than
//! open connections plus one. A subscriber sees only ids that were admitted and that it
//! wants, so its gaps stay; its runs, like any, are cut at [`MAX_RUNS`] by forgetting the
//! lowest.

use std::collections::BTreeMap;

use super::{ConnId, Role, Roles};

/// Most runs of ended ids that a ledger remembers.
///
/// Far above the number of connections a process can hold open in one table, so
/// nothing is forgotten at PeerManager. At a subscriber it means that an id may
/// be caught coming back while the latest 4,096 runs of ended ones are known;
/// older ones are caught by PeerManager's ledger, which is exact.
pub const MAX_RUNS: usize = 4_096;

/// A broken invariant: our own bug, never a remote's doing.
#[derive(Clone, Debug, PartialEq, Eq, Hash, thiserror::Error)]
#[error("{invariant} broken by {event}: {detail}")]
pub struct Violation {
    /// Which invariant, `"L1"` to `"L6"`.
    pub invariant: &'static str,
    /// What happened, e.g. `"peer_done(peer 3)"`.
    pub event: String,
    /// Why it must not happen.
    pub detail: &'static str,
}

/// Turns a [`Violation`] into a panic that names the invariant.
pub trait AssertHeld {
    /// Panics when the invariant did not hold; in release builds too.
    fn assert_held(self);
}

impl AssertHeld for Result<(), Violation> {
    #[track_caller]
    fn assert_held(self) {
        if let Err(violation) = self {
            panic!("lifecycle {violation}");
        }
    }
}

/// Which events a ledger is notified of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Scope {
    /// Those that PeerManager handles.
    PeerManager,
    /// Those that one subscriber handles.
    Subscriber(Role),
    /// All of them, in the order in which they were handled.
    Whole,
}

/// What PeerManager knows of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum AtPeers {
    /// Messages are posted, none was handled.
    Unseen,
    /// `Add` was handled, no decision yet.
    Added,
    Admitted,
    Refused,
    /// `Done` was handled; it had been admitted.
    Gone,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Entry {
    peers: AtPeers,
    /// The subscribers that want it; known once it was admitted.
    wanted: Roles,
    /// Those of them that have handled `Add`.
    added: Roles,
    /// Those of them that have handled `Done`.
    done: Roles,
    /// Messages in PeerManager's mailbox, when the observer counts them.
    posted: u8,
}

const UNSEEN: Entry = Entry {
    peers: AtPeers::Unseen,
    wanted: Roles::NONE,
    added: Roles::NONE,
    done: Roles::NONE,
    posted: 0,
};

/// Lifecycle messages of one connection that may wait on the way to one subscriber (L5).
const MOST_ON_A_WAY: u8 = 2;

impl Entry {
    /// Whether the connection is one of this subscriber's peers.
    fn is_live(self, role: Role) -> bool {
        self.added.contains(role) && !self.done.contains(role)
    }

    /// Messages that PeerManager has passed on to this subscriber and that wait there.
    fn passed_on(self, role: Role) -> u8 {
        let told = match self.peers {
            AtPeers::Unseen | AtPeers::Added | AtPeers::Refused => 0,
            AtPeers::Admitted => 1,
            AtPeers::Gone => 2,
        };
        let handled = u8::from(self.added.contains(role)) + u8::from(self.done.contains(role));
        u8::saturating_sub(told, handled)
    }

    /// The most messages that wait on the way to any subscriber.
    fn most_on_a_way(self) -> u8 {
        let waiting = self.wanted.iter().map(|role| self.passed_on(role));
        self.posted.saturating_add(waiting.max().unwrap_or(0))
    }

    /// Lifecycle messages of this connection that are queued somewhere.
    fn queued(self) -> usize {
        let passed_on = self.wanted.iter().map(|role| self.passed_on(role));
        usize::from(self.posted) + passed_on.map(usize::from).sum::<usize>()
    }
}

/// Checks L1-L6. See the module for what it remembers and for how long.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Ledger {
    scope: Scope,
    /// Connections that some manager still knows or has to hear of.
    open: BTreeMap<ConnId, Entry>,
    sync_peer: Option<ConnId>,
    /// Ended ids: first of the run -> last of the run.
    ended: BTreeMap<u64, u64>,
}

impl Ledger {
    /// An empty ledger.
    #[must_use]
    pub fn new(scope: Scope) -> Self {
        Self {
            scope,
            open: BTreeMap::new(),
            sync_peer: None,
            ended: BTreeMap::new(),
        }
    }

    /// The guard of `id` put one lifecycle message into PeerManager's mailbox.
    ///
    /// Passed by simulators and traces, which see mailboxes; a manager does not.
    ///
    /// # Errors
    /// L2 when nothing may follow, L5 when a third message waits on the way to a subscriber.
    pub fn posted(&mut self, id: ConnId) -> Result<(), Violation> {
        if self.has_ended(id) {
            return broken("L2", "posted", id, "its Done was already handled");
        }
        let entry = self.open.entry(id).or_insert(UNSEEN);
        entry.posted = entry.posted.saturating_add(1);
        if entry.most_on_a_way() > MOST_ON_A_WAY {
            return broken(
                "L5",
                "posted",
                id,
                "more than two lifecycle messages wait on the way to a subscriber",
            );
        }
        Ok(())
    }

    /// PeerManager handles `Add`.
    ///
    /// # Errors
    /// L1 when the id was used before, L2 when it was added before.
    pub fn peer_add(&mut self, id: ConnId) -> Result<(), Violation> {
        if self.has_ended(id) {
            return broken("L1", "peer_add", id, REUSED);
        }
        let entry = self.open.entry(id).or_insert(UNSEEN);
        match entry.peers {
            AtPeers::Unseen => {
                entry.peers = AtPeers::Added;
                entry.posted = entry.posted.saturating_sub(1);
                Ok(())
            }
            AtPeers::Added | AtPeers::Admitted | AtPeers::Refused => {
                broken("L2", "peer_add", id, "a second Add")
            }
            AtPeers::Gone => broken("L2", "peer_add", id, "Add after Done"),
        }
    }

    /// PeerManager takes the connection into its table and tells the subscribers that want it.
    ///
    /// # Errors
    /// L3 unless `Add` was handled and nothing was decided yet.
    pub fn admitted(&mut self, id: ConnId, wanted: Roles) -> Result<(), Violation> {
        self.decide(id, AtPeers::Admitted, wanted, "admitted")
    }

    /// PeerManager refuses the connection; no subscriber ever hears of it.
    ///
    /// # Errors
    /// L3 unless `Add` was handled and nothing was decided yet.
    pub fn refused(&mut self, id: ConnId) -> Result<(), Violation> {
        self.decide(id, AtPeers::Refused, Roles::NONE, "refused")
    }

    fn decide(
        &mut self,
        id: ConnId,
        to: AtPeers,
        wanted: Roles,
        event: &str,
    ) -> Result<(), Violation> {
        match self.open.get_mut(&id) {
            Some(entry) if entry.peers == AtPeers::Added => {
                (entry.peers, entry.wanted) = (to, wanted);
                Ok(())
            }
            Some(_) | None => broken("L3", event, id, "admission is decided once, at Add"),
        }
    }

    /// PeerManager handles `Done`; when the connection was admitted it notifies the
    /// subscribers that want it.
    ///
    /// # Errors
    /// L2 for a second `Done`; L3 when `Add` was left undecided.
    pub fn peer_done(&mut self, id: ConnId) -> Result<(), Violation> {
        if self.has_ended(id) {
            return broken("L2", "peer_done", id, "a second Done");
        }
        let mut entry = self.open.get(&id).copied().unwrap_or(UNSEEN);
        entry.posted = entry.posted.saturating_sub(1);
        match entry.peers {
            AtPeers::Gone => return broken("L2", "peer_done", id, "a second Done"),
            AtPeers::Added => {
                return broken(
                    "L3",
                    "peer_done",
                    id,
                    "Add was neither admitted nor refused",
                );
            }
            AtPeers::Admitted if self.scope == Scope::Whole && !entry.wanted.is_empty() => {
                entry.peers = AtPeers::Gone;
                self.open.insert(id, entry);
            }
            AtPeers::Unseen | AtPeers::Refused | AtPeers::Admitted => self.end(id),
        }
        Ok(())
    }

    /// A subscriber handles `Add`.
    ///
    /// # Errors
    /// L1 when the id was used before, L2 for a second `Add`, L3 when it was never admitted or
    /// the subscriber does not want it.
    pub fn add(&mut self, role: Role, id: ConnId) -> Result<(), Violation> {
        if self.has_ended(id) {
            return broken("L1", &event(role, "add"), id, REUSED);
        }
        if self.scope == Scope::Whole {
            let is_told = |entry: &Entry| entry.wanted.contains(role);
            if !self.open.get(&id).is_some_and(is_told) {
                let detail = "PeerManager did not admit it for this subscriber";
                return broken("L3", &event(role, "add"), id, detail);
            }
        }
        let entry = self.open.entry(id).or_insert(UNSEEN);
        if entry.added.contains(role) {
            return broken("L2", &event(role, "add"), id, "a second Add");
        }
        entry.added = entry.added.with(role);
        Ok(())
    }

    /// A subscriber handles `Done`. A sync peer that ends is none any more (S3): SyncManager
    /// names the next one with [`Ledger::sync_peer`].
    ///
    /// # Errors
    /// L2 for a second `Done`; L3 when `Add` was not handled or PeerManager still has it.
    pub fn done(&mut self, role: Role, id: ConnId) -> Result<(), Violation> {
        let again = "a second Done, or Done without Add";
        let Some(entry) = self.open.get_mut(&id) else {
            return broken("L2", &event(role, "done"), id, again);
        };
        if entry.done.contains(role) {
            return broken("L2", &event(role, "done"), id, again);
        }
        if !entry.added.contains(role) {
            return broken("L3", &event(role, "done"), id, "Done without Add");
        }
        if self.scope == Scope::Whole && entry.peers != AtPeers::Gone {
            let detail = "PeerManager has not handled Done";
            return broken("L3", &event(role, "done"), id, detail);
        }
        entry.done = entry.done.with(role);
        let was_last = self.scope != Scope::Whole || entry.done == entry.wanted;
        if role == Role::Sync && self.sync_peer == Some(id) {
            self.sync_peer = None;
        }
        if was_last {
            self.end(id);
        }
        Ok(())
    }

    /// SyncManager names its sync peer. To be passed at the end of every step.
    ///
    /// # Errors
    /// L4 when it is not one of SyncManager's peers.
    pub fn sync_peer(&mut self, id: Option<ConnId>) -> Result<(), Violation> {
        if let Some(id) = id {
            let live = self.open.get(&id).is_some_and(|e| e.is_live(Role::Sync));
            if !live {
                return broken(
                    "L4",
                    "sync_peer",
                    id,
                    "it is not one of SyncManager's peers",
                );
            }
        }
        self.sync_peer = id;
        Ok(())
    }

    /// All slots are free: nothing may be left in any table or mailbox.
    ///
    /// # Errors
    /// L6, naming the lowest connection that is left.
    pub fn all_slots_free(&self) -> Result<(), Violation> {
        match self.open.first_key_value() {
            Some((id, _)) => broken("L6", "all_slots_free", *id, "it is still in a table"),
            None => Ok(()),
        }
    }

    /// Connections that PeerManager admitted and that have not ended there.
    pub fn at_peers(&self) -> impl Iterator<Item = ConnId> + '_ {
        self.open
            .iter()
            .filter(|(_, e)| e.peers == AtPeers::Admitted)
            .map(|(id, _)| *id)
    }

    /// The peers of a subscriber.
    pub fn at(&self, role: Role) -> impl Iterator<Item = ConnId> + '_ {
        let live = self.open.iter().filter(move |(_, e)| e.is_live(role));
        live.map(|(id, _)| *id)
    }

    /// Lifecycle messages that are queued, over all connections: of each at most two for each
    /// subscriber (L5).
    #[must_use]
    pub fn queued(&self) -> usize {
        self.open.values().map(|entry| entry.queued()).sum()
    }

    fn has_ended(&self, id: ConnId) -> bool {
        self.ended
            .range(..=id.0)
            .next_back()
            .is_some_and(|(_, last)| id.0 <= *last)
    }

    /// Moves `id` from the open connections into the runs of ended ones.
    fn end(&mut self, id: ConnId) {
        self.open.remove(&id);
        let (mut first, mut last) = (id.0, id.0);
        if let Some((&before, &end)) = self.ended.range(..id.0).next_back()
            && end.checked_add(1) == Some(id.0)
        {
            first = before;
        }
        if let Some(next) = id.0.checked_add(1)
            && let Some(end) = self.ended.remove(&next)
        {
            last = end;
        }
        self.ended.insert(first, last);
        while self.ended.len() > MAX_RUNS {
            self.ended.pop_first();
        }
    }
}

/// What an `Add` of an ended connection means.
const REUSED: &str = "the id was used before, or Done overtook Add";

/// What a subscriber handled, e.g. `sync_add`.
fn event(role: Role, what: &str) -> String {
    format!("{}_{what}", role.name())
}

fn broken(
    invariant: &'static str,
    event: &str,
    id: ConnId,
    detail: &'static str,
) -> Result<(), Violation> {
    Err(Violation {
        invariant,
        event: format!("{event}({id})"),
        detail,
    })
}

#[cfg(test)]
mod tests;
