//! The managers of the model: the production machines, stepped so that a panic in
//! one becomes a broken property and two of them can be compared.

use std::any::Any;
use std::cell::Cell;
use std::collections::BTreeSet;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Once};
use std::time::Duration;

use handfast_proto::address_book::AddressBook;
use handfast_proto::headers::HeaderTree;
use handfast_proto::lifecycle::{ConnId, Ledger, Role, Roles, Scope, Violation};
use handfast_proto::peer_table::{self, PeerTable, PeerTableConfig};
use handfast_proto::sync::{self, HeaderPlan, SyncConfig, SyncLifecycle, SyncManager};
use handfast_proto::time::Now;
use handfast_wire::Network;

use crate::naive::{NaiveSync, NaiveTable};

/// When the model begins.
pub(crate) const START: Now = Now {
    mono: Duration::from_secs(1_000),
    unix: 1_400_000_000,
};

/// What a panicking machine said.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Panicked(pub(crate) String);

/// The production table, or the one that the mutants' zombies need.
#[derive(Clone, Debug)]
pub(crate) enum TableKind {
    Production(Box<PeerTable>),
    Naive(NaiveTable),
}

/// The production sync manager, or the one that the mutants' zombies need.
#[derive(Clone, Debug)]
pub(crate) enum SyncKind {
    Production(Box<SyncManager>),
    Naive(NaiveSync),
}

/// PeerManager's machine.
#[derive(Clone, Debug)]
pub(crate) struct Table {
    pub(crate) kind: TableKind,
    /// What two tables are compared by.
    pub(crate) key: u64,
    pub(crate) ids: BTreeSet<ConnId>,
    /// Those that were told to go.
    pub(crate) closing: BTreeSet<ConnId>,
    pub(crate) refused: BTreeSet<ConnId>,
}

/// SyncManager's machine.
#[derive(Clone, Debug)]
pub(crate) struct Sync {
    pub(crate) kind: SyncKind,
    /// What two machines are compared by.
    pub(crate) key: u64,
    pub(crate) ids: BTreeSet<ConnId>,
    /// Peers that were told to go.
    pub(crate) leaving: BTreeSet<ConnId>,
    /// Live peers that could be the source.
    pub(crate) eligible: BTreeSet<ConnId>,
    /// Live peers that may not be the source for now.
    pub(crate) ineligible: BTreeSet<ConnId>,
    pub(crate) source: Option<ConnId>,
    /// The watchdog found what only a bug of ours can break.
    pub(crate) repaired: bool,
}

impl Table {
    pub(crate) fn production(max_inbound: usize, subscribers: Roles) -> Self {
        let mut config = PeerTableConfig::new(8_333, 7);
        config.subscribers = subscribers;
        config.max_inbound = max_inbound;
        config.max_outbound = 1;
        config.dial = false;
        // The clock of the model stands still: nobody would be evicted.
        config.newcomer_grace = Duration::ZERO;
        let table = PeerTable::new(config, AddressBook::new(false), START);
        Self::of(TableKind::Production(Box::new(table)))
    }

    pub(crate) fn naive(subscribers: Roles) -> Self {
        Self::of(TableKind::Naive(NaiveTable {
            subscribers,
            ..NaiveTable::default()
        }))
    }

    fn of(kind: TableKind) -> Self {
        let (key, ids, closing, refused) = match &kind {
            TableKind::Production(table) => {
                let life = table.lifecycle();
                let key = key_of(&(&life, table.bans(), table.discouraged()));
                let closing = life.admitted.iter().filter(|(_, (_, closing))| *closing);
                let closing = closing.map(|(id, _)| *id).collect();
                (key, table.ids(), closing, life.refused)
            }
            TableKind::Naive(table) => {
                let (none, ids) = (BTreeSet::new(), table.ids.clone());
                (key_of(table), ids, none.clone(), none)
            }
        };
        Self {
            kind,
            key,
            ids,
            closing,
            refused,
        }
    }

    pub(crate) fn step(
        &self,
        now: Now,
        input: peer_table::Input,
    ) -> Result<(Arc<Self>, Vec<peer_table::Effect>), Panicked> {
        caught(|| {
            let mut kind = self.kind.clone();
            let effects = match &mut kind {
                TableKind::Production(table) => table.step(now, input),
                TableKind::Naive(table) => table.step(input),
            };
            (Arc::new(Self::of(kind)), effects)
        })
    }

    /// A call of the operator's, which the naive table has not.
    pub(crate) fn call<A>(
        &self,
        call: impl FnOnce(&mut PeerTable) -> (A, Vec<peer_table::Effect>),
    ) -> Result<(Arc<Self>, Vec<peer_table::Effect>), Panicked> {
        caught(|| {
            let mut kind = self.kind.clone();
            let effects = match &mut kind {
                TableKind::Production(table) => call(table).1,
                TableKind::Naive(_) => Vec::new(),
            };
            (Arc::new(Self::of(kind)), effects)
        })
    }

    /// The subscribers that it notified of this peer.
    pub(crate) fn notified_of(&self, id: ConnId) -> Roles {
        let notified = |role: &Role| match &self.kind {
            TableKind::Production(table) => table.ids_of(*role).contains(&id),
            TableKind::Naive(table) => table.subscribers.contains(*role),
        };
        Role::ALL.into_iter().filter(notified).collect()
    }

    pub(crate) fn has_bans(&self) -> bool {
        match &self.kind {
            TableKind::Production(table) => !table.bans().is_empty(),
            TableKind::Naive(_) => false,
        }
    }

    pub(crate) fn has_discouraged(&self) -> bool {
        match &self.kind {
            TableKind::Production(table) => !table.discouraged().is_empty(),
            TableKind::Naive(_) => false,
        }
    }

    /// What the production PeerManager asserts when all slots are free.
    pub(crate) fn assert_all_free(&self) -> Result<(), Panicked> {
        match &self.kind {
            TableKind::Production(table) => caught(|| table.assert_all_free()),
            TableKind::Naive(_) => Ok(()),
        }
    }
}

impl Sync {
    pub(crate) fn production() -> Self {
        let tree = HeaderTree::new(Network::Regtest.genesis());
        let config = SyncConfig::new(&Network::Regtest, None, 7);
        let machine = SyncManager::new(config, tree);
        Self::of(SyncKind::Production(Box::new(machine)))
    }

    pub(crate) fn naive() -> Self {
        Self::of(SyncKind::Naive(NaiveSync::default()))
    }

    fn of(kind: SyncKind) -> Self {
        match kind {
            SyncKind::Production(machine) => Self::of_production(machine),
            SyncKind::Naive(machine) => Self {
                key: key_of(&machine),
                ids: machine.ids.clone(),
                leaving: BTreeSet::new(),
                eligible: machine.ids.clone(),
                ineligible: BTreeSet::new(),
                source: machine.source,
                repaired: false,
                kind: SyncKind::Naive(machine),
            },
        }
    }

    fn of_production(machine: Box<SyncManager>) -> Self {
        // What the comparison leaves out is constant only while no header is taken in.
        assert_eq!(machine.tree().len(), 1, "the model feeds no headers");
        let life = SyncLifecycle::of(&machine);
        let eligible = life.live.difference(&life.ineligible).copied().collect();
        let plan = HeaderPlan::of(&machine);
        Self {
            key: key_of(&(&life, &plan)),
            repaired: plan.watchdog.repaired.is_some(),
            ids: machine.ids(),
            leaving: life.leaving,
            eligible,
            ineligible: life.ineligible,
            source: machine.sync_peer(),
            kind: SyncKind::Production(machine),
        }
    }

    pub(crate) fn step(
        &self,
        now: Now,
        input: sync::Input,
    ) -> Result<(Arc<Self>, Vec<sync::Effect>), Panicked> {
        caught(|| {
            let mut kind = self.kind.clone();
            let effects = match &mut kind {
                SyncKind::Production(machine) => machine.step(now, input),
                SyncKind::Naive(machine) => machine.step(input),
            };
            (Arc::new(Self::of(kind)), effects)
        })
    }

    pub(crate) fn deadline(&self) -> Option<Duration> {
        match &self.kind {
            SyncKind::Production(machine) => machine.deadline(),
            SyncKind::Naive(_) => None,
        }
    }
}

/// The test subscriber: a table, with the account that every subscriber keeps.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Second {
    pub(crate) ids: BTreeSet<ConnId>,
    ledger: Ledger,
}

impl Default for Second {
    fn default() -> Self {
        Self {
            ids: BTreeSet::new(),
            ledger: Ledger::new(Scope::Subscriber(Role::Test)),
        }
    }
}

impl Second {
    pub(crate) fn added(&mut self, id: ConnId) -> Result<(), Violation> {
        self.ids.insert(id);
        self.ledger.add(Role::Test, id)
    }

    pub(crate) fn ended(&mut self, id: ConnId) -> Result<(), Violation> {
        self.ids.remove(&id);
        self.ledger.done(Role::Test, id)
    }
}

/// Sixty-four bits for a value: two that differ agree with probability 2^-64.
pub(crate) fn key_of(value: &impl Hash) -> u64 {
    let mut hasher = DefaultHasher::new();
    value.hash(&mut hasher);
    hasher.finish()
}

thread_local! {
    static EXPECTED: Cell<bool> = const { Cell::new(false) };
}

/// Runs `work`; a panic in it is an answer, and is not printed.
pub(crate) fn caught<T>(work: impl FnOnce() -> T) -> Result<T, Panicked> {
    static HOOK: Once = Once::new();
    HOOK.call_once(|| {
        let usual = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |info| {
            if !EXPECTED.get() {
                usual(info);
            }
        }));
    });
    EXPECTED.set(true);
    let result = catch_unwind(AssertUnwindSafe(work));
    EXPECTED.set(false);
    result.map_err(|panic| Panicked(text(&*panic)))
}

fn text(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<String>().map(String::as_str);
    text.or_else(|| panic.downcast_ref::<&str>().copied())
        .unwrap_or("a panic without a text")
        .to_owned()
}
