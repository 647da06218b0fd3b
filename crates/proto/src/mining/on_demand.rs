//! Mining blocks on demand. The requests themselves are in `generate`.

use std::sync::Arc;

use bitcoin::BlockHash;
use handfast_wire::RawBlock;

use super::generate::{Job, JobStep, Search};
use super::miner::{Miner, Submitted};
use super::template::Template;
use super::vocabulary::{Effect, GenerateFailure, GenerateRequest};
use crate::time::Now;

impl Miner {
    pub(super) fn job_of(&mut self, of: u64) -> Option<&mut Job> {
        self.requests
            .current
            .as_mut()
            .filter(|job| matches!(job.step, JobStep::Judging { submission } if submission == of))
    }

    pub(super) fn job_judged(
        &mut self,
        submission: u64,
        hash: BlockHash,
        failure: Option<GenerateFailure>,
        effects: &mut Vec<Effect>,
    ) {
        let Some(job) = self.job_of(submission) else {
            return;
        };
        match failure {
            None => {
                job.made(hash);
                job.step = JobStep::Begin;
            }
            Some(failure) => {
                let ticket = job.request.ticket;
                self.requests.current = None;
                let result = Err(failure);
                effects.push(Effect::Answer { ticket, result });
            }
        }
    }

    /// Starts or continues the next block of the next request, until one of them waits.
    pub(super) fn carry_on(&mut self, now: Now, effects: &mut Vec<Effect>) {
        loop {
            self.requests.take_turns();
            if self.requests.next().is_none() && self.requests.current.is_none() {
                return;
            }
            let (running, tip) = (self.chain.running, self.tip());
            let job = self.requests.current.as_mut().expect("checked above");
            match &job.step {
                JobStep::Begin => {}
                JobStep::Searching(_) | JobStep::Judging { .. } => return,
                JobStep::Paused(search) if running && search.template.next().parent == tip => {
                    let search = search.clone();
                    return self.search(search, effects);
                }
                JobStep::Paused(_) => job.step = JobStep::Begin,
            }
            let ticket = job.request.ticket;
            if !running || job.is_over() {
                let result = if job.is_over() {
                    Ok(job.generated())
                } else {
                    Err(GenerateFailure::NotRunning)
                };
                effects.push(Effect::Answer { ticket, result });
                self.requests.current = None;
                continue;
            }
            self.generation += 1;
            let generation = self.generation;
            let template = self.template_for(now);
            let job = self.requests.current.as_mut().expect("checked above");
            let search = job.begin(generation, template);
            self.search(search, effects);
        }
    }

    fn template_for(&self, now: Now) -> Arc<Template> {
        let GenerateRequest {
            payout,
            transactions,
            ..
        } = &self
            .requests
            .current
            .as_ref()
            .expect("the caller's")
            .request;
        let payout = self.payout(payout);
        Arc::new(Template::new(
            self.next_block(now),
            &payout,
            transactions.clone(),
        ))
    }

    fn search(&mut self, search: Search, effects: &mut Vec<Effect>) {
        let job = self.requests.current.as_mut().expect("the caller's");
        effects.push(Effect::Search {
            ticket: job.request.ticket,
            generation: search.generation,
            template: search.template.clone(),
            extra_nonce: search.extra_nonce,
            nonces: search.nonces.clone(),
        });
        job.step = JobStep::Searching(search);
    }

    pub(super) fn searched(
        &mut self,
        generation: u64,
        found: Option<u32>,
        effects: &mut Vec<Effect>,
    ) {
        let tip = self.tip();
        let Some(job) = &mut self.requests.current else {
            return;
        };
        let JobStep::Searching(search) = &job.step else {
            return;
        };
        if search.generation != generation {
            return;
        }
        let search = search.clone();
        let Some(nonce) = found else {
            let others_wait = self.requests.others_wait();
            let job = self.requests.current.as_mut().expect("checked above");
            match job.go_on(&search) {
                Some(next) if others_wait => job.step = JobStep::Paused(next),
                Some(next) if search.template.next().parent == tip => self.search(next, effects),
                Some(_) | None => job.step = JobStep::Begin,
            }
            return;
        };
        job.spend(u64::from(nonce) - search.nonces.start);
        if search.template.next().parent != tip {
            job.spend(1);
            job.step = JobStep::Begin;
            return;
        }
        let block = search
            .template
            .block(&search.header(nonce), search.extra_nonce);
        if job.request.submit {
            self.submit_on_demand(block, &search, effects);
        } else {
            let ticket = job.request.ticket;
            let mut generated = job.generated();
            generated.hashes.push(block.hash);
            generated.block = Some(block);
            self.requests.current = None;
            let result = Ok(generated);
            effects.push(Effect::Answer { ticket, result });
        }
    }

    fn submit_on_demand(&mut self, block: RawBlock, search: &Search, effects: &mut Vec<Effect>) {
        self.submissions += 1;
        let submission = self.submissions;
        let next = search.template.next();
        self.submitted.insert(
            submission,
            Submitted {
                hash: block.hash,
                parent: next.parent,
                height: next.height,
                on_demand: true,
            },
        );
        let job = self.requests.current.as_mut().expect("the caller's");
        job.step = JobStep::Judging { submission };
        effects.push(Effect::Submit { submission, block });
    }
}
