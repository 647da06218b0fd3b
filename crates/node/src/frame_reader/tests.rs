use std::time::Duration;

use bitcoin::BlockHash;
use bitcoin::hashes::Hash;
use bitcoin::p2p::message_blockdata::Inventory;
use futures_util::{FutureExt, StreamExt};
use handfast_proto::receiving::{
    MAX_INBOUND_BYTES, MAX_UNASKED_BYTES, MOST_UNASKED, UNASKED_BURST,
};
use handfast_wire::{Locator, Network, RawBlock, encode_head};
use tokio::io::{AsyncWriteExt, DuplexStream, duplex};

use super::*;
use crate::credit::block_budget;
use crate::outbox::{Outbox, Outlet, QueuedToAll, outbox};
use crate::spill::{PIECE, SpillFile};

/// What a socket buffers without being read, bytes: all that a test sends.
const SOCKET: usize = 8 << 20;
/// Blocks of [`Connection::all_but_the_last_byte`] that fit into memory.
const FIT: usize = MAX_INBOUND_BYTES / 3_990_000;
/// The same where a remote sends from another task.
const SMALL_SOCKET: usize = 64 << 10;

fn shares() -> Shares {
    Shares {
        large: Arc::default(),
        blocks: block_budget(),
        exceeding: Exceeding::default(),
        clock: Clock::virtual_from(1_700_000_000),
    }
}

/// A connection after its handshake: its reader, the remote's end, and our queue to it.
struct Connection {
    reader: FrameReader<DuplexStream>,
    remote: DuplexStream,
    outbox: Outbox,
    counters: Arc<Counters>,
    _outlet: Outlet,
}

impl Connection {
    fn new(shares: &Shares) -> Self {
        Self::by(SOCKET, shares)
    }

    fn by(socket: usize, shares: &Shares) -> Self {
        let (ours, remote) = duplex(socket);
        let (outbox, outlet) = outbox(&QueuedToAll::default());
        let whose = Remote {
            group: Group::V4([127, 0]),
            pool: Pool::Inbound,
        };
        let codec = Codec::new(Network::Regtest.magic());
        let counters = Arc::new(Counters::new(Arc::default(), None));
        let (expected, shares) = (outbox.expected(), shares.clone());
        Self {
            reader: FrameReader::new(ours, codec, whose, expected, shares, counters.clone()),
            remote,
            outbox,
            counters,
            _outlet: outlet,
        }
    }

    async fn send(&mut self, message: &Message) {
        let mut bytes = BytesMut::new();
        message.encode_into(Network::Regtest.magic(), &mut bytes);
        let sent = self.remote.write_all(&bytes).await;
        sent.expect("the connection is open");
    }

    /// A remote that sends a `block` without its last byte.
    fn all_but_the_last_byte(shares: &Shares) -> Self {
        let bytes = 3_990_000;
        let mut connection = Self::by(SMALL_SOCKET, shares);
        let mut remote = std::mem::replace(&mut connection.remote, duplex(1).0);
        actix_rt::spawn(async move {
            let head = encode_head(Network::Regtest.magic(), "block", bytes, [0; 4]);
            let zeros = [0; 10_000];
            let mut rest = bytes - 1;
            let mut open = remote.write_all(&head).await.is_ok();
            while open && rest > 0 {
                let now = rest.min(zeros.len());
                open = remote.write_all(&zeros[..now]).await.is_ok();
                rest -= now;
            }
            std::future::pending::<()>().await;
        });
        connection
    }

    fn ask_for_a_block(&self) {
        let hash = BlockHash::all_zeros();
        let wanted = Message::GetData(vec![Inventory::WitnessBlock(hash)]);
        self.outbox.push(wanted).expect("the queue is empty");
    }

    /// The next frame, if it is complete within the current turn.
    fn now(&mut self) -> Option<Charged> {
        let item = self.reader.next().now_or_never()?;
        Some(item.expect("the connection is open").expect("well-formed"))
    }

    /// Turns until the next frame is complete, that one included.
    async fn turns(&mut self) -> usize {
        for turns in 1..10_000 {
            if self.now().is_some() {
                return turns;
            }
            // Without this the runtime stops this task from reading after a while.
            tokio::task::yield_now().await;
        }
        panic!("no frame was read");
    }
}

fn inv(entries: usize) -> Message {
    let hash = BlockHash::from_byte_array([7; 32]);
    Message::Inv(vec![Inventory::Block(hash); entries])
}

fn block(bytes: usize) -> Message {
    let genesis = Network::Regtest.genesis_block();
    let mut serialized = bitcoin::consensus::serialize(&genesis);
    serialized.resize(bytes, 0);
    Message::Block(RawBlock::new(serialized.into()).expect("a block"))
}

#[test]
fn a_turn_has_one_costly_frame_and_many_small_ones() {
    crate::virtual_time::run(async {
        let mut connection = Connection::new(&shares());
        for _ in 0..3 {
            connection.send(&inv(10_000)).await;
        }
        assert!(connection.now().is_some());
        for _ in 0..2 {
            assert!(connection.now().is_none(), "the turn is over");
            assert!(connection.now().is_some());
        }
        for nonce in 0..100 {
            connection.send(&Message::Ping(nonce)).await;
        }
        assert!(connection.now().is_none(), "the turn is over");
        let in_one_turn = (0..100).map_while(|_| connection.now()).count();
        assert_eq!(in_one_turn, 100);
    });
}

#[test]
fn a_long_frame_takes_several_turns_to_read() {
    crate::virtual_time::run(async {
        let mut connection = Connection::new(&shares());
        connection.ask_for_a_block();
        connection.send(&block(4_000_000)).await;
        let turns = connection.turns().await;
        assert!((4..=12).contains(&turns), "{turns}");
    });
}

#[test]
fn unsolicited_messages_are_read_at_their_rate() {
    crate::virtual_time::run(async {
        let shares = shares();
        let mut connection = Connection::new(&shares);
        let one = inv(1_000);
        let bytes = 36_027_u64;
        let mut remote = std::mem::replace(&mut connection.remote, duplex(1).0);
        let flood = actix_rt::spawn(async move {
            let mut frame = BytesMut::new();
            one.encode_into(Network::Regtest.magic(), &mut frame);
            while remote.write_all(&frame).await.is_ok() {}
        });
        let seconds = 60;
        let end = tokio::time::Instant::now() + Duration::from_secs(seconds);
        let mut frames = 0;
        while let Ok(frame) = tokio::time::timeout_at(end, connection.reader.next()).await {
            frame.expect("the connection is open").expect("well-formed");
            frames += 1;
        }
        let fair = UNASKED_BURST + seconds * MOST_UNASKED;
        let read = frames * bytes;
        assert!(read.abs_diff(fair) < 3 * bytes, "{read} instead of {fair}");
        flood.abort();
    });
}

#[test]
fn requested_blocks_are_read_without_a_pause() {
    crate::virtual_time::run(async {
        let shares = shares();
        let mut connection = Connection::new(&shares);
        let before = tokio::time::Instant::now();
        for _ in 0..40 {
            connection.ask_for_a_block();
            connection.send(&block(1_000_000)).await;
            connection.turns().await;
        }
        assert_eq!(tokio::time::Instant::now(), before);
        // These are unsolicited, and one more exceeds the burst.
        for _ in 0..5 {
            connection.send(&block(1_000_000)).await;
            connection.turns().await;
        }
        connection.send(&block(1_000_000)).await;
        assert!((0..100).all(|_| connection.now().is_none()));
    });
}

#[test]
fn a_block_waits_for_the_nodes_budget_and_other_frames_do_not() {
    crate::virtual_time::run(async {
        let shares = Shares {
            blocks: Arc::new(Semaphore::new(500)),
            ..shares()
        };
        let mut one = Connection::new(&shares);
        let mut other = Connection::new(&shares);
        let mut third = Connection::new(&shares);
        one.send(&block(400)).await;
        other.send(&block(300)).await;
        third.send(&Message::Ping(1)).await;
        let first = one.now().expect("the whole budget is free");
        assert!(other.now().is_none());
        assert!(third.now().is_some());
        let share = first
            .credit
            .take_block_share()
            .expect("a block has a share");
        drop(first);
        assert!(other.now().is_none(), "the kernel still has the block");
        drop(share);
        assert!(other.now().is_some());
    });
}

/// Reads until the connection must end.
async fn read_on(mut connection: Connection) -> ReadError {
    loop {
        match connection.reader.next().await {
            Some(Ok(_)) => {}
            Some(Err(error)) => return error,
            None => unreachable!("the remote keeps its end open"),
        }
    }
}

#[test]
fn memory_of_unfinished_frames_is_bounded_over_all_connections() {
    crate::virtual_time::run(async {
        let shares = shares();
        let mut connections = Vec::new();
        for at in 0..114 {
            let connection = Connection::all_but_the_last_byte(&shares);
            if at % 2 == 0 {
                connection.ask_for_a_block();
            }
            connections.push(connection);
        }
        for _ in 0..400 {
            for connection in &mut connections {
                assert!(connection.now().is_none());
            }
            tokio::task::yield_now().await;
        }
        let buffered = |connection: &Connection| connection.reader.buffer.capacity();
        let bytes: usize = connections.iter().map(buffered).sum();
        // The buffered begin of a long frame, and a piece on its way to disk.
        let small = connections.len() * (2 * SMALL_FRAME + PIECE);
        assert!(
            bytes <= MAX_INBOUND_BYTES + MAX_UNASKED_BYTES + small,
            "{bytes}"
        );
        assert!(shares.large.bytes() <= MAX_INBOUND_BYTES + MAX_UNASKED_BYTES);
        assert!(bytes > MAX_INBOUND_BYTES * 3 / 4, "{bytes}: they are read");
        let asked = connections.len() / 2;
        assert_eq!(shares.large.spill().taken(), asked - FIT);
        drop(connections);
        // A write in progress holds its file slot until it is done.
        while shares.large.spill().taken() > 0 {
            tokio::task::yield_now().await;
        }
    });
}

/// Requested peers that send a block without its last byte, as many as have memory.
fn hold_all_memory(shares: &Shares) -> Vec<Connection> {
    let hostile = || {
        let mut connection = Connection::all_but_the_last_byte(shares);
        connection.ask_for_a_block();
        assert!(connection.now().is_none());
        connection
    };
    std::iter::repeat_with(hostile).take(FIT).collect()
}

async fn settled(shares: &Shares, hostile: &mut [Connection]) {
    while shares.large.bytes() < FIT * 3_990_000 {
        for connection in &mut *hostile {
            assert!(connection.now().is_none());
        }
        tokio::task::yield_now().await;
    }
}

#[test]
fn a_requested_block_is_received_while_others_hold_all_memory() {
    crate::virtual_time::run(async {
        let shares = shares();
        let mut hostile = hold_all_memory(&shares);
        settled(&shares, &mut hostile).await;
        let mut honest = Connection::new(&shares);
        let before = tokio::time::Instant::now();
        for bytes in [3_990_000, SMALL_FRAME + 1, 2_000_000] {
            honest.ask_for_a_block();
            honest.send(&block(bytes)).await;
            honest.send(&Message::Ping(9)).await;
            let charged = honest.reader.next().await.expect("open").expect("intact");
            let Ok(Message::Block(came)) = charged.frame.message else {
                panic!("{:?}", charged.frame.message);
            };
            drop(charged.credit);
            let Message::Block(sent) = block(bytes) else {
                unreachable!("it is one");
            };
            assert_eq!(came.bytes, sent.bytes);
            let next = honest.reader.next().await.expect("open").expect("intact");
            assert_eq!(next.frame.message, Ok(Message::Ping(9)));
        }
        let waited = tokio::time::Instant::now() - before;
        assert_eq!(waited, Duration::ZERO, "it did not wait");
        assert_eq!(shares.large.spill().taken(), 0);
    });
}

#[test]
fn a_remote_that_closes_in_the_middle_of_a_spilled_frame_leaves_nothing_behind() {
    crate::virtual_time::run(async {
        let shares = shares();
        let mut hostile = hold_all_memory(&shares);
        settled(&shares, &mut hostile).await;
        let mut leaving = Connection::new(&shares);
        leaving.ask_for_a_block();
        let mut bytes = BytesMut::new();
        block(3_000_000).encode_into(Network::Regtest.magic(), &mut bytes);
        let half = leaving.remote.write_all(&bytes[..1_500_000]).await;
        half.expect("the socket takes it");
        leaving.remote = duplex(1).0;
        assert!(leaving.reader.next().await.is_none());
        drop(leaving);
        // A write in progress holds its file slot until it is done.
        while shares.large.spill().taken() > 0 {
            tokio::task::yield_now().await;
        }
        assert_eq!(shares.large.bytes(), FIT * 3_990_000);
    });
}

#[test]
fn a_spilled_block_that_is_complete_waits_for_the_kernel_and_keeps_no_other_frame_waiting() {
    crate::virtual_time::run(async {
        let shares = Shares {
            blocks: Arc::new(Semaphore::new(0)),
            ..shares()
        };
        let mut hostile = hold_all_memory(&shares);
        settled(&shares, &mut hostile).await;
        let mut complete = Vec::new();
        for _ in 0..4 {
            let mut connection = Connection::new(&shares);
            connection.ask_for_a_block();
            connection.send(&block(3_990_000)).await;
            complete.push(connection);
        }
        while shares.large.spill().taken() < complete.len() {
            for connection in &mut complete {
                assert!(connection.now().is_none());
            }
            tokio::task::yield_now().await;
        }
        let mut other = Connection::new(&shares);
        let wanted = Message::GetHeaders(Locator {
            hashes: vec![],
            stop: BlockHash::all_zeros(),
        });
        other.outbox.push(wanted).expect("the queue is empty");
        let headers = Message::Headers(vec![Network::Regtest.genesis_block().header; 2_000]);
        other.send(&headers).await;
        let charged = other.reader.next().await.expect("open").expect("intact");
        assert_eq!(charged.frame.message, Ok(headers));
        // All memory that the blocks hold is a file slot on disk.
        drop(charged);
        assert_eq!(shares.large.bytes(), FIT * 3_990_000);
        shares.blocks.add_permits(2 * 3_990_024);
        for connection in &mut complete {
            let charged = connection
                .reader
                .next()
                .await
                .expect("open")
                .expect("intact");
            assert!(matches!(charged.frame.message, Ok(Message::Block(_))));
        }
    });
}

#[test]
fn the_slowest_holder_of_an_unsolicited_frame_is_disconnected_while_others_wait() {
    crate::virtual_time::run(async {
        let shares = shares();
        let first = actix_rt::spawn(read_on(Connection::all_but_the_last_byte(&shares)));
        tokio::time::sleep(Duration::from_secs(5)).await;
        let mut second = Connection::new(&shares);
        second.send(&block(3_990_000)).await;
        let came = second.reader.next().await.expect("open");
        assert!(came.is_ok(), "{came:?}");
        let error = first.await.expect("it did not panic");
        assert!(matches!(error, ReadError::SlowSender), "{error:?}");
    });
}

#[test]
fn without_disk_space_a_frame_waits_for_memory_and_its_connection_stays() {
    crate::virtual_time::run(async {
        let directory = tempfile::tempdir().expect("a directory");
        let missing = SpillFile::within(&directory.path().join("missing"));
        let shares = Shares {
            large: Arc::new(LargeFrames::spilling_to(Arc::new(missing))),
            ..shares()
        };
        let mut hostile = hold_all_memory(&shares);
        settled(&shares, &mut hostile).await;
        let mut honest = Connection::new(&shares);
        honest.ask_for_a_block();
        honest.send(&block(3_990_000)).await;
        let wait = tokio::time::timeout(Duration::from_secs(3), honest.reader.next());
        assert!(wait.await.is_err(), "it waits");
        drop(hostile);
        let charged = honest.reader.next().await.expect("open").expect("intact");
        assert!(matches!(charged.frame.message, Ok(Message::Block(_))));
    });
}

#[test]
fn a_malformed_frame_counts_as_the_answer_to_one_request() {
    crate::virtual_time::run(async {
        let shares = shares();
        let mut connection = Connection::new(&shares);
        connection.ask_for_a_block();
        let mut bytes = BytesMut::new();
        block(1_000).encode_into(Network::Regtest.magic(), &mut bytes);
        let last = bytes.len() - 1;
        bytes[last] ^= 1;
        connection.remote.write_all(&bytes).await.expect("open");
        let charged = connection.now().expect("it is complete");
        assert!(charged.frame.message.is_err());
        assert!(!connection.outbox.expected().expects(Kind::Block));
    });
}

#[test]
fn a_frame_that_has_begun_is_read_to_its_end_without_credit() {
    crate::virtual_time::run(async {
        let mut connection = Connection::new(&shares());
        let mut bytes = BytesMut::new();
        inv(3).encode_into(Network::Regtest.magic(), &mut bytes);
        let sent = connection.remote.write_all(&bytes[..100]).await;
        sent.expect("open");
        assert!(connection.now().is_none());
        // Earlier frames are not handled yet.
        let _others: Vec<Credit> = (0..crate::credit::MAX_FRAMES)
            .map(|_| connection.reader.gate.charge(1))
            .collect();
        let sent = connection.remote.write_all(&bytes[100..]).await;
        sent.expect("open");
        assert!(connection.now().is_some());
        connection.send(&Message::Verack).await;
        assert!(connection.now().is_none(), "the next one waits for credit");
    });
}

#[test]
fn bytes_are_counted_as_they_are_received_and_not_when_their_frame_is_complete() {
    crate::virtual_time::run(async {
        let mut connection = Connection::new(&shares());
        let mut bytes = BytesMut::new();
        Message::Ping(7).encode_into(Network::Regtest.magic(), &mut bytes);
        let remote = &mut connection.remote;
        remote.write_all(&bytes[..31]).await.expect("it is open");
        assert!(connection.now().is_none(), "the last byte is missing");
        let traffic = connection.counters.read(Duration::ZERO);
        assert_eq!(
            (traffic.received, traffic.last_receive),
            (31, 1_700_000_000)
        );
    });
}
