//! The threads that actors run on.
//!
//! `System::run` neither joins arbiters nor stops them in any order; so they are started, stopped
//! and joined here.

use std::time::Duration;

use actix::{Arbiter, System};
use actix_rt::ArbiterHandle;

use crate::config::StartError;

/// Where each actor runs.
#[derive(Debug)]
pub(crate) struct Arbiters {
    /// `PeerManager`, `SyncManager`: together, so that a hop between them is cheap.
    pub(crate) core: ArbiterHandle,
    /// `Listener`, `Connector`.
    pub(crate) listener: ArbiterHandle,
    /// `Miner`.
    pub(crate) miner: ArbiterHandle,
    /// `Peer`s. At least one; `core` itself when no thread is for connections alone.
    pub(crate) net: Vec<ArbiterHandle>,
    /// In the order in which they are stopped.
    owned: Vec<(&'static str, Arbiter)>,
}

/// Tasks that run before an event loop polls its sockets and timers again. A turn of a connection
/// takes up to half a millisecond: with tokio's 61 a `ping` could wait 30 ms before it is read. A
/// poll costs less than a microsecond.
const TASKS_BETWEEN_EVENTS: u32 = 8;

/// One single-threaded event loop. Block reads for remotes run on its blocking threads, which end
/// when they had no work for a while.
fn event_loop() -> std::io::Result<tokio::runtime::Runtime> {
    tokio::runtime::Builder::new_current_thread()
        .enable_io()
        .enable_time()
        .event_interval(TASKS_BETWEEN_EVENTS)
        .max_blocking_threads(4)
        .thread_keep_alive(Duration::from_secs(5))
        .build()
}

impl Arbiters {
    /// Starts the threads, `net` of them for connections only. Must be called inside an actix
    /// [`System`].
    pub(crate) fn start(net: usize) -> Result<Self, StartError> {
        assert!(
            System::is_registered(),
            "a node starts inside an actix System"
        );
        let arbiter = |name: &'static str| {
            let made = Arbiter::try_with_tokio_rt(event_loop)
                .map_err(|source| StartError::Thread { name, source })?;
            Ok::<_, StartError>((name, made))
        };
        let miner = arbiter("miner")?;
        let listener = arbiter("listener")?;
        let net = (0..net)
            .map(|_| arbiter("net"))
            .collect::<Result<Vec<_>, _>>()?;
        let core = arbiter("core")?;
        let handle = |(_, arbiter): &(_, Arbiter)| arbiter.handle();
        let connections = if net.is_empty() {
            vec![handle(&core)]
        } else {
            net.iter().map(handle).collect()
        };
        Ok(Self {
            core: handle(&core),
            miner: handle(&miner),
            listener: handle(&listener),
            net: connections,
            owned: [miner, listener]
                .into_iter()
                .chain(net)
                .chain([core])
                .collect(),
        })
    }

    /// Stops the threads and waits for them. Blocks: not for an arbiter.
    ///
    /// Returns the names of those that panicked.
    pub(crate) fn join(self) -> Vec<&'static str> {
        let mut panicked = Vec::new();
        for (name, arbiter) in self.owned {
            arbiter.stop();
            if arbiter.join().is_err() {
                panicked.push(name);
            }
        }
        panicked
    }
}
