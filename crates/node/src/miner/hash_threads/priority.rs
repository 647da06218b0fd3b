//! The lowest priority of the system.

use std::io;

use crate::scheduling::{Policy, schedule_this_thread};

/// The lowest niceness priority.
const NICEST: i32 = 19;

/// Lets this thread run only on an otherwise idle core.
///
/// # Errors
/// Why `SCHED_IDLE` is refused. Then the thread runs at nice 19, which needs no privilege.
pub(super) fn lower() -> io::Result<()> {
    lower_with(|| schedule_this_thread(Policy::Idle))
}

fn lower_with(idle: impl FnOnce() -> io::Result<()>) -> io::Result<()> {
    idle().inspect_err(|_| {
        // Sets the calling thread on Linux; POSIX would set the process.
        let _ = rustix::process::setpriority_process(None, NICEST);
    })
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use super::*;

    /// A field of this thread's line in `/proc` (proc(5)), counted from 1.
    fn field(number: usize) -> String {
        let line = std::fs::read_to_string("/proc/thread-self/stat").expect("Linux has it");
        // The name, which may hold anything, is in parentheses and is field 2.
        let after_name = line.rsplit_once(')').expect("a name").1;
        let mut fields = after_name.split_ascii_whitespace();
        fields.nth(number - 3).expect("a field").to_owned()
    }

    /// On a separate thread: a lowered priority cannot be raised again.
    fn on_a_thread<T: Send + 'static>(run: impl FnOnce() -> T + Send + 'static) -> T {
        let thread = std::thread::Builder::new().spawn(run).expect("starts");
        thread.join().expect("no panic")
    }

    #[test]
    fn the_calling_thread_runs_at_nice_19_where_sched_idle_is_refused() {
        let (before, result, after) = on_a_thread(|| {
            let refused = || Err(io::Error::from(io::ErrorKind::PermissionDenied));
            (field(19), lower_with(refused), field(19))
        });
        let error = result.expect_err("it was refused");
        assert_eq!(error.kind(), io::ErrorKind::PermissionDenied);
        assert_eq!(after, "19");
        assert_eq!(field(19), before, "the others stay as they are");
    }
}
