//! The barrier: who waits at it, and when it opens.
//!
//! By itself it opens for as many as can be expected. A replay opens it for those for whom it
//! opened together, whoever else is there: when they come, and how many there are at that
//! moment, depends on how fast the target is.

use std::collections::{BTreeMap, BTreeSet};

use crate::trace::Cue;

/// See the module. Connections are known by their places.
#[derive(Debug, Default)]
pub(super) struct Barrier {
    waiting: BTreeSet<usize>,
    /// How often it has opened.
    openings: u32,
    /// Those of a replay who left together, by the opening at which they did; `None`: this is
    /// no replay.
    groups: Option<BTreeMap<u32, Group>>,
    /// The opening of each connection of a replay, in the order in which they begin.
    opening_of: Vec<Option<u32>>,
}

#[derive(Debug, Default)]
struct Group {
    /// Those who have neither come nor gone.
    missing: usize,
    waiting: BTreeSet<usize>,
}

impl Barrier {
    pub(super) fn replaying(cues: &[Cue]) -> Self {
        let mut groups = BTreeMap::<u32, Group>::new();
        for opening in cues.iter().filter_map(|cue| cue.opening) {
            groups.entry(opening).or_default().missing += 1;
        }
        Self {
            groups: Some(groups),
            opening_of: cues.iter().map(|cue| cue.opening).collect(),
            ..Self::default()
        }
    }

    /// `index`: how many connections of the run began before it.
    pub(super) fn came(&mut self, place: usize, index: usize) {
        match self.group(index) {
            Some(group) => {
                group.missing -= 1;
                group.waiting.insert(place);
            }
            None => drop(self.waiting.insert(place)),
        }
    }

    /// It has ended, wherever it was. `place`: none, if it never had one.
    pub(super) fn went(&mut self, place: Option<usize>, index: usize) {
        let waited = |waiting: &mut BTreeSet<usize>| place.is_some_and(|it| waiting.remove(&it));
        match self.group(index) {
            Some(group) => {
                if !waited(&mut group.waiting) {
                    group.missing -= 1;
                }
            }
            None => drop(waited(&mut self.waiting)),
        }
    }

    /// Those with whom it leaves, if they have not left yet.
    fn group(&mut self, index: usize) -> Option<&mut Group> {
        let opening = (*self.opening_of.get(index)?)?;
        self.groups.as_mut()?.get_mut(&opening)
    }

    /// Opens for those who are complete, of `live` connections in all: which opening it is,
    /// and their places.
    pub(super) fn open(&mut self, gathering: usize, live: usize) -> Option<(u32, BTreeSet<usize>)> {
        let together = match &mut self.groups {
            None => {
                let count = self.waiting.len();
                let all = count >= gathering || count == live;
                (all && count > 0).then(|| std::mem::take(&mut self.waiting))
            }
            // Whoever did not get so far the first time waits for nobody.
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
    fn a_replay_opens_for_those_who_left_together_and_for_nobody_else() {
        let openings = [Some(0), Some(1), Some(0), None, Some(1), Some(2)];
        let cues = openings.map(|opening| Cue {
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
        let mut barrier = Barrier::replaying(&cues);
        let opened = |barrier: &mut Barrier| {
            let (_, places) = barrier.open(1, 6)?;
            Some(Vec::from_iter(places))
        };
        barrier.came(0, 0);
        barrier.came(1, 1);
        assert_eq!(opened(&mut barrier), None, "others are still to come");
        barrier.came(3, 3);
        assert_eq!(opened(&mut barrier), Some(vec![3]));
        barrier.came(4, 4);
        assert_eq!(opened(&mut barrier), Some(vec![1, 4]));
        // The other one of the first opening fails this time.
        barrier.went(Some(2), 2);
        assert_eq!(opened(&mut barrier), Some(vec![0]));
        barrier.went(Some(0), 0);
        // One who waits, and leaves by itself.
        barrier.came(5, 5);
        barrier.went(Some(5), 5);
        assert_eq!(opened(&mut barrier), None);
    }
}
