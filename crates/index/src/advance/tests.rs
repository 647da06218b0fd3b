use std::cell::Cell;

use bitcoin::OutPoint;
use bitcoin::absolute::LockTime;
use bitcoin::consensus::serialize;
use tempfile::TempDir;

use super::*;

/// A chain in memory; each block has one transaction, made of `label` and height.
struct Chain(Vec<Block>);

impl Chain {
    fn new(length: u32) -> Self {
        let genesis = bitcoin::constants::genesis_block(bitcoin::Network::Regtest);
        let mut chain = Self(vec![genesis]);
        chain.grow(length, 0);
        chain
    }

    fn grow(&mut self, count: u32, label: u32) {
        for _ in 0..count {
            let parent = self.0.last().expect("genesis");
            let mut block = parent.clone();
            block.header.prev_blockhash = parent.block_hash();
            block.header.nonce = label;
            let lock = label * 100_000 + self.tip_height() + 1;
            block.txdata[0].lock_time = LockTime::from_consensus(lock);
            self.0.push(block);
        }
    }

    fn transaction(&self, height: u32) -> Subject {
        Subject::Transaction(self.0[height as usize].txdata[0].compute_txid())
    }
}

impl ActiveChain for Chain {
    fn tip_height(&self) -> u32 {
        self.0.len() as u32 - 1
    }
    fn at_height(&self, height: u32) -> Option<BlockHash> {
        self.0.get(height as usize).map(Block::block_hash)
    }
    fn contains(&self, hash: &BlockHash) -> bool {
        self.0.iter().any(|block| block.block_hash() == *hash)
    }
}

impl Blocks for Chain {
    fn read(&self, hash: &BlockHash) -> Result<Bytes, ReadError> {
        let found = self.0.iter().find(|block| block.block_hash() == *hash);
        let found = found.ok_or(ReadError::Unknown(*hash))?;
        Ok(serialize(found).into())
    }
}

fn index() -> (TempDir, Index) {
    let dir = tempfile::tempdir().unwrap();
    let index = Index::new(Kind::Transactions, dir.path().join("txindex"));
    (dir, index)
}

fn follow(index: &Index, chain: &Chain) {
    while index.advance(chain, chain, &|| false).unwrap() == Step::More {}
}

fn height_of(index: &Index, subject: &Subject) -> Option<u32> {
    index
        .find(subject)
        .unwrap()
        .first()
        .map(|found| found.height)
}

#[test]
fn every_transaction_above_genesis_is_found_and_none_of_genesis() {
    let (_dir, index) = index();
    let chain = Chain::new(7);
    assert_eq!(index.progress(), IndexProgress::default());
    follow(&index, &chain);
    for height in 1..=7 {
        assert_eq!(height_of(&index, &chain.transaction(height)), Some(height));
    }
    assert_eq!(height_of(&index, &chain.transaction(0)), None);
    let progress = index.progress();
    assert!(progress.synced);
    assert_eq!((progress.height, progress.block), (7, chain.at_height(7)));
}

#[test]
fn an_output_is_found_with_its_spender_and_the_input_of_a_coinbase_is_not_indexed() {
    let dir = tempfile::tempdir().unwrap();
    let index = Index::new(Kind::Spenders, dir.path().join("spenders"));
    let mut chain = Chain::new(3);
    let mut spending = chain.0[3].txdata[0].clone();
    let output = OutPoint {
        vout: 1,
        ..OutPoint::default()
    };
    spending.input[0].previous_output = output;
    let coinbase = chain.0[3].txdata[0].input[0].previous_output;
    chain.0[3].txdata.push(spending);
    follow(&index, &chain);
    let found = index.find(&Subject::Spender(output)).unwrap();
    assert_eq!((found[0].height, found[0].position), (3, 1));
    assert_eq!(index.find(&Subject::Spender(coinbase)).unwrap(), []);
}

#[test]
fn a_chain_of_genesis_alone_is_indexed_at_once() {
    let (_dir, index) = index();
    follow(&index, &Chain::new(0));
    let progress = index.progress();
    assert!(progress.synced && progress.height == 0 && progress.block.is_none());
}

#[test]
fn a_stopped_step_writes_its_blocks_and_the_next_index_continues_there() {
    let (_dir, index) = index();
    let chain = Chain::new(9);
    let left = Cell::new(4);
    let stop = || left.replace(left.get() - 1) == 0;
    assert_eq!(index.advance(&chain, &chain, &stop).unwrap(), Step::More);
    assert!(!index.progress().synced);
    assert_eq!(index.progress().height, 4);
    index.close();
    let again = Index::new(Kind::Transactions, index.dir.clone());
    // Reading a block below 5 again would fail.
    let rest = Chain(chain.0[5..].to_vec());
    while again.advance(&chain, &rest, &|| false).unwrap() == Step::More {}
    assert_eq!(height_of(&again, &chain.transaction(2)), Some(2));
    assert_eq!(height_of(&again, &chain.transaction(9)), Some(9));
}

#[test]
fn a_transaction_that_only_a_disconnected_branch_has_is_still_found_there() {
    let (_dir, index) = index();
    let mut chain = Chain::new(5);
    let left = (chain.transaction(5), chain.at_height(5).unwrap());
    follow(&index, &chain);
    chain.0.truncate(4);
    chain.grow(3, 1);
    follow(&index, &chain);
    assert_eq!(index.find(&left.0).unwrap()[0].block, left.1);
    assert_eq!(height_of(&index, &chain.transaction(6)), Some(6));
    assert_eq!(index.progress().height, 6);
}

#[test]
fn a_damaged_index_is_quarantined_and_built_again_and_only_the_last_is_kept() {
    let (dir, index) = index();
    let chain = Chain::new(3);
    for _ in 0..2 {
        follow(&index, &chain);
        index.close();
        fs::write(index.dir.join("version"), "nonsense").unwrap();
        follow(&index, &chain);
        assert_eq!(height_of(&index, &chain.transaction(3)), Some(3));
        assert!(index.progress().synced);
    }
    let quarantined = dir.path().join("txindex.damaged");
    assert_eq!(fs::read(quarantined.join("version")).unwrap(), b"nonsense");
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 2);
}

#[test]
fn a_block_that_cannot_be_read_is_an_error_and_is_retried() {
    let (_dir, index) = index();
    let chain = Chain::new(3);
    let gap = Chain(chain.0[..3].to_vec());
    let error = index.advance(&chain, &gap, &|| false).unwrap_err();
    assert!(matches!(error, IndexError::Block(_)), "{error}");
    assert!(!index.progress().synced);
    follow(&index, &chain);
    assert!(index.progress().synced);
}

/// Runs the test `name` again, alone, with a file system of 2 MiB in `dir`. Prints a message and
/// does nothing where a user may not mount in a namespace.
fn on_a_small_disk(name: &str, dir: &Path) {
    let program = std::env::current_exe().unwrap();
    let script = "mount -t tmpfs -o size=2m small \"$0\" && exec \"$@\"";
    let status = std::process::Command::new("unshare")
        .args(["--map-root-user", "--mount", "sh", "-c", script])
        .arg(dir)
        .arg(program)
        .args(["--exact", name])
        .env(SMALL_DISK, dir)
        .status();
    let can_mount = std::process::Command::new("unshare")
        .args(["--map-root-user", "--mount", "true"])
        .status()
        .is_ok_and(|status| status.success());
    match can_mount {
        true => assert!(status.is_ok_and(|status| status.success())),
        false => eprintln!("skipped: unshare --map-root-user --mount is not allowed here"),
    }
}

const SMALL_DISK: &str = "HANDFAST_TEST_SMALL_DISK";

/// Fills the file system of `dir`.
fn fill(dir: &Path) -> PathBuf {
    use std::io::Write;
    let path = dir.join("filler");
    let mut file = fs::File::create(&path).unwrap();
    while file.write_all(&[1; 512]).is_ok() {}
    path
}

#[test]
fn a_full_disk_is_an_error_with_the_remedy_and_the_index_continues_with_free_space() {
    let Some(dir) = std::env::var_os(SMALL_DISK).map(PathBuf::from) else {
        let dir = tempfile::tempdir().unwrap();
        let name = "advance::tests::a_disk_that_is_full_is_an_error_with_the_remedy_and_the_index_goes_on_when_there_is_room";
        return on_a_small_disk(name, dir.path());
    };
    let index = Index::new(Kind::Transactions, dir.join("txindex"));
    let mut chain = Chain::new(3);
    let assert_full = |chain: &Chain| {
        for _ in 0..2 {
            let error = index.advance(chain, chain, &|| false).unwrap_err();
            assert!(error.to_string().contains("free disk space"), "{error}");
        }
    };
    // Before the database exists, and after.
    let filler = fill(&dir);
    assert_full(&chain);
    fs::remove_file(filler).unwrap();
    follow(&index, &chain);
    let filler = fill(&dir);
    chain.grow(400, 0);
    assert_full(&chain);
    assert_eq!(index.progress().height, 3);
    fs::remove_file(filler).unwrap();
    follow(&index, &chain);
    for height in [1, 3, 4, 403] {
        assert_eq!(height_of(&index, &chain.transaction(height)), Some(height));
    }
    assert!(!dir.join("txindex.damaged").exists());
    assert!(!dir.join("txindex.new").exists());
}

#[test]
fn a_directory_that_cannot_be_written_is_an_error_that_names_it() {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("file"), "").unwrap();
    let index = Index::new(Kind::Spenders, dir.path().join("file/txindex"));
    let chain = Chain::new(1);
    let error = index.advance(&chain, &chain, &|| false).unwrap_err();
    assert!(error.to_string().contains("file/txindex"), "{error}");
    assert!(dir.path().join("file").is_file(), "nothing was moved");
}
