//! What `SyncManager` is sent.

use std::collections::BTreeSet;
use std::sync::Arc;

use actix::Recipient;
use bitcoin::BlockHash;
use bitcoin::block::Header;
use handfast_proto::lifecycle::{ConnId, Introduction};
use handfast_proto::sync::{FetchRefusal, KernelEvent, SubmitResult, SyncState};
use handfast_wire::{Message as WireMessage, RawBlock};
use tokio::sync::oneshot;

use crate::audit::{Audit, Handled};
use crate::credit::Credit;
use crate::peer_manager::messages::Served;
use crate::post::{asked, posted};
use crate::slots::{Queued, Slot};

/// PeerManager admitted a connection.
#[derive(Debug)]
pub(crate) struct SyncAdd {
    /// What it said of itself.
    pub(crate) introduction: Introduction,
    /// Of the [`PeerAdd`] that led to this.
    pub(crate) queued: Queued,
}

/// An admitted connection received a message for sync.
#[derive(Debug)]
pub(crate) struct SyncInput {
    /// The connection.
    pub(crate) id: ConnId,
    /// The message.
    pub(crate) message: Arc<WireMessage>,
    /// Given back when this has been handled.
    pub(crate) credit: Credit,
}

/// An admitted connection has ended; frees the slot when handled.
#[derive(Debug)]
pub(crate) struct SyncDone {
    /// The connection.
    pub(crate) id: ConnId,
    /// Of the [`PeerDone`] that led to this. Goes before the slot.
    pub(crate) queued: Queued,
    /// Its slot.
    pub(crate) slot: Slot,
}

/// Verdicts of the kernel, oldest first. One message for several: each would wake
/// this thread in place of the kernel's.
#[derive(Debug)]
pub(crate) struct Kernel(pub(crate) Vec<KernelEvent>);

/// Offers a block from outside the network.
#[derive(Debug)]
pub(crate) struct SubmitBlock {
    /// The block.
    pub(crate) block: RawBlock,
    /// Gets the verdict.
    pub(crate) answer: oneshot::Sender<SubmitResult>,
}

/// Offers a header from outside the network.
#[derive(Debug)]
pub(crate) struct SubmitHeader {
    /// The header.
    pub(crate) header: Header,
    /// Gets the verdict.
    pub(crate) answer: oneshot::Sender<SubmitResult>,
}

/// Offers a block of our own, if its parent is the tip when this is handled.
#[derive(Debug)]
pub(crate) struct SubmitMined {
    /// The block.
    pub(crate) block: RawBlock,
    /// Gets the verdict; dropped without one: the block is stale, and was not offered.
    pub(crate) answer: oneshot::Sender<SubmitResult>,
}

/// What SyncManager's table shows after PeerManager's.
#[derive(Debug)]
pub(crate) struct AuditSync {
    /// PeerManager's table.
    pub(crate) peer_table: BTreeSet<ConnId>,
    /// What PeerManager has handled.
    pub(crate) peer_manager: Handled,
    /// Gets both managers' answer.
    pub(crate) answer: oneshot::Sender<Audit>,
}

/// What sync does.
#[derive(Debug)]
pub(crate) struct QuerySyncState;

/// The `getblockfrompeer` RPC.
#[derive(Debug)]
pub(crate) struct FetchBlock {
    /// The peer.
    pub(crate) id: ConnId,
    /// The block.
    pub(crate) hash: BlockHash,
}

/// Phase "managers": stop, let go of the kernel, and answer what was handled.
#[derive(Debug)]
pub(crate) struct StopSync {
    /// Every slot is home, so the table must be empty (L6).
    pub(crate) slots_home: bool,
}

posted!(by queued: SyncAdd, SyncDone);
posted!(by credit: SyncInput);
posted!(by request: Kernel);
posted!(rare: SubmitBlock, SubmitHeader, SubmitMined, AuditSync);

asked! {
    QuerySyncState => SyncState,
    FetchBlock => Result<(), FetchRefusal>,
    StopSync => Handled,
}

/// The way of everything that PeerManager tells it, in this order.
#[derive(Clone, Debug)]
pub(crate) struct ToSync {
    pub(crate) add: Recipient<SyncAdd>,
    pub(crate) input: Recipient<SyncInput>,
    pub(crate) done: Recipient<SyncDone>,
    pub(crate) served: Recipient<Served>,
    pub(crate) audit: Recipient<AuditSync>,
}
