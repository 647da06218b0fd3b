//! Real actors on virtual time over in-memory streams. The manager is a stand-in
//! that writes down what it hears.

use std::cell::RefCell;
use std::rc::Rc;
use std::time::Duration;

use actix::{Actor, Context, Handler, Message as ActorMessage};
use bitcoin::BlockHash;
use bytes::{Bytes, BytesMut};
use futures_util::{SinkExt, StreamExt};
use handfast_chain::ReadError;
use handfast_proto::lifecycle::{ConnId, Direction};
use handfast_proto::session::PING_INTERVAL;
use handfast_wire::{Locator, Network, Version};
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex};
use tokio_util::codec::Framed;

use super::*;
use crate::credit::{MAX_FRAMES, block_budget};
use crate::mail::Served;
use crate::serve::BlockSource;
use crate::slots::{Limits, Slots};

const TIMEOUT: Duration = Duration::from_secs(60);

/// What a manager hears, in order.
#[derive(Clone, Debug, PartialEq)]
enum Heard {
    Add(u64),
    Input(u64, &'static str),
    Done(u64, DoneReason),
    Served(u64),
}

/// Writes down what it hears. Keeps credit and slots while `holding`.
#[derive(Default)]
struct Clerk {
    heard: Rc<RefCell<Vec<Heard>>>,
    links: Rc<RefCell<Vec<PeerLink>>>,
    held: Rc<RefCell<Vec<PeerInput>>>,
    holding: bool,
}

impl Actor for Clerk {
    type Context = Context<Self>;
}

impl Handler<PeerAdd> for Clerk {
    type Result = ();
    fn handle(&mut self, add: PeerAdd, _: &mut Self::Context) {
        self.heard
            .borrow_mut()
            .push(Heard::Add(add.introduction.id.0));
        self.links.borrow_mut().push(add.link);
    }
}

impl Handler<PeerInput> for Clerk {
    type Result = ();
    fn handle(&mut self, input: PeerInput, _: &mut Self::Context) {
        let command = match &input.message {
            Message::GetAddr => "getaddr",
            Message::Block(_) => "block",
            Message::GetHeaders(_) => "getheaders",
            other => panic!("the test did not send {other:?}"),
        };
        self.heard
            .borrow_mut()
            .push(Heard::Input(input.id.0, command));
        if self.holding {
            self.held.borrow_mut().push(input);
        }
    }
}

impl Handler<PeerDone> for Clerk {
    type Result = ();
    fn handle(&mut self, done: PeerDone, _: &mut Self::Context) {
        self.heard
            .borrow_mut()
            .push(Heard::Done(done.ending.id.0, done.ending.reason));
    }
}

impl Handler<Served> for Clerk {
    type Result = ();
    fn handle(&mut self, served: Served, _: &mut Self::Context) {
        self.heard.borrow_mut().push(Heard::Served(served.ticket));
    }
}

/// Makes the actor panic, as a bug in it would.
struct Explode;

impl ActorMessage for Explode {
    type Result = ();
}

impl crate::mail::Posted for Explode {
    type Bound = crate::mail::Rare;
}

impl Handler<Explode> for Peer {
    type Result = ();
    fn handle(&mut self, _: Explode, _: &mut Self::Context) {
        panic!("a bug, on purpose");
    }
}

/// Has every block, and it is always this one.
#[derive(Debug)]
struct OneBlock(Bytes);

impl BlockSource for OneBlock {
    fn read(&self, _: &BlockHash, _: bool) -> Result<Bytes, ReadError> {
        Ok(self.0.clone())
    }
}

fn genesis() -> bitcoin::Block {
    Network::Regtest.genesis_block()
}

/// Everything around the connections of a test.
struct World {
    slots: Slots,
    around: Arc<Surroundings>,
    heard: Rc<RefCell<Vec<Heard>>>,
    links: Rc<RefCell<Vec<PeerLink>>>,
    held: Rc<RefCell<Vec<PeerInput>>>,
    next: u64,
}

impl World {
    fn new() -> Self {
        Self::with(Clerk::default())
    }

    fn serving(block: Bytes) -> Self {
        Self::build(Clerk::default(), block)
    }

    fn with(clerk: Clerk) -> Self {
        Self::build(clerk, bitcoin::consensus::serialize(&genesis()).into())
    }

    fn build(clerk: Clerk, block: Bytes) -> Self {
        let (heard, links, held) = (clerk.heard.clone(), clerk.links.clone(), clerk.held.clone());
        let manager = clerk.start();
        let session = SessionConfig::new("/test:1/".into(), [7; 16]);
        let library = Library {
            reader: Arc::new(OneBlock(block)),
            readers: Arc::new(Semaphore::new(1)),
            magic: Network::Regtest.magic(),
            served: manager.clone().recipient(),
        };
        let around = Arc::new(Surroundings {
            session: Arc::new(session),
            clock: Clock::virtual_from(1_700_000_000),
            add: manager.clone().recipient(),
            input: manager.clone().recipient(),
            done: manager.recipient(),
            library,
            blocks: block_budget(),
            totals: Arc::default(),
            height: Arc::default(),
            drain: CancellationToken::new(),
            seed: 5,
        });
        let slots = Slots::new(Limits {
            inbound: 8,
            handshakes: 8,
            outbound: 1,
            manual: 1,
        });
        Self {
            slots,
            around,
            heard,
            links,
            held,
            next: 0,
        }
    }

    fn birth(&mut self) -> Birth {
        let id = ConnId(self.next);
        self.next += 1;
        Birth {
            id,
            direction: Direction::Inbound,
            remote: "127.0.0.1:5".parse().expect("an address"),
            slot: self.slots.take(Direction::Inbound).expect("a free slot"),
            handshake: self.slots.take_handshake(),
            open: self.slots.open(),
        }
    }

    /// A new inbound connection, and its remote end.
    fn connect(&mut self) -> (Addr<Peer>, Remote) {
        let (ours, theirs) = duplex(4096);
        let (read, write) = tokio::io::split(ours);
        let birth = self.birth();
        let actor = spawn(self.around.clone(), birth, read, write);
        (
            actor,
            Framed::new(theirs, Codec::new(Network::Regtest.magic())),
        )
    }

    /// A connection whose handshake is complete.
    async fn ready(&mut self) -> (Addr<Peer>, Remote) {
        let (actor, mut remote) = self.connect();
        handshake(&mut remote).await;
        settle().await;
        (actor, remote)
    }

    fn heard(&self) -> Vec<Heard> {
        self.heard.borrow().clone()
    }

    fn everything_is_home(&self) -> bool {
        let census = self.slots.census();
        (census.sockets, census.in_handshake, census.taken) == (0, 0, 0)
    }
}

type Remote = Framed<DuplexStream, Codec>;

fn version() -> Message {
    let nowhere =
        bitcoin::p2p::Address::new(&([0, 0, 0, 0], 0).into(), bitcoin::p2p::ServiceFlags::NONE);
    Message::Version(Version {
        version: 70_016,
        services: bitcoin::p2p::ServiceFlags::NETWORK | bitcoin::p2p::ServiceFlags::WITNESS,
        timestamp: 1_700_000_000,
        receiver: nowhere.clone(),
        sender: Some(nowhere),
        nonce: Some(3),
        user_agent: "/remote:1/".into(),
        start_height: Some(1_000_000),
        relay: false,
    })
}

async fn send(remote: &mut Remote, message: Message) {
    remote.send(message).await.expect("the connection is open");
}

async fn handshake(remote: &mut Remote) {
    send(remote, version()).await;
    wait_for(remote, |message| *message == Message::Verack).await;
    send(remote, Message::Verack).await;
}

/// The next message that `wanted` accepts.
async fn wait_for(remote: &mut Remote, wanted: impl Fn(&Message) -> bool) -> Message {
    loop {
        let frame = remote
            .next()
            .await
            .expect("the connection is open")
            .expect("well-formed");
        let message = frame.message.expect("nothing is passed over");
        if wanted(&message) {
            return message;
        }
    }
}

/// Lets everything run that can: virtual time moves only then.
async fn settle() {
    tokio::time::sleep(Duration::from_millis(50)).await;
}

#[test]
fn verack_then_disconnect_gives_exactly_add_and_done() {
    crate::virtual_time::run(async {
        let mut world = World::new();
        let (_actor, mut remote) = world.connect();
        send(&mut remote, version()).await;
        send(&mut remote, Message::Verack).await;
        drop(remote);
        settle().await;
        assert_eq!(
            world.heard(),
            [Heard::Add(0), Heard::Done(0, DoneReason::RemoteClosed)]
        );
        assert!(world.everything_is_home());
    });
}

#[test]
fn a_second_verack_changes_nothing() {
    crate::virtual_time::run(async {
        let mut world = World::new();
        let (_actor, mut remote) = world.ready().await;
        send(&mut remote, Message::Verack).await;
        settle().await;
        assert_eq!(world.heard(), [Heard::Add(0)]);
        send(&mut remote, Message::Ping(9)).await;
        wait_for(&mut remote, |message| *message == Message::Pong(9)).await;
    });
}

#[test]
fn disconnect_before_verack_gives_no_add_and_one_done() {
    crate::virtual_time::run(async {
        let mut world = World::new();
        let (_actor, mut remote) = world.connect();
        send(&mut remote, version()).await;
        drop(remote);
        settle().await;
        assert_eq!(world.heard(), [Heard::Done(0, DoneReason::RemoteClosed)]);
        assert!(world.everything_is_home());
    });
}

#[test]
fn silence_ends_at_the_handshake_timeout_and_not_before() {
    crate::virtual_time::run(async {
        let mut world = World::new();
        let (_actor, _remote) = world.connect();
        tokio::time::sleep(TIMEOUT - Duration::from_secs(1)).await;
        assert_eq!(world.heard(), []);
        tokio::time::sleep(Duration::from_secs(2)).await;
        assert_eq!(
            world.heard(),
            [Heard::Done(0, DoneReason::HandshakeTimeout)]
        );
    });
}

#[test]
fn a_verack_at_the_very_moment_of_the_timeout_gives_one_done_and_add_only_before_it() {
    for early in 0..3 {
        crate::virtual_time::run(async {
            let mut world = World::new();
            let (_actor, mut remote) = world.connect();
            send(&mut remote, version()).await;
            tokio::time::sleep(TIMEOUT - Duration::from_millis(early)).await;
            let _ = remote.send(Message::Verack).await;
            tokio::time::sleep(Duration::from_secs(1)).await;
            drop(remote);
            settle().await;
            let heard = world.heard();
            let adds = heard
                .iter()
                .filter(|heard| matches!(heard, Heard::Add(_)))
                .count();
            assert!(matches!(heard.last(), Some(Heard::Done(..))), "{heard:?}");
            assert_eq!(heard.len(), adds + 1, "{heard:?}");
        });
    }
}

#[test]
fn a_garbled_frame_ends_the_connection_with_its_reason() {
    crate::virtual_time::run(async {
        let mut world = World::new();
        let (_actor, remote) = world.ready().await;
        let mut socket = remote.into_inner();
        socket
            .write_all(&[0xff; 24])
            .await
            .expect("the connection is open");
        settle().await;
        let heard = world.heard();
        assert!(
            matches!(
                &heard[..],
                [Heard::Add(0), Heard::Done(0, DoneReason::Undecodable(_))]
            ),
            "{heard:?}"
        );
    });
}

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

#[test]
fn a_panic_costs_one_connection() {
    crate::virtual_time::run(async {
        let mut world = World::new();
        let (doomed, mut its_remote) = world.ready().await;
        let (_other, mut remote) = world.ready().await;
        crate::mail::post(&doomed, Explode);
        settle().await;
        assert_eq!(
            world.heard(),
            [
                Heard::Add(0),
                Heard::Add(1),
                Heard::Done(0, DoneReason::Panicked)
            ]
        );
        let mut rest = Vec::new();
        its_remote
            .get_mut()
            .read_to_end(&mut rest)
            .await
            .expect("its socket is closed");
        send(&mut remote, Message::Ping(4)).await;
        wait_for(&mut remote, |message| *message == Message::Pong(4)).await;
    });
}

#[test]
fn the_drain_ends_connections_that_no_manager_knows_yet() {
    crate::virtual_time::run(async {
        let mut world = World::new();
        let (_silent, _remote) = world.connect();
        let (_ready, _other) = world.ready().await;
        world.around.drain.cancel();
        settle().await;
        // The other one is PeerManager's to disconnect.
        assert_eq!(
            world.heard(),
            [Heard::Add(1), Heard::Done(0, DoneReason::Shutdown)]
        );
        let (_late, _remote) = world.connect();
        settle().await;
        assert_eq!(
            world.heard().last(),
            Some(&Heard::Done(2, DoneReason::Shutdown))
        );
    });
}

#[test]
fn done_is_sent_once_however_the_actor_ends() {
    crate::virtual_time::run(async {
        let mut world = World::new();
        let (stopped, _r0) = world.ready().await;
        crate::mail::post(&stopped, Disconnect(DoneReason::Requested));
        crate::mail::post(&stopped, Disconnect(DoneReason::Shutdown));
        crate::mail::post(&stopped, Explode);
        let birth = world.birth();
        stillborn(
            &world.around,
            birth,
            &std::io::ErrorKind::NotConnected.into(),
        );
        let birth = world.birth();
        // Never started: its arbiter was gone.
        drop(Lifecycle::new(
            birth,
            world.around.clock.now(),
            world.around.add.clone(),
            world.around.done.clone(),
        ));
        settle().await;
        let heard = world.heard();
        let done: Vec<u64> = heard
            .iter()
            .filter_map(|heard| {
                if let Heard::Done(id, _) = heard {
                    Some(*id)
                } else {
                    None
                }
            })
            .collect();
        assert_eq!(done.len(), 3, "{heard:?}");
        assert!(
            heard.contains(&Heard::Done(0, DoneReason::Requested)),
            "the first reason stands: {heard:?}"
        );
        assert!(world.everything_is_home());
    });
}

#[test]
fn an_idle_day_of_answered_pings_is_survived_and_silence_is_not() {
    crate::virtual_time::run(async {
        let mut world = World::new();
        let (_actor, mut remote) = world.ready().await;
        let day = Instant::now() + Duration::from_secs(24 * 3600);
        let mut pings = 0;
        while Instant::now() < day {
            let ping = wait_for(&mut remote, |message| matches!(message, Message::Ping(_))).await;
            let Message::Ping(nonce) = ping else {
                unreachable!("waited for it")
            };
            send(&mut remote, Message::Pong(nonce)).await;
            pings += 1;
        }
        assert!(pings >= 24 * 3600 / PING_INTERVAL.as_secs() - 1, "{pings}");
        assert_eq!(world.heard(), [Heard::Add(0)]);
        tokio::time::sleep(Duration::from_secs(30 * 60)).await;
        assert_eq!(
            world.heard().last(),
            Some(&Heard::Done(0, DoneReason::Inactive))
        );
    });
}

/// A block of a million bytes as far as the wire is concerned: a header and more.
fn big_block() -> Bytes {
    let mut bytes = bitcoin::consensus::serialize(&genesis());
    bytes.resize(1_000_000, 0);
    bytes.into()
}

#[test]
fn served_blocks_come_in_order_and_wait_for_a_slow_reader_who_is_not_cut_off() {
    const BLOCKS: u64 = 30;
    crate::virtual_time::run(async {
        let mut world = World::serving(big_block());
        let (actor, mut remote) = world.ready().await;
        let hash = genesis().block_hash();
        for ticket in 0..BLOCKS {
            let id = ConnId(0);
            crate::mail::post(
                &actor,
                ServeBlock {
                    id,
                    ticket,
                    hash,
                    witness: true,
                },
            );
        }
        // Reading blocks takes real time, which virtual time does not wait for.
        let reported = |world: &World| world.heard().len() - 1;
        while reported(&world) < 5 {
            settle().await;
        }
        tokio::time::sleep(Duration::from_secs(60)).await;
        let queued = crate::outbox::MAX_BYTES / 1_000_000 + 1;
        assert!(reported(&world) <= queued, "{:?}", world.heard());
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
