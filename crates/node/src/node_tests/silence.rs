//! Silent connections keep no others out.

use super::admission::connect_from;
use super::*;
use crate::DoneReason;

/// More than there are places in the handshake.
const SILENT: u8 = 100;

#[test]
fn three_hundred_silent_connections_keep_neither_a_newcomer_nor_a_slow_handshake_out() {
    let reason = with_node(
        |config| config.max_handshakes = 256,
        async |node| {
            let slow = connect_from(node, [127, 9, 0, 1]).await;
            let mut silent = Vec::new();
            for subnet in 0..3 {
                for host in 1..=SILENT {
                    silent.push(connect_from(node, [127, 1, subnet, host]).await);
                }
            }
            // 45 had to go for later ones, and only silent ones.
            until(async || {
                let audit = node.audit().await.expect("it runs");
                let full = [audit.in_handshake, audit.sockets, audit.slots_taken] == [256; 3];
                full && node.peer_history().await.expect("it runs").len() >= 45
            })
            .await;
            let history = node.peer_history().await.expect("it runs");
            assert_eq!(history.len(), 45);
            for row in &history {
                assert_eq!(row.reason, DoneReason::Evicted);
                assert!(row.remote.to_string().starts_with("127.1."), "{row:?}");
            }

            let _newcomer = shake(connect_from(node, [127, 8, 0, 1]).await).await;
            let _of_their_group = shake(connect_from(node, [127, 1, 0, 200]).await).await;
            let _slow = shake(slow).await;
            until(async || node.network_info().peers_in == 3).await;
            let acceptor = node.network_info().acceptor;
            assert_eq!((acceptor.accepted, acceptor.no_slot), (303, 0));
            let audit = node.audit().await.expect("it runs");
            assert_eq!(audit.peer_manager.adds, 3);
            assert!(audit.in_handshake <= 256);
        },
    );
    assert!(matches!(reason, ExitReason::Requested(_)), "{reason:?}");
}
