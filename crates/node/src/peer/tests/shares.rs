//! What connections share, and that none takes it from the others.

use bitcoin::hashes::Hash;
use bitcoin::p2p::message_blockdata::Inventory;
use bytes::BytesMut;
use handfast_wire::encode_head;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::queues::order_block;
use super::*;

#[test]
fn a_frame_head_of_a_block_before_version_ends_the_connection_without_its_bytes() {
    crate::virtual_time::run(async {
        let mut world = World::new();
        let (_actor, remote) = world.connect();
        let head = encode_head(Network::Regtest.magic(), "block", 3_990_000, [0; 4]);
        let mut socket = remote.into_inner();
        socket.write_all(&head).await.expect("open");
        let mut rest = Vec::new();
        socket.read_to_end(&mut rest).await.expect("it is closed");
        settle().await;
        let heard = world.heard();
        assert!(
            matches!(
                &heard[..],
                [Heard::Done(0, DoneReason::ProtocolViolation(_))]
            ),
            "{heard:?}"
        );
    });
}

#[test]
fn a_transaction_that_we_said_we_do_not_want_ends_the_connection_by_its_head() {
    crate::virtual_time::run(async {
        let mut world = World::new();
        let (_actor, remote) = world.ready().await;
        let head = encode_head(Network::Regtest.magic(), "tx", 4_000_000, [0; 4]);
        let mut socket = remote.into_inner();
        socket.write_all(&head).await.expect("open");
        settle().await;
        let heard = world.heard();
        let [Heard::Add(0), Heard::Done(0, reason)] = &heard[..] else {
            panic!("{heard:?}")
        };
        assert!(matches!(reason, DoneReason::ProtocolViolation(_)));
        assert!(!reason.discourages(Reached::Admitted), "as in Core");
    });
}

#[test]
fn an_honest_ping_is_answered_between_the_costly_frames_of_others() {
    const FLOODERS: usize = 8;
    /// Of each, together less than what is read in one burst.
    const FRAMES: usize = 60;
    crate::virtual_time::run(async {
        let mut world = World::new();
        let hash = BlockHash::from_byte_array([7; 32]);
        let inv = Message::Inv(vec![Inventory::Block(hash); 900]);
        let mut flood = BytesMut::new();
        for _ in 0..FRAMES {
            inv.encode_into(Network::Regtest.magic(), &mut flood);
        }
        let mut flooders = Vec::new();
        for _ in 0..FLOODERS {
            let (_actor, mut remote) = world.connect_by(4 << 20);
            handshake(&mut remote).await;
            flooders.push(remote);
        }
        let (_actor, mut honest) = world.ready().await;
        // All is there before anybody reads: nothing here waits.
        for flooder in &mut flooders {
            let socket = flooder.get_mut();
            socket.write_all(&flood).await.expect("the socket takes it");
        }
        send(&mut honest, Message::Ping(5)).await;
        let heard = world.heard.clone();
        let costly = move || {
            let is_inv = |heard: &&Heard| matches!(heard, Heard::Input(_, "inv"));
            heard.borrow().iter().filter(is_inv).count()
        };
        // In a task of its own, which takes its turn among the others.
        let answered = actix_rt::spawn({
            let costly = costly.clone();
            async move {
                wait_for(&mut honest, |message| *message == Message::Pong(5)).await;
                costly()
            }
        });
        let before = answered.await.expect("the pong comes");
        assert!(before <= 8 * FLOODERS, "{before} frames came first");
        settle().await;
        assert_eq!(costly(), FRAMES * FLOODERS, "the flood is read, too");
    });
}

#[test]
fn who_does_not_read_blocks_delays_nobody_but_itself() {
    crate::virtual_time::run(async {
        let mut bytes = bitcoin::consensus::serialize(&genesis());
        bytes.resize(3_990_000, 0);
        let mut world = World::serving(bytes.into());
        let mut silent = Vec::new();
        // More than there is memory for.
        for id in 0..7 {
            let (actor, remote) = world.ready().await;
            order_block(&actor, ConnId(id), 0);
            silent.push((actor, remote));
        }
        let (actor, mut reader) = world.ready().await;
        for ticket in 0..3 {
            order_block(&actor, ConnId(7), ticket);
            // Reading blocks takes real time, which virtual time does not wait for.
            let is_block = |message: &Message| matches!(message, Message::Block(_));
            let Message::Block(block) = wait_for(&mut reader, is_block).await else {
                unreachable!("waited for it");
            };
            assert_eq!(block.bytes.len(), 3_990_000);
        }
        let is_done = |heard: &Heard| matches!(heard, Heard::Done(..));
        assert!(!world.heard().iter().any(is_done), "nobody is disconnected");
        // Late ones get theirs when they read at last.
        for (_, remote) in &mut silent {
            wait_for(remote, |message| matches!(message, Message::Block(_))).await;
        }
    });
}
