//! Nodes that do not outlive the program that started them.

#![allow(
    unsafe_code,
    reason = "what runs between fork and exec must keep to what a signal handler may do"
)]

use handfast_cli::signals::ignore_hangups;
use tokio::process::Command;

/// A process started by this asks itself to end when the thread that started it is gone,
/// even if that was killed. Linux alone has this. A hangup ends it at no moment: it begins with
/// ignoring it, and then receives it.
pub(super) fn ends_with_us(command: &mut Command) -> &mut Command {
    let prepare = || {
        ignore_hangups();
        #[cfg(target_os = "linux")]
        {
            use rustix::process::{Signal, set_parent_process_death_signal};
            set_parent_process_death_signal(Some(Signal::TERM))?;
        }
        Ok(())
    };
    // SAFETY: it makes two system calls and neither allocates nor takes a lock, as the
    // only thread of a process that was just forked must not.
    unsafe { command.pre_exec(prepare) }
}
