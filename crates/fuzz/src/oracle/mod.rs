//! Whether the target is still well, seen from outside.

mod answers;
mod follow;
mod inside;
pub mod process;
mod verdict;
mod visitor;
mod wait;

pub use answers::{Answers, Served};
pub use follow::{Followed, Follower};
pub use inside::{Inside, Unsaid, differ};
pub use verdict::{Evidence, Health, Judgement, Observations, Verdict, judge};
pub use visitor::{Introduction, Route, VisitError, Visitor};
pub use wait::Wait;

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::net::SocketAddr;
use std::sync::atomic::AtomicBool;
use std::thread;
use std::time::{Duration, Instant};

use crate::engine::DRAIN;
use crate::scenario::Scenario;
use crate::voice::{Dialect, Dice};
use follow::{Announce, Offer};
use inside::{Asker, Said};
use wait::LITTLE_PATIENCE;

/// How long an honest peer tries to come in, and how long a block may take.
pub const PATIENCE: Duration = Duration::from_secs(30);
/// How long an honest peer stays at least. One that left with its handshake would itself be
/// what targets are fuzzed with.
const STAY: Duration = Duration::from_millis(100);
/// Pause between two tries to come in.
const RETRY: Duration = Duration::from_millis(200);
/// How often it is asked, before a run, what it counts, and the pause between.
const READINGS: usize = 5;
const READ_EVERY: Duration = Duration::from_millis(50);
/// How often, after a run, the target gets the time of an honest peer to notice that
/// everybody has gone.
const SETTLES: u32 = 2;

/// A run that is bounded by time takes so much longer than that at most: for connections to
/// end, for the target to settle, and for the last look at it.
pub const GRACE: Duration = Duration::from_secs(20);
/// Of that, what is left for the last look: longer than anything may take of a target that is
/// not slow.
const LAST_LOOK: Duration = Duration::from_secs(10);
/// What has no bound has that.
const A_YEAR: Duration = Duration::from_secs(365 * 86_400);
/// How long the look before a run may take, however short the run is.
const LEAST_FIRST_LOOK: Duration = Duration::from_secs(3);

/// How far a run is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    Before,
    During,
    After,
}

/// The time between the last connection and the last look.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Settling {
    /// How long the target was given to let go of what connections had left.
    pub took: Duration,
    /// What was waited for, one line each; empty: nothing.
    pub waited_for: Vec<String>,
    /// Somebody ended the wait before its time, and there was something to wait for.
    pub was_cut: bool,
}

/// What became of a block that was offered.
type Block = Result<Followed, VisitError>;

/// Looks at the target now and then, as an honest peer.
pub struct Oracle<'a> {
    route: Route,
    dialect: Dialect,
    dice: Dice,
    follower: Option<Follower>,
    asker: Asker<'a>,
    process: Option<u32>,
    started: Instant,
    patience: Duration,
    phase: Phase,
    /// How long the run goes on, its [`GRACE`] not counted.
    duration: Duration,
    /// What new blocks are offered in, by turns, while the run goes on.
    offers: Vec<Offer>,
    /// Whether they are announced by their hash as well.
    by_hash: bool,
    /// Looks so far.
    looks: usize,
    /// What it was last answered: it is not waited again and again for what does not come.
    last: Answers,
    /// Somebody wants the run to end: whatever is still looked at is looked at briefly.
    hurry: &'a AtomicBool,
}

impl<'a> Oracle<'a> {
    /// `mines`: whether blocks can be made on the target's network.
    #[must_use]
    pub fn new(
        target: SocketAddr,
        dialect: Dialect,
        seed: u64,
        mines: bool,
        inside: Option<Box<dyn Inside + Send>>,
        hurry: &'a AtomicBool,
    ) -> Self {
        Self {
            hurry,
            route: Route {
                target,
                source: None,
            },
            // Not the numbers of any connection of the run.
            dice: Dice::new(!seed),
            follower: mines.then(|| Follower::new(&dialect)),
            dialect,
            asker: Asker::new(inside, hurry),
            process: process::listening_on(target),
            started: Instant::now(),
            patience: PATIENCE,
            phase: Phase::Before,
            duration: A_YEAR,
            offers: vec![Offer::Fresh],
            by_hash: false,
            looks: 0,
            last: Answers::default(),
        }
    }

    /// The same for a run of these scenarios: what they do to a block is done to those that
    /// are offered.
    #[must_use]
    pub fn beside(mut self, played: &BTreeSet<Scenario>) -> Self {
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

    /// The same that comes from an address of this machine.
    #[must_use]
    pub fn coming_from(mut self, source: Option<IpAddr>) -> Self {
        self.route.source = source;
        self
    }

    /// The same with less patience, or more.
    #[must_use]
    pub fn patience(mut self, patience: Duration) -> Self {
        self.patience = patience;
        self
    }

    /// The same for a run that is to take so long, and [`GRACE`] longer at most.
    #[must_use]
    pub fn bounded(mut self, duration: Duration) -> Self {
        self.duration = duration.min(A_YEAR);
        self
    }

    /// The first connection is about to be made.
    pub fn begin(&mut self) {
        self.phase = Phase::During;
    }

    /// Nothing is waited for longer than until then. A look that is under way when the last
    /// connection has ended goes on until then, too.
    fn ends(&self) -> Instant {
        self.started
            + match self.phase {
                Phase::Before => (self.duration / 2).max(LEAST_FIRST_LOOK),
                Phase::During => self.duration + DRAIN,
                Phase::After => self.duration + GRACE,
            }
    }

    fn wait(&self) -> Wait<'a> {
        Wait::until(self.patience, self.ends(), self.hurry)
    }

    /// Whether the process of the target is gone, as far as that can be told.
    #[must_use]
    pub fn is_gone(&self) -> bool {
        self.process.is_some_and(|id| !process::is_alive(id))
    }

    /// Whether it is of no use to try once more.
    fn is_hopeless(&self, wait: &Wait<'_>) -> bool {
        wait.left() <= RETRY || self.is_gone()
    }

    /// Whether a wait that begins now ends before even a slow target has had its time: what
    /// has not come then says nothing.
    fn is_cut_short(&self) -> bool {
        let left = self.ends().saturating_duration_since(Instant::now());
        self.phase != Phase::Before && self.is_short(left)
    }

    /// Whether even a slow target needs more time than that.
    fn is_short(&self, time: Duration) -> bool {
        time < self.patience.min(verdict::SLOW_BLOCK)
    }

    /// Who the target says that it is.
    ///
    /// # Errors
    /// It does not answer, or is of another network.
    pub fn introduce(&mut self) -> Result<Introduction, VisitError> {
        let nonce = self.dice.any();
        let visitor = Visitor::dial(self.route, &self.dialect, nonce, self.wait())?;
        thread::park_timeout(STAY);
        self.dialect.height = visitor.introduction.height.max(0);
        Ok(visitor.introduction)
    }

    /// The chain that the target is on by its own account; `None` where it cannot be asked.
    pub fn chain(&mut self) -> Option<Result<String, Unsaid>> {
        self.asker.chain(self.ends())
    }

    /// How the target is now; `None`: the run is over before that can be said.
    pub fn look(&mut self) -> Option<Health> {
        // Before we come in: our own visits are not to be counted.
        let said = self.asker.all(self.ends());
        let short = self.is_cut_short();
        let health = self.look_and_say(said);
        let ended = health.handshake == Err(VisitError::Ended);
        let in_time = !ended && (!short || health.handshake.is_ok());
        in_time.then_some(health)
    }

    fn look_and_say(&mut self, said: Said) -> Health {
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
            // Of this look, too.
            peak: self.process.and_then(process::usage).map(|it| it.peak),
            descriptors: usage.map(|usage| usage.descriptors),
            alive: self.process.map(process::is_alive),
        }
    }

    /// What an honest peer meets with: whether it is let in, what it is answered, and what
    /// becomes of its block. One that gets no answers has no block to offer.
    fn visit(&mut self) -> (Result<Duration, VisitError>, Answers, Option<Block>) {
        let (handshake, visitor) = match self.come_in() {
            Err(error) => return (Err(error), Answers::default(), None),
            Ok(came) => came,
        };
        let short = self.is_cut_short();
        let answers = self.ask(visitor);
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

    /// How the target is before anybody has come. What it counts is looked at for a moment,
    /// so that a visit of ours which it is about to forget is not taken for a peer.
    pub fn look_before(&mut self) -> Health {
        let counts = |it: &mut Self| {
            let peers = it.asker.peers(it.ends());
            let usage = it.process.and_then(process::usage);
            (peers, usage.map(|usage| usage.descriptors))
        };
        let mut least = counts(self);
        for _ in 0..READINGS {
            thread::park_timeout(READ_EVERY);
            let (peers, descriptors) = counts(self);
            least = (least.0.min(peers), least.1.min(descriptors));
        }
        let said = self.asker.all(self.ends());
        let health = self.look_and_say(said);
        Health {
            peers: least.0,
            descriptors: least.1,
            ..health
        }
    }

    /// How the target is when everybody has gone: as soon as it counts no more peers than
    /// `before`, its audit is clean, and no descriptors are left open; or when it has had its
    /// time.
    pub fn look_when_settled(&mut self, before: &Health) -> (Health, Settling) {
        self.phase = Phase::After;
        let settled_by = self.ends() - LAST_LOOK;
        let begun = Instant::now();
        let mut settling = Settling::default();
        for _ in 0..SETTLES {
            let wait = Wait::until(self.patience, settled_by, self.hurry);
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

    /// What it says, and what there is to wait for. An audit may be unclean while connections
    /// are on their way out.
    fn what_remains(&mut self, before: &Health) -> (Said, Vec<String>) {
        let said = self.asker.all(self.ends());
        let mut remains = Vec::new();
        if matches!(said.answered, Some(Err(Unsaid::Later(_)))) {
            remains.push("its RPC asks to come later".to_owned());
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

    /// Tries to come in until its patience ends. One who is told to go, by a close or a
    /// reset, comes again, as honest peers do; how long it took in all counts.
    fn come_in(&mut self) -> Result<(Duration, Visitor<'a>), VisitError> {
        let wait = self.wait();
        loop {
            let nonce = self.dice.any();
            match Visitor::dial(self.route, &self.dialect, nonce, wait) {
                Ok(visitor) => {
                    let took = wait.took();
                    thread::park_timeout(STAY);
                    return Ok((took, visitor));
                }
                Err(error) if self.is_hopeless(&wait) => return Err(error),
                Err(_) => thread::park_timeout(RETRY),
            }
        }
    }

    /// Asks what an honest peer asks. One who is sent away before it is answered comes again.
    fn ask(&mut self, mut visitor: Visitor<'a>) -> Answers {
        let wait = self.wait();
        let within = |silent: bool| match silent {
            true => LITTLE_PATIENCE,
            false => self.patience,
        };
        let pongs = within(matches!(self.last.pong, Some(Err(_))));
        let headers = within(matches!(self.last.headers, Some(Err(_))));
        loop {
            let waits = (wait.shorter(pongs), wait.shorter(headers));
            let answers = answers::ask(&mut visitor, &self.dialect, &mut self.dice, waits);
            if !answers.were_cut_off() {
                return answers;
            }
            visitor = loop {
                if self.is_hopeless(&wait) {
                    return answers;
                }
                thread::park_timeout(RETRY);
                let nonce = self.dice.any();
                if let Ok(visitor) = Visitor::dial(self.route, &self.dialect, nonce, wait) {
                    break visitor;
                }
            };
        }
    }

    /// Offers a block. `None`: the run is over before there is anything to be said of it.
    fn follow(&mut self) -> Option<Block> {
        let offer = match self.phase {
            Phase::Before => Offer::Fresh,
            // What connections spoil is what is on top of the chain as they know it: after the
            // run one block shows whether they have.
            Phase::During | Phase::After => self.offers[self.looks % self.offers.len()],
        };
        let short = self.is_cut_short();
        let followed = self.follow_an(offer);
        let is_followed = matches!(followed, Ok(Followed::After(_)));
        (is_followed || !short).then_some(followed)
    }

    /// Whoever is sent away before it is through comes again, and whoever is overtaken makes
    /// another block. The time that making blocks takes, and that of those which came too late,
    /// is none of the target's.
    fn follow_an(&mut self, offer: Offer) -> Block {
        let wait = self.wait();
        let seed = self.dice.any();
        let announce = match self.by_hash && self.looks % 2 == 1 {
            true => Announce::Inv,
            false => Announce::Headers,
        };
        // Why it was sent away is told, not that its last try had no time left.
        let mut sent_away = None;
        let (mut grown, mut ours) = (0, Duration::ZERO);
        loop {
            let begun = Instant::now();
            let hopeless = self.is_gone();
            let Some(follower) = self.follower.as_mut() else {
                return Ok(Followed::After(Duration::ZERO));
            };
            let (route, what) = (self.route, (offer, announce));
            let probed = follower.probe(route, &self.dialect, what, seed, wait);
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
                    if matches!(error, VisitError::Closed(_) | VisitError::Foreign(_)) {
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
                // Of the last of several there is something to be said if it had its time.
                Ok(Followed::Not { waited, .. }) if grown > 0 && self.is_short(waited) => {
                    return Ok(overtaken(grown));
                }
                Ok(Followed::Unmade { .. }) if grown > 0 => return Ok(overtaken(grown)),
                not @ Ok(Followed::Not { .. } | Followed::Unmade { .. }) => return not,
            }
        }
    }
}
