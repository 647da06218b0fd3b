//! Bytes and messages by command.
//!
//! # Bounds
//! Unknown commands are counted together as `OTHER`: their names are not stored.

use std::array;
use std::sync::atomic::{AtomicU64, Ordering};

use handfast_wire::Kind;

/// Counts unknown commands, and frames whose command is no text. Core `NET_MESSAGE_TYPE_OTHER`.
pub(crate) const OTHER: &str = "*other*";

/// One counter for every kind, and the last for the others.
const COUNTERS: usize = Kind::ALL.len() + 1;

fn index(kind: Option<Kind>) -> usize {
    kind.map_or(COUNTERS - 1, |kind| kind as usize)
}

/// Increasing counters, one for every command. Each is independent and only shown: `Relaxed` is
/// enough.
#[derive(Debug)]
pub(crate) struct Counts([AtomicU64; COUNTERS]);

impl Default for Counts {
    fn default() -> Self {
        Self(array::from_fn(|_| AtomicU64::new(0)))
    }
}

impl Counts {
    pub(crate) fn add(&self, kind: Option<Kind>, count: u64) {
        self.0[index(kind)].fetch_add(count, Ordering::Relaxed);
    }

    pub(crate) fn read(&self) -> ByCommand {
        ByCommand(self.0.each_ref().map(|count| count.load(Ordering::Relaxed)))
    }
}

/// The counters at one moment, by command.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ByCommand([u64; COUNTERS]);

impl ByCommand {
    /// The sum over all commands.
    #[must_use]
    pub fn sum(&self) -> u64 {
        self.0.iter().sum()
    }

    /// The commands that occurred, with their counts; unknown commands come last, together, as
    /// `*other*`.
    pub fn rows(&self) -> impl Iterator<Item = (&'static str, u64)> {
        self.all().filter(|(_, count)| *count > 0)
    }

    /// Every command with its count, 0 included: a monitor sees no increase of a series that did
    /// not exist before.
    pub fn all(&self) -> impl Iterator<Item = (&'static str, u64)> {
        let names = Kind::ALL.map(Kind::name).into_iter().chain([OTHER]);
        names.zip(self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_command_has_a_separate_counter_and_unknown_ones_share_the_last() {
        let counts = Counts::default();
        for (count, kind) in (1..).zip(Kind::ALL) {
            counts.add(Some(kind), count);
        }
        counts.add(None, 500);
        counts.add(None, 500);
        let read = counts.read();
        let expected = (1..)
            .zip(Kind::ALL)
            .map(|(count, kind)| (kind.name(), count));
        let rows: Vec<_> = read.rows().collect();
        assert_eq!(rows, expected.chain([(OTHER, 1_000)]).collect::<Vec<_>>());
        assert_eq!(
            read.sum(),
            (1..=Kind::ALL.len() as u64).sum::<u64>() + 1_000
        );
    }

    #[test]
    fn a_command_that_never_occurred_has_no_row() {
        let counts = Counts::default();
        counts.add(Some(Kind::Ping), 32);
        assert_eq!(counts.read().rows().collect::<Vec<_>>(), [("ping", 32)]);
        let all: Vec<_> = counts.read().all().collect();
        assert!(all.len() == COUNTERS && all.contains(&("pong", 0)) && all.contains(&("ping", 32)));
    }
}
