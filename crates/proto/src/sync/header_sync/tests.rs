//! Header sync without the rest of the machine.

use std::net::{Ipv4Addr, SocketAddr};

use bitcoin::p2p::ServiceFlags;
use bitcoin::p2p::message_blockdata::Inventory;
use handfast_wire::{Message, Network};

use crate::lifecycle::{Direction, VersionInfo};
use crate::testing::chains::Blocks;
use crate::time::Now;

use super::super::Effect;
use super::*;

/// A connection of this direction from a full node.
pub(in crate::sync) fn version_info(id: ConnId, direction: Direction) -> VersionInfo {
    VersionInfo {
        id,
        direction,
        remote: SocketAddr::from((Ipv4Addr::LOCALHOST, 18_444)),
        version: 70_016,
        services: ServiceFlags::NETWORK | ServiceFlags::WITNESS,
        user_agent: "/test/".into(),
        claimed_height: None,
        relay: true,
        wants_addrv2: true,
        wtxid_relay: true,
        connected_at: Now::default(),
        time_offset: 0,
        sees_us_at: None,
        handshake: Duration::ZERO,
    }
}

/// Header sync with the state that it depends on.
struct Alone {
    now: Now,
    config: SyncConfig,
    chain: Chain,
    peers: Peers,
    known: KnownWork,
    timers: Timers,
    sync: HeaderSync,
}

impl Alone {
    fn new() -> Self {
        let config = SyncConfig::new(&Network::Regtest, None, 1);
        let chain = Chain::new(Blocks::new(0, 0).tree(), config.minimum_work);
        let unix = 1_400_000_000;
        Self {
            now: Now {
                mono: Duration::ZERO,
                unix,
            },
            config,
            chain,
            peers: Peers::default(),
            known: KnownWork::default(),
            timers: Timers::default(),
            sync: HeaderSync::new(1),
        }
    }

    /// With peers 0, 1, … of these directions.
    fn with(directions: &[Direction]) -> Self {
        let mut alone = Self::new();
        for (id, direction) in (0..).map(ConnId).zip(directions) {
            alone.peers.added(&version_info(id, *direction));
            alone.known.added(id);
            alone.act(|sync, cx| sync.added(cx, id));
        }
        alone
    }

    /// The peers that are asked for headers by `act`.
    fn act(&mut self, act: impl FnOnce(&mut HeaderSync, &mut Context<'_>)) -> Vec<ConnId> {
        let mut step = Step::new(self.now);
        let mut context = Context {
            step: &mut step,
            config: &self.config,
            chain: &mut self.chain,
            peers: &mut self.peers,
            known: &mut self.known,
            timers: &mut self.timers,
        };
        act(&mut self.sync, &mut context);
        let asked = step.effects.iter().filter_map(|effect| match effect {
            Effect::Send {
                id,
                message: Message::GetHeaders(_),
            } => Some(*id),
            _ => None,
        });
        asked.collect()
    }

    fn later(&mut self, seconds: u64) {
        self.now = self.now.after(Duration::from_secs(seconds));
    }
}

const IN: Direction = Direction::Inbound;
const OUT: Direction = Direction::Outbound;

/// An event that loses the source. Returns the peers that are asked then.
type Way<'a> = &'a dyn Fn(&mut Alone) -> Vec<ConnId>;

#[test]
fn however_the_source_is_lost_the_next_one_is_asked_in_the_same_step() {
    let left = |alone: &mut Alone| {
        alone.peers.removed(ConnId(0));
        alone.act(|sync, cx| sync.removed(cx, ConnId(0)))
    };
    let disconnected = |alone: &mut Alone| {
        let reason = DoneReason::HeadersTimeout;
        alone.act(|sync, cx| sync.disconnect(cx, ConnId(0), reason))
    };
    let silent = |alone: &mut Alone| {
        alone.later(120);
        alone.act(|sync, cx| sync.answers_are_late(cx, &[ConnId(0)]))
    };
    let slow = |alone: &mut Alone| {
        alone.later(15 * 60);
        alone.act(HeaderSync::source_is_late)
    };
    let ways: [Way<'_>; 4] = [&left, &disconnected, &silent, &slow];
    for way in ways {
        let mut alone = Alone::with(&[IN, IN]);
        assert_eq!(alone.sync.source_id(), Some(ConnId(0)));
        assert_eq!(way(&mut alone), [ConnId(1)]);
        assert_eq!(alone.sync.source_id(), Some(ConnId(1)));
        assert!(!alone.sync.is_eligible(&alone.peers, ConnId(0)));
    }
}

#[test]
fn more_peers_than_a_silent_source_are_asked_twice_as_many_each_time_outbound_first() {
    let mut directions = vec![OUT];
    directions.extend([IN; 6]);
    directions.push(OUT);
    let mut alone = Alone::with(&directions);
    alone.later(2);
    assert_eq!(alone.act(HeaderSync::hedge), [ConnId(7)]);
    alone.later(1);
    assert_eq!(alone.act(HeaderSync::hedge), [ConnId(1), ConnId(2)]);
    alone.later(1);
    assert_eq!(alone.act(HeaderSync::hedge).len(), 4);
    // All are asked.
    alone.later(1);
    assert_eq!(alone.act(HeaderSync::hedge), []);
}

#[test]
fn a_peer_gets_one_request_at_a_time_and_then_one_for_its_announcement() {
    let mut alone = Alone::with(&[OUT, IN]);
    let unknown = Inventory::Block(Blocks::new(3, 1).tip_hash());
    let asked = alone.act(|sync, cx| sync.inv(cx, ConnId(1), &[unknown]));
    assert_eq!(asked, [ConnId(1)], "whatever the source does");
    let other = Inventory::Block(Blocks::new(3, 2).tip_hash());
    let asked = alone.act(|sync, cx| sync.inv(cx, ConnId(1), &[other]));
    assert_eq!(asked, []);
    let asked = alone.act(|sync, cx| sync.headers(cx, ConnId(1), &[]));
    assert_eq!(asked, [ConnId(1)]);
}

#[test]
fn a_request_that_ends_in_the_step_in_which_its_peer_becomes_the_source_is_not_the_last() {
    let mut alone = Alone::with(&[OUT, IN]);
    let unknown = Inventory::Block(Blocks::new(3, 1).tip_hash());
    alone.act(|sync, cx| sync.inv(cx, ConnId(1), &[unknown]));
    alone.later(120);
    let both = [ConnId(0), ConnId(1)];
    let asked = alone.act(|sync, cx| sync.answers_are_late(cx, &both));
    assert_eq!(asked, [ConnId(1)]);
    assert_eq!(alone.sync.source_id(), Some(ConnId(1)));
    let ask = alone.sync.ask_of(ConnId(1)).expect("it is asked");
    assert_eq!((ask.kind, ask.at), (HeadersAsk::Sync, alone.now.mono));
}

#[test]
fn a_peer_that_failed_again_and_again_cools_down_for_longer_and_an_hour_at_most() {
    let mut alone = Alone::with(&[IN, IN]);
    let mut times = Vec::new();
    for failures in 0..8 {
        alone.sync.peer(ConnId(0)).given_up = failures;
        alone.act(|sync, cx| sync.cool_down(cx, ConnId(0), "test", false));
        let cool_down = alone.sync.cool_down_of(ConnId(0)).expect("it failed");
        times.push((cool_down.until - alone.now.mono).as_secs());
    }
    assert_eq!(times, [120, 240, 480, 960, 1_920, 3_600, 3_600, 3_600]);
}

#[test]
fn of_headers_with_a_bad_one_none_is_stored_and_their_sender_is_disconnected() {
    let mut alone = Alone::with(&[OUT]);
    let mut headers = Blocks::new(3, 1).headers();
    headers[2].time = 0;
    while !headers[2].target().is_met_by(headers[2].block_hash()) {
        headers[2].nonce += 1;
    }
    alone.act(|sync, cx| sync.headers(cx, ConnId(0), &headers));
    assert_eq!(alone.chain.tree().len(), 1);
    assert!(!alone.peers.is_live(ConnId(0)));
}
