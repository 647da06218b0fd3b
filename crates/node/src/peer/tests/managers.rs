//! The three real actors of a connection's life, `Peer`, `PeerManager` and
//! `SyncManager`, on one arbiter and on virtual time. The kernel is real too; nobody
//! gives it a block here.

use std::collections::BTreeMap;
use std::future::Future;
use std::io::Write;
use std::net::IpAddr;
use std::ops::Range;
use std::path::Path;
use std::rc::Rc;
use std::sync::Mutex;

use bitcoin::p2p::ServiceFlags;
use bytes::BytesMut;
use handfast_chain::{Chain, ChainOptions};
use handfast_proto::address_book::AddressBook;
use handfast_proto::lifecycle::{Role, Roles};
use handfast_proto::peer_table::{PeerTable, PeerTableConfig};
use handfast_proto::random::Random;
use handfast_proto::sync::{SyncConfig, SyncManager as SyncMachine};
use tokio::io::AsyncReadExt;
use tokio::sync::{oneshot, watch};

use super::executor::{End, Executor, Socket, chunks};
use super::second::{Notes, Second};
use super::*;
use crate::audit::{Audit, Handled, SubscriberTable};
use crate::connector::Connector;
use crate::node::Node;
use crate::opening::{Mailbox, Mailboxes, tree};
use crate::peer_manager::PeerManager;
use crate::peer_manager::messages::AuditPeers;
use crate::post::post;
use crate::shared::{self, Shared};
use crate::subscribers::{Subscriber, Subscribers};
use crate::sync_manager::SyncManager;

/// The managers, and what connections of theirs need.
pub(super) struct House {
    pub(super) slots: Slots,
    context: Arc<PeerContext>,
    handshakes: HandshakePermits,
    pub(super) peers: Addr<PeerManager>,
    /// What the second subscriber notes, if there is one.
    pub(super) second: Rc<Notes>,
    /// Actors that are written to and do not run here.
    _absent: (Mailbox<Node>, Mailbox<Connector>),
}

/// A kernel with nothing but the genesis block, for as many houses as a test needs.
fn kernel(dir: &Path) -> (Arc<Chain>, handfast_proto::headers::HeaderTree) {
    let options = ChainOptions::new(Network::Regtest, dir.join("regtest"));
    let (chain, initial) = Chain::open_batched(options, |_| {}).expect("a fresh directory");
    (Arc::new(chain), tree(&initial))
}

impl House {
    /// Hands each manager's future to `run`.
    pub(super) fn new(
        max_inbound: usize,
        roles: Roles,
        (chain, tree): (Arc<Chain>, handfast_proto::headers::HeaderTree),
        mut run: impl FnMut(&'static str, Box<dyn Future<Output = ()> + Unpin>),
    ) -> Self {
        let absent = (Mailbox::<Node>::new(), Mailbox::<Connector>::new());
        let clock = Clock::virtual_from(1_700_000_000);
        let slots = Slots::new(Limits {
            inbound: max_inbound,
            handshakes: 8,
            outbound: 0,
            manual: 0,
            subscribers: roles.len(),
        });
        let (_, exit) = watch::channel(None);
        let shared = Arc::new(Shared::new(shared::ConnectionParams {
            indexes: vec![],
            network: Network::Regtest,
            datadir: "unused".into(),
            user_agent: "/test:1/".into(),
            listen: Vec::new(),
            node: crate::node::to_node(&absent.0.addr),
            exit,
            slots: slots.clone(),
            listening_sockets: crate::listening_socket::ListeningSockets::new(),
            mining: crate::config::MiningConfig::new(&Network::Regtest),
            clock,
        }));
        let Mailboxes { peers, sync } = Mailboxes::new();
        let settings = PeerTableConfig {
            max_inbound,
            dial: false,
            allow_private_addresses: true,
            subscribers: roles,
            ..PeerTableConfig::new(18_444, 3)
        };
        let table = PeerTable::new(settings, AddressBook::new(true), clock.now());
        let machine = SyncMachine::new(SyncConfig::new(&Network::Regtest, None, 4), tree);
        let sync_manager = SyncManager::new(
            machine,
            chain,
            crate::wiring::to_peers(&peers.addr),
            shared.clone(),
        );
        let second = Mailbox::<Second>::new();
        let (second_subscriber, notes) = Second::new(slots.clone(), roles);
        let subscribers = roles.iter().map(|role| match role {
            Role::Sync => crate::wiring::sync_manager(&sync.addr),
            Role::Test => Subscriber::new(role, &second.addr),
        });
        let peer_manager = PeerManager::new(
            table,
            Subscribers::new(subscribers.collect()),
            absent.1.addr.clone(),
            shared,
        );
        run(
            "sync",
            Box::new(Context::with_receiver(sync.messages).into_future(sync_manager)),
        );
        run(
            "peers",
            Box::new(Context::with_receiver(peers.messages).into_future(peer_manager)),
        );
        if roles.contains(Role::Test) {
            let life = Context::with_receiver(second.messages).into_future(second_subscriber);
            run("second", Box::new(life));
        }
        let managers = Managers {
            add: peers.addr.clone().recipient(),
            input: peers.addr.clone().recipient(),
            done: peers.addr.clone().recipient(),
            served: peers.addr.clone().recipient(),
        };
        let context = surroundings(managers, Bytes::new());
        Self {
            slots,
            context,
            handshakes: HandshakePermits::new(8),
            peers: peers.addr,
            second: notes,
            _absent: absent,
        }
    }

    /// What a connection from this address holds before it is one; none without a slot.
    fn params(&mut self, ip: [u8; 4]) -> Option<ConnectionParams> {
        let remote = (IpAddr::from(ip), 5).into();
        let slot = self.slots.take(Direction::Inbound)?;
        let now = self.context.clock.now().mono;
        let (id, permit) =
            self.handshakes
                .enter(Direction::Inbound, Group::of(IpAddr::from(ip)), now);
        Some(ConnectionParams {
            id,
            local: None,
            direction: Direction::Inbound,
            remote,
            slot,
            permit,
            open: self.slots.open(),
        })
    }

    pub(super) fn connect(&mut self) -> (Addr<Peer>, Remote) {
        let (ours, theirs) = duplex(4096);
        let (read, write) = tokio::io::split(ours);
        let params = self.params([127, 0, 0, 1]).expect("a free slot");
        let actor = spawn(self.context.clone(), params, read, write);
        let codec = Codec::new(Network::Regtest.magic());
        (actor, Framed::new(theirs, codec))
    }

    fn second_is_there(&self) -> bool {
        self.second.is_there()
    }

    /// Asks; the test has to poll the managers for the answer.
    fn ask(&self) -> oneshot::Receiver<Audit> {
        let (answer, wait) = oneshot::channel();
        post(&self.peers, AuditPeers { answer });
        wait
    }

    pub(super) async fn audit(&self) -> Audit {
        self.ask().await.expect("both managers live")
    }
}

/// A house whose actors run on the arbiter of the test.
fn on_the_arbiter(max_inbound: usize, test: impl AsyncFnOnce(&mut House)) {
    with_subscribers(Role::Sync.into(), max_inbound, test);
}

/// The same, with these subscribers.
pub(super) fn with_subscribers(
    roles: Roles,
    max_inbound: usize,
    test: impl AsyncFnOnce(&mut House),
) {
    let dir = tempfile::tempdir().expect("a temporary directory");
    crate::virtual_time::run(async {
        let run = |_: &str, future| drop(actix_rt::spawn(future));
        let mut house = House::new(max_inbound, roles, kernel(dir.path()), run);
        test(&mut house).await;
        settle().await;
        let audit = house.audit().await;
        assert!(audit.agrees(), "{audit:?}");
        assert!(audit.invariants().iter().all(|line| line.held), "{audit:?}");
    });
}

pub(super) fn handled(adds: u64, dones: u64) -> Handled {
    Handled { adds, dones }
}

pub(super) fn assert_all_gone(audit: &Audit) {
    assert!(audit.agrees(), "{audit:?}");
    assert!(audit.invariants().iter().all(|line| line.held), "{audit:?}");
    assert_eq!(
        (audit.sockets, audit.slots_taken, audit.lifecycle.queued),
        (0, 0, 0),
        "{audit:?}"
    );
    assert!(audit.peer_table.is_empty() && audit.sync_peer.is_none());
    assert_eq!(sync(audit).handled.adds, sync(audit).handled.dones);
}

/// What SyncManager holds.
pub(super) fn sync(audit: &Audit) -> &SubscriberTable {
    audit.of(Role::Sync).expect("it is a subscriber")
}

/// What was logged, to be read by the test.
#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl Write for Log {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().expect("one thread").extend(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

impl Log {
    /// Runs `test` with a log at `debug`.
    fn during(test: impl FnOnce()) -> String {
        let log = Self::default();
        let writer = log.clone();
        let subscriber = tracing_subscriber::fmt()
            .with_max_level(tracing::Level::DEBUG)
            .with_ansi(false)
            .with_writer(move || writer.clone())
            .finish();
        tracing::subscriber::with_default(subscriber, test);
        let bytes = log.0.lock().expect("one thread").clone();
        String::from_utf8(bytes).expect("logs are text")
    }
}

#[test]
fn a_second_verack_is_logged_and_changes_nothing() {
    let log = Log::during(|| {
        on_the_arbiter(8, async |house| {
            let (_actor, mut remote) = house.connect();
            handshake(&mut remote).await;
            settle().await;
            let before = house.audit().await;
            assert_eq!(before.peer_table, [ConnId(0)].into());
            send(&mut remote, Message::Verack).await;
            send(&mut remote, Message::Verack).await;
            settle().await;
            assert_eq!(house.audit().await, before);
            send(&mut remote, Message::Ping(9)).await;
            wait_for(&mut remote, |message| *message == Message::Pong(9)).await;
            drop(remote);
            settle().await;
            let after = house.audit().await;
            assert_eq!(after.peer_manager, handled(1, 1));
            assert_all_gone(&after);
        });
    });
    let lines = log
        .lines()
        .filter(|line| line.contains("a second verack changes nothing"));
    let lines: Vec<&str> = lines.collect();
    assert_eq!(lines.len(), 2, "{log}");
    assert!(
        lines[0].contains("DEBUG") && lines[0].contains("peer 0"),
        "{lines:?}"
    );
}

#[test]
fn a_peer_that_is_refused_after_its_handshake_ends_and_sync_never_hears_of_it() {
    on_the_arbiter(0, async |house| {
        let (_actor, mut remote) = house.connect();
        handshake(&mut remote).await;
        let mut rest = Vec::new();
        let socket = remote.get_mut();
        socket
            .read_to_end(&mut rest)
            .await
            .expect("its socket is closed");
        settle().await;
        let audit = house.audit().await;
        assert_eq!(audit.peer_manager, handled(1, 1));
        assert_eq!(sync(&audit).handled, handled(0, 0));
        assert_all_gone(&audit);
    });
}

#[test]
fn a_panic_in_a_handler_of_a_peer_costs_one_connection_at_both_managers() {
    on_the_arbiter(8, async |house| {
        let (doomed, mut its_remote) = house.connect();
        let (_other, mut remote) = house.connect();
        handshake(&mut its_remote).await;
        handshake(&mut remote).await;
        settle().await;
        assert_eq!(sync(&house.audit().await).peers.len(), 2);
        post(&doomed, Explode);
        settle().await;
        let audit = house.audit().await;
        assert_eq!(
            (audit.slots_taken, audit.sockets),
            (1, 1),
            "its slot is home"
        );
        assert_eq!(sync(&audit).peers, [ConnId(1)].into());
        assert_eq!(sync(&audit).handled, handled(2, 1));
        send(&mut remote, Message::Ping(4)).await;
        wait_for(&mut remote, |message| *message == Message::Pong(4)).await;
    });
}

/// A connection of a seeded round: what of it is still to come.
struct Visitor {
    socket: Socket,
    pieces: Vec<Vec<u8>>,
    end: End,
}

/// Several connections come, complete their handshake or do not, and go, in pieces;
/// all actors are polled in an order that follows from the seed. Tells what both
/// managers handled.
fn comings_and_goings(
    seed: u64,
    roles: Roles,
    kernel: (Arc<Chain>, handfast_proto::headers::HeaderTree),
) -> Audit {
    crate::virtual_time::run(async {
        let mut random = Random::new(seed);
        let mut executor = Executor::new(seed);
        // Few enough for some to be refused or displaced.
        let max_inbound = random.index(4);
        let mut house = House::new(max_inbound, roles, kernel, |name, future| {
            executor.add(name, future)
        });
        let mut visitors = Vec::new();
        let mut to_come = 6;
        while to_come > 0 || !visitors.is_empty() {
            let new = to_come > 0 && (visitors.is_empty() || random.index(3) == 0);
            if new {
                to_come -= 1;
                visitors.extend(visit(&mut house, &mut executor, &mut random));
            } else if random.index(20) == 0 {
                tokio::time::sleep(TIMEOUT / 2).await;
            } else {
                let at = random.index(visitors.len());
                let visitor: &mut Visitor = &mut visitors[at];
                if visitor.pieces.is_empty() {
                    visitor.socket.end(visitor.end);
                    visitors.remove(at);
                } else {
                    visitor.socket.arrive(visitor.pieces.remove(0));
                }
            }
            for _ in 0..random.index(4) {
                executor.poll_one();
            }
        }
        executor.until_idle();
        let mut answer = house.ask();
        executor.until_idle();
        answer.try_recv().expect("both managers live")
    })
}

fn visit(house: &mut House, executor: &mut Executor, random: &mut Random) -> Option<Visitor> {
    let group = u8::try_from(random.below(3)).expect("small");
    let params = house.params([127, group, 0, 1])?;
    let socket = Socket::default();
    let life = future(
        house.context.clone(),
        params,
        socket.clone(),
        tokio::io::sink(),
    );
    executor.add("peer", life);
    let mut bytes = BytesMut::new();
    // Of those that a second subscriber may hear of, some are of no interest to it.
    let version = match house.second_is_there() && random.index(3) == 0 {
        true => version_of(ServiceFlags::NONE),
        false => version(),
    };
    for message in [
        version,
        Message::Verack,
        Message::SendHeaders,
        Message::GetAddr,
    ] {
        message.encode_into(Network::Regtest.magic(), &mut bytes);
    }
    let whole = bytes.len();
    let sent = [whole, random.index(whole), whole - 24][random.index(3)];
    Some(Visitor {
        socket,
        pieces: chunks(&bytes[..sent], random),
        end: [End::Eof, End::Reset][random.index(2)],
    })
}

/// The rounds of these seeds: how many `Add`s PeerManager handled, and how many subscribers.
fn rounds(seeds: Range<u64>, roles: Roles) -> (u64, BTreeMap<Role, u64>) {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let (chain, tree) = kernel(dir.path());
    let (mut adds, mut admitted) = (0, BTreeMap::new());
    for seed in seeds {
        let audit = comings_and_goings(seed, roles, (chain.clone(), tree.clone()));
        assert_all_gone(&audit);
        assert_eq!(audit.peer_manager.dones, 6, "seed {seed}");
        adds += audit.peer_manager.adds;
        for of in &audit.subscribers {
            assert_eq!(
                of.handled.adds, of.handled.dones,
                "seed {seed}, {}",
                of.role
            );
            *admitted.entry(of.role).or_default() += of.handled.adds;
        }
        if seed % 10 == 0 {
            let again = comings_and_goings(seed, roles, (chain.clone(), tree.clone()));
            assert_eq!(again, audit, "seed {seed}");
        }
    }
    (adds, admitted)
}

#[test]
fn in_any_order_both_managers_end_up_empty_and_every_done_is_handled() {
    let (adds, admitted) = rounds(0..1_000, Role::Sync.into());
    let admitted = admitted[&Role::Sync];
    assert!((500..6_000).contains(&admitted) && admitted < adds && adds < 6_000);
}

#[test]
fn in_any_order_two_subscribers_end_up_empty_and_every_done_is_handled_by_both() {
    let (adds, admitted) = rounds(0..500, Role::ALL.into());
    let [sync, second] = Role::ALL.map(|role| admitted[&role]);
    assert!(
        second > 100 && second < sync && sync < adds,
        "{admitted:?} of {adds}"
    );
}
