use super::*;
use crate::lifecycle::Direction;
use crate::session::{full_node, offered};

const START: Now = Now {
    mono: Duration::from_secs(100),
    unix: 1_700_000_000,
};

fn addr(text: &str) -> SocketAddr {
    text.parse().expect("an address")
}

/// Own addresses, one of which the operator set.
fn own() -> OwnAddresses {
    OwnAddresses::new(&[addr("0.0.0.0:8333")], &[addr("9.9.9.9:8333")], false)
}

/// Own addresses that are discovered, on a machine with these interfaces.
fn discovering(interfaces: &[&str]) -> OwnAddresses {
    let mut own = OwnAddresses::new(&[addr("0.0.0.0:8333")], &[], true);
    for interface in interfaces {
        own.add(addr(interface), Origin::Interface);
    }
    own
}

/// A relay, its clock, and what it sent.
struct World {
    relay: AddressRelay,
    now: Now,
    sent: Vec<(Duration, ConnId, Message)>,
}

impl World {
    fn new(own: OwnAddresses) -> Self {
        Self {
            relay: AddressRelay::new(own, offered(), 7),
            now: START,
            sent: Vec::new(),
        }
    }

    /// A relay that announces nothing, with so many outgoing peers.
    fn silent(peers: u64) -> Self {
        let mut world = Self::new(OwnAddresses::default());
        for id in 0..peers {
            world.connect(id, Direction::Outbound);
        }
        world
    }

    fn connect(&mut self, id: u64, direction: Direction) {
        self.connect_as(version_info(id, direction));
    }

    fn connect_as(&mut self, version_info: VersionInfo) {
        self.relay.connected(self.now, &version_info);
        self.collect();
    }

    fn collect(&mut self) {
        let due = self.relay.due(self.now).into_iter();
        let at = self.now.mono;
        self.sent.extend(due.map(|(id, message)| (at, id, message)));
    }

    /// Lets time pass, and sends messages when they are due.
    fn run(&mut self, time: Duration) {
        let end = self.now.after(time);
        while let Some(at) = self.relay.deadline().filter(|at| *at <= end.mono) {
            self.now = self.now.after(at.saturating_sub(self.now.mono));
            self.collect();
        }
        self.now = end;
    }

    fn receive(&mut self, from: u64, entry: &AddrV2Message) {
        self.relay.knows(ConnId(from), entry);
        self.relay.relay(self.now, ConnId(from), entry);
        self.run(Duration::from_secs(600));
    }

    /// The peers that were sent something since the last call.
    fn taken(&mut self) -> BTreeSet<u64> {
        let taken = std::mem::take(&mut self.sent);
        taken.into_iter().map(|(_, id, _)| id.0).collect()
    }
}

fn version_info(id: u64, direction: Direction) -> VersionInfo {
    VersionInfo {
        id: ConnId(id),
        direction,
        remote: SocketAddr::from(([20, 1, 1, 1], 8_333)),
        version: 70_016,
        services: full_node(),
        user_agent: "/peer/".to_owned(),
        claimed_height: Some(1),
        relay: true,
        wants_addrv2: true,
        wtxid_relay: true,
        connected_at: START,
        time_offset: 0,
        sees_us_at: None,
        handshake: Duration::ZERO,
    }
}

fn entry(n: u16) -> AddrV2Message {
    let [a, b] = n.to_be_bytes();
    AddrV2Message {
        time: START.unix,
        services: full_node(),
        addr: AddrV2::Ipv4([8, 8, a, b].into()),
        port: 8_333,
    }
}

fn onion(n: u8) -> AddrV2Message {
    AddrV2Message {
        addr: AddrV2::TorV3([n; 32]),
        ..entry(1)
    }
}

fn entries(message: &Message) -> Vec<AddrV2Message> {
    match message {
        Message::AddrV2(entries) => entries.clone(),
        other => panic!("{other:?}"),
    }
}

#[test]
fn an_address_is_relayed_to_two_peers_and_for_a_day_to_the_same() {
    let mut world = World::silent(50);
    world.receive(0, &entry(1));
    let first = world.taken();
    assert_eq!(first.len(), 2);
    assert!(!first.contains(&0), "not back to where it came from");
    // The same address again, whichever peer sends it: both know it by now.
    for from in [0, 1, 2] {
        world.receive(from, &entry(1));
    }
    assert!(world.taken().is_subset(&first));
    // Two days later others are chosen.
    world.run(2 * ROTATION);
    world.receive(0, &entry(1));
    let later = world.taken();
    assert_eq!(later.len(), 2);
    assert_ne!(later, first);
}

#[test]
fn the_chosen_peers_depend_on_the_address_and_on_a_secret() {
    let chosen = |seed, n| {
        let mut world = World::silent(50);
        world.relay.seed = seed;
        world.receive(0, &entry(n));
        world.taken()
    };
    let first: Vec<_> = (0..20).map(|n| chosen(1, n)).collect();
    let again: Vec<_> = (0..20).map(|n| chosen(1, n)).collect();
    let other: Vec<_> = (0..20).map(|n| chosen(2, n)).collect();
    assert_eq!(first, again);
    assert_ne!(first, other);
    let all_peers: BTreeSet<u64> = first.into_iter().flatten().collect();
    assert!(all_peers.len() > 20, "{all_peers:?}");
}

#[test]
fn an_unreachable_address_is_relayed_to_one_or_two_peers() {
    let mut counts = [0; 3];
    for n in 0..100 {
        let mut world = World::silent(20);
        world.receive(0, &onion(n));
        counts[world.taken().len()] += 1;
    }
    assert_eq!(counts[0], 0);
    assert!(counts[1] > 25 && counts[2] > 25, "{counts:?}");
}

#[test]
fn an_address_of_an_unknown_network_is_not_relayed() {
    let mut world = World::silent(20);
    for addr in [AddrV2::TorV2([1; 10]), AddrV2::Unknown(77, vec![1; 5])] {
        world.receive(0, &AddrV2Message { addr, ..entry(1) });
    }
    assert_eq!(world.taken(), BTreeSet::new());
}

#[test]
fn a_peer_without_addrv2_is_sent_only_ip_addresses_in_addr() {
    let mut world = World::silent(1);
    let old = VersionInfo {
        wants_addrv2: false,
        ..version_info(9, Direction::Outbound)
    };
    world.connect_as(old);
    world.receive(0, &onion(1));
    assert_eq!(world.sent, []);
    world.receive(0, &entry(1));
    let [(_, ConnId(9), Message::Addr(sent_own))] = &world.sent[..] else {
        panic!("{:?}", world.sent)
    };
    assert_eq!(
        sent_own[0].1.socket_addr().ok(),
        entry(1).socket_addr().ok()
    );
}

#[test]
fn an_inbound_peer_is_sent_no_address_before_its_first_address_message() {
    let mut world = World::new(own());
    world.relay.set_initial_download(false);
    world.connect(0, Direction::Outbound);
    world.connect(1, Direction::Inbound);
    world.taken();
    world.receive(0, &entry(1));
    assert_eq!(world.taken(), BTreeSet::new());
    world.relay.takes_part(ConnId(1));
    world.collect();
    let [(_, ConnId(1), own)] = &world.sent[..] else {
        panic!("{:?}", world.sent)
    };
    assert_eq!(entries(own)[0].addr, AddrV2::Ipv4([9, 9, 9, 9].into()));
    world.taken();
    world.receive(0, &entry(2));
    assert_eq!(world.taken(), [1].into());
}

#[test]
fn addresses_for_a_peer_are_collected_and_sent_together() {
    let mut world = World::silent(2);
    // The first is sent at once, and starts the pause.
    world.relay.relay(world.now, ConnId(0), &entry(0));
    world.collect();
    assert_eq!(world.sent.len(), 1);
    for n in 1..=20 {
        world.relay.relay(world.now, ConnId(0), &entry(n));
        world.collect();
    }
    assert_eq!(world.sent.len(), 1, "they wait");
    world.run(Duration::from_secs(600));
    let [_, (_, ConnId(1), message)] = &world.sent[..] else {
        panic!("{:?}", world.sent)
    };
    assert_eq!(entries(message).len(), 20);
}

#[test]
fn queued_addresses_are_bounded_and_dropped_with_their_peer() {
    let mut world = World::silent(2);
    for n in 0..5_000 {
        world.relay.relay(world.now, ConnId(0), &entry(n));
    }
    assert_eq!(world.relay.peers[&ConnId(1)].queue.len(), MAX_QUEUED);
    for id in [0, 1] {
        world.relay.disconnected(ConnId(id));
    }
    assert!(world.relay.peers.is_empty() && world.relay.schedule.is_empty());
    assert_eq!(world.relay.deadline(), None);
}

#[test]
fn our_own_address_is_announced_at_once_alone_and_then_about_once_a_day() {
    let mut world = World::new(own());
    world.relay.set_initial_download(false);
    for id in 0..20 {
        world.connect(id, Direction::Outbound);
    }
    assert_eq!(
        world.sent.len(),
        20,
        "one each, in the step of its admission"
    );
    for (_, _, message) in &world.sent {
        let [own] = &entries(message)[..] else {
            panic!("{message:?}")
        };
        assert_eq!(own.socket_addr().ok(), "9.9.9.9:8333".parse().ok());
        assert_eq!((own.services, own.time), (offered(), START.unix));
    }
    world.taken();
    let days = 30;
    world.run(days * OWN_INTERVAL);
    let each = world.sent.len() / 20;
    let expected = usize::try_from(days).expect("small");
    assert!((expected - 5..=expected + 5).contains(&each), "{each}");
}

#[test]
fn no_address_is_announced_without_listening_or_an_address_or_during_initial_download() {
    let nobody_is_accepted = OwnAddresses::new(&[], &[addr("9.9.9.9:8333")], true);
    let unknown = discovering(&[]);
    let local = OwnAddresses::new(
        &["0.0.0.0:8333", "127.0.0.1:8333", "192.168.0.7:8333"].map(addr),
        &[],
        true,
    );
    for own in [nobody_is_accepted, unknown, local] {
        let mut world = World::new(own);
        world.relay.set_initial_download(false);
        world.connect(0, Direction::Outbound);
        world.run(5 * OWN_INTERVAL);
        assert_eq!(world.sent, []);
    }
    let mut world = World::new(own());
    world.connect(0, Direction::Outbound);
    world.run(5 * OWN_INTERVAL);
    assert_eq!(world.sent, []);
    world.relay.set_initial_download(false);
    world.collect();
    assert_eq!(world.taken(), [0].into(), "as soon as that is over");
}

/// The address that a peer is sent, and how often in 1,000 times.
fn sent_own(
    own: &OwnAddresses,
    direction: Direction,
    remote: &str,
    sees: Option<&str>,
) -> BTreeMap<String, u32> {
    let mut random = Random::new(3);
    let peer = VersionInfo {
        remote: addr(remote),
        sees_us_at: sees.map(addr),
        ..version_info(1, direction)
    };
    let mut sent_own = BTreeMap::new();
    for own in (0..1_000).filter_map(|_| own.for_peer(&peer, &mut random)) {
        *sent_own.entry(own.to_string()).or_default() += 1;
    }
    sent_own
}

const NEAR: &str = "20.1.1.1:8333";
const FAR: &str = "[2601::1]:8333";

fn keys(sent_own: &BTreeMap<String, u32>) -> Vec<&str> {
    sent_own.keys().map(String::as_str).collect()
}

#[test]
fn a_peer_is_sent_the_address_that_it_reaches_best_and_of_these_the_highest_score() {
    let (v4, v6) = ("8.8.4.4:8333", "[2600::4]:8333");
    let mut both = discovering(&[v4, "8.8.5.5:8333", v6]);
    assert_eq!(keys(&sent_own(&both, Direction::Inbound, NEAR, None)), [v4]);
    assert_eq!(keys(&sent_own(&both, Direction::Inbound, FAR, None)), [v6]);
    // A peer reached us at the other IPv4 address.
    assert!(both.seen(addr("8.8.5.5:8333")));
    let surer = sent_own(&both, Direction::Inbound, NEAR, None);
    assert_eq!(keys(&surer), ["8.8.5.5:8333"]);
    assert_eq!(keys(&sent_own(&both, Direction::Inbound, FAR, None)), [v6]);
}

#[test]
fn the_address_that_a_peer_reports_is_sent_to_it_half_of_the_time_with_the_port_that_it_can_know() {
    let v4 = "8.8.4.4:9000";
    let known = discovering(&[v4]);
    let seen = Some("7.7.7.7:1234");
    let inbound = sent_own(&known, Direction::Inbound, NEAR, seen);
    assert_eq!(keys(&inbound), ["7.7.7.7:1234", v4]);
    assert!((400..600).contains(&inbound[v4]), "{inbound:?}");
    let outbound = sent_own(&known, Direction::Outbound, NEAR, seen);
    assert_eq!(keys(&outbound), ["7.7.7.7:9000", v4]);
    // It is the only one behind a router, and no reason to send a private address.
    let behind = discovering(&[]);
    let outbound = sent_own(&behind, Direction::Outbound, NEAR, seen);
    assert_eq!(keys(&outbound), ["7.7.7.7:8333"]);
    let private = Some("10.0.0.1:8333");
    assert!(sent_own(&behind, Direction::Outbound, NEAR, private).is_empty());
    assert!(sent_own(&behind, Direction::Outbound, "10.0.0.2:8333", seen).is_empty());
}

#[test]
fn only_the_operators_address_is_sent_unless_we_discover_too() {
    let (named, seen) = ("9.9.9.9:8333", "7.7.7.7:1234");
    let alone = sent_own(&own(), Direction::Inbound, NEAR, Some(seen));
    assert_eq!(keys(&alone), [named]);
    let mut besides = discovering(&["8.8.4.4:8333"]);
    besides.add(addr(named), Origin::Manual);
    let half = sent_own(&besides, Direction::Inbound, NEAR, Some(seen));
    assert_eq!(keys(&half), [seen, named]);
    // Peers reach us there: a peer's report has less weight.
    assert!(besides.seen(addr(named)));
    let eighth = sent_own(&besides, Direction::Inbound, NEAR, Some(seen));
    assert!((50..200).contains(&eighth[seen]), "{eighth:?}");
}

#[test]
fn an_inbound_peer_raises_the_score_of_the_address_that_it_reached() {
    let mut world = World::new(discovering(&["8.8.4.4:8333"]));
    let sees = |id, direction| VersionInfo {
        sees_us_at: Some(addr("8.8.4.4:50000")),
        ..version_info(id, direction)
    };
    world.connect_as(sees(0, Direction::Outbound));
    world.connect(1, Direction::Inbound);
    let score = |world: &World| world.relay.own().next().map(|own| own.score);
    assert_eq!(score(&world), Some(1), "we dialled, or it does not say");
    world.connect_as(sees(2, Direction::Inbound));
    world.connect_as(sees(3, Direction::Inbound));
    assert_eq!(score(&world), Some(3));
}

#[test]
fn an_answer_to_getaddr_replaces_the_queue_and_is_known_from_then_on() {
    let mut world = World::silent(2);
    world.relay.relay(world.now, ConnId(0), &entry(1));
    world.relay.answered(ConnId(1), &[entry(2)]);
    world.run(Duration::from_secs(600));
    world.receive(0, &entry(2));
    assert_eq!(world.sent, []);
    world.receive(0, &entry(1));
    assert_eq!(world.taken(), [1].into());
}
