//! A target that was started by a command, and all that this started.

use std::io;
use std::net::{SocketAddr, TcpStream};
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

/// How long the target may take to start.
const START: Duration = Duration::from_secs(60);
/// How long its socket may outlive it. The system closes sockets of a killed process when it
/// comes to it, and the processes that a shell has started are nobody's to wait for.
const LEAVE: Duration = Duration::from_secs(10);
/// How often the socket is looked at.
const LOOK_EVERY: Duration = Duration::from_millis(20);

/// See the module. It is killed when this is dropped.
#[derive(Debug)]
pub(super) struct Started {
    child: Child,
    target: SocketAddr,
}

impl Started {
    /// Starts it, and waits until it listens.
    ///
    /// # Errors
    /// It does not, or somebody else does.
    pub(super) fn start(
        command: &str,
        target: SocketAddr,
        stop: &AtomicBool,
    ) -> Result<Self, String> {
        // Whoever is there now would be taken for it.
        if listens(target) {
            return Err(format!(
                "somebody listens on {target} already: end it, since {command:?} is to start the \
                 target, in the foreground"
            ));
        }
        let child = Command::new("sh")
            .args(["-c", command])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            // A group of its own: what it starts ends with it, and nothing else does.
            .process_group(0)
            .spawn()
            .map_err(|error| format!("cannot start {command:?}: {error}"))?;
        let mut started = Self { child, target };
        let until = Instant::now() + START;
        while !listens(target) {
            let ended = started.child.try_wait().ok().flatten();
            if let Some(status) = ended {
                return Err(format!(
                    "{command:?} ended ({status}) and nobody listens on {target}"
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
        // The next one must not find this one's socket. If it does, it says so.
        let until = Instant::now() + LEAVE;
        while listens(self.target) && Instant::now() < until {
            std::thread::park_timeout(LOOK_EVERY);
        }
    }
}

/// Whether anybody takes connections there. One who takes none at the moment is somebody.
fn listens(target: SocketAddr) -> bool {
    match TcpStream::connect_timeout(&target, LEAVE) {
        Ok(_) => true,
        Err(error) => error.kind() == io::ErrorKind::TimedOut,
    }
}

#[cfg(test)]
mod tests {
    use std::net::{Ipv4Addr, TcpListener};

    use super::*;

    #[test]
    fn whoever_listens_already_is_not_taken_for_the_target() {
        let somebody = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port");
        let target = somebody.local_addr().expect("it is bound");
        let error = Started::start("sleep 60", target, &AtomicBool::new(false));
        let error = error.expect_err("the port is taken");
        assert!(
            error.contains("listens on") && error.contains("end it"),
            "{error}"
        );
        drop(somebody);
        let error = Started::start("exit 3", target, &AtomicBool::new(false));
        let error = error.expect_err("it ends at once");
        assert!(error.contains("ended (exit status: 3)"), "{error}");
    }
}
