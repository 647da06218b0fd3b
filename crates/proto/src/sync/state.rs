//! What sync is doing, and why: the answer to `getsyncstate`.

use std::fmt;
use std::net::SocketAddr;
use std::time::Duration;

use bitcoin::BlockHash;

use crate::lifecycle::{ConnId, Direction};

/// A block by hash and height.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct BlockRef {
    /// Its hash.
    pub hash: BlockHash,
    /// Blocks before it.
    pub height: u32,
}

/// What sync is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Phase {
    /// No peer to sync with.
    NoPeers,
    /// Headers are being fetched; blocks too, as far as headers are known.
    HeaderSync,
    /// All headers that peers have shown are here, their blocks are not.
    BlockSync,
    /// No peer has shown more than we have, and we know of no headers without their blocks.
    Synced,
    /// There is more than we have, and nothing is on its way or all that is on its way is
    /// late; see `why`.
    Stalled,
}

impl fmt::Display for Phase {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::NoPeers => "no peers",
            Self::HeaderSync => "syncing headers",
            Self::BlockSync => "syncing blocks",
            Self::Synced => "synced",
            Self::Stalled => "stalled",
        })
    }
}

/// The peer that headers are synced from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Source {
    /// The connection.
    pub id: ConnId,
    /// The remote end of its socket.
    pub remote: SocketAddr,
    /// When it was chosen, Unix seconds.
    pub at: u32,
    /// Time since it was chosen.
    pub since: Duration,
    /// Why this one.
    pub why: String,
}

/// A change of the sync peer.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct SourceChange {
    /// When, Unix seconds.
    pub at: u32,
    /// The one before.
    pub from: Option<ConnId>,
    /// The new one.
    pub to: Option<ConnId>,
    /// Why.
    pub reason: String,
}

/// What was asked of a peer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Wanted {
    /// `getheaders`.
    Headers(HeadersAsk),
    /// `getdata` for a block.
    Block(BlockRef),
}

impl fmt::Display for Wanted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Headers(ask) => ask.fmt(f),
            Self::Block(block) => write!(f, "block {} of height {}", block.hash, block.height),
        }
    }
}

/// Why a `getheaders` was sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum HeadersAsk {
    /// To sync from this peer, or beside a sync peer that is slow to answer.
    Sync,
    /// To learn what it has beyond our best header.
    Tip,
    /// To learn whether it has a block (one header is the answer).
    Probe,
    /// It announced something that we do not know.
    Announced,
}

impl fmt::Display for HeadersAsk {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Sync => "headers",
            Self::Tip => "headers beyond ours",
            Self::Probe => "whether it has our best header",
            Self::Announced => "headers of an announced block",
        })
    }
}

/// A request that a live peer has not answered yet.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Request {
    /// Who was asked.
    pub peer: ConnId,
    /// For what.
    pub what: Wanted,
    /// Time since it was asked.
    pub age: Duration,
}

/// Something that is decided when its time comes, unless a message comes before.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Deadline {
    /// Time until then.
    pub left: Duration,
    /// What for, one line.
    pub what: String,
}

/// How one peer stands in sync.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PeerSync {
    /// The connection.
    pub id: ConnId,
    /// The remote end of its socket.
    pub remote: SocketAddr,
    /// Who opened it.
    pub direction: Direction,
    /// The best block it has shown to have. `getpeerinfo`: `synced_headers`.
    pub best_known: Option<BlockRef>,
    /// The last block that it and we have in common. `getpeerinfo`: `synced_blocks`.
    pub common: Option<BlockRef>,
    /// Heights of the blocks asked of it and not received, oldest first. `inflight`.
    pub in_flight: Vec<u32>,
    /// Age of its oldest unanswered `getdata`.
    pub oldest: Option<Duration>,
    /// Whether it may become the sync peer.
    pub eligible: bool,
    /// Why it is the source, or could be, or why not; one line.
    pub why: String,
    /// Whether its headers are in the low-work check: how many were looked at.
    pub presynced: Option<u32>,
}

/// The moving window of block download, heights.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Window {
    /// The lowest height that is missing.
    pub start: u32,
    /// The height after the last one that may be asked for now.
    pub end: u32,
}

/// Blocks on the way into the chain.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Backlog {
    /// Blocks asked of peers and not received.
    pub in_flight: usize,
    /// Blocks given to the kernel that await its verdict.
    pub with_kernel: usize,
    /// Bytes of those with the kernel.
    pub kernel_bytes: usize,
    /// Expected size of a block, bytes, from the latest ones.
    pub expected_block: usize,
    /// Batches of headers that await the kernel.
    pub header_batches: usize,
}

/// What the watchdog did last.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Alarm {
    /// When, Unix seconds.
    pub at: u32,
    /// What it found.
    pub reason: String,
    /// What it did about it.
    pub action: String,
}

/// The watchdog over sync.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct WatchdogState {
    /// Checks made: one every 10 s while there are peers.
    pub checks: u64,
    /// Times that it found S1 or S3 broken and put sync on its feet. 0 unless Handfast
    /// has a bug.
    pub fired: u64,
    /// Times that it wanted more peers, since those there are were silent, lacked what is
    /// missing, or brought no new block for long.
    pub sought_peers: u64,
    /// What it did last.
    pub last: Option<Alarm>,
}

/// What sync is doing, and why.
#[derive(Clone, Debug, PartialEq)]
pub struct SyncState {
    /// What it is about.
    pub phase: Phase,
    /// One plain line: what we wait for, or why there is nothing to wait for.
    pub why: String,
    /// Whether we are far behind, in Bitcoin Core's sense.
    pub initial_block_download: bool,
    /// Blocks that the chain lacks of the best one known.
    pub missing: u32,
    /// The source was asked for headers, and has not said that it has no more.
    pub headers_to_come: bool,
    /// The end of the active chain.
    pub tip: BlockRef,
    /// The header with most work.
    pub best_header: BlockRef,
    /// The block with most work that a live peer has shown to have.
    pub best_shown: Option<BlockRef>,
    /// Where headers come from.
    pub source: Option<Source>,
    /// Unanswered requests, by peer.
    pub requests: Vec<Request>,
    /// What becomes of a request that is not answered, or else what is decided next without a
    /// message.
    pub next_deadline: Option<Deadline>,
    /// Every peer.
    pub peers: Vec<PeerSync>,
    /// The last 50 changes of the source, oldest first.
    pub source_changes: Vec<SourceChange>,
    /// The download window.
    pub window: Window,
    /// How long a block may hold up the window.
    pub stall_timeout: Duration,
    /// What is on the way.
    pub backlog: Backlog,
    /// Whether sync had to be put on its feet.
    pub watchdog: WatchdogState,
}
