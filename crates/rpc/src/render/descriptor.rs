//! The output descriptor (BIP380 and following) that an output script shows by itself.

use std::fmt::Write;

use bitcoin::Script;
use bitcoin::key::XOnlyPublicKey;

use super::hex;
use super::script::Template;

/// The descriptor that Core infers without knowing any key: the keys where the
/// script shows them, else the address, else the script itself.
pub(super) fn infer(script: &Script, template: &Template, address: Option<&str>) -> String {
    let text = match template {
        Template::PubKey(key) if is_plain(key) => format!("pk({})", hex(key)),
        Template::Multisig { required, keys } if keys.iter().all(|key| is_plain(key)) => {
            multi(*required, keys)
        }
        Template::WitnessV1Taproot(key) if XOnlyPublicKey::from_slice(key).is_ok() => {
            format!("rawtr({})", hex(key))
        }
        _ => match address {
            Some(address) => format!("addr({address})"),
            None => format!("raw({})", hex(script.as_bytes())),
        },
    };
    with_checksum(&text)
}

/// The descriptor of a payment to the hash of a script that is known, when it says more than
/// the address: of a multisig with compressed keys. Core also knows miniscript.
pub(super) fn of_witness_script(template: &Template) -> Option<String> {
    match template {
        Template::Multisig { required, keys } if keys.iter().all(|key| key.len() == 33) => {
            Some(with_checksum(&format!("wsh({})", multi(*required, keys))))
        }
        _ => None,
    }
}

/// `multi()` without a checksum.
pub(crate) fn multi(required: usize, keys: &[Vec<u8>]) -> String {
    let mut text = format!("multi({required}");
    for key in keys {
        write!(text, ",{}", hex(key)).expect("writing to a String cannot fail");
    }
    text + ")"
}

/// A descriptor with its checksum behind it. Only for text that descriptors can be made of.
pub(crate) fn with_checksum(text: &str) -> String {
    match checksum(text) {
        Some(sum) => format!("{text}#{sum}"),
        None => text.to_owned(),
    }
}

/// The descriptor without its checksum, which need not be there but must be right; else why
/// it is not, in Core's words. Core `CheckChecksum`.
pub(crate) fn without_checksum(text: &str) -> Result<&str, String> {
    let mut parts = text.split('#');
    let body = parts.next().unwrap_or_default();
    let given = parts.next();
    if parts.next().is_some() {
        return Err("Multiple '#' symbols".to_owned());
    }
    if let Some(given) = given.filter(|given| given.len() != 8) {
        let length = given.len();
        return Err(format!(
            "Expected 8 character checksum, not {length} characters"
        ));
    }
    let computed = checksum(body).ok_or("Invalid characters in payload")?;
    match given {
        Some(given) if given != computed => Err(format!(
            "Provided checksum '{given}' does not match computed checksum '{computed}'"
        )),
        _ => Ok(body),
    }
}

/// Descriptors have no form for the hybrid encoding of keys (first byte 6 or 7).
pub(crate) fn is_plain(key: &[u8]) -> bool {
    matches!(key.first(), Some(2..=4))
}

/// The eight characters that guard a descriptor (BIP380). `None`: it has a character that
/// no descriptor has.
pub(crate) fn checksum(descriptor: &str) -> Option<String> {
    miniscript::descriptor::checksum::desc_checksum(descriptor).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_checksum_is_that_of_bip380() {
        assert_eq!(checksum("raw(deadbeef)").as_deref(), Some("89f8spxm"));
        assert_eq!(checksum("raw(é)"), None);
    }
}
