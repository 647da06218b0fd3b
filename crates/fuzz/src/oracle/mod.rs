//! Whether the target is still well, seen from outside.

mod blocks;
mod follow;
mod inside;
pub mod process;
mod verdict;
mod visitor;
mod wait;

pub use follow::{Followed, Follower};
pub use inside::{Inside, Unsaid};
pub use verdict::{Evidence, Health, Judgement, Observations, Verdict, judge};
pub use visitor::{Introduction, VisitError, Visitor};
pub use wait::Wait;

use std::net::SocketAddr;
use std::sync::atomic::AtomicBool;
use std::thread;
use std::time::{Duration, Instant};

use crate::voice::{Dialect, Dice};
use inside::{Asker, Said};

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

/// Looks at the target now and then, as an honest peer.
pub struct Oracle<'a> {
    target: SocketAddr,
    dialect: Dialect,
    dice: Dice,
    follower: Option<Follower>,
    asker: Asker<'a>,
    process: Option<u32>,
    started: Instant,
    patience: Duration,
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
            target,
            // Not the numbers of any connection of the run.
            dice: Dice::new(!seed),
            follower: mines.then(|| Follower::new(&dialect)),
            dialect,
            asker: Asker::new(inside, hurry),
            process: process::listening_on(target),
            started: Instant::now(),
            patience: PATIENCE,
        }
    }

    /// The same with less patience, or more.
    #[must_use]
    pub fn patience(mut self, patience: Duration) -> Self {
        self.patience = patience;
        self
    }

    fn wait(&self) -> Wait<'a> {
        Wait::new(self.patience, self.hurry)
    }

    /// Who the target says that it is.
    ///
    /// # Errors
    /// It does not answer, or is of another network.
    pub fn introduce(&mut self) -> Result<Introduction, VisitError> {
        let nonce = self.dice.any();
        let visitor = Visitor::dial(self.target, &self.dialect, nonce, self.wait())?;
        thread::park_timeout(STAY);
        self.dialect.height = visitor.introduction.height.max(0);
        Ok(visitor.introduction)
    }

    /// The chain that the target is on by its own account; `None` where it cannot be asked.
    pub fn chain(&mut self) -> Option<Result<String, Unsaid>> {
        self.asker.chain()
    }

    /// How the target is now.
    pub fn look(&mut self) -> Health {
        // Before we come in: our own visits are not to be counted.
        let said = self.asker.all();
        self.look_and_say(said)
    }

    fn look_and_say(&mut self, said: Said) -> Health {
        let usage = self.process.and_then(process::usage);
        let at = self.started.elapsed();
        let handshake = self.come_in();
        let block = match (&handshake, self.follower.is_some()) {
            (Ok(_), true) => Some(self.follow()),
            (Ok(_), false) | (Err(_), _) => None,
        };
        Health {
            at,
            handshake,
            block,
            rpc: said.answered,
            peers: said.peers,
            audit: said.audit,
            memory: usage.map(|usage| usage.memory),
            descriptors: usage.map(|usage| usage.descriptors),
            alive: self.process.map(process::is_alive),
        }
    }

    /// How the target is before anybody has come. What it counts is looked at for a moment,
    /// so that a visit of ours which it is about to forget is not taken for a peer.
    pub fn look_before(&mut self) -> Health {
        let counts = |it: &mut Self| {
            let peers = it.asker.peers();
            let usage = it.process.and_then(process::usage);
            (peers, usage.map(|usage| usage.descriptors))
        };
        let mut least = counts(self);
        for _ in 0..READINGS {
            thread::park_timeout(READ_EVERY);
            let (peers, descriptors) = counts(self);
            least = (least.0.min(peers), least.1.min(descriptors));
        }
        let health = self.look();
        Health {
            peers: least.0,
            descriptors: least.1,
            ..health
        }
    }

    /// How the target is when everybody has gone: as soon as it counts no more peers than
    /// `before`, its audit is clean, and no descriptors are left open; or when it has had its
    /// time.
    pub fn look_when_settled(&mut self, before: &Health) -> Health {
        for _ in 0..SETTLES {
            let wait = self.wait();
            while !wait.is_over() {
                if let Some(said) = self.settled(before) {
                    return self.look_and_say(said);
                }
                thread::park_timeout(RETRY);
            }
        }
        self.look()
    }

    /// What it says when it is settled. An audit may be unclean while connections are on
    /// their way out.
    fn settled(&mut self, before: &Health) -> Option<Said> {
        let said = self.asker.all();
        let is_busy = matches!(said.answered, Some(Err(Unsaid::Later(_))));
        let descriptors = self.process.and_then(process::usage);
        let descriptors = descriptors.map(|usage| usage.descriptors);
        let ghosts = said
            .peers
            .zip(before.peers)
            .is_some_and(|(is, was)| is > was);
        let open = descriptors.zip(before.descriptors);
        let open = open.is_some_and(|(is, was)| verdict::are_left_open(is, was));
        let unclean = matches!(said.audit, Some(Err(_)));
        let settled = !is_busy && !ghosts && !open && !unclean;
        settled.then_some(said)
    }

    /// Tries to come in until its patience ends. One who is told to go, by a close or a
    /// reset, comes again, as honest peers do; how long it took in all counts.
    fn come_in(&mut self) -> Result<Duration, VisitError> {
        let wait = self.wait();
        loop {
            let nonce = self.dice.any();
            match Visitor::dial(self.target, &self.dialect, nonce, wait) {
                Ok(_visitor) => {
                    let took = wait.took();
                    thread::park_timeout(STAY);
                    return Ok(took);
                }
                Err(error) if wait.left() <= RETRY => return Err(error),
                Err(_) => thread::park_timeout(RETRY),
            }
        }
    }

    /// The same for a block: whoever is sent away before it is through comes again.
    fn follow(&mut self) -> Result<Followed, VisitError> {
        let wait = self.wait();
        let seed = self.dice.any();
        loop {
            let follower = self.follower.as_mut().expect("only where there is one");
            match follower.probe(self.target, &self.dialect, seed, wait) {
                Err(error) if wait.left() <= RETRY => return Err(error),
                Err(_) => thread::park_timeout(RETRY),
                Ok(Followed::After(_)) => return Ok(Followed::After(wait.took())),
                not @ Ok(Followed::Not { .. }) => return not,
            }
        }
    }
}
