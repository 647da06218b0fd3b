//! Shares of the process's descriptors, for connections of callers.
//!
//! Callers over TCP have one share and those of the Unix socket another, so that neither
//! takes a connection from the other, from a peer, or from the chain's files.
//!
//! When a share is full, the next caller gets in all the same, as long as there is somebody
//! who can make room:
//!
//! 1. a *stranger*, who has not logged in, of the address that has most of them: the last one
//!    that has tried to and failed, so that the first of those get their answers, or else the
//!    oldest one; its connection is cut, whatever it is at;
//! 2. else a caller who has logged in and has been idle for a second: the one that has been
//!    so for longest, of the address that has most connections. Its connection is closed as
//!    any idle one is: a call that is on its way is answered first.
//!
//! Who waits is let in by address ([`waiting`]), and an address that has more seats than the one
//! that waits gives one up when it was idle for a second.
//!
//! So whoever has no password holds connections only as long as nobody else wants them, an
//! address that opens thousands pays with its own, and a call that is carried out is never
//! cut for somebody else.

mod waiting;

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::Notify;

use crate::address_group::AddressGroup;
use waiting::{Permit, Turn, Waiting};

/// How often somebody is looked for who can make room, while there is nobody.
const LOOK_AGAIN: Duration = Duration::from_millis(100);
/// Who has logged in and been idle for so long may be asked to leave for an address that has
/// fewer seats, however long the share lets others be idle.
const IDLE_FOR_OTHERS: Duration = Duration::from_secs(1);

/// So many connections, and who has them.
#[derive(Debug)]
pub(super) struct Share {
    table: Mutex<Table>,
    /// Who has logged in and been idle for so long may be asked to leave.
    idle: Duration,
    began: Instant,
}

#[derive(Debug, Default)]
struct Table {
    /// Ever given out: a greater number came later.
    last: u64,
    strangers: Groups,
    callers: Groups,
    waiting: Waiting,
    /// Connections that were told to end so that others could come.
    evicted: u64,
}

/// Connections by address, and addresses by how many they have.
#[derive(Debug, Default)]
struct Groups {
    members: BTreeMap<AddressGroup, Members>,
    by_size: BTreeSet<(Size, AddressGroup)>,
}

/// How many connections an address has, and the oldest of them: of two with as many the one
/// that has held its first for longer counts as the larger.
type Size = (usize, Reverse<u64>);

#[derive(Debug, Default)]
struct Members {
    all: BTreeMap<u64, Arc<Signals>>,
    /// Those whose last login has failed.
    failed: BTreeSet<u64>,
}

/// What a connection hears, and what is known of it without asking it.
#[derive(Debug, Default)]
struct Signals {
    cut: Notify,
    leave: Notify,
    leaving: AtomicBool,
    /// Milliseconds since the share began; 0: it is not idle.
    idle_since: AtomicU64,
}

/// One connection's part of a share, until dropped: after the connection itself.
#[derive(Debug)]
pub(super) struct Seat {
    share: Arc<Share>,
    group: AddressGroup,
    number: u64,
    signals: Arc<Signals>,
    stranger: AtomicBool,
    /// After the seat was taken off the table.
    _permit: Permit,
}

impl Share {
    /// Of so many; who has logged in and been `idle` for so long may be asked to leave.
    pub(super) fn new(most: usize, idle: Duration) -> Arc<Self> {
        Arc::new(Self {
            table: Mutex::new(Table {
                waiting: Waiting::of(most.max(1)),
                ..Table::default()
            }),
            idle,
            began: Instant::now(),
        })
    }

    fn table(&self) -> MutexGuard<'_, Table> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Connections that were told to end so that others could come, so far.
    pub(super) fn evicted(&self) -> u64 {
        self.table().evicted
    }

    /// A seat for a stranger, if one is free.
    pub(super) fn try_seat(self: &Arc<Self>, group: AddressGroup) -> Option<Seat> {
        let permit = Permit::take(self)?;
        Some(self.take(group, permit))
    }

    /// A seat for a stranger, as soon as there is one. Somebody may have to leave for it.
    ///
    /// # Cancel safety
    /// May be dropped; who was told to leave leaves all the same.
    pub(super) async fn seat(self: &Arc<Self>, group: AddressGroup) -> Seat {
        if let Some(seat) = self.try_seat(group) {
            return seat;
        }
        let mut turn = Turn::new(self, group);
        let mut asked = false;
        loop {
            // One for each who waits, so that no more leave than come.
            asked = asked || self.make_room(group);
            tokio::select! {
                permit = turn.come() => return self.take(group, permit),
                () = tokio::time::sleep(LOOK_AGAIN), if !asked => {}
            }
        }
    }

    fn take(self: &Arc<Self>, group: AddressGroup, permit: Permit) -> Seat {
        let mut table = self.table();
        table.last += 1;
        let (number, signals) = (table.last, Arc::<Signals>::default());
        table.strangers.insert(group, number, signals.clone());
        Seat {
            share: self.clone(),
            group,
            number,
            signals,
            stranger: AtomicBool::new(true),
            _permit: permit,
        }
    }

    /// Tells somebody to end its connection for one of `newcomer`; `false`: there is nobody to
    /// be told.
    fn make_room(&self, newcomer: AddressGroup) -> bool {
        let before = |idle: Duration| {
            let least = u64::try_from(idle.as_millis()).unwrap_or(u64::MAX);
            self.now().saturating_sub(least)
        };
        let for_any = before(self.idle);
        let for_fewer = before(self.idle.min(IDLE_FOR_OTHERS));
        let mut table = self.table();
        let own = table.seats_of(newcomer);
        let idle_before = |seats: usize| match seats > own + 1 {
            true => for_fewer,
            false => for_any,
        };
        if let Some(stranger) = table.strangers.take_worst() {
            stranger.cut.notify_one();
        } else if let Some(caller) = table.callers.take_most_idle(idle_before) {
            caller.leaving.store(true, Ordering::Relaxed);
            caller.leave.notify_one();
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

impl Table {
    fn seats_of(&self, group: AddressGroup) -> usize {
        let of = |groups: &Groups| groups.members.get(&group).map_or(0, |it| it.all.len());
        of(&self.strangers) + of(&self.callers)
    }
}

impl Members {
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

    /// Of the largest group the last one that has failed, or the oldest one.
    fn take_worst(&mut self) -> Option<Arc<Signals>> {
        let (_, group) = *self.by_size.last()?;
        let members = self.members.get(&group)?;
        let oldest = members.all.keys().next();
        let number = *members.failed.last().or(oldest)?;
        self.remove(group, number)
    }

    /// The one that has been idle for longest, of the largest group that has any: since
    /// `before`, which depends on the size of the group.
    fn take_most_idle(&mut self, before: impl Fn(usize) -> u64) -> Option<Arc<Signals>> {
        let idle = |members: &Members| {
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

impl Seat {
    /// Where the caller is.
    pub(super) fn group(&self) -> AddressGroup {
        self.group
    }

    /// Whether the caller has not logged in.
    pub(super) fn is_stranger(&self) -> bool {
        self.stranger.load(Ordering::Relaxed)
    }

    /// The caller has logged in. `false`: too late, its connection is being cut, and
    /// nothing is to be begun on it.
    pub(super) fn logged_in(&self) -> bool {
        if !self.is_stranger() {
            return true;
        }
        let mut table = self.share.table();
        let Some(signals) = table.strangers.remove(self.group, self.number) else {
            return false;
        };
        table.callers.insert(self.group, self.number, signals);
        self.stranger.store(false, Ordering::Relaxed);
        true
    }

    /// The caller has tried to log in, and failed.
    pub(super) fn login_failed(&self) {
        let mut table = self.share.table();
        let members = table.strangers.members.get_mut(&self.group);
        let members = members.filter(|members| members.all.contains_key(&self.number));
        if let Some(members) = members {
            members.failed.insert(self.number);
        }
    }

    /// Whether nothing of a request is there.
    pub(super) fn idles(&self, idle: bool) {
        let since = if idle { self.share.now() } else { 0 };
        self.signals.idle_since.store(since, Ordering::Relaxed);
    }

    /// The connection is to be cut.
    pub(super) async fn cut(&self) {
        self.signals.cut.notified().await;
    }

    /// The connection is to be closed when it is idle.
    pub(super) async fn asked_to_leave(&self) {
        self.signals.leave.notified().await;
    }

    /// Whether it is.
    pub(super) fn is_leaving(&self) -> bool {
        self.signals.leaving.load(Ordering::Relaxed)
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        let mut table = self.share.table();
        let groups = match self.is_stranger() {
            true => &mut table.strangers,
            false => &mut table.callers,
        };
        // Who was told to leave is not there any more.
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

    fn cut(seat: &Seat) -> bool {
        seat.cut().now_or_never().is_some()
    }

    fn full(share: &Arc<Share>, from: &[u8]) -> Vec<Seat> {
        let seats = from.iter().map(|number| share.try_seat(address(*number)));
        let seats = seats
            .map(|seat| seat.expect("it is not full yet"))
            .collect();
        assert!(share.try_seat(address(99)).is_none(), "it is full");
        seats
    }

    #[tokio::test(start_paused = true)]
    async fn the_oldest_stranger_of_the_largest_group_makes_room() {
        let share = Share::new(5, IDLE);
        let mut seats = full(&share, &[1, 2, 3, 2, 1]);
        // Address 1 has two and has logged in with one of them.
        assert!(seats[0].logged_in());
        let newcomer = tokio::spawn({
            let share = share.clone();
            async move { share.seat(address(9)).await }
        });
        tokio::task::yield_now().await;
        let told: Vec<bool> = seats.iter().map(cut).collect();
        assert_eq!(told, [false, true, false, false, false]);
        assert!(!seats[1].logged_in(), "too late");
        drop(seats.remove(1));
        drop(newcomer.await.expect("no panic"));
        assert_eq!(share.evicted(), 1);
        assert_eq!(share.table().strangers.by_size.len(), 3);
    }

    #[tokio::test]
    async fn of_those_who_have_failed_to_log_in_the_first_are_answered() {
        let share = Share::new(5, IDLE);
        let seats = full(&share, &[1, 1, 1, 1, 2]);
        for failed in [1, 2, 4] {
            seats[failed].login_failed();
        }
        let told = |share: &Share| {
            assert!(share.make_room(address(9)));
            seats.iter().position(cut)
        };
        // As many as there are: those of the largest group, the failed ones from the back.
        assert_eq!(told(&share), Some(2));
        assert_eq!(told(&share), Some(1));
        assert_eq!(
            told(&share),
            Some(0),
            "the oldest of those who have not failed"
        );
        // Both groups have one.
        assert_eq!(told(&share), Some(3), "it has been there for longer");
        assert_eq!(told(&share), Some(4));
        assert!(!share.make_room(address(9)));
        assert!(!seats[3].logged_in());
        drop(seats);
        assert!(share.table().strangers.members.is_empty());
        assert!(share.table().strangers.by_size.is_empty());
    }

    #[tokio::test(start_paused = true)]
    async fn who_has_logged_in_makes_room_only_when_idle_and_by_being_asked() {
        let share = Share::new(3, IDLE);
        let seats = full(&share, &[1, 1, 2]);
        for seat in &seats {
            assert!(seat.logged_in());
            seat.idles(false);
        }
        let mut newcomer = std::pin::pin!(share.seat(address(9)));
        assert!(newcomer.as_mut().now_or_never().is_none());
        assert_eq!(share.evicted(), 0, "all are busy");
        // As if they had been idle for long: the share's clock is the system's.
        seats[2].signals.idle_since.store(1, Ordering::Relaxed);
        seats[1].signals.idle_since.store(2, Ordering::Relaxed);
        let now = 1_000;
        let told = share.table().callers.take_most_idle(|_| now);
        assert!(Arc::ptr_eq(&told.expect("one is idle"), &seats[1].signals));
        let told = share.table().callers.take_most_idle(|_| now);
        assert!(Arc::ptr_eq(&told.expect("another is"), &seats[2].signals));
        assert!(share.table().callers.take_most_idle(|_| now).is_none());
        assert!(!seats.iter().any(cut));
    }

    #[tokio::test]
    async fn no_more_are_told_to_leave_than_come_and_never_more_are_in() {
        let share = Share::new(10, IDLE);
        let from: Vec<u8> = (0..10).collect();
        let seats = full(&share, &from);
        let inside: Vec<_> = seats
            .into_iter()
            .map(|seat| {
                tokio::spawn(async move {
                    seat.cut().await;
                    drop(seat);
                })
            })
            .collect();
        for number in 0..4 {
            let seat = share.seat(address(100 + number)).await;
            tokio::spawn(async move {
                let _seat = seat;
                std::future::pending::<()>().await;
            });
        }
        tokio::task::yield_now().await;
        assert_eq!(share.evicted(), 4);
        assert_eq!(share.table().waiting.free, 0);
        let left = inside.iter().filter(|it| it.is_finished()).count();
        assert_eq!(left, 4);
    }

    #[tokio::test(start_paused = true)]
    async fn an_address_without_a_seat_goes_before_the_many_of_one_that_has_all() {
        let share = Share::new(2, Duration::from_secs(5));
        let mut seats = full(&share, &[1, 1]);
        for seat in &seats {
            assert!(seat.logged_in());
            seat.idles(false);
        }
        let waits = |number| {
            let share = share.clone();
            tokio::spawn(async move { (number, share.seat(address(number)).await) })
        };
        let crowd: Vec<_> = (0..50).map(|_| waits(1)).collect();
        tokio::task::yield_now().await;
        let other = waits(2);
        tokio::task::yield_now().await;
        seats.pop();
        let (number, seat) = other.await.expect("no panic");
        assert_eq!(number, 2);
        // Who gave up is passed over, and nothing is lost by it.
        for waiter in &crowd[..49] {
            waiter.abort();
        }
        tokio::task::yield_now().await;
        drop((seat, seats));
        let last = crowd.into_iter().last().expect("fifty");
        drop(last.await.expect("no panic"));
        assert_eq!(share.table().waiting.free, 2);
    }

    #[tokio::test]
    async fn of_an_address_with_more_seats_one_that_was_idle_for_a_second_makes_room() {
        let share = Share::new(3, Duration::from_secs(3_600));
        let seats = full(&share, &[1, 1, 2]);
        for seat in &seats {
            assert!(seat.logged_in());
            // As if since long.
            seat.signals.idle_since.store(1, Ordering::Relaxed);
        }
        let long_ago = Instant::now() - Duration::from_secs(2);
        let share = Arc::new(Share {
            table: Mutex::new(std::mem::take(&mut *share.table())),
            idle: share.idle,
            began: long_ago,
        });
        assert!(!share.make_room(address(2)), "it has one, the other two");
        assert!(share.make_room(address(3)));
        assert!(!share.make_room(address(3)), "each has one");
    }
}
