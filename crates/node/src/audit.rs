//! The audit: do sockets, slots and all tables show the same connections?
//!
//! The question takes the way of the lifecycle messages, through PeerManager to each
//! subscriber. All mailboxes are first in, first out, so a subscriber is looked at
//! when it has handled exactly what PeerManager had handled when *it* was: the tables
//! are one consistent cut, on a busy node too, and have to agree. Sockets
//! are counted beside that and agree once the node is quiet.

use std::collections::BTreeSet;
use std::sync::{Mutex, PoisonError};

use handfast_proto::lifecycle::{ConnId, Role, Roles};
use tokio::sync::oneshot;

use crate::slots::SlotCounts;

/// Lifecycle messages that a manager has handled since start. Its ledger checked
/// each of them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Handled {
    /// `Add`s.
    pub adds: u64,
    /// `Done`s.
    pub dones: u64,
}

impl Handled {
    fn events(self) -> u64 {
        self.adds + self.dones
    }
}

/// Lifecycle messages that are posted and not yet handled (L5).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LifecycleQueue {
    /// Now.
    pub queued: usize,
    /// The most that ever were.
    pub most: usize,
    /// As many may be: two per slot and subscriber.
    pub bound: usize,
}

/// What the node holds, at one moment. See the module.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Audit {
    /// Connections whose socket is open, handshake included.
    pub sockets: usize,
    /// Of those, the ones whose handshake is not complete.
    pub in_handshake: usize,
    /// Slots there are, all kinds together.
    pub slots_total: usize,
    /// Of those, the ones that a connection holds.
    pub slots_taken: usize,
    /// PeerManager's table.
    pub peer_table: BTreeSet<ConnId>,
    /// The subscribers' tables, in the order of their roles.
    pub subscribers: Vec<SubscriberTable>,
    /// The peer that headers are synced from.
    pub sync_peer: Option<ConnId>,
    /// Lifecycle messages on their way.
    pub lifecycle: LifecycleQueue,
    /// What PeerManager has handled.
    pub peer_manager: Handled,
}

/// What a subscriber of PeerManager holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SubscriberTable {
    /// Which.
    pub role: Role,
    /// Its table.
    pub peers: BTreeSet<ConnId>,
    /// Those of PeerManager's table that it was notified of.
    pub notified_of: BTreeSet<ConnId>,
    /// What it has handled.
    pub handled: Handled,
    /// Slots that were taken when it was looked at. It holds one for each of its peers.
    pub slots_taken: usize,
}

/// One of the lifecycle's invariants, and how it stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Invariant {
    /// `"L1"` to `"L6"`.
    pub name: &'static str,
    /// What it says.
    pub says: String,
    /// Whether it holds.
    pub held: bool,
    /// What that was judged by.
    pub judged_by: String,
}

/// The audit on its way: what PeerManager showed, and what the subscribers answered so far.
#[derive(Debug)]
pub(crate) struct Inquiry {
    peer_table: BTreeSet<ConnId>,
    peer_manager: Handled,
    /// The subscribers that are asked, and which of PeerManager's peers each was notified of.
    notified_of: Vec<(Role, BTreeSet<ConnId>)>,
    /// Held for one answer.
    answers: Mutex<Answers>,
}

#[derive(Debug)]
struct Answers {
    reports: Vec<(Role, Report)>,
    /// `None` once all have answered.
    asker: Option<oneshot::Sender<Audit>>,
}

/// A subscriber's answer.
#[derive(Debug)]
pub(crate) struct Report {
    /// Its table.
    pub(crate) peers: BTreeSet<ConnId>,
    /// Of SyncManager.
    pub(crate) sync_peer: Option<ConnId>,
    /// What it has handled.
    pub(crate) handled: Handled,
    /// Taken while it answers: it holds the slots of its peers then.
    pub(crate) slot_counts: SlotCounts,
}

impl Inquiry {
    pub(crate) fn new(
        peer_table: BTreeSet<ConnId>,
        peer_manager: Handled,
        notified_of: Vec<(Role, BTreeSet<ConnId>)>,
        asker: oneshot::Sender<Audit>,
    ) -> Self {
        let answers = Answers {
            reports: Vec::with_capacity(notified_of.len()),
            asker: Some(asker),
        };
        Self {
            peer_table,
            peer_manager,
            notified_of,
            answers: Mutex::new(answers),
        }
    }

    /// A subscriber answers. The last one's answer makes the audit. If one stops before, there
    /// is none: the asker learns it when the inquiry is dropped.
    pub(crate) fn answer(&self, role: Role, report: Report) {
        let mut answers = self.answers.lock().unwrap_or_else(PoisonError::into_inner);
        let slot_counts = report.slot_counts;
        answers.reports.push((role, report));
        let answered: Roles = answers.reports.iter().map(|(role, _)| *role).collect();
        if answered.len() == self.notified_of.len()
            && let Some(asker) = answers.asker.take()
        {
            let reports = std::mem::take(&mut answers.reports);
            // The asker may not wait any more.
            let _ = asker.send(self.audit(reports, slot_counts));
        }
    }

    fn audit(&self, reports: Vec<(Role, Report)>, slot_counts: SlotCounts) -> Audit {
        let sync_peer = reports.iter().find_map(|(_, report)| report.sync_peer);
        let table = |(role, report): (Role, Report)| {
            let notified = self.notified_of.iter().find(|(of, _)| *of == role);
            SubscriberTable {
                role,
                peers: report.peers,
                notified_of: notified.map(|(_, ids)| ids.clone()).unwrap_or_default(),
                handled: report.handled,
                slots_taken: report.slot_counts.taken,
            }
        };
        let mut subscribers: Vec<_> = reports.into_iter().map(table).collect();
        subscribers.sort_by_key(|table| table.role);
        Audit {
            sockets: slot_counts.sockets,
            in_handshake: slot_counts.in_handshake,
            slots_total: slot_counts.total,
            slots_taken: slot_counts.taken,
            peer_table: self.peer_table.clone(),
            subscribers,
            sync_peer,
            lifecycle: LifecycleQueue {
                queued: slot_counts.queued,
                most: slot_counts.most_queued,
                bound: slot_counts.bound,
            },
            peer_manager: self.peer_manager,
        }
    }
}

impl Audit {
    /// What the subscriber of this role holds, if there is one.
    #[must_use]
    pub fn of(&self, role: Role) -> Option<&SubscriberTable> {
        self.subscribers.iter().find(|table| table.role == role)
    }

    /// Whether open sockets, peer table and the subscribers' tables show the same connections.
    #[must_use]
    pub fn agrees(&self) -> bool {
        let ready = self.sockets.checked_sub(self.in_handshake);
        ready == Some(self.peer_table.len()) && self.tables_are_one()
    }

    fn tables_are_one(&self) -> bool {
        let mut subscribers = self.subscribers.iter();
        let is_synced = |id| self.of(Role::Sync).is_some_and(|it| it.peers.contains(&id));
        subscribers.all(|it| it.peers == it.notified_of && it.peers.is_subset(&self.peer_table))
            && self.sync_peer.is_none_or(is_synced)
    }

    /// L1 to L6, as far as they can be judged from inside the node.
    #[must_use]
    pub fn invariants(&self) -> Vec<Invariant> {
        vec![
            self.ids_are_new(),
            self.adds_and_dones_are_paired(),
            self.subscribers_see_what_was_admitted(),
            self.tables_agree(),
            self.queues_are_bounded(),
            self.slots_cover_tables(),
        ]
    }

    fn ids_are_new(&self) -> Invariant {
        Invariant {
            name: "L1",
            says: "a connection id is never used again".into(),
            held: true,
            judged_by: asserted("PeerManager's ledger", self.peer_manager.events()),
        }
    }

    fn adds_and_dones_are_paired(&self) -> Invariant {
        let ledgers = format!("{} managers' ledgers", self.of_one_or_more("both", "all"));
        Invariant {
            name: "L2",
            says: "per connection: Add at most once, Done exactly once, Add first".into(),
            held: true,
            judged_by: asserted(&ledgers, self.all_events()),
        }
    }

    fn subscribers_see_what_was_admitted(&self) -> Invariant {
        let ledgers = self.each(" and ", |it| format!("{}'s ledger", it.role));
        let ledgers = format!("{ledgers}, with a sender that admits in its table only,");
        let (see, wanted) = self.of_one_or_more(("sees", ""), ("see", " and that each wants"));
        Invariant {
            name: "L3",
            says: format!(
                "{} {see} Add and Done of exactly the connections that PeerManager admitted{wanted}",
                self.managers()
            ),
            held: true,
            judged_by: asserted(&ledgers, self.subscriber_events()),
        }
    }

    fn tables_agree(&self) -> Invariant {
        let whose = self.each(" and ", |it| format!("{}'s", it.role));
        let of_sync = self.of_one_or_more("them", "SyncManager's");
        Invariant {
            name: "L4",
            says: format!(
                "{whose} peers are in PeerManager's table or their Done is in flight; the sync peer is one of {of_sync}"
            ),
            held: self.tables_are_one(),
            judged_by: format!(
                "compared when {} had handled what PeerManager had: {}",
                self.managers(),
                self.sizes()
            ),
        }
    }

    fn queues_are_bounded(&self) -> Invariant {
        let LifecycleQueue {
            queued,
            most,
            bound,
        } = self.lifecycle;
        let each = self.of_one_or_more("", " and subscriber");
        Invariant {
            name: "L5",
            says: format!("queued lifecycle messages never exceed two per slot{each}"),
            held: most <= bound,
            judged_by: format!(
                "counted: {queued} now, {most} at most ever, {bound} allowed; asserted at each of {} events",
                self.all_events()
            ),
        }
    }

    /// Each connection that a subscriber knows holds a slot until it has handled Done.
    fn slots_cover_tables(&self) -> Invariant {
        let is_covered =
            |it: &SubscriberTable| it.slots_taken >= it.peers.len().max(it.notified_of.len());
        let both = self.of_one_or_more("both", "all");
        Invariant {
            name: "L6",
            says: format!("all slots home: {both} tables are empty"),
            held: self.subscribers.iter().all(is_covered),
            judged_by: format!(
                "counted: {} of {} slots taken, {}; asserted at shutdown",
                self.slots_taken,
                self.slots_total,
                self.sizes()
            ),
        }
    }

    fn subscriber_events(&self) -> u64 {
        let handled = self.subscribers.iter().map(|it| it.handled.events());
        handled.sum()
    }

    fn all_events(&self) -> u64 {
        self.peer_manager.events() + self.subscriber_events()
    }

    /// What is said of one subscriber, or of several.
    fn of_one_or_more<T>(&self, one: T, more: T) -> T {
        match self.subscribers.len() {
            0 | 1 => one,
            _ => more,
        }
    }

    /// `text` of each subscriber, one after the other.
    fn each(&self, between: &str, text: impl Fn(&SubscriberTable) -> String) -> String {
        let texts: Vec<String> = self.subscribers.iter().map(text).collect();
        texts.join(between)
    }

    fn managers(&self) -> String {
        self.each(" and ", |it| it.role.to_string())
    }

    /// How many peers each table holds.
    fn sizes(&self) -> String {
        let size =
            |it: &SubscriberTable| format!("{} in the {} table", it.peers.len(), it.role.name());
        format!(
            "{} in the peer table, {}",
            self.peer_table.len(),
            self.each(", ", size)
        )
    }
}

fn asserted(by: &str, events: u64) -> String {
    format!("asserted by {by} at each of {events} events; a violation ends the node, and it runs")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn clean() -> Audit {
        Audit {
            sockets: 2,
            in_handshake: 1,
            slots_total: 10,
            slots_taken: 2,
            peer_table: [ConnId(1)].into(),
            subscribers: vec![SubscriberTable {
                role: Role::Sync,
                peers: [ConnId(1)].into(),
                notified_of: [ConnId(1)].into(),
                handled: Handled { adds: 1, dones: 0 },
                slots_taken: 2,
            }],
            sync_peer: Some(ConnId(1)),
            lifecycle: LifecycleQueue {
                queued: 0,
                most: 20,
                bound: 20,
            },
            peer_manager: Handled { adds: 1, dones: 0 },
        }
    }

    fn broken(audit: &Audit) -> Vec<&'static str> {
        let lines = audit.invariants();
        assert_eq!(lines.len(), 6);
        let broken = lines.iter().filter(|line| !line.held);
        broken.map(|line| line.name).collect()
    }

    #[test]
    fn each_broken_count_is_told_by_the_invariant_that_it_breaks() {
        assert!(clean().agrees());
        assert_eq!(broken(&clean()), [""; 0]);
        let with = |change: fn(&mut Audit)| {
            let mut audit = clean();
            change(&mut audit);
            broken(&audit)
        };
        assert_eq!(with(|audit| audit.peer_table.clear()), ["L4"]);
        assert_eq!(with(|audit| audit.sync_peer = Some(ConnId(7))), ["L4"]);
        assert_eq!(with(|audit| audit.lifecycle.most = 21), ["L5"]);
        assert_eq!(with(|audit| audit.subscribers[0].slots_taken = 0), ["L6"]);
    }

    #[test]
    fn a_ghost_in_one_table_or_a_socket_without_a_row_is_no_agreement() {
        let with = |change: fn(&mut Audit)| {
            let mut audit = clean();
            change(&mut audit);
            audit.agrees()
        };
        assert!(!with(
            |audit| audit.subscribers[0].peers = [ConnId(1), ConnId(2)].into()
        ));
        assert!(!with(|audit| audit.sockets = 3));
        assert!(!with(|audit| (audit.sockets, audit.in_handshake) = (0, 1)));
    }

    /// With a second subscriber, which was notified of no peer.
    fn of_two() -> Audit {
        let mut audit = clean();
        audit.subscribers.push(SubscriberTable {
            role: Role::Test,
            peers: [].into(),
            notified_of: [].into(),
            handled: Handled { adds: 0, dones: 0 },
            slots_taken: 2,
        });
        audit
    }

    #[test]
    fn a_subscriber_agrees_if_its_table_has_what_it_was_notified_of() {
        assert!(of_two().agrees());
        assert_eq!(broken(&of_two()), [""; 0]);
        let mut ghost = of_two();
        ghost.subscribers[1].peers = [ConnId(1)].into();
        assert!(!ghost.agrees());
        assert_eq!(broken(&ghost), ["L4"]);
        let mut late = of_two();
        late.subscribers[1].notified_of = [ConnId(1)].into();
        assert_eq!(broken(&late), ["L4"]);
        let mut freed = of_two();
        freed.subscribers[1].peers = [ConnId(1), ConnId(2), ConnId(3)].into();
        assert_eq!(broken(&freed), ["L4", "L6"]);
    }

    fn report() -> Report {
        let limits = crate::slots::Limits {
            inbound: 1,
            handshakes: 1,
            outbound: 1,
            manual: 1,
            subscribers: 2,
        };
        Report {
            peers: [].into(),
            sync_peer: None,
            handled: Handled::default(),
            slot_counts: crate::slots::Slots::new(limits).counts(),
        }
    }

    #[test]
    fn the_audit_is_there_when_the_last_subscriber_has_answered_and_not_before() {
        let inquiry = || {
            let (asker, answer) = oneshot::channel();
            let notified_of = Role::ALL.map(|role| (role, BTreeSet::new()));
            let handled = Handled::default();
            (
                Inquiry::new([].into(), handled, notified_of.into(), asker),
                answer,
            )
        };
        let (asked, mut answer) = inquiry();
        asked.answer(Role::Test, report());
        assert!(answer.try_recv().is_err());
        asked.answer(Role::Sync, report());
        let audit = answer.try_recv().expect("all have answered");
        let roles = audit.subscribers.iter().map(|table| table.role);
        assert!(roles.eq(Role::ALL));
        let (asked, mut answer) = inquiry();
        asked.answer(Role::Sync, report());
        drop(asked);
        assert!(answer.try_recv().is_err(), "one has stopped");
    }
}
