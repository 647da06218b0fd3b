//! Output descriptors (BIP380 and following): what they say, and the output scripts that
//! they stand for.
//!
//! The text is split into functions and their arguments here, so that it can be written
//! again as Bitcoin Core writes it: without private keys, and for one path and one index.
//! What it means is the business of `miniscript`, which reads one such definite text at a time.

mod key;
mod shape;
mod split;

use bitcoin::key::TweakedPublicKey;
use bitcoin::secp256k1::Secp256k1;
use bitcoin::{Network, ScriptBuf};
use miniscript::descriptor::{DefiniteDescriptorKey, DescriptorPublicKey};
use miniscript::{ForEachKey, ToPublicKey};

use crate::render::{address, descriptor as checksum, unhex};

use key::Key;
pub(crate) use key::PrivateKey;
use split::Piece;

/// Longest descriptor that is read, bytes: more than one with 999 keys with their origins has.
const MAX_LENGTH: usize = 256 * 1024;

/// The kind of a descriptor, by its first function.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Form {
    /// A script in hex.
    Raw,
    /// An address.
    Address,
    /// All the usual outputs to one key.
    Combo,
    /// A taproot output key.
    RawTaproot,
    /// A multisig whose keys are sorted, with nothing around it: `miniscript` knows it within
    /// `sh()`.
    SortedMulti,
    /// One that `miniscript` knows.
    Other,
}

/// A descriptor that was read.
#[derive(Clone, Debug)]
pub(crate) struct Descriptor {
    form: Form,
    pieces: Vec<Piece>,
    network: Network,
}

/// Reads a descriptor, with its checksum or, unless `checksum_required`, without.
///
/// # Errors
/// What is wrong with it, in Core's words where they are known.
pub(crate) fn parse(
    text: &str,
    checksum_required: bool,
    network: Network,
) -> Result<Descriptor, String> {
    if text.len() > MAX_LENGTH {
        return Err(format!(
            "Descriptor is too long, {} bytes is larger than {MAX_LENGTH} bytes",
            text.len()
        ));
    }
    if checksum_required && !text.contains('#') {
        return Err("Missing checksum".to_owned());
    }
    let body = checksum::without_checksum(text)?;
    shape::check(body)?;
    let form = form(body);
    let pieces = split::split(body, network)?;
    let descriptor = Descriptor {
        form,
        pieces,
        network,
    };
    descriptor.check()?;
    Ok(descriptor)
}

fn form(body: &str) -> Form {
    let (name, _) = body.split_once('(').unwrap_or((body, ""));
    match name {
        "raw" => Form::Raw,
        "addr" => Form::Address,
        "combo" => Form::Combo,
        "rawtr" => Form::RawTaproot,
        "sortedmulti" => Form::SortedMulti,
        _ => Form::Other,
    }
}

impl Descriptor {
    fn keys(&self) -> impl Iterator<Item = &Key> {
        self.pieces.iter().filter_map(|piece| match piece {
            Piece::Key(key) => Some(key),
            Piece::Text(_) => None,
        })
    }

    /// Whether it stands for many outputs, each with an index.
    pub(crate) fn is_ranged(&self) -> bool {
        self.keys().any(Key::is_ranged)
    }

    /// Whether a private key is in it.
    pub(crate) fn has_private_keys(&self) -> bool {
        self.keys().any(Key::is_private)
    }

    /// Whether it shows how the output is spent, given the keys.
    pub(crate) fn is_solvable(&self) -> bool {
        !matches!(self.form, Form::Raw | Form::Address)
    }

    /// The number of descriptors that it stands for by its paths (BIP389), at least 1.
    pub(crate) fn branches(&self) -> usize {
        self.keys().map(Key::paths).max().unwrap_or(1)
    }

    /// One of them without private keys, with its checksum, as Core writes it.
    pub(crate) fn public(&self, branch: usize) -> String {
        checksum::with_checksum(&self.write(|key| key.public(branch)))
    }

    fn write(&self, key: impl Fn(&Key) -> String) -> String {
        let mut text = String::new();
        for piece in &self.pieces {
            match piece {
                Piece::Text(piece) => text.push_str(piece),
                Piece::Key(one) => text.push_str(&key(one)),
            }
        }
        text
    }

    /// The output scripts of one branch at one index: of `combo()` in Core's order two or
    /// four, else one.
    ///
    /// # Errors
    /// A private key is needed to derive it.
    pub(crate) fn scripts(&self, branch: usize, index: u32) -> Result<Vec<ScriptBuf>, String> {
        let body = self.write(|key| key.at(branch, index));
        let argument = argument(&body);
        let script = |text: &str| Ok::<_, String>(definite(text)?.script_pubkey());
        Ok(match self.form {
            Form::Raw => {
                let bytes = unhex(argument).filter(|bytes| !bytes.is_empty());
                let bytes = bytes.ok_or("Raw script is not hex")?;
                vec![ScriptBuf::from_bytes(bytes)]
            }
            Form::Address => {
                let script = address::script_of(argument, self.network);
                vec![script.ok_or("Address is not valid")?]
            }
            Form::Combo => {
                let mut scripts = vec![
                    script(&format!("pk({argument})"))?,
                    script(&format!("pkh({argument})"))?,
                ];
                // A key of 65 bytes has no witness outputs.
                if let Ok(witness) = script(&format!("wpkh({argument})")) {
                    let wrapped = witness.to_p2sh();
                    scripts.extend([witness, wrapped]);
                }
                scripts
            }
            Form::RawTaproot => vec![raw_taproot(argument)?],
            Form::SortedMulti => {
                let within = definite(&format!("sh({body})"))?;
                let script = within.explicit_script();
                vec![script.map_err(|error| error.to_string())?]
            }
            Form::Other => vec![script(&body)?],
        })
    }

    /// Whether it makes sense; it need not be derivable for that.
    fn check(&self) -> Result<(), String> {
        let branches = self.branches();
        if self.keys().any(|key| ![1, branches].contains(&key.paths())) {
            return Err("Multipath derivation paths have mismatched lengths".to_owned());
        }
        let body = self.write(|key| key.at(0, 0));
        let argument = argument(&body);
        match self.form {
            Form::Raw | Form::Address => self.scripts(0, 0).map(drop),
            Form::Combo => read(&format!("pkh({argument})")).map(drop),
            Form::RawTaproot => read(&format!("tr({argument})")).map(drop),
            Form::SortedMulti => read(&format!("sh({body})")).map(drop),
            Form::Other => read(&body).map(drop),
        }
    }
}

/// The text between the outer parentheses.
fn argument(body: &str) -> &str {
    let inside = body.split_once('(').map_or("", |(_, inside)| inside);
    inside.strip_suffix(')').unwrap_or(inside)
}

fn read(text: &str) -> Result<miniscript::Descriptor<DescriptorPublicKey>, String> {
    let secp = Secp256k1::new();
    let parsed = miniscript::Descriptor::<DescriptorPublicKey>::parse_descriptor(&secp, text);
    let (descriptor, _) = parsed.map_err(|error| error.to_string())?;
    Ok(descriptor)
}

fn definite(text: &str) -> Result<miniscript::Descriptor<DefiniteDescriptorKey>, String> {
    let descriptor = read(text)?;
    if descriptor.for_any_key(DescriptorPublicKey::has_hardened_step) {
        return Err("Cannot derive script without private keys".to_owned());
    }
    let definite = descriptor.at_derivation_index(0);
    definite.map_err(|error| error.to_string())
}

fn raw_taproot(key: &str) -> Result<ScriptBuf, String> {
    match definite(&format!("tr({key})"))? {
        miniscript::Descriptor::Tr(output) if output.tap_tree().is_none() => {
            let key = output.internal_key().to_x_only_pubkey();
            let key = TweakedPublicKey::dangerous_assume_tweaked(key);
            Ok(ScriptBuf::new_p2tr_tweaked(key))
        }
        _ => Err("rawtr(): only one key expected.".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: &str = "0279be667ef9dcbbac55a06295ce870b07029bfcdb2dce28d959f2815b16f81798";
    const XPRV: &str = "tprv8ZgxMBicQKsPd7Uf69XL1XwhmjHopUGep8GuEiJDZmbQz6o58LninorQAfcKZWARbtRtfnLcJ5MQ2AtHcQJCCRUcMRvmDUjyEmNUWwx8UbK";

    fn parsed(text: &str) -> Descriptor {
        parse(text, false, Network::Regtest).expect(text)
    }

    #[test]
    fn the_public_form_has_no_private_keys_and_one_path_at_a_time() {
        let descriptor = parsed(&format!("wpkh({XPRV}/<0h;1h>/*)"));
        assert!(descriptor.is_ranged() && descriptor.has_private_keys());
        assert_eq!(descriptor.branches(), 2);
        let public = descriptor.public(1);
        assert!(
            public.starts_with("wpkh(tpub") && public.contains("/1h/*)#"),
            "{public}"
        );
        assert!(!public.contains("prv"));
    }

    #[test]
    fn hardened_steps_are_derived_where_the_private_key_was_given_and_only_there() {
        let own = parsed(&format!("wpkh({XPRV}/0h/*h)"));
        assert!(own.scripts(0, 7).is_ok_and(|scripts| scripts.len() == 1));
        let public = own.public(0);
        let body = public.split('#').next().expect("a first part");
        let refusal = parsed(body).scripts(0, 7);
        assert_eq!(
            refusal,
            Err("Cannot derive script without private keys".to_owned())
        );
    }

    #[test]
    fn a_combo_stands_for_four_outputs_and_for_two_with_a_long_key() {
        let long = format!(
            "04{}{}",
            &KEY[2..],
            "483ada7726a3c4655da4fbfc0e1108a8fd17b448a68554199c47d08ffb10d4b8"
        );
        assert_eq!(
            parsed(&format!("combo({KEY})"))
                .scripts(0, 0)
                .map(|all| all.len()),
            Ok(4)
        );
        assert_eq!(
            parsed(&format!("combo({long})"))
                .scripts(0, 0)
                .map(|all| all.len()),
            Ok(2)
        );
    }

    #[test]
    fn a_bare_multisig_has_its_keys_in_their_order_whatever_order_they_are_given_in() {
        const OTHER: &str = "02c6047f9441ed7d6d3045406e95c07cd85c778e4b8cef3ca7abac09b95c709ee5";
        let sorted = |first: &str, second: &str| {
            let descriptor = parsed(&format!("sortedmulti(1,{first},{second})"));
            assert!(descriptor.is_solvable());
            descriptor.scripts(0, 0).expect("it is definite")
        };
        assert_eq!(sorted(KEY, OTHER), sorted(OTHER, KEY));
        let plain = parsed(&format!("multi(1,{KEY},{OTHER})"));
        assert_eq!(
            sorted(OTHER, KEY),
            plain.scripts(0, 0).expect("it is definite")
        );
        assert_eq!(
            parse("raw()", false, Network::Regtest).map(drop),
            Err("Raw script is not hex".to_owned())
        );
    }

    #[test]
    fn a_descriptor_that_is_too_long_or_nested_too_deeply_is_refused() {
        let long = format!("raw({})", "00".repeat(MAX_LENGTH));
        let refusal = parse(&long, false, Network::Regtest).expect_err("too long");
        assert!(refusal.starts_with("Descriptor is too long"), "{refusal}");
        for text in [
            "sh(".repeat(50_000),
            format!("wsh({}1{}", "n:".repeat(10_000), ")"),
            format!("tr({KEY},{}", "{".repeat(100_000)),
            format!("wsh({}0{})", "or_i(0,".repeat(20_000), ")".repeat(20_000)),
        ] {
            assert!(parse(&text, false, Network::Regtest).is_err());
        }
    }
}
