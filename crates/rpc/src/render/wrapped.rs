//! A script, and its P2SH and witness forms: `decodescript`.

use bitcoin::hashes::Hash;
use bitcoin::{Address, Network, Script, ScriptBuf, WPubkeyHash, hashes};
use serde_json::Value;

use super::descriptor;
use super::script::{MAX_SCRIPT_SIZE, Template, has_valid_operations, opcodes, output_script};

/// `OP_CHECKSIGADD` (BIP342).
const CHECKSIGADD: u8 = 0xba;

/// The script, its type and its addresses. Core `decodescript`.
pub(crate) fn decode_script(script: &Script, network: Network) -> Value {
    let mut object = without_hex(output_script(script, network));
    let template = Template::of(script);
    if !can_be_wrapped(script, &template) {
        return object;
    }
    let p2sh = |script: &Script| {
        let address = Address::p2sh_from_hash(script.script_hash(), network);
        Value::from(address.to_string())
    };
    object["p2sh"] = p2sh(script);
    if let Some(witness) = witness_program(script, &template) {
        let mut segwit = output_script(&witness, network);
        if let Some(descriptor) =
            descriptor::of_witness_script(&template).filter(|_| witness.is_p2wsh())
        {
            segwit["desc"] = descriptor.into();
        }
        segwit["p2sh-segwit"] = p2sh(&witness);
        object["segwit"] = segwit;
    }
    object
}

fn without_hex(mut object: Value) -> Value {
    if let Value::Object(members) = &mut object {
        members.shift_remove("hex");
    }
    object
}

fn can_be_wrapped(script: &Script, template: &Template) -> bool {
    let kind = match template {
        Template::Multisig { .. }
        | Template::NonStandard
        | Template::PubKey(_)
        | Template::PubKeyHash
        | Template::WitnessV0KeyHash
        | Template::WitnessV0ScriptHash => true,
        Template::NullData
        | Template::ScriptHash
        | Template::WitnessUnknown
        | Template::WitnessV1Taproot(_)
        | Template::Anchor => false,
    };
    let unspendable = script.is_op_return() || script.len() > MAX_SCRIPT_SIZE;
    kind && !unspendable
        && has_valid_operations(script)
        && !opcodes(script).any(|opcode| opcode == CHECKSIGADD || is_op_success(opcode))
}

/// Opcodes that make any tapscript succeed (BIP342).
fn is_op_success(opcode: u8) -> bool {
    matches!(
        opcode,
        80 | 98 | 126..=129 | 131..=134 | 137 | 138 | 141 | 142 | 149..=153 | 187..=254
    )
}

/// The witness program for this script: of the key where there is just one, else of the
/// script. `None`: a witness program itself, or its keys are not compressed.
fn witness_program(script: &Script, template: &Template) -> Option<ScriptBuf> {
    let compressed = |key: &Vec<u8>| key.len() == 33;
    match template {
        Template::PubKey(key) if compressed(key) => {
            let hash = hashes::hash160::Hash::hash(key);
            Some(ScriptBuf::new_p2wpkh(&WPubkeyHash::from_raw_hash(hash)))
        }
        Template::PubKeyHash => {
            let hash = script.as_bytes().get(3..23)?;
            let hash = WPubkeyHash::from_slice(hash).ok()?;
            Some(ScriptBuf::new_p2wpkh(&hash))
        }
        Template::Multisig { keys, .. } if keys.iter().all(compressed) => Some(script.to_p2wsh()),
        Template::NonStandard => Some(script.to_p2wsh()),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: &str = "0279be667ef9dcbbac55a06295ce870b07029bfcdb2dce28d959f2815b16f81798";

    fn decoded(hex: &str) -> Value {
        let script = ScriptBuf::from_hex(hex).expect("a test writes valid hex");
        decode_script(&script, Network::Regtest)
    }

    #[test]
    fn a_key_is_paid_to_by_its_hash_and_a_multisig_by_the_hash_of_the_script() {
        let key = decoded(&format!("21{KEY}ac"));
        assert_eq!(key["segwit"]["type"], "witness_v0_keyhash");
        let names: Vec<&String> = key.as_object().expect("an object").keys().collect();
        assert_eq!(names, ["asm", "desc", "type", "p2sh", "segwit"]);
        let multisig = decoded(&format!("5121{KEY}51ae"));
        assert_eq!(multisig["segwit"]["type"], "witness_v0_scripthash");
        let descriptor = multisig["segwit"]["desc"].as_str().expect("text");
        assert!(
            descriptor.starts_with(&format!("wsh(multi(1,{KEY}))#")),
            "{descriptor}"
        );
    }

    #[test]
    fn what_cannot_be_spent_that_way_shows_no_address_for_it() {
        let wrapped = |hex: &str| {
            let object = decoded(hex);
            (object.get("p2sh").is_some(), object.get("segwit").is_some())
        };
        let long = format!("4104{}ac", "11".repeat(64));
        for (hex, expected) in [
            ("51".to_owned(), (true, true)),
            (String::new(), (true, true)),
            ("0014".to_owned() + &"00".repeat(20), (true, false)),
            ("a914".to_owned() + &"00".repeat(20) + "87", (false, false)),
            ("6a0101".into(), (false, false)),
            ("5120".to_owned() + &"01".repeat(32), (false, false)),
            (long, (true, false)),
            ("05aa".into(), (false, false)),
            ("50".into(), (false, false)),
            ("ba".into(), (false, false)),
        ] {
            assert_eq!(wrapped(&hex), expected, "{hex}");
        }
    }
}
