//! Which actors know each other, and where they run.

use std::net::SocketAddr;
use std::sync::Arc;
use std::thread::JoinHandle;

use actix::dev::channel::AddressReceiver;
use actix::{Actor, Addr, Context};
use actix_rt::ArbiterHandle;
use bitcoin::ScriptBuf;
use handfast_chain::Chain;
use handfast_proto::address_book::{AddressBook, Row};
use handfast_proto::address_relay::{Origin, OwnAddresses};
use handfast_proto::lifecycle::{Role, Roles};
use handfast_proto::mining::{MinerConfig, anyone_can_spend_payout};
use handfast_proto::peer_table::{MAX_MANUAL, PeerTable, PeerTableConfig};
use handfast_proto::random::Random;
use handfast_proto::session::SessionConfig;
use handfast_proto::sync::{SyncConfig, SyncManager as SyncMachine};
use handfast_proto::time::Now;
use handfast_wire::Network;
use tokio::sync::Semaphore;

use crate::acceptor::Acceptor;
use crate::arbiters::Arbiters;
use crate::config::NodeConfig;
use crate::connector::{Connector, Results};
use crate::credit::block_budget;
use crate::critical_guard::CriticalGuard;
use crate::descriptors::OpenFiles;
use crate::frame_reader::Exceeding;
use crate::handle::default_threads;
use crate::handle::links::{Links, LinksCell};
use crate::handshake_permits::HandshakePermits;
use crate::indexer;
use crate::interfaces;
use crate::large_frames::LargeFrames;
use crate::listener::{Bound, Listener};
use crate::miner::Miner;
use crate::node::messages::Open;
use crate::opening::{Mailbox, Mailboxes};
use crate::outbox::QueuedToAll;
use crate::peer::PeerContext;
use crate::peer_manager::PeerManager;
use crate::peer_manager::messages::ToPeers;
use crate::seeds::Seeds;
use crate::serve::{BlockServing, READERS};
use crate::shared::Shared;
use crate::spill::SpillFile;
use crate::subscribers::{Subscriber, Subscribers};
use crate::sync_manager::SyncManager;

/// What is needed to start the actors, once the kernel is open.
#[derive(Debug)]
pub(crate) struct Wiring {
    pub(crate) config: NodeConfig,
    pub(crate) files: OpenFiles,
    pub(crate) listening: Vec<Bound>,
    pub(crate) mailboxes: Mailboxes,
    pub(crate) links: LinksCell,
}

/// Everything that runs, for the one who stops it.
#[derive(Debug)]
pub(crate) struct Running {
    pub(crate) listener: Addr<Listener>,
    pub(crate) connector: Addr<Connector>,
    pub(crate) peers: Addr<PeerManager>,
    pub(crate) subscribers: Subscribers,
    pub(crate) miner: Addr<Miner>,
    pub(crate) chain: Arc<Chain>,
    /// The threads of indexes, which end by themselves when the node stops.
    pub(crate) indexers: Vec<JoinHandle<()>>,
}

/// Starts the actors: first those that receive, last those that let anybody in.
pub(crate) fn start(
    wiring: Wiring,
    open: Open,
    arbiters: &Arbiters,
    shared: &Arc<Shared>,
) -> Running {
    let Wiring {
        config,
        files,
        listening,
        mailboxes: Mailboxes { peers, sync },
        links,
    } = wiring;
    warn_of_files(files, &config);
    let seeds = Seeds::new(config.seed);
    let chain = Arc::new(open.chain);
    let context = Arc::new(surroundings(&config, &seeds, &chain, &peers.addr, shared));
    let connector = Mailbox::new();

    let machine = SyncMachine::new(
        SyncConfig::new(&config.network, config.minimum_work, seeds.of("sync")),
        open.tree,
    );
    shared.bans_loaded(&open.bans);
    shared.mined_before(open.mined);
    let own = own_addresses(&config, &shared.listen);
    let now = shared.clock.now();
    let subscribers = subscribers(&sync.addr);
    let roles = subscribers.roles();
    let table = table(&config, own, roles, &seeds, open.addresses, now).with_bans(open.bans);
    // Links first: no accepted connection finds them missing.
    let reader = chain.reader();
    let miner = Mailbox::new();
    let linked = links.set(Links {
        peers: peers.addr.clone(),
        sync: sync.addr.clone(),
        miner: miner.addr.clone(),
        reader,
    });
    linked.expect("the node is wired once");

    let listener = Mailbox::new();
    let mut running = Running {
        listener: listener.addr,
        connector: connector.addr.clone(),
        peers: peers.addr.clone(),
        subscribers: subscribers.clone(),
        miner: miner.addr,
        chain: chain.clone(),
        indexers: vec![],
    };
    let critical_guard = |who| CriticalGuard::new(who, shared.node.died.clone());
    // Made here, and not on its arbiter: it publishes what the kernel has, and that
    // comes before the phase that lets readers look.
    let reader = chain.reader();
    let manager = SyncManager::new(machine, chain, to_peers(&peers.addr), shared.clone());
    running.indexers = indexer::start(shared, &reader);
    run_on(&arbiters.core, sync.messages, move || manager);
    run_on(&arbiters.miner, miner.messages, {
        let (sync, shared) = (sync.addr.clone().recipient(), shared.clone());
        let machine = miner_config(&config, seeds.of("miner"));
        let (at_start, totals) = (mine_at_start(&config), open.mined);
        move || Miner::new(machine, totals, sync, shared, at_start)
    });
    run_on(&arbiters.core, peers.messages, {
        let (connector, shared) = (connector.addr, shared.clone());
        move || PeerManager::new(table, subscribers, connector, shared)
    });
    let results = Results {
        failed: peers.addr.clone().recipient(),
        not_dialled: peers.addr.clone().recipient(),
        resolved: peers.addr.recipient(),
    };
    let (timeout, permits) = (config.dial_timeout, config.max_handshakes);
    let (net, shared) = (arbiters.net.clone(), shared.clone());
    let (of_connector, of_listener) = (critical_guard("Connector"), critical_guard("Listener"));
    // Together: they share the handshake room, which stays on their arbiter.
    arbiters.listener.spawn_fn(move || {
        let acceptor = Acceptor::new(&shared, context, net, HandshakePermits::new(permits));
        Context::with_receiver(connector.messages).run(Connector::new(
            acceptor.clone(),
            timeout,
            results,
            of_connector,
        ));
        Context::with_receiver(listener.messages).run(Listener::new(
            listening,
            shared.listening_sockets.clone(),
            acceptor,
            shared.clock,
            of_listener,
        ));
    });
    running
}

fn miner_config(config: &NodeConfig, seed: u64) -> MinerConfig {
    MinerConfig {
        network: config.network.clone(),
        interval: config.mining.interval,
        tag: config.mining.tag.clone(),
        seed,
    }
}

/// Threads and payout, if mining is to begin with the node.
fn mine_at_start(config: &NodeConfig) -> Option<(usize, ScriptBuf)> {
    let mining = &config.mining;
    if !mining.at_start {
        return None;
    }
    let payout = mining
        .payout
        .clone()
        .or_else(|| anyone_can_spend_payout(&config.network));
    if payout.is_none() || config.network.signet_needs_a_signature() {
        tracing::error!(
            "mining does not start: {}",
            if payout.is_none() {
                "a payout address is needed"
            } else {
                "blocks of this signet need a signature"
            }
        );
        return None;
    }
    let threads = mining.threads.unwrap_or_else(default_threads);
    payout.map(|payout| (threads, payout))
}

/// Says what the hard limit on open files costs, if it costs anything.
fn warn_of_files(files: OpenFiles, config: &NodeConfig) {
    if !files.suffice() {
        tracing::warn!(
            limit = files.limit,
            needed = files.needed,
            max_inbound = config.max_inbound,
            max_handshakes = config.max_handshakes,
            "the hard limit on open files is too low for this configuration, fewer peers are let in; raise it (ulimit -Hn, or LimitNOFILE= of systemd), or lower --max-inbound"
        );
    }
}

/// Runs an actor, whose mailbox exists, on an arbiter.
fn run_on<A>(
    arbiter: &ArbiterHandle,
    messages: AddressReceiver<A>,
    make: impl FnOnce() -> A + Send + 'static,
) where
    A: Actor<Context = Context<A>>,
{
    arbiter.spawn_fn(move || {
        Context::with_receiver(messages).run(make());
    });
}

fn surroundings(
    config: &NodeConfig,
    seeds: &Seeds,
    chain: &Chain,
    peers: &Addr<PeerManager>,
    shared: &Shared,
) -> PeerContext {
    let mut session = SessionConfig::new(config.user_agent.clone(), seeds.key("nonce"));
    session.handshake_timeout = config.handshake_timeout;
    let spill = Arc::new(SpillFile::within(&config.datadir));
    let large_frames = || Arc::new(LargeFrames::spilling_to(spill.clone()));
    PeerContext {
        session: Arc::new(session),
        clock: shared.clock,
        add: peers.clone().recipient(),
        input: peers.clone().recipient(),
        done: peers.clone().recipient(),
        block_serving: BlockServing {
            reader: Arc::new(chain.reader()),
            readers: Arc::new(Semaphore::new(READERS)),
            served: peers.clone().recipient(),
            memory: large_frames(),
            clock: shared.clock,
        },
        blocks: block_budget(),
        large: large_frames(),
        exceeding: Exceeding::default(),
        queued: QueuedToAll::default(),
        totals: shared.totals.clone(),
        height: shared.height.clone(),
        half_open: shared.half_open.clone(),
        seed: seeds.of("sessions"),
        magic: config.network.magic(),
    }
}

/// PeerManager, as its subscribers know it.
pub(crate) fn to_peers(peers: &Addr<PeerManager>) -> ToPeers {
    ToPeers {
        command: peers.clone().recipient(),
        serve: peers.clone().recipient(),
    }
}

/// The roles of [`subscribers`]: what slots are bounded by, before the actors are there.
pub(crate) const SUBSCRIBERS: Roles = Roles::NONE.with(Role::Sync);

/// SyncManager, as PeerManager knows it.
pub(crate) fn sync_manager(sync: &Addr<SyncManager>) -> Subscriber {
    Subscriber::new(Role::Sync, sync).with_served(sync.clone().recipient())
}

/// PeerManager's subscribers. A manager that is to be notified of connections is one more entry
/// here.
pub(crate) fn subscribers(sync: &Addr<SyncManager>) -> Subscribers {
    let all = Subscribers::new(vec![sync_manager(sync)]);
    assert_eq!(all.roles(), SUBSCRIBERS, "L5: slots are bounded by these");
    all
}

/// Where we are.
fn own_addresses(config: &NodeConfig, listen: &[SocketAddr]) -> OwnAddresses {
    let discovers = config.discover.unwrap_or(config.external.is_empty());
    let mut own = OwnAddresses::new(listen, &config.external_addresses(listen), discovers);
    if discovers {
        for addr in interfaces::discover(listen) {
            own.add(addr, Origin::Interface);
        }
    }
    own
}

fn table(
    config: &NodeConfig,
    own: OwnAddresses,
    subscribers: Roles,
    seeds: &Seeds,
    addresses: Vec<Row>,
    now: Now,
) -> PeerTable {
    let network = &config.network;
    let allow_private_addresses = matches!(network, Network::Regtest);
    let settings = PeerTableConfig {
        max_inbound: config.max_inbound,
        max_outbound: config.max_outbound,
        max_manual: MAX_MANUAL,
        connect_only: config.connect.clone(),
        add_nodes: config.add_nodes.clone(),
        dial: config.dial,
        dns_seeds: network
            .dns_seeds()
            .iter()
            .map(|&seed| seed.to_owned())
            .collect(),
        allow_private_addresses,
        own,
        subscribers,
        ..PeerTableConfig::new(network.p2p_port(), seeds.of("peer table"))
    };
    let mut random = Random::new(seeds.of("address book"));
    let book = AddressBook::from_rows(allow_private_addresses, addresses, &mut random);
    PeerTable::new(settings, book, now)
}
