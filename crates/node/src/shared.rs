//! What a [`NodeHandle`](crate::NodeHandle) reads: published by the actors,
//! owned by no actor, never waited for.

use std::collections::BTreeMap;
use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::atomic::{AtomicI64, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use arc_swap::ArcSwap;
use handfast_chain::Progress;
use handfast_proto::address_relay::OwnAddress;
use handfast_proto::bans::BanList;
use handfast_proto::headers::HeaderTree;
use handfast_proto::mining::{MiningState, Totals, Why};
use handfast_proto::peer_table::Outlook;
use handfast_proto::session::{PROTOCOL_VERSION, offered};
use handfast_wire::Network;
use tokio::sync::watch;

use crate::accept_queue::Overflows;
use crate::clock::Clock;
use crate::config::MiningConfig;
use crate::event_counts::EventCounters;
use crate::half_open::HalfOpen;
use crate::indexed::{IndexName, Indexed};
use crate::kernel_times::KernelTimes;
use crate::listening_socket::{ListeningSockets, PEERS};
use crate::node::messages::ToNode;
use crate::slots::Slots;
use crate::state_files::StateFiles;
use crate::stats::TotalCounters;
use crate::view::{
    Acceptor, ChainView, ExitReason, ListenerInfo, LocalAddress, NetworkInfo, Phase,
};

/// What a start is at first. Core's words.
const LOADING: &str = "Loading block index…";

/// See the module.
#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) clock: Clock,
    pub(crate) datadir: PathBuf,
    pub(crate) state: StateFiles,
    pub(crate) user_agent: String,
    pub(crate) listen: Vec<SocketAddr>,
    /// Where peers can reach us, published by PeerManager.
    pub(crate) own: ArcSwap<Vec<OwnAddress>>,
    pub(crate) view: ArcSwap<ChainView>,
    /// What makes up the view's warnings.
    warnings: Mutex<Warnings>,
    /// Published by Miner.
    pub(crate) mining: ArcSwap<MiningState>,
    pub(crate) mining_config: MiningConfig,
    /// Notified after every change of `view`.
    pub(crate) news: watch::Sender<()>,
    pub(crate) node: ToNode,
    pub(crate) exit: watch::Receiver<Option<ExitReason>>,
    pub(crate) slots: Slots,
    pub(crate) totals: Arc<TotalCounters>,
    /// Connections in the handshake, listed by themselves. `published` is published under its lock
    /// when one of them is admitted.
    pub(crate) half_open: HalfOpen,
    pub(crate) kernel_times: KernelTimes,
    pub(crate) events: Arc<EventCounters>,
    /// Known once the chain is open.
    pub(crate) progress: OnceLock<Arc<Progress>>,
    /// Those that the operator wants.
    pub(crate) indexes: Vec<Indexed>,
    /// Height of our tip, for `version` messages.
    pub(crate) height: Arc<AtomicU64>,
    pub(crate) published: PublishedCounts,
    pub(crate) listening_sockets: ListeningSockets,
    /// What the system had counted when the node started.
    overflows: Option<Overflows>,
    /// What keeps us from peers, published by PeerManager.
    pub(crate) outlook: ArcSwap<Outlook>,
    /// The operator's bans, published by PeerManager.
    pub(crate) bans: Arc<ArcSwap<BanList>>,
    /// Bytes of blocks and undo data when last looked at.
    disk: AtomicU64,
}

/// Warnings by source: each replaces its own.
#[derive(Debug, Default)]
struct Warnings {
    kernel: Vec<String>,
    miner: Option<String>,
    /// Of the peer table: no peer can be reached.
    network: Option<String>,
    /// Sync is stalled.
    sync: Option<String>,
    /// Of indexes that cannot be updated.
    indexes: BTreeMap<IndexName, String>,
}

/// Admitted connections, published by PeerManager.
#[derive(Debug, Default)]
pub(crate) struct PublishedCounts {
    pub(crate) inbound: AtomicUsize,
    pub(crate) outgoing: AtomicUsize,
    /// Peers that were evicted for others, since start.
    pub(crate) evicted: AtomicU64,
    /// Newcomers that were refused since all inbound slots were taken, since start.
    pub(crate) turned_away: AtomicU64,
    /// Median of the outgoing peers' clocks minus ours, seconds.
    pub(crate) time_offset: AtomicI64,
}

/// What [`Shared::new`] needs from the start of the node.
#[derive(Debug)]
pub(crate) struct ConnectionParams {
    pub(crate) network: Network,
    pub(crate) datadir: PathBuf,
    pub(crate) user_agent: String,
    pub(crate) listen: Vec<SocketAddr>,
    pub(crate) node: ToNode,
    pub(crate) exit: watch::Receiver<Option<ExitReason>>,
    pub(crate) slots: Slots,
    pub(crate) listening_sockets: ListeningSockets,
    pub(crate) clock: Clock,
    pub(crate) mining: MiningConfig,
    pub(crate) indexes: Vec<Indexed>,
}

impl Shared {
    pub(crate) fn new(params: ConnectionParams) -> Self {
        let view = ChainView {
            tree: HeaderTree::new(params.network.genesis()),
            network: params.network,
            phase: Phase::Starting,
            open: false,
            starting: LOADING.into(),
            initial_block_download: true,
            size_on_disk: 0,
            warnings: Vec::new(),
        };
        Self {
            clock: params.clock,
            state: StateFiles::of_directory(&params.datadir),
            datadir: params.datadir,
            user_agent: params.user_agent,
            listen: params.listen,
            own: ArcSwap::default(),
            view: ArcSwap::from_pointee(view),
            warnings: Mutex::default(),
            mining: ArcSwap::from_pointee(MiningState::off(params.mining.interval)),
            mining_config: params.mining,
            news: watch::Sender::new(()),
            node: params.node,
            exit: params.exit,
            slots: params.slots,
            totals: Arc::default(),
            half_open: HalfOpen::default(),
            kernel_times: KernelTimes::default(),
            events: Arc::default(),
            progress: OnceLock::new(),
            indexes: params.indexes,
            height: Arc::default(),
            published: PublishedCounts::default(),
            listening_sockets: params.listening_sockets,
            overflows: Overflows::read(),
            outlook: ArcSwap::default(),
            bans: Arc::default(),
            disk: AtomicU64::new(0),
        }
    }

    pub(crate) fn set_phase(&self, phase: Phase) {
        self.publish(|old| ChainView {
            phase,
            ..ChainView::clone(old)
        });
    }

    /// Changes the view, then wakes those who wait for a change of it.
    pub(crate) fn publish(&self, change: impl FnMut(&Arc<ChainView>) -> ChainView) {
        self.view.rcu(change);
        self.news.send_replace(());
    }

    /// Says what the start is at.
    pub(crate) fn set_starting(&self, starting: &str) {
        self.publish(|old| ChainView {
            starting: starting.to_owned(),
            ..ChainView::clone(old)
        });
    }

    /// The kernel's warnings, all of them.
    pub(crate) fn set_warnings(&self, warnings: &[String]) {
        self.warn(|all| all.kernel = warnings.to_vec());
    }

    /// The miner ended unexpectedly.
    pub(crate) fn miner_died(&self, how: &str) {
        let why = Why::Dead(how.to_owned());
        let text = why.to_string();
        self.mining.rcu(|old| MiningState {
            why: why.clone(),
            hashes: old.hashes,
            found: old.found,
            generated: old.generated,
            stale: old.stale,
            refused: old.refused,
            ..MiningState::off(old.interval)
        });
        self.warn(|all| all.miner = Some(text));
    }

    /// Publishes what keeps us from peers, as a warning too.
    pub(crate) fn set_outlook(&self, outlook: Outlook) {
        let cause = outlook.warning();
        self.outlook.store(Arc::new(outlook));
        self.warn(|all| all.network = cause);
    }

    /// Sync is stalled, or goes on.
    pub(crate) fn set_sync_warning(&self, warning: Option<String>) {
        self.warn(|all| all.sync = warning);
    }

    /// An index cannot be updated, or can again.
    pub(crate) fn set_index_warning(&self, name: IndexName, warning: Option<String>) {
        self.warn(|all| match warning {
            Some(warning) => drop(all.indexes.insert(name, warning)),
            None => drop(all.indexes.remove(&name)),
        });
    }

    /// The index called so, if the operator wants it.
    pub(crate) fn index(&self, name: IndexName) -> Option<&Indexed> {
        self.indexes.iter().find(|indexed| indexed.name == name)
    }

    fn warn(&self, change: impl FnOnce(&mut Warnings)) {
        // Held while they are published, so that of two who do the later one is heard last.
        let mut all = self.warnings.lock().unwrap_or_else(PoisonError::into_inner);
        change(&mut all);
        let own = all.miner.iter().chain(&all.network).chain(&all.sync);
        let own = own.chain(all.indexes.values());
        let warnings: Vec<String> = all.kernel.iter().chain(own).cloned().collect();
        if self.view.load().warnings == warnings {
            return;
        }
        self.publish(|old| ChainView {
            warnings: warnings.clone(),
            ..ChainView::clone(old)
        });
    }

    pub(crate) fn tip_moved(&self, height: u32) {
        self.height.store(u64::from(height), Ordering::Relaxed);
    }

    pub(crate) fn size_on_disk(&self) -> u64 {
        self.disk.load(Ordering::Relaxed)
    }

    /// The bans that were found on disk: in force from now on.
    pub(crate) fn bans_loaded(&self, bans: &BanList) {
        self.bans.store(Arc::new(bans.clone()));
    }

    /// What became of blocks of ours in the runs before this one.
    pub(crate) fn mined_before(&self, totals: Totals) {
        self.mining.rcu(|state| MiningState {
            found: totals.found,
            generated: totals.generated,
            stale: totals.stale,
            refused: totals.refused,
            ..MiningState::clone(state)
        });
    }

    /// Saves what became of blocks of ours, if that changed since it was saved last. Blocks
    /// on the disk: not for an arbiter.
    ///
    /// # Errors
    /// The system's; it is tried again later, and when the node stops.
    pub(crate) fn save_mined(&self) -> io::Result<()> {
        self.state.mined.save(|| self.mining.load().totals())
    }

    /// Saves the bans, if they changed since they were saved last. Blocks on the disk: not
    /// for an arbiter.
    ///
    /// # Errors
    /// The system's; it is tried again with the next change, and when the node stops.
    pub(crate) fn save_bans(&self) -> io::Result<()> {
        let bans = || self.bans.load().rows(self.clock.now()).collect();
        self.state.bans.save(bans)
    }

    /// Looks at the block files. Blocks on the disk: not for an arbiter.
    pub(crate) fn measure_disk(&self) {
        let files = std::fs::read_dir(self.datadir.join("blocks"))
            .into_iter()
            .flatten()
            .flatten();
        let bytes = files
            .filter(|file| {
                file.path()
                    .extension()
                    .is_some_and(|extension| extension == "dat")
            })
            .filter_map(|file| file.metadata().ok())
            .map(|data| data.len())
            .sum();
        self.disk.store(bytes, Ordering::Relaxed);
    }

    pub(crate) fn network_info(&self) -> NetworkInfo {
        let (connections_in, connections_out) = self.half_open.count(|| {
            let counts = [&self.published.inbound, &self.published.outgoing];
            counts.map(|count| count.load(Ordering::Relaxed)).into()
        });
        NetworkInfo {
            user_agent: self.user_agent.clone(),
            protocol_version: PROTOCOL_VERSION,
            local_services: offered(),
            local_addresses: self
                .listen
                .iter()
                .map(|&addr| LocalAddress { addr })
                .collect(),
            own_addresses: self.own.load().to_vec(),
            listening: !self.listen.is_empty(),
            active: self.slots.is_active(),
            peers_in: self.published.inbound.load(Ordering::Relaxed),
            peers_out: self.published.outgoing.load(Ordering::Relaxed),
            connections_in,
            connections_out,
            time_offset: self.published.time_offset.load(Ordering::Relaxed),
            acceptor: Acceptor {
                evicted: self.published.evicted.load(Ordering::Relaxed),
                turned_away: self.published.turned_away.load(Ordering::Relaxed),
                ..self.acceptor()
            },
            totals: self.totals.read(),
        }
    }

    /// Every listening socket.
    pub(crate) fn listeners(&self) -> ListenerInfo {
        let overflows = Overflows::read().zip(self.overflows);
        ListenerInfo {
            sockets: self
                .listening_sockets
                .all()
                .iter()
                .map(|it| it.info())
                .collect(),
            overflows: overflows.map(|(now, at_start)| now.since(at_start)),
        }
    }

    /// The sums over the sockets for peers: they alone have slots.
    fn acceptor(&self) -> Acceptor {
        let mut sum = Acceptor::default();
        for listening in self.listening_sockets.all() {
            if listening.name() == PEERS {
                let info = listening.info();
                sum.accepted += info.accepted;
                sum.banned += info.refused.banned;
                sum.no_slot += info.refused.no_slot;
                sum.no_descriptor += info.refused.no_descriptor;
                sum.exhausted += info.pauses;
            }
        }
        sum
    }
}
