//! Real actors on virtual time over in-memory streams.
//!
//! Here is the kit of those tests in which the manager is a stand-in that writes down
//! what it hears; `managers` has the real ones.

mod executor;
mod lifecycle;
mod managers;
mod queues;
mod rounds;
mod second;
mod shares;

use std::cell::RefCell;
use std::rc::Rc;
use std::time::Duration;

use actix::{Actor, Context, Handler, Message as ActorMessage};
use bitcoin::BlockHash;
use bytes::Bytes;
use futures_util::{SinkExt, StreamExt};
use handfast_chain::ReadError;
use handfast_proto::address_book::Group;
use handfast_proto::lifecycle::{ConnId, Direction};
use handfast_wire::{Network, Version};
use tokio::io::{DuplexStream, duplex};
use tokio_util::codec::Framed;

use super::*;
use crate::credit::block_budget;
use crate::handshake_permits::HandshakePermits;
use crate::peer_manager::messages::Served;
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
            .push(Heard::Add(add.version_info.id.0));
        self.links.borrow_mut().push(add.link);
    }
}

impl Handler<PeerInput> for Clerk {
    type Result = ();
    fn handle(&mut self, input: PeerInput, _: &mut Self::Context) {
        let command = match &*input.message {
            Message::GetAddr => "getaddr",
            Message::Block(_) => "block",
            Message::GetHeaders(_) => "getheaders",
            Message::Inv(_) => "inv",
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
        self.heard.borrow_mut().push(Heard::Done(
            done.disconnection.id.0,
            done.disconnection.reason,
        ));
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

impl crate::post::Posted for Explode {}

impl Handler<Explode> for Peer {
    type Result = ();
    fn handle(&mut self, _: Explode, _: &mut Self::Context) {
        panic!("a bug, on purpose");
    }
}

/// Has every block, and it is always this one; if it is empty, none can be read.
#[derive(Debug)]
struct OneBlock(Bytes);

impl BlockSource for OneBlock {
    fn read(&self, hash: &BlockHash, _: bool) -> Result<Bytes, ReadError> {
        if self.0.is_empty() {
            return Err(ReadError::Io {
                hash: *hash,
                detail: "the disk is broken".into(),
            });
        }
        Ok(self.0.clone())
    }
}

fn genesis() -> bitcoin::Block {
    Network::Regtest.genesis_block()
}

/// Who hears of the connections.
struct Managers {
    add: Recipient<PeerAdd>,
    input: Recipient<PeerInput>,
    done: Recipient<PeerDone>,
    served: Recipient<Served>,
}

/// What connections need, with a library that has `block` and no other.
fn surroundings(managers: Managers, block: Bytes) -> Arc<PeerContext> {
    let clock = Clock::virtual_from(1_700_000_000);
    Arc::new(PeerContext {
        session: Arc::new(SessionConfig::new("/test:1/".into(), [7; 16])),
        clock,
        add: managers.add,
        input: managers.input,
        done: managers.done,
        block_serving: BlockServing {
            reader: Arc::new(OneBlock(block)),
            readers: Arc::new(Semaphore::new(1)),
            served: managers.served,
            memory: Arc::default(),
            clock,
        },
        blocks: block_budget(),
        large: Arc::default(),
        exceeding: Exceeding::default(),
        queued: QueuedToAll::default(),
        totals: Arc::default(),
        height: Arc::default(),
        half_open: Default::default(),
        seed: 5,
        magic: Network::Regtest.magic(),
    })
}

/// Everything around the connections of a test.
struct World {
    slots: Slots,
    context: Arc<PeerContext>,
    heard: Rc<RefCell<Vec<Heard>>>,
    links: Rc<RefCell<Vec<PeerLink>>>,
    held: Rc<RefCell<Vec<PeerInput>>>,
    handshakes: HandshakePermits,
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
        Self::context(clerk.start(), heard, links, held, block)
    }

    /// A world whose manager is the actor at `manager`.
    fn context(
        manager: Addr<Clerk>,
        heard: Rc<RefCell<Vec<Heard>>>,
        links: Rc<RefCell<Vec<PeerLink>>>,
        held: Rc<RefCell<Vec<PeerInput>>>,
        block: Bytes,
    ) -> Self {
        let (add, input, done) = (
            manager.clone().recipient(),
            manager.clone().recipient(),
            manager.clone().recipient(),
        );
        let managers = Managers {
            add,
            input,
            done,
            served: manager.recipient(),
        };
        let context = surroundings(managers, block);
        let slots = Slots::new(Limits {
            inbound: 8,
            handshakes: 8,
            outbound: 1,
            manual: 1,
            subscribers: 1,
        });
        Self {
            slots,
            context,
            heard,
            links,
            held,
            handshakes: HandshakePermits::new(8),
        }
    }

    fn params(&mut self) -> ConnectionParams {
        let group = Group::V4([127, 0]);
        let now = self.context.clock.now().mono;
        let (id, permit) = self.handshakes.enter(Direction::Inbound, group, now);
        ConnectionParams {
            id,
            local: None,
            direction: Direction::Inbound,
            remote: "127.0.0.1:5".parse().expect("an address"),
            slot: self.slots.take(Direction::Inbound).expect("a free slot"),
            permit,
            open: self.slots.open(),
        }
    }

    /// A new inbound connection, and its remote end.
    fn connect(&mut self) -> (Addr<Peer>, Remote) {
        self.connect_by(4096)
    }

    /// The same with a socket that takes so many bytes without being read.
    fn connect_by(&mut self, socket: usize) -> (Addr<Peer>, Remote) {
        let (ours, theirs) = duplex(socket);
        let (read, write) = tokio::io::split(ours);
        let params = self.params();
        let actor = spawn(self.context.clone(), params, read, write);
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

    fn everything_is_free(&self) -> bool {
        let slot_counts = self.slots.counts();
        let counts = [
            slot_counts.sockets,
            slot_counts.in_handshake,
            slot_counts.taken,
        ];
        counts == [0; 3] && slot_counts.queued == 0
    }
}

type Remote = Framed<DuplexStream, Codec>;

fn version() -> Message {
    version_of(bitcoin::p2p::ServiceFlags::NETWORK | bitcoin::p2p::ServiceFlags::WITNESS)
}

/// The `version` of a node that offers these services.
fn version_of(services: bitcoin::p2p::ServiceFlags) -> Message {
    let nowhere =
        bitcoin::p2p::Address::new(&([0, 0, 0, 0], 0).into(), bitcoin::p2p::ServiceFlags::NONE);
    Message::Version(Version {
        version: 70_016,
        services,
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
    handshake_as(remote, version()).await;
}

async fn handshake_as(remote: &mut Remote, version: Message) {
    send(remote, version).await;
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
