//! What one core of the fuzzer can drive, against the bare exchange: it must never be what a
//! run shows.
//!
//! The server is a process of its own, so what is counted here is the fuzzer's alone: its
//! processor time for each cycle, and so the cycles that a core of its own could make.
//!
//! Connections come from a range of addresses. From a single one there are soon more in
//! TIME_WAIT than it has ports, and what is measured is the system's search for one that can
//! be used again: half as much time again for each cycle.

use std::ops::ControlFlow;
use std::time::Duration;

use handfast_fuzz::plan::Limit;
use handfast_fuzz::writer::{FrameSet, PeerParams};
use handfast_fuzz::{Counters, Endpoints, Engine, Plan, Scenario, Share};
use handfast_tests::usage::Usage;
use handfast_wire::Network;

use crate::echo::Echo;

/// What is driven: a handshake and the end; with ping and pong; and those in waves.
const SCENARIOS: [Scenario; 3] = [Scenario::HandshakeDrop, Scenario::Reset, Scenario::Burst];
/// Where they come from.
const SOURCES: &str = "127.1.0.0/16";
/// Connections at a time.
const CONCURRENCY: usize = 100;

/// Runs each scenario against the echo.
pub(crate) fn run(runs: usize, cycles: usize) {
    println!("fuzz: {cycles} connections, {CONCURRENCY} at a time, against the bare exchange");
    for scenario in SCENARIOS {
        let mut micros: Vec<f64> = Vec::new();
        let mut rates: Vec<f64> = Vec::new();
        for _ in 0..runs {
            let echo = Echo::start_awake();
            let before = own_time();
            let counters = drive(&echo, scenario, cycles);
            let took = own_time().saturating_sub(before);
            let failed = counters.total().failed();
            assert_eq!(failed, 0, "{scenario}: {:?}", counters.total());
            #[expect(clippy::cast_precision_loss, reason = "cycles are far below 2^52")]
            micros.push(took.as_secs_f64() * 1e6 / cycles as f64);
            rates.push(counters.rate());
        }
        micros.sort_unstable_by(f64::total_cmp);
        rates.sort_unstable_by(f64::total_cmp);
        let micros = micros[micros.len() / 2];
        println!(
            "  {:16} {micros:5.1} µs of processor a cycle: {:6.0} cycles/s on a core of its own; \
             {:6.0}/s beside the server",
            scenario.name(),
            1e6 / micros,
            rates[rates.len() / 2]
        );
    }
    println!();
}

fn own_time() -> Duration {
    Usage::of(std::process::id()).expect("we are alive").cpu
}

fn drive(echo: &Echo, scenario: Scenario, cycles: usize) -> Counters {
    let plan = Plan {
        seed: 1,
        shares: vec![Share {
            scenario,
            weight: 1,
        }],
        concurrency: CONCURRENCY,
        limit: Limit {
            cycles: cycles as u64,
            duration: Duration::from_secs(600),
        },
        rate: None,
        answer_timeout: Plan::ANSWER_TIMEOUT,
    };
    let frame_set = FrameSet::new(PeerParams::new(&Network::Regtest, 1_700_000_000));
    let endpoints = Endpoints {
        p2p: echo.address().into(),
        rpc: None,
    };
    let sources = SOURCES.parse().expect("a range");
    Engine::new(plan, frame_set, endpoints, Some(sources)).run(|_| ControlFlow::Continue(()))
}
