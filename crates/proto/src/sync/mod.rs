//! Header and block sync over all peers: the heart of the node.
//!
//! [`SyncManager`] is one machine. Its inputs are what PeerManager forwards, what
//! the kernel answers and what RPC submits; its effects are orders to peers and
//! jobs for the kernel. It owns the [`HeaderTree`](crate::headers::HeaderTree).
//!
//! The manager leads each input through parts with private fields:
//!
//! | part | file | what it owns |
//! |---|---|---|
//! | `Chain` | `chain` | the header tree, and whether initial block download goes on |
//! | `Peers` | `peers` | the admitted peers, and whose disconnection was ordered |
//! | `HeaderSync` | `header_sync` | which peer to ask for headers (`ask`), and what becomes of `headers` messages (`batch`, `low_work`) and of silence (`late`) |
//! | `KnownWork` | `known_work` | which block each peer has shown to have, and probing for it |
//! | `BlockDownload` | `download` | which block to request from which peer |
//! | `EngineHeaders` | `engine_headers` | headers on their way to the engine, with the blocks that need them |
//! | `Verdicts` | `verdicts`, `senders` | what the engine's answers do to the tree and to peers |
//! | `Submissions` | `submissions` | blocks and headers of RPC and of the miner, and which blocks survive the end of the process |
//! | `Announcer` | `announcer` | announcing a new tip to peers |
//! | `BlockServing` | `block_serving` | answers to `getheaders`, `getblocks` and `getdata` |
//! | `ChainSync` | `chain_sync` | peers we dialled that stay behind our chain |
//! | `Timers` | `timers` | when each of them wants to be woken |
//! | `Watchdog` | `watchdog` | S1 and S3, checked apart from the rules that uphold them |
//!
//! | other files | what |
//! |---|---|
//! | `manager`, `manager/blocks` | [`SyncManager`]: which input goes to which part, and a block's way through them |
//! | `parts`, `step` | all parts but the watchdog; where a step collects its effects |
//! | `unasked`, `fetch` | blocks that no peer was asked for, and those that the operator wants of one peer |
//! | `state`, `report`, `deadlines` | [`SyncState`]: what is being done, and why |
//! | `comparable` | [`HeaderPlan`], [`SyncLifecycle`]: what a model checker tells states apart by |
//!
//! # Invariants
//!
//! * **S1** When a live peer has shown (not claimed) a chain with more work than our tip, or
//!   announced a block that we do not know, it (or another that showed the same) is asked
//!   for it within 120 s, or a reason why not is in [`SyncState::why`] or the peer's
//!   [`PeerSync::why`]. A source that brings nothing new is never the only one asked.
//! * **S2** Empty or short `headers` at the tip are no stall.
//! * **S3** Losing the sync peer selects the next one in the same step.
//! * **V1** Only the kernel's own mark of its block index makes a hash invalid; bad data
//!   costs its sender, and the block is asked for elsewhere (see `verdicts`).
//! * **V3** No peer keeps another from being asked: what one may hold up is its own
//!   (see `download` for blocks, `header_sync` for headers).

mod announcer;
mod block_serving;
mod chain;
mod chain_sync;
mod comparable;
mod deadlines;
mod download;
mod engine_headers;
mod fetch;
mod header_sync;
mod known_work;
mod manager;
mod parts;
mod peers;
mod report;
mod senders;
mod state;
mod step;
mod submissions;
mod timers;
mod unasked;
mod verdicts;
mod watchdog;

pub use comparable::{HeaderPlan, PeerPlan, SyncLifecycle, WatchdogPlan};
pub use fetch::FetchRefusal;
pub use manager::SyncManager;
pub use state::{
    Alarm, Backlog, BlockRef, Deadline, HeadersAsk, PeerSync, Phase, Request, Source, SourceChange,
    SyncState, Wanted, WatchdogState, Window,
};
pub use verdicts::USEFUL_INTERVAL;

/// The engine's answers: the values that it reports.
pub use handfast_verdict::{
    BlockOutcome, Change, Durability, KernelEvent, Persist, Reject, RejectKind,
};

use std::sync::Arc;

use bitcoin::block::Header;
use bitcoin::{BlockHash, Work};
use handfast_wire::{Message, Network, RawBlock};

use crate::headers::{LowWorkParams, PowParams};
use crate::lifecycle::{ConnId, DoneReason, VersionInfo};

/// The configuration of a [`SyncManager`].
#[derive(Clone, Debug)]
pub struct SyncConfig {
    /// Work a chain must show before its headers are stored. Core `nMinimumChainWork`.
    pub minimum_work: Work,
    /// The network's proof-of-work rules.
    pub pow: PowParams,
    /// Sizes for the sync of low-work header chains.
    pub low_work: LowWorkParams,
    /// Whether blocks are found on it all the time, so that the clock tells how many there
    /// must be. Not so on regtest and custom signets.
    pub always_mined: bool,
    /// Whether the engine has a block below which it skips scripts once it has the headers of
    /// later ones (`assumevalid`), so that these are worth giving to it early.
    pub assumes_valid: bool,
    /// Seeds everything that is chosen at random.
    pub seed: u64,
}

impl SyncConfig {
    /// The configuration of `network`; `minimum_work` overrides the network's own.
    #[must_use]
    pub fn new(network: &Network, minimum_work: Option<Work>, seed: u64) -> Self {
        Self {
            minimum_work: minimum_work.unwrap_or_else(|| network.minimum_chain_work()),
            pow: PowParams::for_network(network),
            low_work: LowWorkParams::default(),
            always_mined: network.always_mined(),
            // The same networks: no peer vouches for blocks of regtest or a custom signet.
            assumes_valid: network.always_mined(),
            seed,
        }
    }
}

/// A fact or an order for the [`SyncManager`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Input {
    /// PeerManager admitted this peer.
    Added(VersionInfo),
    /// An admitted peer is gone; nothing about `id` follows.
    Done {
        /// The connection.
        id: ConnId,
    },
    /// A message of an admitted peer that concerns sync.
    Message {
        /// The connection.
        id: ConnId,
        /// The message. Shared: other subscribers may have it too.
        message: Arc<Message>,
    },
    /// The kernel answered a job.
    Kernel(KernelEvent),
    /// A [`Effect::ServeBlock`] has ended, sent or not.
    Served {
        /// The peer that was served.
        id: ConnId,
        /// The effect's ticket.
        ticket: u64,
    },
    /// RPC or the miner offers a block; answered by [`Effect::Answer`].
    Submit {
        /// Comes back in the answer.
        ticket: u64,
        /// The block.
        block: RawBlock,
    },
    /// RPC offers a header; answered by [`Effect::Answer`].
    SubmitHeader {
        /// Comes back in the answer.
        ticket: u64,
        /// The header.
        header: Header,
    },
    /// The operator wants a block of this peer. Does nothing when
    /// [`SyncManager::may_fetch`] says no.
    Fetch {
        /// The peer.
        id: ConnId,
        /// The block, whose header is known.
        hash: BlockHash,
    },
    /// The deadline has come.
    Tick,
}

/// An order of the [`SyncManager`]. To be performed in the order given.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Effect {
    /// Send a message to an admitted peer.
    Send {
        /// The connection.
        id: ConnId,
        /// The message.
        message: Message,
    },
    /// End a connection. `Done` follows from the peer's own guard.
    Disconnect {
        /// The connection.
        id: ConnId,
        /// Why.
        reason: DoneReason,
    },
    /// Kernel job: accept these headers, oldest first, which no block needs yet.
    CheckHeaders {
        /// The batch; each builds on the one before it.
        headers: Vec<Header>,
        /// Who has shown them.
        origin: Option<ConnId>,
    },
    /// Kernel job: accept this block.
    CheckBlock {
        /// The block.
        block: RawBlock,
        /// Its height, which decides whether it may carry witness data (BIP141); `None` where
        /// the engine alone is to judge that.
        height: Option<u32>,
        /// Headers that lead to it and that the kernel was not given yet, oldest first. To be
        /// given if the block's data belongs to its header.
        before: Vec<Header>,
        /// Who sent it; `None`: we did, and a caller waits for the answer.
        origin: Option<ConnId>,
        /// Whether it is to survive the end of the process, with all that it builds on.
        persist: Persist,
    },
    /// Read a block from disk and send it when the peer has room; then [`Input::Served`].
    ServeBlock {
        /// The peer to serve.
        id: ConnId,
        /// Comes back in [`Input::Served`].
        ticket: u64,
        /// The block, which is on disk.
        hash: BlockHash,
        /// With witness data (`MSG_WITNESS_BLOCK`).
        witness: bool,
    },
    /// The answer to [`Input::Submit`] or [`Input::SubmitHeader`].
    Answer {
        /// The input's ticket.
        ticket: u64,
        /// The result.
        result: SubmitResult,
    },
    /// Headers were added, or the tip moved: publish a new snapshot.
    TreeChanged,
    /// Sync does not get on with the peers there are: PeerManager should find others.
    WantPeers,
    /// The peer brought a block that was new to us: it is worth its slot. At most once in
    /// [`USEFUL_INTERVAL`] per peer.
    Useful {
        /// The connection.
        id: ConnId,
    },
}

/// What became of a submitted block or header; the values of BIP22.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SubmitResult {
    /// Valid, and (a block) connected.
    Accepted,
    /// `duplicate`: we had it, and it is valid.
    Duplicate,
    /// `duplicate-invalid`: we had it, and it is invalid.
    DuplicateInvalid,
    /// `duplicate-inconclusive`: we had it, and it was never connected.
    DuplicateInconclusive,
    /// `inconclusive`: stored, not connected (a side branch, or a parent's data is missing).
    Inconclusive,
    /// Refused; the reason is the answer.
    Rejected(Reject),
    /// By our own fault: we could not tell, or could not keep it. The latter is made up
    /// for as soon as possible, and the block announced then.
    Failed(String),
}

#[cfg(test)]
mod tests;
