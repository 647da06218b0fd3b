//! A manager is held up while connections come and go.

use std::cell::Cell;
use std::rc::Rc;
use std::sync::mpsc;

use tokio::sync::oneshot;

use super::*;
use crate::handle::links::Links;

/// Blocks the thread of its receiver until it is let go.
struct Hold {
    held: oneshot::Sender<()>,
    until: mpsc::Receiver<()>,
}

impl actix::Message for Hold {
    type Result = ();
}

impl Posted for Hold {}

impl Hold {
    fn take_hold(self) {
        let _ = self.held.send(());
        // Fails when the test lets go.
        let _ = self.until.recv_timeout(TIMEOUT);
    }
}

impl Handler<Hold> for PeerManager {
    type Result = ();
    fn handle(&mut self, hold: Hold, _: &mut Self::Context) {
        hold.take_hold();
    }
}

impl Handler<Hold> for SyncManager {
    type Result = ();
    fn handle(&mut self, hold: Hold, _: &mut Self::Context) {
        hold.take_hold();
    }
}

/// Lets go of a manager when dropped.
struct Held {
    _let_go: mpsc::Sender<()>,
}

async fn hold_up(node: &NodeHandle, whom: impl FnOnce(&Links, Hold)) -> Held {
    let (held, is_held) = oneshot::channel();
    let (let_go, until) = mpsc::channel();
    whom(node.links().expect("it runs"), Hold { held, until });
    is_held.await.expect("the manager lives");
    Held { _let_go: let_go }
}

fn peer_manager(links: &Links, hold: Hold) {
    post(&links.peers, hold);
}

fn sync_manager(links: &Links, hold: Hold) {
    post(&links.sync, hold);
}

#[test]
fn a_connection_without_a_slot_is_closed_when_none_comes_home() {
    with_node(
        |config| {
            (config.max_inbound, config.max_handshakes) = (0, 1);
            config.net_arbiters = 1;
        },
        async |node| {
            let slots = node.audit().await.expect("it runs").slots_total;
            let inbound = slots - node.shared.slots.counts().outgoing;
            // Each displaces the one before, whose slot is not freed.
            let held = hold_up(node, peer_manager).await;
            let mut remotes = Vec::new();
            for _ in 0..inbound {
                remotes.push(connect(node).await);
            }
            until(async || node.shared.slots.counts().taken == inbound).await;
            let mut refused = connect(node).await.into_inner();
            let read = refused.read(&mut [0; 1]).await;
            assert_eq!(read.expect("closed, not hanging"), 0);
            let acceptor = node.network_info().acceptor;
            assert_eq!(
                (acceptor.accepted, acceptor.no_slot),
                (inbound as u64 + 1, 1)
            );
            drop(held);
            let audit = audit_of(node, 1, 0).await;
            assert_eq!(audit.peer_manager.dones, inbound as u64 - 1);
        },
    );
}

/// Connects, shakes hands and drops the connection, again and again.
async fn come_and_go(node: NodeHandle, enough: Rc<Cell<bool>>) {
    let mut hello = bytes::BytesMut::new();
    for message in [Message::Version(our_version()), Message::Verack] {
        message.encode_into(Network::Regtest.magic(), &mut hello);
    }
    while !enough.get() {
        let mut socket = TcpStream::connect(address(&node))
            .await
            .expect("it listens");
        let _ = tokio::io::AsyncWriteExt::write_all(&mut socket, &hello).await;
        // Its version, or the end because no slot is free.
        let answered = socket.read(&mut [0; 1]).await.is_ok_and(|bytes| bytes > 0);
        drop(socket);
        if !answered {
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }
}

/// 300 remotes come and go; then a manager is held up for 5 s while they go on.
fn churn_while_held_up(whom: fn(&Links, Hold)) {
    let reason = with_node(
        |config| config.net_arbiters = 1,
        async |node| {
            let enough = Rc::<Cell<bool>>::default();
            let remotes: Vec<_> = (0..300)
                .map(|_| actix_rt::spawn(come_and_go(node.clone(), enough.clone())))
                .collect();
            until(async || node.network_info().acceptor.accepted > 1_000).await;
            let held = hold_up(node, whom).await;
            let until_then = tokio::time::Instant::now() + Duration::from_secs(5);
            // More than one message per slot: the bound is worth something.
            until(async || {
                let slot_counts = node.shared.slots.counts();
                slot_counts.queued > slot_counts.total
            })
            .await;
            tokio::time::sleep_until(until_then).await;
            let slot_counts = node.shared.slots.counts();
            assert!(
                slot_counts.most_queued <= slot_counts.bound,
                "{slot_counts:?}"
            );
            assert!(slot_counts.queued > slot_counts.total, "{slot_counts:?}");
            drop(held);

            enough.set(true);
            for remote in remotes {
                remote.await.expect("remotes do not panic");
            }
            let audit = audit_of(node, 0, 0).await;
            let lifecycle = audit.lifecycle;
            assert_eq!((audit.slots_taken, lifecycle.queued), (0, 0), "{audit:?}");
            assert!(lifecycle.most <= lifecycle.bound, "{audit:?}");
            let mut invariants = audit.invariants().into_iter();
            assert!(invariants.all(|invariant| invariant.held), "{audit:?}");
            // The node's own probe may come at any moment, and is done soon.
            until(async || {
                let audit = node.audit().await.expect("it runs");
                audit.peer_manager.dones == node.shared.slots.counts().opened
            })
            .await;
        },
    );
    assert!(matches!(reason, ExitReason::Requested(_)), "{reason:?}");
}

#[test]
fn at_most_two_lifecycle_messages_per_slot_are_queued_while_peer_manager_is_held_up() {
    churn_while_held_up(peer_manager);
}

#[test]
fn at_most_two_lifecycle_messages_per_slot_are_queued_while_sync_manager_is_held_up() {
    churn_while_held_up(sync_manager);
}
