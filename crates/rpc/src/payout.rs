//! Payout addresses: addresses, and descriptors of one output (BIP380 and following).

use bitcoin::{Network, ScriptBuf};

use crate::descriptor;
use crate::render::address;

/// Why a text names no single output.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum PayoutError {
    /// It is no address of this network.
    Address,
    /// It is no descriptor, or one that needs private keys; why.
    Descriptor(String),
    /// It stands for several outputs; in Core's words.
    Several(&'static str),
}

/// The output script that an address of this network stands for; `None`: it is none.
#[must_use]
pub fn address_script(text: &str, network: Network) -> Option<ScriptBuf> {
    of_address(text, network).ok()
}

/// The output script that an address stands for.
pub(crate) fn of_address(text: &str, network: Network) -> Result<ScriptBuf, PayoutError> {
    address::script_of(text, network).ok_or(PayoutError::Address)
}

/// The one output script that a descriptor stands for. Of `combo()` that which Core mines to:
/// the witness key hash, or for an uncompressed key the hash of the key.
pub(crate) fn of_descriptor(text: &str, network: Network) -> Result<ScriptBuf, PayoutError> {
    let parsed = descriptor::parse(text, false, network).map_err(PayoutError::Descriptor)?;
    if parsed.branches() > 1 {
        return Err(PayoutError::Several("Multipath descriptor not accepted"));
    }
    if parsed.is_ranged() {
        return Err(PayoutError::Several(
            "Ranged descriptor not accepted. Maybe pass through deriveaddresses first?",
        ));
    }
    let scripts = parsed.scripts(0, 0).map_err(PayoutError::Descriptor)?;
    // All but combo() stand for one.
    let index = match scripts.len() {
        4 => 2,
        2 => 1,
        _ => 0,
    };
    let script = scripts.into_iter().nth(index);
    script.ok_or_else(|| PayoutError::Descriptor("no output".to_owned()))
}

#[cfg(test)]
mod tests {
    use bitcoin::PublicKey;
    use bitcoin::key::{TweakedPublicKey, XOnlyPublicKey};
    use bitcoin::secp256k1::Secp256k1;

    use super::*;

    const KEY: &str = "0279be667ef9dcbbac55a06295ce870b07029bfcdb2dce28d959f2815b16f81798";
    const LONG: &str = "0479be667ef9dcbbac55a06295ce870b07029bfcdb2dce28d959f2815b16f81798\
                        483ada7726a3c4655da4fbfc0e1108a8fd17b448a68554199c47d08ffb10d4b8";
    const XPUB: &str = "tpubD6NzVbkrYhZ4WaWSyoBvQwbpLkojyoTZPRsgXELWz3Popb3qkjcJyJUGLnL4qHHoQvao8ESaAstxYSnhyswJ76uZPStJRJCTKvosUCJZL5B";
    /// The private key of [`KEY`], which is 1.
    const WIF: &str = "cMahea7zqjxrtgAbB7LSGbcQUr1uX1ojuat9jZodMN87JcbXMTcA";

    fn pays(text: &str) -> Result<ScriptBuf, PayoutError> {
        of_descriptor(text, Network::Regtest)
    }

    #[test]
    fn a_descriptor_stands_for_the_output_that_core_would_mine_to() {
        let key: PublicKey = KEY.parse().expect("a key");
        let long: PublicKey = LONG.parse().expect("a key");
        let short = key.wpubkey_hash().expect("compressed");
        let p2wpkh = ScriptBuf::new_p2wpkh(&short);
        let output = XOnlyPublicKey::from(key.inner);
        let rawtr = ScriptBuf::new_p2tr_tweaked(TweakedPublicKey::dangerous_assume_tweaked(output));
        let tr = ScriptBuf::new_p2tr(&Secp256k1::new(), output, None);
        for (text, script) in [
            ("raw(51)".to_owned(), ScriptBuf::from_bytes(vec![0x51])),
            (
                "raw(51)#8lvh9jxk".to_owned(),
                ScriptBuf::from_bytes(vec![0x51]),
            ),
            (format!("pk({KEY})"), ScriptBuf::new_p2pk(&key)),
            (
                format!("pkh({KEY})"),
                ScriptBuf::new_p2pkh(&key.pubkey_hash()),
            ),
            (format!("wpkh({KEY})"), p2wpkh.clone()),
            (format!("sh(wpkh({KEY}))"), p2wpkh.to_p2sh()),
            (format!("combo({KEY})"), p2wpkh.clone()),
            (format!("combo({WIF})"), p2wpkh),
            (
                format!("combo({LONG})"),
                ScriptBuf::new_p2pkh(&long.pubkey_hash()),
            ),
            (format!("rawtr({output})"), rawtr),
            (format!("tr({output})"), tr),
        ] {
            assert_eq!(pays(&text), Ok(script.clone()), "{text}");
            if let Ok(address) = bitcoin::Address::from_script(&script, Network::Regtest) {
                assert_eq!(pays(&format!("addr({address})")), Ok(script.clone()));
                assert_eq!(
                    of_address(&address.to_string(), Network::Regtest),
                    Ok(script)
                );
            }
        }
        assert!(pays(&format!("wpkh({XPUB}/0/7)")).is_ok());
    }

    #[test]
    fn what_is_no_single_output_is_reported_in_cores_words() {
        let descriptor = |message: &str| Err(PayoutError::Descriptor(message.to_owned()));
        for (text, refusal) in [
            ("raw(zz)", descriptor("Raw script is not hex")),
            ("addr(nowhere)", descriptor("Address is not valid")),
            (
                "nonsense",
                descriptor("'nonsense' is not a valid descriptor function"),
            ),
            (
                "raw(51)#8lvh9jx",
                descriptor("Expected 8 character checksum, not 7 characters"),
            ),
            (
                "raw(51)#8lvh9jxj",
                descriptor(
                    "Provided checksum '8lvh9jxj' does not match computed checksum '8lvh9jxk'",
                ),
            ),
            ("raw(51)##", descriptor("Multiple '#' symbols")),
            ("raw(é)", descriptor("Invalid characters in payload")),
        ] {
            assert_eq!(pays(text), refusal, "{text}");
        }
        let ranged = pays(&format!("wpkh({XPUB}/0/*)"));
        assert!(matches!(ranged, Err(PayoutError::Several(why)) if why.starts_with("Ranged")));
        let several = pays(&format!("wpkh({XPUB}/<0;1>/7)"));
        assert!(matches!(several, Err(PayoutError::Several(why)) if why.starts_with("Multipath")));
        for text in [
            format!("wpkh({XPUB}/0h/7)"),
            "pk(05)".to_owned(),
            "combo()".to_owned(),
            "rawtr()".to_owned(),
            "sh(".to_owned(),
            String::new(),
        ] {
            assert!(
                matches!(pays(&text), Err(PayoutError::Descriptor(_))),
                "{text}"
            );
        }
        assert_eq!(
            of_address("nowhere", Network::Regtest),
            Err(PayoutError::Address)
        );
    }
}
