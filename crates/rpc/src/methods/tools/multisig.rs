//! `createmultisig`.

use std::rc::Rc;

use bitcoin::opcodes::all::OP_CHECKMULTISIG;
use bitcoin::script::{Builder, PushBytesBuf};
use bitcoin::secp256k1::PublicKey;
use bitcoin::{Address, Network, ScriptBuf};
use handfast_api::methods::util as specs;
use serde_json::{Value, json};

use super::super::{Call, Method};
use crate::jsonrpc::{Error, code};
use crate::render::descriptor::{is_plain, multi, with_checksum};
use crate::render::{hex, unhex};

/// Core `MAX_PUBKEYS_PER_MULTISIG`.
const MAX_KEYS: usize = 20;
/// Most bytes of a script behind a P2SH output. Core `MAX_SCRIPT_ELEMENT_SIZE`.
const MAX_REDEEM_SCRIPT: usize = 520;
/// Bytes of a compressed and of an uncompressed key.
const COMPRESSED: usize = 33;
const UNCOMPRESSED: usize = 65;

pub(super) const CREATEMULTISIG: Method = Method {
    spec: &specs::CREATEMULTISIG,
    run: |call| Box::pin(createmultisig(call)),
};

/// The kind of output that holds the script.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Output {
    ScriptHash,
    WrappedWitness,
    Witness,
}

async fn createmultisig(call: Rc<Call>) -> Result<Value, Error> {
    let required: i32 = call.integer(0)?.unwrap_or(0);
    let listed = call.value(1).as_array().into_iter().flatten();
    let keys = listed.map(public_key).collect::<Result<Vec<_>, _>>()?;
    let wanted = match call.text(2).unwrap_or("legacy") {
        "legacy" => Output::ScriptHash,
        "p2sh-segwit" => Output::WrappedWitness,
        "bech32" => Output::Witness,
        "bech32m" => {
            let message = "createmultisig cannot create bech32m multisig addresses";
            return Err(Error::new(code::INVALID_ADDRESS_OR_KEY, message));
        }
        other => {
            let message = format!("Unknown address type '{other}'");
            return Err(Error::new(code::INVALID_ADDRESS_OR_KEY, message));
        }
    };
    create(required, &keys, wanted, call.node.view().network.bitcoin())
}

/// Core `HexToPubKey`.
fn public_key(value: &Value) -> Result<Vec<u8>, Error> {
    let Some(text) = value.as_str() else {
        return Err(Error::wrong_type(value, "string"));
    };
    let bad = |what: &str| {
        let message = format!("Pubkey \"{text}\" {what}");
        Err(Error::new(code::INVALID_ADDRESS_OR_KEY, message))
    };
    let Some(bytes) = unhex(text).filter(|bytes| !bytes.is_empty()) else {
        return bad("must be a hex string");
    };
    if ![COMPRESSED, UNCOMPRESSED].contains(&bytes.len()) {
        return bad("must have a length of either 33 or 65 bytes");
    }
    match PublicKey::from_slice(&bytes) {
        Ok(_) => Ok(bytes),
        Err(_) => bad("must be cryptographically valid."),
    }
}

fn create(
    required: i32,
    keys: &[Vec<u8>],
    wanted: Output,
    network: Network,
) -> Result<Value, Error> {
    let bad = |message: String| Err(Error::new(code::INVALID_PARAMETER, message));
    let Some(needed) = usize::try_from(required).ok().filter(|needed| *needed > 0) else {
        let message = "a multisignature address must require at least one key to redeem";
        return bad(message.to_owned());
    };
    if keys.len() < needed {
        return bad(format!(
            "not enough keys supplied (got {} keys, but need at least {required} to redeem)",
            keys.len()
        ));
    }
    if keys.len() > MAX_KEYS {
        return bad(format!(
            "Number of keys involved in the multisignature address creation > {MAX_KEYS}\nReduce the number"
        ));
    }
    let script = script(needed, keys);
    // Witness scripts take compressed keys only.
    let compressed = keys.iter().all(|key| key.len() == COMPRESSED);
    let output = if compressed {
        wanted
    } else {
        Output::ScriptHash
    };
    if output == Output::ScriptHash && script.len() > MAX_REDEEM_SCRIPT {
        return bad(format!(
            "redeemScript exceeds size limit: {} > {MAX_REDEEM_SCRIPT}",
            script.len()
        ));
    }
    let paid = match output {
        Output::ScriptHash => script.to_p2sh(),
        Output::WrappedWitness => script.to_p2wsh().to_p2sh(),
        Output::Witness => script.to_p2wsh(),
    };
    let Ok(address) = Address::from_script(&paid, network) else {
        return Err(Error::new(
            code::INTERNAL_ERROR,
            "the output has no address",
        ));
    };
    let body = multi(needed, keys);
    let descriptor = match output {
        // Descriptors have no form for hybrid keys.
        Output::ScriptHash if !keys.iter().all(|key| is_plain(key)) => format!("addr({address})"),
        Output::ScriptHash => format!("sh({body})"),
        Output::WrappedWitness => format!("sh(wsh({body}))"),
        Output::Witness => format!("wsh({body})"),
    };
    let mut created = json!({
        "address": address.to_string(),
        "redeemScript": hex(script.as_bytes()),
        "descriptor": with_checksum(&descriptor),
    });
    if output != wanted {
        created["warnings"] = json!([
            "Unable to make chosen address type, please ensure no uncompressed public keys are present."
        ]);
    }
    Ok(created)
}

/// Core `GetScriptForMultisig`.
fn script(required: usize, keys: &[Vec<u8>]) -> ScriptBuf {
    let number = |count: usize| i64::try_from(count).unwrap_or(i64::MAX);
    let mut script = Builder::new().push_int(number(required));
    for key in keys {
        let mut push = PushBytesBuf::new();
        // A key is far shorter than the longest push.
        if push.extend_from_slice(key).is_ok() {
            script = script.push_slice(push);
        }
    }
    script
        .push_int(number(keys.len()))
        .push_opcode(OP_CHECKMULTISIG)
        .into_script()
}
