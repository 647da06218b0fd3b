//! Quotas of the process's descriptors for RPC connections.
//!
//! TCP connections have one quota and Unix socket connections another, so that neither takes a
//! descriptor from the other, from a peer, or from the chain's files.
//!
//! When a quota is full, a new connection evicts another one:
//!
//! 1. an unauthenticated one of the address with most of them: the last whose login failed, so
//!    that the first of those get their answers, or else the oldest; it is cut at once;
//! 2. else an authenticated one that has been idle for a second: the one idle for longest, of the
//!    address with most connections. It is closed like any idle connection: a call on its way is
//!    answered first.
//!
//! Waiting connections are admitted by address ([`waiters`]), and an address with more slots than
//! the waiting one gives one up after a second of idleness.
//!
//! So unauthenticated clients hold connections only while no other client needs them, an address that
//! opens thousands evicts its own, and a call in progress is never cut for another client.

mod waiters;

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::Notify;

use crate::address_group::AddressGroup;
use waiters::{Permit, Waiter, Waiters};

/// Interval of looking for a connection to evict, while there is none.
const RETRY_INTERVAL: Duration = Duration::from_millis(100);
/// An authenticated connection idle for so long may be evicted for an address with fewer slots,
/// whatever the quota's own idle time.
const IDLE_FOR_OTHERS: Duration = Duration::from_secs(1);

/// A number of connections, and who holds them.
#[derive(Debug)]
pub(super) struct Quota {
    table: Mutex<QuotaTable>,
    /// An authenticated connection idle for so long may be evicted.
    idle: Duration,
    began: Instant,
}

#[derive(Debug, Default)]
struct QuotaTable {
    /// The last number given out: a greater number is a later connection.
    last: u64,
    unauthenticated: Groups,
    callers: Groups,
    waiters: Waiters,
    /// Connections evicted for others.
    evicted: u64,
}

/// Connections by address, and addresses by number of connections.
#[derive(Debug, Default)]
struct Groups {
    members: BTreeMap<AddressGroup, GroupMembers>,
    by_size: BTreeSet<(Size, AddressGroup)>,
}

/// How many connections an address has, and its oldest: of two equal counts the address with the
/// older connection is the larger.
type Size = (usize, Reverse<u64>);

#[derive(Debug, Default)]
struct GroupMembers {
    all: BTreeMap<u64, Arc<Signals>>,
    /// Those whose last login failed.
    failed: BTreeSet<u64>,
}

/// Signals to a connection, and its state.
#[derive(Debug, Default)]
struct Signals {
    cut: Notify,
    close: Notify,
    closing: AtomicBool,
    /// Milliseconds since the quota began; 0: not idle.
    idle_since: AtomicU64,
}

/// One connection's slot in a quota, freed when dropped.
#[derive(Debug)]
pub(super) struct Slot {
    quota: Arc<Quota>,
    group: AddressGroup,
    number: u64,
    signals: Arc<Signals>,
    unauthenticated: AtomicBool,
    /// Dropped after the slot has left the table.
    _permit: Permit,
}

impl Quota {
    /// A quota of `most` slots; an authenticated connection that is `idle` for so long may be
    /// evicted.
    pub(super) fn new(most: usize, idle: Duration) -> Arc<Self> {
        Arc::new(Self {
            table: Mutex::new(QuotaTable {
                waiters: Waiters::of(most.max(1)),
                ..QuotaTable::default()
            }),
            idle,
            began: Instant::now(),
        })
    }

    fn table(&self) -> MutexGuard<'_, QuotaTable> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Connections evicted for others so far.
    pub(super) fn evicted(&self) -> u64 {
        self.table().evicted
    }

    /// A slot for an unauthenticated connection, if one is free.
    pub(super) fn try_slot(self: &Arc<Self>, group: AddressGroup) -> Option<Slot> {
        let permit = Permit::take(self)?;
        Some(self.take(group, permit))
    }

    /// Waits for a slot for an unauthenticated connection. Another may be evicted for it.
    ///
    /// # Cancel safety
    /// May be dropped; the connection that was chosen for eviction still closes.
    pub(super) async fn slot(self: &Arc<Self>, group: AddressGroup) -> Slot {
        if let Some(slot) = self.try_slot(group) {
            return slot;
        }
        let mut waiter = Waiter::new(self, group);
        let mut asked = false;
        loop {
            // One for each waiter, so that no more are evicted than admitted.
            asked = asked || self.evict_one(group);
            tokio::select! {
                permit = waiter.granted() => return self.take(group, permit),
                () = tokio::time::sleep(RETRY_INTERVAL), if !asked => {}
            }
        }
    }

    fn take(self: &Arc<Self>, group: AddressGroup, permit: Permit) -> Slot {
        let mut table = self.table();
        table.last += 1;
        let (number, signals) = (table.last, Arc::<Signals>::default());
        table.unauthenticated.insert(group, number, signals.clone());
        Slot {
            quota: self.clone(),
            group,
            number,
            signals,
            unauthenticated: AtomicBool::new(true),
            _permit: permit,
        }
    }

    /// Evicts one connection for `newcomer`; `false`: none can be evicted.
    fn evict_one(&self, newcomer: AddressGroup) -> bool {
        let before = |idle: Duration| {
            let least = u64::try_from(idle.as_millis()).unwrap_or(u64::MAX);
            self.now().saturating_sub(least)
        };
        let for_any = before(self.idle);
        let for_fewer = before(self.idle.min(IDLE_FOR_OTHERS));
        let mut table = self.table();
        let own = table.slots_of(newcomer);
        let idle_before = |slots: usize| match slots > own + 1 {
            true => for_fewer,
            false => for_any,
        };
        if let Some(unauthenticated) = table.unauthenticated.evict_unauthenticated() {
            unauthenticated.cut.notify_one();
        } else if let Some(caller) = table.callers.evict_idle(idle_before) {
            caller.closing.store(true, Ordering::Relaxed);
            caller.close.notify_one();
        } else {
            return false;
        }
        table.evicted += 1;
        true
    }

    fn now(&self) -> u64 {
        let now = self.began.elapsed().as_millis();
        u64::try_from(now).unwrap_or(u64::MAX).max(1)
    }
}

impl QuotaTable {
    fn slots_of(&self, group: AddressGroup) -> usize {
        let of = |groups: &Groups| groups.members.get(&group).map_or(0, |it| it.all.len());
        of(&self.unauthenticated) + of(&self.callers)
    }
}

impl GroupMembers {
    /// `None` if there are none.
    fn size(&self) -> Option<Size> {
        let oldest = self.all.keys().next()?;
        Some((self.all.len(), Reverse(*oldest)))
    }
}

impl Groups {
    fn resize(&mut self, group: AddressGroup, before: Option<Size>, after: Option<Size>) {
        if let Some(before) = before {
            self.by_size.remove(&(before, group));
        }
        match after {
            None => _ = self.members.remove(&group),
            Some(after) => _ = self.by_size.insert((after, group)),
        }
    }

    fn insert(&mut self, group: AddressGroup, number: u64, signals: Arc<Signals>) {
        let members = self.members.entry(group).or_default();
        let before = members.size();
        members.all.insert(number, signals);
        let after = members.size();
        self.resize(group, before, after);
    }

    fn remove(&mut self, group: AddressGroup, number: u64) -> Option<Arc<Signals>> {
        let members = self.members.get_mut(&group)?;
        let before = members.size();
        let removed = members.all.remove(&number)?;
        members.failed.remove(&number);
        let after = members.size();
        self.resize(group, before, after);
        Some(removed)
    }

    /// Takes, of the largest group, the last whose login failed, or the oldest.
    fn evict_unauthenticated(&mut self) -> Option<Arc<Signals>> {
        let (_, group) = *self.by_size.last()?;
        let members = self.members.get(&group)?;
        let oldest = members.all.keys().next();
        let number = *members.failed.last().or(oldest)?;
        self.remove(group, number)
    }

    /// Takes the one idle for longest of the largest group that has any: idle since `before`,
    /// which depends on the size of the group.
    fn evict_idle(&mut self, before: impl Fn(usize) -> u64) -> Option<Arc<Signals>> {
        let idle = |members: &GroupMembers| {
            let before = before(members.all.len());
            let since = |signals: &Signals| signals.idle_since.load(Ordering::Relaxed);
            let idle = members.all.iter().map(|(number, it)| (since(it), *number));
            idle.filter(|(since, _)| (1..=before).contains(since)).min()
        };
        let mut largest_first = self.by_size.iter().rev();
        let (group, number) = largest_first.find_map(|(_, group)| {
            let (_, number) = idle(self.members.get(group)?)?;
            Some((*group, number))
        })?;
        self.remove(group, number)
    }
}

impl Slot {
    /// The client's address group.
    pub(super) fn group(&self) -> AddressGroup {
        self.group
    }

    /// Whether the client has not logged in.
    pub(super) fn is_unauthenticated(&self) -> bool {
        self.unauthenticated.load(Ordering::Relaxed)
    }

    /// Marks the client as logged in. `false`: too late, the connection is being cut, and nothing
    /// is to be begun on it.
    pub(super) fn logged_in(&self) -> bool {
        if !self.is_unauthenticated() {
            return true;
        }
        let mut table = self.quota.table();
        let Some(signals) = table.unauthenticated.remove(self.group, self.number) else {
            return false;
        };
        table.callers.insert(self.group, self.number, signals);
        self.unauthenticated.store(false, Ordering::Relaxed);
        true
    }

    /// Records a failed login.
    pub(super) fn login_failed(&self) {
        let mut table = self.quota.table();
        let members = table.unauthenticated.members.get_mut(&self.group);
        let members = members.filter(|members| members.all.contains_key(&self.number));
        if let Some(members) = members {
            members.failed.insert(self.number);
        }
    }

    /// Sets whether the connection is idle: it has no request.
    pub(super) fn set_idle(&self, idle: bool) {
        let since = if idle { self.quota.now() } else { 0 };
        self.signals.idle_since.store(since, Ordering::Relaxed);
    }

    /// Returns when the connection is to be cut.
    pub(super) async fn cut(&self) {
        self.signals.cut.notified().await;
    }

    /// Returns when the connection is to be closed as soon as it is idle.
    pub(super) async fn close_requested(&self) {
        self.signals.close.notified().await;
    }

    /// Whether its close was requested.
    pub(super) fn is_closing(&self) -> bool {
        self.signals.closing.load(Ordering::Relaxed)
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        let mut table = self.quota.table();
        let groups = match self.is_unauthenticated() {
            true => &mut table.unauthenticated,
            false => &mut table.callers,
        };
        // An evicted connection has left the table already.
        groups.remove(self.group, self.number);
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;

    use super::*;

    const IDLE: Duration = Duration::from_secs(1);

    fn address(number: u8) -> AddressGroup {
        AddressGroup::V4([10, 0, 0, number].into())
    }

    fn cut(slot: &Slot) -> bool {
        slot.cut().now_or_never().is_some()
    }

    fn full(quota: &Arc<Quota>, from: &[u8]) -> Vec<Slot> {
        let slots = from.iter().map(|number| quota.try_slot(address(*number)));
        let slots = slots
            .map(|slot| slot.expect("it is not full yet"))
            .collect();
        assert!(quota.try_slot(address(99)).is_none(), "it is full");
        slots
    }

    #[tokio::test(start_paused = true)]
    async fn the_oldest_unauthenticated_connection_of_the_largest_group_is_evicted() {
        let quota = Quota::new(5, IDLE);
        let mut slots = full(&quota, &[1, 2, 3, 2, 1]);
        // Address 1 has two and has logged in with one of them.
        assert!(slots[0].logged_in());
        let newcomer = tokio::spawn({
            let quota = quota.clone();
            async move { quota.slot(address(9)).await }
        });
        tokio::task::yield_now().await;
        let evicted: Vec<bool> = slots.iter().map(cut).collect();
        assert_eq!(evicted, [false, true, false, false, false]);
        assert!(!slots[1].logged_in(), "too late");
        drop(slots.remove(1));
        drop(newcomer.await.expect("no panic"));
        assert_eq!(quota.evicted(), 1);
        assert_eq!(quota.table().unauthenticated.by_size.len(), 3);
    }

    #[tokio::test]
    async fn of_failed_logins_the_last_are_evicted_first() {
        let quota = Quota::new(5, IDLE);
        let slots = full(&quota, &[1, 1, 1, 1, 2]);
        for failed in [1, 2, 4] {
            slots[failed].login_failed();
        }
        let evicted = |quota: &Quota| {
            assert!(quota.evict_one(address(9)));
            slots.iter().position(cut)
        };
        // In order of eviction: the largest group first, the failed ones from the back.
        assert_eq!(evicted(&quota), Some(2));
        assert_eq!(evicted(&quota), Some(1));
        assert_eq!(
            evicted(&quota),
            Some(0),
            "the oldest of those who have not failed"
        );
        // Both groups have one.
        assert_eq!(evicted(&quota), Some(3), "it has been there for longer");
        assert_eq!(evicted(&quota), Some(4));
        assert!(!quota.evict_one(address(9)));
        assert!(!slots[3].logged_in());
        drop(slots);
        assert!(quota.table().unauthenticated.members.is_empty());
        assert!(quota.table().unauthenticated.by_size.is_empty());
    }

    #[tokio::test(start_paused = true)]
    async fn an_authenticated_connection_is_evicted_only_when_idle_and_is_not_cut() {
        let quota = Quota::new(3, IDLE);
        let slots = full(&quota, &[1, 1, 2]);
        for slot in &slots {
            assert!(slot.logged_in());
            slot.set_idle(false);
        }
        let mut newcomer = std::pin::pin!(quota.slot(address(9)));
        assert!(newcomer.as_mut().now_or_never().is_none());
        assert_eq!(quota.evicted(), 0, "all are busy");
        // As if idle for long: the quota's clock is the system's.
        slots[2].signals.idle_since.store(1, Ordering::Relaxed);
        slots[1].signals.idle_since.store(2, Ordering::Relaxed);
        let now = 1_000;
        let evicted = quota.table().callers.evict_idle(|_| now);
        assert!(Arc::ptr_eq(
            &evicted.expect("one is idle"),
            &slots[1].signals
        ));
        let evicted = quota.table().callers.evict_idle(|_| now);
        assert!(Arc::ptr_eq(
            &evicted.expect("another is"),
            &slots[2].signals
        ));
        assert!(quota.table().callers.evict_idle(|_| now).is_none());
        assert!(!slots.iter().any(cut));
    }

    #[tokio::test]
    async fn no_more_are_evicted_than_admitted_and_the_quota_is_never_exceeded() {
        let quota = Quota::new(10, IDLE);
        let from: Vec<u8> = (0..10).collect();
        let slots = full(&quota, &from);
        let inside: Vec<_> = slots
            .into_iter()
            .map(|slot| {
                tokio::spawn(async move {
                    slot.cut().await;
                    drop(slot);
                })
            })
            .collect();
        for number in 0..4 {
            let slot = quota.slot(address(100 + number)).await;
            tokio::spawn(async move {
                let _seat = slot;
                std::future::pending::<()>().await;
            });
        }
        tokio::task::yield_now().await;
        assert_eq!(quota.evicted(), 4);
        assert_eq!(quota.table().waiters.free, 0);
        let left = inside.iter().filter(|it| it.is_finished()).count();
        assert_eq!(left, 4);
    }

    #[tokio::test(start_paused = true)]
    async fn an_address_without_a_slot_is_admitted_before_one_that_has_all() {
        let quota = Quota::new(2, Duration::from_secs(5));
        let mut slots = full(&quota, &[1, 1]);
        for slot in &slots {
            assert!(slot.logged_in());
            slot.set_idle(false);
        }
        let waits = |number| {
            let quota = quota.clone();
            tokio::spawn(async move { (number, quota.slot(address(number)).await) })
        };
        let crowd: Vec<_> = (0..50).map(|_| waits(1)).collect();
        tokio::task::yield_now().await;
        let other = waits(2);
        tokio::task::yield_now().await;
        slots.pop();
        let (number, slot) = other.await.expect("no panic");
        assert_eq!(number, 2);
        // Cancelled waiters are skipped, and no slot is lost.
        for waiter in &crowd[..49] {
            waiter.abort();
        }
        tokio::task::yield_now().await;
        drop((slot, slots));
        let last = crowd.into_iter().last().expect("fifty");
        drop(last.await.expect("no panic"));
        assert_eq!(quota.table().waiters.free, 2);
    }

    #[tokio::test]
    async fn an_address_with_more_slots_gives_up_one_that_was_idle_for_a_second() {
        let quota = Quota::new(3, Duration::from_secs(3_600));
        let slots = full(&quota, &[1, 1, 2]);
        for slot in &slots {
            assert!(slot.logged_in());
            // As if idle for long.
            slot.signals.idle_since.store(1, Ordering::Relaxed);
        }
        let long_ago = Instant::now() - Duration::from_secs(2);
        let quota = Arc::new(Quota {
            table: Mutex::new(std::mem::take(&mut *quota.table())),
            idle: quota.idle,
            began: long_ago,
        });
        assert!(!quota.evict_one(address(2)), "it has one, the other two");
        assert!(quota.evict_one(address(3)));
        assert!(!quota.evict_one(address(3)), "each has one");
    }
}
