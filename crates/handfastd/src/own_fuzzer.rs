//! The fuzzer of a running node, with the node itself as target: `startfuzz`.
//!
//! A run has its own thread, and connects over loopback like any other: the node does not treat
//! it differently from other peers. Its connections come from an address of their own,
//! [`OWN_ADDRESS`], and are not in `getpeerhistory`, where ten thousand of them would replace all
//! others.

use std::net::{Ipv4Addr, SocketAddr};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use handfast_cli::reachable;
use handfast_fuzz::oracle::{ANSWER_TIMEOUT, Introspection, NoAnswer, Wait, audit_mismatch};
use handfast_fuzz::plan::{Limit, MAX_SEED};
use handfast_fuzz::report::Report;
use handfast_fuzz::run::{Outcome, Run, RunEvent};
use handfast_fuzz::terms::{call, is_minable, shares, unix_time};
use handfast_fuzz::writer::PeerParams;
use handfast_fuzz::{Counters, Endpoints, Plan, SourceRange};
use handfast_node::{Network, NodeHandle, Role};
use handfast_rpc::{FuzzControl, FuzzRequest};
use serde_json::{Value, json};
use socket2::SockAddr;
use tokio::time::timeout;

/// The source address of a run's connections, if the node listens on IPv4: a loopback address
/// that nothing else uses.
const OWN_ADDRESS: Ipv4Addr = Ipv4Addr::new(127, 70, 85, 90);

/// The fuzzer's target, and its current run.
#[derive(Clone)]
pub(crate) struct OwnFuzzer {
    node: NodeHandle,
    network: Network,
    peers_at: Vec<SocketAddr>,
    rpc_socket: PathBuf,
    handshake_timeout: Duration,
    current: Arc<Mutex<Current>>,
}

/// The current run, or the result of the last one.
#[derive(Default)]
struct Current {
    /// Stops the current run; `None`: there is none.
    stop: Option<Arc<AtomicBool>>,
    /// The answer of `getfuzzstatus`.
    shown: Option<Value>,
    /// The report of the last run as a page.
    page: Option<String>,
}

impl OwnFuzzer {
    /// A fuzzer without a run.
    pub(crate) fn new(
        node: NodeHandle,
        network: Network,
        peers_at: &[SocketAddr],
        rpc_socket: PathBuf,
        handshake_timeout: Duration,
    ) -> Self {
        Self {
            node,
            network,
            peers_at: peers_at.to_vec(),
            rpc_socket,
            handshake_timeout,
            current: Arc::default(),
        }
    }

    fn current(&self) -> MutexGuard<'_, Current> {
        self.current.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn run(&self, request: &FuzzRequest, seed: u64) -> Result<Run, String> {
        let target = self.peers_at.first().copied().map(reachable);
        let target = target.ok_or("this node does not listen for peers")?;
        // An IPv4 address cannot be the source of a connection to an IPv6 one.
        let sources = SourceRange::from(OWN_ADDRESS);
        let sources = Some(sources).filter(|it| it.check(target, 1).is_ok());
        let rpc = SockAddr::unix(&self.rpc_socket).map_err(|error| error.to_string())?;
        Ok(Run {
            plan: Plan {
                seed,
                shares: shares(&request.scenarios, true)?,
                concurrency: request.concurrency,
                limit: Limit {
                    cycles: request.cycles,
                    duration: Duration::from_secs(request.duration),
                },
                rate: None,
                answer_timeout: Plan::ANSWER_TIMEOUT,
            },
            params: PeerParams {
                handshake_deadline: self.handshake_timeout,
                ..PeerParams::new(&self.network, unix_time())
            },
            target,
            endpoints: Endpoints {
                p2p: target.into(),
                rpc: Some((rpc, call(""))),
            },
            sources,
            honest_peers_from: sources.map(|_| OWN_ADDRESS.into()),
            mines: is_minable(&self.network),
            introspection: Some(Box::new(Own {
                node: self.node.clone(),
                network: self.network.clone(),
            })),
            answer_timeout: ANSWER_TIMEOUT,
            network: self.network.clone(),
            entries: Vec::new(),
            records: false,
        })
    }

    /// Executes the run, on its own thread.
    fn play(&self, run: Run, about: &Value, request: &FuzzRequest, seed: u64, stop: &AtomicBool) {
        let target = run.target;
        if run.honest_peers_from.is_some() {
            // From now on: its last connections end after the run.
            let leave_out = self.node.leave_out_of_history(Some(OWN_ADDRESS.into()));
            // A node that has stopped has no history.
            let _ = block_on(leave_out);
        }
        let run = || {
            run.execute(stop, |news| {
                if let RunEvent::Going(counters) = news {
                    self.current().shown = Some(going(about, counters));
                }
            })
        };
        let failed = |error: String| with(about, "failed", &[("error", error.into())]);
        // After a panic the run must not be shown as running for ever.
        let (shown, page) = match catch_unwind(AssertUnwindSafe(run)) {
            Ok(Ok(outcome)) => self.done(about, request, seed, target, &outcome),
            Ok(Err(error)) => (failed(error.to_string()), None),
            Err(_) => (failed("the fuzzer panicked: see the log".into()), None),
        };
        let mut current = self.current();
        current.stop = None;
        current.shown = Some(shown);
        current.page = page;
    }

    fn done(
        &self,
        about: &Value,
        request: &FuzzRequest,
        seed: u64,
        target: SocketAddr,
        outcome: &Outcome,
    ) -> (Value, Option<String>) {
        let verdict = outcome.judgement.verdict.to_string();
        tracing::info!(verdict, seed, "the fuzz run has ended");
        let report = Report {
            outcome,
            target,
            network: self.network.name(),
            scenarios: request.scenarios.join(", "),
            seed,
            concurrency: request.concurrency,
            command: again(request, seed),
        };
        let page = report.html();
        let report = report.document();
        let counters = &outcome.seen.counters;
        let mut shown = going(about, counters);
        shown["state"] = "done".into();
        shown["report"] = report;
        (shown, Some(page))
    }
}

impl FuzzControl for OwnFuzzer {
    fn start(&self, request: &FuzzRequest) -> Result<(), String> {
        let mut current = self.current();
        if current.stop.is_some() {
            return Err("A fuzz run is going on already: wait, or end it with stopfuzz".into());
        }
        let seed = seed(request)?;
        let run = self.run(request, seed)?;
        let about = json!({
            "state": "running",
            "scenarios": request.scenarios,
            "seed": seed,
            "concurrency": request.concurrency,
            "connections": 0,
            "seconds": 0,
            "failed": 0,
        });
        let stop = Arc::new(AtomicBool::new(false));
        let (own, request, shown, ended_by) =
            (self.clone(), request.clone(), about.clone(), stop.clone());
        let thread = std::thread::Builder::new().name("fuzz".into());
        let spawned = thread.spawn(move || own.play(run, &about, &request, seed, &ended_by));
        spawned.map_err(|error| format!("cannot start a thread: {error}"))?;
        current.stop = Some(stop);
        current.shown = Some(shown);
        tracing::info!(seed, "a fuzz run against this node begins");
        Ok(())
    }

    fn status(&self) -> Value {
        let shown = self.current().shown.clone();
        shown.unwrap_or_else(|| json!({ "state": "none" }))
    }

    fn page(&self) -> Option<String> {
        self.current().page.clone()
    }

    fn stop(&self) -> bool {
        let current = self.current();
        let stop = current.stop.as_ref();
        stop.inspect(|stop| stop.store(true, Ordering::Relaxed))
            .is_some()
    }
}

/// The seed of a request; a random one if it has none.
fn seed(request: &FuzzRequest) -> Result<u64, String> {
    match request.seed {
        Some(seed) if seed > MAX_SEED => Err("seed must be a number below 2^53".into()),
        Some(seed) => Ok(seed),
        None => Ok(Plan::any_seed()),
    }
}

/// The shell command that repeats the run.
fn again(request: &FuzzRequest, seed: u64) -> String {
    let options = json!({
        "cycles": request.cycles,
        "duration": request.duration,
        "concurrency": request.concurrency,
        "seed": seed,
    });
    format!(
        "handfast rpc startfuzz '{}' '{options}'",
        json!(request.scenarios)
    )
}

/// Runs a call to the node on the run's own thread.
fn block_on<T>(work: impl Future<Output = T>) -> Result<T, String> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build();
    let runtime = runtime.map_err(|error| format!("cannot start an event loop: {error}"))?;
    Ok(runtime.block_on(work))
}

/// The status of a run in progress.
fn going(about: &Value, counters: &Counters) -> Value {
    let total = counters.total();
    with(
        about,
        "running",
        &[
            ("connections", total.ended.into()),
            ("seconds", counters.elapsed.as_secs().into()),
            ("failed", total.failed().into()),
        ],
    )
}

fn with(about: &Value, state: &str, members: &[(&str, Value)]) -> Value {
    let mut shown = about.clone();
    shown["state"] = state.into();
    for (name, value) in members {
        shown[*name] = value.clone();
    }
    shown
}

/// Direct access to the node, without RPC.
struct Own {
    node: NodeHandle,
    network: Network,
}

impl Introspection for Own {
    fn chain(&mut self, _wait: Wait<'_>) -> Result<String, NoAnswer> {
        Ok(self.network.core_chain_name().to_owned())
    }

    fn peers(&mut self, _wait: Wait<'_>) -> Result<u64, NoAnswer> {
        let info = self.node.network_info();
        let peers = u64::try_from(info.connections_in + info.connections_out);
        peers.map_err(|error| NoAnswer::Not(error.to_string()))
    }

    fn audit(&mut self, wait: Wait<'_>) -> Result<Option<Result<(), String>>, NoAnswer> {
        let audit = async { timeout(wait.left(), self.node.audit()).await };
        let audit = block_on(audit).map_err(NoAnswer::Not)?;
        let audit = audit.map_err(|_| match wait.is_cut() {
            true => NoAnswer::Ended,
            false => NoAnswer::Not("its audit hangs".into()),
        })?;
        let audit = audit.map_err(|error| NoAnswer::Not(error.to_string()))?;
        let mut broken: Vec<String> = audit
            .invariants()
            .iter()
            .filter(|one| !one.held)
            .map(|one| format!("{}: {}", one.name, one.says))
            .collect();
        if !audit.agrees() {
            let sockets = (audit.sockets, audit.in_handshake);
            broken.push(audit_mismatch(
                sockets,
                audit.peer_table.len(),
                audit.of(Role::Sync).map_or(0, |it| it.peers.len()),
            ));
        }
        Ok(Some(match broken.is_empty() {
            true => Ok(()),
            false => Err(broken.join("; ")),
        }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_is_a_number_that_all_programs_read_alike() {
        let request = |seed| FuzzRequest {
            scenarios: vec!["mix".into()],
            seed,
            concurrency: 50,
            cycles: 2_000,
            duration: 60,
        };
        assert_eq!(seed(&request(Some(MAX_SEED))), Ok(MAX_SEED));
        let refused = seed(&request(Some(MAX_SEED + 1))).expect_err("2^53");
        assert!(refused.contains("below 2^53"), "{refused}");
        assert!(seed(&request(None)).is_ok_and(|any| any <= MAX_SEED));
    }

    #[test]
    fn the_printed_call_repeats_a_run_of_the_node_against_itself() {
        let request = FuzzRequest {
            scenarios: vec!["reset".into(), "mix".into()],
            seed: None,
            concurrency: 50,
            cycles: 2_000,
            duration: 60,
        };
        let words = shlex::split(&again(&request, 5)).expect("a shell can read it");
        assert_eq!(words[..3], ["handfast", "rpc", "startfuzz"]);
        assert_eq!(words[3], r#"["reset","mix"]"#);
        let options: Value = serde_json::from_str(&words[4]).expect("JSON");
        assert_eq!(
            options,
            json!({ "cycles": 2_000, "duration": 60, "concurrency": 50, "seed": 5 })
        );
    }
}
