//! Key expressions of descriptors (BIP380): an optional origin, a key, a path.

use std::collections::BTreeSet;
use std::str::FromStr;

use bitcoin::base58;
use bitcoin::bip32::{Xpriv, Xpub};
use bitcoin::key::Secp256k1;
use bitcoin::secp256k1::{PublicKey, SecretKey, XOnlyPublicKey};
use bitcoin::{Network, NetworkKind};

use crate::render::{hex, unhex};

/// The highest number of a step of a path (BIP32).
const MAX_STEP: u32 = 0x7fff_ffff;

/// More characters than the Base58 of an extended key has (BIP32): decoding it takes time
/// that grows with the square of its length.
const MAX_EXTENDED: usize = 120;

/// Which keys are allowed at this position of a descriptor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct KeyRules {
    /// Keys of 65 bytes.
    pub(super) uncompressed: bool,
    /// Inside of `tr()` and `rawtr()`: keys of 32 bytes.
    pub(super) taproot: bool,
}

/// A step of a path.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Step {
    number: u32,
    hardened: bool,
}

/// How a path ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Wildcard {
    None,
    /// `*`
    Normal,
    /// `*h`
    Hardened,
}

/// A key as it was written, and what is public of it.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Base {
    written: String,
    public: String,
    private: bool,
}

/// A key expression.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Key {
    /// Fingerprint in lower-case hex, and the path from there to the key.
    origin: Option<(String, Vec<Step>)>,
    base: Base,
    path: Vec<Step>,
    /// Where in `path` a choice stands, and the steps to choose from (BIP389). None: no choice.
    choice: Option<(usize, Vec<Step>)>,
    wildcard: Wildcard,
    /// Hardened steps are written with an apostrophe, not with `h`: as the last one of the
    /// expression was.
    apostrophe: bool,
}

impl Key {
    /// Parses a key expression, with the error texts of Core (`ParsePubkey`), so that clients
    /// recognise the same mistakes.
    pub(super) fn parse(text: &str, rules: KeyRules, network: Network) -> Result<Self, String> {
        let mut apostrophe = false;
        let (origin, rest) = match text.split_once(']') {
            None => (None, text),
            Some((_, rest)) if rest.contains(']') => {
                return Err("Multiple ']' characters found for a single pubkey".to_owned());
            }
            Some((origin, rest)) => (Some(parse_origin(origin, &mut apostrophe)?), rest),
        };
        let mut parts = rest.split('/');
        let written = parts.next().unwrap_or_default();
        let mut steps: Vec<&str> = parts.collect();
        let base = parse_base(written, steps.is_empty(), rules, network)?;
        let wildcard = match steps.last() {
            Some(&"*") => Wildcard::Normal,
            Some(&last @ ("*'" | "*h")) => {
                apostrophe = last == "*'";
                Wildcard::Hardened
            }
            _ => Wildcard::None,
        };
        if wildcard != Wildcard::None {
            steps.pop();
        }
        let (path, choice) = parse_path(&steps, &mut apostrophe, true)?;
        Ok(Self {
            origin,
            base,
            path,
            choice,
            wildcard,
            apostrophe,
        })
    }

    /// Whether a private key was given.
    pub(super) fn is_private(&self) -> bool {
        self.base.private
    }

    /// Whether it stands for many keys.
    pub(super) fn is_ranged(&self) -> bool {
        self.wildcard != Wildcard::None
    }

    /// The number of paths that it stands for (BIP389); 1 without a choice.
    pub(super) fn paths(&self) -> usize {
        self.choice.as_ref().map_or(1, |(_, steps)| steps.len())
    }

    /// Path number `branch` of the expression, without private keys, as Core writes it.
    pub(super) fn public(&self, branch: usize) -> String {
        self.write(&self.base.public, branch, None)
    }

    /// Key number `index` on path number `branch`, with private keys where they were given.
    pub(super) fn at(&self, branch: usize, index: u32) -> String {
        self.write(&self.base.written, branch, Some(index))
    }

    fn write(&self, base: &str, branch: usize, index: Option<u32>) -> String {
        let mut text = String::new();
        if let Some((fingerprint, path)) = &self.origin {
            text.push('[');
            text.push_str(fingerprint);
            path.iter()
                .for_each(|step| self.write_step(&mut text, *step));
            text.push(']');
        }
        text.push_str(base);
        for (at, step) in self.path.iter().enumerate() {
            let chosen = match &self.choice {
                Some((choice, steps)) if *choice == at => steps.get(branch),
                _ => None,
            };
            self.write_step(&mut text, *chosen.unwrap_or(step));
        }
        let hardened = self.wildcard == Wildcard::Hardened;
        match (self.is_ranged(), index) {
            (false, _) => {}
            (true, Some(number)) => self.write_step(&mut text, Step { number, hardened }),
            (true, None) => {
                text.push_str("/*");
                self.write_marker(&mut text, hardened);
            }
        }
        text
    }

    fn write_step(&self, text: &mut String, step: Step) {
        text.push('/');
        text.push_str(&step.number.to_string());
        self.write_marker(text, step.hardened);
    }

    fn write_marker(&self, text: &mut String, hardened: bool) {
        if hardened {
            text.push(if self.apostrophe { '\'' } else { 'h' });
        }
    }
}

fn parse_origin(text: &str, apostrophe: &mut bool) -> Result<(String, Vec<Step>), String> {
    let Some(inside) = text.strip_prefix('[') else {
        // An empty origin begins with the bracket that ends it.
        let first = text.chars().next().unwrap_or(']');
        return Err(format!(
            "Key origin start '[ character expected but not found, got '{first}' instead"
        ));
    };
    let mut parts = inside.split('/');
    let fingerprint = parts.next().unwrap_or_default();
    if fingerprint.len() != 8 {
        return Err(format!(
            "Fingerprint is not 4 bytes ({} characters instead of 8 characters)",
            fingerprint.len()
        ));
    }
    let Some(bytes) = unhex(fingerprint) else {
        return Err(format!("Fingerprint '{fingerprint}' is not hex"));
    };
    let steps: Vec<&str> = parts.collect();
    let (path, _) = parse_path(&steps, apostrophe, false)?;
    Ok((hex(&bytes), path))
}

type Path = (Vec<Step>, Option<(usize, Vec<Step>)>);

fn parse_path(steps: &[&str], apostrophe: &mut bool, may_choose: bool) -> Result<Path, String> {
    let mut path = Vec::with_capacity(steps.len());
    let mut choice = None;
    for step in steps {
        let inside = step
            .strip_prefix('<')
            .and_then(|step| step.strip_suffix('>'));
        let Some(inside) = inside else {
            path.push(parse_step(step, apostrophe)?);
            continue;
        };
        if !may_choose {
            return Err(format!(
                "Key path value '{step}' specifies multipath in a section where multipath is not allowed"
            ));
        }
        if choice.is_some() {
            return Err("Multiple multipath key path specifiers found".to_owned());
        }
        let steps = parse_choice(inside, apostrophe)?;
        let Some(first) = steps.first() else { continue };
        path.push(*first);
        choice = Some((path.len() - 1, steps));
    }
    Ok((path, choice))
}

fn parse_choice(inside: &str, apostrophe: &mut bool) -> Result<Vec<Step>, String> {
    if !inside.contains(';') {
        return Err("Multipath key path specifiers must have at least two items".to_owned());
    }
    let mut seen = BTreeSet::new();
    let mut steps = Vec::new();
    for number in inside.split(';') {
        let step = parse_step(number, apostrophe)?;
        if !seen.insert(step) {
            let index = step.number | u32::from(step.hardened) << 31;
            return Err(format!(
                "Duplicated key path value {index} in multipath specifier"
            ));
        }
        steps.push(step);
    }
    Ok(steps)
}

fn parse_step(text: &str, apostrophe: &mut bool) -> Result<Step, String> {
    let marker = text
        .chars()
        .last()
        .filter(|last| matches!(last, '\'' | 'h'));
    let digits = match marker {
        Some(_) => &text[..text.len() - 1],
        None => text,
    };
    if let Some(marker) = marker {
        *apostrophe = marker == '\'';
    }
    let is_number = !digits.is_empty() && digits.bytes().all(|digit| digit.is_ascii_digit());
    let Some(number) = digits.parse::<u32>().ok().filter(|_| is_number) else {
        return Err(format!("Key path value '{digits}' is not a valid uint32"));
    };
    if number > MAX_STEP {
        return Err(format!("Key path value {number} is out of range"));
    }
    Ok(Step {
        number,
        hardened: marker.is_some(),
    })
}

/// Reads the key itself. `alone`: no path follows it.
fn parse_base(text: &str, alone: bool, rules: KeyRules, network: Network) -> Result<Base, String> {
    if text.is_empty() {
        return Err("No key provided".to_owned());
    }
    if text.starts_with(' ') || text.ends_with(' ') {
        return Err(format!("Key '{text}' is invalid due to whitespace"));
    }
    if alone {
        if let Some(bytes) = unhex(text) {
            return parse_public(text, &bytes, rules);
        }
        if let Some(key) = PrivateKey::from_wif(text, network) {
            if !key.compressed && !rules.uncompressed {
                return Err("Uncompressed keys are not allowed".to_owned());
            }
            let public = key.public();
            let public = match rules.taproot {
                true => hex(&public.x_only_public_key().0.serialize()),
                false => hex(&key.serialize(&public)),
            };
            return Ok(Base {
                written: text.to_owned(),
                public,
                private: true,
            });
        }
    }
    if text.len() > MAX_EXTENDED {
        return Err(format!("key '{text}' is not valid"));
    }
    let of_network = |kind: NetworkKind| kind == NetworkKind::from(network);
    let public = Xpub::from_str(text)
        .ok()
        .filter(|key| of_network(key.network));
    let private = Xpriv::from_str(text)
        .ok()
        .filter(|key| of_network(key.network));
    let is_private = private.is_some();
    let neutered = private.map(|key| Xpub::from_priv(&Secp256k1::new(), &key));
    match public.or(neutered) {
        Some(public) => Ok(Base {
            written: text.to_owned(),
            public: public.to_string(),
            private: is_private,
        }),
        None => Err(format!("key '{text}' is not valid")),
    }
}

fn parse_public(text: &str, bytes: &[u8], rules: KeyRules) -> Result<Base, String> {
    let of = |public: String| Base {
        written: public.clone(),
        public,
        private: false,
    };
    if bytes.len() == 65 && matches!(bytes.first(), Some(6 | 7)) {
        return Err("Hybrid public keys are not allowed".to_owned());
    }
    if matches!(bytes.len(), 33 | 65) && PublicKey::from_slice(bytes).is_ok() {
        if bytes.len() == 65 && !rules.uncompressed {
            return Err("Uncompressed keys are not allowed".to_owned());
        }
        return Ok(of(hex(bytes)));
    }
    if rules.taproot && XOnlyPublicKey::from_slice(bytes).is_ok() {
        return Ok(of(hex(bytes)));
    }
    Err(format!("Pubkey '{text}' is invalid"))
}

/// A private key, and in which form its public key is used.
#[derive(Clone, Copy)]
pub(crate) struct PrivateKey {
    pub(crate) secret: SecretKey,
    pub(crate) compressed: bool,
}

impl PrivateKey {
    /// Reads the wallet import format of a network; `None`: it is none. Core `DecodeSecret`.
    pub(crate) fn from_wif(text: &str, network: Network) -> Option<Self> {
        const MAIN: u8 = 128;
        const TEST: u8 = 239;
        /// More characters than 34 bytes and their checksum can have.
        const TOO_LONG: usize = 64;

        if text.len() >= TOO_LONG {
            return None;
        }
        let data = base58::decode_check(text).ok()?;
        let (prefix, key) = data.split_first()?;
        let expected = match NetworkKind::from(network) {
            NetworkKind::Main => MAIN,
            NetworkKind::Test => TEST,
        };
        let (secret, compressed) = match key.len() {
            32 => (key, false),
            33 if key.last() == Some(&1) => (&key[..32], true),
            _ => return None,
        };
        let secret = SecretKey::from_slice(secret).ok()?;
        (*prefix == expected).then_some(Self { secret, compressed })
    }

    fn public(&self) -> PublicKey {
        PublicKey::from_secret_key(&Secp256k1::new(), &self.secret)
    }

    fn serialize(&self, public: &PublicKey) -> Vec<u8> {
        match self.compressed {
            true => public.serialize().to_vec(),
            false => public.serialize_uncompressed().to_vec(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const RULES: KeyRules = KeyRules {
        uncompressed: true,
        taproot: false,
    };
    const XPUB: &str = "tpubD6NzVbkrYhZ4WaWSyoBvQwbpLkojyoTZPRsgXELWz3Popb3qkjcJyJUGLnL4qHHoQvao8ESaAstxYSnhyswJ76uZPStJRJCTKvosUCJZL5B";
    const WIF: &str = "cMahea7zqjxrtgAbB7LSGbcQUr1uX1ojuat9jZodMN87JcbXMTcA";
    const KEY: &str = "0279be667ef9dcbbac55a06295ce870b07029bfcdb2dce28d959f2815b16f81798";

    fn parse(text: &str) -> Result<Key, String> {
        Key::parse(text, RULES, Network::Regtest)
    }

    #[test]
    fn a_key_is_written_with_one_marker_and_its_choice_and_index() {
        let text = format!("[D34DB33F/44'/0h]{XPUB}/<0;1>/07h/*");
        let key = parse(&text).expect("valid");
        assert!(key.is_ranged() && !key.is_private() && key.paths() == 2);
        assert_eq!(
            key.public(1),
            format!("[d34db33f/44h/0h]{XPUB}/1/7h/*"),
            "the last marker is that of the path"
        );
        assert_eq!(key.at(0, 9), format!("[d34db33f/44h/0h]{XPUB}/0/7h/9"));
    }

    #[test]
    fn nothing_private_is_in_the_public_form() {
        let key = parse(WIF).expect("valid");
        assert!(key.is_private());
        assert_eq!((key.public(0), key.at(0, 0)), (KEY.into(), WIF.into()));
        let taproot = KeyRules {
            uncompressed: false,
            taproot: true,
        };
        let key = Key::parse(WIF, taproot, Network::Regtest).expect("valid");
        assert_eq!(key.public(0), KEY[2..]);
    }

    #[test]
    fn keys_of_another_network_and_malformed_ones_are_refused() {
        for (text, message) in [
            ("", "No key provided"),
            ("02", "Pubkey '02' is invalid"),
            (" x", "Key ' x' is invalid due to whitespace"),
            ("nonsense", "key 'nonsense' is not valid"),
            (
                "[00]x",
                "Fingerprint is not 4 bytes (2 characters instead of 8 characters)",
            ),
            ("[zzzzzzzz]x", "Fingerprint 'zzzzzzzz' is not hex"),
            (
                "x]y",
                "Key origin start '[ character expected but not found, got 'x' instead",
            ),
            ("[]]", "Multiple ']' characters found for a single pubkey"),
        ] {
            assert_eq!(parse(text), Err(message.to_owned()), "{text}");
        }
        for (path, message) in [
            ("x", "Key path value 'x' is not a valid uint32"),
            ("+1", "Key path value '+1' is not a valid uint32"),
            ("é", "Key path value 'é' is not a valid uint32"),
            ("2147483648", "Key path value 2147483648 is out of range"),
            (
                "<1>",
                "Multipath key path specifiers must have at least two items",
            ),
            (
                "<1;1>",
                "Duplicated key path value 1 in multipath specifier",
            ),
            (
                "<1;2>/<1;2>",
                "Multiple multipath key path specifiers found",
            ),
        ] {
            let text = format!("{XPUB}/{path}");
            assert_eq!(parse(&text), Err(message.to_owned()), "{text}");
        }
        let foreign = Key::parse(WIF, RULES, Network::Bitcoin);
        assert_eq!(foreign, Err(format!("key '{WIF}' is not valid")));
        assert!(PrivateKey::from_wif(&"1".repeat(1_000_000), Network::Regtest).is_none());
    }
}
