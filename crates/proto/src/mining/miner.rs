//! The machine: what is mined, when, and how verdicts are handled.
//!
//! # Stale work
//! A solution is submitted only if it builds on the tip: a new tip replaces the work in the step
//! that reports it, so that solutions for the old one are unknown from then on; and the actor that
//! submits checks the tip again, which may have changed since. A template that was replaced by a
//! refresh is still valid: a solution for it is submitted too.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use bitcoin::{BlockHash, ScriptBuf};
use handfast_wire::Network;

use super::generate::{JobStep, Requests};
use super::next_block::NextBlock;
use super::rate::Rate;
use super::template::{Payout, Template};
use super::vocabulary::{Chain, Effect, GenerateFailure, Input, News, Totals, Why};
use crate::random::Random;
use crate::sync::{Reject, RejectKind, SubmitResult};
use crate::time::{Now, earliest};

/// Age at which a template is replaced by one with the current time.
pub const REFRESH: Duration = Duration::from_secs(30);
/// Time between two reports for the log.
pub const PROGRESS_INTERVAL: Duration = Duration::from_secs(60);
/// Pause of mining after a block of ours was refused, or was stored and did not become the tip: an
/// immediate retry would fail the same way.
pub const BACK_OFF: Duration = Duration::from_secs(10);
/// Least time between two log lines about blocks found.
const LOG_INTERVAL: Duration = Duration::from_secs(1);

/// The configuration of a [`Miner`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MinerConfig {
    /// The network.
    pub network: Network,
    /// Least time between two blocks of ours; zero: as fast as they are found.
    pub interval: Duration,
    /// Text for the coinbase, at most [`MAX_TAG`](super::MAX_TAG) bytes.
    pub tag: Vec<u8>,
    /// Makes our work differ from that of other miners with the same payout.
    pub seed: u64,
}

/// The miner's machine. See the module.
#[derive(Clone, Debug)]
pub struct Miner {
    pub(super) config: MinerConfig,
    pub(super) salt: u32,
    pub(super) chain: Chain,
    pub(super) mining: Option<Mining>,
    pub(super) requests: Requests,
    /// The last generation of templates, for the hash threads and on demand.
    pub(super) generation: u64,
    pub(super) submissions: u64,
    pub(super) submitted: BTreeMap<u64, Submitted>,
    pub(super) rate: Rate,
    /// Hashes of the current hash threads when last read, and of those before them.
    pub(super) hashes: u64,
    pub(super) hashes_before: u64,
    pub(super) totals: Totals,
}

/// A block whose verdict is awaited.
#[derive(Clone, Copy, Debug)]
pub(super) struct Submitted {
    pub(super) hash: BlockHash,
    pub(super) parent: BlockHash,
    pub(super) height: u32,
    pub(super) on_demand: bool,
}

#[derive(Clone, Debug)]
pub(super) struct Mining {
    pub(super) threads: usize,
    pub(super) payout: ScriptBuf,
    pub(super) activity: Activity,
    /// The current template was replaced for its age; a solution for it is still valid.
    pub(super) refreshed: Option<Work>,
    /// When the next search may start.
    pub(super) due: Duration,
    /// The last block was refused, and `due` is the end of the back-off.
    pub(super) refused: Option<String>,
    /// When the last block was found, or mining began.
    pub(super) last_found: Duration,
    /// When a found block was last logged.
    pub(super) last_line: Option<Duration>,
    pub(super) next_progress: Duration,
}

#[derive(Clone, Debug)]
pub(super) enum Activity {
    Waiting(Why),
    Hashing { work: Work, since: Duration },
    Judging { submission: u64, parent: BlockHash },
}

#[derive(Clone, Debug)]
pub(super) struct Work {
    pub(super) generation: u64,
    pub(super) template: Arc<Template>,
}

impl Miner {
    /// A machine that does nothing yet. `totals`: the counters of earlier runs.
    #[must_use]
    pub fn new(config: MinerConfig, chain: Chain, totals: Totals) -> Self {
        let mut random = Random::new(config.seed);
        Self {
            salt: random.draw() as u32,
            config,
            chain,
            mining: None,
            requests: Requests::default(),
            generation: 0,
            submissions: 0,
            submitted: BTreeMap::new(),
            rate: Rate::default(),
            hashes: 0,
            hashes_before: 0,
            totals,
        }
    }

    /// Takes one input and returns its effects.
    pub fn step(&mut self, now: Now, input: Input) -> Vec<Effect> {
        let mut effects = Vec::new();
        match input {
            Input::Start { threads, payout } => self.start(now, threads, payout),
            Input::Stop => self.stop(&mut effects),
            Input::Generate(request) => self.requests.push(request),
            Input::Abandon { ticket } => self.requests.abandon(ticket),
            Input::Chain(chain) => self.chain = *chain,
            Input::Solved {
                generation,
                extra_nonce,
                header,
            } => self.solved(now, generation, extra_nonce, &header, &mut effects),
            Input::Searched { generation, found } => self.searched(generation, found, &mut effects),
            Input::Judged { submission, result } => {
                self.judged(now, submission, result, &mut effects);
            }
            Input::Tick { hashes } => self.hashes = hashes,
        }
        self.count(now, &mut effects);
        self.plan(now, &mut effects);
        self.carry_on(now, &mut effects);
        effects
    }

    /// When the next [`Input::Tick`] is due.
    #[must_use]
    pub fn deadline(&self) -> Option<Duration> {
        let mining = self.mining.as_ref()?;
        let due = match mining.activity {
            Activity::Waiting(Why::Paced | Why::Refused(_)) => Some(mining.due),
            _ => None,
        };
        earliest(due, Some(self.rate.due()))
    }

    pub(super) fn tip(&self) -> BlockHash {
        self.chain.tree.tip().hash
    }

    pub(super) fn payout(&self, script: &ScriptBuf) -> Payout {
        Payout {
            script: script.clone(),
            tag: self.config.tag.clone(),
            salt: self.salt,
        }
    }

    /// The block to build on the tip.
    pub(super) fn next_block(&self, now: Now) -> NextBlock {
        NextBlock::after(
            &self.chain.tree,
            &self.tip(),
            &self.config.network,
            now.unix,
        )
        .expect("the tip is in its tree")
    }

    // ---- Mining.

    fn start(&mut self, now: Now, threads: usize, payout: ScriptBuf) {
        // Repeated starts are paced too.
        let due = self.mining.take().map_or(now.mono, |before| before.due);
        self.hashes_before += std::mem::take(&mut self.hashes);
        self.rate.clear();
        self.mining = Some(Mining {
            threads,
            payout,
            activity: Activity::Waiting(Why::Off),
            refreshed: None,
            due,
            refused: None,
            last_found: now.mono,
            last_line: None,
            next_progress: now.mono + PROGRESS_INTERVAL,
        });
    }

    fn stop(&mut self, effects: &mut Vec<Effect>) {
        if self.mining.take().is_some() {
            self.hashes_before += std::mem::take(&mut self.hashes);
            self.rate.clear();
            effects.push(Effect::Idle);
        }
    }

    fn count(&mut self, now: Now, effects: &mut Vec<Effect>) {
        let Some(mining) = &mut self.mining else {
            return;
        };
        self.rate.sample(now.mono, self.hashes);
        if mining.next_progress <= now.mono {
            mining.next_progress = now.mono + PROGRESS_INTERVAL;
            effects.push(Effect::Log(News::Progress));
        }
    }

    /// The block to search for, or why none is.
    fn wanted(&self, now: Now, mining: &Mining) -> Result<NextBlock, Why> {
        if !self.chain.running {
            return Err(Why::NotRunning);
        }
        if self.chain.initial_block_download && self.config.network.always_mined() {
            return Err(Why::InitialBlockDownload);
        }
        if now.mono < mining.due {
            return Err(mining.refused.clone().map_or(Why::Paced, Why::Refused));
        }
        let next = self.next_block(now);
        if next.is_too_far_ahead(now.unix) {
            return Err(Why::TooFarAhead);
        }
        Ok(next)
    }

    /// Updates the work of the hash threads by the chain, the clock and the pace.
    fn plan(&mut self, now: Now, effects: &mut Vec<Effect>) {
        let Some(mining) = &self.mining else { return };
        let tip = self.tip();
        match &mining.activity {
            Activity::Judging { parent, .. } if *parent == tip => return,
            Activity::Hashing { work, since }
                if work.template.next().parent == tip
                    && self.chain.running
                    && now.mono < *since + REFRESH
                    && work.template.next().easier_from.is_none_or(|from| {
                        now.unix < from || from <= work.template.next().time
                    }) =>
            {
                return;
            }
            Activity::Waiting(_) | Activity::Hashing { .. } | Activity::Judging { .. } => {}
        }
        let wanted = self.wanted(now, mining);
        let template = wanted.map(|next| {
            let payout = self.payout(&mining.payout);
            Arc::new(Template::new(next, &payout, Vec::new()))
        });
        self.set_activity(now, template, effects);
    }

    fn set_activity(
        &mut self,
        now: Now,
        wanted: Result<Arc<Template>, Why>,
        effects: &mut Vec<Effect>,
    ) {
        let mining = self.mining.as_mut().expect("checked by the caller");
        let before = match &mining.activity {
            Activity::Hashing { work, .. } => Some(work.clone()),
            Activity::Waiting(_) | Activity::Judging { .. } => None,
        };
        match wanted {
            Err(why) => {
                if before.is_some() {
                    effects.push(Effect::Idle);
                }
                mining.activity = Activity::Waiting(why);
            }
            Ok(template) => {
                mining.refused = None;
                mining.refreshed =
                    before.filter(|work| work.template.next().parent == template.next().parent);
                self.generation += 1;
                let generation = self.generation;
                effects.push(Effect::Work {
                    generation,
                    template: template.clone(),
                });
                mining.activity = Activity::Hashing {
                    work: Work {
                        generation,
                        template,
                    },
                    since: now.mono,
                };
            }
        }
    }

    fn solved(
        &mut self,
        now: Now,
        generation: u64,
        extra_nonce: u64,
        header: &[u8; 80],
        effects: &mut Vec<Effect>,
    ) {
        let tip = self.tip();
        let Some(mining) = &mut self.mining else {
            return;
        };
        let Activity::Hashing { work, .. } = &mining.activity else {
            return;
        };
        let of_it = [Some(work), mining.refreshed.as_ref()]
            .into_iter()
            .flatten()
            .find(|work| work.generation == generation);
        let Some(Work { template, .. }) = of_it.cloned() else {
            return;
        };
        let next = *template.next();
        assert_eq!(
            next.parent, tip,
            "a new tip replaces the work in its own step"
        );
        let block = template.block(header, extra_nonce);
        self.submissions += 1;
        let submission = self.submissions;
        mining.activity = Activity::Judging {
            submission,
            parent: next.parent,
        };
        // Now, and not at the verdict: the tip may be seen to change before that. The pace is
        // steady, but lateness is not compensated by haste.
        let beat = mining.due + self.config.interval;
        mining.due = if now.mono < beat {
            beat
        } else {
            now.mono + self.config.interval
        };
        self.submitted.insert(
            submission,
            Submitted {
                hash: block.hash,
                parent: next.parent,
                height: next.height,
                on_demand: false,
            },
        );
        // It may have been for the template before the current one.
        effects.push(Effect::Idle);
        effects.push(Effect::Submit { submission, block });
    }

    fn stale(&mut self, height: u32, effects: &mut Vec<Effect>) {
        self.totals.stale += 1;
        let stale = self.totals.stale;
        effects.push(Effect::Log(News::Stale { height, stale }));
    }

    // ---- What was submitted.

    fn judged(
        &mut self,
        now: Now,
        submission: u64,
        result: Option<SubmitResult>,
        effects: &mut Vec<Effect>,
    ) {
        let Some(block) = self.submitted.remove(&submission) else {
            return;
        };
        let failure = match result {
            Some(SubmitResult::Accepted) => {
                if block.on_demand {
                    self.totals.generated += 1;
                } else {
                    self.found(now, submission, &block, effects);
                }
                None
            }
            Some(SubmitResult::Rejected(reject)) => Some(GenerateFailure::Refused(reject)),
            Some(SubmitResult::DuplicateInvalid) => Some(GenerateFailure::Refused(Reject {
                kind: RejectKind::CachedInvalid,
                reason: "duplicate-invalid".to_owned(),
            })),
            Some(SubmitResult::Failed(why)) => Some(GenerateFailure::Failed(why)),
            None
            | Some(
                SubmitResult::Duplicate
                | SubmitResult::DuplicateInconclusive
                | SubmitResult::Inconclusive,
            ) => {
                self.stale(block.height, effects);
                return self.too_late(now, submission, &block);
            }
        };
        if let Some(failure) = &failure {
            self.totals.refused += 1;
            effects.push(Effect::Log(News::Refused {
                height: block.height,
                why: failure.to_string(),
            }));
        }
        if block.on_demand {
            self.job_judged(submission, block.hash, failure, effects);
        } else if let Some(failure) = failure {
            self.back_off(now, submission, failure.to_string());
        }
    }

    fn found(&mut self, now: Now, of: u64, block: &Submitted, effects: &mut Vec<Effect>) {
        self.totals.found += 1;
        let Some(mining) = &mut self.mining else {
            return;
        };
        let rate_limited = mining
            .last_line
            .is_some_and(|last| now.mono < last + LOG_INTERVAL);
        if !rate_limited {
            mining.last_line = Some(now.mono);
        }
        effects.push(Effect::Log(News::Found {
            hash: block.hash,
            height: block.height,
            took: now.mono.saturating_sub(mining.last_found),
            found: self.totals.found,
            rate_limited,
        }));
        mining.last_found = now.mono;
        if matches!(mining.activity, Activity::Judging { submission, .. } if submission == of) {
            mining.activity = Activity::Waiting(Why::Off); // until the plan, in this step
        }
    }

    /// Another block became the tip first.
    fn too_late(&mut self, now: Now, submission: u64, block: &Submitted) {
        if block.on_demand {
            if let Some(job) = self.job_of(submission) {
                // It costs a try, so that the request ends in any case.
                job.spend(1);
                job.step = JobStep::Begin;
            }
        } else if self.tip() == block.parent {
            let why = "it was stored, and did not become the tip".to_owned();
            self.back_off(now, submission, why);
        } else if let Some(mining) = &mut self.mining {
            // It does not delay the next block.
            mining.due = mining.due.min(now.mono);
        }
    }

    fn back_off(&mut self, now: Now, of: u64, why: String) {
        let Some(mining) = &mut self.mining else {
            return;
        };
        if matches!(mining.activity, Activity::Judging { submission, .. } if submission == of) {
            mining.due = now.mono + BACK_OFF.max(self.config.interval);
            mining.activity = Activity::Waiting(Why::Refused(why.clone()));
            mining.refused = Some(why);
        }
    }
}
