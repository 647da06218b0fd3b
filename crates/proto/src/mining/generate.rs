//! Blocks on demand: one search at a time, and requests take turns, so that one without end keeps
//! no other waiting.

use std::collections::VecDeque;
use std::ops::Range;
use std::sync::Arc;

use bitcoin::BlockHash;

use super::template::Template;
use super::vocabulary::{GenerateRequest, Generated};

/// Nonces of one search: about 20 ms. The tip is checked between two searches.
const SLICE: u64 = 1 << 18;
/// Nonces of a header.
const ALL: u64 = 1 << 32;
/// Extra nonces begin here; those of the hash threads begin at 0.
const FIRST_EXTRA_NONCE: u64 = 1 << 63;

/// The requests that are not answered yet.
#[derive(Clone, Debug, Default)]
pub(super) struct Requests {
    pub(super) current: Option<Job>,
    waiting: VecDeque<Job>,
}

impl Requests {
    pub(super) fn len(&self) -> usize {
        self.waiting.len() + usize::from(self.current.is_some())
    }

    pub(super) fn push(&mut self, request: GenerateRequest) {
        self.waiting.push_back(Job::new(request));
    }

    /// Makes the next request the current one, if there is none.
    pub(super) fn next(&mut self) -> Option<&mut Job> {
        if self.current.is_some() {
            return None;
        }
        self.current = self.waiting.pop_front();
        self.current.as_mut()
    }

    /// Whether other requests wait.
    pub(super) fn others_wait(&self) -> bool {
        !self.waiting.is_empty()
    }

    /// Lets the next request have its turn, if the current one is idle.
    pub(super) fn take_turns(&mut self) {
        let under_way = |job: &mut Job| !matches!(job.step, JobStep::Begin | JobStep::Paused(_));
        if self.others_wait()
            && let Some(job) = self.current.take_if(|job| !under_way(job))
        {
            self.waiting.push_back(job);
        }
    }

    pub(super) fn abandon(&mut self, ticket: u64) {
        self.waiting.retain(|job| job.request.ticket != ticket);
        if self
            .current
            .as_ref()
            .is_some_and(|job| job.request.ticket == ticket)
        {
            self.current = None;
        }
    }
}

/// The request in progress.
#[derive(Clone, Debug)]
pub(super) struct Job {
    pub(super) request: GenerateRequest,
    tries: u64,
    made: Vec<BlockHash>,
    pub(super) step: JobStep,
}

/// The state of a job.
#[derive(Clone, Debug)]
pub(super) enum JobStep {
    /// A template is needed.
    Begin,
    /// Nonces are being tried.
    Searching(Search),
    /// These nonces are next, when other requests had their turn.
    Paused(Search),
    /// A block was submitted.
    Judging { submission: u64 },
}

/// The nonces that are being tried.
#[derive(Clone, Debug)]
pub(super) struct Search {
    pub(super) generation: u64,
    pub(super) template: Arc<Template>,
    pub(super) extra_nonce: u64,
    pub(super) nonces: Range<u64>,
}

impl Search {
    /// The header with the nonce that was found.
    pub(super) fn header(&self, nonce: u32) -> [u8; 80] {
        let mut header = self.template.header(self.extra_nonce);
        header[76..].copy_from_slice(&nonce.to_le_bytes());
        header
    }
}

impl Job {
    fn new(request: GenerateRequest) -> Self {
        Self {
            tries: request.max_tries,
            request,
            made: Vec::new(),
            step: JobStep::Begin,
        }
    }

    /// The blocks made so far.
    pub(super) fn generated(&mut self) -> Generated {
        Generated {
            hashes: std::mem::take(&mut self.made),
            block: None,
        }
    }

    /// Whether the request is finished, or its tries are used up.
    pub(super) fn is_over(&self) -> bool {
        self.made.len() >= self.request.count as usize || self.tries == 0
    }

    pub(super) fn made(&mut self, hash: BlockHash) {
        self.made.push(hash);
    }

    /// The first search for a block.
    pub(super) fn begin(&mut self, generation: u64, template: Arc<Template>) -> Search {
        Search {
            generation,
            template,
            extra_nonce: FIRST_EXTRA_NONCE,
            nonces: 0..SLICE.min(self.tries),
        }
    }

    /// The search after one that found nothing; `None`: all tries are used up.
    pub(super) fn go_on(&mut self, after: &Search) -> Option<Search> {
        self.spend(after.nonces.end - after.nonces.start);
        if self.tries == 0 {
            return None;
        }
        let (extra_nonce, start) = match after.nonces.end {
            ALL => (after.extra_nonce + 1, 0),
            end => (after.extra_nonce, end),
        };
        Some(Search {
            extra_nonce,
            nonces: start..(start + SLICE.min(self.tries)).min(ALL),
            ..after.clone()
        })
    }

    /// Counts failed tries. As in Core the successful one is not counted.
    pub(super) fn spend(&mut self, tries: u64) {
        self.tries = self.tries.saturating_sub(tries);
    }
}
