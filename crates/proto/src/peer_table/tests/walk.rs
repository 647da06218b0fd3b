//! Random walks through the peer table.

use std::collections::VecDeque;

use proptest::prelude::*;

use super::*;
use crate::bans::{BanTime, Subnet};
use crate::headers::HeaderError;
use Direction::{Inbound, Manual, Outbound};

/// The next step of the walk; numbers select among what is possible.
#[derive(Clone, Debug)]
enum Move {
    /// A remote connects.
    Accept(u8),
    /// A dial connects, or fails.
    Dialled(u8, bool),
    /// A connection sends `Add`.
    Shake(u8),
    /// A connection ends.
    End(u8),
    Speak(u8),
    AddNode(u8, AddNodeCommand),
    Disconnect(u8),
    SyncDisconnect(u8),
    /// It sent a new block.
    Useful(u8),
    /// Round trips are reported; a number per connection, milliseconds.
    RoundTrips(u8),
    /// The operator bans an address that remotes or nodes have, or all of the latter.
    Ban(u8, u16),
    Unban(u8),
    ClearBans,
    MorePeers,
    Wait(u16),
    Drain,
}

fn moves() -> impl Strategy<Value = Move> {
    let command = prop_oneof![
        Just(AddNodeCommand::Add),
        Just(AddNodeCommand::Remove),
        Just(AddNodeCommand::OneTry)
    ];
    prop_oneof![
        6 => any::<u8>().prop_map(Move::Accept),
        8 => (any::<u8>(), any::<bool>()).prop_map(|(n, ok)| Move::Dialled(n, ok)),
        10 => any::<u8>().prop_map(Move::Shake),
        6 => any::<u8>().prop_map(Move::End),
        3 => any::<u8>().prop_map(Move::Speak),
        3 => (0u8..4, command).prop_map(|(n, command)| Move::AddNode(n, command)),
        1 => any::<u8>().prop_map(Move::Disconnect),
        1 => any::<u8>().prop_map(Move::SyncDisconnect),
        2 => any::<u8>().prop_map(Move::Useful),
        1 => any::<u8>().prop_map(Move::RoundTrips),
        2 => (0u8..12, 1u16..600).prop_map(|(n, seconds)| Move::Ban(n, seconds)),
        1 => (0u8..12).prop_map(Move::Unban),
        1 => Just(Move::ClearBans),
        1 => Just(Move::MorePeers),
        6 => (0u16..400).prop_map(Move::Wait),
        1 => Just(Move::Drain),
    ]
}

/// A remote's group, or a node's address; the last ones are all nodes at once.
fn subnet(n: u8) -> Subnet {
    let text = match n {
        0..3 => format!("{}.1.0.0/16", 50 + n),
        3..11 => format!("{}.1.1.1", 17 + n),
        11.. => "20.0.0.0/6".to_owned(),
    };
    text.parse().expect("a subnet")
}

#[derive(Clone, Debug)]
struct Connection {
    id: ConnId,
    direction: Direction,
    remote: SocketAddr,
    added: bool,
}

/// The table between connections that open and close and a SyncManager that records them.
struct Walk {
    table: Table,
    connections: Vec<Connection>,
    dials: VecDeque<(SocketAddr, Direction, Option<String>)>,
    /// What SyncManager would see.
    sync: Ledger,
    admitted: BTreeSet<ConnId>,
    disconnected: BTreeSet<ConnId>,
    drained: bool,
}

impl Walk {
    fn new() -> Self {
        let config = PeerTableConfig {
            max_inbound: 3,
            max_outbound: 3,
            max_manual: 2,
            dial: true,
            add_nodes: vec!["21.1.1.1".to_owned()],
            // The walk answers every dial, though late.
            dial_timeout: Duration::from_secs(1_000_000),
            ..config()
        };
        Self {
            table: Table::with_book(config, book(20..30)),
            connections: Vec::new(),
            dials: VecDeque::new(),
            sync: Ledger::new(Scope::Subscriber(Role::Sync)),
            admitted: BTreeSet::new(),
            disconnected: BTreeSet::new(),
            drained: false,
        }
    }

    fn connect(&mut self, direction: Direction, remote: SocketAddr) {
        self.table.next += 1;
        let id = ConnId(self.table.next);
        self.connections.push(Connection {
            id,
            direction,
            remote,
            added: false,
        });
    }

    fn nth(&self, n: u8) -> Option<usize> {
        (!self.connections.is_empty()).then(|| usize::from(n) % self.connections.len())
    }

    fn id(&self, n: u8) -> ConnId {
        self.nth(n).map_or(ConnId(0), |at| self.connections[at].id)
    }

    fn make(&mut self, step: Move) {
        let input = match step {
            Move::Accept(n) => {
                // Four groups, of unequal size.
                self.connect(
                    Inbound,
                    SocketAddr::from(([50 + n % 7 / 2, 1, 1, n], 4_000)),
                );
                return;
            }
            Move::Dialled(n, ok) => {
                if self.dials.is_empty() {
                    return;
                }
                self.dials.rotate_left(usize::from(n) % self.dials.len());
                let Some((addr, direction, name)) = self.dials.pop_front() else {
                    return;
                };
                if ok {
                    self.connect(direction, addr);
                    return;
                }
                if n >= 200 {
                    self.step(Input::NotDialled { addr, name });
                    return;
                }
                Input::DialFailed {
                    addr,
                    name,
                    error: "refused".to_owned(),
                }
            }
            Move::Shake(n) => {
                let Some(at) = self.nth(n).filter(|at| !self.connections[*at].added) else {
                    return;
                };
                self.connections[at].added = true;
                let Connection {
                    id,
                    direction,
                    remote,
                    ..
                } = self.connections[at].clone();
                let template = self.table.version_info(direction, remote);
                self.table.next -= 1;
                Input::Add(VersionInfo { id, ..template })
            }
            Move::End(n) => {
                let Some(at) = self.nth(n) else { return };
                let Connection {
                    id,
                    direction,
                    remote,
                    ..
                } = self.connections.swap_remove(at);
                let reason = match n {
                    0..200 => DoneReason::RemoteClosed,
                    200.. => DoneReason::InvalidHeader(HeaderError::Disconnected),
                };
                Input::Done(disconnection(self.table.now, id, direction, remote, reason))
            }
            Move::Speak(n) => Input::Message {
                id: self.id(n),
                message: Message::SendHeaders.into(),
            },
            Move::AddNode(n, command) => {
                let (_, effects) = self.table.add_node(&format!("{}.1.1.1", 20 + n), command);
                return self.observe(effects);
            }
            Move::Disconnect(n) => {
                let target = DisconnectTarget::ById(self.id(n));
                let (_, effects) = self.table.disconnect(target);
                return self.observe(effects);
            }
            Move::SyncDisconnect(n) => {
                let (id, reason) = (self.id(n), DoneReason::LowWorkChain);
                order(Order::Disconnect { id, reason })
            }
            Move::Useful(n) => {
                let id = self.id(n);
                order(Order::Useful { id })
            }
            Move::RoundTrips(n) => {
                let took = |c: &Connection| Duration::from_millis((c.id.0 ^ u64::from(n)) % 300);
                let all = self.connections.iter().map(|c| (c.id, took(c)));
                Input::RoundTrips(all.collect())
            }
            Move::Ban(n, seconds) => {
                return self.ban(BanCommand::Add {
                    target: subnet(n).into(),
                    time: BanTime::For(seconds.into()),
                });
            }
            Move::Unban(n) => {
                return self.ban(BanCommand::Remove {
                    target: subnet(n).into(),
                });
            }
            Move::ClearBans => return self.ban(BanCommand::Clear),
            Move::MorePeers => order(Order::MorePeers),
            Move::Wait(seconds) => {
                self.table.wait(seconds.into());
                Input::Tick
            }
            Move::Drain => Input::Drain,
        };
        self.step(input);
    }

    fn ban(&mut self, order: BanCommand) {
        let (_, effects) = self.table.ban(order);
        self.observe(effects);
    }

    fn step(&mut self, input: Input) {
        self.drained |= matches!(input, Input::Drain);
        let effects = self.table.step(input);
        self.observe(effects);
    }

    fn observe(&mut self, effects: Vec<Effect>) {
        let banned = |remote: SocketAddr| {
            let bans = self.table.table.bans();
            bans.is_banned(remote.ip(), self.table.now)
        };
        for pair in effects.windows(2) {
            if let [
                Effect::Disconnect {
                    id,
                    reason: DoneReason::Evicted,
                },
                next,
            ] = pair
                && self
                    .connections
                    .iter()
                    .any(|c| c.id == *id && c.direction == Inbound)
            {
                assert!(
                    matches!(next, Effect::Admit { .. }),
                    "{id} was evicted for no peer"
                );
            }
        }
        for effect in effects {
            match effect {
                Effect::Admit { peer, .. } => {
                    self.sync.add(Role::Sync, peer.id).assert_held();
                    assert!(!banned(peer.remote), "{} is banned", peer.remote);
                    assert!(self.admitted.insert(peer.id) && !self.drained);
                }
                Effect::Retire { id, .. } => {
                    self.sync.done(Role::Sync, id).assert_held();
                    assert!(self.admitted.remove(&id));
                }
                Effect::Forward { id, .. } | Effect::Send { id, .. } => {
                    assert!(
                        self.admitted.contains(&id),
                        "{id} is unknown to SyncManager"
                    );
                    assert!(!self.disconnected.contains(&id));
                }
                Effect::Disconnect { id, .. } => {
                    assert!(self.disconnected.insert(id), "{id} is disconnected once");
                }
                Effect::Dial {
                    addr,
                    direction,
                    name,
                } => {
                    assert!(!self.drained, "dials after Drain");
                    let busy = self.dials.iter().any(|dial| dial.0 == addr);
                    assert!(!busy, "{addr} is being dialled already");
                    assert!(!banned(addr), "{addr} is banned");
                    self.dials.push_back((addr, direction, name));
                }
                Effect::Resolve { .. } | Effect::BansChanged | Effect::Notice(_) => {}
            }
        }
        assert_eq!(
            self.table.table.ids(),
            self.admitted,
            "table and SyncManager agree"
        );
        let count = |direction| {
            self.table
                .table
                .peers()
                .iter()
                .filter(|row| row.direction == direction)
                .count()
        };
        assert!(count(Inbound) <= 3 + max_leaving(3) && count(Outbound) <= 3 + EXTRA_OUTBOUND);
        let automatic = self.dials.iter().filter(|dial| dial.1 == Outbound).count();
        let automatic = count(Outbound) + automatic + self.unadded(Outbound);
        assert!(automatic <= 3 + EXTRA_OUTBOUND);
        let rows = self.table.table.peers();
        let staying = |direction| {
            let of = |row: &&PeerRow| row.direction == direction && !row.closing;
            rows.iter().filter(of).count()
        };
        assert!(staying(Inbound) <= 3, "no peer has two slots");
        let more_wanted = self.table.table.more.due().is_some();
        assert!(self.drained || more_wanted || staying(Outbound) <= 3);
        let unwelcome = rows.iter().find(|row| !row.closing && banned(row.remote));
        assert_eq!(unwelcome, None, "banned peers are disconnected");
        let outgoing = rows.iter().filter(|row| row.direction.is_outgoing());
        let remotes: Vec<SocketAddr> = outgoing.map(|row| row.remote).collect();
        let distinct: BTreeSet<_> = remotes.iter().collect();
        assert_eq!(
            distinct.len(),
            remotes.len(),
            "one outgoing connection per address"
        );
        assert!(self.table.table.history().len() <= MAX_HISTORY);
    }

    fn unadded(&self, direction: Direction) -> usize {
        self.connections
            .iter()
            .filter(|c| c.direction == direction && !c.added)
            .count()
    }

    /// Ends every connection; all slots are free.
    fn finish(mut self) {
        self.make(Move::Drain);
        while !self.connections.is_empty() {
            self.make(Move::End(0));
        }
        self.table.table.assert_all_free();
        self.sync.all_slots_free().assert_held();
        assert!(self.admitted.is_empty());
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    /// SyncManager receives `Add` and `Done` for exactly the admitted peers, no address is dialled
    /// twice, no limit is exceeded, and at the end all tables are empty.
    #[test]
    fn table_and_sync_agree_whatever_happens(steps in prop::collection::vec(moves(), 0..150)) {
        let mut walk = Walk::new();
        for step in steps {
            walk.make(step);
        }
        walk.finish();
    }

    /// Manual peers never starve: left alone, the table dials a node that is added.
    #[test]
    fn an_added_node_is_always_dialled_again(
        steps in prop::collection::vec(moves(), 0..80),
    ) {
        let mut walk = Walk::new();
        for step in steps {
            if !matches!(step, Move::Drain | Move::AddNode(..) | Move::Ban(..)) {
                walk.make(step);
            }
        }
        while !walk.connections.is_empty() {
            walk.make(Move::End(0));
        }
        while !walk.dials.is_empty() {
            walk.make(Move::Dialled(0, false));
        }
        let mut dialled = Vec::new();
        for _ in 0..20 {
            walk.make(Move::Wait(5));
            dialled.extend(walk.dials.iter().map(|dial| (dial.0, dial.1)));
            while !walk.dials.is_empty() {
                walk.make(Move::Dialled(0, false));
            }
        }
        let named = (addr(21), Manual);
        prop_assert!(dialled.contains(&named) || dialled.contains(&(addr(21), Outbound)));
    }
}
