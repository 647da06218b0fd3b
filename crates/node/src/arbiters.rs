//! The threads that actors run on.
//!
//! `System::run` neither joins arbiters nor stops them in any order; so they are
//! made, stopped and joined here.

use std::time::Duration;

use actix::{Arbiter, System};
use actix_rt::ArbiterHandle;

use crate::config::StartError;

/// Most arbiters for connections. Validation wants the cores more.
const MAX_NET: usize = 4;

/// Where each actor runs.
#[derive(Debug)]
pub(crate) struct Arbiters {
    /// `PeerManager`, `SyncManager`: together, so that a hop between them is cheap.
    pub(crate) core: ArbiterHandle,
    /// `Listener`, `Connector`.
    pub(crate) listener: ArbiterHandle,
    /// `Peer`s.
    pub(crate) net: Vec<ArbiterHandle>,
    /// In the order in which they are stopped.
    owned: Vec<(&'static str, Arbiter)>,
}

/// One connection arbiter for every two cores.
fn net_arbiters() -> usize {
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    (cores / 2).clamp(1, MAX_NET)
}

/// One event loop, single-threaded. Reads of blocks for remotes run on its
/// blocking threads, which end after a while without work.
fn event_loop() -> std::io::Result<tokio::runtime::Runtime> {
    tokio::runtime::Builder::new_current_thread()
        .enable_io()
        .enable_time()
        .max_blocking_threads(4)
        .thread_keep_alive(Duration::from_secs(5))
        .build()
}

impl Arbiters {
    /// Starts the threads. Must be called inside an actix [`System`].
    pub(crate) fn start() -> Result<Self, StartError> {
        assert!(
            System::is_registered(),
            "a node starts inside an actix System"
        );
        let arbiter = |name: &'static str| {
            let made = Arbiter::try_with_tokio_rt(event_loop)
                .map_err(|source| StartError::Thread { name, source })?;
            Ok::<_, StartError>((name, made))
        };
        let listener = arbiter("listener")?;
        let net = (0..net_arbiters())
            .map(|_| arbiter("net"))
            .collect::<Result<Vec<_>, _>>()?;
        let core = arbiter("core")?;
        let handle = |(_, arbiter): &(_, Arbiter)| arbiter.handle();
        Ok(Self {
            core: handle(&core),
            listener: handle(&listener),
            net: net.iter().map(handle).collect(),
            owned: std::iter::once(listener).chain(net).chain([core]).collect(),
        })
    }

    /// Stops the threads and waits for them. Blocks: not for an arbiter.
    ///
    /// Returns those that had panicked.
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
