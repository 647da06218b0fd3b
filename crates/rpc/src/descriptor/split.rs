//! Descriptors as text: functions, and their arguments.

use bitcoin::{Address, Network};

use crate::render::{address, hex, unhex};

use super::key::{Key, KeyRules};

/// Core `MAX_PUBKEYS_PER_MULTISIG`, and its limit inside of `tr()`.
const MAX_KEYS: usize = 20;
const MAX_KEYS_TAPROOT: usize = 999;
/// Most keys of a multisig that is no script hash (policy).
const MAX_BARE_KEYS: usize = 3;
/// Most bytes of a script behind a P2SH output. Core `MAX_SCRIPT_ELEMENT_SIZE`.
const MAX_REDEEM_SCRIPT: usize = 520;

/// A part of a descriptor's text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Piece {
    /// What is written again as it is.
    Text(String),
    /// A key expression.
    Key(Key),
}

/// A function whose parenthesis is open.
struct Function<'a> {
    name: &'a str,
    /// The number of the argument that is being read.
    argument: usize,
    threshold: &'a str,
    /// Bytes of its keys, each with the push before it.
    key_bytes: usize,
}

impl Function<'_> {
    fn is_multi(&self) -> bool {
        matches!(
            self.name,
            "multi" | "sortedmulti" | "multi_a" | "sortedmulti_a"
        )
    }

    fn takes_key(&self) -> bool {
        match fragment(self.name) {
            "pk" | "pkh" | "pk_k" | "pk_h" | "wpkh" | "combo" | "rawtr" => true,
            "tr" => self.argument == 0,
            _ => self.is_multi() && self.argument > 0,
        }
    }

    fn takes_number(&self) -> bool {
        let first = matches!(fragment(self.name), "thresh" | "older" | "after");
        self.argument == 0 && (first || self.is_multi())
    }
}

/// The name without the wrappers before a colon.
fn fragment(name: &str) -> &str {
    name.rsplit(':').next().unwrap_or(name)
}

/// Splits a descriptor without its checksum.
pub(super) fn split(body: &str, network: Network) -> Result<Vec<Piece>, String> {
    let mut reader = Reader {
        network,
        pieces: Vec::new(),
        open: Vec::new(),
    };
    let mut rest = body;
    // Whether a function has just ended: then a separator must follow.
    let mut ended = false;
    while let Some(at) = rest.find(['(', ')', ',', '{', '}']) {
        let (word, from) = rest.split_at(at);
        let mark = from.chars().next().unwrap_or(')');
        match mark {
            '(' => reader.open(word),
            _ if ended && word.is_empty() => {}
            '{' if word.is_empty() => {}
            _ => reader.argument(word)?,
        }
        reader.text(mark.to_string());
        match mark {
            ',' => reader.next(),
            ')' => reader.close()?,
            _ => {}
        }
        ended = matches!(mark, ')' | '}');
        rest = &from[mark.len_utf8()..];
    }
    reader.text(rest.to_owned());
    Ok(reader.pieces)
}

struct Reader<'a> {
    network: Network,
    pieces: Vec<Piece>,
    open: Vec<Function<'a>>,
}

impl<'a> Reader<'a> {
    fn text(&mut self, text: String) {
        match self.pieces.last_mut() {
            Some(Piece::Text(last)) => last.push_str(&text),
            _ => self.pieces.push(Piece::Text(text)),
        }
    }

    fn open(&mut self, name: &'a str) {
        self.text(name.to_owned());
        self.open.push(Function {
            name,
            argument: 0,
            threshold: "",
            key_bytes: 0,
        });
    }

    fn next(&mut self) {
        if let Some(function) = self.open.last_mut() {
            function.argument += 1;
        }
    }

    fn argument(&mut self, word: &'a str) -> Result<(), String> {
        let Some(function) = self.open.last() else {
            self.text(word.to_owned());
            return Ok(());
        };
        if function.takes_key() {
            return self.key(word);
        }
        if function.takes_number() {
            if let Some(function) = self.open.last_mut() {
                function.threshold = word;
            }
            // Without the zeros that may lead.
            let number = word.parse::<u32>().map(|number| number.to_string());
            self.text(number.unwrap_or_else(|_| word.to_owned()));
            return Ok(());
        }
        let text = match fragment(function.name) {
            "raw" | "sha256" | "hash256" | "ripemd160" | "hash160" => {
                unhex(word).map(|bytes| hex(&bytes))
            }
            "addr" => address::script_of(word, self.network)
                .and_then(|script| Address::from_script(&script, self.network).ok())
                .map(|address| address.to_string()),
            _ => None,
        };
        self.text(text.unwrap_or_else(|| word.to_owned()));
        Ok(())
    }

    fn key(&mut self, word: &str) -> Result<(), String> {
        let inside = |name: &str| self.open.iter().any(|function| function.name == name);
        let taproot = inside("tr") || inside("rawtr");
        let rules = KeyRules {
            uncompressed: !(taproot || inside("wsh") || inside("wpkh")),
            taproot,
        };
        let name = self.open.last().map_or("", |function| function.name);
        let key = Key::parse(word, rules, self.network).map_err(|error| match name {
            "multi" | "sortedmulti" | "multi_a" | "sortedmulti_a" => format!("Multi: {error}"),
            "pk" | "pkh" | "combo" | "wpkh" | "tr" | "rawtr" => format!("{name}(): {error}"),
            _ => error,
        })?;
        if let Some(function) = self.open.last_mut() {
            // Keys that are not written in hex are compressed ones of 33 bytes.
            let long = key.public(0).len() == 130;
            function.key_bytes += if long { 66 } else { 34 };
        }
        self.pieces.push(Piece::Key(key));
        Ok(())
    }

    fn close(&mut self) -> Result<(), String> {
        let Some(function) = self.open.pop() else {
            return Ok(());
        };
        if !function.is_multi() {
            return Ok(());
        }
        self.check_multi(&function)
    }

    /// Core's limits, in Core's order and words.
    fn check_multi(&self, function: &Function<'_>) -> Result<(), String> {
        let (text, keys) = (function.threshold, function.argument);
        let Ok(threshold) = text.parse::<u32>() else {
            return Err(format!("Multi threshold '{text}' is not valid"));
        };
        let (name, most) = match function.name.ends_with("_a") {
            true => ("multi_a", MAX_KEYS_TAPROOT),
            false => ("multisig", MAX_KEYS),
        };
        if !(1..=most).contains(&keys) {
            return Err(format!(
                "Cannot have {keys} keys in {name}; must have between 1 and {most} keys, inclusive"
            ));
        }
        if threshold < 1 {
            return Err(format!(
                "Multisig threshold cannot be {threshold}, must be at least 1"
            ));
        }
        if threshold as usize > keys {
            return Err(format!(
                "Multisig threshold cannot be larger than the number of keys; \
                 threshold is {threshold} but only {keys} keys specified"
            ));
        }
        let around = self.open.last().map(|function| function.name);
        if around.is_none() && keys > MAX_BARE_KEYS {
            return Err(format!(
                "Cannot have {keys} pubkeys in bare multisig; only at most {MAX_BARE_KEYS} pubkeys"
            ));
        }
        let size = function.key_bytes + 3;
        if around == Some("sh") && size > MAX_REDEEM_SCRIPT {
            return Err(format!(
                "P2SH script is too large, {size} bytes is larger than {MAX_REDEEM_SCRIPT} bytes"
            ));
        }
        Ok(())
    }
}
