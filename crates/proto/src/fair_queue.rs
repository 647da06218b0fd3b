//! The order in which a manager handles peers' messages: deficit round robin.
//!
//! Messages of one connection stay in their order, `Add` first and `Done` last
//! ([`crate::lifecycle`]): a connection is one flow, and a flow is first in, first out. Between
//! connections the order is fair: each may cause [`QUANTUM`] of work, then the next one gets its
//! turn. A flow that was empty is served before those that keep the manager busy; so a new peer's
//! `Add`, a `ping`, or the block of an honest peer waits for the one message that is being handled,
//! and not for the queues of flooders. This is the scheduler of RFC 8290 (FQ-CoDel) without its
//! drops.
//!
//! # Bounds
//!
//! None here: a queued message carries the credit of its connection, or is one of its two lifecycle
//! messages (L5).

use std::collections::{BTreeMap, VecDeque};

use handfast_wire::{Kind, Message};

use crate::lifecycle::ConnId;

/// Work of one connection after which the next one gets its turn, in units of [`cost`].
pub const QUANTUM: u64 = 200;
/// Work after which a manager yields its thread, in units of [`cost`]. One message may exceed it: a
/// turn never has a second costly one.
pub const TURN: u64 = 500;
/// Work of a lifecycle message, in units of [`cost`].
pub const LIFECYCLE: u64 = 20;
/// Most that one message is charged. It bounds the rounds in which its connection pays for it.
const MOST: u64 = 100 * QUANTUM;

/// The cost of handling a message, about a microsecond a unit: see [`handfast_wire::Cost`].
#[must_use]
pub fn cost(message: &Message) -> u64 {
    let Some(cost) = message.kind().map(Kind::cost) else {
        return UNKNOWN;
    };
    let entries = u64::try_from(message.entries()).unwrap_or(MOST);
    cost.base + entries * cost.ten_entries / 10
}

/// An unknown command.
const UNKNOWN: u64 = 2;

/// One entry with its number and its cost.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Entry<T> {
    number: u64,
    cost: u64,
    item: T,
}

/// The queue of one connection.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Flow<T> {
    entries: VecDeque<Entry<T>>,
    /// Work that it may still cause in this round; negative: it has caused more.
    deficit: i64,
    is_fresh: bool,
}

/// The queue. See the module.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct FairQueue<T> {
    flows: BTreeMap<ConnId, Flow<T>>,
    /// Flows that were empty and have not caused [`QUANTUM`] of work in this round, in order of
    /// arrival.
    fresh: VecDeque<ConnId>,
    /// The others, in the order of the round. Each flow is in one of the two.
    busy: VecDeque<ConnId>,
    /// Entries that wait for all entries with a lower number, in order.
    barriers: VecDeque<Entry<T>>,
    next_number: u64,
    len: usize,
}

impl<T> Default for FairQueue<T> {
    fn default() -> Self {
        Self {
            flows: BTreeMap::new(),
            fresh: VecDeque::new(),
            busy: VecDeque::new(),
            barriers: VecDeque::new(),
            next_number: 0,
            len: 0,
        }
    }
}

fn signed(cost: u64) -> i64 {
    i64::try_from(cost.min(MOST)).expect("small")
}

impl<T> FairQueue<T> {
    /// Number of queued entries.
    #[must_use]
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether nothing is queued.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    fn entry(&mut self, cost: u64, item: T) -> Entry<T> {
        let number = self.next_number;
        self.next_number += 1;
        self.len += 1;
        Entry { number, cost, item }
    }

    /// Queues `item` after everything of its connection.
    pub fn push(&mut self, id: ConnId, cost: u64, item: T) {
        let entry = self.entry(cost, item);
        let flow = self.flows.entry(id).or_insert_with(|| {
            self.fresh.push_back(id);
            Flow {
                entries: VecDeque::new(),
                deficit: signed(QUANTUM),
                is_fresh: true,
            }
        });
        if flow.entries.is_empty() && !flow.is_fresh && flow.deficit > 0 {
            flow.is_fresh = true;
            self.busy.retain(|other| *other != id);
            self.fresh.push_back(id);
        }
        flow.entries.push_back(entry);
    }

    /// Queues `item` after everything that is queued, and before everything that is queued later.
    ///
    /// Until then queued entries are handled oldest first.
    pub fn push_barrier(&mut self, item: T) {
        let entry = self.entry(0, item);
        self.barriers.push_back(entry);
    }

    /// The next entry to handle, and its cost.
    pub fn pop(&mut self) -> Option<(u64, T)> {
        let entry = match self.barriers.front() {
            Some(barrier) => {
                let before = barrier.number;
                match self.pop_oldest(before) {
                    Some(entry) => entry,
                    None => self.barriers.pop_front()?,
                }
            }
            None => self.pop_fair()?,
        };
        self.len -= 1;
        Some((entry.cost, entry.item))
    }

    fn pop_fair(&mut self) -> Option<Entry<T>> {
        loop {
            let is_fresh = !self.fresh.is_empty();
            let list = if is_fresh {
                &mut self.fresh
            } else {
                &mut self.busy
            };
            let id = *list.front()?;
            let flow = self.flows.get_mut(&id).expect("a listed flow exists");
            if flow.deficit <= 0 {
                flow.deficit += signed(QUANTUM);
                flow.is_fresh = false;
                list.pop_front();
                self.busy.push_back(id);
                continue;
            }
            if let Some(entry) = flow.entries.pop_front() {
                flow.deficit -= signed(entry.cost);
                return Some(entry);
            }
            list.pop_front();
            if is_fresh && !self.busy.is_empty() {
                // Until the round has reached it, it has the rest of its quantum, and no new one:
                // becoming empty between messages gains nothing.
                flow.is_fresh = false;
                self.busy.push_back(id);
            } else {
                self.flows.remove(&id);
            }
        }
    }

    /// The oldest entry of any connection, if it is older than `before`.
    fn pop_oldest(&mut self, before: u64) -> Option<Entry<T>> {
        let oldest = |flow: &Flow<T>| flow.entries.front().map(|entry| entry.number);
        let (number, id) = self
            .flows
            .iter()
            .filter_map(|(id, flow)| Some((oldest(flow)?, *id)))
            .min()?;
        if number > before {
            return None;
        }
        let flow = self.flows.get_mut(&id).expect("found above");
        let entry = flow.entries.pop_front().expect("found above");
        flow.deficit -= signed(entry.cost);
        Some(entry)
    }

    /// Drops everything that is queued.
    pub fn clear(&mut self) {
        let next_number = self.next_number;
        *self = Self {
            next_number,
            ..Self::default()
        };
    }
}

#[cfg(test)]
mod tests;
