//! `SyncManager`: owns the sync machine, and through it the header tree.
//!
//! Messages in, effects out, in the order in which the machine gives them. What
//! connections sent is handled in turns ([`crate::turns`]).

pub(crate) mod messages;

use std::collections::BTreeMap;
use std::sync::Arc;

use actix::{Actor, ActorContext, Context, Handler, MessageResult};
use bitcoin::BlockHash;
use handfast_chain::Chain;
use handfast_proto::fair_queue::{FairQueue, LIFECYCLE, cost};
use handfast_proto::lifecycle::{ConnId, Role};
use handfast_proto::peer_table::Order;
use handfast_proto::sync::{
    Effect, FetchRefusal, Input, KernelEvent, SubmitResult, SyncManager as Machine, SyncState,
};
use handfast_wire::Message;
use tokio::sync::oneshot;
use tokio::time::Instant;

use crate::alarm::{self, Timed};
use crate::audit::{Handled, Report};
use crate::credit::BlockShare;
use crate::critical_guard::CriticalGuard;
use crate::peer::messages::ServeBlock;
use crate::peer_manager::messages::{Command, Served, ToPeers};
use crate::post::{Question, post_to};
use crate::shared::Shared;
use crate::snapshot::Publisher;
use crate::subscribers::{
    StopSubscriber, SubscriberAdd, SubscriberAudit, SubscriberDone, SubscriberInput,
};
use crate::sync_log::SyncLog;
use crate::sync_manager::messages::{Kernel, SubmitBlock, SubmitHeader, SubmitMined};
use crate::turns::{self, TakesTurns};

/// See the module.
#[derive(Debug)]
pub(crate) struct SyncManager {
    machine: Machine,
    /// `None` after [`StopSubscriber`]: the kernel is closed by its only owner then.
    chain: Option<Arc<Chain>>,
    peers: ToPeers,
    shared: Arc<Shared>,
    publisher: Publisher,
    log: SyncLog,
    /// Shares of the node's block budget, held until the kernel's verdict.
    with_kernel: BTreeMap<BlockHash, BlockShare>,
    /// Who waits for the answer of a submission.
    submitters: BTreeMap<u64, oneshot::Sender<SubmitResult>>,
    next_ticket: u64,
    handled: Handled,
    queue: FairQueue<FromPeers>,
    critical_guard: CriticalGuard,
}

impl SyncManager {
    /// Publishes the machine's tree before it returns.
    pub(crate) fn new(
        mut machine: Machine,
        chain: Arc<Chain>,
        peers: ToPeers,
        shared: Arc<Shared>,
    ) -> Self {
        let mut publisher = Publisher::new(shared.clone());
        let now = shared.clock.now();
        machine.opened(now);
        publisher.publish(now, &machine);
        Self {
            log: SyncLog::new(&machine),
            machine,
            chain: Some(chain),
            peers,
            publisher,
            with_kernel: BTreeMap::new(),
            submitters: BTreeMap::new(),
            next_ticket: 0,
            handled: Handled::default(),
            queue: FairQueue::default(),
            critical_guard: CriticalGuard::new("SyncManager", shared.node.died.clone()),
            shared,
        }
    }

    fn step(&mut self, input: Input) {
        self.step_with(input, None);
    }

    /// One step of the machine, and its effects. `share`: of the block in `input`.
    fn step_with(&mut self, input: Input, mut share: Option<(BlockHash, BlockShare)>) {
        let now = self.shared.clock.now();
        for effect in self.machine.step(now, input) {
            match effect {
                Effect::Send { id, message } => self.order(Order::Send { id, message }),
                Effect::Disconnect { id, reason } => self.order(Order::Disconnect { id, reason }),
                Effect::CheckHeaders { headers, origin } => {
                    self.chain().check_headers(headers, origin)
                }
                Effect::CheckBlock {
                    block,
                    height,
                    before,
                    origin,
                    persist,
                } => {
                    if let Some((hash, share)) = share.take_if(|(hash, _)| *hash == block.hash) {
                        self.with_kernel.insert(hash, share);
                    }
                    let (hash, bytes) = (block.hash, block.bytes);
                    self.chain()
                        .check_block(hash, bytes, height, before, origin, persist);
                }
                Effect::ServeBlock {
                    id,
                    ticket,
                    hash,
                    witness,
                } => {
                    post_to(
                        &self.peers.serve,
                        ServeBlock {
                            from: Role::Sync,
                            id,
                            ticket,
                            hash,
                            witness,
                        },
                    );
                }
                Effect::Answer { ticket, result } => {
                    // A caller that is notified of a new tip finds it in the view.
                    self.publisher.flush(now, &self.machine);
                    if let Some(submitter) = self.submitters.remove(&ticket) {
                        let _ = submitter.send(result);
                    }
                }
                Effect::TreeChanged => self.publisher.changed(now, &self.machine),
                Effect::Useful { id } => self.order(Order::Useful { id }),
                Effect::WantPeers => self.order(Order::MorePeers),
            }
        }
        self.log.stepped(now, &self.machine);
    }

    fn chain(&self) -> &Chain {
        self.chain.as_ref().expect("held until the actor stops")
    }

    fn order(&self, order: Order) {
        let from = Role::Sync;
        post_to(&self.peers.command, Command { from, order });
    }

    fn ticket(&mut self, answer: oneshot::Sender<SubmitResult>) -> u64 {
        let ticket = self.next_ticket;
        self.next_ticket += 1;
        self.submitters.insert(ticket, answer);
        ticket
    }
}

impl Actor for SyncManager {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Self::Context) {
        ctx.set_mailbox_capacity(0);
        turns::start(ctx);
        alarm::start(ctx);
    }
}

impl Timed for SyncManager {
    fn deadline(&self) -> Option<Instant> {
        let due =
            handfast_proto::time::earliest(self.machine.deadline(), self.publisher.deadline());
        let due = handfast_proto::time::earliest(due, self.log.deadline());
        due.map(|mono| self.shared.clock.instant(mono))
    }

    fn on_deadline(&mut self, _: &mut Self::Context) {
        let now = self.shared.clock.now();
        self.publisher.tick(now, &self.machine);
        self.log.tick(now.mono);
        if self.machine.deadline().is_some_and(|due| due <= now.mono) {
            self.step(Input::Tick);
        }
    }
}

/// What goes through the queue.
#[derive(Debug)]
pub(crate) enum FromPeers {
    Add(Box<SubscriberAdd>),
    Input(SubscriberInput),
    Done(SubscriberDone),
    Audit(SubscriberAudit),
}

impl TakesTurns for SyncManager {
    type Item = FromPeers;

    fn queue(&mut self) -> &mut FairQueue<FromPeers> {
        &mut self.queue
    }

    fn handle_item(&mut self, item: FromPeers) {
        match item {
            FromPeers::Add(add) => self.added(*add),
            FromPeers::Input(input) => self.received(input),
            FromPeers::Done(done) => self.ended(done),
            FromPeers::Audit(question) => self.audit(question),
        }
    }
}

impl SyncManager {
    fn added(&mut self, add: SubscriberAdd) {
        let SubscriberAdd {
            version_info,
            queued,
        } = add;
        self.shared.slots.assert_bounded();
        self.handled.adds += 1;
        self.step(Input::Added(version_info));
        drop(queued);
    }

    fn ended(&mut self, SubscriberDone { id, queued, slot }: SubscriberDone) {
        self.shared.slots.assert_bounded();
        self.handled.dones += 1;
        self.step(Input::Done { id });
        // Given back only now: handled, not merely sent.
        drop(queued);
        drop(slot);
    }

    fn received(&mut self, input: SubscriberInput) {
        let SubscriberInput {
            id,
            message,
            credit,
        } = input;
        let share = match &*message {
            Message::Block(block) => credit.take_block_share().map(|share| (block.hash, share)),
            _ => None,
        };
        self.step_with(Input::Message { id, message }, share);
        drop(credit);
    }

    fn audit(&self, SubscriberAudit(inquiry): SubscriberAudit) {
        let report = Report {
            peers: self.machine.ids(),
            sync_peer: self.machine.sync_peer(),
            handled: self.handled,
            slot_counts: self.shared.slots.counts(),
        };
        inquiry.answer(Role::Sync, report);
    }
}

impl Handler<SubscriberAdd> for SyncManager {
    type Result = ();
    fn handle(&mut self, add: SubscriberAdd, _: &mut Self::Context) {
        let id = add.version_info.id;
        self.queue
            .push(id, LIFECYCLE, FromPeers::Add(Box::new(add)));
    }
}

impl Handler<SubscriberDone> for SyncManager {
    type Result = ();
    fn handle(&mut self, done: SubscriberDone, _: &mut Self::Context) {
        self.queue.push(done.id, LIFECYCLE, FromPeers::Done(done));
    }
}

impl Handler<SubscriberInput> for SyncManager {
    type Result = ();
    fn handle(&mut self, input: SubscriberInput, _: &mut Self::Context) {
        let cost = cost(&input.message);
        self.queue.push(input.id, cost, FromPeers::Input(input));
    }
}

impl Handler<Kernel> for SyncManager {
    type Result = ();
    fn handle(&mut self, Kernel(events): Kernel, _: &mut Self::Context) {
        for event in events {
            if let KernelEvent::BlockChecked { hash, .. } = &event {
                self.with_kernel.remove(hash);
            }
            self.step(Input::Kernel(event));
        }
    }
}

impl Handler<Served> for SyncManager {
    type Result = ();
    fn handle(&mut self, Served { id, ticket, .. }: Served, _: &mut Self::Context) {
        self.step(Input::Served { id, ticket });
    }
}

impl Handler<SubmitBlock> for SyncManager {
    type Result = ();
    fn handle(&mut self, SubmitBlock { block, answer }: SubmitBlock, _: &mut Self::Context) {
        let ticket = self.ticket(answer);
        self.step(Input::Submit { ticket, block });
    }
}

impl Handler<SubmitMined> for SyncManager {
    type Result = ();
    fn handle(&mut self, SubmitMined { block, answer }: SubmitMined, _: &mut Self::Context) {
        // Else the miner learns from the dropped sender that it was too late.
        if self.machine.is_on_tip(&block.header) {
            let ticket = self.ticket(answer);
            self.step(Input::Submit { ticket, block });
        }
    }
}

impl Handler<SubmitHeader> for SyncManager {
    type Result = ();
    fn handle(&mut self, SubmitHeader { header, answer }: SubmitHeader, _: &mut Self::Context) {
        let ticket = self.ticket(answer);
        self.step(Input::SubmitHeader { ticket, header });
    }
}

impl SyncManager {
    /// What sync does, and why.
    pub(crate) fn state(&self) -> SyncState {
        self.machine.state(self.shared.clock.now())
    }

    /// Requests a block from one peer, or the reason for not doing so.
    pub(crate) fn fetch(&mut self, id: ConnId, hash: BlockHash) -> Result<(), FetchRefusal> {
        self.machine.may_fetch(id, &hash)?;
        self.step(Input::Fetch { id, hash });
        Ok(())
    }
}

impl Handler<Question<SyncManager>> for SyncManager {
    type Result = ();
    fn handle(&mut self, question: Question<SyncManager>, _: &mut Self::Context) {
        question.put_to(self);
    }
}

impl Handler<SubscriberAudit> for SyncManager {
    type Result = ();
    fn handle(&mut self, question: SubscriberAudit, _: &mut Self::Context) {
        self.queue.push_barrier(FromPeers::Audit(question));
    }
}

impl Handler<StopSubscriber> for SyncManager {
    type Result = MessageResult<StopSubscriber>;
    fn handle(
        &mut self,
        StopSubscriber { slots_free }: StopSubscriber,
        ctx: &mut Self::Context,
    ) -> Self::Result {
        if slots_free {
            let left = self.machine.ids();
            assert!(
                left.is_empty(),
                "L6: all slots are free and SyncManager still knows {left:?}"
            );
        }
        // Without the kernel nothing more can be handled.
        self.queue.clear();
        self.chain = None;
        self.critical_guard.disarm();
        ctx.stop();
        MessageResult(self.handled)
    }
}
