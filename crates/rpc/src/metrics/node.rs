//! The state of the node, as gauges and counters.

use std::sync::atomic::AtomicU64;

use handfast_node::mining::{MiningState, Why};
use handfast_node::self_probe::Health;
use handfast_node::{
    Audit, ChainView, ListenerInfo, ListeningSocketInfo, NodeHandle, Phase, SyncPhase, SyncState,
    Totals,
};
use prometheus_client::metrics::counter::{ConstCounter, Counter};
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::{ConstGauge, Gauge};
use prometheus_client::registry::Registry;

use crate::methods;

/// One label and its value.
type Labels = Vec<(&'static str, String)>;
type Row = (Labels, f64);
/// Name, help, and the value of a socket.
type SocketCount = (&'static str, &'static str, fn(&ListeningSocketInfo) -> u64);
/// The same for a value that may be unknown.
type SocketGauge = (
    &'static str,
    &'static str,
    fn(&ListeningSocketInfo) -> Option<f64>,
);

/// Registers everything that is known at the moment. While the node starts or stops the managers
/// do not answer, and their numbers are missing rather than zero; so are those of the chain as
/// long as it is not open.
pub(super) async fn register(registry: &mut Registry, node: &NodeHandle) {
    of_the_process(registry, node);
    of_mining(registry, &node.mining());
    of_the_sockets(registry, &node.listeners());
    let (sync, audit) = (node.sync_state().await, node.audit().await);
    if let Ok(sync) = sync {
        of_sync(registry, &sync);
    }
    if let Ok(audit) = audit {
        of_the_lifecycle(registry, &audit);
    }
}

fn gauges(registry: &mut Registry, name: &str, help: &str, rows: impl IntoIterator<Item = Row>) {
    let family = Family::<Labels, Gauge<f64, AtomicU64>>::default();
    for (labels, value) in rows {
        family.get_or_create(&labels).set(value);
    }
    registry.register(name, help, family);
}

fn counters(
    registry: &mut Registry,
    name: &str,
    help: &str,
    rows: impl IntoIterator<Item = (Labels, u64)>,
) {
    let family = Family::<Labels, Counter>::default();
    for (labels, value) in rows {
        family.get_or_create(&labels).inc_by(value);
    }
    registry.register(name, help, family);
}

fn gauge(registry: &mut Registry, name: &str, help: &str, value: f64) {
    registry.register(name, help, ConstGauge::new(value));
}

fn counter(registry: &mut Registry, name: &str, help: &str, value: u64) {
    registry.register(name, help, ConstCounter::new(value));
}

fn row(label: &'static str, is: &str, value: usize) -> Row {
    (vec![(label, is.to_owned())], value as f64)
}

fn of_the_process(registry: &mut Registry, node: &NodeHandle) {
    let (view, network) = (node.view(), node.network_info());
    let is_up = |phase| usize::from(node.phase() == phase);
    gauges(
        registry,
        "phase",
        "Phase of the node",
        [
            row("phase", "starting", is_up(Phase::Starting)),
            row("phase", "running", is_up(Phase::Running)),
            row("phase", "stopping", is_up(Phase::Stopping)),
        ],
    );
    let uptime = node.uptime().as_secs_f64();
    gauge(registry, "uptime_seconds", "Time since the start", uptime);
    gauges(
        registry,
        "peers",
        "Peers whose handshake is complete, by direction",
        [
            row("direction", "inbound", network.peers_in),
            row("direction", "outbound", network.peers_out),
        ],
    );
    if methods::is_open(&view) {
        of_the_chain(registry, node, &view);
    }
    let acceptor = network.acceptor;
    for (name, help, value) in [
        (
            "accepted",
            "Connections that were accepted",
            acceptor.accepted,
        ),
        ("refused_banned", "Closed at once: banned", acceptor.banned),
        (
            "refused_no_slot",
            "Closed at once: no slot",
            acceptor.no_slot,
        ),
        (
            "refused_full",
            "Closed after the handshake: all slots are taken",
            acceptor.turned_away,
        ),
        (
            "evicted",
            "Inbound peers evicted for another",
            acceptor.evicted,
        ),
        (
            "accept_pauses",
            "Pauses: no descriptor left",
            acceptor.exhausted,
        ),
    ] {
        counter(registry, &format!("p2p_{name}"), help, value);
    }
    of_the_traffic(registry, &network.totals);
    of_connections(registry, node);
    let times = node.kernel_times();
    let help = "Time that the consensus engine spent on a block";
    registry.register("kernel_block_seconds", help, times.blocks.clone());
    let help = "Time that it spent on a batch of headers";
    registry.register("kernel_headers_seconds", help, times.headers.clone());
}

fn of_the_chain(registry: &mut Registry, node: &NodeHandle, view: &ChainView) {
    let height = f64::from(view.tree.tip().height);
    gauge(registry, "blocks", "Height of the validated chain", height);
    let height = f64::from(view.tree.best_header().height);
    gauge(registry, "headers", "Height of the best header", height);
    let progress = node.verification_progress();
    gauge(
        registry,
        "progress",
        "Estimated share of the chain that is validated",
        progress,
    );
    let age = f64::from(node.unix_time()) - f64::from(view.tree.tip().header.time);
    let help = "Time since the block time of the tip; below 0 when that is ahead";
    gauge(registry, "tip_age_seconds", help, age);
    let ibd = f64::from(u8::from(view.initial_block_download));
    let help = "Whether the tip has never been recent yet";
    gauge(registry, "initial_block_download", help, ibd);
    let size = view.size_on_disk as f64;
    gauge(registry, "disk_bytes", "Blocks and undo data on disk", size);
}

/// Connections by reason and outcome, and blocks by class of the peer.
fn of_connections(registry: &mut Registry, node: &NodeHandle) {
    let counts = node.event_counts();
    for (name, help, label, counts) in [
        (
            "disconnects",
            "Connections that ended, by reason",
            "reason",
            &counts.disconnects,
        ),
        (
            "dials",
            "Attempts to connect, by outcome",
            "outcome",
            &counts.dials,
        ),
        (
            "blocks",
            "Blocks that peers sent, by the class of the connection",
            "class",
            &counts.blocks,
        ),
    ] {
        let rows = counts.iter();
        let rows = rows.map(|(is, count)| (vec![(label, (*is).to_owned())], *count));
        counters(registry, &format!("p2p_{name}"), help, rows);
    }
}

/// By command, so that their sum over the label is everything.
fn of_the_traffic(registry: &mut Registry, totals: &Totals) {
    for (name, help, counts) in [
        ("sent_bytes", "Bytes sent to peers", &totals.bytes_sent),
        (
            "received_bytes",
            "Bytes received from peers",
            &totals.bytes_received,
        ),
        (
            "sent_messages",
            "Messages sent to peers",
            &totals.messages_sent,
        ),
        (
            "received_messages",
            "Messages received from peers",
            &totals.messages_received,
        ),
    ] {
        let family = Family::<Labels, Counter>::default();
        for (command, count) in counts.all() {
            let labels = vec![("command", command.to_owned())];
            family.get_or_create(&labels).inc_by(count);
        }
        registry.register(format!("p2p_{name}"), help, family);
    }
    let help = "Messages that could not be read and were dropped";
    counter(registry, "p2p_malformed_messages", help, totals.malformed);
}

/// The figures of `getmininginfo` about our own mining.
fn of_mining(registry: &mut Registry, mining: &MiningState) {
    for (name, help, value) in [
        (
            "mining",
            "Whether mining is switched on",
            f64::from(u8::from(mining.is_on())),
        ),
        (
            "mining_searching",
            "Whether the hash threads have work",
            f64::from(u8::from(mining.why == Why::Hashing)),
        ),
        ("mining_threads", "Hash threads", mining.threads as f64),
        (
            "mining_hashes_per_second",
            "Hashes per second over the last minute",
            mining.hashes_per_second,
        ),
    ] {
        gauge(registry, name, help, value);
    }
    if let Some(expected) = mining.expected {
        let help = "Mean time until the next block is found";
        let seconds = expected.as_secs_f64();
        gauge(registry, "mining_expected_seconds", help, seconds);
    }
    for (name, help, value) in [
        ("hashes", "Hashes of the hash threads", mining.hashes),
        ("found", "Blocks mined that became the tip", mining.found),
        (
            "generated",
            "Blocks made on demand that became the tip",
            mining.generated,
        ),
        ("stale", "Blocks that were found too late", mining.stale),
        (
            "refused",
            "Blocks of ours that were refused or not judged",
            mining.refused,
        ),
    ] {
        counter(registry, &format!("mining_{name}"), help, value);
    }
}

/// The figures of `getlistenerinfo`, by socket.
fn of_the_sockets(registry: &mut Registry, listeners: &ListenerInfo) {
    let label = |socket: &ListeningSocketInfo| -> Labels {
        vec![
            ("socket", socket.name.to_owned()),
            ("address", socket.address.to_string()),
        ]
    };
    let counted: [SocketCount; 6] = [
        ("accepted", "Connections accepted since start", |it| {
            it.accepted
        }),
        ("refused_banned", "Of those, closed: banned", |it| {
            it.refused.banned
        }),
        ("refused_no_slot", "Of those, closed: no slot", |it| {
            it.refused.no_slot
        }),
        (
            "refused_no_descriptor",
            "Of those, closed: no descriptor left",
            |it| it.refused.no_descriptor,
        ),
        ("pauses", "Pauses of accepting: no descriptor left", |it| {
            it.pauses
        }),
        ("recreated", "Times that the socket was bound again", |it| {
            it.probe.recreated
        }),
    ];
    for (name, help, value) in counted {
        let rows = listeners.sockets.iter();
        let rows = rows.map(|socket| (label(socket), value(socket)));
        counters(registry, &format!("listener_{name}"), help, rows);
    }
    let values: [SocketGauge; 3] = [
        ("queue", "Connections in the accept queue now", |it| {
            it.queue.map(|queue| f64::from(queue.now))
        }),
        (
            "backlog",
            "Depth of the accept queue that the system granted",
            |it| it.queue.map(|queue| f64::from(queue.granted)),
        ),
        (
            "accepts",
            "Whether the last self-probe was accepted",
            |it| match it.probe.health {
                Health::Unknown => None,
                Health::Accepting | Health::Busy => Some(1.0),
                Health::Failing => Some(0.0),
            },
        ),
    ];
    for (name, help, value) in values {
        let rows = listeners.sockets.iter();
        let rows = rows.filter_map(|socket| Some((label(socket), value(socket)?)));
        gauges(registry, &format!("listener_{name}"), help, rows);
    }
    if let Some(overflows) = listeners.overflows {
        let help = "Accept queues that overflowed since start, of all the system";
        counter(registry, "listener_overflows", help, overflows.overflows);
        let help = "Connections dropped by listening sockets since start, of all the system";
        counter(registry, "listener_drops", help, overflows.drops);
    }
}

fn of_sync(registry: &mut Registry, sync: &SyncState) {
    let phases = [
        SyncPhase::NoPeers,
        SyncPhase::HeaderSync,
        SyncPhase::BlockSync,
        SyncPhase::Synced,
        SyncPhase::Stalled,
    ];
    let rows = phases.map(|phase| {
        let is = usize::from(sync.phase == phase);
        row("phase", &phase.to_string(), is)
    });
    gauges(registry, "sync_phase", "Phase of the sync", rows);
    for (name, help, value) in [
        (
            "sync_lag_blocks",
            "Blocks that the chain lacks of the best one known",
            sync.missing as usize,
        ),
        (
            "sync_requests",
            "Requests without an answer",
            sync.requests.len(),
        ),
        (
            "sync_blocks_asked",
            "Blocks requested from peers",
            sync.backlog.in_flight,
        ),
        (
            "kernel_blocks_queued",
            "Blocks with the consensus engine",
            sync.backlog.with_kernel,
        ),
        (
            "kernel_bytes_queued",
            "The same, bytes",
            sync.backlog.kernel_bytes,
        ),
        (
            "kernel_header_batches_queued",
            "Header batches with it",
            sync.backlog.header_batches,
        ),
    ] {
        gauge(registry, name, help, value as f64);
    }
    let watchdog = &sync.watchdog;
    for (name, help, value) in [
        (
            "watchdog_checks",
            "Checks of sync by the watchdog",
            watchdog.checks,
        ),
        ("watchdog_fired", "Times that it had to act", watchdog.fired),
        (
            "watchdog_sought_peers",
            "Times that it requested more peers",
            watchdog.sought_peers,
        ),
    ] {
        counter(registry, name, help, value);
    }
}

fn of_the_lifecycle(registry: &mut Registry, audit: &Audit) {
    gauges(
        registry,
        "connections",
        "Open connections, by state",
        [
            row("state", "handshake", audit.in_handshake),
            row(
                "state",
                "ready",
                audit.sockets - audit.in_handshake.min(audit.sockets),
            ),
        ],
    );
    let subscribers = audit.subscribers.iter();
    let tables = subscribers.map(|it| row("manager", it.role.name(), it.peers.len()));
    let tables = [row("manager", "peers", audit.peer_table.len())]
        .into_iter()
        .chain(tables);
    gauges(
        registry,
        "table_peers",
        "Peers in the table of each manager",
        tables,
    );
    for (name, help, value) in [
        ("slots", "Slots for connections", audit.slots_total),
        ("slots_taken", "Of those, taken", audit.slots_taken),
        (
            "lifecycle_queued",
            "Lifecycle messages not handled yet",
            audit.lifecycle.queued,
        ),
        (
            "lifecycle_queued_most",
            "Most lifecycle messages queued so far",
            audit.lifecycle.most,
        ),
        (
            "lifecycle_queued_bound",
            "Bound of queued lifecycle messages",
            audit.lifecycle.bound,
        ),
    ] {
        gauge(registry, name, help, value as f64);
    }
    let subscribers = audit.subscribers.iter();
    let subscribers = subscribers.map(|it| (it.role.name(), it.handled));
    for (manager, handled) in [("peers", audit.peer_manager)]
        .into_iter()
        .chain(subscribers)
    {
        let help = "Lifecycle messages that the manager has handled";
        counter(registry, &format!("{manager}_adds"), help, handled.adds);
        counter(registry, &format!("{manager}_dones"), help, handled.dones);
    }
    let broken = audit.invariants().iter().filter(|one| !one.held).count();
    gauge(
        registry,
        "invariants_broken",
        "Lifecycle invariants that do not hold",
        broken as f64,
    );
}
