//! Scripts: their assembly text and their type, in Bitcoin Core's words.

use bitcoin::opcodes::all::*;
use bitcoin::{Address, Network, Script};
use serde_json::{Value, json};

use super::{descriptor, hex};

/// Most public keys in a bare multisig. Core `MAX_PUBKEYS_PER_MULTISIG`.
const MAX_MULTISIG_KEYS: usize = 20;
/// A longer script cannot be spent. Core `MAX_SCRIPT_SIZE`, bytes.
pub(crate) const MAX_SCRIPT_SIZE: usize = 10_000;
/// A longer push fails. Core `MAX_SCRIPT_ELEMENT_SIZE`, bytes.
const MAX_PUSH: usize = 520;
/// The highest opcode that means something in a script without a version. Core `MAX_OPCODE`.
const MAX_OPCODE: u8 = 0xb9;

/// One operation of a script.
#[derive(Clone, Copy)]
struct Operation<'a> {
    opcode: u8,
    /// What a push pushes; empty for everything else.
    data: &'a [u8],
}

/// The operations of a script; `None`: a push that is cut short.
fn operations(script: &[u8]) -> impl Iterator<Item = Option<Operation<'_>>> {
    let mut rest = script;
    std::iter::from_fn(move || {
        let (&opcode, after) = rest.split_first()?;
        rest = &[];
        let length_bytes = match opcode {
            0x4c => 1,
            0x4d => 2,
            0x4e => 4,
            _ => 0,
        };
        let Some((length, after)) = after.split_at_checked(length_bytes) else {
            return Some(None);
        };
        let length = match opcode {
            0..=0x4b => usize::from(opcode),
            0x4c..=0x4e => length
                .iter()
                .rev()
                .fold(0, |sum, byte| sum << 8 | usize::from(*byte)),
            _ => 0,
        };
        let Some((data, after)) = after.split_at_checked(length) else {
            return Some(None);
        };
        rest = after;
        Some(Some(Operation { opcode, data }))
    })
}

/// Whether every operation is whole and one that a script may have. Core `HasValidOps`.
pub(crate) fn has_valid_operations(script: &Script) -> bool {
    let valid = |operation: Operation<'_>| {
        operation.opcode <= MAX_OPCODE && operation.data.len() <= MAX_PUSH
    };
    operations(script.as_bytes()).all(|operation| operation.is_some_and(valid))
}

/// The opcodes of a script, as far as it can be read.
pub(super) fn opcodes(script: &Script) -> impl Iterator<Item = u8> {
    let whole = operations(script.as_bytes()).map_while(|operation| operation);
    whole.map(|operation| operation.opcode)
}

/// The kinds of output script. The words are those of `getblock`'s `type`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Template {
    PubKey(Vec<u8>),
    PubKeyHash,
    ScriptHash,
    Multisig { required: usize, keys: Vec<Vec<u8>> },
    NullData,
    Anchor,
    WitnessV0KeyHash,
    WitnessV0ScriptHash,
    WitnessV1Taproot([u8; 32]),
    WitnessUnknown,
    NonStandard,
}

impl Template {
    /// Recognises a script. Core `Solver`.
    pub(super) fn of(script: &Script) -> Self {
        let bytes = script.as_bytes();
        if script.is_p2sh() {
            return Self::ScriptHash;
        }
        if let Some(version) = script.witness_version() {
            return match (version.to_num(), &bytes[2..]) {
                (0, program) if program.len() == 20 => Self::WitnessV0KeyHash,
                (0, program) if program.len() == 32 => Self::WitnessV0ScriptHash,
                (0, _) => Self::NonStandard,
                (1, [0x4e, 0x73]) => Self::Anchor,
                (1, program) => match program.try_into() {
                    Ok(key) => Self::WitnessV1Taproot(key),
                    Err(_) => Self::WitnessUnknown,
                },
                (_, _) => Self::WitnessUnknown,
            };
        }
        if let Some((0x6a, rest)) = bytes.split_first().map(|(first, rest)| (*first, rest))
            && operations(rest).all(|op| op.is_some_and(|op| op.opcode <= 0x60))
        {
            return Self::NullData;
        }
        if let Some(key) = lone_key(bytes) {
            return Self::PubKey(key.to_vec());
        }
        if script.is_p2pkh() {
            return Self::PubKeyHash;
        }
        multisig(bytes).unwrap_or(Self::NonStandard)
    }

    fn name(&self) -> &'static str {
        match self {
            Self::PubKey(_) => "pubkey",
            Self::PubKeyHash => "pubkeyhash",
            Self::ScriptHash => "scripthash",
            Self::Multisig { .. } => "multisig",
            Self::NullData => "nulldata",
            Self::Anchor => "anchor",
            Self::WitnessV0KeyHash => "witness_v0_keyhash",
            Self::WitnessV0ScriptHash => "witness_v0_scripthash",
            Self::WitnessV1Taproot(_) => "witness_v1_taproot",
            Self::WitnessUnknown => "witness_unknown",
            Self::NonStandard => "nonstandard",
        }
    }
}

/// Whether the first byte of a public key announces the length that it has.
fn is_key(bytes: &[u8]) -> bool {
    match bytes.first() {
        Some(2 | 3) => bytes.len() == 33,
        Some(4 | 6 | 7) => bytes.len() == 65,
        _ => false,
    }
}

/// The key of `<key> OP_CHECKSIG`, pushed in the shortest way.
fn lone_key(bytes: &[u8]) -> Option<&[u8]> {
    let (&last, rest) = bytes.split_last()?;
    let (&length, key) = rest.split_first()?;
    (last == OP_CHECKSIG.to_u8() && usize::from(length) == key.len() && is_key(key)).then_some(key)
}

fn multisig(bytes: &[u8]) -> Option<Template> {
    let mut operations = operations(bytes);
    let required = small_number(operations.next()??)?;
    let mut keys = Vec::new();
    let total = loop {
        let operation = operations.next()??;
        if !is_key(operation.data) {
            break small_number(operation)?;
        }
        keys.push(operation.data.to_vec());
    };
    let ends =
        operations.next()??.opcode == OP_CHECKMULTISIG.to_u8() && operations.next().is_none();
    (ends && required <= total && total == keys.len())
        .then_some(Template::Multisig { required, keys })
}

/// 1 to 20 in its shortest form: an opcode up to 16, a push of one byte above.
fn small_number(operation: Operation<'_>) -> Option<usize> {
    match (operation.opcode, operation.data) {
        (opcode @ 0x51..=0x60, _) => Some(usize::from(opcode - 0x50)),
        (1, [number]) if (17..=MAX_MULTISIG_KEYS).contains(&usize::from(*number)) => {
            Some(usize::from(*number))
        }
        _ => None,
    }
}

/// An output script as `getblock` shows it.
pub(super) fn output_script(script: &Script, network: Network) -> Value {
    let template = Template::of(script);
    let address = match template {
        Template::PubKey(_) => None,
        _ => Address::from_script(script, network)
            .ok()
            .map(|address| address.to_string()),
    };
    let mut object = json!({
        "asm": assembly(script, false),
        "desc": descriptor::infer(script, &template, address.as_deref()),
        "hex": hex(script.as_bytes()),
    });
    if let Some(address) = address {
        object["address"] = address.into();
    }
    object["type"] = template.name().into();
    object
}

/// The script as text. `signatures`: name the signature hash type of pushes that
/// look like signatures; only sensible for input scripts. Core `ScriptToAsmStr`.
pub(super) fn assembly(script: &Script, signatures: bool) -> String {
    let unspendable = script.is_op_return() || script.len() > MAX_SCRIPT_SIZE;
    let word = |operation: Option<Operation<'_>>| match operation {
        None => "[error]".to_owned(),
        Some(Operation {
            opcode: 0..=0x4e,
            data,
        }) if data.len() <= 4 => script_number(data).to_string(),
        Some(Operation {
            opcode: 0..=0x4e,
            data,
        }) => match hash_type(data) {
            Some(name) if signatures && !unspendable => {
                format!("{}[{name}]", hex(&data[..data.len() - 1]))
            }
            Some(_) | None => hex(data),
        },
        Some(Operation { opcode, .. }) => opcode_name(opcode),
    };
    operations(script.as_bytes())
        .map(word)
        .collect::<Vec<_>>()
        .join(" ")
}

/// A push of at most four bytes read as a number: little-endian, sign in the highest bit.
fn script_number(data: &[u8]) -> i64 {
    let magnitude = data
        .iter()
        .rev()
        .fold(0i64, |sum, byte| sum << 8 | i64::from(*byte));
    match data.last() {
        Some(last) if last & 0x80 != 0 => -(magnitude & !(0x80 << (8 * (data.len() - 1)))),
        Some(_) | None => magnitude,
    }
}

/// The name of the signature hash type when `data` is a well-formed DER signature (BIP66) with one.
fn hash_type(data: &[u8]) -> Option<&'static str> {
    let (last, der) = data.split_last()?;
    let name = match last {
        0x01 => "ALL",
        0x02 => "NONE",
        0x03 => "SINGLE",
        0x81 => "ALL|ANYONECANPAY",
        0x82 => "NONE|ANYONECANPAY",
        0x83 => "SINGLE|ANYONECANPAY",
        _ => return None,
    };
    is_strict_der(der).then_some(name)
}

/// `0x30 length 0x02 length R 0x02 length S`, with R and S positive and in shortest form (BIP66).
fn is_strict_der(der: &[u8]) -> bool {
    fn integer(bytes: &[u8]) -> Option<&[u8]> {
        let (&[tag, length], rest) = bytes.split_first_chunk::<2>()?;
        let (number, rest) = rest.split_at_checked(usize::from(length))?;
        let shortest = match number {
            [] => false,
            [first, ..] if first & 0x80 != 0 => false,
            [0, second, ..] => second & 0x80 != 0,
            [_, ..] => true,
        };
        (tag == 0x02 && shortest).then_some(rest)
    }
    match der.split_first_chunk::<2>() {
        Some((&[0x30, length], body))
            if usize::from(length) == body.len() && (8..=72).contains(&der.len()) =>
        {
            integer(body)
                .and_then(integer)
                .is_some_and(<[u8]>::is_empty)
        }
        _ => false,
    }
}

/// Core's name of an opcode that pushes nothing.
fn opcode_name(opcode: u8) -> String {
    match opcode {
        0x4f => "-1".into(),
        0x51..=0x60 => (opcode - 0x50).to_string(),
        0xb1 => "OP_CHECKLOCKTIMEVERIFY".into(),
        0xb2 => "OP_CHECKSEQUENCEVERIFY".into(),
        0xff => "OP_INVALIDOPCODE".into(),
        // `bitcoin` names what BIP342 reserved OP_RETURN_n; Core does not know these.
        0xbb..=0xfe => "OP_UNKNOWN".into(),
        _ => bitcoin::Opcode::from(opcode).to_string(),
    }
}

#[cfg(test)]
mod tests {
    use bitcoin::ScriptBuf;

    use super::*;

    fn script(hex: &str) -> ScriptBuf {
        ScriptBuf::from_hex(hex).expect("a test writes valid hex")
    }

    fn shown(hex: &str) -> Value {
        output_script(&script(hex), Network::Regtest)
    }

    #[test]
    fn the_genesis_output_is_shown_as_core_shows_it() {
        let key = "04678afdb0fe5548271967f1a67130b7105cd6a828e03909a67962e0ea1f61deb6\
                   49f6bc3f4cef38c4f35504e51ec112de5c384df7ba0b8d578a4c702b6bf11d5f";
        let object = shown(&format!("41{key}ac"));
        assert_eq!(object["asm"], format!("{key} OP_CHECKSIG"));
        assert_eq!(object["type"], "pubkey");
        assert_eq!(
            object.get("address"),
            None,
            "Core gives no address for a bare key"
        );
        // The checksum is the one that Core's tests have for this descriptor.
        assert_eq!(object["desc"], format!("pk({key})#vlz6ztea"));
    }

    #[test]
    fn every_standard_output_has_its_type_and_address() {
        let zeros = "00".repeat(20);
        for (hex, kind, address) in [
            (
                format!("76a914{zeros}88ac"),
                "pubkeyhash",
                Some("mfWxJ45yp2SFn7UciZyNpvDKrzbhyfKrY8"),
            ),
            (
                format!("a914{zeros}87"),
                "scripthash",
                Some("2MsFDzHRUAMpjHxKyoEHU3aMCMsVtMqs1PV"),
            ),
            (
                format!("0014{zeros}"),
                "witness_v0_keyhash",
                Some("bcrt1qqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqdku202"),
            ),
            ("51024e73".into(), "anchor", Some("bcrt1pfeesnyr2tx")),
            ("6a0548656c6c6f".into(), "nulldata", None),
            ("6a05".into(), "nonstandard", None),
            ("0010".to_owned() + &"00".repeat(16), "nonstandard", None),
            (String::new(), "nonstandard", None),
        ] {
            let object = shown(&hex);
            assert_eq!(object["type"], kind, "{hex}");
            assert_eq!(
                object.get("address").and_then(Value::as_str),
                address,
                "{hex}"
            );
        }
    }

    #[test]
    fn a_multisig_counts_its_keys() {
        let key = "0279be667ef9dcbbac55a06295ce870b07029bfcdb2dce28d959f2815b16f81798";
        assert_eq!(shown(&format!("5121{key}21{key}52ae"))["type"], "multisig");
        assert_eq!(
            shown(&format!("5121{key}21{key}51ae"))["type"],
            "nonstandard",
            "two keys, one announced"
        );
        assert_eq!(
            shown(&format!("5321{key}21{key}52ae"))["type"],
            "nonstandard",
            "three of two"
        );
        assert_eq!(
            shown(&format!("5121{key}51ae00"))["type"],
            "nonstandard",
            "something follows"
        );
    }

    #[test]
    fn assembly_uses_the_names_of_core() {
        for (hex, text) in [
            ("00", "0"),
            ("4f51605a", "-1 1 16 10"),
            ("01ff", "-127"),
            ("0180", "0"),
            ("04ffffff7f", "2147483647"),
            ("04ffffffff", "-2147483647"),
            (
                "b1b2b0",
                "OP_CHECKLOCKTIMEVERIFY OP_CHECKSEQUENCEVERIFY OP_NOP1",
            ),
            ("baff50", "OP_CHECKSIGADD OP_INVALIDOPCODE OP_RESERVED"),
            ("bb", "OP_UNKNOWN"),
            (
                "616263646566676869",
                "OP_NOP OP_VER OP_IF OP_NOTIF OP_VERIF OP_VERNOTIF OP_ELSE OP_ENDIF OP_VERIFY",
            ),
            ("5105aabb", "1 [error]"),
            ("05aabbccddee", "aabbccddee"),
        ] {
            assert_eq!(assembly(&script(hex), false), text, "{hex}");
        }
    }

    #[test]
    fn a_signature_in_an_input_script_shows_its_hash_type() {
        let der = "3006020101020101";
        assert_eq!(
            assembly(&script(&format!("09{der}01")), true),
            format!("{der}[ALL]")
        );
        assert_eq!(
            assembly(&script(&format!("09{der}83")), true),
            format!("{der}[SINGLE|ANYONECANPAY]")
        );
        assert_eq!(
            assembly(&script(&format!("09{der}01")), false),
            format!("{der}01")
        );
        assert_eq!(
            assembly(&script(&format!("09{der}04")), true),
            format!("{der}04"),
            "no such hash type"
        );
        let negative = "3006020181020101";
        assert_eq!(
            assembly(&script(&format!("09{negative}01")), true),
            format!("{negative}01")
        );
    }
}
