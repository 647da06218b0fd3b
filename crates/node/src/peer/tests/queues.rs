//! What is bounded, and what happens at the bound.

use bytes::BytesMut;
use handfast_wire::Locator;
use tokio::io::AsyncWriteExt;

use super::*;
use crate::credit::MAX_FRAMES;

#[test]
fn a_remote_that_does_not_read_is_cut_off() {
    crate::virtual_time::run(async {
        let mut world = World::new();
        let (_actor, remote) = world.ready().await;
        let (_unread, mut write) = tokio::io::split(remote.into_inner());
        let mut frame = BytesMut::new();
        Message::Ping(1).encode_into(Network::Regtest.magic(), &mut frame);
        // Its pongs pile up: first in the stream, then in the queue.
        for _ in 0..2 * crate::outbox::MAX_MESSAGES {
            if write.write_all(&frame).await.is_err() {
                break;
            }
        }
        settle().await;
        assert_eq!(
            world.heard(),
            [Heard::Add(0), Heard::Done(0, DoneReason::SlowReader)]
        );
    });
}

#[test]
fn a_manager_that_finds_the_queue_full_is_told_and_does_not_wait() {
    crate::virtual_time::run(async {
        let mut world = World::new();
        let (_actor, _remote) = world.ready().await;
        let outbox = world.links.borrow()[0].outbox.clone();
        let locator = Locator {
            hashes: vec![genesis().block_hash(); 100],
            stop: genesis().block_hash(),
        };
        let sent = std::iter::repeat_n((), 10_000)
            .take_while(|()| outbox.push(Message::GetHeaders(locator.clone())).is_ok())
            .count();
        assert!((10..=crate::outbox::MAX_MESSAGES).contains(&sent), "{sent}");
    });
}

#[test]
fn without_credit_nothing_more_is_taken_off_the_socket() {
    crate::virtual_time::run(async {
        let clerk = Clerk {
            holding: true,
            ..Clerk::default()
        };
        let mut world = World::with(clerk);
        let (_actor, remote) = world.ready().await;
        let (mut sink, _stream) = remote.split();
        let sender = actix_rt::spawn(async move {
            for _ in 0..16 * MAX_FRAMES {
                sink.send(Message::GetAddr)
                    .await
                    .expect("the connection is open");
            }
        });
        settle().await;
        assert_eq!(
            world.held.borrow().len(),
            MAX_FRAMES,
            "handled frames, credit kept"
        );
        assert!(!sender.is_finished(), "the sender is held up");
        // Each frame that is done with lets one more in.
        world.held.borrow_mut().truncate(MAX_FRAMES - 3);
        settle().await;
        assert_eq!(world.held.borrow().len(), MAX_FRAMES);
        for _ in 0..32 {
            world.held.borrow_mut().clear();
            settle().await;
        }
        assert!(sender.is_finished());
        assert_eq!(world.heard().len(), 1 + 16 * MAX_FRAMES);
    });
}

/// A block of a million bytes as far as the wire is concerned: a header and more.
fn big_block() -> Bytes {
    let mut bytes = bitcoin::consensus::serialize(&genesis());
    bytes.resize(1_000_000, 0);
    bytes.into()
}

pub(super) fn order_block(actor: &Addr<Peer>, id: ConnId, ticket: u64) {
    let order = ServeBlock {
        from: handfast_proto::lifecycle::Role::Sync,
        id,
        ticket,
        hash: genesis().block_hash(),
        witness: true,
    };
    crate::post::post(actor, order);
}

#[test]
fn served_blocks_come_in_order_and_wait_for_a_slow_reader_who_is_not_cut_off() {
    const BLOCKS: u64 = 30;
    crate::virtual_time::run(async {
        let mut world = World::serving(big_block());
        let (actor, mut remote) = world.ready().await;
        let hash = genesis().block_hash();
        for ticket in 0..BLOCKS {
            order_block(&actor, ConnId(0), ticket);
        }
        // Reading blocks takes real time, which virtual time does not wait for.
        let reported = |world: &World| world.heard().len() - 1;
        while reported(&world) < 1 {
            settle().await;
        }
        tokio::time::sleep(Duration::from_secs(60)).await;
        assert_eq!(
            reported(&world),
            1,
            "the next ones are read when it was written"
        );
        for _ in 0..BLOCKS {
            let is_block = |message: &Message| matches!(message, Message::Block(_));
            let Message::Block(block) = wait_for(&mut remote, is_block).await else {
                unreachable!("waited for it");
            };
            assert_eq!((block.hash, block.bytes.len()), (hash, 1_000_000));
        }
        settle().await;
        let served: Vec<Heard> = world.heard().into_iter().skip(1).collect();
        assert_eq!(served, (0..BLOCKS).map(Heard::Served).collect::<Vec<_>>());
    });
}

#[test]
fn a_block_that_cannot_be_read_is_answered_with_notfound() {
    crate::virtual_time::run(async {
        let mut world = World::serving(Bytes::new());
        let (actor, mut remote) = world.ready().await;
        order_block(&actor, ConnId(0), 7);
        let is_answer = |message: &Message| matches!(message, Message::NotFound(_));
        let Message::NotFound(items) = wait_for(&mut remote, is_answer).await else {
            unreachable!("waited for it");
        };
        let hash = genesis().block_hash();
        assert_eq!(
            items,
            [bitcoin::p2p::message_blockdata::Inventory::WitnessBlock(
                hash
            )]
        );
        while world.heard().len() < 2 {
            settle().await;
        }
        assert_eq!(world.heard()[1], Heard::Served(7));
    });
}
