//! Addresses, read and described as `validateaddress` does.

use bitcoin::bech32::Fe32;
use bitcoin::hashes::Hash;
use bitcoin::{
    Address, Network, PubkeyHash, ScriptBuf, ScriptHash, WitnessProgram, WitnessVersion,
};
use bitcoin::{base58, constants};
use serde_json::{Value, json};

use super::bech32_errors::{self, Malformed, Parts};
use super::hex;
use super::script::Template;

/// A longer text is no Base58 of at most 100 bytes.
const MAX_BASE58: usize = 140;
/// Bytes of a Base58 address: its version and a hash.
const BASE58_BYTES: usize = 21;
/// Most bytes of a witness program (BIP141).
const MAX_PROGRAM: usize = 40;

/// What is known of an address, or why it is none. Core `validateaddress`.
pub(crate) fn describe(text: &str, network: Network) -> Value {
    match output_script(text, network) {
        Ok(script) => {
            let mut object = json!({ "isvalid": true });
            if let Ok(address) = Address::from_script(&script, network) {
                object["address"] = address.to_string().into();
            }
            object["scriptPubKey"] = hex(script.as_bytes()).into();
            describe_script(&mut object, &script);
            object
        }
        Err(NotAnAddress { message, at }) => {
            json!({ "isvalid": false, "error_locations": at, "error": message })
        }
    }
}

fn describe_script(object: &mut Value, script: &ScriptBuf) {
    let (is_script, is_witness) = match Template::of(script) {
        Template::PubKeyHash => (Some(false), false),
        Template::ScriptHash => (Some(true), false),
        Template::WitnessV0KeyHash => (Some(false), true),
        Template::WitnessV0ScriptHash | Template::WitnessV1Taproot(_) | Template::Anchor => {
            (Some(true), true)
        }
        _ => (None, true),
    };
    if let Some(is_script) = is_script {
        object["isscript"] = is_script.into();
    }
    object["iswitness"] = is_witness.into();
    // The anchor has a version and a program too, but Core does not show them.
    if let Some(version) = script.witness_version()
        && Template::of(script) != Template::Anchor
    {
        object["witness_version"] = version.to_num().into();
        object["witness_program"] = hex(&script.as_bytes()[2..]).into();
    }
}

/// Why a text is no address on this network, in Core's words, and at which of its bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
struct NotAnAddress {
    message: String,
    at: Vec<usize>,
}

impl From<String> for NotAnAddress {
    fn from(message: String) -> Self {
        let at = Vec::new();
        Self { message, at }
    }
}

impl From<&str> for NotAnAddress {
    fn from(message: &str) -> Self {
        message.to_owned().into()
    }
}

impl From<Malformed> for NotAnAddress {
    fn from(Malformed { message, at }: Malformed) -> Self {
        let message = message.to_owned();
        Self { message, at }
    }
}

/// The output script that an address stands for; `None` if it is none of this network.
pub(crate) fn script_of(text: &str, network: Network) -> Option<ScriptBuf> {
    output_script(text, network).ok()
}

/// The output script that an address stands for. Core `DecodeDestination`.
fn output_script(text: &str, network: Network) -> Result<ScriptBuf, NotAnAddress> {
    let prefix = match network {
        Network::Bitcoin => "bc",
        Network::Regtest => "bcrt",
        _ => "tb",
    };
    let start = text.as_bytes().get(..prefix.len());
    if start.is_some_and(|start| start.eq_ignore_ascii_case(prefix.as_bytes())) {
        witness_script(&bech32_errors::parse(text)?, prefix)
    } else {
        base58_script(text, network)
    }
}

fn base58_script(text: &str, network: Network) -> Result<ScriptBuf, NotAnAddress> {
    let is_space = |character| matches!(character, ' ' | '\t' | '\n' | '\r' | '\u{b}' | '\u{c}');
    let text = text.trim_matches(is_space);
    let decoded = (text.len() <= MAX_BASE58).then(|| base58::decode(text).ok());
    let Some(raw) = decoded.flatten().filter(|raw| raw.len() <= 100) else {
        return Err("Invalid or unsupported Segwit (Bech32) or Base58 encoding.".into());
    };
    let checked = base58::decode_check(text).ok();
    let Some(data) =
        checked.filter(|data| raw.len() <= BASE58_BYTES + 4 && data.len() <= BASE58_BYTES)
    else {
        return Err("Invalid checksum or length of Base58 address (P2PKH or P2SH)".into());
    };
    let (key, script) = match network {
        Network::Bitcoin => (
            constants::PUBKEY_ADDRESS_PREFIX_MAIN,
            constants::SCRIPT_ADDRESS_PREFIX_MAIN,
        ),
        _ => (
            constants::PUBKEY_ADDRESS_PREFIX_TEST,
            constants::SCRIPT_ADDRESS_PREFIX_TEST,
        ),
    };
    match data.split_first() {
        Some((version, hash)) if [key, script].contains(version) => {
            let Ok(hash) = <[u8; 20]>::try_from(hash) else {
                return Err("Invalid length for Base58 address (P2PKH or P2SH)".into());
            };
            Ok(if *version == key {
                ScriptBuf::new_p2pkh(&PubkeyHash::from_byte_array(hash))
            } else {
                ScriptBuf::new_p2sh(&ScriptHash::from_byte_array(hash))
            })
        }
        _ => Err("Invalid or unsupported Base58-encoded address.".into()),
    }
}

fn witness_script(parts: &Parts, prefix: &str) -> Result<ScriptBuf, NotAnAddress> {
    let Some((version, data)) = parts.data.split_first() else {
        return Err("Empty Bech32 data section".into());
    };
    if parts.prefix != prefix {
        return Err(format!(
            "Invalid or unsupported prefix for Segwit (Bech32) address (expected {prefix}, got {}).",
            parts.prefix
        )
        .into());
    }
    match (version.to_u8(), parts.is_bech32m) {
        (0, true) => return Err("Version 0 witness address must use Bech32 checksum".into()),
        (0, false) | (_, true) => {}
        (_, false) => return Err("Version 1+ witness address must use Bech32m checksum".into()),
    }
    let Some(program) = to_bytes(data) else {
        return Err("Invalid padding in Bech32 data section".into());
    };
    let (length, bytes) = (
        program.len(),
        if program.len() == 1 { "byte" } else { "bytes" },
    );
    if version.to_u8() == 0 && !matches!(length, 20 | 32) {
        let message =
            format!("Invalid Bech32 v0 address program size ({length} {bytes}), per BIP141");
        return Err(message.into());
    }
    let Ok(version) = WitnessVersion::try_from(version.to_u8()) else {
        return Err("Invalid Bech32 address witness version".into());
    };
    if !(2..=MAX_PROGRAM).contains(&length) {
        return Err(format!("Invalid Bech32 address program size ({length} {bytes})").into());
    }
    let program = WitnessProgram::new(version, &program)
        .map_err(|error| NotAnAddress::from(error.to_string()))?;
    Ok(ScriptBuf::new_witness_program(&program))
}

/// Five bits a character to eight bits a byte. `None` unless less than a character is left,
/// and that is zero.
fn to_bytes(characters: &[Fe32]) -> Option<Vec<u8>> {
    let (mut left, mut bits) = (0u32, 0);
    let mut bytes = Vec::with_capacity(characters.len() * 5 / 8);
    for character in characters {
        left = left << 5 | u32::from(character.to_u8());
        bits += 5;
        if bits >= 8 {
            bits -= 8;
            bytes.push((left >> bits) as u8);
            left &= (1 << bits) - 1;
        }
    }
    (bits < 5 && left == 0).then_some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn on_regtest(text: &str) -> String {
        describe(text, Network::Regtest).to_string()
    }

    #[test]
    fn every_kind_of_address_is_described_as_core_describes_it() {
        let program = "751e76e8199196d454941c45d1b3a323f1433bd6";
        assert_eq!(
            describe(
                "BC1QW508D6QEJXTDG4Y5R3ZARVARY0C5XW7KV8F3T4",
                Network::Bitcoin
            )
            .to_string(),
            format!(
                "{{\"isvalid\":true,\"address\":\"bc1qw508d6qejxtdg4y5r3zarvary0c5xw7kv8f3t4\",\
                 \"scriptPubKey\":\"0014{program}\",\"isscript\":false,\"iswitness\":true,\
                 \"witness_version\":0,\"witness_program\":\"{program}\"}}"
            )
        );
        let witness = |version, program: &[u8]| {
            let program = WitnessProgram::new(version, program).expect("valid");
            let script = ScriptBuf::new_witness_program(&program);
            let address = Address::from_script(&script, Network::Regtest);
            address.expect("every program has one").to_string()
        };
        for (address, is_script, is_witness, version) in [
            (
                "mfWxJ45yp2SFn7UciZyNpvDKrzbhyfKrY8".to_owned(),
                json!(false),
                false,
                Value::Null,
            ),
            (
                " 2MsFDzHRUAMpjHxKyoEHU3aMCMsVtMqs1PV\n".to_owned(),
                json!(true),
                false,
                Value::Null,
            ),
            (
                "bcrt1pfeesnyr2tx".to_owned(),
                json!(true),
                true,
                Value::Null,
            ),
            (
                witness(WitnessVersion::V0, &[7; 32]),
                json!(true),
                true,
                json!(0),
            ),
            (
                witness(WitnessVersion::V1, &[7; 32]),
                json!(true),
                true,
                json!(1),
            ),
            (
                witness(WitnessVersion::V3, &[7; 5]),
                Value::Null,
                true,
                json!(3),
            ),
        ] {
            let object = describe(&address, Network::Regtest);
            assert_eq!(object["isvalid"], true, "{address}");
            assert_eq!(object["isscript"], is_script, "{address}");
            assert_eq!(object["iswitness"], is_witness, "{address}");
            assert_eq!(object["witness_version"], version, "{address}");
        }
    }

    #[test]
    fn an_invalid_address_is_reported_in_cores_words() {
        for (text, message) in [
            (
                "",
                "Invalid checksum or length of Base58 address (P2PKH or P2SH)",
            ),
            (
                "nonsense!",
                "Invalid or unsupported Segwit (Bech32) or Base58 encoding.",
            ),
            (
                "mfWxJ45yp2SFn7UciZyNpvDKrzbhyfKrY9",
                "Invalid checksum or length of Base58 address (P2PKH or P2SH)",
            ),
            (
                "1BvBMSEYstWetqTFn5Au4m4GFg7xJaNVN2",
                "Invalid or unsupported Base58-encoded address.",
            ),
            (
                "bc1qw508d6qejxtdg4y5r3zarvary0c5xw7kv8f3t4",
                "Invalid or unsupported Segwit (Bech32) or Base58 encoding.",
            ),
            ("bcrt1", "Invalid separator position"),
        ] {
            let expected = format!("\"error\":\"{message}\"}}");
            let shown = on_regtest(text);
            assert!(
                shown.starts_with("{\"isvalid\":false,\"error_locations\":["),
                "{shown}"
            );
            assert!(shown.ends_with(&expected), "{text}: {shown}");
        }
        assert!(on_regtest(&"2".repeat(1_000_000)).contains("Base58 encoding"));
    }
}
