//! The signals that a user sends: to stop, and to open the log anew.

#![allow(unsafe_code, reason = "there is no safe call that ignores a signal")]

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::time::Instant;

/// What comes this soon after the signal that stops is the same wish: GNU `timeout` sends
/// two at once, and Ctrl-C reaches a process both from the terminal and through its parent.
pub const SAME_SIGNAL: Duration = Duration::from_millis(500);

/// The signals by which a user ends a program.
pub struct Signals {
    interrupt: Signal,
    terminate: Signal,
    hangup: Signal,
    /// When the first one that stops came.
    stopped_at: Option<Instant>,
}

/// What a signal means to a node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wish {
    /// Stop; the signal's name.
    Stop(&'static str),
    /// Open the log file anew (SIGHUP), as other daemons do. A terminal that is closed sends
    /// this too, and ends no node.
    Reopen,
}

impl Signals {
    /// From now on they no longer end the process by themselves.
    ///
    /// # Errors
    /// There is no runtime, or the system refuses.
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

    /// The next one.
    ///
    /// # Cancel safety
    /// A signal is lost only with the whole value.
    pub async fn next(&mut self) -> Wish {
        loop {
            let wish = tokio::select! {
                _ = self.interrupt.recv() => Wish::Stop("SIGINT"),
                _ = self.terminate.recv() => Wish::Stop("SIGTERM"),
                _ = self.hangup.recv() => Wish::Reopen,
            };
            if wish == Wish::Reopen || self.is_new() {
                return wish;
            }
        }
    }

    /// Waits for one that stops; its name.
    pub async fn stop(&mut self) -> &'static str {
        loop {
            if let Wish::Stop(name) = self.next().await {
                return name;
            }
        }
    }

    /// Whether a signal that stops is another wish than the one before it.
    fn is_new(&mut self) -> bool {
        let now = Instant::now();
        match self.stopped_at {
            Some(first) => now.duration_since(first) >= SAME_SIGNAL,
            None => {
                self.stopped_at = Some(now);
                true
            }
        }
    }
}

/// From now on a hangup ends nothing: for the first moments of a program, since a terminal may
/// be closed while it starts. [`Signals`] receive those that come later.
///
/// A program that this one is replaced by (`exec`) begins with this, so that nothing comes
/// between: what is ignored stays so, while what has a handler would be reset to ending the
/// process. Child processes begin with it too.
pub fn ignore_hangups() {
    // SAFETY: sets the disposition of one signal to a constant; it runs no code of ours in a
    // handler, and may be called at any time, between `fork` and `exec` as well.
    unsafe { libc::signal(libc::SIGHUP, libc::SIG_IGN) };
}

/// That [`early_hangups_ignored`] has not run: no disposition.
const UNKNOWN: usize = usize::MAX;
/// What a hangup did before it. A static, since it is written before `main`, where there is no
/// value to be given; and what a signal does is one setting for the whole process.
static BEFORE: AtomicUsize = AtomicUsize::new(UNKNOWN);

/// The same before `main`: for a program's list of initialisers, which the system runs as soon
/// as the program is loaded. What the runtimes of Rust and C++ do first takes longer than some
/// terminals live.
///
/// # Safety
/// To be called once, before anything else of the program runs.
pub unsafe extern "C" fn early_hangups_ignored() {
    // SAFETY: as in `ignore_hangups`.
    let before = unsafe { libc::signal(libc::SIGHUP, libc::SIG_IGN) };
    if before != libc::SIG_ERR {
        BEFORE.store(before, Ordering::Relaxed);
    }
}

/// A hangup does again what it did before the program began: ends it, unless it was started to
/// outlive its terminal (`nohup`).
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

    /// Runs alone in a process of its own: a handler of another test would hide that there is
    /// none.
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
    async fn a_second_signal_within_half_a_second_is_the_same_wish() {
        let mut signals = Signals::new().expect("signals can be listened for");
        assert!(signals.is_new());
        tokio::time::advance(Duration::from_millis(499)).await;
        assert!(!signals.is_new());
        tokio::time::advance(Duration::from_millis(1)).await;
        assert!(signals.is_new(), "whoever insists is obeyed");
    }
}
