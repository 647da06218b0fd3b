//! A block that takes seconds to connect, by the rules of before SegWit: every signature
//! hashes the whole transaction, and the scripts that are spent ask for many.

use bitcoin::absolute::LockTime;
use bitcoin::constants::{COINBASE_MATURITY, genesis_block};
use bitcoin::opcodes::all::{OP_CHECKSIG, OP_CODESEPARATOR, OP_DROP};
use bitcoin::script::Builder;
use bitcoin::transaction::Version as TxVersion;
use bitcoin::{Amount, Network, OutPoint, ScriptBuf, Sequence, Transaction, TxIn, Witness};
use handfast_wire::RawBlock;

use super::blocks::{BULK_OUTPUT, ChainBuilder, bulk_output};
use super::raw;

/// Signatures checked per input: three operations each, of 201 that a script may have.
const CHECKS: usize = 67;
/// Bytes that each of them hashes, about.
const BULK: usize = 900_000;

/// Regtest blocks from genesis, of which the last one takes about 50 ms of hashing for each
/// of its `inputs` (250 at most).
pub fn slow_to_connect(inputs: usize) -> Vec<RawBlock> {
    let mut chain = ChainBuilder::on(genesis_block(Network::Regtest).header, 0, "slow");
    let mut blocks: Vec<RawBlock> = (0..COINBASE_MATURITY)
        .map(|_| raw(chain.coinbase_block()))
        .collect();
    let (funding, transaction) = chain.funding_block(&costly_script(), inputs);
    blocks.push(raw(funding));
    let spending = spend_all(&transaction);
    blocks.push(raw(chain.assemble(vec![spending], Amount::ZERO)));
    blocks
}

/// Checks signatures that are none, each over another script, so that no hash serves
/// twice; then says yes.
fn costly_script() -> ScriptBuf {
    let signature: [u8; 9] = [0x30, 0x06, 0x02, 0x01, 0x01, 0x02, 0x01, 0x01, 0x01];
    let mut key = [0x11; 33];
    key[0] = 0x02;
    let check = |script: Builder, _| {
        script
            .push_slice(signature)
            .push_slice(key)
            .push_opcode(OP_CHECKSIG)
            .push_opcode(OP_DROP)
            .push_opcode(OP_CODESEPARATOR)
    };
    let checks = (0..CHECKS).fold(Builder::new(), check);
    checks.push_int(1).into_script()
}

fn spend_all(funding: &Transaction) -> Transaction {
    let txid = funding.compute_txid();
    let input = |vout| TxIn {
        previous_output: OutPoint { txid, vout },
        script_sig: ScriptBuf::new(),
        sequence: Sequence::MAX,
        witness: Witness::new(),
    };
    Transaction {
        version: TxVersion::ONE,
        lock_time: LockTime::ZERO,
        input: (0..)
            .zip(&funding.output)
            .map(|(vout, _)| input(vout))
            .collect(),
        output: vec![bulk_output(); BULK / BULK_OUTPUT],
    }
}
