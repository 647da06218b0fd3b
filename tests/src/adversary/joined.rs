//! Two transactions whose ids, one behind the other, are a transaction.
//!
//! The merkle root of a block with the transactions A and B is the hash of their two ids,
//! 64 bytes. If those bytes happen to be a transaction, a block with only that one has the
//! same merkle root, hence the same header and hash, and is invalid for want of a coinbase.
//! Whoever takes that verdict for one about the hash refuses the true block for good.
//!
//! 64 bytes are a transaction with one input and one output whose scripts are four bytes
//! long together. That fixes one byte of A's id, which is found at once, and three of B's,
//! which takes some million tries: where they were found is written down here.

use bitcoin::absolute::LockTime;
use bitcoin::hashes::Hash;
use bitcoin::transaction::Version;
use bitcoin::{Amount, OutPoint, ScriptBuf, Sequence, Transaction, TxIn, TxOut, Txid, Witness};

/// Bytes of the two scripts together.
const SCRIPTS: u8 = 4;
/// Lock times at which the search for the coins of heights 1, 2, … ended. They are where it
/// begins: if the transactions are ever made otherwise, it goes on from there.
const FOUND: [u32; 3] = [4_766_348, 1_788_429, 405_465];

/// Whether A's id can be the first half.
pub(super) fn is_first_half(id: Txid) -> bool {
    id.to_byte_array()[4] == 1
}

/// Whether B's id can be the second half.
fn is_second_half(id: Txid) -> bool {
    let id = id.to_byte_array();
    let script_sig = id[9];
    if script_sig > SCRIPTS {
        return false;
    }
    // The script, the sequence, then the number of outputs; its value, then its script.
    let outputs = 10 + usize::from(script_sig) + 4;
    id[outputs] == 1 && id[outputs + 9] == SCRIPTS - script_sig
}

/// A transaction that spends the coin which the coinbase of `height` made, and can be B.
pub(super) fn second_half(height: u32, coin: OutPoint, value: Amount) -> Transaction {
    let index = usize::try_from(height).expect("a height fits") - 1;
    let begin = FOUND.get(index).copied().unwrap_or(0);
    let mut transaction = Transaction {
        version: Version::TWO,
        lock_time: LockTime::from_consensus(begin),
        input: vec![TxIn {
            previous_output: coin,
            script_sig: ScriptBuf::new(),
            // Final, so that the lock time means nothing.
            sequence: Sequence::MAX,
            witness: Witness::new(),
        }],
        output: vec![TxOut {
            value,
            script_pubkey: ScriptBuf::from_bytes(vec![0x51]),
        }],
    };
    while !is_second_half(transaction.compute_txid()) {
        let next = transaction.lock_time.to_consensus_u32().wrapping_add(1);
        transaction.lock_time = LockTime::from_consensus(next);
    }
    transaction
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::adversary::forge::{coin, subsidy};

    #[test]
    fn the_search_ends_where_it_begins() {
        for (height, found) in (1..).zip(FOUND) {
            let payment = second_half(height, coin(height), subsidy(height));
            assert_eq!(payment.lock_time, LockTime::from_consensus(found));
        }
    }
}
