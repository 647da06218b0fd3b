//! `Connector`: dials, resolves names, and owns the attempts in flight.

pub(crate) mod messages;

use std::net::SocketAddr;
use std::time::Duration;

use actix::fut::wrap_future;
use actix::{Actor, ActorContext, AsyncContext, Context, Handler, Recipient};
use handfast_proto::lifecycle::Direction;
use handfast_proto::text::system_words;
use tokio::net::{TcpStream, lookup_host};

use crate::acceptor::Acceptor;
use crate::connector::messages::{Dial, Resolve, StopAccepting};
use crate::critical_guard::CriticalGuard;
use crate::event_counts::Dialled;
use crate::peer_manager::messages::{DialFailed, NotDialled, Resolved};
use crate::post::post_to;
use crate::slots::Slot;

/// Time for a name to be resolved.
const RESOLVE_TIMEOUT: Duration = Duration::from_secs(20);
/// Most addresses taken from one name. Core takes 256 of a DNS seed.
const MAX_ADDRESSES: usize = 256;

/// See the module.
#[derive(Debug)]
pub(crate) struct Connector {
    acceptor: Acceptor,
    timeout: Duration,
    failed: Recipient<DialFailed>,
    not_dialled: Recipient<NotDialled>,
    resolved: Recipient<Resolved>,
    critical_guard: CriticalGuard,
}

/// Where the results go.
#[derive(Debug)]
pub(crate) struct Results {
    pub(crate) failed: Recipient<DialFailed>,
    pub(crate) not_dialled: Recipient<NotDialled>,
    pub(crate) resolved: Recipient<Resolved>,
}

impl Connector {
    pub(crate) fn new(
        acceptor: Acceptor,
        timeout: Duration,
        results: Results,
        critical_guard: CriticalGuard,
    ) -> Self {
        Self {
            acceptor,
            timeout,
            failed: results.failed,
            not_dialled: results.not_dialled,
            resolved: results.resolved,
            critical_guard,
        }
    }
}

impl Actor for Connector {
    type Context = Context<Self>;
}

impl Handler<Dial> for Connector {
    type Result = ();

    fn handle(
        &mut self,
        Dial {
            addr,
            direction,
            name,
        }: Dial,
        ctx: &mut Self::Context,
    ) {
        let failed = self.failed.clone();
        // Before the first SYN: no connection without a slot.
        let Some(slot) = self.acceptor.slots.take(direction) else {
            self.acceptor.events.dialled(Dialled::NoSlot);
            post_to(&self.not_dialled, NotDialled { addr, name });
            return;
        };
        let acceptor = self.acceptor.clone();
        let timeout = self.timeout;
        ctx.spawn(wrap_future(async move {
            if let Err(error) = dial(&acceptor, timeout, direction, addr, slot).await {
                post_to(&failed, DialFailed { addr, name, error });
            }
        }));
    }
}

async fn dial(
    acceptor: &Acceptor,
    timeout: Duration,
    direction: Direction,
    addr: SocketAddr,
    slot: Slot,
) -> Result<(), String> {
    let connect = tokio::time::timeout(timeout, TcpStream::connect(addr));
    let connected = connect.await;
    acceptor.events.dialled(match &connected {
        Ok(Ok(_)) => Dialled::Connected,
        Ok(Err(error)) => Dialled::of(error),
        Err(_) => Dialled::TimedOut,
    });
    let socket = connected
        .map_err(|_| "timed out".to_owned())?
        .map_err(|error| system_words(&error))?;
    // Takes the socket out of this arbiter's reactor; the peer's arbiter registers it again.
    let socket = socket
        .set_nodelay(true)
        .and_then(|()| socket.into_std())
        .map_err(|error| system_words(&error))?;
    acceptor.dialled(socket, direction, addr, slot);
    Ok(())
}

impl Handler<Resolve> for Connector {
    type Result = ();

    fn handle(
        &mut self,
        Resolve {
            name,
            host,
            port,
            seeds,
        }: Resolve,
        ctx: &mut Self::Context,
    ) {
        let resolved = self.resolved.clone();
        ctx.spawn(wrap_future(async move {
            let addrs = resolve(&host, port).await;
            match &addrs {
                Ok(addrs) => tracing::debug!(name, seeds, found = addrs.len(), "resolved"),
                Err(error) => tracing::debug!(name, seeds, error, "cannot resolve"),
            }
            post_to(&resolved, Resolved { name, addrs });
        }));
    }
}

/// Resolves a name.
///
/// # Errors
/// The resolver's text, also when it does not answer in time.
async fn resolve(host: &str, port: u16) -> Result<Vec<SocketAddr>, String> {
    // The system's resolver blocks: tokio runs it on a blocking thread.
    let lookup = tokio::time::timeout(RESOLVE_TIMEOUT, lookup_host((host, port)));
    match lookup.await {
        Ok(Ok(found)) => Ok(found.take(MAX_ADDRESSES).collect()),
        Ok(Err(error)) => Err(system_words(&error)),
        Err(_) => Err("the resolver did not answer in time".to_owned()),
    }
}

impl Handler<StopAccepting> for Connector {
    type Result = ();

    /// Drops the dials in flight, and their slots with them.
    fn handle(&mut self, _: StopAccepting, ctx: &mut Self::Context) {
        self.critical_guard.disarm();
        ctx.stop();
    }
}
