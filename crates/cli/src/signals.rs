//! The signals that a user sends: to stop, and to reopen the log.

#![allow(unsafe_code, reason = "there is no safe call that ignores a signal")]

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::time::Instant;

/// A signal to stop this soon after the first is a duplicate: GNU `timeout` sends two at once,
/// and Ctrl-C reaches a process both from the terminal and through its parent.
pub const DUPLICATE_WITHIN: Duration = Duration::from_millis(500);

/// Receives the signals of a user.
pub struct Signals {
    interrupt: Signal,
    terminate: Signal,
    hangup: Signal,
    /// When the first signal to stop was received.
    stopped_at: Option<Instant>,
}

/// What a signal asks a node to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SignalAction {
    /// Stop; the signal's name.
    Stop(&'static str),
    /// Reopen the log file (SIGHUP), as other daemons do. A closed terminal sends this too, and
    /// does not stop the node.
    Reopen,
}

impl Signals {
    /// Installs the handlers: from now on the signals do not end the process by themselves.
    ///
    /// # Errors
    /// There is no runtime, or the system refuses a handler.
    pub fn new() -> Result<Self, String> {
        let listen =
            |kind| signal(kind).map_err(|error| format!("cannot listen for signals: {error}"));
        Ok(Self {
            interrupt: listen(SignalKind::interrupt())?,
            terminate: listen(SignalKind::terminate())?,
            hangup: listen(SignalKind::hangup())?,
            stopped_at: None,
        })
    }

    /// Waits for the next signal.
    ///
    /// # Cancel safety
    /// A signal is lost only when `self` is dropped.
    pub async fn next(&mut self) -> SignalAction {
        loop {
            let action = tokio::select! {
                _ = self.interrupt.recv() => SignalAction::Stop("SIGINT"),
                _ = self.terminate.recv() => SignalAction::Stop("SIGTERM"),
                _ = self.hangup.recv() => SignalAction::Reopen,
            };
            if action == SignalAction::Reopen || self.is_new() {
                return action;
            }
        }
    }

    /// Waits for a signal to stop, and returns its name.
    pub async fn stop(&mut self) -> &'static str {
        loop {
            if let SignalAction::Stop(name) = self.next().await {
                return name;
            }
        }
    }

    /// Whether a signal to stop is not a duplicate of the first.
    fn is_new(&mut self) -> bool {
        let now = Instant::now();
        match self.stopped_at {
            Some(first) => now.duration_since(first) >= DUPLICATE_WITHIN,
            None => {
                self.stopped_at = Some(now);
                true
            }
        }
    }
}

/// Ignores SIGHUP from now on: a terminal may be closed while a program starts. [`Signals`]
/// receives later ones.
///
/// An ignored signal stays ignored across `exec`, while a handler would be reset to ending the
/// process. Child processes inherit it too.
pub fn ignore_hangups() {
    // SAFETY: sets the disposition of one signal to a constant; it runs no code of ours in a
    // handler, and may be called at any time, between `fork` and `exec` as well.
    unsafe { libc::signal(libc::SIGHUP, libc::SIG_IGN) };
}

/// Not a disposition: [`early_hangups_ignored`] has not run.
const UNKNOWN: usize = usize::MAX;
/// The disposition of SIGHUP before it ran. A static, since it is written before `main`; and the
/// disposition of a signal is one for the process.
static BEFORE: AtomicUsize = AtomicUsize::new(UNKNOWN);

/// [`ignore_hangups`] before `main`: for a program's list of initialisers, which the system runs
/// as soon as the program is loaded. A terminal may be closed while the runtimes of Rust and C++
/// initialise.
///
/// # Safety
/// Must be called once, before any other code of the program runs.
pub unsafe extern "C" fn early_hangups_ignored() {
    // SAFETY: as in `ignore_hangups`.
    let before = unsafe { libc::signal(libc::SIGHUP, libc::SIG_IGN) };
    if before != libc::SIG_ERR {
        BEFORE.store(before, Ordering::Relaxed);
    }
}

/// Restores the disposition of SIGHUP with which the program was started: to end it, unless it
/// was started by `nohup`.
pub fn restore_hangups() {
    let before = BEFORE.load(Ordering::Relaxed);
    if before != UNKNOWN {
        // SAFETY: the disposition is what the system gave us, no handler of ours.
        unsafe { libc::signal(libc::SIGHUP, before) };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Runs in a separate process: the handler of another test would hide that there is none.
    #[test]
    #[ignore = "run by the test below"]
    fn a_hangup_after_the_first_moment() {
        ignore_hangups();
        rustix::process::kill_process(rustix::process::getpid(), rustix::process::Signal::HUP)
            .expect("a process may signal itself");
    }

    #[test]
    fn a_hangup_during_the_start_ends_nothing() {
        let this = std::env::current_exe().expect("the tests have a path");
        let child = std::process::Command::new(this)
            .args(["--ignored", "--exact"])
            .arg("signals::tests::a_hangup_after_the_first_moment")
            .output()
            .expect("it runs");
        let said = String::from_utf8_lossy(&child.stdout);
        assert!(child.status.success(), "{}: {said}", child.status);
        assert!(said.contains("1 passed"), "{said}");
    }

    #[tokio::test(start_paused = true)]
    async fn a_second_signal_within_half_a_second_is_a_duplicate() {
        let mut signals = Signals::new().expect("signals can be listened for");
        assert!(signals.is_new());
        tokio::time::advance(Duration::from_millis(499)).await;
        assert!(!signals.is_new());
        tokio::time::advance(Duration::from_millis(1)).await;
        assert!(signals.is_new(), "a later signal counts again");
    }
}
