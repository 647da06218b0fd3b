//! The queue for slots. The address with fewest slots is next; of two equal ones, the one that
//! has waited longer. So an address that requests a thousand slots delays another address by one
//! slot at most.

use std::collections::BTreeMap;
use std::sync::Arc;

use tokio::sync::oneshot;

use super::Quota;
use crate::address_group::AddressGroup;

/// A free slot. When dropped it goes to the next waiter, or back.
#[derive(Debug)]
pub(super) struct Permit(Arc<Quota>);

/// Free slots, and the waiters; never both.
#[derive(Debug, Default)]
pub(super) struct Waiters {
    pub(super) free: usize,
    last: u64,
    queue: BTreeMap<u64, (AddressGroup, oneshot::Sender<Permit>)>,
}

/// A position in the queue, left when dropped.
#[derive(Debug)]
pub(super) struct Waiter {
    quota: Arc<Quota>,
    number: u64,
    granted: oneshot::Receiver<Permit>,
}

impl Waiters {
    /// A queue with `free` slots.
    pub(super) fn of(free: usize) -> Self {
        Self {
            free,
            ..Self::default()
        }
    }
}

impl Permit {
    /// Takes a slot if one is free.
    pub(super) fn take(quota: &Arc<Quota>) -> Option<Self> {
        let mut table = quota.table();
        table.waiters.free = table.waiters.free.checked_sub(1)?;
        Some(Self(quota.clone()))
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        let mut table = self.0.table();
        let next = table.next_waiter();
        let Some(next) = next else {
            table.waiters.free += 1;
            return;
        };
        drop(table);
        // If that waiter has just left, dropping the permit comes back here.
        let _ = next.send(Self(self.0.clone()));
    }
}

impl Waiter {
    /// Waits for a slot of `group`.
    pub(super) fn new(quota: &Arc<Quota>, group: AddressGroup) -> Self {
        let (grant, granted) = oneshot::channel();
        let waiters = &mut quota.table().waiters;
        waiters.last += 1;
        let number = waiters.last;
        waiters.queue.insert(number, (group, grant));
        Self {
            quota: quota.clone(),
            number,
            granted,
        }
    }

    /// # Cancel safety
    /// May be dropped and called again.
    pub(super) async fn granted(&mut self) -> Permit {
        (&mut self.granted)
            .await
            .expect("only its waiter takes it off the queue")
    }
}

impl Drop for Waiter {
    fn drop(&mut self) {
        self.quota.table().waiters.queue.remove(&self.number);
    }
}

impl super::QuotaTable {
    fn next_waiter(&mut self) -> Option<oneshot::Sender<Permit>> {
        let waiters = self.waiters.queue.iter();
        let next = waiters.min_by_key(|(number, (group, _))| (self.slots_of(*group), **number));
        let number = *next?.0;
        self.waiters.queue.remove(&number).map(|(_, grant)| grant)
    }
}
