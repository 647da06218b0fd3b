//! Checks from outside whether the target is healthy.

mod answers;
mod follow;
mod honest_peer;
mod introspection;
pub mod process;
mod verdict;
mod wait;

pub use answers::{Answers, Served};
pub use follow::{Followed, Follower};
pub use honest_peer::{HonestPeer, HonestPeerError, Route, VersionInfo};
pub use introspection::{Introspection, NoAnswer, audit_mismatch};
pub use verdict::{Evidence, Health, Judgement, Observations, Verdict, judge};
pub use wait::Wait;

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::net::SocketAddr;
use std::sync::atomic::AtomicBool;
use std::thread;
use std::time::{Duration, Instant};

use crate::engine::DRAIN;
use crate::scenario::Scenario;
use crate::writer::{ConnectionRng, PeerParams};
use follow::{Announce, Offer};
use introspection::{RpcAnswers, RpcProbe};

/// Time for an honest peer to connect, and for a block to be followed.
pub const ANSWER_TIMEOUT: Duration = Duration::from_secs(30);
/// Minimum stay of an honest peer. Disconnecting right after the handshake is itself one of the
/// scenarios.
const STAY: Duration = Duration::from_millis(100);
/// Pause between two tries to connect.
const RETRY: Duration = Duration::from_millis(200);
/// How often its counts are read before a run, and the pause between.
const READINGS: usize = 5;
const READ_EVERY: Duration = Duration::from_millis(50);
/// How many timeouts of an honest peer the target gets after a run to notice that all connections
/// have ended.
const SETTLES: u32 = 2;
/// Timeout of a target that did not answer the last time, so that a run does not wait for it each
/// time.
const SHORT_TIMEOUT: Duration = Duration::from_secs(1);

/// A run limited by time takes at most so much longer: for connections to end, for the target to
/// settle, and for the last check.
pub const GRACE: Duration = Duration::from_secs(20);
/// Of that, the time of the last check: longer than any answer of a target that is not slow.
const LAST_LOOK: Duration = Duration::from_secs(10);
/// The limit of what has none.
const A_YEAR: Duration = Duration::from_secs(365 * 86_400);
/// Time of the check before a run, however short the run is.
const MIN_FIRST_LOOK: Duration = Duration::from_secs(3);

/// The phase of a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    Before,
    During,
    After,
}

/// The time between the last connection and the last check.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Settling {
    /// The time that the target took to release the connections' resources.
    pub took: Duration,
    /// What was waited for, one line each.
    pub waited_for: Vec<String>,
    /// The wait was ended early, and something was left to wait for.
    pub was_cut: bool,
}

/// The result of an offered block.
type Block = Result<Followed, HonestPeerError>;

/// Checks the target periodically, as an honest peer.
pub struct Oracle<'a> {
    route: Route,
    params: PeerParams,
    rng: ConnectionRng,
    follower: Option<Follower>,
    rpc_probe: RpcProbe<'a>,
    process: Option<u32>,
    started: Instant,
    answer_timeout: Duration,
    phase: Phase,
    /// The duration of the run, without [`GRACE`].
    duration: Duration,
    /// The kinds of blocks offered during the run, in turn.
    offers: Vec<Offer>,
    /// Whether some are announced by their hash.
    by_hash: bool,
    /// Checks so far.
    looks: usize,
    /// The last answers: what was not answered gets a short timeout.
    last: Answers,
    /// The run is to stop: all further checks are short.
    stop: &'a AtomicBool,
}

impl<'a> Oracle<'a> {
    /// `mines`: whether blocks can be made on the target's network.
    #[must_use]
    pub fn new(
        target: SocketAddr,
        params: PeerParams,
        seed: u64,
        mines: bool,
        introspection: Option<Box<dyn Introspection + Send>>,
        stop: &'a AtomicBool,
    ) -> Self {
        Self {
            stop,
            route: Route {
                target,
                source: None,
            },
            // Not the numbers of any connection of the run.
            rng: ConnectionRng::new(!seed),
            follower: mines.then(|| Follower::new(&params)),
            params,
            rpc_probe: RpcProbe::new(introspection, stop),
            process: process::listening_on(target),
            started: Instant::now(),
            answer_timeout: ANSWER_TIMEOUT,
            phase: Phase::Before,
            duration: A_YEAR,
            offers: vec![Offer::Fresh],
            by_hash: false,
            looks: 0,
            last: Answers::default(),
        }
    }

    /// Sets the scenarios of the run: what they do to a block is done to the blocks offered.
    #[must_use]
    pub fn for_scenarios(mut self, played: &BTreeSet<Scenario>) -> Self {
        let any = |some: &[Scenario]| some.iter().any(|one| played.contains(one));
        let mut offers = Vec::new();
        let shown = [
            Scenario::TamperedBlock,
            Scenario::WithheldChain,
            Scenario::SlowBlock,
        ];
        if any(&shown) {
            offers.push(Offer::Shown);
        }
        if any(&[Scenario::PoisonedBranch]) {
            offers.push(Offer::Branch);
        }
        if offers.is_empty() {
            offers.push(Offer::Fresh);
        }
        self.offers = offers;
        self.by_hash = any(&[Scenario::StaleSource]);
        self
    }

    /// Sets the source address.
    #[must_use]
    pub fn coming_from(mut self, source: Option<IpAddr>) -> Self {
        self.route.source = source;
        self
    }

    /// Sets the timeout of answers.
    #[must_use]
    pub fn answer_timeout(mut self, answer_timeout: Duration) -> Self {
        self.answer_timeout = answer_timeout;
        self
    }

    /// Sets the duration of the run; all checks end [`GRACE`] after it.
    #[must_use]
    pub fn bounded(mut self, duration: Duration) -> Self {
        self.duration = duration.min(A_YEAR);
        self
    }

    /// The first connection is about to begin.
    pub fn begin(&mut self) {
        self.phase = Phase::During;
    }

    /// When all waits end. A check in progress when the last connection ends goes on until then,
    /// too.
    fn ends(&self) -> Instant {
        self.started
            + match self.phase {
                Phase::Before => (self.duration / 2).max(MIN_FIRST_LOOK),
                Phase::During => self.duration + DRAIN,
                Phase::After => self.duration + GRACE,
            }
    }

    fn wait(&self) -> Wait<'a> {
        Wait::until(self.answer_timeout, self.ends(), self.stop)
    }

    /// Whether the target's process has exited, as far as known.
    #[must_use]
    pub fn is_gone(&self) -> bool {
        self.process.is_some_and(|id| !process::is_alive(id))
    }

    /// Whether another try is useless.
    fn is_hopeless(&self, wait: &Wait<'_>) -> bool {
        wait.left() <= RETRY || self.is_gone()
    }

    /// Whether a wait that begins now ends before even a slow target would answer: a missing
    /// answer then proves nothing.
    fn is_cut_short(&self) -> bool {
        let left = self.ends().saturating_duration_since(Instant::now());
        self.phase != Phase::Before && self.is_short(left)
    }

    /// Whether even a slow target needs more time than that.
    fn is_short(&self, time: Duration) -> bool {
        time < self.answer_timeout.min(verdict::SLOW_BLOCK)
    }

    /// The target's `version`.
    ///
    /// # Errors
    /// It does not answer, or is of another network.
    pub fn read_version_info(&mut self) -> Result<VersionInfo, HonestPeerError> {
        let nonce = self.rng.any();
        let honest_peer = HonestPeer::dial(self.route, &self.params, nonce, self.wait())?;
        thread::park_timeout(STAY);
        self.params.height = honest_peer.version_info.height.max(0);
        Ok(honest_peer.version_info)
    }

    /// The chain by the target's RPC; `None` without one.
    pub fn chain(&mut self) -> Option<Result<String, NoAnswer>> {
        self.rpc_probe.chain(self.ends())
    }

    /// Checks the target; `None`: the run is over before there is a result.
    pub fn look(&mut self) -> Option<Health> {
        // Before we connect: our own connections must not be counted.
        let said = self.rpc_probe.all(self.ends());
        let short = self.is_cut_short();
        let health = self.look_and_say(said);
        let ended = health.handshake == Err(HonestPeerError::Ended);
        let in_time = !ended && (!short || health.handshake.is_ok());
        in_time.then_some(health)
    }

    fn look_and_say(&mut self, said: RpcAnswers) -> Health {
        let usage = self.process.and_then(process::usage);
        let at = self.started.elapsed();
        let (handshake, answers, block) = self.visit();
        self.looks += 1;
        Health {
            at,
            handshake,
            answers,
            block,
            rpc: said.answered,
            peers: said.peers,
            audit: said.audit,
            memory: usage.map(|usage| usage.memory),
            // Includes this check.
            peak: self.process.and_then(process::usage).map(|it| it.peak),
            descriptors: usage.map(|usage| usage.descriptors),
            alive: self.process.map(process::is_alive),
        }
    }

    /// Runs an honest peer: connects, sends requests, and offers a block. Without answers no
    /// block is offered.
    fn visit(&mut self) -> (Result<Duration, HonestPeerError>, Answers, Option<Block>) {
        let (handshake, honest_peer) = match self.connect_honest_peer() {
            Err(error) => return (Err(error), Answers::default(), None),
            Ok(came) => came,
        };
        let short = self.is_cut_short();
        let answers = self.ask(honest_peer);
        if short && answers.unanswered().is_some() {
            return (Ok(handshake), Answers::default(), None);
        }
        self.last = answers.clone();
        let block = match (&self.follower, answers.unanswered()) {
            (None, _) => None,
            (Some(_), Some(error)) => Some(Err(error.clone())),
            (Some(_), None) => self.follow(),
        };
        (Ok(handshake), answers, block)
    }

    /// Checks the target before the first connection. Its counts are read for a moment, so that
    /// an honest peer of ours that is about to be removed is not counted.
    pub fn look_before(&mut self) -> Health {
        let counts = |it: &mut Self| {
            let peers = it.rpc_probe.peers(it.ends());
            let usage = it.process.and_then(process::usage);
            (peers, usage.map(|usage| usage.descriptors))
        };
        let mut least = counts(self);
        for _ in 0..READINGS {
            thread::park_timeout(READ_EVERY);
            let (peers, descriptors) = counts(self);
            least = (least.0.min(peers), least.1.min(descriptors));
        }
        let said = self.rpc_probe.all(self.ends());
        let health = self.look_and_say(said);
        Health {
            peers: least.0,
            descriptors: least.1,
            ..health
        }
    }

    /// Checks the target after all connections have ended: as soon as it counts no more peers
    /// than `before`, its audit is clean, and no descriptors are left; or when its time is over.
    pub fn look_when_settled(&mut self, before: &Health) -> (Health, Settling) {
        self.phase = Phase::After;
        let settled_by = self.ends() - LAST_LOOK;
        let begun = Instant::now();
        let mut settling = Settling::default();
        for _ in 0..SETTLES {
            let wait = Wait::until(self.answer_timeout, settled_by, self.stop);
            while !wait.is_over() {
                let (said, remains) = self.what_remains(before);
                settling.took = begun.elapsed();
                if remains.is_empty() {
                    return (self.look_and_say(said), settling);
                }
                settling.waited_for = remains;
                thread::park_timeout(RETRY);
            }
            settling.was_cut |= wait.is_cut();
        }
        let (said, remains) = self.what_remains(before);
        settling.was_cut &= !remains.is_empty();
        settling.took = begun.elapsed();
        (self.look_and_say(said), settling)
    }

    /// The RPC's answers, and what is left to wait for. An audit may fail while connections are
    /// closing.
    fn what_remains(&mut self, before: &Health) -> (RpcAnswers, Vec<String>) {
        let said = self.rpc_probe.all(self.ends());
        let mut remains = Vec::new();
        if matches!(said.answered, Some(Err(NoAnswer::Later(_)))) {
            remains.push("its RPC is overloaded".to_owned());
        }
        if let (Some(is), Some(was)) = (said.peers, before.peers)
            && is > was
        {
            remains.push(format!("it counts {is} peers, {was} before"));
        }
        let usage = self.process.and_then(process::usage);
        if let (Some(usage), Some(was)) = (usage, before.descriptors)
            && verdict::are_left_open(usage.descriptors, was)
        {
            let is = usage.descriptors;
            remains.push(format!("it has {is} open descriptors, {was} before"));
        }
        if matches!(said.audit, Some(Err(_))) {
            remains.push("its audit is not clean".to_owned());
        }
        (said, remains)
    }

    /// Tries to connect until the timeout. After a close or a reset it reconnects, as honest
    /// peers do; the total time counts.
    fn connect_honest_peer(&mut self) -> Result<(Duration, HonestPeer<'a>), HonestPeerError> {
        let wait = self.wait();
        loop {
            let nonce = self.rng.any();
            match HonestPeer::dial(self.route, &self.params, nonce, wait) {
                Ok(honest_peer) => {
                    let took = wait.took();
                    thread::park_timeout(STAY);
                    return Ok((took, honest_peer));
                }
                Err(error) if self.is_hopeless(&wait) => return Err(error),
                Err(_) => thread::park_timeout(RETRY),
            }
        }
    }

    /// Sends the requests of an honest peer. If it is disconnected before the answers, it
    /// reconnects.
    fn ask(&mut self, mut honest_peer: HonestPeer<'a>) -> Answers {
        let wait = self.wait();
        let within = |silent: bool| match silent {
            true => SHORT_TIMEOUT,
            false => self.answer_timeout,
        };
        let pongs = within(matches!(self.last.pong, Some(Err(_))));
        let headers = within(matches!(self.last.headers, Some(Err(_))));
        loop {
            let waits = (wait.shorter(pongs), wait.shorter(headers));
            let answers = answers::ask(&mut honest_peer, &self.params, &mut self.rng, waits);
            if !answers.were_cut_off() {
                return answers;
            }
            honest_peer = loop {
                if self.is_hopeless(&wait) {
                    return answers;
                }
                thread::park_timeout(RETRY);
                let nonce = self.rng.any();
                if let Ok(honest_peer) = HonestPeer::dial(self.route, &self.params, nonce, wait) {
                    break honest_peer;
                }
            };
        }
    }

    /// Offers a block. `None`: the run is over before there is a result.
    fn follow(&mut self) -> Option<Block> {
        let offer = match self.phase {
            Phase::Before => Offer::Fresh,
            // Connections tamper with blocks on top of the chain that they know: after the run
            // one block shows whether they did harm.
            Phase::During | Phase::After => self.offers[self.looks % self.offers.len()],
        };
        let short = self.is_cut_short();
        let followed = self.follow_an(offer);
        let is_followed = matches!(followed, Ok(Followed::After(_)));
        (is_followed || !short).then_some(followed)
    }

    /// Reconnects after a disconnect, and makes another block after a faster miner's. The time
    /// taken to make blocks, and that of blocks which came too late, is not the target's.
    fn follow_an(&mut self, offer: Offer) -> Block {
        let wait = self.wait();
        let seed = self.rng.any();
        let announce = match self.by_hash && self.looks % 2 == 1 {
            true => Announce::Inv,
            false => Announce::Headers,
        };
        // The disconnect is reported, not that the last try had no time left.
        let mut sent_away = None;
        let (mut grown, mut ours) = (0, Duration::ZERO);
        loop {
            let begun = Instant::now();
            let hopeless = self.is_gone();
            let Some(follower) = self.follower.as_mut() else {
                return Ok(Followed::After(Duration::ZERO));
            };
            let (route, what) = (self.route, (offer, announce));
            let probed = follower.probe(route, &self.params, what, seed, wait);
            let overtaken = |blocks| Followed::Overtaken {
                waited: wait.took(),
                blocks,
            };
            let over = hopeless || wait.left() <= RETRY;
            match probed {
                Err(error) if over => {
                    return match sent_away {
                        Some(error) => Err(error),
                        None if grown > 0 && !hopeless => Ok(overtaken(grown)),
                        None => Err(error),
                    };
                }
                Err(error) => {
                    if matches!(
                        error,
                        HonestPeerError::Closed(_) | HonestPeerError::Foreign(_)
                    ) {
                        sent_away = Some(error);
                    }
                    thread::park_timeout(RETRY);
                }
                Ok(Followed::After(_)) => {
                    let ours = ours + follower.making;
                    return Ok(Followed::After(wait.took().saturating_sub(ours)));
                }
                Ok(Followed::Overtaken { blocks, .. }) => {
                    grown += blocks;
                    ours += begun.elapsed();
                    if over {
                        return Ok(overtaken(grown));
                    }
                }
                // The last of several blocks counts if it had its time.
                Ok(Followed::Not { waited, .. }) if grown > 0 && self.is_short(waited) => {
                    return Ok(overtaken(grown));
                }
                Ok(Followed::Unmade { .. }) if grown > 0 => return Ok(overtaken(grown)),
                not @ Ok(Followed::Not { .. } | Followed::Unmade { .. }) => return not,
            }
        }
    }
}
