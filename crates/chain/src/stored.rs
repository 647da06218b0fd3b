//! The stored blocks that are not in the active chain.
//!
//! Blocks arrive out of order, so at a stop some are on disk that could not be
//! connected yet. The kernel's interface does not list them, and reading every
//! candidate would take seconds. So a clean stop writes their hashes to
//! `stored.dat`, which the next start consumes.
//!
//! The list is used only if the best header is still the same, so a stale one is
//! harmless. Without it (after a crash) the block files are probed, for a limited time;
//! a block that is missed is only downloaded twice.

use std::collections::BTreeSet;
use std::path::Path;
use std::time::{Duration, Instant};

use bitcoin::BlockHash;
use bitcoin::hashes::Hash;
use bitcoinkernel::{BlockTreeEntry, ChainstateManager};
use handfast_disk::{remove, state_file};
use serde::{Deserialize, Serialize};

use crate::{STORED_WINDOW, convert, record};

const FILE: &str = "stored.dat";
/// Raised when [`Saved`] changes its meaning.
const VERSION: u32 = 1;
const LOSS: &str = "some blocks may be downloaded a second time; nothing needs to be done";

/// The file's contents.
#[derive(Debug, Serialize, Deserialize)]
struct Saved {
    /// Hash of the best header.
    best: [u8; 32],
    /// Blocks on disk.
    stored: Vec<[u8; 32]>,
}

/// Time to look for blocks on disk at a start without the file: RPC has to
/// answer within 100 ms, and a miss costs some microseconds.
const PROBE_TIME: Duration = Duration::from_millis(20);

/// Blocks on disk that are not in the active chain.
#[derive(Debug, Default)]
pub(crate) struct OnDisk {
    /// Those of the first [`STORED_WINDOW`] blocks between the active chain and the best header.
    pub(crate) ahead: Vec<BlockHash>,
    /// All of them, as far as is known.
    pub(crate) all: BTreeSet<BlockHash>,
}

/// Hashes written at most: those of the window, and of other blocks.
const MAX_SAVED: usize = 16_384;

/// Writes the list of `unconnected` blocks, first those between the active chain and the best
/// header. Best effort.
pub(crate) fn save(dir: &Path, manager: &ChainstateManager, unconnected: &BTreeSet<BlockHash>) {
    let Some(best) = manager.best_entry() else {
        return;
    };
    if unconnected.is_empty() {
        return;
    }
    let ahead: BTreeSet<BlockHash> = window(manager, &best)
        .map(|entry| convert::hash(&entry.block_hash()))
        .filter(|hash| unconnected.contains(hash))
        .collect();
    let others = unconnected.difference(&ahead);
    let stored: Vec<&BlockHash> = ahead.iter().chain(others).take(MAX_SAVED).collect();
    let saved = Saved {
        best: convert::hash(&best.block_hash()).to_byte_array(),
        stored: stored.iter().map(|hash| hash.to_byte_array()).collect(),
    };
    if let Err(e) = state_file::save(&dir.join(FILE), VERSION, &saved) {
        tracing::warn!("cannot write {FILE}: {e}; some blocks will be downloaded again");
    }
}

/// The blocks that are on disk. Removes the file.
pub(crate) fn load(dir: &Path, manager: &ChainstateManager) -> OnDisk {
    let Some(best) = manager.best_entry() else {
        return OnDisk::default();
    };
    match take(dir, convert::hash(&best.block_hash())) {
        Some(all) => OnDisk {
            ahead: window(manager, &best)
                .map(|entry| convert::hash(&entry.block_hash()))
                .filter(|hash| all.contains(hash))
                .collect(),
            all,
        },
        None => {
            let ahead = probe(manager, &best);
            let all = ahead.iter().copied().collect();
            OnDisk { ahead, all }
        }
    }
}

/// Reads and removes the file. `None` unless it fits `best`.
fn take(dir: &Path, best: BlockHash) -> Option<BTreeSet<BlockHash>> {
    let path = dir.join(FILE);
    let saved: Option<Saved> = state_file::load(&path, VERSION, LOSS)
        // A file that stayed would be used again after a crash.
        .and_then(|saved| remove(&path).map(|()| saved))
        .unwrap_or_else(|e| {
            tracing::warn!("{}: {e}", path.display());
            None
        });
    let saved = saved.filter(|saved| saved.best == best.to_byte_array())?;
    Some(
        saved
            .stored
            .into_iter()
            .map(BlockHash::from_byte_array)
            .collect(),
    )
}

/// Probes the block files. Blocks that cannot be probed in time count as missing.
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
    use super::*;

    #[test]
    fn a_list_is_used_once_and_only_for_the_same_best_header() {
        let hash = |id: u8| BlockHash::from_byte_array([id; 32]);
        let dir = tempfile::tempdir().unwrap();
        let saved = Saved {
            best: [9; 32],
            stored: vec![[1; 32], [2; 32]],
        };
        let save = || state_file::save(&dir.path().join(FILE), VERSION, &saved).unwrap();
        save();
        let listed = BTreeSet::from([hash(1), hash(2)]);
        assert_eq!(take(dir.path(), hash(9)), Some(listed));
        assert_eq!(take(dir.path(), hash(9)), None, "it was consumed");
        save();
        assert_eq!(take(dir.path(), hash(8)), None, "another best header");
        assert_eq!(
            take(dir.path(), hash(9)),
            None,
            "it was consumed all the same"
        );
    }
}
