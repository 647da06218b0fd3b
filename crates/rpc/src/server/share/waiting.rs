//! Who waits for a seat, and whose turn it is: that of the address with fewest seats, of two
//! with as many that of who has waited for longer. So an address that asks for a thousand
//! keeps another waiting for one of its own at most, not for all of them.

use std::collections::BTreeMap;
use std::sync::Arc;

use tokio::sync::oneshot;

use super::Share;
use crate::address_group::AddressGroup;

/// A free place. Goes to who waits, or back, when dropped.
#[derive(Debug)]
pub(super) struct Permit(Arc<Share>);

/// Free places, and who waits for one. There are not both.
#[derive(Debug, Default)]
pub(super) struct Waiting {
    pub(super) free: usize,
    last: u64,
    queue: BTreeMap<u64, (AddressGroup, oneshot::Sender<Permit>)>,
}

/// A place in the queue, left when dropped.
#[derive(Debug)]
pub(super) struct Turn {
    share: Arc<Share>,
    number: u64,
    come: oneshot::Receiver<Permit>,
}

impl Waiting {
    /// So many are free.
    pub(super) fn of(free: usize) -> Self {
        Self {
            free,
            ..Self::default()
        }
    }
}

impl Permit {
    /// If one is free.
    pub(super) fn take(share: &Arc<Share>) -> Option<Self> {
        let mut table = share.table();
        table.waiting.free = table.waiting.free.checked_sub(1)?;
        Some(Self(share.clone()))
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        let mut table = self.0.table();
        let next = table.next_turn();
        let Some(next) = next else {
            table.waiting.free += 1;
            return;
        };
        drop(table);
        // If that one has just left, the permit comes back here by being dropped.
        let _ = next.send(Self(self.0.clone()));
    }
}

impl Turn {
    /// Waits for a seat of `group`.
    pub(super) fn new(share: &Arc<Share>, group: AddressGroup) -> Self {
        let (give, come) = oneshot::channel();
        let waiting = &mut share.table().waiting;
        waiting.last += 1;
        let number = waiting.last;
        waiting.queue.insert(number, (group, give));
        Self {
            share: share.clone(),
            number,
            come,
        }
    }

    /// # Cancel safety
    /// May be dropped and called again.
    pub(super) async fn come(&mut self) -> Permit {
        (&mut self.come)
            .await
            .expect("only its turn takes it off the queue")
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        self.share.table().waiting.queue.remove(&self.number);
    }
}

impl super::Table {
    fn next_turn(&mut self) -> Option<oneshot::Sender<Permit>> {
        let waiting = self.waiting.queue.iter();
        let turn = waiting.min_by_key(|(number, (group, _))| (self.seats_of(*group), **number));
        let number = *turn?.0;
        self.waiting.queue.remove(&number).map(|(_, give)| give)
    }
}
