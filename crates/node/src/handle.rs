//! The one way into a running node: [`NodeHandle`].
//!
//! Reads of the chain come from a published [`ChainView`] and never wait. Reads
//! of peers and of sync ask the actor that owns them; they wait for the messages
//! queued before them, which are bounded by the credits, and never for validation.

mod index;
pub(crate) mod links;
mod mining;
mod operator;

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use bitcoin::BlockHash;
use bitcoin::block::Header;
use bytes::Bytes;
use handfast_chain::{Follower, ReadError, SpentOutput, TipInfo};
use handfast_proto::bans::{Ban, BanCommand, BanError};
use handfast_proto::lifecycle::ConnId;
use handfast_proto::peer_table::{
    AddNodeCommand, AddNodeError, AddedNode, DisconnectTarget, HistoryRow, Outlook,
};
use handfast_proto::sync::{self, FetchRefusal, SubmitResult, SyncState};
use handfast_proto::time::Now;
use handfast_wire::RawBlock;

use crate::audit::Audit;
use crate::event_counts::EventCounts;
use crate::kernel_times::KernelTimes;
use crate::listening_socket::ListeningSockets;
use crate::node::messages as to_node;
use crate::peer_manager::{PeerManager, messages as to_peers};
use crate::post::{ask_with, post, post_to};
use crate::shared::Shared;
use crate::sync_manager::{SyncManager, messages as to_sync};
use crate::view::{ChainView, ExitReason, Gone, ListenerInfo, NetworkInfo, PeerInfo, Phase};

use links::{Links, LinksCell};

pub use index::FindError;
pub(crate) use mining::default_threads;
pub use mining::{GenerateError, MiningFailure};
pub use operator::{AddAddressFailure, ConnectFailure, NotRegtest};

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

/// A running node. Cheap to clone; may be used from any thread.
#[derive(Clone)]
pub struct NodeHandle {
    pub(crate) shared: Arc<Shared>,
    pub(crate) links: LinksCell,
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
        let tip = TipInfo {
            hash: tip.hash,
            height: tip.height,
            time: tip.header.time,
            best_header: view.tree.best_header().height,
        };
        progress.guess(&view.network, &tip, self.shared.clock.now().unix)
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
        self.ask_peers(|peers| peers.peers()).await
    }

    /// The connections that ended last, newest last.
    ///
    /// # Errors
    /// [`Gone`] while the node starts and after it stopped.
    pub async fn peer_history(&self) -> Result<Vec<HistoryRow>, Gone> {
        self.ask_peers(|peers| peers.table.history()).await
    }

    /// Leaves inbound connections from `host` out of [`Self::peer_history`] from now on, and
    /// puts those from any other into it; `None`: all are in it. For a caller whose own
    /// connections would push those of others out: `host` is an address of this machine that
    /// only such a caller uses.
    ///
    /// # Errors
    /// [`Gone`] while the node starts and after it stopped.
    pub async fn leave_out_of_history(&self, host: Option<IpAddr>) -> Result<(), Gone> {
        self.ask_peers(move |peers| peers.table.leave_out_of_history(host))
            .await
    }

    /// The addresses that the operator named, and whether they are connected.
    ///
    /// # Errors
    /// [`Gone`] while the node starts and after it stopped.
    pub async fn added_nodes(&self) -> Result<Vec<AddedNode>, Gone> {
        self.ask_peers(|peers| peers.table.added_nodes()).await
    }

    /// What sync is doing, and why.
    ///
    /// # Errors
    /// [`Gone`] while the node starts and after it stopped.
    pub async fn sync_state(&self) -> Result<SyncState, Gone> {
        let mut state = self.ask_sync(|sync| sync.state()).await?;
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

    /// Warns that sync is stalled, until `None` says that it goes on: for the task that watches the
    /// sync and writes the log, so that both say the same at the same time.
    pub fn warn_of_sync(&self, warning: Option<String>) {
        self.shared.set_sync_warning(warning);
    }

    /// What keeps the node from connecting to peers, and the moment at which this is asked.
    /// Never waits.
    #[must_use]
    pub fn outlook(&self) -> (Arc<Outlook>, Now) {
        (self.shared.outlook.load_full(), self.shared.clock.now())
    }

    /// Follows the active chain from now on: how it moves, block by block, with the blocks
    /// themselves, which all followers share.
    ///
    /// # Errors
    /// [`Gone`] while the node starts and after it stopped.
    pub fn follow_chain(&self) -> Result<Follower, Gone> {
        Ok(self.links()?.reader.follow())
    }

    /// Whether sockets, peer table and the subscribers' tables agree.
    ///
    /// # Errors
    /// [`Gone`] while the node starts and after it stopped.
    pub async fn audit(&self) -> Result<Audit, Gone> {
        let (answer, wait) = tokio::sync::oneshot::channel();
        let peers = &self.links()?.peers;
        post(peers, to_peers::AuditPeers { answer });
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
        self.ask_peers(move |peers| peers.answer(|table, now| table.add_node(now, name, command)))
            .await??;
        Ok(())
    }

    /// Disconnects one peer.
    ///
    /// # Errors
    /// No such peer, or [`Gone`].
    pub async fn disconnect(&self, target: DisconnectTarget) -> Result<(), DisconnectFailure> {
        if self
            .ask_peers(move |peers| peers.disconnect_peer(target))
            .await?
        {
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
        self.links()?;
        let now = self.shared.clock.now();
        let bans = self.shared.bans.load().rows(now).collect();
        Ok((bans, now.unix.into()))
    }

    /// Bans, lifts a ban, or lifts all. Banned peers have been disconnected, and the
    /// list is saved, when this answers.
    ///
    /// # Errors
    /// The list's refusal, or [`Gone`].
    pub async fn ban(&self, order: BanCommand) -> Result<(), BanFailure> {
        self.ask_peers(move |peers| peers.ban(order)).await??;
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
        post(&self.links()?.sync, to_sync::SubmitBlock { block, answer });
        wait.await.map_err(|_| Gone::Stopping)
    }

    /// Offers a header; answers when it has been judged.
    ///
    /// # Errors
    /// [`Gone`] while the node starts, shuts down or after it stopped.
    pub async fn submit_header(&self, header: Header) -> Result<SubmitResult, Gone> {
        self.accepts_writes()?;
        let (answer, wait) = tokio::sync::oneshot::channel();
        post(
            &self.links()?.sync,
            to_sync::SubmitHeader { header, answer },
        );
        wait.await.map_err(|_| Gone::Stopping)
    }

    /// Asks a peer for a block whose header is known and whose data is not here.
    ///
    /// # Errors
    /// Why it is not asked, or [`Gone`].
    pub async fn fetch_block(&self, id: ConnId, hash: BlockHash) -> Result<(), FetchFailure> {
        self.ask_sync(move |sync| sync.fetch(id, hash)).await??;
        Ok(())
    }

    /// A serialized block from disk, with or without witness data.
    ///
    /// # Errors
    /// The store's error, or [`Gone`].
    pub async fn block(&self, hash: BlockHash, witness: bool) -> Result<Bytes, BlockError> {
        let reader = self.links()?.reader.clone();
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
        let reader = self.links()?.reader.clone();
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

    /// The registry of listening sockets: a server that listens besides the node adds its own, and
    /// they are probed and shown with the node's.
    #[must_use]
    pub fn listening_sockets(&self) -> &ListeningSockets {
        &self.shared.listening_sockets
    }

    /// Time since the node was started.
    #[must_use]
    pub fn uptime(&self) -> Duration {
        self.shared.clock.now().mono
    }

    /// Begins the shutdown; `why` is logged and shown. A second call changes nothing.
    pub fn shutdown(&self, why: &str) {
        post_to(
            &self.shared.node.shutdown,
            to_node::Shutdown {
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

    /// The actors, unless they do not run yet or do not run any more.
    pub(crate) fn links(&self) -> Result<&Links, Gone> {
        match (self.links.get(), self.phase()) {
            (Some(links), _) => Ok(links),
            (None, Phase::Starting | Phase::Running) => Err(Gone::Starting),
            (None, Phase::Stopping) => Err(Gone::Stopping),
        }
    }

    /// Asks PeerManager, behind what it was sent before.
    pub(crate) async fn ask_peers<T: Send + 'static>(
        &self,
        question: impl FnOnce(&mut PeerManager) -> T + Send + 'static,
    ) -> Result<T, Gone> {
        ask_with(&self.links()?.peers, question).await
    }

    /// Asks SyncManager, behind what it was sent before.
    async fn ask_sync<T: Send + 'static>(
        &self,
        question: impl FnOnce(&mut SyncManager) -> T + Send + 'static,
    ) -> Result<T, Gone> {
        ask_with(&self.links()?.sync, question).await
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
