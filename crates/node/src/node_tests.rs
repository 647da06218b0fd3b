//! Whole nodes: real arbiters, real sockets on loopback, the real kernel.

mod admission;
mod death;
mod held_up;
mod listening;
mod mining;
mod operator;
mod silence;

use std::cell::RefCell;
use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use actix::{Handler, System};
use futures_util::{SinkExt, StreamExt};
use handfast_wire::{Codec, Message, Network, Version};
use tokio::io::AsyncReadExt;
use tokio::net::TcpStream;
use tokio_util::codec::Framed;

use crate::peer_manager::PeerManager;
use crate::post::{Posted, post};
use crate::sync_manager::SyncManager;
use crate::{
    Audit, ExitReason, Gone, Node, NodeConfig, NodeHandle, Phase, Role, StartError, SubscriberTable,
};

/// Longer than anything here takes; a test that waits this long has failed.
const TIMEOUT: Duration = Duration::from_secs(30);

fn config(datadir: &Path) -> NodeConfig {
    let mut config = NodeConfig::new(Network::Regtest, datadir.join("regtest"));
    config.listen = vec!["127.0.0.1:0".parse().expect("an address")];
    config.dial = false;
    config
}

/// Runs `test` in a system of its own, with a node, and stops the node.
fn with_node(
    change: impl FnOnce(&mut NodeConfig),
    test: impl AsyncFnOnce(&NodeHandle),
) -> ExitReason {
    let dir = tempfile::tempdir().expect("a temporary directory");
    System::new().block_on(async {
        let mut config = config(dir.path());
        change(&mut config);
        let node = Node::start(config).expect("a fresh directory and a free port");
        until(async || node.phase() == Phase::Running).await;
        test(&node).await;
        node.shutdown("the test is over");
        tokio::time::timeout(TIMEOUT, node.stopped())
            .await
            .expect("it stops")
    })
}

/// Waits until `condition` holds.
async fn until(condition: impl AsyncFn() -> bool) {
    let wait = async {
        while !condition().await {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    };
    tokio::time::timeout(TIMEOUT, wait)
        .await
        .expect("the condition comes true");
}

fn address(node: &NodeHandle) -> SocketAddr {
    node.network_info().local_addresses[0].addr
}

type Remote = Framed<TcpStream, Codec>;

async fn connect(node: &NodeHandle) -> Remote {
    let socket = TcpStream::connect(address(node)).await.expect("it listens");
    Framed::new(socket, Codec::new(Network::Regtest.magic()))
}

async fn handshake(node: &NodeHandle) -> Remote {
    shake(connect(node).await).await
}

fn our_version() -> Version {
    let nowhere =
        bitcoin::p2p::Address::new(&([0, 0, 0, 0], 0).into(), bitcoin::p2p::ServiceFlags::NONE);
    Version {
        version: 70_016,
        services: bitcoin::p2p::ServiceFlags::NETWORK | bitcoin::p2p::ServiceFlags::WITNESS,
        timestamp: 1_700_000_000,
        receiver: nowhere.clone(),
        sender: Some(nowhere),
        nonce: Some(3),
        user_agent: "/remote:1/".into(),
        start_height: Some(1_000_000),
        relay: false,
    }
}

async fn shake(mut remote: Remote) -> Remote {
    let version = Message::Version(our_version());
    remote.send(version).await.expect("open");
    loop {
        let frame = remote.next().await.expect("open").expect("well-formed");
        if frame.message == Ok(Message::Verack) {
            break;
        }
    }
    remote.send(Message::Verack).await.expect("open");
    remote
}

async fn audit_of(node: &NodeHandle, sockets: usize, ready: usize) -> Audit {
    let found = RefCell::new(None);
    until(async || {
        let audit = node.audit().await.expect("it runs");
        let settled = audit.agrees()
            && (audit.sockets, audit.slots_taken) == (sockets, sockets)
            && audit.peer_table.len() == ready;
        // This one and no later one: a moment after, the node's own probe may be there.
        found.replace(settled.then_some(audit));
        settled
    })
    .await;
    found.into_inner().expect("it was there a moment ago")
}

/// What SyncManager holds.
fn sync(audit: &Audit) -> &SubscriberTable {
    audit.of(Role::Sync).expect("it is a subscriber")
}

/// Makes a manager panic, as a bug in it would.
struct Explode;

impl actix::Message for Explode {
    type Result = ();
}

impl Posted for Explode {}

impl Handler<Explode> for PeerManager {
    type Result = ();
    fn handle(&mut self, _: Explode, _: &mut Self::Context) {
        panic!("a bug in PeerManager, on purpose");
    }
}

impl Handler<Explode> for SyncManager {
    type Result = ();
    fn handle(&mut self, _: Explode, _: &mut Self::Context) {
        panic!("a bug in SyncManager, on purpose");
    }
}

#[test]
fn shutdown_with_live_peers_closes_them_and_leaves_both_tables_empty() {
    let reason = with_node(
        |_| {},
        async |node| {
            let mut remotes = Vec::new();
            for _ in 0..3 {
                remotes.push(handshake(node).await);
            }
            let silent = connect(node).await;
            let audit = audit_of(node, 4, 3).await;
            assert_eq!((audit.in_handshake, audit.slots_taken), (1, 4));
            let info = node.network_info();
            assert_eq!((info.peers_in, info.connections_in), (3, 4));
            node.shutdown("with live peers");
            // That the tables are empty is asserted by the managers: a violation
            // would make the reason of the exit a failure.
            for remote in remotes.into_iter().chain([silent]) {
                let mut rest = Vec::new();
                remote
                    .into_inner()
                    .read_to_end(&mut rest)
                    .await
                    .expect("closed in an orderly way");
            }
        },
    );
    assert_eq!(reason, ExitReason::Requested("with live peers".into()));
}

#[test]
fn peers_that_come_and_go_leave_no_ghost() {
    let reason = with_node(
        |_| {},
        async |node| {
            for round in 0..50 {
                let one = handshake(node).await;
                let other = connect(node).await;
                if round % 2 == 0 {
                    drop((one, other));
                } else {
                    drop((other, one));
                }
            }
            let audit = audit_of(node, 0, 0).await;
            assert_eq!((audit.slots_taken, audit.sync_peer), (0, None));
            assert_eq!(audit.peer_manager.dones, 100);
            assert_eq!(sync(&audit).handled.adds, sync(&audit).handled.dones);
            assert_eq!(sync(&audit).handled.adds, audit.peer_manager.adds);
            let lifecycle = audit.lifecycle;
            assert_eq!(lifecycle.queued, 0);
            assert!((1..=lifecycle.bound).contains(&lifecycle.most));
            assert_eq!(audit.slots_total * 2, lifecycle.bound);
            let mut invariants = audit.invariants().into_iter();
            assert!(invariants.all(|invariant| invariant.held));
            assert_eq!(node.peer_history().await.expect("it runs").len(), 100);
        },
    );
    assert!(matches!(reason, ExitReason::Requested(_)), "{reason:?}");
}

#[test]
fn a_panic_in_a_manager_ends_the_node_with_a_failure() {
    for who in ["PeerManager", "SyncManager"] {
        let reason = with_node(
            |_| {},
            async |node| {
                let _remote = handshake(node).await;
                audit_of(node, 1, 1).await;
                let links = node.links().expect("it runs");
                match who {
                    "PeerManager" => post(&links.peers, Explode),
                    _ => post(&links.sync, Explode),
                }
                until(async || node.phase() == Phase::Stopping).await;
            },
        );
        let ExitReason::Failed(why) = reason else {
            panic!("a failure, not {reason:?}")
        };
        assert!(why.contains(who), "{why}");
    }
}

#[test]
fn a_node_that_is_told_to_stop_while_it_starts_stops() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    System::new().block_on(async {
        let node = Node::start(config(dir.path())).expect("a fresh directory");
        assert_eq!(
            node.peers().await.expect_err("it is starting"),
            Gone::Starting
        );
        node.shutdown("at once");
        let reason = tokio::time::timeout(TIMEOUT, node.stopped())
            .await
            .expect("it stops");
        assert_eq!(reason, ExitReason::Requested("at once".into()));
        assert_eq!(
            node.peers().await.expect_err("it has stopped"),
            Gone::Stopping
        );
    });
}

#[test]
fn an_occupied_port_or_directory_is_refused_and_nothing_changes_on_disk() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let taken = std::net::TcpListener::bind("127.0.0.1:0").expect("a free port");
    let mut wants_it = config(dir.path());
    wants_it.listen = vec![taken.local_addr().expect("bound")];
    System::new().block_on(async {
        let refused = Node::start(wants_it).expect_err("the port is taken");
        assert!(matches!(refused, StartError::Listen { .. }));
        assert!(refused.to_string().contains("--listen"), "{refused}");
        assert_eq!(std::fs::read_dir(dir.path()).expect("listable").count(), 0);

        let first = Node::start(config(dir.path())).expect("a fresh directory");
        let second = Node::start(config(dir.path())).expect_err("the directory is in use");
        assert!(matches!(second, StartError::Datadir(_)), "{second}");
        first.shutdown("the test is over");
        first.stopped().await;
        let again = Node::start(config(dir.path())).expect("free again");
        again.shutdown("the test is over");
        assert!(matches!(again.stopped().await, ExitReason::Requested(_)));
    });
}

#[test]
fn a_node_dials_the_address_that_it_is_told_to_connect_to() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let reason = with_node(
        |_| {},
        async |server| {
            let mut config = config(dir.path());
            config.listen.clear();
            config.connect = vec![address(server).to_string()];
            let client = Node::start(config).expect("a fresh directory");
            audit_of(server, 1, 1).await;
            until(async || client.network_info().peers_out == 1).await;
            client.shutdown("the test is over");
            assert!(matches!(client.stopped().await, ExitReason::Requested(_)));
            audit_of(server, 0, 0).await;
        },
    );
    assert!(matches!(reason, ExitReason::Requested(_)), "{reason:?}");
}

/// A valid first block of regtest.
fn first_block() -> handfast_wire::RawBlock {
    use bitcoin::blockdata::script::Builder;
    let mut block = Network::Regtest.genesis_block();
    block.header.prev_blockhash = block.block_hash();
    let coinbase = &mut block.txdata[0];
    coinbase.input[0].script_sig = Builder::new().push_int(1).push_int(0).into_script();
    block.header.version = bitcoin::block::Version::from_consensus(0x2000_0000);
    block.header.merkle_root = block.compute_merkle_root().expect("it has a transaction");
    block.header.time += 600;
    let target = block.header.target();
    while block.header.validate_pow(target).is_err() {
        block.header.nonce += 1;
    }
    handfast_wire::RawBlock::new(bitcoin::consensus::serialize(&block).into()).expect("a block")
}

#[test]
fn a_submitted_block_is_in_the_view_when_the_answer_comes_and_is_served_to_peers() {
    with_node(
        |_| {},
        async |node| {
            let mut remote = handshake(node).await;
            audit_of(node, 1, 1).await;
            let block = first_block();
            let answer = node.submit_block(block.clone()).await.expect("it runs");
            assert_eq!(answer, crate::SubmitResult::Accepted);
            assert_eq!(node.view().tree.tip().hash, block.hash);
            let again = node.submit_block(block.clone()).await.expect("it runs");
            assert_eq!(again, crate::SubmitResult::Duplicate);
            let read = node.block(block.hash, true).await.expect("it is on disk");
            assert_eq!(read, block.bytes);

            let wanted = bitcoin::p2p::message_blockdata::Inventory::WitnessBlock(block.hash);
            let order = Message::GetData(vec![wanted]);
            remote.send(order).await.expect("open");
            loop {
                let frame = remote.next().await.expect("open").expect("well-formed");
                if let Ok(Message::Block(served)) = frame.message {
                    assert_eq!(served.bytes, block.bytes);
                    break;
                }
            }
            let peers = node.peers().await.expect("it runs");
            let traffic = peers[0].traffic;
            assert!(traffic.bytes_sent.sum() > 285 && traffic.bytes_received.sum() > 100);
            let state = node.sync_state().await.expect("it runs");
            assert_eq!(state.tip.hash, block.hash);
        },
    );
}
