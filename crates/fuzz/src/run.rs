//! A whole run: the oracle before, during and after, and the engine in between.

use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr};
use std::ops::ControlFlow;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use crate::engine::{Counters, Endpoints, Engine, NoSource, SourceRange, can_come_from};
use crate::oracle::{
    Health, HonestPeerError, Introspection, Judgement, NoAnswer, Observations, Oracle, Settling,
    VersionInfo,
};
use crate::plan::Plan;
use crate::scenario::{Scenario, StartMode};
use crate::target::{Refusal, permit_chain};
use crate::trace::{LeftOut, Record, ReplayEntry, Trace};
use crate::writer::{FrameSet, PeerParams};
use handfast_wire::Network;

/// Interval of checks during the run, unless the timeout is shorter.
const LOOK_EVERY: Duration = Duration::from_secs(5);
/// Time of the first check: a shorter run is over before it could do harm.
const FIRST_LOOK: Duration = Duration::from_secs(1);

/// The parameters of a run.
pub struct Run {
    /// The plan.
    pub plan: Plan,
    /// The parameters of our peers.
    pub params: PeerParams,
    /// The target's P2P address.
    pub target: SocketAddr,
    /// The target's sockets.
    pub endpoints: Endpoints,
    /// The source addresses of connections.
    pub sources: Option<SourceRange>,
    /// The source address of honest peers; `None`: the system chooses.
    pub honest_peers_from: Option<IpAddr>,
    /// Whether blocks can be made on the target's network.
    pub mines: bool,
    /// The target's RPC.
    pub introspection: Option<Box<dyn Introspection + Send>>,
    /// The timeout of an honest peer.
    pub answer_timeout: Duration,
    /// The target's network, for the trace.
    pub network: Network,
    /// Connections to replay, instead of the plan; empty: the plan.
    pub entries: Vec<ReplayEntry>,
    /// Whether events are recorded.
    pub records: bool,
}

/// The result of a run.
#[derive(Clone, Debug)]
pub struct Outcome {
    /// The target's `version`.
    pub version_info: VersionInfo,
    /// The observations.
    pub seen: Observations,
    /// The verdict and its evidence.
    pub judgement: Judgement,
    /// When it began, Unix seconds.
    pub at: u64,
    /// When the first connection began, after the first check. All times count from the beginning
    /// of the run.
    pub connections_from: Duration,
    /// The run was stopped early.
    pub interrupted: bool,
    /// What was waited for between the last connection and the last check.
    pub settling: Settling,
    /// The record, if wanted.
    pub trace: Option<Trace>,
}

/// An event of a run, for display.
#[derive(Debug)]
pub enum RunEvent<'a> {
    /// The target answered; the run begins.
    Connected(&'a VersionInfo),
    /// Progress, about once a second.
    Going(&'a Counters),
    /// The result of a check.
    Looked(&'a Health),
    /// The target has exited; the run ends.
    Gone,
    /// All connections have ended; the target gets time to settle.
    Settling,
}

/// Why there was no run. `Display` is one line: the cause and the remedy.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NoRun {
    /// The target failed before the run.
    #[error("{target} cannot be fuzzed: {cause}; is a node of this network running there?")]
    NotReachable {
        /// Its address.
        target: SocketAddr,
        /// The failure.
        cause: HonestPeerError,
    },
    /// The RPC did not answer before the run.
    #[error(
        "the given RPC does not answer: {0}; give the right --rpc and --rpc-cookie or \
         --rpc-socket, or omit them"
    )]
    NoRpc(NoAnswer),
    /// The RPC must not be called.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// The source addresses cannot be used.
    #[error(transparent)]
    NoSource(#[from] NoSource),
    /// The run was stopped before it began.
    #[error("ended by a signal before the run began")]
    Interrupted,
}

impl Run {
    /// Runs it. `stop` ends it early, with the report of what was done.
    ///
    /// # Errors
    /// The target or the RPC does not answer before the run, or the RPC is that of a node that
    /// must not be called.
    pub fn execute(
        self,
        stop: &AtomicBool,
        mut notify: impl FnMut(RunEvent<'_>),
    ) -> Result<Outcome, NoRun> {
        let target = self.target;
        self.check_sources()?;
        let mut params = self.params;
        params.mines = self.mines;
        let (zero, at) = (Instant::now(), SystemTime::now());
        let oracle = Oracle::new(
            target,
            params.clone(),
            self.plan.seed,
            self.mines,
            self.introspection,
            stop,
        );
        let played = played(&self.plan, &self.entries);
        let duration = self.plan.limit.duration;
        let oracle = oracle.answer_timeout(self.answer_timeout).bounded(duration);
        let oracle = oracle.coming_from(self.honest_peers_from);
        let mut oracle = oracle.for_scenarios(&played);
        let look_every = LOOK_EVERY.min(self.answer_timeout);
        let own_magic = params.magic != self.network.magic().to_bytes();
        let met = first_look(&mut oracle, target, &self.network, own_magic);
        // A missing answer was caused by the stop.
        let (version_info, before) = met.map_err(|no_run| match stop.load(Ordering::Relaxed) {
            true => NoRun::Interrupted,
            false => no_run,
        })?;
        notify(RunEvent::Connected(&version_info));
        notify(RunEvent::Looked(&before));

        let seed = self.plan.seed;
        if self.entries.is_empty() {
            params.height = version_info.height.max(0);
        }
        let frame_set = FrameSet::new(params.clone());
        let concurrency = self.plan.concurrency as u64;
        let waves = match self.entries.first() {
            Some(entry) => entry.together,
            None => self.plan.start_mode() == StartMode::Waves,
        };
        let mut plan = self.plan;
        // The duration includes the first check.
        plan.limit.duration = duration.saturating_sub(zero.elapsed()).max(duration / 2);
        oracle.begin();
        let mut engine = Engine::new(plan, frame_set, self.endpoints, self.sources);
        if !self.entries.is_empty() {
            engine = engine.replaying(self.entries);
        }
        if self.records {
            engine = engine.recording();
        }
        let mut during = Vec::new();
        let connections_from = zero.elapsed();
        let mut gone = None;
        let (counters, connections, left_out) = run_engine(engine, stop, look_every, |news| {
            match news {
                EngineEvent::Counters(counters) => notify(RunEvent::Going(counters)),
                EngineEvent::Look => {
                    if let Some(health) = oracle.look() {
                        notify(RunEvent::Looked(&health));
                        during.push(health);
                    }
                }
                EngineEvent::Tick => {}
            }
            if gone.is_none() && oracle.is_gone() {
                gone = Some(zero.elapsed());
            }
            let is_over = gone.is_some() || is_unreachable(&during);
            if is_over {
                notify(RunEvent::Gone);
            }
            is_over
        });
        notify(RunEvent::Settling);
        let (after, settling) = oracle.look_when_settled(&before);
        notify(RunEvent::Looked(&after));
        let seen = Observations {
            before,
            during,
            after,
            counters,
            gone,
            let_settle: !settling.was_cut,
        };
        let judgement = crate::oracle::judge(&seen);
        let trace = self.records.then(|| Trace {
            target: target.to_string(),
            network: self.network.name().to_owned(),
            signet_challenge: self.network.signet_challenge().map(<[u8]>::to_vec),
            magic: params.magic,
            version: params.version,
            time: params.time,
            handshake_deadline: u64::try_from(params.handshake_deadline.as_millis())
                .unwrap_or(u64::MAX),
            height: params.height,
            seed,
            concurrency,
            waves,
            verdict: judgement.verdict.to_string(),
            connections,
            left_out,
        });
        Ok(Outcome {
            version_info,
            judgement,
            seen,
            at: at
                .duration_since(UNIX_EPOCH)
                .map_or(0, |since| since.as_secs()),
            connections_from,
            interrupted: stop.load(Ordering::Relaxed),
            settling,
            trace,
        })
    }
}

impl Run {
    /// Whether connections can have their source addresses.
    fn check_sources(&self) -> Result<(), NoSource> {
        if let Some(range) = &self.sources {
            range.check(self.target, self.plan.limit.cycles)?;
        }
        let of_entries: BTreeSet<_> = self
            .entries
            .iter()
            .filter_map(|entry| entry.source)
            .collect();
        let mut of_entries = of_entries.into_iter();
        of_entries.try_for_each(|source| can_come_from(source, self.target))
    }
}

/// The scenarios of the run.
fn played(plan: &Plan, entries: &[ReplayEntry]) -> BTreeSet<Scenario> {
    match entries {
        [] => plan.shares.iter().map(|share| share.scenario).collect(),
        entries => entries.iter().map(|entry| entry.part.scenario).collect(),
    }
}

/// Checks the target before the run, and whether it may be fuzzed.
fn first_look(
    oracle: &mut Oracle<'_>,
    target: SocketAddr,
    network: &Network,
    own_magic: bool,
) -> Result<(VersionInfo, Health), NoRun> {
    let unreachable = |cause| NoRun::NotReachable { target, cause };
    let version_info = oracle.read_version_info().map_err(unreachable)?;
    if let Some(chain) = oracle.chain() {
        permit_chain(&chain.map_err(NoRun::NoRpc)?, network, own_magic)?;
    }
    let before = oracle.look_before();
    if let Err(cause) = &before.handshake {
        return Err(unreachable(cause.clone()));
    }
    if let Some(Err(no_answer)) = &before.rpc {
        return Err(NoRun::NoRpc(no_answer.clone()));
    }
    Ok((version_info, before))
}

/// Whether nothing listens any more, for as long as an honest peer tries, or connections were not
/// answered for twice as long: the run can learn no more about the target.
fn is_unreachable(looks: &[Health]) -> bool {
    let mut latest = looks.iter().rev().map(|health| &health.handshake);
    match latest.next() {
        Some(Err(HonestPeerError::Refused)) => true,
        Some(Err(HonestPeerError::NoConnection(_))) => {
            matches!(latest.next(), Some(Err(HonestPeerError::NoConnection(_))))
        }
        _ => false,
    }
}

/// An event while the engine runs.
enum EngineEvent<'a> {
    Counters(&'a Counters),
    Look,
    /// A moment has gone by.
    Tick,
}

/// Runs the engine on a thread of its own, so that a hanging target does not block the checks,
/// nor the checks the engine. `act` returns whether the run ends early.
fn run_engine(
    engine: Engine,
    stop: &AtomicBool,
    look_every: Duration,
    mut act: impl FnMut(EngineEvent<'_>) -> bool,
) -> (Counters, Vec<Record>, LeftOut) {
    let (send, receive) = mpsc::channel();
    let over = &AtomicBool::new(false);
    thread::scope(|scope| {
        let running = scope.spawn(move || {
            engine.run_and_record(|counters| {
                // The receiver may be busy with a check: only the last counters matter.
                let _ = send.send(counters.clone());
                match stop.load(Ordering::Relaxed) || over.load(Ordering::Relaxed) {
                    true => ControlFlow::Break(()),
                    false => ControlFlow::Continue(()),
                }
            })
        });
        let mut next_look = Instant::now() + look_every.min(FIRST_LOOK);
        loop {
            let is_over = match receive.recv_timeout(Duration::from_millis(200)) {
                Ok(counters) => act(EngineEvent::Counters(&counters)),
                Err(RecvTimeoutError::Timeout) => act(EngineEvent::Tick),
                Err(RecvTimeoutError::Disconnected) => break,
            };
            let looks = !is_over && Instant::now() >= next_look;
            if is_over || (looks && act(EngineEvent::Look)) {
                over.store(true, Ordering::Relaxed);
                break;
            }
            if looks {
                next_look = Instant::now() + look_every;
            }
        }
        running
            .join()
            .unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    })
}
