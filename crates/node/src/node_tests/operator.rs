//! What an operator asks of a running node.

use std::net::SocketAddr;

use bytes::Bytes;

use super::*;
use crate::ConnId;

#[test]
fn the_network_goes_off_and_on_again() {
    with_node(
        |_| {},
        async |node| {
            let mut peer = handshake(node).await;
            audit_of(node, 1, 1).await;
            node.set_network_active(false).await.expect("it runs");
            assert!(!node.network_info().active);
            // Whatever was on its way, then the end.
            while let Some(Ok(_)) = peer.next().await {}
            audit_of(node, 0, 0).await;

            let mut late = connect(node).await.into_inner();
            let read = late.read(&mut [0; 1]).await.unwrap_or(0);
            assert_eq!(read, 0, "closed without a word");
            assert_eq!(node.network_info().acceptor.no_slot, 1);

            node.set_network_active(true).await.expect("it runs");
            let _back = handshake(node).await;
            audit_of(node, 1, 1).await;
        },
    );
}

#[test]
fn any_bytes_are_sent_as_a_message_to_a_peer_that_is_there() {
    with_node(
        |_| {},
        async |node| {
            let mut peer = handshake(node).await;
            audit_of(node, 1, 1).await;
            let id = node.peers().await.expect("it runs")[0].row.id;
            let send = async |id, command: &str, body: &[u8]| {
                let body = Bytes::copy_from_slice(body);
                node.send_raw(id, command, body).await.expect("it runs")
            };
            assert!(send(id, "gibberish", b"\x01\x02").await);
            assert!(send(id, "pong", &7u64.to_le_bytes()).await);
            assert!(!send(ConnId(99), "pong", b"").await);
            let too_long = vec![0; handfast_wire::limits::MAX_PAYLOAD_BYTES + 1];
            assert!(!send(id, "pong", &too_long).await);
            let mut seen = Vec::new();
            while seen.last() != Some(&Message::Pong(7)) {
                let frame = peer.next().await.expect("open").expect("well-formed");
                seen.extend(frame.message);
            }
            let command = "gibberish".to_owned();
            assert!(seen.contains(&Message::Unknown { command }), "{seen:?}");
        },
    );
}

#[test]
fn a_ping_is_sent_to_every_peer_and_its_answer_measured() {
    with_node(
        |_| {},
        async |node| {
            let mut peer = handshake(node).await;
            audit_of(node, 1, 1).await;
            // The first ping of every connection is answered, the next one is asked for.
            for round in 0..2 {
                if round == 1 {
                    node.ping().await.expect("it runs");
                }
                let nonce = loop {
                    let frame = peer.next().await.expect("open").expect("well-formed");
                    if let Ok(Message::Ping(nonce)) = frame.message {
                        break nonce;
                    }
                };
                peer.send(Message::Pong(nonce)).await.expect("open");
                until(async || {
                    let traffic = node.peers().await.expect("it runs")[0].traffic;
                    traffic.ping.is_some() && traffic.ping_wait.is_none()
                })
                .await;
            }
        },
    );
}

#[test]
fn whoever_waits_for_the_view_is_told_of_the_end_of_the_node() {
    System::new().block_on(async {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let node = Node::start(config(dir.path())).expect("a fresh directory");
        until(async || node.phase() == Phase::Running).await;
        let waiting = node.clone();
        let wait = actix_rt::spawn(async move { waiting.view_when(|_| false).await.phase });
        node.shutdown("the test is over");
        let phase = tokio::time::timeout(TIMEOUT, wait).await;
        assert_eq!(
            phase.expect("it is told").expect("no panic"),
            Phase::Stopping
        );
        node.stopped().await;
    });
}

#[test]
fn addresses_are_added_and_shown() {
    with_node(
        |_| {},
        async |node| {
            let addr = |n: u8| SocketAddr::from(([10, n, 0, 1], 18_444));
            node.add_address(addr(1), false).await.expect("new");
            node.add_address(addr(2), true).await.expect("new");
            assert!(node.add_address(addr(2), true).await.is_err());
            let rows = node.known_addresses(true).await.expect("it runs");
            let tried: Vec<bool> = rows.iter().map(|row| row.last_success.is_some()).collect();
            assert_eq!(tried, [false, true]);
        },
    );
}
