//! Churn: peers that come, shake hands and go, as many and as fast as one thread can.
//!
//! The driver must never be what a measurement shows, so it is one thread around
//! `epoll`, sends bytes that were built once, and looks at frame headers only. It
//! hides nothing: every socket error, every connection that ends or falls silent
//! where it should not is counted in [`Report::failures`] by kind and stage.
//!
//! # Ports
//!
//! Whoever closes first keeps the connection's ports in TIME_WAIT, and here that is
//! nearly always the driver: the node under test never runs out. The driver's own
//! ports (28,232 as Linux is shipped) can be used again a second later on loopback
//! (`net.ipv4.tcp_tw_reuse` = 2, the default since Linux 4.19), which is enough for
//! 28,000 cycles a second. Where that is switched off, a long run fails with
//! [`Failure::NoLocalPort`] and says so.

mod driver;
mod frames;
mod peer;
mod report;
mod script;

use std::net::SocketAddr;
use std::time::Duration;

use handfast_wire::Network;

pub use driver::Crowd;
pub use report::{Failure, Report, Stage};
pub use script::{Variant, version};

use driver::Driver;
use script::Script;

/// How many connections exist at the same time, and how they follow one another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shape {
    /// As soon as one connection has ended the next one begins; `concurrency` at a time.
    Continuous {
        /// Connections open at the same time.
        concurrency: usize,
    },
    /// Peers arrive until there are `size` of them, answer pings, and leave together.
    /// Those whose [`Variant`] does not live past the handshake leave at once.
    Waves {
        /// Peers of one wave.
        size: usize,
        /// How many of them shake hands at the same time.
        concurrent_handshakes: usize,
    },
}

/// What to do to a node. [`Churn::run`] does it.
#[derive(Clone, Debug)]
pub struct Churn {
    target: SocketAddr,
    network: Network,
    shape: Shape,
    variants: Vec<Variant>,
    cycles: usize,
    claimed_height: i32,
    patience: Duration,
}

impl Churn {
    /// How long a connection may make no progress. Generous, since it bounds a hang:
    /// how long handshakes take is in the report.
    pub const PATIENCE: Duration = Duration::from_secs(30);

    /// `cycles` orderly connections to `target`. Waves are always whole: their last
    /// one may exceed `cycles`.
    pub fn new(target: SocketAddr, network: &Network, shape: Shape, cycles: usize) -> Self {
        Self {
            target,
            network: network.clone(),
            shape,
            variants: vec![Variant::Orderly],
            cycles,
            claimed_height: 0,
            patience: Self::PATIENCE,
        }
    }

    /// The connections take these variants by turns.
    ///
    /// # Panics
    /// If there is none.
    pub fn variants(mut self, variants: impl IntoIterator<Item = Variant>) -> Self {
        self.variants = variants.into_iter().collect();
        assert!(!self.variants.is_empty(), "at least one variant");
        self
    }

    /// The height that the peers claim in their `version`.
    pub fn claiming(mut self, height: i32) -> Self {
        self.claimed_height = height;
        self
    }

    /// How long a connection may make no progress before it counts as
    /// [`Failure::Unanswered`].
    pub fn patience(mut self, patience: Duration) -> Self {
        self.patience = patience;
        self
    }

    /// Does all cycles and tells what happened.
    ///
    /// # Panics
    /// If the system cannot poll sockets.
    pub fn run(&self) -> Report {
        let mut driver = Driver::new(self);
        driver.run();
        driver.into_report()
    }

    /// Connects one wave (or `concurrency` peers) and keeps it connected.
    ///
    /// # Panics
    /// If the system cannot poll sockets, or the variants do not stay.
    pub fn gather(&self) -> Crowd {
        assert!(
            self.variants.iter().all(|variant| variant.stays()),
            "a crowd is of peers that stay"
        );
        Crowd::gather(Driver::new(self))
    }

    fn script(&self) -> Script {
        Script::new(&self.network, self.claimed_height)
    }
}

#[cfg(test)]
mod tests;
