//! The self-probe: connects to the node's own listening sockets and looks whether it gets
//! in. When and what follows is decided by [`handfast_proto::self_probe`].

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
use crate::entrance::{Entrance, Entrances, Place};

/// Probes every entrance, those too that are registered later. Never ends.
pub(crate) async fn run(entrances: Entrances, clock: Clock) {
    let mut registered = entrances.watch();
    let mut known = 0;
    let mut probes = FuturesUnordered::new();
    loop {
        let all = registered.borrow_and_update().clone();
        for entrance in &all[known..] {
            probes.push(watch(entrance.clone(), clock));
        }
        known = all.len();
        tokio::select! {
            changed = registered.changed() => if changed.is_err() { return },
            Some(()) = probes.next() => unreachable!("watching one never ends"),
        }
    }
}

/// Does what the machine of one entrance wants. Never ends.
async fn watch(entrance: Arc<Entrance>, clock: Clock) {
    loop {
        // An answer is given below, before the machine is asked again.
        let due = entrance.probe().deadline().expect("nothing is under way");
        tokio::select! {
            () = tokio::time::sleep_until(clock.instant(due)) => {}
            () = entrance.suspected() => {
                entrance.probe().step(clock.now(), Input::Suspected);
            }
        }
        if step(&entrance, clock, Input::Tick) != Some(Effect::Probe) {
            continue;
        }
        let outcome = probe(&entrance).await;
        tracing::debug!(socket = entrance.name(), at = %entrance.place(), ?outcome, "self-probe");
        let failed = match &outcome {
            Outcome::Failed(why) => Some(why.clone()),
            _ => None,
        };
        if step(&entrance, clock, Input::Ended(outcome)) == Some(Effect::Recreate) {
            let why = failed.unwrap_or_default();
            recreate(&entrance, clock, &why).await;
        }
    }
}

/// One step of the machine, and a line in the log when a failing socket accepts again.
fn step(entrance: &Entrance, clock: Clock, input: Input) -> Option<Effect> {
    let mut machine = entrance.probe();
    let before = machine.report().health;
    let effect = machine.step(clock.now(), input);
    let report = machine.report();
    if report.health == Health::Accepting
        && (before == Health::Failing || report.recreated > 0 && before == Health::Unknown)
    {
        tracing::info!(socket = entrance.name(), at = %entrance.place(), "the listening socket accepts connections again");
    }
    effect
}

async fn recreate(entrance: &Entrance, clock: Clock, why: &str) {
    let (socket, at) = (entrance.name(), entrance.place());
    tracing::warn!(socket, %at, why, "a listening socket accepts nobody; listening anew");
    let result = entrance.recreate().await;
    match &result {
        Ok(()) => tracing::warn!(socket, %at, "the listening socket was made anew"),
        Err(error) => tracing::error!(socket, %at, error, "cannot listen anew; trying again"),
    }
    entrance.probe().step(clock.now(), Input::Recreated(result));
}

/// Connects, and waits to be accepted.
async fn probe(entrance: &Entrance) -> Outcome {
    let (begun, before) = (Instant::now(), accepted(entrance));
    let attempt = async {
        match entrance.place() {
            Place::Tcp(addr) => over_tcp(entrance, *addr).await,
            Place::Unix(path) => over_unix(entrance, path).await,
        }
    };
    let attempt = tokio::time::timeout(TIMEOUT, attempt).await;
    entrance.expect_nobody();
    match attempt {
        Ok(Ok(())) => Outcome::Accepted(begun.elapsed()),
        Ok(Err(outcome)) => outcome,
        Err(_) if accepted(entrance) > before => Outcome::Overtaken,
        Err(_) => Outcome::Failed(format!("not accepted within {TIMEOUT:?}")),
    }
}

fn accepted(entrance: &Entrance) -> u64 {
    entrance.accepted.load(Ordering::Relaxed)
}

fn not_tried(error: io::Error) -> Outcome {
    Outcome::NotTried(error.to_string())
}

fn refused(error: io::Error) -> Outcome {
    Outcome::Failed(error.to_string())
}

/// # Security
/// The address that the connection comes from is taken before it is made; see
/// [`crate::entrance`].
async fn over_tcp(entrance: &Entrance, addr: SocketAddr) -> Result<(), Outcome> {
    let target = from_here(addr);
    let socket = match target {
        SocketAddr::V4(_) => TcpSocket::new_v4(),
        SocketAddr::V6(_) => TcpSocket::new_v6(),
    };
    let socket = socket.map_err(not_tried)?;
    let mut own = target;
    own.set_port(0);
    socket.bind(own).map_err(|error| match error.kind() {
        // The machine has lost the address that is listened on.
        io::ErrorKind::AddrNotAvailable => refused(error),
        _ => not_tried(error),
    })?;
    let own = socket.local_addr().map_err(not_tried)?;
    let seen = entrance.expect(Some(own));
    let connected = socket.connect(target).await.map_err(refused)?;
    let seen = seen.await;
    drop(connected);
    seen.map_err(|_| Outcome::NotTried("nobody waits any more".into()))
}

async fn over_unix(entrance: &Entrance, path: &Path) -> Result<(), Outcome> {
    // Callers have no addresses here: whoever is accepted shows that somebody accepts.
    let seen = entrance.expect(None);
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
    seen.map_err(|_| Outcome::NotTried("nobody waits any more".into()))
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
