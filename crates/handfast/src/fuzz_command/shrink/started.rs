//! A target started by a shell command, with all its child processes.

use std::io;
use std::net::{SocketAddr, TcpStream};
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

/// Time for the target to start.
const START: Duration = Duration::from_secs(60);
/// Time for its socket to close after it is killed: the system closes it asynchronously, and the
/// shell's children cannot be waited for.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(10);
/// Interval of checking the socket.
const LOOK_EVERY: Duration = Duration::from_millis(20);

/// See the module. Killed when dropped.
#[derive(Debug)]
pub(super) struct Started {
    child: Child,
    target: SocketAddr,
}

impl Started {
    /// Starts it and waits until it listens.
    ///
    /// # Errors
    /// It does not listen, or another process does.
    pub(super) fn start(
        command: &str,
        target: SocketAddr,
        stop: &AtomicBool,
    ) -> Result<Self, String> {
        // A process that listens already would be taken for it.
        if listens(target) {
            return Err(format!(
                "a process listens on {target} already: stop it, since {command:?} is to start the \
                 target, in the foreground"
            ));
        }
        let child = Command::new("sh")
            .args(["-c", command])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            // A process group of its own, so that its children are killed with it.
            .process_group(0)
            .spawn()
            .map_err(|error| format!("cannot start {command:?}: {error}"))?;
        let mut started = Self { child, target };
        let until = Instant::now() + START;
        while !listens(target) {
            let ended = started.child.try_wait().ok().flatten();
            if let Some(status) = ended {
                return Err(format!(
                    "{command:?} ended ({status}) and nothing listens on {target}"
                ));
            }
            if Instant::now() > until || stop.load(Ordering::Relaxed) {
                return Err(format!("{command:?} does not listen on {target}"));
            }
            std::thread::park_timeout(LOOK_EVERY);
        }
        Ok(started)
    }
}

impl Drop for Started {
    fn drop(&mut self) {
        let group = i32::try_from(self.child.id())
            .ok()
            .and_then(rustix::process::Pid::from_raw);
        if let Some(group) = group {
            let _ = rustix::process::kill_process_group(group, rustix::process::Signal::KILL);
        }
        let _ = self.child.wait();
        // The next one must not find this one's socket; if it does, that is an error.
        let until = Instant::now() + CLOSE_TIMEOUT;
        while listens(self.target) && Instant::now() < until {
            std::thread::park_timeout(LOOK_EVERY);
        }
    }
}

/// Whether a process accepts connections there. A full accept queue counts too.
fn listens(target: SocketAddr) -> bool {
    match TcpStream::connect_timeout(&target, CLOSE_TIMEOUT) {
        Ok(_) => true,
        Err(error) => error.kind() == io::ErrorKind::TimedOut,
    }
}

#[cfg(test)]
mod tests {
    use std::net::{Ipv4Addr, TcpListener};

    use super::*;

    #[test]
    fn a_process_that_listens_already_is_not_taken_for_the_target() {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port");
        let target = listener.local_addr().expect("it is bound");
        let error = Started::start("sleep 60", target, &AtomicBool::new(false));
        let error = error.expect_err("the port is taken");
        assert!(
            error.contains("listens on") && error.contains("stop it"),
            "{error}"
        );
        drop(listener);
        let error = Started::start("exit 3", target, &AtomicBool::new(false));
        let error = error.expect_err("it ends at once");
        assert!(error.contains("ended (exit status: 3)"), "{error}");
    }
}
