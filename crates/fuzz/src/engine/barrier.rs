//! The barrier of connections that disconnect together.
//!
//! It opens when as many wait as can be expected. In a replay it opens for the same groups as in
//! the recorded run, whatever else waits: when they come, and how many there are at that moment,
//! depends on the speed of the target.

use std::collections::{BTreeMap, BTreeSet};

use crate::trace::ReplayEntry;

/// See the module. Connections are identified by their slots.
#[derive(Debug, Default)]
pub(super) struct Barrier {
    waiting: BTreeSet<usize>,
    /// How often it has opened.
    openings: u32,
    /// The groups of a replay, by the opening at which they left; `None`: no replay.
    groups: Option<BTreeMap<u32, Group>>,
    /// The opening of each connection of a replay, in the order in which they begin.
    opening_of: Vec<Option<u32>>,
}

#[derive(Debug, Default)]
struct Group {
    /// Those that have neither come nor ended.
    missing: usize,
    waiting: BTreeSet<usize>,
}

impl Barrier {
    pub(super) fn replaying(entries: &[ReplayEntry]) -> Self {
        let mut groups = BTreeMap::<u32, Group>::new();
        for opening in entries.iter().filter_map(|entry| entry.opening) {
            groups.entry(opening).or_default().missing += 1;
        }
        Self {
            groups: Some(groups),
            opening_of: entries.iter().map(|entry| entry.opening).collect(),
            ..Self::default()
        }
    }

    /// `index`: how many connections of the run began before it.
    pub(super) fn joined(&mut self, slot: usize, index: usize) {
        match self.group(index) {
            Some(group) => {
                group.missing -= 1;
                group.waiting.insert(slot);
            }
            None => drop(self.waiting.insert(slot)),
        }
    }

    /// It has ended, wherever it was. `slot`: `None` if it never had one.
    pub(super) fn left(&mut self, slot: Option<usize>, index: usize) {
        let waited = |waiting: &mut BTreeSet<usize>| slot.is_some_and(|it| waiting.remove(&it));
        match self.group(index) {
            Some(group) => {
                if !waited(&mut group.waiting) {
                    group.missing -= 1;
                }
            }
            None => drop(waited(&mut self.waiting)),
        }
    }

    /// The group that it leaves with, if that has not left yet.
    fn group(&mut self, index: usize) -> Option<&mut Group> {
        let opening = (*self.opening_of.get(index)?)?;
        self.groups.as_mut()?.get_mut(&opening)
    }

    /// Opens for a complete group, of `live` connections in all: returns the number of the
    /// opening, and the slots.
    pub(super) fn open(&mut self, gathering: usize, live: usize) -> Option<(u32, BTreeSet<usize>)> {
        let together = match &mut self.groups {
            None => {
                let count = self.waiting.len();
                let all = count >= gathering || count == live;
                (all && count > 0).then(|| std::mem::take(&mut self.waiting))
            }
            // A connection that did not come to the barrier in the recorded run waits for no
            // others.
            Some(_) if !self.waiting.is_empty() => Some(std::mem::take(&mut self.waiting)),
            Some(groups) => {
                let complete = |group: &Group| group.missing == 0 && !group.waiting.is_empty();
                let found = groups.iter().find(|(_, group)| complete(group));
                let opening = found.map(|(opening, _)| *opening);
                let group = opening.and_then(|opening| groups.remove(&opening));
                group.map(|group| group.waiting)
            }
        }?;
        let opening = self.openings;
        self.openings += 1;
        Some((opening, together))
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::plan::Part;
    use crate::scenario::Scenario;

    #[test]
    fn a_replay_opens_the_barrier_for_the_recorded_group_only() {
        let openings = [Some(0), Some(1), Some(0), None, Some(1), Some(2)];
        let entries = openings.map(|opening| ReplayEntry {
            part: Part {
                number: 0,
                scenario: Scenario::Barrier,
                seed: 0,
            },
            source: None,
            at: Duration::ZERO,
            opening,
            together: false,
        });
        let mut barrier = Barrier::replaying(&entries);
        let opened = |barrier: &mut Barrier| {
            let (_, slots) = barrier.open(1, 6)?;
            Some(Vec::from_iter(slots))
        };
        barrier.joined(0, 0);
        barrier.joined(1, 1);
        assert_eq!(opened(&mut barrier), None, "others are still to come");
        barrier.joined(3, 3);
        assert_eq!(opened(&mut barrier), Some(vec![3]));
        barrier.joined(4, 4);
        assert_eq!(opened(&mut barrier), Some(vec![1, 4]));
        // The other one of the first opening fails this time.
        barrier.left(Some(2), 2);
        assert_eq!(opened(&mut barrier), Some(vec![0]));
        barrier.left(Some(0), 0);
        // One who waits, and leaves by itself.
        barrier.joined(5, 5);
        barrier.left(Some(5), 5);
        assert_eq!(opened(&mut barrier), None);
    }
}
