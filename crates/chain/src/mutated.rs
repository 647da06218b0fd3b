//! Mutated blocks: data that does not match its header, found before the kernel gets the block.
//!
//! A header commits to its block's transactions only by their txids, through a tree that
//! does not distinguish leaves from nodes, and to witnesses only by an output of the coinbase.
//! So one hash has many encodings that are not the block, and anyone can make them from a
//! valid block. A failed check of such data does not make the hash invalid, but the kernel
//! runs some checks before it compares the data with the header (signet's solution), and
//! others fail later on data that matches by construction (a 64-byte "transaction" that is
//! two txids). The list is Bitcoin Core's `IsBlockMutated` (`validation.cpp`).
//!
//! The merkle root is checked by the kernel's code, on the decode thread, and its result is
//! cached in the block. Witnesses are hashed here, since the kernel's interface has no wtxid;
//! the kernel checks them again.

use bitcoin::hashes::{Hash, HashEngine, sha256d};
use bitcoin::merkle_tree;

use crate::layout::{Layout, Transaction};
use crate::{Reject, RejectKind};

/// A transaction of this length may be two hashes of the merkle tree.
const AMBIGUOUS_BYTES: usize = 64;

/// The result of the kernel's context-free checks of a block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Checked {
    /// The block passes.
    Valid,
    /// Its header fails, independently of its data.
    Header,
    /// Its transactions do not match the merkle root, or some are duplicated.
    MerkleRoot {
        /// No check failed before that of the merkle root.
        first: bool,
    },
    /// The merkle root is right, another check fails.
    Other,
}

/// The parameters of a network that the checks need.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Rules {
    /// Blocks need a signet solution.
    pub(crate) signet: bool,
    /// The first height at which blocks may have witness data (BIP141).
    pub(crate) segwit_height: u32,
}

/// Whether `block` is mutated, with Bitcoin Core's reason. `checked`: the result of its checks.
///
/// `height`: of the block; without it witnesses are checked by the kernel only, which never
/// marks a hash invalid for them.
pub(crate) fn find(
    block: &[u8],
    layout: &Layout,
    checked: Checked,
    height: Option<u32>,
    rules: Rules,
) -> Option<Reject> {
    let reason = match checked {
        Checked::Header => return None,
        Checked::MerkleRoot { first: false } => SIGNET_SOLUTION,
        Checked::MerkleRoot { first: true } => merkle_root_reason(block, layout),
        Checked::Valid | Checked::Other if layout.coinbase.is_none() => {
            let ambiguous = |tx: &Transaction| tx.stripped_bytes() == AMBIGUOUS_BYTES;
            layout.transactions.iter().find(|tx| ambiguous(tx))?;
            // The kernel checks the solution first, which is in a commitment.
            match rules.signet && layout.commitment.is_none() {
                true => SIGNET_SOLUTION,
                false => "bad-cb-missing",
            }
        }
        Checked::Valid | Checked::Other => {
            let witness_allowed = height? >= rules.segwit_height;
            witness_reason(block, layout, witness_allowed)?
        }
    };
    Some(Reject {
        kind: RejectKind::Mutated,
        reason: reason.into(),
    })
}

const SIGNET_SOLUTION: &str = "bad-signet-blksig";

/// Which of the two failures of the merkle root it is. Core `CheckMerkleRoot`.
fn merkle_root_reason(block: &[u8], layout: &Layout) -> &'static str {
    let txids = layout.transactions.iter().map(|transaction| {
        let mut engine = sha256d::Hash::engine();
        for piece in transaction.stripped(block) {
            engine.input(piece);
        }
        sha256d::Hash::from_engine(engine)
    });
    let root = merkle_tree::calculate_root(txids).unwrap_or(sha256d::Hash::all_zeros());
    // After version and parent.
    let claimed = block.get(36..68).unwrap_or_default();
    match claimed == root.as_byte_array() {
        true => "bad-txns-duplicate",
        false => "bad-txnmrklroot",
    }
}

/// Core `CheckWitnessMalleation`.
fn witness_reason(block: &[u8], layout: &Layout, allowed: bool) -> Option<&'static str> {
    if allowed && let Some(commitment) = layout.commitment {
        let reserved = layout.coinbase.and_then(|coinbase| coinbase.reserved_value);
        let Some(reserved) = reserved else {
            return Some("bad-witness-nonce-size");
        };
        let mut engine = sha256d::Hash::engine();
        engine.input(witness_root(block, layout).as_byte_array());
        engine.input(&reserved);
        let committed = sha256d::Hash::from_engine(engine).to_byte_array() == commitment;
        return (!committed).then_some("bad-witness-merkle-match");
    }
    let witness = layout.transactions.iter().any(Transaction::has_witness);
    witness.then_some("unexpected-witness")
}

/// Core `BlockWitnessMerkleRoot`: the coinbase counts as zeros.
fn witness_root(block: &[u8], layout: &Layout) -> sha256d::Hash {
    let others = layout.transactions.iter().skip(1);
    let wtxids = others.map(|tx| sha256d::Hash::hash(&block[tx.place.clone()]));
    let leaves = std::iter::once(sha256d::Hash::all_zeros()).chain(wtxids);
    merkle_tree::calculate_root(leaves).unwrap_or(sha256d::Hash::all_zeros())
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::layout;

    const RULES: Rules = Rules {
        signet: false,
        segwit_height: 481_824,
    };

    /// A block of the shared data, if that is there.
    fn shared(name: &str) -> Option<Vec<u8>> {
        let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared/data");
        let block = std::fs::read(dir.join(name)).ok();
        if block.is_none() {
            eprintln!("skipped: {name} is not there");
        }
        block
    }

    fn reason(block: &[u8], checked: Checked, height: u32) -> Option<String> {
        let layout = layout::scan(block).expect("a block");
        let found = find(block, &layout, checked, Some(height), RULES)?;
        assert_eq!(found.kind, RejectKind::Mutated);
        Some(found.reason)
    }

    #[test]
    fn real_blocks_are_not_mutated_and_a_changed_byte_of_a_witness_is_found() {
        for name in ["mainnet_block_1602407a.raw", "testnet3_block_928848.raw"] {
            let Some(block) = shared(name) else { continue };
            let layout = layout::scan(&block).expect("a block");
            assert_eq!(layout.length, block.len());
            assert_eq!(reason(&block, Checked::Valid, 800_000), None);
            let signed = layout
                .transactions
                .iter()
                .skip(1)
                .find(|tx| tx.has_witness());
            let place = signed.expect("it has some").place.clone();
            // The last byte before the lock time is one of a witness.
            let mut spoilt = block.clone();
            spoilt[place.end - 5] ^= 1;
            let why = reason(&spoilt, Checked::Valid, 800_000);
            assert_eq!(why.as_deref(), Some("bad-witness-merkle-match"));
            let why = reason(&block, Checked::Valid, RULES.segwit_height - 1);
            assert_eq!(why.as_deref(), Some("unexpected-witness"));
            // The txids still have the header's merkle root, so the reason can only be duplicates.
            let failed = Checked::MerkleRoot { first: true };
            let why = reason(&spoilt, failed, 800_000);
            assert_eq!(why.as_deref(), Some("bad-txns-duplicate"));
            spoilt[place.end - 1] ^= 1;
            let why = reason(&spoilt, failed, 800_000);
            assert_eq!(why.as_deref(), Some("bad-txnmrklroot"));
        }
    }

    #[test]
    fn a_block_whose_header_fails_is_left_to_the_kernel_whatever_its_data_is() {
        let Some(mut block) = shared("mainnet_block_1602407a.raw") else {
            return;
        };
        let last = block.len() - 1;
        block[last] ^= 1;
        assert_eq!(reason(&block, Checked::Header, 800_000), None);
    }
}
