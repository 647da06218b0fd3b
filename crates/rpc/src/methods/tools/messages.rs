//! `signmessagewithprivkey` and `verifymessage`.

use std::rc::Rc;

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use bitcoin::hashes::{Hash, hash160};
use bitcoin::secp256k1::ecdsa::{RecoverableSignature, RecoveryId};
use bitcoin::secp256k1::{Message, Secp256k1};
use bitcoin::sign_message::signed_msg_hash;
use bitcoin::{PubkeyHash, ScriptBuf};
use handfast_api::methods::util as specs;
use serde_json::Value;

use super::super::{Call, Method};
use crate::descriptor::PrivateKey;
use crate::jsonrpc::{Error, code};
use crate::render::address;

/// The first byte of a signature holds which key it is of the four possible ones, and this
/// bit if the key is compressed, counted from 27.
const BASE: u8 = 27;
const COMPRESSED: u8 = 4;

pub(super) const SIGNMESSAGEWITHPRIVKEY: Method = Method {
    spec: &specs::SIGNMESSAGEWITHPRIVKEY,
    run: |call| Box::pin(signmessagewithprivkey(call)),
};

pub(super) const VERIFYMESSAGE: Method = Method {
    spec: &specs::VERIFYMESSAGE,
    run: |call| Box::pin(verifymessage(call)),
};

fn digest(text: &str) -> Message {
    Message::from_digest(signed_msg_hash(text).to_byte_array())
}

async fn signmessagewithprivkey(call: Rc<Call>) -> Result<Value, Error> {
    let network = call.node.view().network.bitcoin();
    let key = PrivateKey::from_wif(call.text(0).unwrap_or_default(), network);
    let key = key.ok_or_else(|| Error::new(code::INVALID_ADDRESS_OR_KEY, "Invalid private key"))?;
    Ok(sign(&key, call.text(1).unwrap_or_default()).into())
}

fn sign(key: &PrivateKey, message: &str) -> String {
    let signature = Secp256k1::new().sign_ecdsa_recoverable(&digest(message), &key.secret);
    let (recovery, compact) = signature.serialize_compact();
    let recovery = u8::try_from(recovery.to_i32()).unwrap_or(0);
    let mut bytes = vec![BASE + recovery + if key.compressed { COMPRESSED } else { 0 }];
    bytes.extend(compact);
    BASE64_STANDARD.encode(bytes)
}

async fn verifymessage(call: Rc<Call>) -> Result<Value, Error> {
    let network = call.node.view().network.bitcoin();
    let script = address::script_of(call.text(0).unwrap_or_default(), network);
    let script =
        script.ok_or_else(|| Error::new(code::INVALID_ADDRESS_OR_KEY, "Invalid address"))?;
    if !script.is_p2pkh() {
        let message = "Address does not refer to key";
        return Err(Error::new(code::TYPE_ERROR, message));
    }
    let signature = BASE64_STANDARD.decode(call.text(1).unwrap_or_default());
    let signature =
        signature.map_err(|_| Error::new(code::TYPE_ERROR, "Malformed base64 encoding"))?;
    let signer = signer(&signature, call.text(2).unwrap_or_default());
    let owner = signer.map(|hash| ScriptBuf::new_p2pkh(&hash));
    Ok((owner == Some(script)).into())
}

/// The hash of the key that signed. Core `CPubKey::RecoverCompact`.
fn signer(signature: &[u8], message: &str) -> Option<PubkeyHash> {
    let (first, compact) = signature.split_first()?;
    let flags = first.wrapping_sub(BASE);
    let recovery = RecoveryId::from_i32(i32::from(flags & 3)).ok()?;
    let signature = RecoverableSignature::from_compact(compact, recovery).ok()?;
    let key = Secp256k1::new()
        .recover_ecdsa(&digest(message), &signature)
        .ok()?;
    let hash = match flags & COMPRESSED {
        0 => hash160::Hash::hash(&key.serialize_uncompressed()),
        _ => hash160::Hash::hash(&key.serialize()),
    };
    Some(PubkeyHash::from_raw_hash(hash))
}

#[cfg(test)]
mod tests {
    use bitcoin::Network;

    use super::*;

    #[test]
    fn a_signature_names_its_signer_and_for_another_message_another_or_none() {
        let wif = "cMahea7zqjxrtgAbB7LSGbcQUr1uX1ojuat9jZodMN87JcbXMTcA";
        let key = PrivateKey::from_wif(wif, Network::Regtest).expect("valid");
        let signature = BASE64_STANDARD.decode(sign(&key, "a message"));
        let signature = signature.expect("base64");
        let own = "751e76e8199196d454941c45d1b3a323f1433bd6"
            .parse::<PubkeyHash>()
            .expect("hex");
        assert_eq!(signer(&signature, "a message"), Some(own));
        assert_ne!(signer(&signature, "another"), Some(own));
        for malformed in [&[][..], &[0], &signature[..64], &[0xff; 65]] {
            assert_ne!(signer(malformed, "a message"), Some(own));
        }
    }
}
