//! Opening, reading during validation, interrupting and closing.

mod kit;

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::channel;
use std::thread;

use bitcoin::consensus::serialize;
use bitcoin::hashes::Hash;
use bitcoin::{Block, BlockHash, Witness};
use bytes::Bytes;
use handfast_chain::{
    Chain, ChainOptions, CloseError, Event, KernelEvent, OpenError, Persist, Queued, ReadError,
    lock,
};
use handfast_wire::Network;
use kit::{Feed, connected, mine, mine_chain, mine_with, shared_blocks, signet, tip};

/// Every path below `dir`, with the contents of the files.
fn contents(dir: &Path) -> Vec<(PathBuf, Vec<u8>)> {
    let mut found = vec![];
    for entry in fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.push((path.clone(), vec![]));
            found.extend(contents(&path));
        } else {
            found.push((path.clone(), fs::read(&path).unwrap()));
        }
    }
    found.sort();
    found
}

fn open_error(network: Network, dir: &Path) -> OpenError {
    Chain::open(ChainOptions::new(network, dir), |_| {}).expect_err("must be refused")
}

#[test]
fn a_second_chain_in_the_same_directory_is_refused_until_the_first_closes() {
    let dir = tempfile::tempdir().unwrap();
    let first = Feed::open(&Network::Regtest, dir.path());
    let error = open_error(Network::Regtest, dir.path());
    assert!(
        matches!(&error, OpenError::InUse(at) if at == dir.path()),
        "{error}"
    );
    first.chain.close().unwrap();
    Feed::open(&Network::Regtest, dir.path());
}

#[test]
fn a_directory_of_another_network_is_refused_and_not_touched() {
    let dir = tempfile::tempdir().unwrap();
    Feed::open(&Network::Regtest, dir.path())
        .chain
        .close()
        .unwrap();
    let before = contents(dir.path());
    let error = open_error(signet(), dir.path());
    assert!(matches!(error, OpenError::WrongNetwork { .. }), "{error}");
    assert_eq!(contents(dir.path()), before);
}

#[test]
fn a_directory_of_bitcoin_core_is_refused_and_not_touched() {
    let dir = tempfile::tempdir().unwrap();
    for sub in ["blocks", "chainstate"] {
        fs::create_dir(dir.path().join(sub)).unwrap();
    }
    for file in [".lock", "blocks/blk00000.dat", "chainstate/CURRENT"] {
        fs::write(dir.path().join(file), b"theirs").unwrap();
    }
    let before = contents(dir.path());
    let error = open_error(Network::Regtest, dir.path());
    assert!(matches!(error, OpenError::Foreign { .. }), "{error}");
    assert_eq!(contents(dir.path()), before);
}

#[test]
fn a_lock_taken_earlier_opens_the_chain() {
    let dir = tempfile::tempdir().unwrap();
    let mut options = ChainOptions::new(Network::Regtest, dir.path());
    options.lock = Some(lock(dir.path(), &Network::Regtest).unwrap());
    let (chain, initial) = Chain::open(options, |_| {}).unwrap();
    assert_eq!(initial.active.len(), 1);
    chain.close().unwrap();
}

#[test]
fn a_damaged_database_is_named_and_its_remedy_works() {
    let dir = tempfile::tempdir().unwrap();
    let feed = Feed::open(&Network::Regtest, dir.path());
    let blocks = mine_chain(&feed.initial.active[0], 0, 20, 0);
    for block in &blocks {
        feed.block(block);
    }
    feed.chain.close().unwrap();
    for entry in fs::read_dir(dir.path().join("chainstate")).unwrap() {
        let path = entry.unwrap().path();
        if path
            .file_name()
            .unwrap()
            .to_string_lossy()
            .starts_with("MANIFEST")
        {
            fs::write(path, b"not a manifest").unwrap();
        }
    }
    let error = open_error(Network::Regtest, dir.path());
    let text = error.to_string();
    assert!(matches!(error, OpenError::Kernel { .. }), "{text}");
    assert!(
        text.contains("remove") && text.contains("orruption"),
        "{text}"
    );

    fs::remove_dir_all(dir.path().join("chainstate")).unwrap();
    let feed = Feed::open(&Network::Regtest, dir.path());
    assert_eq!(tip(&feed.initial), blocks[19].block_hash());
}

#[test]
fn blocks_without_the_key_that_they_were_written_with_are_refused_and_nothing_is_written() {
    let dir = tempfile::tempdir().unwrap();
    Feed::open(&Network::Regtest, dir.path())
        .chain
        .close()
        .unwrap();
    let key = dir.path().join("blocks/xor.dat");
    let right = fs::read(&key).unwrap();
    let missing = || fs::remove_file(&key).unwrap();
    let zeros = || fs::write(&key, [0; 8]).unwrap();
    let directory = || fs::create_dir(&key).unwrap();
    for (spoil, said) in [
        (&missing as &dyn Fn(), "is missing"),
        (&directory, "it is a directory, not a file"),
        (&zeros, "is not the key with which"),
    ] {
        if key.is_dir() {
            fs::remove_dir(&key).unwrap();
        }
        spoil();
        let before = contents(dir.path());
        let error = open_error(Network::Regtest, dir.path());
        assert!(matches!(error, OpenError::BlockKey(_)), "{error}");
        let text = error.to_string();
        assert!(text.contains(said) && text.contains("xor.dat"), "{text}");
        assert!(!text.contains("rebuild"), "{text}");
        assert_eq!(contents(dir.path()), before);
    }
    fs::write(&key, right).unwrap();
    Feed::open(&Network::Regtest, dir.path());
}

#[test]
fn readers_get_every_block_while_others_are_validated() {
    let Some(blocks) = shared_blocks("signet_optrue_blocks_1_14000.dat") else {
        return;
    };
    let dir = tempfile::tempdir().unwrap();
    let feed = Feed::open(&signet(), dir.path());
    feed.blocks(&blocks[..500]);
    let reader = feed.chain.reader();
    let done = AtomicBool::new(false);
    thread::scope(|scope| {
        let readers: Vec<_> = (0..2)
            .map(|_| {
                scope.spawn(|| {
                    let mut rounds = 0;
                    while !done.load(Ordering::Relaxed) || rounds == 0 {
                        for raw in &blocks[..500] {
                            assert_eq!(reader.read(&raw.hash()).unwrap(), raw.bytes);
                        }
                        rounds += 1;
                    }
                })
            })
            .collect();
        let answers = feed.blocks(&blocks[500..5_000]);
        done.store(true, Ordering::Relaxed);
        assert_eq!(connected(&answers).len(), 4_500);
        for reader in readers {
            reader.join().unwrap();
        }
    });
    feed.chain.close().unwrap();
}

#[test]
fn a_read_distinguishes_unknown_not_downloaded_and_closed() {
    let dir = tempfile::tempdir().unwrap();
    let feed = Feed::open(&Network::Regtest, dir.path());
    let chain = mine_chain(&feed.initial.active[0], 0, 2, 0);
    let reader = feed.chain.reader();
    let unknown = BlockHash::from_byte_array([7; 32]);
    assert_eq!(reader.read(&unknown), Err(ReadError::Unknown(unknown)));
    feed.headers(&[chain[0].header, chain[1].header]);
    let hash = chain[1].block_hash();
    assert_eq!(reader.read(&hash), Err(ReadError::NoData(hash)));
    feed.block(&chain[1]);
    assert_eq!(reader.read(&hash).unwrap(), serialize(&chain[1]));
    let spent = reader.spent_outputs(&hash);
    assert_eq!(spent, Err(ReadError::NoData(hash)), "not connected yet");
    feed.chain.close().unwrap();
    let genesis = feed.initial.active[0].block_hash();
    assert_eq!(reader.read(&genesis), Err(ReadError::Closed));
}

#[test]
fn bytes_that_a_peer_added_after_a_block_are_not_served() {
    let dir = tempfile::tempdir().unwrap();
    let feed = Feed::open(&Network::Regtest, dir.path());
    let block = mine(&feed.initial.active[0], 1, 0);
    let encoding = serialize(&block);
    let mut sent = encoding.clone();
    sent.extend_from_slice(b"advertisement");
    feed.bytes(block.block_hash(), sent.into());
    let reader = feed.chain.reader();
    for _ in 0..2 {
        assert_eq!(reader.read(&block.block_hash()).unwrap(), encoding);
    }
}

#[test]
fn a_stripped_block_has_no_witness_and_the_same_transaction_ids() {
    let dir = tempfile::tempdir().unwrap();
    let feed = Feed::open(&Network::Regtest, dir.path());
    let block = mine_with(&feed.initial.active[0], 1, 0, |block| {
        block.txdata[0].input[0].witness = Witness::from_slice(&[[0; 32]]);
        // BIP141: the commitment of a block with only a coinbase covers zeros.
        let root = bitcoin::hashes::sha256d::Hash::hash(&[0; 64]);
        let mut script = vec![0x6a, 0x24, 0xaa, 0x21, 0xa9, 0xed];
        script.extend_from_slice(root.as_byte_array());
        block.txdata[0].output.push(bitcoin::TxOut {
            value: bitcoin::Amount::ZERO,
            script_pubkey: script.into(),
        });
    });
    let answer = feed.block(&block);
    assert_eq!(connected(&[answer]), [block.block_hash()]);
    let reader = feed.chain.reader();
    let whole = reader.read(&block.block_hash()).unwrap();
    assert_eq!(whole, serialize(&block));
    let stripped = reader.read_stripped(&block.block_hash()).unwrap();
    assert_eq!(stripped.len() + 36, whole.len());
    let decoded: Block = bitcoin::consensus::deserialize(&stripped).unwrap();
    assert!(decoded.check_merkle_root());
    assert!(decoded.txdata[0].input[0].witness.is_empty());
}

#[test]
fn an_interrupt_while_busy_drops_the_queue_and_the_chain_closes_in_order() {
    let dir = tempfile::tempdir().unwrap();
    let (reported, reports) = channel();
    let (release, held) = channel::<()>();
    let held = Mutex::new(held);
    // Blocks the kernel thread in its first report until it is released.
    let (chain, initial) = Chain::open(
        ChainOptions::new(Network::Regtest, dir.path()),
        move |event| {
            reported.send(event).unwrap();
            let _ = held.lock().unwrap().recv();
        },
    )
    .unwrap();
    let blocks = mine_chain(&initial.active[0], 0, 50, 0);
    let hand_over = |block: &Block| {
        chain.check_block(
            block.block_hash(),
            serialize(block).into(),
            None,
            vec![],
            None,
            Persist::No,
        );
    };
    hand_over(&blocks[0]);
    let first = reports.recv().unwrap();
    assert!(
        matches!(first, Event::Answer(KernelEvent::BlockChecked { hash, .. }) if hash == blocks[0].block_hash())
    );
    blocks[1..].iter().for_each(hand_over);
    assert_eq!(chain.queued().blocks, 49);
    chain.interrupt();
    assert_eq!(chain.queued(), Queued::default());
    hand_over(&blocks[1]);
    drop(release);
    chain.close().unwrap();
    assert_eq!(reports.iter().count(), 0, "no job is done after it");
    let feed = Feed::open(&Network::Regtest, dir.path());
    assert_eq!(tip(&feed.initial), blocks[0].block_hash());
}

#[test]
fn jobs_done_before_an_interrupt_have_been_reported() {
    let Some(blocks) = shared_blocks("signet_optrue_blocks_1_14000.dat") else {
        return;
    };
    let dir = tempfile::tempdir().unwrap();
    let feed = Feed::open(&signet(), dir.path());
    for raw in &blocks {
        feed.chain.check_block(
            raw.hash(),
            raw.bytes.clone(),
            None,
            vec![],
            None,
            Persist::No,
        );
    }
    feed.next_block();
    feed.chain.interrupt();
    feed.chain.close().unwrap();
    let reported = 1 + feed.events.iter().count();
    let reopened = Feed::open(&signet(), dir.path());
    assert_eq!(tip(&reopened.initial), blocks[reported - 1].hash());
}

#[test]
fn a_panic_on_the_kernel_thread_is_reported_and_fails_the_close() {
    let dir = tempfile::tempdir().unwrap();
    let (send, events) = channel();
    let (chain, initial) = Chain::open(
        ChainOptions::new(Network::Regtest, dir.path()),
        move |event| match event {
            Event::Answer(_) => panic!("a broken callback"),
            other => send.send(other).unwrap(),
        },
    )
    .unwrap();
    let block = mine(&initial.active[0], 1, 0);
    chain.check_block(
        block.block_hash(),
        serialize(&block).into(),
        None,
        vec![],
        None,
        Persist::No,
    );
    let Event::Fatal(text) = events.recv().unwrap() else {
        panic!("expected Fatal");
    };
    assert!(text.contains("a broken callback"), "{text}");
    let error = chain.close().unwrap_err();
    assert!(
        matches!(
            error,
            CloseError::Panicked {
                thread: "kernel",
                ..
            }
        ),
        "{error}"
    );
    // Validated blocks are on disk nevertheless.
    let feed = Feed::open(&Network::Regtest, dir.path());
    assert_eq!(tip(&feed.initial), block.block_hash());
}

#[test]
fn a_block_under_a_wrong_hash_is_a_bug_and_is_reported() {
    let dir = tempfile::tempdir().unwrap();
    let feed = Feed::open(&Network::Regtest, dir.path());
    let block = mine(&feed.initial.active[0], 1, 0);
    let wrong = BlockHash::from_byte_array([1; 32]);
    let bytes: Bytes = serialize(&block).into();
    feed.chain
        .check_block(wrong, bytes, None, vec![], None, Persist::No);
    assert!(matches!(feed.next(), Event::Fatal(_)));
    let error = feed.chain.close().unwrap_err();
    assert!(
        matches!(
            error,
            CloseError::Panicked {
                thread: "decode",
                ..
            }
        ),
        "{error}"
    );
}

#[test]
fn dropping_the_handle_closes_the_chain() {
    let dir = tempfile::tempdir().unwrap();
    let feed = Feed::open(&Network::Regtest, dir.path());
    let block = mine(&feed.initial.active[0], 1, 0);
    feed.block(&block);
    drop(feed.chain);
    let feed = Feed::open(&Network::Regtest, dir.path());
    assert_eq!(tip(&feed.initial), block.block_hash());
}
