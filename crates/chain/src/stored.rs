//! Which blocks ahead of the tip are on disk already.
//!
//! Blocks arrive out of order, so at a stop some lie on disk that could not be
//! connected yet. The kernel knows, but its interface does not tell; reading
//! every candidate would take seconds. So a clean stop writes them down in
//! `stored`, a text file that the next start consumes:
//!
//! ```text
//! best <hash of the best header>
//! <hash>…
//! end <number of hashes>
//! ```
//!
//! It counts only when complete and when the best header is still the same, so a
//! stale one does no harm. Without it (after a crash) the files are asked, for a
//! limited time; a block that is missed is downloaded twice, nothing worse.

use std::collections::BTreeSet;
use std::fmt::Write;
use std::fs;
use std::io::ErrorKind;
use std::path::Path;
use std::time::{Duration, Instant};

use bitcoin::BlockHash;
use bitcoinkernel::{BlockTreeEntry, ChainstateManager};

use crate::{STORED_WINDOW, convert, record};

const FILE: &str = "stored";

/// Time to look for blocks on disk at a start without the file: RPC has to
/// answer within 100 ms, and a miss costs some microseconds.
const PROBE_TIME: Duration = Duration::from_millis(20);

/// Writes down which of the blocks that follow the active chain on the way to the
/// best header are among `unconnected`. Best effort.
pub(crate) fn save(dir: &Path, manager: &ChainstateManager, unconnected: &BTreeSet<BlockHash>) {
    let Some(best) = manager.best_entry() else {
        return;
    };
    let stored: Vec<BlockHash> = window(manager, &best)
        .map(|entry| convert::hash(&entry.block_hash()))
        .filter(|hash| unconnected.contains(hash))
        .collect();
    if stored.is_empty() {
        return;
    }
    let mut text = format!("best {}\n", convert::hash(&best.block_hash()));
    for hash in &stored {
        writeln!(text, "{hash}").expect("writing to a String cannot fail");
    }
    writeln!(text, "end {}", stored.len()).expect("writing to a String cannot fail");
    if let Err(e) = fs::write(dir.join(FILE), text) {
        tracing::warn!("cannot write {FILE}: {e}; some blocks will be downloaded again");
    }
}

/// The blocks of the window that are on disk. Removes the file.
pub(crate) fn load(dir: &Path, manager: &ChainstateManager) -> Vec<BlockHash> {
    let Some(best) = manager.best_entry() else {
        return vec![];
    };
    match take(dir, convert::hash(&best.block_hash())) {
        Some(listed) => window(manager, &best)
            .map(|entry| convert::hash(&entry.block_hash()))
            .filter(|hash| listed.contains(hash))
            .collect(),
        None => probe(manager, &best),
    }
}

/// Reads and removes the file. `None` unless it is complete and fits `best`.
fn take(dir: &Path, best: BlockHash) -> Option<BTreeSet<BlockHash>> {
    let path = dir.join(FILE);
    let text = match fs::read_to_string(&path) {
        Ok(text) => text,
        Err(e) if e.kind() == ErrorKind::NotFound => return None,
        Err(e) => {
            tracing::warn!("{}: {e}", path.display());
            return None;
        }
    };
    if let Err(e) = fs::remove_file(&path) {
        // It would be believed once more after a crash.
        tracing::warn!("{}: {e}", path.display());
        return None;
    }
    parse(&text, best)
}

fn parse(text: &str, best: BlockHash) -> Option<BTreeSet<BlockHash>> {
    let mut lines = text.lines();
    let stated = lines.next()?.strip_prefix("best ")?;
    if stated.parse() != Ok(best) {
        return None;
    }
    let mut hashes = BTreeSet::new();
    for line in lines {
        if let Some(count) = line.strip_prefix("end ") {
            return (count.parse() == Ok(hashes.len())).then_some(hashes);
        }
        hashes.insert(line.parse().ok()?);
    }
    None
}

/// Asks the files. What cannot be asked in time counts as not there.
fn probe(manager: &ChainstateManager, best: &BlockTreeEntry<'_>) -> Vec<BlockHash> {
    let until = Instant::now() + PROBE_TIME;
    window(manager, best)
        .take_while(|_| Instant::now() < until)
        .filter(|entry| record::during(|| manager.read_block_data(entry)).0.is_ok())
        .map(|entry| convert::hash(&entry.block_hash()))
        .collect()
}

/// The first [`STORED_WINDOW`] entries above the fork of the active chain and the
/// chain of `best`.
fn window<'a>(
    manager: &'a ChainstateManager,
    best: &BlockTreeEntry<'a>,
) -> impl Iterator<Item = BlockTreeEntry<'a>> {
    let fork = fork_height(manager, best);
    let end = best.height().min(fork + STORED_WINDOW as i32);
    let best = *best;
    (fork + 1..=end).filter_map(move |height| best.ancestor(height))
}

/// Height of the last block of the active chain that `best` descends from.
pub(crate) fn fork_height(manager: &ChainstateManager, best: &BlockTreeEntry<'_>) -> i32 {
    let active = manager.active_chain();
    // Heights in the active chain come first, so halve between the two.
    let (mut inside, mut outside) = (0, best.height().min(active.height()) + 1);
    while outside - inside > 1 {
        let middle = inside + (outside - inside) / 2;
        match best.ancestor(middle) {
            Some(entry) if active.contains(&entry) => inside = middle,
            _ => outside = middle,
        }
    }
    inside
}

#[cfg(test)]
mod tests {
    use bitcoin::hashes::Hash;

    use super::*;

    #[test]
    fn a_list_counts_only_when_complete_and_for_the_same_best_header() {
        let hash = |id: u8| BlockHash::from_byte_array([id; 32]);
        let text = format!("best {}\n{}\n{}\nend 2\n", hash(9), hash(1), hash(2));
        let listed = BTreeSet::from([hash(1), hash(2)]);
        assert_eq!(parse(&text, hash(9)), Some(listed));
        assert_eq!(parse(&text, hash(8)), None, "another best header");
        for cut in 0..text.len() - 2 {
            assert_eq!(parse(&text[..cut], hash(9)), None, "cut at {cut}");
        }
    }
}
