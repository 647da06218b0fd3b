//! A whole run: the oracle before, during and after, and the engine in between.

use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr};
use std::ops::ControlFlow;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use crate::engine::{Doors, Engine, NoSource, SourceRange, Tally, can_come_from};
use crate::oracle::{
    Health, Inside, Introduction, Judgement, Observations, Oracle, Settling, Unsaid, VisitError,
};
use crate::plan::Plan;
use crate::scenario::{Arrival, Scenario};
use crate::target::{Refusal, permit_chain};
use crate::trace::{Cue, LeftOut, Record, Trace};
use crate::voice::{Dialect, Phrases};
use handfast_wire::Network;

/// How often the oracle looks while connections come and go, unless its patience is shorter.
const LOOK_EVERY: Duration = Duration::from_secs(5);
/// When it looks first: a run that is shorter than that is over before anybody could suffer.
const FIRST_LOOK: Duration = Duration::from_secs(1);

/// Everything that a run needs.
pub struct Run {
    /// What is played.
    pub plan: Plan,
    /// What the target is like.
    pub dialect: Dialect,
    /// Its socket for peers.
    pub target: SocketAddr,
    /// Where connections go.
    pub doors: Doors,
    /// Where they come from.
    pub sources: Option<SourceRange>,
    /// Where the honest peers come from that look at the target; `None`: the system chooses.
    pub visits_from: Option<IpAddr>,
    /// Whether blocks can be made on the target's network.
    pub mines: bool,
    /// A way to ask the target itself.
    pub inside: Option<Box<dyn Inside + Send>>,
    /// How long an honest peer may have to wait.
    pub patience: Duration,
    /// The target's network, for the trace.
    pub network: Network,
    /// Connections to be made again, instead of those of the plan; empty: the plan's.
    pub cues: Vec<Cue>,
    /// Whether everything is written down.
    pub records: bool,
}

/// What came of it.
#[derive(Clone, Debug)]
pub struct Outcome {
    /// Who the target said that it is.
    pub introduction: Introduction,
    /// What was seen.
    pub seen: Observations,
    /// What is to be said of it.
    pub judgement: Judgement,
    /// When it began, Unix seconds.
    pub at: u64,
    /// So long after that the first connection began: until then it was looked what the target
    /// is like. All times that were seen count from the beginning of the run.
    pub connections_from: Duration,
    /// Somebody ended it before its time.
    pub interrupted: bool,
    /// What was waited for between the last connection and the last look.
    pub settling: Settling,
    /// Everything, where it was written down.
    pub trace: Option<Trace>,
}

/// Something for whoever watches.
#[derive(Debug)]
pub enum News<'a> {
    /// The target answered; the run begins.
    Met(&'a Introduction),
    /// About once a second.
    Going(&'a Tally),
    /// The oracle looked.
    Looked(&'a Health),
    /// The target is gone; the run ends.
    Gone,
    /// All connections are gone; the target is given time to notice.
    Settling,
}

/// Why there was no run. `Display` is one line: the cause and the remedy.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NoRun {
    /// The target was not well to begin with.
    #[error("{target} cannot be fuzzed: {cause}; is a node of this network running there?")]
    NotReachable {
        /// Where it should be.
        target: SocketAddr,
        /// What was met with instead.
        cause: VisitError,
    },
    /// The RPC that was named did not answer to begin with.
    #[error(
        "the RPC that was named does not answer: {0}; name the right --rpc and --rpc-cookie or \
         --rpc-socket, or none"
    )]
    NoRpc(Unsaid),
    /// The RPC that was named must not be called.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// Connections cannot come from where they are to.
    #[error(transparent)]
    NoSource(#[from] NoSource),
    /// Somebody ended it before it began.
    #[error("ended by a signal before the run began")]
    Interrupted,
}

impl Run {
    /// Carries it out. `stop` ends it before its time, with the report of what was done.
    ///
    /// # Errors
    /// The target, or the RPC that was named, does not answer to begin with, or the RPC is
    /// that of a node that must not be called.
    pub fn carry_out(
        self,
        stop: &AtomicBool,
        mut tell: impl FnMut(News<'_>),
    ) -> Result<Outcome, NoRun> {
        let target = self.target;
        self.check_sources()?;
        let mut dialect = self.dialect;
        dialect.mines = self.mines;
        let (zero, at) = (Instant::now(), SystemTime::now());
        let oracle = Oracle::new(
            target,
            dialect.clone(),
            self.plan.seed,
            self.mines,
            self.inside,
            stop,
        );
        let played = played(&self.plan, &self.cues);
        let duration = self.plan.limit.duration;
        let oracle = oracle.patience(self.patience).bounded(duration);
        let oracle = oracle.coming_from(self.visits_from);
        let mut oracle = oracle.beside(&played);
        let look_every = LOOK_EVERY.min(self.patience);
        let own_magic = dialect.magic != self.network.magic().to_bytes();
        let met = first_look(&mut oracle, target, &self.network, own_magic);
        // Whoever ended it knows why nobody answered in time.
        let (introduction, before) = met.map_err(|no_run| match stop.load(Ordering::Relaxed) {
            true => NoRun::Interrupted,
            false => no_run,
        })?;
        tell(News::Met(&introduction));
        tell(News::Looked(&before));

        let seed = self.plan.seed;
        if self.cues.is_empty() {
            dialect.height = introduction.height.max(0);
        }
        let phrases = Phrases::new(dialect.clone());
        let concurrency = self.plan.concurrency as u64;
        let waves = match self.cues.first() {
            Some(cue) => cue.together,
            None => self.plan.arrival() == Arrival::Waves,
        };
        let mut plan = self.plan;
        // What was needed to look is a part of it.
        plan.limit.duration = duration.saturating_sub(zero.elapsed()).max(duration / 2);
        oracle.begin();
        let mut engine = Engine::new(plan, phrases, self.doors, self.sources);
        if !self.cues.is_empty() {
            engine = engine.replaying(self.cues);
        }
        if self.records {
            engine = engine.recording();
        }
        let mut during = Vec::new();
        let connections_from = zero.elapsed();
        let mut gone = None;
        let (tally, connections, left_out) = beside(engine, stop, look_every, |news| {
            match news {
                Beside::Tally(tally) => tell(News::Going(tally)),
                Beside::Look => {
                    if let Some(health) = oracle.look() {
                        tell(News::Looked(&health));
                        during.push(health);
                    }
                }
                Beside::Tick => {}
            }
            if gone.is_none() && oracle.is_gone() {
                gone = Some(zero.elapsed());
            }
            let is_over = gone.is_some() || is_unreachable(&during);
            if is_over {
                tell(News::Gone);
            }
            is_over
        });
        tell(News::Settling);
        let (after, settling) = oracle.look_when_settled(&before);
        tell(News::Looked(&after));
        let seen = Observations {
            before,
            during,
            after,
            tally,
            gone,
            let_settle: !settling.was_cut,
        };
        let judgement = crate::oracle::judge(&seen);
        let trace = self.records.then(|| Trace {
            target: target.to_string(),
            network: self.network.name().to_owned(),
            signet_challenge: self.network.signet_challenge().map(<[u8]>::to_vec),
            magic: dialect.magic,
            version: dialect.version,
            time: dialect.time,
            handshake_deadline: u64::try_from(dialect.handshake_deadline.as_millis())
                .unwrap_or(u64::MAX),
            height: dialect.height,
            seed,
            concurrency,
            waves,
            verdict: judgement.verdict.to_string(),
            connections,
            left_out,
        });
        Ok(Outcome {
            introduction,
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
    /// Whether connections can come from where they are to.
    fn check_sources(&self) -> Result<(), NoSource> {
        if let Some(range) = &self.sources {
            range.check(self.target, self.plan.limit.cycles)?;
        }
        let of_cues: BTreeSet<_> = self.cues.iter().filter_map(|cue| cue.source).collect();
        let mut of_cues = of_cues.into_iter();
        of_cues.try_for_each(|source| can_come_from(source, self.target))
    }
}

/// What connections of the run do.
fn played(plan: &Plan, cues: &[Cue]) -> BTreeSet<Scenario> {
    match cues {
        [] => plan.shares.iter().map(|share| share.scenario).collect(),
        cues => cues.iter().map(|cue| cue.part.scenario).collect(),
    }
}

/// Who the target is and how it is, if connections may be made to it.
fn first_look(
    oracle: &mut Oracle<'_>,
    target: SocketAddr,
    network: &Network,
    own_magic: bool,
) -> Result<(Introduction, Health), NoRun> {
    let unreachable = |cause| NoRun::NotReachable { target, cause };
    let introduction = oracle.introduce().map_err(unreachable)?;
    if let Some(chain) = oracle.chain() {
        permit_chain(&chain.map_err(NoRun::NoRpc)?, network, own_magic)?;
    }
    let before = oracle.look_before();
    if let Err(cause) = &before.handshake {
        return Err(unreachable(cause.clone()));
    }
    if let Some(Err(unsaid)) = &before.rpc {
        return Err(NoRun::NoRpc(unsaid.clone()));
    }
    Ok((introduction, before))
}

/// Whether nobody listens any more, for as long as an honest peer tries, or connections were
/// not answered for twice as long: there is nothing more to be found out about the target.
fn is_unreachable(looks: &[Health]) -> bool {
    let mut latest = looks.iter().rev().map(|health| &health.handshake);
    match latest.next() {
        Some(Err(VisitError::Refused)) => true,
        Some(Err(VisitError::NoConnection(_))) => {
            matches!(latest.next(), Some(Err(VisitError::NoConnection(_))))
        }
        _ => false,
    }
}

/// What there is to do beside the engine.
enum Beside<'a> {
    Tally(&'a Tally),
    Look,
    /// A moment has gone by.
    Tick,
}

/// Runs the engine on a thread of its own, so that a target that hangs does not hang what
/// looks at it, nor the other way round. `act` says whether the run is over before its time.
fn beside(
    engine: Engine,
    stop: &AtomicBool,
    look_every: Duration,
    mut act: impl FnMut(Beside<'_>) -> bool,
) -> (Tally, Vec<Record>, LeftOut) {
    let (send, receive) = mpsc::channel();
    let over = &AtomicBool::new(false);
    thread::scope(|scope| {
        let running = scope.spawn(move || {
            engine.run_and_record(|tally| {
                // Whoever listened may be busy looking: the last one counts.
                let _ = send.send(tally.clone());
                match stop.load(Ordering::Relaxed) || over.load(Ordering::Relaxed) {
                    true => ControlFlow::Break(()),
                    false => ControlFlow::Continue(()),
                }
            })
        });
        let mut next_look = Instant::now() + look_every.min(FIRST_LOOK);
        loop {
            let is_over = match receive.recv_timeout(Duration::from_millis(200)) {
                Ok(tally) => act(Beside::Tally(&tally)),
                Err(RecvTimeoutError::Timeout) => act(Beside::Tick),
                Err(RecvTimeoutError::Disconnected) => break,
            };
            let looks = !is_over && Instant::now() >= next_look;
            if is_over || (looks && act(Beside::Look)) {
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
