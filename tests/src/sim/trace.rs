//! The trace of a run: one line per event, hashed as it goes.

use std::collections::VecDeque;
use std::fmt::{Arguments, Write as _};
use std::time::Duration;

use bitcoin::hashes::{Hash, HashEngine, sha256};

/// Lines that a failure prints.
const TAIL: usize = 60;

/// See the module. Two runs with equal hashes did the same, byte for byte.
pub(crate) struct Trace {
    engine: sha256::HashEngine,
    tail: VecDeque<String>,
    /// Every line, for comparison; `None`: not stored.
    whole: Option<String>,
    lines: u64,
}

impl std::fmt::Debug for Trace {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Trace")
            .field("lines", &self.lines)
            .finish_non_exhaustive()
    }
}

impl Trace {
    pub(crate) fn new(keep: bool) -> Self {
        Self {
            engine: sha256::HashEngine::default(),
            tail: VecDeque::with_capacity(TAIL),
            whole: keep.then(String::new),
            lines: 0,
        }
    }

    pub(crate) fn line(&mut self, now: Duration, what: Arguments<'_>) {
        let mut line = if self.tail.len() == TAIL {
            self.tail.pop_front().expect("it is full")
        } else {
            String::new()
        };
        line.clear();
        writeln!(
            line,
            "{:>6}.{:06} {what}",
            now.as_secs(),
            now.subsec_micros()
        )
        .expect("a String takes everything");
        self.engine.input(line.as_bytes());
        if let Some(whole) = &mut self.whole {
            whole.push_str(&line);
        }
        self.tail.push_back(line);
        self.lines += 1;
    }

    pub(crate) fn lines(&self) -> u64 {
        self.lines
    }

    /// Hash of all lines so far.
    pub(crate) fn digest(&self) -> String {
        sha256::Hash::from_engine(self.engine.clone()).to_string()
    }

    pub(crate) fn tail(&self) -> String {
        self.tail.iter().map(String::as_str).collect()
    }

    pub(crate) fn into_whole(self) -> Option<String> {
        self.whole
    }
}
