//! One node, some attackers, one honest peer.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use bitcoin::BlockHash;
use handfast_tests::adversary::{
    Addresses, Attack, Ground, Honest, HonestRecord, NEWS, Seen, Side,
};
use handfast_tests::process::{Node, Program, Setup};
use handfast_tests::usage::Usage;
use handfast_tests::wait::{poll, poll_every};
use serde_json::json;

use super::child::Attackers;
use crate::run::quiet;

/// Blocks of the honest chain on regtest: more than one message of headers has, and not
/// many more. Both nodes check their whole block index after each, by default on regtest.
pub(super) const LENGTH: usize = 2_100;
/// Work that [`Attack::Useless`] lacks with 2,000 headers, and the chain has: each block
/// on regtest counts two.
const MINIMUM_WORK: &str = "1006";
/// How long attackers have to be there before the honest peer comes.
const GATHER: Duration = Duration::from_secs(8);
/// How long they then are alone with the node.
const REIGN: Duration = Duration::from_secs(1);
/// How long the attackers know of a new block before the honest peer announces it.
const AHEAD: Duration = Duration::from_millis(50);
/// Between two new blocks.
const REST: Duration = Duration::from_millis(200);
/// How long a new block is waited for, for the figure: the limit is less.
const NEWS_PATIENCE: Duration = Duration::from_secs(10);
/// Within which a node without attackers has the chain.
const ALONE_PATIENCE: Duration = Duration::from_secs(60);
/// How exactly times are seen. Each look costs the node an RPC answer.
const LOOK: Duration = Duration::from_millis(20);
/// Inbound peers that both nodes take: Handfast's default.
const INBOUND: usize = 115;
/// Bitcoin Core's outbound connections, automatic ones and a feeler, which it counts too.
const CORE_OUTBOUND: usize = 11;

/// What is tried.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Cell {
    pub(crate) attack: Attack,
    /// Hostile peers.
    pub(crate) count: usize,
    /// Who opens their connections.
    pub(crate) hostile: Side,
    /// Who opens that of the honest one.
    pub(crate) honest: Side,
    /// Where all of them are.
    pub(crate) addresses: Addresses,
}

/// What came of it.
#[derive(Clone, Debug)]
pub(crate) struct Outcome {
    /// From the honest peer's coming to its tip. `None`: not within the limit.
    pub(crate) synced: Option<Duration>,
    /// The slowest of the new blocks. `None`: not within [`NEWS_PATIENCE`].
    pub(crate) followed: Option<Duration>,
    /// That was measured apart, with an attack that began only when the node had the rest:
    /// it did not get there under attack.
    pub(crate) apart: bool,
    pub(crate) honest: HonestRecord,
    /// Bytes that were resident at most.
    pub(crate) peak: u64,
    pub(crate) alive: bool,
    pub(crate) seen: Seen,
    /// Processor time of the attackers.
    pub(crate) cpu: Duration,
}

/// Tries it against a program; the sync is given up after `limit`.
///
/// `None` if the chain's data is not there.
pub(crate) fn run(program: Program, cell: &Cell, limit: Duration) -> Option<Outcome> {
    let now = unix_now();
    let ground = Ground::of(cell.attack, LENGTH, now)?;
    let (mut node, mut attackers) = begin(program, cell, &ground, now);
    attackers.attack(node.p2p());
    gather(&mut attackers, cell);

    let began = Instant::now();
    let honest = join(&node, &ground, cell.honest, cell.addresses);
    let synced = reached(&mut node, ground.tip(), limit).then(|| began.elapsed());
    let followed = synced.and_then(|_| follow_all(&mut node, &ground, &honest, &mut attackers));
    let mut outcome = Outcome {
        synced,
        followed,
        apart: synced.is_none(),
        honest: honest.record(),
        peak: Usage::of(node.pid()).map_or(0, |usage| usage.peak_resident),
        alive: node.is_running(),
        seen: attackers.seen(),
        cpu: attackers.cpu(),
    };
    drop((honest, attackers, node));
    if outcome.apart {
        outcome.followed = follow_apart(program, cell, &ground, now);
    }
    Some(outcome)
}

/// A node that knows of the attackers, who have not begun.
fn begin(program: Program, cell: &Cell, ground: &Ground, now: u32) -> (Node, Attackers) {
    let sides = (cell.hostile, cell.addresses);
    let attackers = Attackers::start(cell.attack, cell.count, sides, (LENGTH, now));
    let setup = prepared(program, cell.attack, ground);
    let setup = match [cell.hostile, cell.honest].contains(&Side::Chosen) {
        true => setup.dialling(),
        false => setup,
    };
    let listening = attackers.addresses.iter();
    let node = match cell.hostile {
        Side::Inbound => setup.start(),
        Side::Dialled => listening
            .fold(setup, |setup, at| setup.connect(*at))
            .start(),
        Side::Chosen => {
            let node = setup.start();
            listening.for_each(|at| offer(&node, *at));
            node
        }
    };
    (node, attackers)
}

/// Waits until the attackers are there, and have been alone with the node for a while.
fn gather(attackers: &mut Attackers, cell: &Cell) {
    poll_every(LOOK, GATHER, || {
        (attackers.seen().connections >= cell.count).then_some(())
    });
    // Nothing is awaited: the node is left alone with them.
    let _ = poll(REIGN, || None::<()>);
}

/// The slowest of the new blocks where the attack begins only when the node has the rest.
fn follow_apart(program: Program, cell: &Cell, ground: &Ground, now: u32) -> Option<Duration> {
    let (mut node, mut attackers) = begin(program, cell, ground, now);
    let honest = join(&node, ground, cell.honest, cell.addresses);
    if !reached(&mut node, ground.tip(), ALONE_PATIENCE) {
        return None;
    }
    attackers.attack(node.p2p());
    gather(&mut attackers, cell);
    follow_all(&mut node, ground, &honest, &mut attackers)
}

/// How long the honest peer's chain takes without attackers. `None` as for [`run`].
pub(crate) fn alone(program: Program, attack: Attack, honest: Side) -> Option<Duration> {
    let ground = Ground::of(attack, LENGTH, unix_now())?;
    let mut node = prepared(program, attack, &ground).start();
    let began = Instant::now();
    let _honest = join(&node, &ground, honest, Addresses::Loopback);
    assert!(
        reached(&mut node, ground.tip(), ALONE_PATIENCE),
        "{program:?} does not sync alone"
    );
    Some(began.elapsed())
}

/// A node as the attack wants it.
fn prepared(program: Program, attack: Attack, ground: &Ground) -> Setup {
    let setup = quiet(Setup::new(program, ground.network.clone()));
    let setup = match program {
        Program::Handfast => setup,
        Program::Bitcoind => setup.arg(format!("-maxconnections={}", INBOUND + CORE_OUTBOUND)),
    };
    if attack.wants_side_branch() {
        let node = setup.start();
        ground.store_side_branch(&node);
        assert!(node.stop().success(), "a clean stop");
    }
    match (attack.wants_minimum_work(), program) {
        (false, _) => setup,
        (true, Program::Handfast) => setup.arg("--minimum-chain-work").arg(MINIMUM_WORK),
        (true, Program::Bitcoind) => setup.arg(format!("-minimumchainwork=0x{MINIMUM_WORK}")),
    }
}

/// Tells the node of a peer that it may dial.
fn offer(node: &Node, at: SocketAddr) {
    let params = json!([at.ip().to_string(), at.port(), true]);
    if let Err(error) = node.rpc().call("addpeeraddress", params) {
        eprintln!("    addpeeraddress: {error}");
    }
}

fn join(node: &Node, ground: &Ground, side: Side, addresses: Addresses) -> Honest {
    let chain = ground.served(0);
    match side {
        Side::Inbound => Honest::dial(&ground.network, chain, node.p2p(), addresses),
        Side::Chosen => {
            let honest = Honest::listen(&ground.network, chain, addresses);
            offer(node, honest.address());
            honest
        }
        Side::Dialled => {
            let honest = Honest::listen(&ground.network, chain, addresses);
            let address = honest.address().to_string();
            // Version 1 at once. A node that cannot answer fails by not syncing.
            let params = json!([address, "onetry", false]);
            if let Err(error) = node.rpc().call("addnode", params) {
                eprintln!("    addnode: {error}");
            }
            honest
        }
    }
}

/// Whether the node gets there in time. No longer waited for when it has ended.
fn reached(node: &mut Node, tip: BlockHash, limit: Duration) -> bool {
    let result = poll_every(LOOK, limit, || {
        if node.best_hash() == Some(tip) {
            return Some(true);
        }
        (!node.is_running()).then_some(false)
    });
    result == Some(true)
}

/// The slowest of the new blocks; `None` as soon as one is not followed.
fn follow_all(
    node: &mut Node,
    ground: &Ground,
    honest: &Honest,
    attackers: &mut Attackers,
) -> Option<Duration> {
    let mut slowest = Duration::ZERO;
    for number in 0..NEWS {
        let _ = poll(REST, || None::<()>);
        attackers.tell(number + 1);
        let _ = poll(AHEAD, || None::<()>);
        let block = ground.news[number].clone();
        let hash = block.hash;
        let began = Instant::now();
        honest.find(block);
        if !reached(node, hash, NEWS_PATIENCE) {
            return None;
        }
        slowest = slowest.max(began.elapsed());
    }
    Some(slowest)
}

fn unix_now() -> u32 {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    u32::try_from(now.expect("the clock is past 1970").as_secs()).expect("it is before 2106")
}
