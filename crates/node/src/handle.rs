//! The one way into a running node: [`NodeHandle`].
//!
//! Reads of the chain come from a published [`ChainView`] and never wait. Reads
//! of peers and of sync ask the actor that owns them; they wait for the messages
//! queued before them, which are bounded by the credits, and never for validation.

mod index;
mod mining;
mod operator;

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use bitcoin::BlockHash;
use bitcoin::block::Header;
use bitcoin::p2p::ServiceFlags;
use bytes::Bytes;
use handfast_chain::{ReadError, SpentOutput, Stand};
use handfast_proto::address_relay::OwnAddress;
use handfast_proto::bans::{Ban, BanError, BanOrder};
use handfast_proto::headers::HeaderTree;
use handfast_proto::lifecycle::ConnId;
use handfast_proto::peer_table::{
    AddNodeCommand, AddNodeError, AddedNode, DisconnectTarget, HistoryRow, Outlook, PeerRow,
};
use handfast_proto::sync::{self, FetchRefusal, SubmitResult, SyncState};
use handfast_proto::time::Now;
use handfast_wire::{Network, RawBlock};

use crate::accept_queue::Overflows;
use crate::audit::Audit;
use crate::entrance::{EntranceInfo, Entrances};
use crate::event_counts::EventCounts;
use crate::kernel_times::KernelTimes;
use crate::mail::{self, ask};
use crate::shared::Shared;
use crate::stats::{Totals, Traffic};

pub use index::FindError;
pub(crate) use mining::default_threads;
pub use mining::{GenerateError, MiningFailure};
pub use operator::{AddAddressFailure, ConnectFailure, NotRegtest};

/// Where the node is in its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Phase {
    /// The block index is being opened; nothing can be answered yet (RPC error -28).
    Starting,
    /// Everything runs.
    Running,
    /// The node shuts down: nothing new is accepted.
    Stopping,
}

/// What is known of the chain, at one moment. Cheap to take, never changes once taken.
#[derive(Clone, Debug)]
pub struct ChainView {
    /// Every header known, with the active chain (O(1) snapshot).
    pub tree: HeaderTree,
    /// The network.
    pub network: Network,
    /// Where the node is in its life.
    pub phase: Phase,
    /// Whether `tree` and what is said of the chain below is what the kernel has. Not while
    /// the node starts, and never when the start fails or is given up: `tree` is the
    /// genesis block then, and nobody is to be told that this is the chain.
    pub open: bool,
    /// What the start is at, one line, as long as the chain is not open.
    pub starting: String,
    /// Whether the tip is still far behind (Core's sense of the word).
    pub initial_block_download: bool,
    /// Bytes of blocks and undo data on disk.
    pub size_on_disk: u64,
    /// What an operator should know, one line each.
    pub warnings: Vec<String>,
}

/// The node is not there to answer: not yet, or no longer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Gone {
    /// The block index is still being opened.
    #[error("the node is starting")]
    Starting,
    /// It shuts down or has stopped.
    #[error("the node is shutting down")]
    Stopping,
}

/// Why a block could not be had.
#[derive(Debug, thiserror::Error)]
pub enum BlockError {
    /// The node is not there to answer.
    #[error(transparent)]
    Gone(#[from] Gone),
    /// The store does not have it or could not read it.
    #[error(transparent)]
    Read(#[from] ReadError),
}

/// Why `addnode` changed nothing.
#[derive(Debug, thiserror::Error)]
pub enum AddNodeFailure {
    /// The node is not there to answer.
    #[error(transparent)]
    Gone(#[from] Gone),
    /// The list says no.
    #[error(transparent)]
    Refused(#[from] AddNodeError),
}

/// Why `setban` changed nothing.
#[derive(Debug, thiserror::Error)]
pub enum BanFailure {
    /// The node is not there to answer.
    #[error(transparent)]
    Gone(#[from] Gone),
    /// The list says no.
    #[error(transparent)]
    Refused(#[from] BanError),
}

/// Why `getblockfrompeer` asked for nothing.
#[derive(Debug, thiserror::Error)]
pub enum FetchFailure {
    /// The node is not there to answer.
    #[error(transparent)]
    Gone(#[from] Gone),
    /// Sync says no.
    #[error(transparent)]
    Refused(#[from] FetchRefusal),
}

/// Why `disconnectnode` changed nothing.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum DisconnectFailure {
    /// The node is not there to answer.
    #[error(transparent)]
    Gone(#[from] Gone),
    /// No peer matches.
    #[error("no such peer is connected")]
    NotConnected,
}

/// A peer: what the table knows of it, and what went over its socket.
#[derive(Clone, Debug)]
pub struct PeerInfo {
    /// The table's row: address, direction, version, services, claims.
    pub row: PeerRow,
    /// Bytes, times, ping.
    pub traffic: Traffic,
    /// Its handshake is not complete: the table does not know it yet.
    pub half_open: bool,
}

/// A socket that we accept peers on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LocalAddress {
    /// The bound address.
    pub addr: SocketAddr,
}

/// Connections that arrived since start, all listening sockets together.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Intake {
    /// Taken out of the accept queue.
    pub accepted: u64,
    /// Of those, closed at once because the operator banned their address.
    pub banned: u64,
    /// Of those, closed at once because no slot was free.
    pub no_slot: u64,
    /// Of those, closed at once because no descriptor was free.
    pub no_descriptor: u64,
    /// Pauses because the system was out of descriptors or memory.
    pub exhausted: u64,
    /// Peers that lost their slot to a newcomer.
    pub evicted: u64,
    /// Newcomers that were refused after their handshake, since all slots were taken by peers
    /// that are worth more or have just come.
    pub turned_away: u64,
}

/// What `getlistenerinfo` shows.
#[derive(Clone, Debug)]
pub struct ListenerInfo {
    /// Every listening socket, those for peers first.
    pub sockets: Vec<EntranceInfo>,
    /// Connections that the system could not queue since the node started, those of all
    /// programs in its network namespace; `None` where the system does not tell.
    pub overflows: Option<Overflows>,
}

/// What `getnetworkinfo` shows.
#[derive(Clone, Debug)]
pub struct NetworkInfo {
    /// BIP14 user agent.
    pub user_agent: String,
    /// The protocol version that we speak.
    pub protocol_version: i32,
    /// What we offer.
    pub local_services: ServiceFlags,
    /// The sockets that we accept peers on.
    pub local_addresses: Vec<LocalAddress>,
    /// Where peers can reach us, by address: what is announced to them is chosen from these.
    pub own_addresses: Vec<OwnAddress>,
    /// Whether peers may connect to us.
    pub listening: bool,
    /// Whether the operator did not switch the network off.
    pub active: bool,
    /// Inbound peers: their handshake is complete.
    pub peers_in: usize,
    /// Outbound and manual peers: their handshake is complete.
    pub peers_out: usize,
    /// Inbound connections, those in the handshake among them.
    pub connections_in: usize,
    /// Outbound and manual connections, those in the handshake among them.
    pub connections_out: usize,
    /// What became of connections that arrived.
    pub intake: Intake,
    /// Seconds by which the clocks of peers that we dialled differ from ours (median); never used.
    pub time_offset: i64,
    /// Bytes and messages since start, all connections that ever were.
    pub totals: Totals,
}

/// Why the node ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ExitReason {
    /// Somebody asked for it; who or why.
    Requested(String),
    /// Something broke that the node cannot run without.
    Failed(String),
}

impl ExitReason {
    /// What the process ends with: 0 only if somebody asked for the end and everything
    /// ended as it should.
    #[must_use]
    pub fn exit_code(&self) -> u8 {
        match self {
            Self::Requested(_) => 0,
            Self::Failed(_) => 1,
        }
    }
}

/// A running node. Cheap to clone; may be used from any thread.
#[derive(Clone)]
pub struct NodeHandle {
    pub(crate) shared: Arc<Shared>,
}

impl std::fmt::Debug for NodeHandle {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("NodeHandle")
            .field("phase", &self.phase())
            .finish_non_exhaustive()
    }
}

impl NodeHandle {
    /// The latest snapshot of the chain. Never waits.
    #[must_use]
    pub fn view(&self) -> Arc<ChainView> {
        self.shared.view.load_full()
    }

    /// Waits until the view satisfies `wanted`, or the node stops, and returns it.
    /// Waiting holds no thread.
    ///
    /// # Cancel safety
    /// May be dropped and called again.
    pub async fn view_when(&self, wanted: impl Fn(&ChainView) -> bool) -> Arc<ChainView> {
        let mut news = self.shared.news.subscribe();
        loop {
            // Marked as heard before the view is taken: a later one is news again.
            news.mark_unchanged();
            let view = self.view();
            if view.phase == Phase::Stopping || wanted(&view) {
                return view;
            }
            if news.changed().await.is_err() {
                return view;
            }
        }
    }

    /// Estimated share of the chain that is validated, 0.0 to 1.0, as Bitcoin Core estimates
    /// it: by transactions, and by the clock. Never waits.
    #[must_use]
    pub fn verification_progress(&self) -> f64 {
        let Some(progress) = self.shared.progress.get() else {
            return 0.0;
        };
        let view = self.view();
        let tip = view.tree.tip();
        let stand = Stand {
            hash: tip.hash,
            height: tip.height,
            time: tip.header.time,
            best_header: view.tree.best_header().height,
        };
        progress.guess(&view.network, &stand, self.shared.clock.now().unix)
    }

    /// Where the node is in its life. Never waits.
    #[must_use]
    pub fn phase(&self) -> Phase {
        self.shared.view.load().phase
    }

    /// Every admitted peer, oldest first.
    ///
    /// # Errors
    /// [`Gone`] while the node starts and after it stopped.
    pub async fn peers(&self) -> Result<Vec<PeerInfo>, Gone> {
        ask(&self.shared.links()?.peers, mail::Peers).await
    }

    /// The connections that ended last, newest last.
    ///
    /// # Errors
    /// [`Gone`] while the node starts and after it stopped.
    pub async fn peer_history(&self) -> Result<Vec<HistoryRow>, Gone> {
        ask(&self.shared.links()?.peers, mail::PeerHistory).await
    }

    /// Leaves inbound connections from `host` out of [`Self::peer_history`] from now on, and
    /// puts those from any other into it; `None`: all are in it. For a caller whose own
    /// connections would push those of others out: `host` is an address of this machine that
    /// only such a caller uses.
    ///
    /// # Errors
    /// [`Gone`] while the node starts and after it stopped.
    pub async fn leave_out_of_history(&self, host: Option<IpAddr>) -> Result<(), Gone> {
        ask(&self.shared.links()?.peers, mail::LeaveOutOfHistory(host)).await
    }

    /// The addresses that the operator named, and whether they are connected.
    ///
    /// # Errors
    /// [`Gone`] while the node starts and after it stopped.
    pub async fn added_nodes(&self) -> Result<Vec<AddedNode>, Gone> {
        ask(&self.shared.links()?.peers, mail::AddedNodes).await
    }

    /// What sync is doing, and why.
    ///
    /// # Errors
    /// [`Gone`] while the node starts and after it stopped.
    pub async fn sync_state(&self) -> Result<SyncState, Gone> {
        let mut state = ask(&self.shared.links()?.sync, mail::QuerySyncState).await?;
        if state.phase == sync::Phase::NoPeers {
            let (outlook, now) = self.outlook();
            if let Some(trouble) = outlook.trouble(now) {
                state.why = match state.peers.is_empty() {
                    true => trouble,
                    false => format!("{}; {trouble}", state.why),
                };
            }
        }
        Ok(state)
    }

    /// Warns that sync is stalled, until `None` says that it goes on: for whoever watches the
    /// sync and tells the log, so that both say the same at the same time.
    pub fn warn_of_sync(&self, warning: Option<String>) {
        self.shared.set_sync_warning(warning);
    }

    /// What keeps the node from connecting to peers, and the moment at which this is asked.
    /// Never waits.
    #[must_use]
    pub fn outlook(&self) -> (Arc<Outlook>, Now) {
        (self.shared.outlook.load_full(), self.shared.clock.now())
    }

    /// Whether sockets, peer table and sync table agree.
    ///
    /// # Errors
    /// [`Gone`] while the node starts and after it stopped.
    pub async fn audit(&self) -> Result<Audit, Gone> {
        let (answer, wait) = tokio::sync::oneshot::channel();
        let peers = &self.shared.links()?.peers;
        mail::post(peers, mail::AuditPeers { answer });
        wait.await.map_err(|_| Gone::Stopping)
    }

    /// Adds or removes an address to stay connected to, or tries one once.
    ///
    /// # Errors
    /// The list's refusal, or [`Gone`].
    pub async fn add_node(
        &self,
        name: String,
        command: AddNodeCommand,
    ) -> Result<(), AddNodeFailure> {
        ask(&self.shared.links()?.peers, mail::AddNode { name, command }).await??;
        Ok(())
    }

    /// Disconnects one peer.
    ///
    /// # Errors
    /// No such peer, or [`Gone`].
    pub async fn disconnect(&self, target: DisconnectTarget) -> Result<(), DisconnectFailure> {
        if ask(&self.shared.links()?.peers, mail::DisconnectPeer { target }).await? {
            Ok(())
        } else {
            Err(DisconnectFailure::NotConnected)
        }
    }

    /// The operator's bans in force, by subnet, and the moment, Unix seconds. Never waits.
    ///
    /// # Errors
    /// [`Gone`] while the node starts.
    pub fn bans(&self) -> Result<(Vec<Ban>, i64), Gone> {
        self.shared.links()?;
        let now = self.shared.clock.now();
        let bans = self.shared.bans.load().rows(now).collect();
        Ok((bans, now.unix.into()))
    }

    /// Bans, lifts a ban, or lifts all. Whoever is banned has been told to go, and the
    /// list is saved, when this answers.
    ///
    /// # Errors
    /// The list's refusal, or [`Gone`].
    pub async fn ban(&self, order: BanOrder) -> Result<(), BanFailure> {
        ask(&self.shared.links()?.peers, mail::BanPeers { order }).await??;
        let shared = self.shared.clone();
        if let Err(error) = off_the_arbiter(move || shared.save_bans()).await? {
            tracing::warn!(%error, "cannot save bans.dat; trying again when the bans change, and at the end");
        }
        Ok(())
    }

    /// Offers a block; answers when the kernel has judged it. The view shows it by then.
    ///
    /// # Errors
    /// [`Gone`] while the node starts, shuts down or after it stopped.
    pub async fn submit_block(&self, block: RawBlock) -> Result<SubmitResult, Gone> {
        self.accepts_writes()?;
        let (answer, wait) = tokio::sync::oneshot::channel();
        mail::post(
            &self.shared.links()?.sync,
            mail::SubmitBlock { block, answer },
        );
        wait.await.map_err(|_| Gone::Stopping)
    }

    /// Offers a header; answers when it has been judged.
    ///
    /// # Errors
    /// [`Gone`] while the node starts, shuts down or after it stopped.
    pub async fn submit_header(&self, header: Header) -> Result<SubmitResult, Gone> {
        self.accepts_writes()?;
        let (answer, wait) = tokio::sync::oneshot::channel();
        mail::post(
            &self.shared.links()?.sync,
            mail::SubmitHeader { header, answer },
        );
        wait.await.map_err(|_| Gone::Stopping)
    }

    /// Asks a peer for a block whose header is known and whose data is not here.
    ///
    /// # Errors
    /// Why it is not asked, or [`Gone`].
    pub async fn fetch_block(&self, id: ConnId, hash: BlockHash) -> Result<(), FetchFailure> {
        ask(&self.shared.links()?.sync, mail::FetchBlock { id, hash }).await??;
        Ok(())
    }

    /// A serialized block from disk, with or without witness data.
    ///
    /// # Errors
    /// The store's error, or [`Gone`].
    pub async fn block(&self, hash: BlockHash, witness: bool) -> Result<Bytes, BlockError> {
        let reader = self.shared.links()?.reader.clone();
        let read = move || {
            if witness {
                reader.read(&hash)
            } else {
                reader.read_stripped(&hash)
            }
        };
        Ok(off_the_arbiter(read).await??)
    }

    /// The outputs that a connected block spends, from its undo data.
    ///
    /// # Errors
    /// The store's error, or [`Gone`].
    pub async fn spent_outputs(
        &self,
        hash: BlockHash,
    ) -> Result<Vec<Vec<SpentOutput>>, BlockError> {
        let reader = self.shared.links()?.reader.clone();
        Ok(off_the_arbiter(move || reader.spent_outputs(&hash)).await??)
    }

    /// What we are on the network. Never waits.
    #[must_use]
    pub fn network_info(&self) -> NetworkInfo {
        self.shared.network_info()
    }

    /// How long the kernel's jobs took so far. Never waits.
    #[must_use]
    pub fn kernel_times(&self) -> &KernelTimes {
        &self.shared.kernel_times
    }

    /// What happened to connections since the start. Waits for an addition at most.
    #[must_use]
    pub fn event_counts(&self) -> EventCounts {
        self.shared.events.read()
    }

    /// Unix seconds of the node's clock, which on regtest can be set.
    #[must_use]
    pub fn unix_time(&self) -> u32 {
        self.shared.clock.now().unix
    }

    /// What is known of every listening socket. Never waits.
    #[must_use]
    pub fn listeners(&self) -> ListenerInfo {
        self.shared.listeners()
    }

    /// The registry of listening sockets: whoever listens besides the node adds its own, and
    /// they are probed and shown with the node's.
    #[must_use]
    pub fn entrances(&self) -> &Entrances {
        &self.shared.entrances
    }

    /// Time since the node was started.
    #[must_use]
    pub fn uptime(&self) -> Duration {
        self.shared.clock.now().mono
    }

    /// Begins the shutdown; `why` is logged and shown. A second call changes nothing.
    pub fn shutdown(&self, why: &str) {
        mail::post(
            &self.shared.node,
            mail::Shutdown {
                why: why.to_owned(),
            },
        );
    }

    /// Resolves when everything has stopped and is saved.
    ///
    /// # Cancel safety
    /// May be dropped and called again.
    pub async fn stopped(&self) -> ExitReason {
        let mut exit = self.shared.exit.clone();
        let ended = exit
            .wait_for(Option::is_some)
            .await
            .ok()
            .and_then(|reason| reason.clone());
        ended.unwrap_or_else(|| ExitReason::Failed("the node's own actor died".into()))
    }

    fn accepts_writes(&self) -> Result<(), Gone> {
        match self.phase() {
            Phase::Starting => Err(Gone::Starting),
            Phase::Running => Ok(()),
            Phase::Stopping => Err(Gone::Stopping),
        }
    }
}

/// Runs a blocking read on the blocking pool of the calling runtime.
async fn off_the_arbiter<T: Send + 'static>(
    read: impl FnOnce() -> T + Send + 'static,
) -> Result<T, Gone> {
    tokio::task::spawn_blocking(read)
        .await
        .map_err(|_| Gone::Stopping)
}
