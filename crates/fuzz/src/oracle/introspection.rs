//! The target's view of itself, over its RPC.

use std::fmt::Display;
use std::sync::atomic::AtomicBool;
use std::time::{Duration, Instant};

use super::wait::Wait;

/// Timeout of an answer, of a node under load.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(10);
/// The same for a node that did not answer the last time, so that a run does not wait for it each
/// time.
const SHORT_TIMEOUT: Duration = Duration::from_secs(1);

/// Access to the target's own state: its RPC.
pub trait Introspection {
    /// The chain that it is on, as Core's `getblockchaininfo` names it.
    ///
    /// # Errors
    /// No answer.
    fn chain(&mut self, wait: Wait<'_>) -> Result<String, NoAnswer>;

    /// Its number of peers.
    ///
    /// # Errors
    /// No answer.
    fn peers(&mut self, wait: Wait<'_>) -> Result<u64, NoAnswer>;

    /// The result of its own audit; `None` where it has none.
    ///
    /// # Errors
    /// No answer.
    fn audit(&mut self, wait: Wait<'_>) -> Result<Option<Result<(), String>>, NoAnswer>;
}

/// Why the target has not answered.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NoAnswer {
    /// It is overloaded and sent `Retry-After`, which is allowed under load.
    #[error("{0}")]
    Later(String),
    /// It did not answer, or not in time.
    #[error("{0}")]
    Not(String),
    /// It did not answer before the run was stopped.
    #[error("the run was ended before it answered")]
    Ended,
}

/// The answers to one round of calls.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct RpcAnswers {
    /// Whether it answered; `None` without an RPC.
    pub(super) answered: Option<Result<(), NoAnswer>>,
    pub(super) peers: Option<u64>,
    pub(super) audit: Option<Result<(), String>>,
}

/// Calls the RPC, with a timeout.
pub(super) struct RpcProbe<'a> {
    introspection: Option<Box<dyn Introspection + Send>>,
    stop: &'a AtomicBool,
    answer_timeout: Duration,
}

impl<'a> RpcProbe<'a> {
    pub(super) fn new(
        introspection: Option<Box<dyn Introspection + Send>>,
        stop: &'a AtomicBool,
    ) -> Self {
        Self {
            introspection,
            stop,
            answer_timeout: ANSWER_TIMEOUT,
        }
    }

    /// The chain that it is on; `None` without an RPC.
    pub(super) fn chain(&mut self, ends: Instant) -> Option<Result<String, NoAnswer>> {
        self.ask(ends, |introspection, wait| introspection.chain(wait))
    }

    /// Its number of peers, alone.
    pub(super) fn peers(&mut self, ends: Instant) -> Option<u64> {
        self.ask(ends, |introspection, wait| introspection.peers(wait))?
            .ok()
    }

    /// All answers. After a call without an answer no more are made.
    pub(super) fn all(&mut self, ends: Instant) -> RpcAnswers {
        let peers = match self.ask(ends, |introspection, wait| introspection.peers(wait)) {
            None => return RpcAnswers::default(),
            Some(Err(no_answer)) => {
                return RpcAnswers {
                    answered: Some(Err(no_answer)),
                    ..RpcAnswers::default()
                };
            }
            Some(Ok(peers)) => Some(peers),
        };
        match self.ask(ends, |introspection, wait| introspection.audit(wait)) {
            Some(Err(no_answer)) => RpcAnswers {
                answered: Some(Err(no_answer)),
                peers,
                audit: None,
            },
            said => RpcAnswers {
                answered: Some(Ok(())),
                peers,
                audit: said.and_then(Result::ok).flatten(),
            },
        }
    }

    /// `ends`: no answer is awaited any longer.
    fn ask<T>(
        &mut self,
        ends: Instant,
        question: impl FnOnce(&mut (dyn Introspection + Send), Wait<'_>) -> Result<T, NoAnswer>,
    ) -> Option<Result<T, NoAnswer>> {
        let introspection = self.introspection.as_mut()?;
        let wait = Wait::until(self.answer_timeout, ends, self.stop);
        let said = question(introspection.as_mut(), wait);
        self.answer_timeout = match said {
            Ok(_) => ANSWER_TIMEOUT,
            Err(_) => SHORT_TIMEOUT,
        };
        Some(said)
    }
}

/// The text for an audit that fails: the sockets and the tables differ.
#[must_use]
pub fn audit_mismatch(
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

    /// Never answers, and records the timeouts.
    struct Mute(Arc<Mutex<Vec<Duration>>>);

    impl Mute {
        fn asked<T>(&self, wait: Wait<'_>) -> Result<T, NoAnswer> {
            self.0.lock().expect("no panic").push(wait.left());
            Err(NoAnswer::Not("mute".into()))
        }
    }

    impl Introspection for Mute {
        fn chain(&mut self, wait: Wait<'_>) -> Result<String, NoAnswer> {
            self.asked(wait)
        }
        fn peers(&mut self, wait: Wait<'_>) -> Result<u64, NoAnswer> {
            self.asked(wait)
        }
        fn audit(&mut self, wait: Wait<'_>) -> Result<Option<Result<(), String>>, NoAnswer> {
            self.asked(wait)
        }
    }

    #[test]
    fn after_a_timeout_the_next_call_has_a_shorter_one() {
        let stop = AtomicBool::new(false);
        let waits = Arc::default();
        let mute = Mute(Arc::clone(&waits));
        let mut rpc_probe = RpcProbe::new(Some(Box::new(mute)), &stop);
        let ends = Instant::now() + 2 * ANSWER_TIMEOUT;
        for _ in 0..2 {
            let said = rpc_probe.all(ends);
            assert_eq!(said.answered, Some(Err(NoAnswer::Not("mute".into()))));
        }
        let waits = waits.lock().expect("no panic");
        assert_eq!(waits.len(), 2, "it was not asked for its audit");
        assert!(waits[0] > SHORT_TIMEOUT && waits[1] <= SHORT_TIMEOUT);
    }
}
