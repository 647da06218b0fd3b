//! Hostile peers over TCP against an honest one: each of the attacks of issue 14.
//!
//! The honest peer connects last, with the right chain, and finds blocks while the attack goes on.
//! Whatever the others do, the node gets the chain and each of those blocks from it, never
//! disconnects it, and does not need its watchdog. Speed is measured by `make bench ARGS="--bench
//! attack"`: here are deadlines only, far above the usual times.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use handfast_tests::adversary::{Addresses, Adversary, Attack, Crew, Ground, Honest, Side, Tamper};
use handfast_tests::connection::Connection;
use handfast_tests::data;
use handfast_tests::process::{Node, Setup};
use handfast_tests::scripted_peer::ScriptedPeer;
use handfast_tests::served_chain::ServedChain;
use handfast_tests::usage::Usage;
use handfast_tests::wait::{poll, wait_for, wait_within};
use handfast_wire::{Message, Network};
use serde_json::json;

/// Number of attackers of one kind.
const HOSTILE: usize = 8;
/// Length of the honest peer's chain.
const LENGTH: usize = 400;
/// A shorter chain would fit in one message of headers.
const LONG: usize = 2_100;
/// Time limit of a step that takes less than a second.
const WITHIN: Duration = Duration::from_secs(30);
/// How long attackers can announce a new block before the honest peer does.
const AHEAD: Duration = Duration::from_millis(200);
/// Resident memory, bytes.
const MEMORY: u64 = 200_000_000;

fn regtest(length: usize) -> Ground {
    Ground::regtest(length, unix_now())
}

fn unix_now() -> u32 {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    let now = now.expect("the clock is past 1970").as_secs();
    u32::try_from(now).expect("it is before 2106")
}

/// A node with attackers and an honest peer.
struct Siege {
    ground: Ground,
    // Dropped in this order: peers would report a node that ends first.
    honest: Honest,
    adversary: Adversary,
    node: Node,
}

impl Siege {
    /// The attackers connect first; then the honest peer dials, or is dialled.
    fn begin(setup: &Setup, ground: Ground, crew: (Attack, usize, Side), honest: Side) -> Self {
        let (attack, count, side) = crew;
        let adversary = Adversary::new(Crew {
            attack,
            count,
            side,
            addresses: Addresses::Loopback,
            ground: ground.clone(),
        });
        let listening = adversary.addresses();
        let node = match side {
            Side::Inbound => setup.start(),
            Side::Dialled => {
                let dialled = listening.iter();
                let setup = dialled.fold(setup.clone(), |setup, at| setup.connect(*at));
                setup.start()
            }
            Side::Chosen => setup.clone().dialling().start(),
        };
        adversary.attack(node.p2p());
        if side == Side::Chosen {
            listening.iter().for_each(|at| offer(&node, *at));
        }
        wait_for("all attackers were there", || {
            (adversary.seen().connections >= count).then_some(())
        });
        let honest = join(&node, &ground.network, ground.served(0), honest);
        Self {
            ground,
            honest,
            adversary,
            node,
        }
    }

    /// The node reaches the honest peer's tip, and follows each block that it finds.
    fn holds(&mut self) {
        self.node.wait_for_tip_within(WITHIN, self.ground.tip());
        for (number, block) in self.ground.news.clone().into_iter().enumerate() {
            let before = self.adversary.seen().written;
            self.adversary.tell(number + 1);
            // Attackers that are disconnected, or have nothing to send, do not.
            let _ = poll(AHEAD, || {
                (self.adversary.seen().written > before).then_some(())
            });
            let hash = block.hash;
            self.honest.find(block);
            self.node.wait_for_tip_within(WITHIN, hash);
        }
        self.is_well();
    }

    fn is_well(&mut self) {
        assert!(self.node.is_running());
        let record = self.honest.record();
        assert_eq!((record.cut_off, record.turned_away), (0, 0));
        let state = self.node.rpc().get("getsyncstate", json!([]));
        assert_eq!(state["watchdog"]["fired"], 0, "{}", state["watchdog"]);
    }
}

/// Gives the node the address of a peer that it may dial.
fn offer(node: &Node, at: SocketAddr) {
    let params = json!([at.ip().to_string(), at.port(), true]);
    let answer = node.rpc().get("addpeeraddress", params);
    assert_eq!(answer["success"], true, "{answer}");
}

/// An honest peer that dials the node, or is dialled by it.
fn join(node: &Node, network: &Network, chain: ServedChain, side: Side) -> Honest {
    if side == Side::Inbound {
        return Honest::dial(network, chain, node.p2p(), Addresses::Loopback);
    }
    let honest = Honest::listen(network, chain, Addresses::Loopback);
    let address = honest.address().to_string();
    node.rpc().get("addnode", json!([address, "onetry"]));
    honest
}

/// The directions of the connections of the hostile peers, and of the honest one.
const SIDES: [(Side, Side); 5] = [
    (Side::Inbound, Side::Inbound),
    (Side::Inbound, Side::Dialled),
    (Side::Dialled, Side::Inbound),
    (Side::Dialled, Side::Dialled),
    (Side::Chosen, Side::Inbound),
];

/// The attack from both sides against a honest peer on both sides.
fn from_all_sides(attack: Attack, length: usize, setup: impl Fn(&Ground) -> Setup) {
    let ground = regtest(length);
    for (hostile, honest) in SIDES {
        println!("{attack}: {hostile} attackers, {honest} honest peer");
        // With the honest one no more than the manual peers of a node.
        let crew = (attack, HOSTILE - 1, hostile);
        Siege::begin(&setup(&ground), ground.clone(), crew, honest).holds();
    }
}

fn fresh() -> Setup {
    Setup::handfast(Network::Regtest)
}

/// A node that was restarted with a side branch in its block index.
fn restarted(ground: &Ground) -> Setup {
    let setup = fresh();
    let node = setup.start();
    ground.store_side_branch(&node);
    assert!(node.stop().success(), "a clean stop");
    setup
}

#[test]
fn a_block_with_other_data_under_its_header_is_accepted_unchanged_from_the_next_peer() {
    let ground = regtest(LENGTH);
    takes_true_blocks(&ground, &[0, 1], &Tamper::ALL);
}

#[test]
fn a_signet_block_with_another_coinbase_is_accepted_unchanged_from_the_next_peer() {
    let Some(ground) = Ground::signet() else {
        return;
    };
    takes_true_blocks(&ground, &[0], &[Tamper::OtherCoinbase]);
}

/// One peer sends the newest block tampered with, each time in another way; then the honest one
/// announces it.
fn takes_true_blocks(ground: &Ground, news: &[usize], ways: &[Tamper]) {
    let network = &ground.network;
    let mut tried = 0;
    for (&number, way) in news
        .iter()
        .flat_map(|number| ways.iter().map(move |way| (number, way)))
    {
        let Some(tampered) = way.of(&ground.news[number]) else {
            continue;
        };
        tried += 1;
        let mut node = Setup::handfast(network.clone()).start();
        let honest = join(&node, network, ground.served(number), Side::Inbound);
        let before = ground.news[..number]
            .last()
            .map_or(ground.tip(), |block| block.hash);
        node.wait_for_tip(before);

        let mut hostile =
            Connection::dial(node.p2p(), network).expect("the node completes the handshake");
        hostile
            .send(&Message::Block(tampered))
            .expect("the node reads");
        // It is disconnected for it; otherwise it would be answered.
        let _ = hostile.send(&Message::Ping(7));
        while !matches!(
            hostile.receive(),
            Ok(Some(Message::Pong(7)) | None) | Err(_)
        ) {}

        let block = ground.news[number].clone();
        let hash = block.hash;
        honest.find(block);
        println!("{way:?} of block {number}");
        node.wait_for_tip_within(WITHIN, hash);
        assert_eq!(honest.record().cut_off, 0, "{way:?}");
        assert!(node.is_running());
    }
    assert!(tried > 0);
}

#[test]
fn peers_that_tamper_with_every_block_they_send_keep_no_block_from_the_node() {
    from_all_sides(Attack::Tampered, LENGTH, |_| fresh());
}

#[test]
fn a_stored_side_branch_that_is_poisoned_after_a_restart_ends_nothing() {
    from_all_sides(Attack::Poisoned, LENGTH, restarted);
}

#[test]
fn peers_that_show_the_first_headers_for_ever_keep_no_chain_from_the_node() {
    // The node requires more than 2,000 headers have: each counts two.
    let work = format!("{:x}", 2 * (LONG - 50));
    from_all_sides(Attack::Useless, LONG, |_| {
        fresh().arg("--minimum-chain-work").arg(&work)
    });
}

#[test]
fn an_honest_peer_is_asked_for_headers_beside_sources_with_the_first_2000_of_mainnet() {
    let Some(headers) = data::mainnet_headers() else {
        return;
    };
    // The minimum work of mainnet, which the test kit sets to nothing otherwise.
    let work = Network::Mainnet.minimum_chain_work().to_be_bytes();
    let work: String = work.iter().map(|byte| format!("{byte:02x}")).collect();
    for honest_side in [Side::Inbound, Side::Dialled] {
        let setup = Setup::handfast(Network::Mainnet);
        let node = setup.arg("--minimum-chain-work").arg(&work).start();
        let useless: Vec<_> = (0..HOSTILE)
            .map(|_| {
                let chain = ServedChain::of_headers(headers[..=2_000].to_vec());
                ScriptedPeer::honest(&Network::Mainnet, chain)
            })
            .collect();
        for peer in &useless {
            peer.dial(node.p2p());
        }
        wait_for("one of them is the source", || {
            useless
                .iter()
                .any(|peer| peer.record().header_requests > 1)
                .then_some(())
        });
        let chain = ServedChain::of_headers(headers.clone());
        let honest = join(&node, &Network::Mainnet, chain, honest_side);
        println!("{honest_side} honest peer");
        wait_within(2 * WITHIN, "the honest peer is asked for headers", || {
            (honest.record().header_requests > 0).then_some(())
        });
        assert_eq!(honest.record().cut_off, 0);
    }
}

#[test]
fn peers_with_private_branches_and_no_blocks_keep_no_block_from_the_node() {
    from_all_sides(Attack::Branches, LENGTH, |_| fresh());
}

#[test]
fn forty_peers_with_private_branches_and_no_blocks_keep_no_block_from_the_node() {
    let crew = (Attack::Branches, 40, Side::Inbound);
    Siege::begin(&fresh(), regtest(LENGTH), crew, Side::Inbound).holds();
}

#[test]
fn peers_that_answer_notfound_and_announce_again_keep_no_block_from_the_node() {
    from_all_sides(Attack::NotFound, LENGTH, |_| fresh());
}

#[test]
fn peers_that_show_the_right_chain_and_send_no_block_keep_no_block_from_the_node() {
    from_all_sides(Attack::Withhold, LENGTH, |_| fresh());
}

#[test]
fn sixty_peers_that_show_the_right_chain_and_send_no_block_keep_no_block_from_the_node() {
    let crew = (Attack::Withhold, 60, Side::Inbound);
    Siege::begin(&fresh(), regtest(LENGTH), crew, Side::Inbound).holds();
}

#[test]
fn unfinished_frames_hold_little_memory() {
    let crew = (Attack::HalfFrames, 2 * HOSTILE, Side::Inbound);
    let mut siege = Siege::begin(&fresh(), regtest(LENGTH), crew, Side::Inbound);
    siege.holds();
    // By now the node has received all that it reads of their 320 MB.
    let before = siege.honest.record().round_trips.len();
    wait_for("it runs for a while", || {
        (siege.honest.record().round_trips.len() > before + 30).then_some(())
    });
    let peak = Usage::of(siege.node.pid()).expect("it runs").peak_resident;
    println!("most that was resident: {} MB", peak / 1_000_000);
    assert!(peak < MEMORY, "{peak}");
    siege.is_well();
}

#[test]
fn peers_that_send_large_blocks_at_a_megabit_a_second_delay_no_block_of_others() {
    for side in [Side::Inbound, Side::Dialled] {
        let ground = Ground::regtest_of_large_blocks(LENGTH, unix_now());
        let crew = (Attack::Trickle, HOSTILE, side);
        let mut siege = Siege::begin(&fresh(), ground, crew, Side::Inbound);
        siege.holds();
        let peak = Usage::of(siege.node.pid()).expect("it runs").peak_resident;
        assert!(peak < MEMORY, "{peak}");
        siege.is_well();
    }
}

#[test]
fn sixty_peers_that_send_each_block_just_in_time_delay_no_block_of_others() {
    let crew = (Attack::Late, 60, Side::Inbound);
    Siege::begin(&fresh(), regtest(LENGTH), crew, Side::Inbound).holds();
}

#[test]
fn peers_that_flood_with_the_largest_messages_delay_no_other_peer() {
    for side in [Side::Inbound, Side::Dialled] {
        let crew = (Attack::Big, HOSTILE, side);
        let mut siege = Siege::begin(&fresh(), regtest(LENGTH), crew, Side::Inbound);
        siege.holds();
        let began = Instant::now();
        let mut bystander = Connection::dial(siege.node.p2p(), &Network::Regtest)
            .expect("the node completes the handshake");
        for nonce in 1_000..1_050 {
            bystander
                .send(&Message::Ping(nonce))
                .expect("the node reads");
            bystander.expect("the pong", |message| {
                (message == Message::Pong(nonce)).then_some(())
            });
            assert!(began.elapsed() < WITHIN, "only {} pings", nonce - 999);
        }
        println!("50 pings, one after another: {:.2?}", began.elapsed());
        siege.is_well();
    }
}

#[test]
fn all_attacks_at_once_keep_no_block_from_the_node() {
    let ground = regtest(LENGTH);
    let crew = (Attack::Mix, 14, Side::Inbound);
    Siege::begin(&restarted(&ground), ground, crew, Side::Inbound).holds();
}
