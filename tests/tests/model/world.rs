//! The state: the managers, their mailboxes, the connections, the slots, the observer.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::fmt;
use std::hash::{Hash, Hasher};
use std::sync::Arc;

use handfast_proto::lifecycle::{
    ConnId, Disconnection, DoneReason, Ledger, Role, Roles, VersionInfo, Violation,
};
use handfast_proto::peer_table::Order;
use handfast_proto::time::Now;

use crate::machines::{Panicked, START, Second, Sync, Table, key_of};
use crate::remotes::{Conn, SILENCE, Say};
use crate::wiring::Lane;

/// A message for PeerManager.
#[derive(Clone, Debug)]
pub(crate) enum ToPeers {
    Add(Arc<VersionInfo>),
    Said(ConnId, Say),
    /// With the connection's slot, unless a wiring freed it already.
    Done(Arc<Disconnection>, Option<Slot>),
    Order(Role, Arc<Order>),
}

/// A message for a subscriber.
#[derive(Clone, Debug, Hash)]
pub(crate) enum Told {
    Added(Arc<VersionInfo>),
    Said(ConnId, Say),
    /// With its part of the connection's slot, unless a wiring freed that already.
    Done(ConnId, Option<Slot>),
}

/// Leave for one connection to exist. Rides in `Done`, and with several subscribers in each of
/// theirs: it is free when none holds it any more.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Slot;

/// A mailbox: FIFO. The wiring as built uses one lane only.
#[derive(Clone, Debug, Hash)]
pub(crate) struct Mailbox<M> {
    first: VecDeque<M>,
    second: VecDeque<M>,
}

impl<M> Default for Mailbox<M> {
    fn default() -> Self {
        Self {
            first: VecDeque::new(),
            second: VecDeque::new(),
        }
    }
}

impl<M> Mailbox<M> {
    pub(crate) fn post(&mut self, lane: Lane, message: M) {
        self.lane_mut(lane).push_back(message);
    }

    pub(crate) fn take(&mut self, lane: Lane) -> Option<M> {
        self.lane_mut(lane).pop_front()
    }

    pub(crate) fn head(&self, lane: Lane) -> Option<&M> {
        match lane {
            Lane::First => self.first.front(),
            Lane::Second => self.second.front(),
        }
    }

    fn lane_mut(&mut self, lane: Lane) -> &mut VecDeque<M> {
        match lane {
            Lane::First => &mut self.first,
            Lane::Second => &mut self.second,
        }
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &M> {
        self.first.iter().chain(&self.second)
    }

    pub(crate) fn iter_mut(&mut self) -> impl Iterator<Item = &mut M> {
        self.first.iter_mut().chain(&mut self.second)
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.first.is_empty() && self.second.is_empty()
    }
}

/// How far the node is on its way out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Stage {
    Running,
    /// The listener takes nobody any more, and connections in the handshake are told to go.
    IntakeStopped,
    /// PeerManager has handled `Drain`.
    Draining,
    /// All slots were free, and all managers were asked whether they are empty.
    Stopped,
}

/// An invariant that a step broke, as a ledger or a machine said it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Broken {
    /// `"L1"` to `"L6"`, or `"?"` for a panic that names none.
    pub(crate) invariant: &'static str,
    pub(crate) text: String,
}

/// One state of the model.
#[derive(Clone, Debug)]
pub(crate) struct World {
    /// Connections that are: from the moment they hold a slot until their guard is dropped.
    pub(crate) conns: BTreeMap<ConnId, Conn>,
    /// Connections that ever were; the next id.
    pub(crate) opened: u64,
    pub(crate) free_slots: usize,
    pub(crate) to_peers: Mailbox<ToPeers>,
    /// Of each subscriber.
    pub(crate) to: BTreeMap<Role, Mailbox<Told>>,
    /// `Add`s of [`crate::wiring::Wiring::SeparateSenders`] on their way to the mailbox.
    pub(crate) underway: BTreeMap<ConnId, Arc<VersionInfo>>,
    /// Callbacks of [`crate::wiring::Wiring::FlagBeforeCallback`] that have not run.
    pub(crate) callbacks: BTreeMap<ConnId, Arc<VersionInfo>>,
    pub(crate) table: Arc<Table>,
    pub(crate) sync: Arc<Sync>,
    /// The test subscriber, which hears nothing where it is none.
    pub(crate) second: Second,
    /// The outside observer, over all managers and the mailboxes.
    pub(crate) ledger: Ledger,
    /// Silences that have passed: the managers' clock.
    pub(crate) silences: u8,
    pub(crate) stage: Stage,
    /// What went wrong in the step that led here: nothing follows then.
    pub(crate) broken: Vec<Broken>,
}

impl Hash for ToPeers {
    fn hash<H: Hasher>(&self, state: &mut H) {
        std::mem::discriminant(self).hash(state);
        match self {
            // An introduction follows from the connection's id and kind.
            Self::Add(version_info) => (version_info.id, version_info.direction).hash(state),
            Self::Said(id, say) => (id, say).hash(state),
            Self::Done(disconnection, slot) => (disconnection, slot).hash(state),
            Self::Order(from, order) => match &**order {
                // The table passes on whatever it is.
                Order::Send { id, message: _ } => (from, 0u8, id).hash(state),
                Order::Disconnect { id, reason } => (from, 1u8, id, reason).hash(state),
                Order::Useful { id } => (from, 2u8, id).hash(state),
                Order::MorePeers => (from, 3u8).hash(state),
            },
        }
    }
}

impl World {
    pub(crate) fn new(slots: usize, table: Table, sync: Sync, subscribers: Roles) -> Self {
        Self {
            conns: BTreeMap::new(),
            opened: 0,
            free_slots: slots,
            to_peers: Mailbox::default(),
            to: subscribers
                .iter()
                .map(|role| (role, Mailbox::default()))
                .collect(),
            underway: BTreeMap::new(),
            callbacks: BTreeMap::new(),
            table: Arc::new(table),
            sync: Arc::new(sync),
            second: Second::default(),
            ledger: Ledger::new(handfast_proto::lifecycle::Scope::Whole),
            silences: 0,
            stage: Stage::Running,
            broken: Vec::new(),
        }
    }

    /// The managers' clock.
    pub(crate) fn now(&self) -> Now {
        START.after(SILENCE * u32::from(self.silences))
    }

    /// `Add` and `Done` in mailboxes, and on their way to one.
    pub(crate) fn lifecycle_messages(&self) -> usize {
        let passed_on = self.to.values().map(passed_on).sum::<usize>();
        self.at_peer_manager() + passed_on
    }

    /// The most `Add`s and `Done`s that wait on the way to one subscriber.
    pub(crate) fn most_on_a_way(&self) -> usize {
        let most = self.to.values().map(passed_on).max();
        self.at_peer_manager() + most.unwrap_or(0)
    }

    /// `Add` and `Done` in PeerManager's mailbox, and on their way to it.
    fn at_peer_manager(&self) -> usize {
        let peers = self.to_peers.iter().filter(|mail| match mail {
            ToPeers::Add(_) | ToPeers::Done(..) => true,
            ToPeers::Said(..) | ToPeers::Order(..) => false,
        });
        peers.count() + self.underway.len()
    }

    /// Connections whose `Done` is on its way to this subscriber.
    pub(crate) fn done_in_flight(&self, to: Role) -> BTreeSet<ConnId> {
        let mail = self.to.get(&to).into_iter().flat_map(Mailbox::iter);
        let done = mail.filter_map(|mail| match mail {
            Told::Done(id, _) => Some(*id),
            Told::Added(_) | Told::Said(..) => None,
        });
        done.collect()
    }

    /// The table of each subscriber that there is.
    pub(crate) fn subscribers(&self) -> impl Iterator<Item = (Role, &BTreeSet<ConnId>)> {
        self.to.keys().map(|role| match role {
            Role::Sync => (*role, &self.sync.ids),
            Role::Test => (*role, &self.second.ids),
        })
    }

    /// Nothing is on its way: only the outside can make anything happen.
    pub(crate) fn at_rest(&self) -> bool {
        let no_mail = self.to_peers.is_empty() && self.to.values().all(Mailbox::is_empty);
        let no_orders = self.conns.values().all(|conn| conn.orders.is_empty());
        no_mail
            && no_orders
            && self.underway.is_empty()
            && self.callbacks.is_empty()
            && !self.conns.values().any(|conn| self.sees_the_drain(conn))
    }

    /// Whether a connection still in its handshake is about to end because the node stops.
    pub(crate) fn sees_the_drain(&self, conn: &Conn) -> bool {
        self.stage >= Stage::IntakeStopped && conn.session.awaiting_handshake()
    }

    pub(crate) fn is_broken(&self, invariant: &str) -> bool {
        self.broken.iter().any(|b| b.invariant == invariant)
    }

    /// What the observer or a manager found.
    pub(crate) fn observe(&mut self, who: &str, result: Result<(), Violation>) {
        if let Err(violation) = result {
            self.broken.push(Broken {
                invariant: violation.invariant,
                text: format!("{who}: {violation}"),
            });
        }
    }

    pub(crate) fn panicked(&mut self, who: &str, Panicked(text): Panicked) {
        const NAMES: [&str; 8] = ["L1", "L2", "L3", "L4", "L5", "L6", "S1", "S3"];
        let named = NAMES.iter().find(|name| text.contains(*name));
        self.broken.push(Broken {
            invariant: named.copied().unwrap_or("?"),
            text: format!("{who} panics: {text}"),
        });
    }
}

impl Hash for World {
    fn hash<H: Hasher>(&self, state: &mut H) {
        (&self.conns, self.opened, self.free_slots).hash(state);
        (&self.to_peers, &self.to, &self.second).hash(state);
        (&self.underway, &self.callbacks).hash(state);
        (self.table.key, self.sync.key, &self.ledger).hash(state);
        (self.silences, self.stage, &self.broken).hash(state);
    }
}

impl PartialEq for World {
    fn eq(&self, other: &Self) -> bool {
        key_of(self) == key_of(other)
    }
}

impl fmt::Display for World {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ids = |ids: &mut dyn Iterator<Item = &ConnId>| {
            let ids: Vec<String> = ids.map(|id| id.0.to_string()).collect();
            format!("{{{}}}", ids.join(", "))
        };
        let conns = ids(&mut self.conns.keys());
        let (table, sync) = (
            ids(&mut self.table.ids.iter()),
            ids(&mut self.sync.ids.iter()),
        );
        let source = ids(&mut self.sync.source.iter());
        write!(
            f,
            "connections {conns}, peer table {table}, sync table {sync}, source {source}, "
        )?;
        let mail: Vec<String> = self.to_peers.iter().map(|mail| mail.to_string()).collect();
        write!(f, "to PeerManager [{}], ", mail.join(", "))?;
        for (role, mailbox) in &self.to {
            let mail: Vec<String> = mailbox.iter().map(|mail| mail.to_string()).collect();
            write!(f, "to {role} [{}], ", mail.join(", "))?;
        }
        if self.to.contains_key(&Role::Test) {
            write!(f, "test table {}, ", ids(&mut self.second.ids.iter()))?;
        }
        write!(f, "{} slots free", self.free_slots)?;
        for broken in &self.broken {
            write!(f, "\n    {}", broken.text)?;
        }
        Ok(())
    }
}

impl fmt::Display for ToPeers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Add(version_info) => write!(f, "Add {}", version_info.id.0),
            Self::Said(id, _) => write!(f, "message of {}", id.0),
            Self::Done(disconnection, _) => write!(f, "Done {}", disconnection.id.0),
            Self::Order(_, order) => match &**order {
                Order::Send { id, .. } => write!(f, "something for {}", id.0),
                Order::Disconnect { id, .. } => write!(f, "disconnect {}", id.0),
                Order::Useful { id } => write!(f, "{} is useful", id.0),
                Order::MorePeers => f.write_str("more peers"),
            },
        }
    }
}

impl fmt::Display for Told {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Added(version_info) => write!(f, "Add {}", version_info.id.0),
            Self::Said(id, _) => write!(f, "message of {}", id.0),
            Self::Done(id, _) => write!(f, "Done {}", id.0),
        }
    }
}

/// `Add`s and `Done`s in a subscriber's mailbox.
fn passed_on(mailbox: &Mailbox<Told>) -> usize {
    let mail = mailbox.iter().filter(|mail| match mail {
        Told::Added(_) | Told::Done(..) => true,
        Told::Said(..) => false,
    });
    mail.count()
}

/// Why a connection's guard was dropped.
pub(crate) fn disconnection(id: ConnId, conn: &Conn, reason: DoneReason) -> Disconnection {
    Disconnection {
        id,
        direction: conn.kind.direction(),
        remote: conn.kind.remote(id),
        connected_at: START,
        reached: conn.reached(),
        reason,
    }
}
