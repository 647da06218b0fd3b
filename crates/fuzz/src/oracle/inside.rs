//! What the target says of itself, when there is a way to ask.

use std::fmt::Display;
use std::sync::atomic::AtomicBool;
use std::time::{Duration, Instant};

use super::wait::{LITTLE_PATIENCE, Wait};

/// How long an answer may take: a node under load is asked.
const PATIENCE: Duration = Duration::from_secs(10);

/// A way to ask the target itself: its RPC.
pub trait Inside {
    /// The chain that it is on, as Core's `getblockchaininfo` calls it.
    ///
    /// # Errors
    /// Why it does not say.
    fn chain(&mut self, wait: Wait<'_>) -> Result<String, Unsaid>;

    /// How many peers it counts.
    ///
    /// # Errors
    /// Why it does not say.
    fn peers(&mut self, wait: Wait<'_>) -> Result<u64, Unsaid>;

    /// What its own audit says; `None` where it has none.
    ///
    /// # Errors
    /// Why it does not say.
    fn audit(&mut self, wait: Wait<'_>) -> Result<Option<Result<(), String>>, Unsaid>;
}

/// Why the target does not say what it was asked.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unsaid {
    /// It is overloaded and wants to be asked later, which is its right while it is.
    #[error("{0}")]
    Later(String),
    /// It did not answer, or not in time.
    #[error("{0}")]
    Not(String),
    /// It did not answer before somebody ended the run.
    #[error("the run was ended before it answered")]
    Ended,
}

/// What was learned by asking once.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Said {
    /// Whether it answered; `None` where there is no way to ask.
    pub(super) answered: Option<Result<(), Unsaid>>,
    pub(super) peers: Option<u64>,
    pub(super) audit: Option<Result<(), String>>,
}

/// Who asks.
pub(super) struct Asker<'a> {
    inside: Option<Box<dyn Inside + Send>>,
    hurry: &'a AtomicBool,
    patience: Duration,
}

impl<'a> Asker<'a> {
    pub(super) fn new(inside: Option<Box<dyn Inside + Send>>, hurry: &'a AtomicBool) -> Self {
        Self {
            inside,
            hurry,
            patience: PATIENCE,
        }
    }

    /// The chain that it is on; `None` where there is no way to ask.
    pub(super) fn chain(&mut self, ends: Instant) -> Option<Result<String, Unsaid>> {
        self.ask(ends, |inside, wait| inside.chain(wait))
    }

    /// How many peers it counts, alone.
    pub(super) fn peers(&mut self, ends: Instant) -> Option<u64> {
        self.ask(ends, |inside, wait| inside.peers(wait))?.ok()
    }

    /// All that it says. Whoever leaves one question unanswered is not asked the next.
    pub(super) fn all(&mut self, ends: Instant) -> Said {
        let peers = match self.ask(ends, |inside, wait| inside.peers(wait)) {
            None => return Said::default(),
            Some(Err(unsaid)) => {
                return Said {
                    answered: Some(Err(unsaid)),
                    ..Said::default()
                };
            }
            Some(Ok(peers)) => Some(peers),
        };
        match self.ask(ends, |inside, wait| inside.audit(wait)) {
            Some(Err(unsaid)) => Said {
                answered: Some(Err(unsaid)),
                peers,
                audit: None,
            },
            said => Said {
                answered: Some(Ok(())),
                peers,
                audit: said.and_then(Result::ok).flatten(),
            },
        }
    }

    /// `ends`: no answer is waited for any longer.
    fn ask<T>(
        &mut self,
        ends: Instant,
        question: impl FnOnce(&mut (dyn Inside + Send), Wait<'_>) -> Result<T, Unsaid>,
    ) -> Option<Result<T, Unsaid>> {
        let inside = self.inside.as_mut()?;
        let wait = Wait::until(self.patience, ends, self.hurry);
        let said = question(inside.as_mut(), wait);
        self.patience = match said {
            Ok(_) => PATIENCE,
            Err(_) => LITTLE_PATIENCE,
        };
        Some(said)
    }
}

/// What it is that does not agree in an audit: the sockets, and the tables of those whom they
/// are of.
#[must_use]
pub fn differ(
    (sockets, in_handshake): (impl Display, impl Display),
    peers: usize,
    synced: usize,
) -> String {
    format!(
        "{sockets} open sockets ({in_handshake} of them in their handshake), {peers} in the peer \
         table and {synced} in the sync table do not agree"
    )
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use super::*;

    /// Never answers, and remembers how long it was waited for.
    struct Mute(Arc<Mutex<Vec<Duration>>>);

    impl Mute {
        fn asked<T>(&self, wait: Wait<'_>) -> Result<T, Unsaid> {
            self.0.lock().expect("no panic").push(wait.left());
            Err(Unsaid::Not("mute".into()))
        }
    }

    impl Inside for Mute {
        fn chain(&mut self, wait: Wait<'_>) -> Result<String, Unsaid> {
            self.asked(wait)
        }
        fn peers(&mut self, wait: Wait<'_>) -> Result<u64, Unsaid> {
            self.asked(wait)
        }
        fn audit(&mut self, wait: Wait<'_>) -> Result<Option<Result<(), String>>, Unsaid> {
            self.asked(wait)
        }
    }

    #[test]
    fn one_that_does_not_answer_is_asked_once_and_waited_for_less_the_next_time() {
        let hurry = AtomicBool::new(false);
        let waits = Arc::default();
        let mute = Mute(Arc::clone(&waits));
        let mut asker = Asker::new(Some(Box::new(mute)), &hurry);
        let ends = Instant::now() + 2 * PATIENCE;
        for _ in 0..2 {
            let said = asker.all(ends);
            assert_eq!(said.answered, Some(Err(Unsaid::Not("mute".into()))));
        }
        let waits = waits.lock().expect("no panic");
        assert_eq!(waits.len(), 2, "it was not asked for its audit");
        assert!(waits[0] > LITTLE_PATIENCE && waits[1] <= LITTLE_PATIENCE);
    }
}
