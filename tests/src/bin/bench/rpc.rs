//! What a caller of the RPC gets: bursts of many at once, and calls one after the other
//! on connections that stay, on a quiet machine and on one whose cores are busy.
//!
//! By turns for Handfast over TCP, `bitcoind` over TCP, and Handfast's Unix socket. All
//! callers are tasks on one thread, so that none waits for another to be scheduled; a
//! failure is anything but a whole answer with status 200. How much of a core the callers
//! take themselves is printed beside: near 100 % it is them that are measured.
//!
//! Each round of a burst comes from an address of its own. From a single one, the callers'
//! system is out of ports after 14,000 connections in a second, and `connect` looks for one
//! until the oldest may be used again: 0.3 s in one round, which only a server that is
//! faster than that ever sees.

use std::net::Ipv4Addr;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use handfast_tests::miner_stand_in::MinerStandIn;
use handfast_tests::process::{Node, Program, Setup, op_true_signet};
use handfast_tests::rpc::{Endpoint, Report, Rpc, credentials, next_answer};
use handfast_tests::usage::Usage;
use handfast_tests::wait::wait_for;
use handfast_wire::Network;
use serde_json::json;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpSocket, UnixStream};
use tokio::task::LocalSet;
use tokio::time::timeout;

use crate::run::quiet;

const BODY: &str = r#"{"id":1,"method":"getblockcount","params":[]}"#;
/// After so long a call counts as failed.
const LOST: Duration = Duration::from_secs(30);
/// How long calls follow one another.
const CONTINUED: Duration = Duration::from_secs(2);
/// Cores that are kept busy.
const BUSY: usize = 2;

/// How callers come.
#[derive(Clone, Copy, Debug)]
enum Load {
    /// So many at once, so often; each connects, calls once and closes.
    Burst { callers: usize, rounds: usize },
    /// On so many connections, one call after the other.
    KeepAlive { connections: usize },
}

/// So many rounds that the slowest hundredth of the calls are not those of one bad round.
const LOADS: [Load; 4] = [
    Load::Burst {
        callers: 20,
        rounds: 1_000,
    },
    Load::Burst {
        callers: 200,
        rounds: 100,
    },
    Load::KeepAlive { connections: 1 },
    Load::KeepAlive { connections: 8 },
];

impl Load {
    fn title(self) -> String {
        match self {
            Self::Burst { callers, rounds } => format!("{callers} at once, {rounds} times"),
            Self::KeepAlive { connections } => format!("{connections} kept alive"),
        }
    }
}

/// Who is called, and on which socket.
#[derive(Clone, Copy, Debug)]
struct Subject {
    name: &'static str,
    program: Program,
    unix: bool,
}

const SUBJECTS: [Subject; 3] = [
    Subject {
        name: "handfast",
        program: Program::Handfast,
        unix: false,
    },
    Subject {
        name: "bitcoind",
        program: Program::Bitcoind,
        unix: false,
    },
    Subject {
        name: "handfast, Unix",
        program: Program::Handfast,
        unix: true,
    },
];

/// One load on one subject.
#[derive(Clone, Debug)]
struct Sample {
    report: Report,
    elapsed: Duration,
    /// Processor time of the callers.
    driver: Duration,
}

impl Sample {
    fn rate(&self) -> f64 {
        count(self.report.calls - self.report.failed()) / self.elapsed.as_secs_f64()
    }

    fn milliseconds(&self, percent: usize) -> f64 {
        self.report.percentile(percent).as_secs_f64() * 1e3
    }
}

/// Each load on each subject by turns.
pub(crate) fn run(runs: usize) {
    println!("rpc: getblockcount; a burst is connect, one call, close");
    for busy in [0, BUSY] {
        // Samples by load, then by subject.
        let mut samples = LOADS.map(|_| SUBJECTS.map(|_| Vec::new()));
        for round in 0..runs {
            for turn in 0..SUBJECTS.len() {
                let subject = (turn + round) % SUBJECTS.len();
                let taken = measure(SUBJECTS[subject], busy);
                for (load, sample) in taken.into_iter().enumerate() {
                    samples[load][subject].push(sample);
                }
            }
        }
        match busy {
            0 => println!("  quiet"),
            _ => println!("  {busy} cores busy"),
        }
        for (load, samples) in LOADS.into_iter().zip(&samples) {
            print(load, samples, busy == 0);
        }
    }
    beside_our_miner(runs);
    println!();
}

/// Handfast alone, with and without its own miner on all cores, by turns.
fn beside_our_miner(runs: usize) {
    let bursts = &LOADS[..2];
    let mut samples = [false, true].map(|_| LOADS.map(|_| Vec::new()));
    for _ in 0..runs {
        for mines in [false, true] {
            for (load, sample) in measure_own(mines).into_iter().enumerate() {
                samples[usize::from(mines)][load].push(sample);
            }
        }
    }
    println!("  beside our own miner, over TCP");
    for (index, load) in bursts.iter().enumerate() {
        let p99 = |mines: bool| {
            let samples = &samples[usize::from(mines)][index];
            median(samples, |sample| sample.milliseconds(99))
        };
        println!(
            "    {}: p99 {:.2} ms without it, {:.2} ms while it hashes on all cores: {:.2} times",
            load.title(),
            p99(false),
            p99(true),
            p99(true) / p99(false)
        );
    }
}

/// Bursts on a node of a signet of ours, where hashing takes its time.
fn measure_own(mines: bool) -> Vec<Sample> {
    let setup = Setup::handfast(op_true_signet());
    let setup = match mines {
        true => setup.arg("--mine"),
        false => setup,
    };
    let node = quiet(setup).start();
    if mines {
        wait_for("its hash threads hash", || {
            let info = node.rpc().get("getmininginfo", json!([]));
            info["handfast"]["hashes"]
                .as_u64()
                .filter(|hashes| *hashes > 0)
        });
    }
    let caller = Caller::of(&node, false);
    let bursts = LOADS[..2].iter();
    bursts.map(|load| sample(&caller, *load)).collect()
}

fn sample(caller: &Caller, load: Load) -> Sample {
    let own = || Usage::of(std::process::id()).expect("we are alive").cpu;
    let (begun, before) = (Instant::now(), own());
    let report = caller.make(load);
    Sample {
        elapsed: begun.elapsed(),
        driver: own().saturating_sub(before),
        report,
    }
}

fn median(all: &[Sample], value: impl Fn(&Sample) -> f64) -> f64 {
    let mut values: Vec<f64> = all.iter().map(value).collect();
    values.sort_unstable_by(f64::total_cmp);
    values[values.len() / 2]
}

fn measure(subject: Subject, busy: usize) -> [Sample; LOADS.len()] {
    let node = quiet(Setup::new(subject.program, Network::Regtest)).start();
    let caller = Caller::of(&node, subject.unix);
    let _busy = MinerStandIn::on(busy);
    LOADS.map(|load| {
        let sample = sample(&caller, load);
        let title = load.title();
        eprintln!(
            "  {}, {busy} busy, {title}: {}",
            subject.name, sample.report
        );
        sample
    })
}

fn print(load: Load, samples: &[Vec<Sample>; SUBJECTS.len()], quiet: bool) {
    println!("    {}", load.title());
    for (subject, samples) in SUBJECTS.iter().zip(samples) {
        let failed: usize = samples.iter().map(|sample| sample.report.failed()).sum();
        let calls: usize = samples.iter().map(|sample| sample.report.calls).sum();
        print!(
            "      {:14} {:6.0}/s  p50 {:7.2} ms  p99 {:7.2} ms  {failed} of {calls} failed",
            subject.name,
            median(samples, Sample::rate),
            median(samples, |sample| sample.milliseconds(50)),
            median(samples, |sample| sample.milliseconds(99)),
        );
        // The busy threads are of this process too.
        if quiet {
            let share = |sample: &Sample| {
                sample.driver.as_secs_f64() / sample.elapsed.as_secs_f64() * 100.0
            };
            print!("  callers {:3.0} % of a core", median(samples, share));
        }
        println!();
    }
    let [handfast, bitcoind, unix] = samples.each_ref().map(|all| {
        (
            median(all, Sample::rate),
            median(all, |sample| sample.milliseconds(99)),
        )
    });
    println!(
        "      to bitcoind: calls/s {:.2}, over the Unix socket {:.2}; p99 {:.2}, {:.2}",
        handfast.0 / bitcoind.0,
        unix.0 / bitcoind.0,
        handfast.1 / bitcoind.1,
        unix.1 / bitcoind.1
    );
}

/// Where calls go, and what is sent.
#[derive(Clone, Debug)]
struct Caller {
    endpoint: Endpoint,
    request: Vec<u8>,
}

impl Caller {
    fn of(node: &Node, unix: bool) -> Self {
        let rpc: Rpc = match unix {
            true => node.unix_rpc(),
            false => node.rpc().clone(),
        };
        let (login, length) = (credentials(&rpc.cookie()), BODY.len());
        let request = format!(
            "POST / HTTP/1.1\r\nHost: localhost\r\n{login}Content-Type: application/json\r\n\
             Content-Length: {length}\r\n\r\n{BODY}"
        );
        Self {
            endpoint: rpc.endpoint().clone(),
            request: request.into_bytes(),
        }
    }

    fn make(&self, load: Load) -> Report {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .expect("a runtime");
        let tasks = LocalSet::new();
        tasks.block_on(&runtime, async {
            match load {
                Load::Burst { callers, rounds } => self.bursts(callers, rounds).await,
                Load::KeepAlive { connections } => self.continued(connections).await,
            }
        })
    }

    async fn bursts(&self, callers: usize, rounds: usize) -> Report {
        let mut report = Report::default();
        for round in 0..rounds {
            let calls: Vec<_> = (0..callers)
                .map(|_| {
                    let caller = self.clone();
                    tokio::task::spawn_local(async move { caller.once(round).await })
                })
                .collect();
            for call in calls {
                report.count(call.await.expect("a caller counts its failures"));
            }
        }
        report.sorted()
    }

    async fn once(&self, round: usize) -> Result<Duration, String> {
        let begun = Instant::now();
        let call = async {
            let mut stream = self.connect(source(round)).await?;
            call(&mut stream, &self.request).await
        };
        let answered = timeout(LOST, call).await;
        answered.map_err(|_| "no answer".to_owned())??;
        Ok(begun.elapsed())
    }

    async fn continued(&self, connections: usize) -> Report {
        let until = Instant::now() + CONTINUED;
        let callers: Vec<_> = (0..connections)
            .map(|_| {
                let caller = self.clone();
                tokio::task::spawn_local(async move { caller.until(until).await })
            })
            .collect();
        let mut report = Report::default();
        for caller in callers {
            report.add(caller.await.expect("a caller counts its failures"));
        }
        report
    }

    /// Calls on one connection; on a new one after a failure.
    async fn until(&self, until: Instant) -> Report {
        let mut report = Report::default();
        let mut kept = None;
        while Instant::now() < until {
            let begun = Instant::now();
            let answered = timeout(LOST, async {
                let mut stream = match kept.take() {
                    Some(stream) => stream,
                    None => self.connect(Ipv4Addr::LOCALHOST).await?,
                };
                call(&mut stream, &self.request).await?;
                Ok(stream)
            });
            let answered = answered
                .await
                .unwrap_or_else(|_| Err("no answer".to_owned()));
            report.count(answered.map(|stream| {
                kept = Some(stream);
                begun.elapsed()
            }));
        }
        report.sorted()
    }

    /// `source` is where it comes from, over TCP.
    async fn connect(&self, source: Ipv4Addr) -> Result<Box<dyn Stream>, String> {
        let failed = |error: std::io::Error| format!("connect: {error}");
        match &self.endpoint {
            Endpoint::Tcp(address) => {
                let socket = TcpSocket::new_v4().map_err(failed)?;
                socket.set_nodelay(true).map_err(failed)?;
                socket.bind((source, 0).into()).map_err(failed)?;
                let stream = socket.connect(*address).await.map_err(failed)?;
                Ok(Box::new(stream))
            }
            Endpoint::Unix(path) => {
                let path: &PathBuf = path;
                let stream = UnixStream::connect(path).await.map_err(failed)?;
                Ok(Box::new(stream))
            }
        }
    }
}

/// The address that the callers of a round come from.
fn source(round: usize) -> Ipv4Addr {
    let [.., high, low] = (round % 60_000).to_be_bytes();
    // Neither the first nor the last of a network.
    Ipv4Addr::new(127, 1 + high, low, 1)
}

trait Stream: AsyncRead + AsyncWrite + Unpin {}
impl<S: AsyncRead + AsyncWrite + Unpin> Stream for S {}

/// One call and its whole answer.
async fn call(stream: &mut Box<dyn Stream>, request: &[u8]) -> Result<(), String> {
    let sent = stream.write_all(request).await;
    sent.map_err(|error| format!("send: {error}"))?;
    let mut received = Vec::with_capacity(1_024);
    loop {
        match stream.read_buf(&mut received).await {
            Ok(0) => return Err("closed without a whole answer".into()),
            Ok(_) => {}
            Err(error) => return Err(format!("recv: {error}")),
        }
        match next_answer(&received)? {
            None => {}
            Some((answer, _)) if answer.status == 200 => return Ok(()),
            Some((answer, _)) => return Err(format!("HTTP {}", answer.status)),
        }
    }
}

#[expect(clippy::cast_precision_loss, reason = "counts here are far below 2^52")]
fn count(value: usize) -> f64 {
    value as f64
}
