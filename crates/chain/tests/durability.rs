//! Durable blocks: journal, replay, and failures.

mod kit;

use std::io::ErrorKind;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, channel};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bitcoin::consensus::serialize;
use bitcoin::{Block, BlockHash};
use handfast_chain::{
    BlockOutcome, Chain, ChainOptions, ConnId, Durability, Event, InitialChain, KernelEvent,
    Persist, Replay, SideHeader,
};
use handfast_disk::testing::FaultyDisk;
use handfast_wire::Network;
use kit::{Feed, mine_chain, tip};

const EVENT_TIMEOUT: Duration = Duration::from_secs(60);

/// A chain whose journal is on a disk that can fail, and that can be killed.
struct Node {
    chain: Chain,
    events: Receiver<Event>,
    initial: InitialChain,
    replays: Arc<Mutex<Vec<Replay>>>,
}

/// Copies a directory as it is now, which is what a kill would leave.
fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let path = entry.unwrap().path();
        let to = to.join(path.file_name().unwrap());
        match path.is_dir() {
            true => copy(&path, &to),
            false => drop(std::fs::copy(&path, &to).unwrap()),
        }
    }
}

impl Node {
    fn open(dir: &Path) -> Node {
        Node::open_with(dir, |_| {})
    }

    fn open_with(dir: &Path, change: impl FnOnce(&mut ChainOptions)) -> Node {
        let (send, events) = channel();
        let replays: Arc<Mutex<Vec<Replay>>> = Arc::default();
        let reported = replays.clone();
        let mut options = ChainOptions::new(Network::Regtest, dir);
        options.on_replay = Some(Box::new(move |how| reported.lock().unwrap().push(how)));
        change(&mut options);
        let (chain, initial) = Chain::open(options, move |event| {
            let _ = send.send(event);
        })
        .unwrap();
        Node {
            chain,
            events,
            initial,
            replays,
        }
    }

    fn on_disk(dir: &Path, disk: &FaultyDisk) -> Node {
        Node::open_with(dir, |options| options.journal = Some(disk.storage()))
    }

    fn give(&self, block: &Block, keep: Persist) {
        let bytes = serialize(block).into();
        self.chain
            .check_block(block.block_hash(), bytes, None, vec![], None, keep);
    }

    /// The next event that is not a warning.
    fn next(&self) -> Event {
        loop {
            match self.events.recv_timeout(EVENT_TIMEOUT).expect("an event") {
                Event::Warnings(_) => {}
                other => return other,
            }
        }
    }

    /// The next answer.
    fn answer(&self) -> KernelEvent {
        match self.next() {
            Event::Answer(answer) => answer,
            other => panic!("expected an answer, got {other:?}"),
        }
    }

    fn warnings(&self) -> Vec<String> {
        match self.events.recv_timeout(EVENT_TIMEOUT).expect("an event") {
            Event::Warnings(warnings) => warnings,
            other => panic!("expected warnings, got {other:?}"),
        }
    }

    /// Submits a block and returns whether it is durable.
    fn durability(&self, block: &Block, keep: Persist) -> Durability {
        self.give(block, keep);
        match self.answer() {
            KernelEvent::BlockChecked {
                outcome: BlockOutcome::Stored | BlockOutcome::Duplicate,
                durability,
                ..
            } => durability,
            other => panic!("expected a stored block, got {other:?}"),
        }
    }

    /// Its directory as a kill would leave it now.
    fn killed(&self, dir: &Path) -> tempfile::TempDir {
        let left = tempfile::tempdir().unwrap();
        copy(dir, left.path());
        left
    }
}

fn blocks(initial: &InitialChain, count: u32) -> Vec<Block> {
    mine_chain(&initial.active[0], 0, count, 0)
}

fn hashes(initial: &InitialChain) -> Vec<BlockHash> {
    initial.active[1..]
        .iter()
        .map(|header| header.block_hash())
        .collect()
}

#[test]
fn a_durable_block_is_there_after_a_kill_and_another_is_lost() {
    let dir = tempfile::tempdir().unwrap();
    let node = Node::open(dir.path());
    let blocks = blocks(&node.initial, 3);
    for block in &blocks[..2] {
        assert_eq!(node.durability(block, Persist::Now), Durability::Yes);
    }
    assert_eq!(node.durability(&blocks[2], Persist::No), Durability::Later);
    let left = node.killed(dir.path());
    let after = Node::open(left.path());
    assert_eq!(
        hashes(&after.initial),
        [0, 1].map(|i| blocks[i].block_hash())
    );
    let replays = after.replays.lock().unwrap().clone();
    assert_eq!(
        replays,
        [Replay {
            done: 0,
            total: 2,
            unclean: true
        }]
    );
}

#[test]
fn bytes_after_a_block_are_not_written_to_the_journal() {
    let dir = tempfile::tempdir().unwrap();
    let disk = FaultyDisk::default();
    let node = Node::on_disk(dir.path(), &disk);
    let blocks = blocks(&node.initial, 2);
    let mut lengths = vec![];
    for (block, garbage) in blocks.iter().zip([0, 50_000]) {
        let mut bytes = serialize(block);
        bytes.resize(bytes.len() + garbage, 0xee);
        let hash = block.block_hash();
        node.chain
            .check_block(hash, bytes.into(), None, vec![], None, Persist::Now);
        assert!(matches!(
            node.answer(),
            KernelEvent::BlockChecked {
                durability: Durability::Yes,
                ..
            }
        ));
        lengths.push(disk.contents().unwrap().len());
    }
    let [first, second] = [0, 1].map(|at| serialize(&blocks[at]).len());
    assert_eq!(lengths[1] - lengths[0], lengths[0] - 16 - first + second);
}

#[test]
fn after_a_clean_stop_nothing_is_replayed() {
    let dir = tempfile::tempdir().unwrap();
    let node = Node::open(dir.path());
    let blocks = blocks(&node.initial, 2);
    for block in &blocks {
        node.durability(block, Persist::Soon);
    }
    node.chain.close().unwrap();
    assert!(!dir.path().join("running").exists());
    let node = Node::open(dir.path());
    assert_eq!(tip(&node.initial), blocks[1].block_hash());
    assert_eq!(node.replays.lock().unwrap().len(), 0);
}

#[test]
fn the_ancestors_of_a_durable_block_are_durable_too() {
    // Few unjournaled blocks are read back, many make the kernel flush.
    for count in [30, 1_100] {
        let dir = tempfile::tempdir().unwrap();
        let node = Node::open(dir.path());
        let blocks = blocks(&node.initial, count + 1);
        let (last, before) = blocks.split_last().unwrap();
        for block in before {
            assert_eq!(node.durability(block, Persist::No), Durability::Later);
        }
        assert_eq!(
            node.durability(last, Persist::Now),
            Durability::Yes,
            "{count}"
        );
        let left = node.killed(dir.path());
        let after = Node::open(left.path());
        assert_eq!(tip(&after.initial), last.block_hash(), "{count}");
    }
}

#[test]
fn a_block_outside_the_active_chain_is_known_after_a_kill_and_after_a_clean_stop() {
    let dir = tempfile::tempdir().unwrap();
    let node = Node::open(dir.path());
    let blocks = blocks(&node.initial, 300);
    let side = mine_chain(&node.initial.active[0], 0, 2, 7);
    for block in blocks.iter().chain(&side) {
        assert_eq!(node.durability(block, Persist::Now), Durability::Yes);
    }
    let expected = [0, 1].map(|at| SideHeader {
        header: side[at].header,
        stored: true,
        invalid: false,
    });
    let left = node.killed(dir.path());
    // Once replayed from the journal, and once after that has been shortened.
    for _ in 0..2 {
        let after = Node::open(left.path());
        assert_eq!(tip(&after.initial), blocks[299].block_hash());
        assert_eq!(after.initial.side_branches, expected);
    }
    node.chain.close().unwrap();
    let after = Node::open(dir.path());
    assert_eq!(after.initial.side_branches, expected);
    let records = after.replays.lock().unwrap()[0].total;
    assert_eq!(records, 2, "the others are not replayed");
    let reader = after.chain.reader();
    assert_eq!(
        reader.read(&side[1].block_hash()).unwrap(),
        serialize(&side[1])
    );
}

#[test]
fn a_block_that_no_caller_waits_for_is_validated_at_once_and_journaled_when_idle() {
    let dir = tempfile::tempdir().unwrap();
    let node = Node::open(dir.path());
    let blocks = blocks(&node.initial, 3);
    node.durability(&blocks[0], Persist::No);
    assert_eq!(
        node.durability(&blocks[1], Persist::Soon),
        Durability::Later
    );
    assert_eq!(node.answer(), KernelEvent::Durable);
    let left = node.killed(dir.path());
    let after = Node::open(left.path());
    assert_eq!(tip(&after.initial), blocks[1].block_hash());
    assert_eq!(
        node.durability(&blocks[2], Persist::Soon),
        Durability::Yes,
        "no block is unjournaled"
    );
}

#[test]
fn a_long_journal_makes_the_kernel_flush_and_is_cleared() {
    let dir = tempfile::tempdir().unwrap();
    let disk = FaultyDisk::default();
    let node = Node::open_with(dir.path(), |options| {
        options.journal = Some(disk.storage());
        options.journal_limit = Some(2_000);
    });
    let blocks = blocks(&node.initial, 40);
    for block in &blocks {
        assert_eq!(node.durability(block, Persist::Now), Durability::Yes);
        assert!(disk.contents().unwrap().len() < 2_000 + 2 * 300);
    }
    // Blocks that are not in the journal any more are in the kernel's files.
    let left = node.killed(dir.path());
    let after = Node::on_disk(left.path(), &disk.crash(0, 0, false));
    assert_eq!(tip(&after.initial), blocks[39].block_hash());
}

#[test]
fn blocks_that_came_before_their_parents_are_replayed_too() {
    let dir = tempfile::tempdir().unwrap();
    let node = Node::open(dir.path());
    let blocks = blocks(&node.initial, 6);
    let headers: Vec<_> = blocks.iter().map(|block| block.header).collect();
    node.chain.check_headers(headers, Some(ConnId(1)));
    node.next();
    for at in [5, 2, 0, 4, 1, 3] {
        assert_eq!(node.durability(&blocks[at], Persist::Soon), Durability::Yes);
    }
    let left = node.killed(dir.path());
    let after = Node::open(left.path());
    assert_eq!(tip(&after.initial), blocks[5].block_hash());
}

#[test]
fn a_journal_that_cannot_be_written_is_a_warning_and_is_completed_when_it_can() {
    for error in [
        ErrorKind::StorageFull,
        ErrorKind::Other,
        ErrorKind::ReadOnlyFilesystem,
    ] {
        let dir = tempfile::tempdir().unwrap();
        let disk = FaultyDisk::default();
        let node = Node::on_disk(dir.path(), &disk);
        let blocks = blocks(&node.initial, 4);
        assert_eq!(node.durability(&blocks[0], Persist::Now), Durability::Yes);
        disk.fail_all(Some(error));
        node.give(&blocks[1], Persist::Now);
        let warnings = node.warnings();
        assert!(warnings[0].contains("memory"), "{warnings:?}");
        let KernelEvent::BlockChecked {
            durability: Durability::Failed(why),
            changes,
            ..
        } = node.answer()
        else {
            panic!("it cannot be durable");
        };
        assert!(why.contains("free disk space"), "{why}");
        assert_eq!(changes.len(), 1, "the block connects");
        // More blocks do not make it retry in a hot loop.
        let tries = disk.changes();
        assert!(matches!(
            node.durability(&blocks[2], Persist::Now),
            Durability::Failed(_)
        ));
        assert!(matches!(
            node.durability(&blocks[3], Persist::Soon),
            Durability::Failed(_)
        ));
        assert_eq!(disk.changes(), tries);
        disk.fail_all(None);
        let Event::Warnings(warnings) = node.events.recv_timeout(EVENT_TIMEOUT).unwrap() else {
            panic!("the warning is cleared first");
        };
        assert_eq!(warnings, Vec::<String>::new());
        assert_eq!(node.answer(), KernelEvent::Durable);
        let left = node.killed(dir.path());
        let after = Node::on_disk(left.path(), &disk.crash(0, 0, false));
        assert_eq!(tip(&after.initial), blocks[3].block_hash(), "{error}");
    }
}

#[test]
fn a_block_that_the_clock_does_not_allow_yet_stays_in_the_journal() {
    let dir = tempfile::tempdir().unwrap();
    let node = Node::open(dir.path());
    let mut blocks = blocks(&node.initial, 2);
    node.durability(&blocks[0], Persist::Now);
    node.chain.close().unwrap();
    // As if it had been accepted by a clock that was a day ahead.
    let now = std::time::SystemTime::now();
    let unix = now.duration_since(std::time::UNIX_EPOCH).unwrap().as_secs();
    blocks[1].header.time = u32::try_from(unix).unwrap() + 24 * 3_600;
    kit::grind(&mut blocks[1].header);
    let (disk, journaled) = (FaultyDisk::default(), serialize(&blocks[1]));
    let (mut journal, _) = handfast_disk::Journal::open(
        disk.storage(),
        handfast_disk::Format {
            magic: *b"HFBLOCKS",
            version: 1,
        },
    )
    .unwrap();
    journal.append(std::slice::from_ref(&journaled)).unwrap();
    for _ in 0..2 {
        let node = Node::on_disk(dir.path(), &disk);
        assert_eq!(tip(&node.initial), blocks[0].block_hash());
        node.chain.close().unwrap();
        let contents = disk.contents().unwrap();
        let durability = contents.windows(journaled.len()).any(|at| at == journaled);
        assert!(durability, "it waits for its time, also after a clean stop");
    }
}

#[test]
fn with_a_full_disk_blocks_are_not_submitted_and_the_chain_stays_open() {
    let dir = tempfile::tempdir().unwrap();
    let free = Arc::new(AtomicU64::new(20 << 20));
    let reported = free.clone();
    let node = Node::open_with(dir.path(), |options| {
        options.free_space = Some(Box::new(move || Some(reported.load(Ordering::SeqCst))));
    });
    let blocks = blocks(&node.initial, 1);
    node.give(&blocks[0], Persist::Now);
    let warnings = node.warnings();
    assert!(
        warnings[0].contains("the disk is full: 20 MiB"),
        "{warnings:?}"
    );
    let KernelEvent::BlockChecked {
        outcome: BlockOutcome::Failed(why),
        ..
    } = node.answer()
    else {
        panic!("the disk is full");
    };
    assert!(why.contains("free disk space"), "{why}");
    let genesis = node.initial.active[0].block_hash();
    assert!(node.chain.reader().read(&genesis).is_ok(), "it serves");
    free.store(1 << 40, Ordering::SeqCst);
    // Free space is not checked more than ten times a second.
    loop {
        node.give(&blocks[0], Persist::Now);
        match node.answer() {
            KernelEvent::BlockChecked {
                outcome: BlockOutcome::Stored,
                durability,
                ..
            } => break assert_eq!(durability, Durability::Yes),
            KernelEvent::BlockChecked {
                outcome: BlockOutcome::Failed(_),
                ..
            } => {}
            other => panic!("{other:?}"),
        }
    }
}

#[test]
fn readers_wait_while_the_kernel_flushes_and_get_their_blocks() {
    let dir = tempfile::tempdir().unwrap();
    let feed = Feed::open(&Network::Regtest, dir.path());
    let blocks = blocks(&feed.initial, 1_101);
    for block in &blocks[..1_100] {
        feed.block(block);
    }
    let reader = feed.chain.reader();
    let last = &blocks[1_100];
    let bytes = serialize(last).into();
    feed.chain
        .check_block(last.block_hash(), bytes, None, vec![], None, Persist::Now);
    let first = blocks[0].block_hash();
    loop {
        assert_eq!(reader.read(&first).unwrap(), serialize(&blocks[0]));
        if feed.events.try_recv().is_ok() {
            break;
        }
    }
}
