//! The fuzzer of a running node, against itself: what `startfuzz` starts.
//!
//! A run has a thread of its own beside the node's arbiters, and goes over loopback like any
//! other: the node does not treat it differently from strangers. It comes from an address of
//! its own, [`OWN_ADDRESS`], and what comes from there is not in `getpeerhistory`: ten thousand
//! connections would leave nothing of those that an operator wants to read about.

use std::net::{Ipv4Addr, SocketAddr};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use handfast_cli::reachable;
use handfast_fuzz::oracle::{Inside, Unsaid, Wait, differ};
use handfast_fuzz::plan::Limit;
use handfast_fuzz::report::Report;
use handfast_fuzz::run::{News, Outcome, Run};
use handfast_fuzz::terms::{call, is_minable, shares, unix_time};
use handfast_fuzz::voice::Dialect;
use handfast_fuzz::{Doors, Plan, SourceRange, Tally};
use handfast_node::{Network, NodeHandle, Role};
use handfast_rpc::{FuzzControl, FuzzOrder};
use serde_json::{Value, json};
use socket2::SockAddr;
use tokio::time::timeout;

/// How long an honest peer, or a block, may have to wait.
const PATIENCE: Duration = Duration::from_secs(30);

/// Where connections of a run come from, if the node listens on IPv4: an address of this
/// machine that nothing else uses.
const OWN_ADDRESS: Ipv4Addr = Ipv4Addr::new(127, 70, 85, 90);

/// What it is that runs, and where.
#[derive(Clone)]
pub(crate) struct OwnFuzzer {
    node: NodeHandle,
    network: Network,
    peers_at: Vec<SocketAddr>,
    rpc_socket: PathBuf,
    handshake_timeout: Duration,
    current: Arc<Mutex<Current>>,
}

/// The run, or what came of the last one.
#[derive(Default)]
struct Current {
    /// Ends the run that goes on; `None`: none does.
    stop: Option<Arc<AtomicBool>>,
    /// As `getfuzzstatus` shows it.
    shown: Option<Value>,
    /// The report of the last run as a page.
    page: Option<String>,
}

impl OwnFuzzer {
    /// Ready, with nothing to do.
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

    fn run(&self, order: &FuzzOrder, seed: u64) -> Result<Run, String> {
        let target = self.peers_at.first().copied().map(reachable);
        let target = target.ok_or("this node listens to no peers")?;
        // Nobody comes from an address of IPv4 to one of IPv6.
        let sources = SourceRange::from(OWN_ADDRESS);
        let sources = Some(sources).filter(|it| it.check(target, 1).is_ok());
        let rpc = SockAddr::unix(&self.rpc_socket).map_err(|error| error.to_string())?;
        Ok(Run {
            plan: Plan {
                seed,
                shares: shares(&order.scenarios, true)?,
                concurrency: order.concurrency,
                limit: Limit {
                    cycles: order.cycles,
                    duration: Duration::from_secs(order.duration),
                },
                rate: None,
                patience: Plan::PATIENCE,
            },
            dialect: Dialect {
                handshake_deadline: self.handshake_timeout,
                ..Dialect::new(&self.network, unix_time())
            },
            target,
            doors: Doors {
                p2p: target.into(),
                rpc: Some((rpc, call(""))),
            },
            sources,
            visits_from: sources.map(|_| OWN_ADDRESS.into()),
            mines: is_minable(&self.network),
            inside: Some(Box::new(Own {
                node: self.node.clone(),
                network: self.network.clone(),
            })),
            patience: PATIENCE,
            network: self.network.clone(),
            cues: Vec::new(),
            records: false,
        })
    }

    /// Carries it out, on its own thread.
    fn carry_out(&self, run: Run, about: &Value, order: &FuzzOrder, seed: u64, stop: &AtomicBool) {
        let target = run.target;
        if run.visits_from.is_some() {
            // From now on: its last connections end after the run.
            let leave_out = self.node.leave_out_of_history(Some(OWN_ADDRESS.into()));
            // A node that is gone has no history.
            let _ = block_on(leave_out);
        }
        let run = || {
            run.carry_out(stop, |news| {
                if let News::Going(tally) = news {
                    self.current().shown = Some(going(about, tally));
                }
            })
        };
        let failed = |error: String| with(about, "failed", &[("error", error.into())]);
        // A bug in it must not leave a run that goes on for ever in the eyes of callers.
        let (shown, page) = match catch_unwind(AssertUnwindSafe(run)) {
            Ok(Ok(outcome)) => self.done(about, order, seed, target, &outcome),
            Ok(Err(error)) => (failed(error.to_string()), None),
            Err(_) => (
                failed("the fuzzer panicked: the log says where".into()),
                None,
            ),
        };
        let mut current = self.current();
        current.stop = None;
        current.shown = Some(shown);
        current.page = page;
    }

    fn done(
        &self,
        about: &Value,
        order: &FuzzOrder,
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
            scenarios: order.scenarios.join(", "),
            seed,
            concurrency: order.concurrency,
            command: again(order, seed),
        };
        let page = report.html();
        let report = serde_json::from_str(&report.json()).unwrap_or_default();
        let tally = &outcome.seen.tally;
        let mut shown = going(about, tally);
        shown["state"] = "done".into();
        shown["report"] = report;
        (shown, Some(page))
    }
}

impl FuzzControl for OwnFuzzer {
    fn start(&self, order: &FuzzOrder) -> Result<(), String> {
        let mut current = self.current();
        if current.stop.is_some() {
            return Err("A fuzz run is going on already: wait, or end it with stopfuzz".into());
        }
        let seed = order.seed.unwrap_or_else(Plan::any_seed);
        let run = self.run(order, seed)?;
        let about = json!({
            "state": "running",
            "scenarios": order.scenarios,
            "seed": seed,
            "concurrency": order.concurrency,
            "connections": 0,
            "seconds": 0,
            "failed": 0,
        });
        let stop = Arc::new(AtomicBool::new(false));
        let (own, order, shown, ended_by) =
            (self.clone(), order.clone(), about.clone(), stop.clone());
        let thread = std::thread::Builder::new().name("fuzz".into());
        let spawned = thread.spawn(move || own.carry_out(run, &about, &order, seed, &ended_by));
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

/// The call that does the same again, as a shell takes it.
fn again(order: &FuzzOrder, seed: u64) -> String {
    let options = json!({
        "cycles": order.cycles,
        "duration": order.duration,
        "concurrency": order.concurrency,
        "seed": seed,
    });
    format!(
        "handfast rpc startfuzz '{}' '{options}'",
        json!(order.scenarios)
    )
}

/// Runs a question to the node on the run's own thread.
fn block_on<T>(work: impl Future<Output = T>) -> Result<T, String> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build();
    let runtime = runtime.map_err(|error| format!("cannot start an event loop: {error}"))?;
    Ok(runtime.block_on(work))
}

/// What is shown while it goes on.
fn going(about: &Value, tally: &Tally) -> Value {
    let total = tally.total();
    with(
        about,
        "running",
        &[
            ("connections", total.ended.into()),
            ("seconds", tally.elapsed.as_secs().into()),
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

/// The node, asked without a detour.
struct Own {
    node: NodeHandle,
    network: Network,
}

impl Inside for Own {
    fn chain(&mut self, _wait: Wait<'_>) -> Result<String, Unsaid> {
        Ok(self.network.core_chain_name().to_owned())
    }

    fn peers(&mut self, _wait: Wait<'_>) -> Result<u64, Unsaid> {
        let info = self.node.network_info();
        let peers = u64::try_from(info.connections_in + info.connections_out);
        peers.map_err(|error| Unsaid::Not(error.to_string()))
    }

    fn audit(&mut self, wait: Wait<'_>) -> Result<Option<Result<(), String>>, Unsaid> {
        let audit = async { timeout(wait.left(), self.node.audit()).await };
        let audit = block_on(audit).map_err(Unsaid::Not)?;
        let audit = audit.map_err(|_| match wait.is_cut() {
            true => Unsaid::Ended,
            false => Unsaid::Not("its audit hangs".into()),
        })?;
        let audit = audit.map_err(|error| Unsaid::Not(error.to_string()))?;
        let mut broken: Vec<String> = audit
            .invariants()
            .iter()
            .filter(|one| !one.held)
            .map(|one| format!("{}: {}", one.name, one.says))
            .collect();
        if !audit.agrees() {
            let sockets = (audit.sockets, audit.in_handshake);
            broken.push(differ(
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
    fn a_run_of_the_node_against_itself_can_be_called_for_again() {
        let order = FuzzOrder {
            scenarios: vec!["reset".into(), "mix".into()],
            seed: None,
            concurrency: 50,
            cycles: 2_000,
            duration: 60,
        };
        let words = shlex::split(&again(&order, 5)).expect("a shell can read it");
        assert_eq!(words[..3], ["handfast", "rpc", "startfuzz"]);
        assert_eq!(words[3], r#"["reset","mix"]"#);
        let options: Value = serde_json::from_str(&words[4]).expect("JSON");
        assert_eq!(
            options,
            json!({ "cycles": 2_000, "duration": 60, "concurrency": 50, "seed": 5 })
        );
    }
}
