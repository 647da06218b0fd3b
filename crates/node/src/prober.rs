//! The self-probe: connects to the node's listening sockets and waits to be accepted. When it
//! probes and what follows is decided by [`handfast_proto::self_probe`].

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use futures_util::stream::{FuturesUnordered, StreamExt};
use handfast_proto::self_probe::{Effect, Health, Input, Outcome, TIMEOUT};
use tokio::net::{TcpSocket, UnixStream};
use tokio::time::Instant;

use crate::clock::Clock;
use crate::interfaces::loopback_is_down;
use crate::listening_socket::{ListenAddress, ListeningSocket, ListeningSockets};

/// Probes every listening socket, also those registered later. Never ends.
pub(crate) async fn run(listening_sockets: ListeningSockets, clock: Clock) {
    let mut registered = listening_sockets.watch();
    let mut known = 0;
    let mut probes = FuturesUnordered::new();
    loop {
        let all = registered.borrow_and_update().clone();
        for listening in &all[known..] {
            probes.push(watch(listening.clone(), clock));
        }
        known = all.len();
        tokio::select! {
            changed = registered.changed() => if changed.is_err() { return },
            Some(()) = probes.next() => unreachable!("watching one never ends"),
        }
    }
}

/// Performs the effects of the machine of one listening socket. Never ends.
async fn watch(listening: Arc<ListeningSocket>, clock: Clock) {
    let mut logged = Logged::default();
    loop {
        // An answer is given below, before the machine's deadline is read again.
        let due = listening.probe().deadline().expect("nothing is under way");
        tokio::select! {
            () = tokio::time::sleep_until(clock.instant(due)) => {}
            () = listening.suspected() => {
                listening.probe().step(clock.now(), Input::Suspected);
            }
        }
        if step(&listening, clock, Input::Tick) != Some(Effect::Probe) {
            continue;
        }
        let outcome = probe(&listening).await;
        tracing::debug!(socket = listening.name(), at = %listening.address(), ?outcome, "self-probe");
        if let Some(line) = logged.probed(&outcome) {
            tracing::warn!(socket = listening.name(), at = %listening.address(), "{line}");
        }
        let failed = match &outcome {
            Outcome::Failed(why) => Some(why.clone()),
            _ => None,
        };
        if step(&listening, clock, Input::Ended(outcome)) == Some(Effect::Recreate) {
            let why = failed.unwrap_or_default();
            recreate(&listening, clock, &why, logged.recreated()).await;
        }
    }
}

/// What was logged of one socket since a connection was accepted: a failure that lasts for hours is
/// not repeated twice a minute.
#[derive(Debug, Default)]
struct Logged {
    /// Number of times it was reopened.
    recreated: u32,
    /// Why the last probe was not possible.
    not_tried: Option<String>,
}

impl Logged {
    /// The warning for a probe that is not possible, once for each cause.
    fn probed(&mut self, outcome: &Outcome) -> Option<String> {
        match outcome {
            Outcome::Accepted(_) | Outcome::Overtaken => *self = Self::default(),
            Outcome::Failed(_) => {}
            Outcome::NotTried(why) if self.not_tried.as_ref() == Some(why) => {}
            Outcome::NotTried(why) => {
                self.not_tried = Some(why.clone());
                let line = format!("the listening socket cannot be probed: {why}");
                return Some(line);
            }
        }
        None
    }

    /// Whether one more reopening is logged: the first, and then at doubling intervals.
    fn recreated(&mut self) -> bool {
        self.recreated = self.recreated.saturating_add(1);
        self.recreated.is_power_of_two()
    }
}

/// One step of the machine, and a log line when a failing socket accepts again.
fn step(listening: &ListeningSocket, clock: Clock, input: Input) -> Option<Effect> {
    let mut machine = listening.probe();
    let before = machine.report().health;
    let effect = machine.step(clock.now(), input);
    let report = machine.report();
    if report.health == Health::Accepting
        && (before == Health::Failing || report.recreated > 0 && before == Health::Unknown)
    {
        tracing::info!(socket = listening.name(), at = %listening.address(), "the listening socket accepts connections again");
    }
    effect
}

/// `warn`: at the level of a warning, not of debug.
async fn recreate(listening: &ListeningSocket, clock: Clock, why: &str, warn: bool) {
    let (socket, at) = (listening.name(), listening.address());
    if warn {
        tracing::warn!(socket, %at, why, "a listening socket does not accept connections; reopening it");
    }
    let result = listening.recreate().await;
    match &result {
        Ok(()) if warn => tracing::warn!(socket, %at, "the listening socket was reopened"),
        Err(error) if warn => {
            tracing::error!(socket, %at, error, "cannot reopen the listening socket; trying again");
        }
        _ => tracing::debug!(socket, %at, why, ?result, "the listening socket is reopened again"),
    }
    listening
        .probe()
        .step(clock.now(), Input::Recreated(result));
}

/// Connects, and waits to be accepted.
async fn probe(listening: &ListeningSocket) -> Outcome {
    let (begun, before) = (Instant::now(), accepted(listening));
    let attempt = async {
        match listening.address() {
            ListenAddress::Tcp(addr) => over_tcp(listening, *addr).await,
            ListenAddress::Unix(path) => over_unix(listening, path).await,
        }
    };
    let attempt = tokio::time::timeout(TIMEOUT, attempt).await;
    listening.expect_none();
    // Connections of a machine to itself use that interface, whatever the address.
    let by_tcp = matches!(listening.address(), ListenAddress::Tcp(_));
    let failed = !matches!(attempt, Ok(Ok(())));
    if by_tcp && failed && loopback_is_down() {
        return Outcome::NotTried("the loopback interface (lo) is down".into());
    }
    match attempt {
        Ok(Ok(())) => Outcome::Accepted(begun.elapsed()),
        Ok(Err(outcome)) => outcome,
        Err(_) if accepted(listening) > before => Outcome::Overtaken,
        Err(_) => Outcome::Failed(format!("not accepted within {TIMEOUT:?}")),
    }
}

fn accepted(listening: &ListeningSocket) -> u64 {
    listening.accepted.load(Ordering::Relaxed)
}

fn not_tried(error: io::Error) -> Outcome {
    Outcome::NotTried(error.to_string())
}

fn refused(error: io::Error) -> Outcome {
    Outcome::Failed(error.to_string())
}

/// # Security
/// The source address is bound before the connection is opened; see
/// [`crate::listening`].
async fn over_tcp(listening: &ListeningSocket, addr: SocketAddr) -> Result<(), Outcome> {
    let target = from_here(addr);
    let socket = match target {
        SocketAddr::V4(_) => TcpSocket::new_v4(),
        SocketAddr::V6(_) => TcpSocket::new_v6(),
    };
    let socket = socket.map_err(not_tried)?;
    let mut own = target;
    own.set_port(0);
    socket.bind(own).map_err(|error| match error.kind() {
        // The machine has lost the address of the listening socket.
        io::ErrorKind::AddrNotAvailable => refused(error),
        _ => not_tried(error),
    })?;
    let own = socket.local_addr().map_err(not_tried)?;
    let seen = listening.expect(Some(own));
    let connected = socket.connect(target).await.map_err(refused)?;
    let seen = seen.await;
    drop(connected);
    seen.map_err(|_| Outcome::NotTried("the probe was given up".into()))
}

async fn over_unix(listening: &ListeningSocket, path: &Path) -> Result<(), Outcome> {
    // Unix sockets have no source addresses: any accepted connection shows that the socket accepts.
    let seen = listening.expect(None);
    let connected = UnixStream::connect(path).await;
    let connected = connected.map_err(|error| {
        if out_of_descriptors(&error) {
            not_tried(error)
        } else {
            refused(error)
        }
    })?;
    let seen = seen.await;
    drop(connected);
    seen.map_err(|_| Outcome::NotTried("the probe was given up".into()))
}

/// An address of this machine at which a socket bound to `addr` is reached.
fn from_here(mut addr: SocketAddr) -> SocketAddr {
    match addr.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => addr.set_ip(Ipv4Addr::LOCALHOST.into()),
        IpAddr::V6(ip) if ip.is_unspecified() => addr.set_ip(Ipv6Addr::LOCALHOST.into()),
        IpAddr::V4(_) | IpAddr::V6(_) => {}
    }
    addr
}

fn out_of_descriptors(error: &io::Error) -> bool {
    use rustix::io::Errno;
    let errno = Errno::from_io_error(error);
    matches!(errno, Some(Errno::MFILE | Errno::NFILE))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn a_lasting_failure_of_the_self_probe_is_not_logged_every_half_minute() {
        let mut logged = Logged::default();
        let down = Outcome::NotTried("the loopback interface (lo) is down".into());
        let line = logged.probed(&down).expect("it is news");
        assert!(line.ends_with("(lo) is down"), "{line}");
        assert_eq!(logged.probed(&down), None);
        let lines = (0..1_000).filter(|_| logged.recreated()).count();
        assert_eq!(lines, 10, "1, 2, 4, … 512");
        logged.probed(&Outcome::Accepted(Duration::ZERO));
        assert!(
            logged.probed(&down).is_some() && logged.recreated(),
            "again"
        );
    }
}
