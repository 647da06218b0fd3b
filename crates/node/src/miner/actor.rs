//! `Miner`: performs the machine's effects. Threads hash, blocking threads search for blocks on
//! demand, and found blocks are submitted like any others.
//!
//! # When it dies
//! The node continues, since it can run without mining. The miner's guard reports it in the log, in
//! the warnings and in the mining state; waiting callers get an error, and mining cannot be started
//! again before the node is restarted.

use std::collections::{BTreeMap, VecDeque};
use std::io;
use std::ops::Range;
use std::sync::Arc;

use actix::fut::wrap_future;
use actix::{
    Actor, ActorContext, ActorFutureExt, AsyncContext, Context, Handler, MessageResult, Recipient,
};
use bitcoin::ScriptBuf;
use handfast_proto::mining::{
    Chain, Effect, GenerateFailure, Generated, Input, Miner as Machine, MinerConfig, MiningState,
    News, Template, Totals,
};
use handfast_proto::text::passed;
use handfast_sha256d::Engine;
use handfast_wire::RawBlock;
use tokio::sync::oneshot;
use tokio::time::Instant;

use super::hash_threads::{HashThreads, Solved, Work};
use crate::alarm::{self, Timed};
use crate::miner::messages::{GenerateBlocks, MinerSolved, StartMining, StopMiner, StopMining};
use crate::post::{post, post_to};
use crate::shared::Shared;
use crate::sync_manager::messages::SubmitMined;
use crate::view::{ChainView, Phase};

type Answer = oneshot::Sender<Result<Generated, GenerateFailure>>;

/// See the module.
#[derive(Debug)]
pub(crate) struct Miner {
    machine: Machine,
    /// While mining is on.
    threads: Option<HashThreads>,
    sync: Recipient<SubmitMined>,
    shared: Arc<Shared>,
    /// The view of the chain that the machine knows.
    seen: Arc<ChainView>,
    /// Callers that wait for blocks on demand.
    answers: BTreeMap<u64, Answer>,
    next_ticket: u64,
    /// Mining from the start on: threads and payout script.
    at_start: Option<(usize, ScriptBuf)>,
    guard: MinerGuard,
}

/// Reports the end of the miner, unless it was stopped.
#[derive(Debug)]
struct MinerGuard(Option<Arc<Shared>>);

impl Drop for MinerGuard {
    fn drop(&mut self) {
        let Some(shared) = self.0.take() else { return };
        let how = if std::thread::panicking() {
            "it panicked"
        } else {
            "its arbiter ended"
        };
        tracing::error!(how, "the miner died; the node continues without it");
        shared.miner_died(how);
    }
}

fn chain(view: &ChainView) -> Box<Chain> {
    Box::new(Chain {
        tree: view.tree.clone(),
        running: view.phase == Phase::Running,
        initial_block_download: view.initial_block_download,
    })
}

impl Miner {
    /// `at_start`: number of threads and payout script of mining from the start on.
    pub(crate) fn new(
        config: MinerConfig,
        totals: Totals,
        sync: Recipient<SubmitMined>,
        shared: Arc<Shared>,
        at_start: Option<(usize, ScriptBuf)>,
    ) -> Self {
        let seen = shared.view.load_full();
        Self {
            machine: Machine::new(config, *chain(&seen), totals),
            threads: None,
            sync,
            guard: MinerGuard(Some(shared.clone())),
            shared,
            seen,
            answers: BTreeMap::new(),
            next_ticket: 0,
            at_start,
        }
    }

    /// One step of the machine, after it was given the chain if there is a newer view.
    fn step(&mut self, input: Option<Input>, ctx: &mut Context<Self>) {
        let mut inputs = VecDeque::with_capacity(2);
        let view = self.shared.view.load_full();
        if !Arc::ptr_eq(&view, &self.seen) {
            inputs.push_back(Input::Chain(chain(&view)));
            self.seen = view;
        }
        inputs.extend(input);
        let now = self.shared.clock.now();
        let (mut news, mut answers) = (Vec::new(), Vec::new());
        while let Some(input) = inputs.pop_front() {
            for effect in self.machine.step(now, input) {
                match effect {
                    Effect::Work {
                        generation,
                        template,
                    } => self.work(generation, template),
                    Effect::Idle => {
                        if let Some(threads) = &self.threads {
                            threads.idle();
                        }
                    }
                    Effect::Search { ticket, .. } if self.nobody_waits(ticket) => {
                        inputs.push_back(Input::Abandon { ticket });
                    }
                    Effect::Search {
                        generation,
                        template,
                        extra_nonce,
                        nonces,
                        ..
                    } => search(generation, template, extra_nonce, nonces, ctx),
                    Effect::Submit { submission, block } => self.submit(submission, block, ctx),
                    Effect::Answer { ticket, result } => {
                        answers.extend(self.answers.remove(&ticket).map(|it| (it, result)));
                    }
                    Effect::Log(line) => news.push(line),
                }
            }
        }
        let state = Arc::new(self.machine.state(now));
        self.shared.mining.store(state.clone());
        // The counters are updated before the caller gets the block.
        for (answer, result) in answers {
            let _ = answer.send(result);
        }
        for line in news {
            tell(&line, &state);
        }
    }

    fn work(&self, generation: u64, template: Arc<Template>) {
        let Some(threads) = &self.threads else { return };
        let target = template.next().target().to_le_bytes();
        threads.work(Work {
            generation,
            jobs: Arc::new(move |extra_nonce| template.header(extra_nonce)),
            target,
        });
    }

    fn nobody_waits(&mut self, ticket: u64) -> bool {
        let gone = self.answers.get(&ticket).is_none_or(Answer::is_closed);
        if gone {
            self.answers.remove(&ticket);
        }
        gone
    }

    /// Submits the block; the machine receives the verdict.
    fn submit(&self, submission: u64, block: RawBlock, ctx: &mut Context<Self>) {
        let (answer, wait) = oneshot::channel();
        post_to(&self.sync, SubmitMined { block, answer });
        ctx.spawn(wrap_future::<_, Self>(wait).map(move |result, miner, ctx| {
            let result = result.ok();
            miner.step(Some(Input::Judged { submission, result }), ctx);
        }));
    }

    /// Starts threads, or replaces the running ones.
    fn start(
        &mut self,
        threads: usize,
        payout: ScriptBuf,
        ctx: &mut Context<Self>,
    ) -> io::Result<()> {
        let to = ctx.address();
        // The old ones end first: they are as many as there are cores.
        self.threads = None;
        let started = HashThreads::start(threads, move |solved| post(&to, MinerSolved(solved)));
        match started {
            Ok(started) => {
                tracing::info!(threads, engine = started.engine(), "mining starts");
                self.threads = Some(started);
                self.step(Some(Input::Start { threads, payout }), ctx);
                Ok(())
            }
            Err(error) => {
                self.step(Some(Input::Stop), ctx);
                Err(error)
            }
        }
    }

    fn stop(&mut self, ctx: &mut Context<Self>) -> Arc<MiningState> {
        if self.threads.is_some() {
            self.count(ctx);
            tracing::info!("mining stops");
        }
        self.step(Some(Input::Stop), ctx);
        self.threads = None;
        self.shared.mining.load_full()
    }

    fn count(&mut self, ctx: &mut Context<Self>) {
        let hashes = self.threads.as_ref().map_or(0, HashThreads::hashes);
        self.step(Some(Input::Tick { hashes }), ctx);
    }

    /// Steps the machine on every change of the view, such as a new tip.
    fn listen(&mut self, ctx: &mut Context<Self>) {
        let mut news = self.shared.news.subscribe();
        ctx.spawn(
            wrap_future::<_, Self>(async move {
                // The sender is held by `Shared`, and so by this actor.
                let _ = news.changed().await;
            })
            .map(|(), miner, ctx| {
                miner.listen(ctx);
                miner.step(None, ctx);
            }),
        );
    }
}

/// Searches on a blocking thread; the machine keeps each search short.
fn search(
    generation: u64,
    template: Arc<Template>,
    extra_nonce: u64,
    nonces: Range<u64>,
    ctx: &mut Context<Miner>,
) {
    let search = tokio::task::spawn_blocking(move || {
        let target = template.next().target().to_le_bytes();
        Engine::best().search(&template.header(extra_nonce), &target, nonces)
    });
    ctx.spawn(
        wrap_future::<_, Miner>(search).map(move |found, miner, ctx| match found {
            Ok(found) => miner.step(Some(Input::Searched { generation, found }), ctx),
            // It panicked; so does the miner, whose guard reports it.
            Err(error) => panic!("a search failed: {error}"),
        }),
    );
}

/// Hashes per second, for people.
fn rate(state: &MiningState) -> String {
    let rate = state.hashes_per_second;
    match rate {
        _ if rate >= 1e9 => format!("{:.2} GH/s", rate / 1e9),
        _ if rate >= 1e6 => format!("{:.2} MH/s", rate / 1e6),
        _ if rate >= 1e3 => format!("{:.2} kH/s", rate / 1e3),
        _ => format!("{rate:.0} H/s"),
    }
}

fn tell(news: &News, state: &MiningState) {
    match news {
        News::Found {
            hash,
            height,
            took,
            found,
            rate_limited,
        } => {
            // The rate of threads that wait most of the time means nothing.
            let rate = state.interval.is_zero().then(|| rate(state));
            let took = format_args!("{took:.1?}");
            if *rate_limited {
                tracing::debug!(%hash, height, %took, found, rate, "found a block");
            } else {
                tracing::info!(%hash, height, %took, found, rate, "found a block");
            }
        }
        News::Stale { height, stale } => {
            tracing::info!(height, stale, "a block was found too late");
        }
        News::Refused { height, why } => {
            tracing::error!(height, why, "a block of our own was refused");
        }
        News::Progress => tracing::info!(
            height = state.height,
            rate = rate(state),
            found = state.found,
            stale = state.stale,
            expected = state.expected.map(passed),
            "mining: {}",
            state.why
        ),
    }
}

impl Actor for Miner {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Self::Context) {
        ctx.set_mailbox_capacity(0);
        alarm::start(ctx);
        self.listen(ctx);
        // Changes since this actor was created.
        self.step(None, ctx);
        if let Some((threads, payout)) = self.at_start.take()
            && let Err(error) = self.start(threads, payout, ctx)
        {
            tracing::error!(%error, threads, "mining does not start: its threads cannot be started");
        }
    }
}

impl Timed for Miner {
    fn deadline(&self) -> Option<Instant> {
        let due = self.machine.deadline();
        due.map(|mono| self.shared.clock.instant(mono))
    }

    fn on_deadline(&mut self, ctx: &mut Self::Context) {
        self.count(ctx);
    }
}

impl Handler<MinerSolved> for Miner {
    type Result = ();
    fn handle(&mut self, MinerSolved(solved): MinerSolved, ctx: &mut Self::Context) {
        let Solved {
            generation,
            extra_nonce,
            header,
        } = solved;
        let input = Input::Solved {
            generation,
            extra_nonce,
            header,
        };
        self.step(Some(input), ctx);
    }
}

impl Handler<StartMining> for Miner {
    type Result = Result<Arc<MiningState>, io::Error>;
    fn handle(
        &mut self,
        StartMining { threads, payout }: StartMining,
        ctx: &mut Self::Context,
    ) -> Self::Result {
        self.start(threads, payout, ctx)?;
        Ok(self.shared.mining.load_full())
    }
}

impl Handler<StopMining> for Miner {
    type Result = MessageResult<StopMining>;
    fn handle(&mut self, _: StopMining, ctx: &mut Self::Context) -> Self::Result {
        MessageResult(self.stop(ctx))
    }
}

impl Handler<GenerateBlocks> for Miner {
    type Result = ();
    fn handle(&mut self, message: GenerateBlocks, ctx: &mut Self::Context) {
        let GenerateBlocks {
            mut request,
            answer,
        } = message;
        request.ticket = self.next_ticket;
        self.next_ticket += 1;
        self.answers.insert(request.ticket, answer);
        self.step(Some(Input::Generate(request)), ctx);
    }
}

impl Handler<StopMiner> for Miner {
    type Result = ();
    fn handle(&mut self, _: StopMiner, ctx: &mut Self::Context) {
        self.stop(ctx);
        self.guard.0 = None;
        // Waiting callers get an error from the dropped sender.
        self.answers.clear();
        ctx.stop();
    }
}
