//! Who may connect, over real sockets.

use std::net::IpAddr;

use handfast_proto::lifecycle::Reached;
use tokio::net::TcpSocket;

use super::*;
use crate::{BanCommand, BanTime, Direction, DoneReason};

fn ban(subnet: &str) -> BanCommand {
    BanCommand::Add {
        target: subnet.parse().expect("a subnet"),
        time: BanTime::For(3_600),
    }
}

/// Connects from another address of this machine.
pub(super) async fn connect_from(node: &NodeHandle, from: [u8; 4]) -> Remote {
    let socket = TcpSocket::new_v4().expect("a socket");
    socket
        .bind(SocketAddr::from((from, 0)))
        .expect("loopback is a /8");
    let socket = socket.connect(address(node)).await.expect("it listens");
    Framed::new(socket, Codec::new(Network::Regtest.magic()))
}

/// Waits until the node has closed the connection.
async fn closed(remote: Remote) {
    let mut rest = Vec::new();
    // A reset is an end, too.
    let end = remote.into_inner().read_to_end(&mut rest).await;
    drop(end);
}

#[test]
fn whoever_is_banned_goes_and_is_turned_away_before_the_handshake() {
    with_node(
        |_| {},
        async |node| {
            let remote = shake(connect_from(node, [127, 9, 0, 1]).await).await;
            let other = shake(connect_from(node, [127, 8, 0, 1]).await).await;
            audit_of(node, 2, 2).await;
            node.ban(ban("127.9.0.0/16")).await.expect("it runs");
            closed(remote).await;
            audit_of(node, 1, 1).await;
            let history = node.peer_history().await.expect("it runs");
            assert_eq!(history[0].reason, DoneReason::Banned);

            let mut again = connect_from(node, [127, 9, 7, 7]).await.into_inner();
            let read = again.read(&mut [0; 1]).await.expect("closed, not hanging");
            assert_eq!(read, 0, "not even our version is sent");
            let acceptor = node.network_info().acceptor;
            assert_eq!(
                (acceptor.accepted, acceptor.banned, acceptor.no_slot),
                (3, 1, 0)
            );
            let history = node.peer_history().await.expect("it runs");
            assert_eq!(history.len(), 1, "it never was a connection");

            node.ban(BanCommand::Clear).await.expect("it runs");
            let back = shake(connect_from(node, [127, 9, 7, 7]).await).await;
            audit_of(node, 2, 2).await;
            drop((back, other));
        },
    );
}

#[test]
fn bans_outlast_a_restart_and_a_damaged_file_does_not_stop_the_node() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let datadir = dir.path().join("regtest");
    let file = datadir.join("bans.dat");
    let here = || {
        let datadir = datadir.clone();
        move |config: &mut NodeConfig| config.datadir = datadir
    };
    with_node(here(), async |node| {
        node.ban(ban("192.0.2.0/24")).await.expect("it runs");
        assert!(file.exists(), "saved when the answer comes");
        node.ban(ban("198.51.100.7")).await.expect("it runs");
    });
    with_node(here(), async |node| {
        let (bans, now) = node.bans().expect("it runs");
        let subnets: Vec<String> = bans.iter().map(|ban| ban.target.to_string()).collect();
        assert_eq!(subnets, ["192.0.2.0/24", "198.51.100.7/32"]);
        assert!(bans.iter().all(|ban| ban.until - ban.created == 3_600));
        assert!(
            bans.iter()
                .all(|ban| (ban.created..ban.until).contains(&now))
        );
        let order = BanCommand::Remove {
            target: bans[0].target,
        };
        node.ban(order).await.expect("it runs");
    });
    with_node(here(), async |node| {
        assert_eq!(node.bans().expect("it runs").0.len(), 1);
    });
    std::fs::write(&file, b"HANDFAST but not really").expect("writable");
    let reason = with_node(here(), async |node| {
        assert_eq!(node.bans().expect("it runs").0, []);
        node.ban(ban("203.0.113.9")).await.expect("it runs");
    });
    assert!(matches!(reason, ExitReason::Requested(_)), "{reason:?}");
    assert!(datadir.join("bans.dat.damaged-1").exists());
}

#[test]
fn a_newcomer_of_another_group_gets_a_slot_of_who_held_them_all() {
    with_node(
        |config| config.max_inbound = 2,
        async |node| {
            let first = handshake(node).await;
            audit_of(node, 1, 1).await;
            let second = handshake(node).await;
            audit_of(node, 2, 2).await;
            let newcomer = shake(connect_from(node, [127, 9, 0, 1]).await).await;
            closed(second).await;
            audit_of(node, 2, 2).await;
            let peers = node.peers().await.expect("it runs");
            let remotes: Vec<IpAddr> = peers.iter().map(|peer| peer.row.remote.ip()).collect();
            assert_eq!(
                remotes,
                [IpAddr::from([127, 0, 0, 1]), IpAddr::from([127, 9, 0, 1])]
            );
            let history = node.peer_history().await.expect("it runs");
            let reasons: Vec<&DoneReason> = history.iter().map(|row| &row.reason).collect();
            assert_eq!(reasons, [&DoneReason::Evicted]);
            drop((first, newcomer));
        },
    );
}

#[test]
fn the_history_says_who_came_how_far_for_how_long_and_why_it_ended() {
    with_node(
        |config| config.max_inbound = 1,
        async |node| {
            let admitted = handshake(node).await;
            audit_of(node, 1, 1).await;
            closed(shake(connect(node).await).await).await;
            audit_of(node, 1, 1).await;
            drop(connect(node).await);
            until(async || node.peer_history().await.expect("it runs").len() == 2).await;
            drop(admitted);
            audit_of(node, 0, 0).await;
            let history = node.peer_history().await.expect("it runs");
            let shown: Vec<_> = history
                .iter()
                .map(|row| (row.direction, row.reached))
                .collect();
            let inbound = |reached| (Direction::Inbound, reached);
            assert_eq!(
                shown,
                [
                    inbound(Reached::Handshake),
                    inbound(Reached::Connected),
                    inbound(Reached::Admitted)
                ]
            );
            assert!(matches!(history[0].reason, DoneReason::Refused(_)));
            assert!(history.iter().all(|row| row.lasted > Duration::ZERO));
            assert!(history[2].lasted > history[0].lasted);
        },
    );
}
