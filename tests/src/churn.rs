//! Churn: peers that come, shake hands and go, as many and as fast as one thread can.
//!
//! A plan for the engine of the fuzzer, against a node of a test. The engine counts every socket
//! error and every connection that ends or falls silent where it should not. That it is no
//! witness of its own is what [`Crowd`](crate::crowd::Crowd) is for.

use std::net::SocketAddr;
use std::ops::ControlFlow;
use std::time::Duration;

use handfast_fuzz::plan::Limit;
use handfast_fuzz::terms::unix_time;
use handfast_fuzz::writer::{FrameSet, PeerParams};
use handfast_fuzz::{Counters, Endpoints, Engine, Plan, Scenario, Share};
use handfast_wire::Network;

/// A churn is over by its number of connections, and not by its time.
const NEVER: Duration = Duration::from_secs(24 * 3_600);

/// What to do to a node. [`Churn::run`] does it.
#[derive(Clone, Debug)]
pub struct Churn {
    target: SocketAddr,
    params: PeerParams,
    plan: Plan,
}

impl Churn {
    /// All kinds of connections that leave within moments, at every moment at which a peer can be
    /// half-known.
    pub const KINDS: [Scenario; 6] = [
        Scenario::Orderly,
        Scenario::Pipelined,
        Scenario::Reset,
        Scenario::HandshakeDrop,
        Scenario::PreVerack,
        Scenario::VersionReset,
    ];

    /// So many connections of these kinds in all, `concurrency` of them at a time.
    pub fn new(
        target: SocketAddr,
        network: &Network,
        kinds: &[Scenario],
        concurrency: usize,
        cycles: usize,
    ) -> Self {
        let share = |scenario: &Scenario| Share {
            scenario: *scenario,
            weight: 1,
        };
        Self {
            target,
            params: PeerParams::new(network, unix_time()),
            plan: Plan {
                seed: 1,
                shares: kinds.iter().map(share).collect(),
                concurrency,
                limit: Limit {
                    cycles: cycles as u64,
                    duration: NEVER,
                },
                rate: None,
                answer_timeout: Plan::ANSWER_TIMEOUT,
            },
        }
    }

    /// The height of the node's chain is taken for this one, and the peers claim more.
    pub fn claiming(mut self, height: i32) -> Self {
        self.params.height = height;
        self
    }

    /// Does all connections and tells what became of them.
    ///
    /// # Panics
    /// If the system cannot poll sockets.
    pub fn run(&self) -> Counters {
        self.run_while(|_| true)
    }

    /// The same, until `goes_on` says no. It is asked about once a second.
    ///
    /// # Panics
    /// See [`Churn::run`].
    pub fn run_while(&self, mut goes_on: impl FnMut(&Counters) -> bool) -> Counters {
        let endpoints = Endpoints {
            p2p: self.target.into(),
            rpc: None,
        };
        let frames = FrameSet::new(self.params.clone());
        let engine = Engine::new(self.plan.clone(), frames, endpoints, None);
        engine.run(|counters| match goes_on(counters) {
            true => ControlFlow::Continue(()),
            false => ControlFlow::Break(()),
        })
    }
}

/// In one line: how many connections, how fast, and how many failed of each kind.
pub fn in_words(counters: &Counters) -> String {
    let total = counters.total();
    let milliseconds = |percent| counters.handshake_percentile(percent).as_secs_f64() * 1e3;
    let mut line = format!(
        "{} cycles in {:.2} s, {:.0}/s, handshake p50 {:.2} ms, p99 {:.2} ms",
        total.ended,
        counters.elapsed.as_secs_f64(),
        counters.rate(),
        milliseconds(50.0),
        milliseconds(99.0),
    );
    for (failure, count) in &total.failures {
        line.push_str(&format!(", {count} x {failure}"));
    }
    line
}
