//! Bytes and messages, command by command.
//!
//! # Bounds
//! What a remote makes up is counted together as `OTHER`: names are not kept.

use std::array;
use std::sync::atomic::{AtomicU64, Ordering};

use handfast_wire::Kind;

/// Where commands are counted that we do not know, and frames whose command is no text.
/// Core `NET_MESSAGE_TYPE_OTHER`.
pub(crate) const OTHER: &str = "*other*";

/// A place for every kind, and the last for the others.
const PLACES: usize = Kind::ALL.len() + 1;

fn place(kind: Option<Kind>) -> usize {
    kind.map_or(PLACES - 1, |kind| kind as usize)
}

/// A number that only grows, for every command. Each is independent and only shown:
/// `Relaxed` is enough.
#[derive(Debug)]
pub(crate) struct Counts([AtomicU64; PLACES]);

impl Default for Counts {
    fn default() -> Self {
        Self(array::from_fn(|_| AtomicU64::new(0)))
    }
}

impl Counts {
    pub(crate) fn add(&self, kind: Option<Kind>, count: u64) {
        self.0[place(kind)].fetch_add(count, Ordering::Relaxed);
    }

    pub(crate) fn read(&self) -> ByCommand {
        ByCommand(self.0.each_ref().map(|count| count.load(Ordering::Relaxed)))
    }
}

/// What had been counted at one moment, by command.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ByCommand([u64; PLACES]);

impl ByCommand {
    /// All commands together.
    #[must_use]
    pub fn sum(&self) -> u64 {
        self.0.iter().sum()
    }

    /// The commands that occurred, with their counts; those that we do not know come last,
    /// together, as `*other*`.
    pub fn rows(&self) -> impl Iterator<Item = (&'static str, u64)> {
        self.all().filter(|(_, count)| *count > 0)
    }

    /// Every command there is, with its count, 0 among them: for monitors, which see no rise
    /// of what was not there before.
    pub fn all(&self) -> impl Iterator<Item = (&'static str, u64)> {
        let names = Kind::ALL.map(Kind::name).into_iter().chain([OTHER]);
        names.zip(self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_command_has_a_place_of_its_own_and_made_up_ones_share_the_last() {
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
    fn what_never_occurred_has_no_row() {
        let counts = Counts::default();
        counts.add(Some(Kind::Ping), 32);
        assert_eq!(counts.read().rows().collect::<Vec<_>>(), [("ping", 32)]);
        let all: Vec<_> = counts.read().all().collect();
        assert!(all.len() == PLACES && all.contains(&("pong", 0)) && all.contains(&("ping", 32)));
    }
}
