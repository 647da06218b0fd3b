//! Nothing acknowledged is lost: `kill -9` at random moments while a node mines, follows
//! a peer, and starts.
//!
//! Acknowledged are blocks whose `submitblock` was answered with success, and blocks that the node
//! announced to a peer. After each restart, and before any peer is connected that could send them,
//! the node must have all of them.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use bitcoin::BlockHash;
use bitcoin::block::Header;
use bitcoin::consensus::serialize;
use bitcoin::hex::DisplayHex;
use bitcoin::p2p::message_blockdata::Inventory;
use handfast_disk::is_in_use;
use handfast_tests::generator::empty_blocks;
use handfast_tests::process::{Node, Setup};
use handfast_tests::rpc::Rpc;
use handfast_tests::scripted_peer::{Reaction, ScriptedPeer};
use handfast_tests::served_chain::ServedChain;
use handfast_tests::shifted_clock::ShiftedClock;
use handfast_tests::wait::wait_for;
use handfast_wire::{Message, Network, RawBlock};
use serde_json::{Value, json};

const KILLS: u32 = 200;

/// A short pseudo-random sequence that owns its seed (Numerical Recipes' constants).
struct Chance(u32);

impl Chance {
    fn below(&mut self, bound: u32) -> u32 {
        self.0 = self.0.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (self.0 >> 8) % bound
    }

    /// Lets some time pass, less than so many microseconds.
    #[expect(
        clippy::disallowed_methods,
        reason = "there is no condition: the moment is to be random"
    )]
    fn pass(&mut self, micros: u32) {
        thread::sleep(Duration::from_micros(u64::from(self.below(micros))));
    }
}

/// All blocks of the test, whoever made them.
#[derive(Debug)]
struct World {
    blocks: BTreeMap<BlockHash, (RawBlock, u32)>,
    genesis: Header,
    acknowledged: BTreeSet<BlockHash>,
    /// Acknowledged blocks that were not checked after a restart yet.
    unchecked: Vec<BlockHash>,
    submitted: usize,
    announced: usize,
}

impl World {
    fn new() -> World {
        World {
            blocks: BTreeMap::new(),
            genesis: Network::Regtest.genesis(),
            acknowledged: BTreeSet::new(),
            unchecked: vec![],
            submitted: 0,
            announced: 0,
        }
    }

    fn header(&self, hash: &BlockHash) -> (Header, u32) {
        match self.blocks.get(hash) {
            Some((block, height)) => (block.header, *height),
            None => {
                assert_eq!(
                    *hash,
                    self.genesis.block_hash(),
                    "the test made every block"
                );
                (self.genesis, 0)
            }
        }
    }

    /// Mines blocks on top of a known one.
    fn grow(&mut self, on: &BlockHash, label: &'static str, count: usize) -> Vec<RawBlock> {
        let (parent, height) = self.header(on);
        let made = empty_blocks(parent, height, label, count);
        for (block, height) in made.iter().zip(height + 1..) {
            self.blocks.insert(block.hash, (block.clone(), height));
        }
        made
    }

    /// The chain that ends at `tip`.
    fn chain(&self, tip: &BlockHash) -> ServedChain {
        let mut blocks = vec![];
        let mut at = *tip;
        while let Some((block, _)) = self.blocks.get(&at) {
            blocks.push(block.clone());
            at = block.header.prev_blockhash;
        }
        blocks.reverse();
        ServedChain::new(&Network::Regtest, blocks)
    }

    fn acknowledge(&mut self, hash: BlockHash) -> bool {
        let new = self.acknowledged.insert(hash);
        if new {
            self.unchecked.push(hash);
        }
        new
    }

    /// Height of the highest block that was acknowledged.
    fn highest(&self) -> u32 {
        let heights = self.acknowledged.iter().map(|hash| self.header(hash).1);
        heights.max().unwrap_or(0)
    }
}

fn lock<T>(shared: &Mutex<T>) -> MutexGuard<'_, T> {
    shared.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A peer without blocks that records the node's announcements.
fn listener(world: &Arc<Mutex<World>>) -> ScriptedPeer {
    let world = Arc::clone(world);
    let nothing = ServedChain::new(&Network::Regtest, []);
    ScriptedPeer::scripted(
        &Network::Regtest,
        "listener",
        nothing,
        move |message, _, _| {
            let mut announced = vec![];
            match message {
                Message::Headers(headers) => {
                    announced.extend(headers.iter().map(Header::block_hash))
                }
                Message::Inv(items) => {
                    announced.extend(items.iter().filter_map(|item| match item {
                        Inventory::Block(hash) | Inventory::WitnessBlock(hash) => Some(*hash),
                        _ => None,
                    }))
                }
                _ => {}
            }
            let mut world = lock(&world);
            for hash in announced {
                let new = world.acknowledge(hash);
                world.announced += usize::from(new);
            }
            Reaction::Honest
        },
    )
}

/// Mines on the node's tip and submits, until the node is gone or `stop` is set.
fn mine(rpc: &Rpc, world: &Mutex<World>, stop: &AtomicBool) {
    while !stop.load(Ordering::SeqCst) {
        let Ok(Value::String(best)) = rpc.call("getbestblockhash", json!([])) else {
            return;
        };
        let best = best.parse().expect("a hash");
        let block = lock(world).grow(&best, "miner", 1).remove(0);
        let verdict = rpc.call("submitblock", json!([block.bytes.to_lower_hex_string()]));
        let acknowledged = match &verdict {
            Ok(Value::Null) => true,
            Ok(Value::String(reason)) => ["inconclusive", "duplicate"].contains(&&**reason),
            Ok(_) | Err(_) => false,
        };
        if acknowledged {
            let mut world = lock(world);
            let new = world.acknowledge(block.hash);
            world.submitted += usize::from(new);
        }
    }
}

/// All acknowledged blocks are there with their data, and the tip is not behind them.
fn check(node: &Node, hashes: &[BlockHash], highest: u32, round: u32) {
    let height = node.height();
    assert!(
        height >= u64::from(highest),
        "round {round}: at height {height}, though block {highest} had been acknowledged"
    );
    let rpc = node.unix_rpc();
    for hash in hashes {
        let header = rpc.get("getblockheader", json!([hash.to_string()]));
        let confirmations = header["confirmations"].as_i64().unwrap_or_default();
        // -1: on a branch that another one has overtaken, with its data all the same.
        assert!(
            confirmations >= 1 || confirmations == -1,
            "round {round}: {header}"
        );
        rpc.get("getblock", json!([hash.to_string(), 0]));
    }
}

/// Blocks in the chain of the best block are confirmed, and no others.
fn assert_confirmed(node: &Node, world: &World) {
    let rpc = node.unix_rpc();
    let best = node.best_hash().expect("it answers");
    let mut active = BTreeSet::new();
    let mut at = best;
    while let Some((block, _)) = world.blocks.get(&at) {
        active.insert(at);
        at = block.header.prev_blockhash;
    }
    for hash in &world.acknowledged {
        let header = rpc.get("getblockheader", json!([hash.to_string()]));
        let confirmed = header["confirmations"].as_i64().unwrap_or_default() >= 1;
        assert_eq!(confirmed, active.contains(hash), "{header}");
    }
}

#[test]
fn killed_at_200_random_moments_while_mining_and_syncing_it_never_loses_what_it_acknowledged() {
    let world = Arc::new(Mutex::new(World::new()));
    let peer = ScriptedPeer::honest(&Network::Regtest, ServedChain::new(&Network::Regtest, []));
    let listener = listener(&world);
    // Peers with blocks dial it only after the check.
    let setup = Setup::handfast(Network::Regtest);
    let mut chance = Chance(5);
    let began = Instant::now();
    for round in 0..KILLS {
        let mut node = setup.spawn();
        if chance.below(6) == 0 {
            // In the middle of a start, or of the replay: once it has its directory. What the
            // engine does before that, for most of a start, touches no file.
            wait_for("it takes its directory", || {
                is_in_use(&setup.network_dir()).then_some(())
            });
            chance.pass(40_000);
            node.kill();
            continue;
        }
        node.wait_until_ready();
        let (unchecked, highest) = {
            let mut world = lock(&world);
            (std::mem::take(&mut world.unchecked), world.highest())
        };
        check(&node, &unchecked, highest, round);
        run_and_kill(node, &world, [&peer, &listener], &mut chance);
    }
    let node = setup.start();
    let all: Vec<BlockHash> = lock(&world).acknowledged.iter().copied().collect();
    check(&node, &all, lock(&world).highest(), KILLS);
    assert_confirmed(&node, &lock(&world));
    let world = lock(&world);
    println!(
        "{KILLS} kills in {:.0?}: {} blocks acknowledged to a miner, {} announced to a peer, none lost; tip at {}",
        began.elapsed(),
        world.submitted,
        world.announced,
        node.height()
    );
    // Otherwise the test has shown nothing.
    assert!(world.submitted > 100, "{}", world.submitted);
    assert!(world.announced > 100, "{}", world.announced);
    assert!(
        node.output().contains("the last shutdown was unclean"),
        "it is logged"
    );
}

/// Lets a node mine and sync for a random while.
fn run_and_kill(
    node: Node,
    world: &Arc<Mutex<World>>,
    [peer, listener]: [&ScriptedPeer; 2],
    chance: &mut Chance,
) {
    let best = node.best_hash().expect("it answers");
    // Blocks to be synced before the first kill: near the tip or far from it.
    let ahead = [0, 1, 5, 12, 30][chance.below(5) as usize];
    peer.leave();
    listener.leave();
    let chain = {
        let mut world = lock(world);
        let tip = world
            .grow(&best, "peer", ahead)
            .last()
            .map_or(best, |block| block.hash);
        world.chain(&tip)
    };
    peer.change_chain(|served| *served = chain);
    listener.dial(node.p2p());
    peer.dial(node.p2p());
    let stop = Arc::new(AtomicBool::new(false));
    let miner = (chance.below(4) > 0).then(|| {
        let (rpc, world, stop) = (node.unix_rpc(), Arc::clone(world), Arc::clone(&stop));
        thread::spawn(move || mine(&rpc, &world, &stop))
    });
    for _ in 0..chance.below(4) {
        chance.pass(30_000);
        peer.change_chain(|served| {
            let next = lock(world).grow(&served.tip(), "peer", 1);
            served.extend(next);
        });
    }
    chance.pass(100_000);
    node.kill();
    stop.store(true, Ordering::SeqCst);
    if let Some(miner) = miner {
        miner.join().expect("the miner does not fail");
    }
}

#[test]
fn while_the_journal_cannot_be_written_nothing_is_acknowledged_and_then_nothing_is_missing() {
    let world = Arc::new(Mutex::new(World::new()));
    let listener = listener(&world);
    let setup = Setup::handfast(Network::Regtest);
    let node = setup.start();
    let blocks = empty_blocks(Network::Regtest.genesis(), 0, "miner", 3);
    for (block, height) in blocks.iter().zip(1..) {
        let entry = (block.clone(), height);
        lock(&world).blocks.insert(block.hash, entry);
    }
    listener.dial(node.p2p());
    // The journal is first written to another file; a directory of that name prevents it.
    let in_the_way = setup.network_dir().join("blocks.journal.new");
    std::fs::create_dir(&in_the_way).expect("the data directory can be written");
    let submit = |block: &RawBlock| {
        let hex = block.bytes.to_lower_hex_string();
        node.rpc().call("submitblock", json!([hex]))
    };
    for block in &blocks[..2] {
        let error = submit(block)
            .expect_err("nothing is acknowledged")
            .to_string();
        assert!(
            error.contains("blocks.journal cannot be written"),
            "{error}"
        );
        assert!(error.contains("free disk space"), "{error}");
    }
    // It continues to serve, and reports the error; a repeated call is still not confirmed.
    assert_eq!(node.height(), 2);
    let info = node.rpc().get("getblockchaininfo", json!([]));
    let warnings = info["warnings"].to_string();
    assert!(
        warnings.contains("neither acknowledged nor announced"),
        "{warnings}"
    );
    submit(&blocks[0]).expect_err("a duplicate is not confirmed either");
    assert_eq!(lock(&world).acknowledged.len(), 0, "nothing was announced");

    std::fs::remove_dir(&in_the_way).expect("it is empty");
    wait_for("the warning goes", || {
        let info = node.rpc().get("getblockchaininfo", json!([]));
        (info["warnings"] == json!([])).then_some(())
    });
    wait_for("the tip is announced", || {
        lock(&world)
            .acknowledged
            .contains(&blocks[1].hash)
            .then_some(())
    });
    assert_eq!(submit(&blocks[0]).expect("answered"), "duplicate");
    assert_eq!(submit(&blocks[2]).expect("answered"), Value::Null);
    node.kill();
    let node = setup.start();
    assert_eq!(node.best_hash(), Some(blocks[2].hash));
}

/// The same blocks as if they were mined now, so that the clock matters to them.
fn mined_now(blocks: usize) -> Vec<RawBlock> {
    let unix = SystemTime::now().duration_since(UNIX_EPOCH);
    let now = unix.expect("after 1970").as_secs() as u32;
    let mut parent = Network::Regtest.genesis();
    let mut made = vec![];
    for height in 0..blocks as u32 {
        let block = empty_blocks(parent, height, "miner", 1).remove(0);
        let mut header = block.header;
        header.time = now - 60 + height;
        while !header.target().is_met_by(header.block_hash()) {
            header.nonce += 1;
        }
        let mut bytes = serialize(&header);
        bytes.extend_from_slice(&block.bytes[80..]);
        made.push(RawBlock::new(bytes.into()).expect("a block that we serialized"));
        parent = header;
    }
    made
}

#[test]
fn a_clock_set_back_by_an_hour_costs_no_acknowledged_block() {
    let Some(clock) = ShiftedClock::new() else {
        return;
    };
    let setup = Setup::handfast(Network::Regtest).environment(clock.environment());
    let blocks = mined_now(6);
    // Set back while it runs, and corrected while it is down; and the other way.
    for (before, after, part) in [(0, -3_600, 0..3), (-3_600, 0, 3..6)] {
        clock.set(before);
        let node = setup.start();
        node.submit(blocks[part.start..=part.start].iter().cloned());
        clock.set(after);
        node.submit(blocks[part.start + 1..part.end].iter().cloned());
        node.kill();
        let node = setup.start();
        assert_eq!(node.best_hash(), Some(blocks[part.end - 1].hash));
        node.kill();
    }
    let shown = setup.start();
    assert!(
        shown.output().contains("the last shutdown was unclean"),
        "{}",
        shown.output()
    );
}

#[test]
fn when_the_kernel_has_flushed_twice_the_journal_drops_its_blocks() {
    let Some(clock) = ShiftedClock::new() else {
        return;
    };
    let setup = Setup::handfast(Network::Regtest).environment(clock.environment());
    let journal = setup.network_dir().join("blocks.journal");
    let length = || std::fs::metadata(&journal).map_or(0, |data| data.len());
    let blocks = empty_blocks(Network::Regtest.genesis(), 0, "miner", 33);
    let node = setup.start();
    node.submit(blocks[..30].iter().cloned());
    let before = length();
    // The kernel flushes with the first block after 70 minutes, by the system's clock.
    clock.set(2 * 3_600);
    node.submit(blocks[30..31].iter().cloned());
    assert!(length() > before, "one flush is not enough");
    clock.set(4 * 3_600);
    node.submit(blocks[31..32].iter().cloned());
    let after = length();
    assert!(after < before / 5, "{after} bytes are left of {before}");
    node.submit(blocks[32..].iter().cloned());
    node.kill();
    let node = setup.start();
    assert_eq!(node.best_hash(), Some(blocks[32].hash));
}
