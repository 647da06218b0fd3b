//! SyncManager: `node/src/sync_manager.rs`, handler by handler; and the kernel's thread.

use std::sync::Arc;
use std::time::Duration;

use bitcoin::BlockHash;
use bitcoin::block::Header;
use handfast_proto::fair_queue::{LIFECYCLE, cost};
use handfast_proto::lifecycle::{ConnId, Direction, Role, VersionInfo};
use handfast_proto::peer_table::Order;
use handfast_proto::sync::{
    BlockOutcome, Change, Effect, Input, KernelEvent, RejectKind, SubmitResult,
};
use handfast_proto::testing;
use handfast_wire::{Message, RawBlock};

use super::peer::Credit;
use super::peers::PeersMail;
use super::{Running, Stage};
use crate::sim::Mutant;
use crate::sim::engine::{Actor, Engine, Event};

/// Duration of a slow block.
const SLOW_BLOCK: Duration = Duration::from_secs(60);

/// The messages of SyncManager.
#[derive(Debug)]
pub(super) enum SyncMail {
    Add(Box<VersionInfo>),
    /// With its part of the slot, which is free when all that have one have handled this.
    Done(ConnId, Arc<Option<Direction>>),
    Input(ConnId, Arc<Message>, Arc<Credit>),
    Kernel(KernelEvent),
    Served(ConnId, u64),
    Submit(u64, RawBlock),
    Stop,
}

impl SyncMail {
    /// The connection that sent it, and what it costs to handle.
    fn flow(&self) -> Option<(ConnId, u64)> {
        match self {
            Self::Add(version_info) => Some((version_info.id, LIFECYCLE)),
            Self::Input(id, message, _) => Some((*id, cost(message))),
            Self::Done(id, _) => Some((*id, LIFECYCLE)),
            Self::Kernel(_) | Self::Served(..) | Self::Submit(..) | Self::Stop => None,
        }
    }
}

/// A job of the kernel.
#[derive(Debug)]
pub(crate) enum Job {
    Headers(Vec<Header>, Option<ConnId>),
    Block(Vec<Header>, RawBlock, Option<ConnId>),
}

impl Running {
    pub(super) fn post_sync(&mut self, engine: &mut Engine, mail: SyncMail) {
        self.sync_mail.push_back(mail);
        self.wake(engine, Actor::Sync);
    }

    /// `node/src/turns.rs`, as at PeerManager.
    fn next_sync_mail(&mut self, engine: &mut Engine) -> Option<SyncMail> {
        loop {
            let waits = self.sync_mail.is_empty() || engine.random.below(2) == 0;
            if waits && let Some((_, mail)) = self.sync_queue.pop() {
                return Some(mail);
            }
            let mail = self.sync_mail.pop_front()?;
            match mail.flow() {
                Some((id, cost)) => self.sync_queue.push(id, cost, mail),
                None => return Some(mail),
            }
        }
    }

    pub(super) fn poll_sync(&mut self, engine: &mut Engine) {
        for _ in 0..Self::portion(engine) {
            let Some(mail) = self.next_sync_mail(engine) else {
                return;
            };
            self.handle_sync(engine, mail);
            self.compare_tables(engine);
            if engine.breach.is_some() {
                return;
            }
        }
        self.wake(engine, Actor::Sync);
    }

    fn handle_sync(&mut self, engine: &mut Engine, mail: SyncMail) {
        match mail {
            SyncMail::Add(version_info) => {
                let id = version_info.id;
                engine.line(format_args!("n{} sync: Add({id})", self.host.node));
                self.observe(engine, |ledger| ledger.add(Role::Sync, id));
                self.step_sync(engine, Input::Added(*version_info));
            }
            SyncMail::Done(id, slot) => {
                engine.line(format_args!("n{} sync: Done({id})", self.host.node));
                self.observe(engine, |ledger| ledger.done(Role::Sync, id));
                self.step_sync(engine, Input::Done { id });
                self.drop_part(engine, slot);
            }
            SyncMail::Input(id, message, credit) => {
                if !self.loses_announcement(engine, id, &message) {
                    self.step_sync(engine, Input::Message { id, message });
                }
                if !engine.is_mutant(Mutant::CreditIsLost) {
                    self.handled_by_one(engine, credit);
                }
            }
            SyncMail::Kernel(event) => self.step_sync(engine, Input::Kernel(event)),
            SyncMail::Served(id, ticket) => self.step_sync(engine, Input::Served { id, ticket }),
            SyncMail::Submit(ticket, block) => {
                self.step_sync(engine, Input::Submit { ticket, block });
            }
            SyncMail::Stop => self.stop_sync(engine),
        }
    }

    /// `SyncManager::step_with`.
    fn step_sync(&mut self, engine: &mut Engine, input: Input) {
        for effect in self.sync.step(self.now(engine), input) {
            match effect {
                Effect::Send { id, message } => {
                    if !self.loses_request(engine, id, &message) {
                        self.order(engine, Order::Send { id, message });
                    }
                }
                Effect::Disconnect { id, reason } => {
                    self.order(engine, Order::Disconnect { id, reason });
                }
                Effect::CheckHeaders { headers, origin } => {
                    self.job(engine, Job::Headers(headers, origin));
                }
                Effect::CheckBlock {
                    block,
                    before,
                    origin,
                    ..
                } => self.job(engine, Job::Block(before, block, origin)),
                Effect::ServeBlock {
                    id, ticket, hash, ..
                } => self.post_peers(engine, PeersMail::Serve { id, ticket, hash }),
                Effect::Answer { ticket, result } => self.answered(engine, ticket, &result),
                Effect::TreeChanged => {}
                Effect::Useful { id } => self.order(engine, Order::Useful { id }),
                Effect::WantPeers => self.order(engine, Order::MorePeers),
            }
        }
        let source = self.sync.sync_peer();
        self.observe(engine, |ledger| ledger.sync_peer(source));
    }

    fn order(&mut self, engine: &mut Engine, order: Order) {
        self.post_peers(engine, PeersMail::Order(Role::Sync, order));
    }

    /// `Timed::on_deadline`.
    pub(super) fn tick_sync(&mut self, engine: &mut Engine) {
        if !engine.is_mutant(Mutant::TimerIsLost) {
            self.step_sync(engine, Input::Tick);
            self.compare_tables(engine);
        }
    }

    /// A block mined by this node, on the tip of its kernel.
    pub(crate) fn mine(&mut self, engine: &mut Engine) -> Option<BlockHash> {
        if self.stage != Stage::Open {
            return None;
        }
        let parent = self.kernel.tree().tip().header;
        let time = self.now(engine).unix.max(parent.time + 1);
        let salt = engine.random.draw();
        let header = testing::mine(&parent, time, salt);
        let size = 81 + engine.random.index(600);
        let block = testing::block(header, size);
        engine.counts.count("blocks");
        engine.line(format_args!(
            "n{} finds {} on height {}",
            self.host.node,
            block.hash,
            self.kernel.tree().tip().height
        ));
        engine.blocks.insert(block.hash, block.clone());
        engine.oracle.block(&block, None);
        let ticket = self.next_ticket;
        self.next_ticket += 1;
        self.submitted.insert(ticket, block.hash);
        let hash = block.hash;
        self.post_sync(engine, SyncMail::Submit(ticket, block));
        Some(hash)
    }

    fn answered(&mut self, engine: &mut Engine, ticket: u64, result: &SubmitResult) {
        let Some(hash) = self.submitted.remove(&ticket) else {
            return engine.breach("answers", format!("ticket {ticket} was answered twice"));
        };
        match result {
            SubmitResult::Accepted
            | SubmitResult::Duplicate
            | SubmitResult::Inconclusive
            | SubmitResult::DuplicateInconclusive
            | SubmitResult::Failed(_) => {}
            // The clock was set back while the block was on its way.
            SubmitResult::Rejected(reject) if reject.kind == RejectKind::TimeFuture => {}
            SubmitResult::Rejected(_) | SubmitResult::DuplicateInvalid => {
                let node = self.host.node;
                let text = format!("n{node}: its own good block {hash} was refused: {result:?}");
                engine.breach("honest blocks", text);
            }
        }
    }

    /// The next of the subscribers is asked to stop.
    pub(super) fn stop_sync_next(&mut self, engine: &mut Engine) {
        self.post_sync(engine, SyncMail::Stop);
    }

    /// `Handler<StopSubscriber>` after all slots are free.
    fn stop_sync(&mut self, engine: &mut Engine) {
        let left = self.sync.ids();
        if !left.is_empty() {
            let text = format!("all slots are free and SyncManager still knows {left:?}");
            engine.breach("L6", text);
        }
        self.observe(engine, |ledger| ledger.all_slots_free());
        self.sync_queue.clear();
        self.stage = Stage::Stopped;
    }

    fn job(&mut self, engine: &mut Engine, job: Job) {
        self.jobs.push_back(job);
        self.next_job(engine);
    }

    /// The kernel's thread takes its next job.
    fn next_job(&mut self, engine: &mut Engine) {
        let Some(job) = self.jobs.front().filter(|_| !self.kernel_busy) else {
            return;
        };
        let takes = match job {
            Job::Headers(headers, _) => Duration::from_micros(20 * headers.len() as u64),
            Job::Block(..) if std::mem::take(&mut self.slow_next) => {
                self.slow_until = self.now(engine).mono + SLOW_BLOCK;
                engine.trouble(self.host.node, engine.now + SLOW_BLOCK);
                SLOW_BLOCK
            }
            Job::Block(..) => Duration::from_micros(50 + engine.random.below(3_000)),
        };
        self.kernel_busy = true;
        engine.after(takes, Event::KernelDone(self.host));
    }

    /// The kernel has finished its job, and posts the result.
    pub(crate) fn kernel_done(&mut self, engine: &mut Engine) {
        self.kernel_busy = false;
        self.kernel.unix = Some(self.now(engine).unix);
        let job = self.jobs.pop_front().expect("it was busy with one");
        let of = match &job {
            Job::Headers(..) => None,
            Job::Block(_, block, _) => Some(block.header),
        };
        let event = match job {
            Job::Headers(headers, origin) => self.kernel.headers(&headers, origin),
            Job::Block(before, block, origin) => {
                if std::mem::take(&mut self.disk_full_next) {
                    self.kernel.trouble.insert(block.hash);
                }
                if let Some(kind) = engine.bad.get(&block.hash) {
                    self.kernel.bad.insert(block.hash, *kind);
                }
                if engine.bad_to_connect.contains(&block.hash) {
                    self.kernel.bad_to_connect.insert(block.hash);
                }
                let event = self.kernel.block_behind(&before, &block, origin);
                engine.line(format_args!(
                    "n{} kernel: {} {}",
                    self.host.node,
                    block.hash,
                    outcome(&event)
                ));
                event
            }
        };
        self.watch_kernel(engine, &event);
        let lost = engine.is_mutant(Mutant::VerdictIsLost) && engine.chance(20);
        let event = match of.filter(|_| engine.is_mutant(Mutant::VerdictMarksHash)) {
            Some(header) => marked(event, header),
            None => event,
        };
        if !lost {
            self.post_sync(engine, SyncMail::Kernel(event));
        }
        self.next_job(engine);
    }

    /// The kernel is processing a slow block, or has not recovered from it.
    pub(super) fn kernel_is_held_up(&self) -> bool {
        self.kernel_busy && self.jobs.len() > 1
    }

    /// No block, mined here or received, waits for its kernel.
    pub(crate) fn has_no_block_in_hand(&self) -> bool {
        self.jobs.is_empty() && self.submitted.is_empty()
    }

    /// The tip of the active chain, of the kernel and of SyncManager.
    pub(crate) fn tips(&self) -> [BlockHash; 2] {
        [self.kernel.tip(), self.sync.tree().tip().hash]
    }
}

/// The mutant of a verdict: every refusal marks the hash.
fn marked(mut event: KernelEvent, header: Header) -> KernelEvent {
    if let KernelEvent::BlockChecked {
        hash,
        outcome: BlockOutcome::Rejected(reject),
        changes,
        ..
    } = &mut event
    {
        changes.push(Change::Invalid(*hash, header, reject.clone()));
    }
    event
}

fn outcome(event: &KernelEvent) -> String {
    match event {
        KernelEvent::HeadersChecked { count_ok, .. } => format!("{count_ok} headers"),
        KernelEvent::BlockChecked {
            outcome, changes, ..
        } => format!("{outcome:?}, {} changes", changes.len()),
        KernelEvent::Durable => "all is journaled".into(),
    }
}
