//! What a connection costs: cycles of connect, handshake, ping and disconnect, and
//! memory of peers that do nothing.
//!
//! By turns for Handfast, `bitcoind` and a bare echo of the same exchange, which is the
//! floor. The peers want no transactions. The driver runs on the same cores, so its own
//! share is printed beside.

use std::net::SocketAddr;
use std::time::Duration;

use handfast_fuzz::{Counters, Scenario};
use handfast_tests::churn::{Churn, in_words};
use handfast_tests::crowd::Crowd;
use handfast_tests::process::{Node, Program, Setup};
use handfast_tests::usage::Usage;
use handfast_tests::wait::poll;
use handfast_wire::Network;

use crate::echo::Echo;
use crate::run::quiet;

/// Connections at the same time.
const CONCURRENCY: [usize; 2] = [50, 300];
/// Cycles before the measurement, so that all of them find a warm process.
const WARM_UP: usize = 2_000;
/// Idle peers.
const CROWDS: [usize; 2] = [100, 1_000];
/// Peers that come and go before memory is read.
const FIRST_PEERS: usize = 16;
/// How long idle peers are left alone before memory is read.
const SETTLE: Duration = Duration::from_secs(3);

/// What is measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Subject {
    Node(Program),
    Echo,
}

const SUBJECTS: [Subject; 3] = [
    Subject::Node(Program::Handfast),
    Subject::Node(Program::Bitcoind),
    Subject::Echo,
];

impl Subject {
    fn name(self) -> &'static str {
        match self {
            Self::Node(program) => crate::report::name(program),
            Self::Echo => "echo",
        }
    }

    fn start(self) -> Server {
        match self {
            Self::Node(program) => Server::Node(Box::new(roomy(program).start())),
            Self::Echo => Server::Echo(Echo::start()),
        }
    }
}

/// A node on regtest that lets every peer of this benchmark in.
fn roomy(program: Program) -> Setup {
    let setup = quiet(Setup::new(program, Network::Regtest));
    match program {
        Program::Handfast => setup.arg("--max-inbound").arg("1100"),
        Program::Bitcoind => setup.arg("-maxconnections=1150"),
    }
}

enum Server {
    Node(Box<Node>),
    Echo(Echo),
}

impl Server {
    fn address(&self) -> SocketAddr {
        match self {
            Self::Node(node) => node.p2p(),
            Self::Echo(echo) => echo.address(),
        }
    }

    fn usage(&self) -> Usage {
        let pid = match self {
            Self::Node(node) => node.pid(),
            Self::Echo(echo) => echo.pid(),
        };
        Usage::of(pid).expect("it is alive")
    }

    fn churn(&self, concurrency: usize, cycles: usize) -> Counters {
        churn(self.address(), concurrency, cycles)
    }
}

/// Handshake, ping and pong, and an end in good order.
fn churn(target: SocketAddr, concurrency: usize, cycles: usize) -> Counters {
    let kinds = [Scenario::Orderly];
    Churn::new(target, &Network::Regtest, &kinds, concurrency, cycles).run()
}

/// One churn.
#[derive(Clone, Debug)]
struct Sample {
    /// Per 1,000 whole cycles.
    cpu: Duration,
    /// The driver's, likewise.
    driver: Duration,
    /// Whole cycles per second.
    rate: f64,
    p50: Duration,
    p99: Duration,
    failures: u64,
}

/// Churns and crowds of each subject by turns.
pub(crate) fn run(runs: usize, cycles: usize) {
    println!("churn: connect, handshake, ping, disconnect; {cycles} cycles; per 1,000 of them:");
    for concurrency in CONCURRENCY {
        let mut samples = SUBJECTS.map(|_| Vec::new());
        for round in 0..runs {
            for turn in 0..SUBJECTS.len() {
                let index = (turn + round) % SUBJECTS.len();
                let sample = measure(SUBJECTS[index], concurrency, cycles);
                samples[index].push(sample);
            }
        }
        print(concurrency, &samples);
    }
    idle(runs);
    println!();
}

/// Churns a node on regtest that somebody else started.
pub(crate) fn against(target: SocketAddr, cycles: usize) {
    for concurrency in CONCURRENCY {
        let counters = churn(target, concurrency, cycles);
        println!("{concurrency} at a time: {}", in_words(&counters));
    }
}

fn measure(subject: Subject, concurrency: usize, cycles: usize) -> Sample {
    let server = subject.start();
    server.churn(concurrency, WARM_UP);
    let own = || Usage::of(std::process::id()).expect("we are alive").cpu;
    let (before, driver_before) = (server.usage().cpu, own());
    let counters = server.churn(concurrency, cycles);
    let (after, driver_after) = (server.usage().cpu, own());
    eprintln!(
        "  {} at {concurrency}: {}",
        subject.name(),
        in_words(&counters)
    );
    let total = counters.total();
    let failures = total.failures.values().sum();
    // One that was turned away is cheap, and no cycle.
    let whole = count(total.ended - failures);
    let each = |spent: Duration| spent.mul_f64(1_000.0).div_f64(whole);
    Sample {
        cpu: each(after - before),
        driver: each(driver_after - driver_before),
        rate: whole / counters.elapsed.as_secs_f64(),
        p50: counters.handshake_percentile(50.0),
        p99: counters.handshake_percentile(99.0),
        failures,
    }
}

fn print(concurrency: usize, samples: &[Vec<Sample>; 3]) {
    println!("  {concurrency} at a time");
    let cpu = samples
        .each_ref()
        .map(|all| median(all, |sample| sample.cpu));
    for (index, samples) in samples.iter().enumerate() {
        let milliseconds = |value: Duration| value.as_secs_f64() * 1e3;
        let failures: u64 = samples.iter().map(|sample| sample.failures).sum();
        print!(
            "    {:9} {:.3} CPU s {:6.0} cycles/s  handshake p50 {:6.2} ms, p99 {:6.2} ms  driver {:.3} CPU s",
            SUBJECTS[index].name(),
            cpu[index].as_secs_f64(),
            median(samples, |sample| sample.rate),
            milliseconds(median(samples, |sample| sample.p50)),
            milliseconds(median(samples, |sample| sample.p99)),
            median(samples, |sample| sample.driver).as_secs_f64(),
        );
        match failures {
            0 => println!(),
            _ => println!("  {failures} FAILED"),
        }
    }
    let [handfast, bitcoind, echo] = cpu.map(|cpu| cpu.as_secs_f64());
    println!(
        "    CPU ratio: {:.2} to bitcoind, {:.2} to the echo",
        handfast / bitcoind,
        handfast / echo
    );
}

/// Resident memory per peer that has shaken hands and says nothing more.
fn idle(runs: usize) {
    println!("  resident per idle peer");
    for subject in SUBJECTS {
        let mut samples: Vec<[f64; CROWDS.len()]> = Vec::new();
        for _ in 0..runs {
            samples.push(crowds(subject));
        }
        let kilobytes = |at: usize| median(&samples, |sample| sample[at]) / 1e3;
        println!(
            "    {:9} {:5.1} kB of {} peers, {:5.1} kB of {}",
            subject.name(),
            kilobytes(0),
            CROWDS[0],
            kilobytes(1),
            CROWDS[1]
        );
    }
}

/// What each crowd added to the memory of a process, per peer, bytes. The process has had a
/// few peers before: the pages of code that the first one touches are not what a peer costs.
fn crowds(subject: Subject) -> [f64; CROWDS.len()] {
    let server = subject.start();
    server.churn(8, FIRST_PEERS);
    // Nothing is awaited: it is left alone for a while.
    let _ = poll(SETTLE, || None::<()>);
    let before = server.usage().resident;
    let mut present: Vec<Crowd> = Vec::new();
    CROWDS.map(|size| {
        let arrived = present.iter().map(Crowd::len).sum::<usize>();
        let more = Crowd::connect(server.address(), &Network::Regtest, size - arrived, 0);
        present.push(more.expect("every peer is let in"));
        let _ = poll(SETTLE, || None::<()>);
        let added = server.usage().resident.saturating_sub(before);
        // Afterwards: its messages must not count. The echo answers no pings of its own accord.
        if let Subject::Node(_) = subject {
            present.iter_mut().for_each(Crowd::ping);
        }
        count(added) / count(size as u64)
    })
}

/// The middle value; of an even number the upper one of the two.
fn median<S, T: PartialOrd>(samples: &[S], value: impl Fn(&S) -> T) -> T {
    let mut values: Vec<T> = samples.iter().map(value).collect();
    values.sort_unstable_by(|a, b| a.partial_cmp(b).expect("measurements are numbers"));
    values.swap_remove(values.len() / 2)
}

#[expect(clippy::cast_precision_loss, reason = "counts here are far below 2^52")]
fn count(value: u64) -> f64 {
    value as f64
}
