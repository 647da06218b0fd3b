//! Nodes that do not outlive the program that started them.

#![allow(
    unsafe_code,
    reason = "what runs between fork and exec must keep to what a signal handler may do"
)]

use tokio::process::Command;

/// A process started by this asks itself to end when the thread that started it is gone,
/// even if that was killed. Linux alone has this.
pub(super) fn ends_with_us(command: &mut Command) -> &mut Command {
    #[cfg(target_os = "linux")]
    {
        use rustix::process::{Signal, set_parent_process_death_signal};
        let tie = || Ok(set_parent_process_death_signal(Some(Signal::TERM))?);
        // SAFETY: it makes one system call and neither allocates nor takes a lock, as the
        // only thread of a process that was just forked must not.
        unsafe { command.pre_exec(tie) };
    }
    command
}
