//! A miner, a chain that grows on demand, and threads that find a block when a test says so.

use std::sync::Arc;
use std::time::Duration;

use bitcoin::{BlockHash, ScriptBuf};
use handfast_wire::{Network, RawBlock};

use super::super::{
    Chain, Effect, GenerateFailure, GenerateRequest, Generated, Input, Miner, MinerConfig, News,
    Template, Totals,
};
use crate::headers::HeaderTree;
use crate::sync::SubmitResult;
use crate::testing::Blocks;
use crate::time::Now;

pub(super) struct World {
    pub(super) miner: Miner,
    pub(super) now: Now,
    pub(super) chain: Chain,
    /// The current work of the threads.
    pub(super) work: Option<(u64, Arc<Template>)>,
    /// Every template that they got.
    pub(super) templates: Vec<(u64, Arc<Template>)>,
    pub(super) searches: Vec<Effect>,
    pub(super) submitted: Vec<(u64, RawBlock)>,
    pub(super) answers: Vec<(u64, Result<Generated, GenerateFailure>)>,
    pub(super) news: Vec<News>,
    pub(super) hashes: u64,
}

pub(super) fn payout() -> ScriptBuf {
    ScriptBuf::from_bytes(vec![0x51])
}

/// The nonce that solves the template's header for this extra nonce.
pub(super) fn solve(template: &Template, extra_nonce: u64) -> [u8; 80] {
    let mut header = template.header(extra_nonce);
    loop {
        let read: bitcoin::block::Header =
            bitcoin::consensus::deserialize(&header).expect("a header");
        if template.next().target().is_met_by(read.block_hash()) {
            return header;
        }
        header[76..].copy_from_slice(&(read.nonce + 1).to_le_bytes());
    }
}

impl World {
    pub(super) fn new(interval: Duration) -> Self {
        Self::on(Network::Regtest, interval, Blocks::new(10, 1).tree())
    }

    pub(super) fn on(network: Network, interval: Duration, tree: HeaderTree) -> Self {
        let now = Now {
            mono: Duration::from_secs(100),
            unix: tree.tip().header.time + 60,
        };
        let chain = Chain {
            tree,
            running: true,
            initial_block_download: false,
        };
        let config = MinerConfig {
            network,
            interval,
            tag: b"/Handfast/".to_vec(),
            seed: 1,
        };
        Self {
            miner: Miner::new(config, chain.clone(), Totals::default()),
            now,
            chain,
            work: None,
            templates: Vec::new(),
            searches: Vec::new(),
            submitted: Vec::new(),
            answers: Vec::new(),
            news: Vec::new(),
            hashes: 0,
        }
    }

    pub(super) fn step(&mut self, input: Input) {
        for effect in self.miner.step(self.now, input) {
            match effect {
                Effect::Work {
                    generation,
                    template,
                } => {
                    self.templates.push((generation, template.clone()));
                    self.work = Some((generation, template));
                }
                Effect::Idle => self.work = None,
                Effect::Search { .. } => self.searches.push(effect),
                Effect::Submit { submission, block } => self.submitted.push((submission, block)),
                Effect::Answer { ticket, result } => self.answers.push((ticket, result)),
                Effect::Log(news) => self.news.push(news),
            }
        }
    }

    pub(super) fn start(&mut self) {
        self.step(Input::Start {
            threads: 2,
            payout: payout(),
        });
    }

    pub(super) fn tick(&mut self) {
        self.step(Input::Tick {
            hashes: self.hashes,
        });
    }

    /// Lets time pass, with every tick that the machine's deadline requires.
    pub(super) fn pass(&mut self, time: Duration) {
        let end = self.now.after(time);
        while let Some(due) = self.miner.deadline().filter(|due| *due <= end.mono) {
            let step = due.saturating_sub(self.now.mono);
            let unix_gone = due.as_secs() - self.now.mono.as_secs();
            self.now = Now {
                mono: self.now.mono + step,
                unix: self.now.unix + unix_gone as u32,
            };
            self.tick();
        }
        self.now = end;
    }

    /// A block from elsewhere becomes the tip.
    pub(super) fn foreign_block(&mut self, salt: u64) {
        let tip = self.chain.tree.tip().header;
        let header = crate::testing::mine(&tip, tip.time + 600, salt);
        self.chain.tree.insert(header).expect("on the tip");
        self.chain.tree.connect(&header.block_hash());
        self.give_chain();
    }

    pub(super) fn give_chain(&mut self) {
        self.step(Input::Chain(Box::new(self.chain.clone())));
    }

    /// The threads find the block that they work on.
    pub(super) fn find(&mut self) {
        let (generation, template) = self.work.clone().expect("they work");
        self.find_for(generation, &template);
    }

    pub(super) fn find_for(&mut self, generation: u64, template: &Template) {
        self.step(Input::Solved {
            generation,
            extra_nonce: 5,
            header: solve(template, 5),
        });
    }

    /// The last submitted block becomes the tip, which the miner learns before the verdict.
    pub(super) fn accept(&mut self) -> BlockHash {
        let (submission, block) = self.submitted.pop().expect("submitted");
        assert_eq!(
            block.header.prev_blockhash,
            self.chain.tree.tip().hash,
            "stale work was submitted"
        );
        self.chain.tree.insert(block.header).expect("on the tip");
        self.chain.tree.connect(&block.hash);
        self.give_chain();
        self.judge(submission, Some(SubmitResult::Accepted));
        block.hash
    }

    pub(super) fn judge(&mut self, submission: u64, result: Option<SubmitResult>) {
        self.step(Input::Judged { submission, result });
    }

    pub(super) fn request(&mut self, ticket: u64, count: u32, max_tries: u64) -> GenerateRequest {
        GenerateRequest {
            ticket,
            count,
            max_tries,
            payout: payout(),
            transactions: Vec::new(),
            submit: true,
        }
    }
}
