//! Child processes that do not outlive their parent.

#![allow(
    unsafe_code,
    reason = "what runs between fork and exec must keep to what a signal handler may do"
)]

use handfast_cli::signals::ignore_hangups;
use tokio::process::Command;

/// The child receives a signal when the thread that started it ends, even if that was killed
/// (Linux only). It ignores SIGHUP first, so that a closed terminal does not end it at any
/// moment.
pub(super) fn die_with_parent(command: &mut Command) -> &mut Command {
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
