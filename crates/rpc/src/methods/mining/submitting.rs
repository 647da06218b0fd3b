//! `submitblock` and `submitheader`.

use std::rc::Rc;

use bitcoin::block::Header;
use bitcoin::consensus::encode::{deserialize_partial, serialize};
use bitcoin::hex::FromHex;
use bitcoin::{Block, Witness};
use bytes::Bytes;
use handfast_api::methods::mining as specs;
use handfast_node::{Network, RawBlock, SubmitResult, WITNESS_COMMITMENT};
use serde_json::Value;

use super::{Call, Method};
use crate::jsonrpc::{Error, code};

pub(super) const SUBMITBLOCK: Method = Method {
    spec: &specs::SUBMITBLOCK,
    run: |call| Box::pin(submitblock(call)),
};

pub(super) const SUBMITHEADER: Method = Method {
    spec: &specs::SUBMITHEADER,
    run: |call| Box::pin(submitheader(call)),
};

async fn submitblock(call: Rc<Call>) -> Result<Value, Error> {
    let failed = || Error::new(code::DESERIALIZATION_ERROR, "Block decode failed");
    let bytes = Vec::<u8>::from_hex(call.text(0).unwrap_or_default()).map_err(|_| failed())?;
    let (mut block, length) = deserialize_partial::<Block>(&bytes).map_err(|_| failed())?;
    let view = call.node.view();
    let parent = view.tree.get(&block.header.prev_blockhash);
    let completed = parent
        .is_some_and(|parent| add_witness_nonce(&mut block, parent.height + 1, &view.network));
    let bytes = if completed {
        Bytes::from(serialize(&block))
    } else {
        Bytes::from(bytes).slice(..length)
    };
    let block = RawBlock {
        hash: block.header.block_hash(),
        header: block.header,
        bytes,
    };
    match call.node.submit_block(block).await? {
        SubmitResult::Accepted => Ok(Value::Null),
        SubmitResult::Duplicate => Ok("duplicate".into()),
        SubmitResult::DuplicateInvalid => Ok("duplicate-invalid".into()),
        SubmitResult::DuplicateInconclusive => Ok("duplicate-inconclusive".into()),
        SubmitResult::Inconclusive => Ok("inconclusive".into()),
        SubmitResult::Rejected(reject) if reject.reason.is_empty() => Ok("rejected".into()),
        SubmitResult::Rejected(reject) => Ok(reject.reason.into()),
        SubmitResult::Failed(reason) => Err(Error::new(code::VERIFY_ERROR, reason)),
    }
}

/// Gives a coinbase that commits to witnesses the nonce that it forgot (32 zero
/// bytes), as Core's `UpdateUncommittedBlockStructures` does for miners' sake.
/// Tells whether it did.
fn add_witness_nonce(block: &mut Block, height: u32, network: &Network) -> bool {
    let [.., segwit] = network.buried_deployments();
    if height < segwit.height {
        return false;
    }
    let Some(coinbase) = block.txdata.first_mut() else {
        return false;
    };
    let commits = |script: &bitcoin::ScriptBuf| {
        script.len() >= 38 && script.as_bytes().starts_with(&WITNESS_COMMITMENT)
    };
    let committed = coinbase
        .output
        .iter()
        .any(|output| commits(&output.script_pubkey));
    let bare = coinbase.input.iter().all(|input| input.witness.is_empty());
    match coinbase.input.first_mut() {
        Some(input) if committed && bare => {
            input.witness = Witness::from_slice(&[[0u8; 32]]);
            true
        }
        Some(_) | None => false,
    }
}

async fn submitheader(call: Rc<Call>) -> Result<Value, Error> {
    let failed = || Error::new(code::DESERIALIZATION_ERROR, "Block header decode failed");
    let bytes = Vec::<u8>::from_hex(call.text(0).unwrap_or_default()).map_err(|_| failed())?;
    let (header, _) = deserialize_partial::<Header>(&bytes).map_err(|_| failed())?;
    let parent = header.prev_blockhash;
    if !call.node.view().tree.contains(&parent) {
        return Err(Error::new(
            code::VERIFY_ERROR,
            format!("Must submit previous header ({parent}) first"),
        ));
    }
    match call.node.submit_header(header).await? {
        SubmitResult::Rejected(reject) => Err(Error::new(code::VERIFY_ERROR, reject.reason)),
        SubmitResult::DuplicateInvalid => Err(Error::new(code::VERIFY_ERROR, "duplicate-invalid")),
        SubmitResult::Failed(reason) => Err(Error::new(code::VERIFY_ERROR, reason)),
        SubmitResult::Accepted
        | SubmitResult::Duplicate
        | SubmitResult::DuplicateInconclusive
        | SubmitResult::Inconclusive => Ok(Value::Null),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn committing_block() -> Block {
        let mut block = Network::Regtest.genesis_block();
        let mut script = vec![0x6a, 0x24, 0xaa, 0x21, 0xa9, 0xed];
        script.extend([7u8; 32]);
        block.txdata[0].output[0].script_pubkey = script.into();
        block
    }

    #[test]
    fn a_committing_coinbase_without_a_witness_gets_the_nonce_that_miners_leave_out() {
        let mut block = committing_block();
        assert!(add_witness_nonce(&mut block, 1, &Network::Regtest));
        assert_eq!(
            block.txdata[0].input[0].witness.to_vec(),
            vec![vec![0u8; 32]]
        );
        assert!(
            !add_witness_nonce(&mut block, 1, &Network::Regtest),
            "a witness that is there stays"
        );
    }

    #[test]
    fn a_block_before_segwit_or_without_a_commitment_is_left_alone() {
        let mut block = committing_block();
        assert!(!add_witness_nonce(&mut block, 481_823, &Network::Mainnet));
        let mut plain = Network::Regtest.genesis_block();
        assert!(!add_witness_nonce(&mut plain, 1, &Network::Regtest));
    }
}
