//! Addresses of networks on top of the internet: Tor's onion services (version 3) and I2P.
//!
//! Handfast reaches none of them. It relays them between peers, and an operator may ban one.

use std::fmt;
use std::str::FromStr;

use bitcoin::p2p::address::AddrV2;
use sha3::{Digest, Sha3_256};

/// An address of one of these networks. Its `Display` is Core's.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Overlay {
    /// The public key of an onion service.
    Onion([u8; 32]),
    /// The hash of an I2P destination.
    I2p([u8; 32]),
}

/// The text is no address of these networks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, thiserror::Error)]
#[error("not an address of an onion service of version 3, nor of I2P")]
pub struct OverlayError;

const ONION: &str = ".onion";
const I2P: &str = ".b32.i2p";
/// The only supported version of onion services.
const ONION_VERSION: u8 = 3;
const ALPHABET: &[u8; 32] = b"abcdefghijklmnopqrstuvwxyz234567";

impl Overlay {
    /// The address in a peer's message, if it belongs to one of these networks.
    #[must_use]
    pub fn of(addr: &AddrV2) -> Option<Self> {
        match addr {
            AddrV2::TorV3(key) => Some(Self::Onion(*key)),
            AddrV2::I2p(hash) => Some(Self::I2p(*hash)),
            AddrV2::Ipv4(_)
            | AddrV2::Ipv6(_)
            | AddrV2::TorV2(_)
            | AddrV2::Cjdns(_)
            | AddrV2::Unknown(..) => None,
        }
    }
}

impl FromStr for Overlay {
    type Err = OverlayError;

    /// Parses what Core parses: the suffix of an onion service's name must be in small letters.
    fn from_str(text: &str) -> Result<Self, OverlayError> {
        let read = match text.strip_suffix(ONION) {
            Some(name) => onion(name).map(Self::Onion),
            None => {
                let text = text.to_ascii_lowercase();
                let hash = text.strip_suffix(I2P).and_then(decode::<32>);
                hash.map(Self::I2p)
            }
        };
        read.ok_or(OverlayError)
    }
}

impl fmt::Display for Overlay {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Onion(key) => {
                let [first, second] = checksum(key);
                let mut bytes = key.to_vec();
                bytes.extend([first, second, ONION_VERSION]);
                write!(f, "{}{ONION}", encode(&bytes))
            }
            Self::I2p(hash) => write!(f, "{}{I2P}", encode(hash)),
        }
    }
}

/// The key in the name of an onion service, whose checksum and version are right.
fn onion(name: &str) -> Option<[u8; 32]> {
    let bytes: [u8; 35] = decode(name)?;
    let (key, rest) = bytes.split_first_chunk::<32>()?;
    let [first, second] = checksum(key);
    (rest == [first, second, ONION_VERSION]).then_some(*key)
}

/// Checksum of an onion service's key, by Tor's specification of version 3.
fn checksum(key: &[u8; 32]) -> [u8; 2] {
    let hash = Sha3_256::new()
        .chain_update(b".onion checksum")
        .chain_update(key)
        .chain_update([ONION_VERSION])
        .finalize();
    [hash[0], hash[1]]
}

/// Base32 of RFC 4648 without padding.
fn encode(bytes: &[u8]) -> String {
    let mut text = String::new();
    let (mut bits, mut count) = (0u32, 0);
    for byte in bytes {
        bits = bits << 8 | u32::from(*byte);
        count += 8;
        while count >= 5 {
            count -= 5;
            text.push(letter(bits >> count));
        }
    }
    if count > 0 {
        text.push(letter(bits << (5 - count)));
    }
    text
}

/// The letter of the low five bits.
fn letter(bits: u32) -> char {
    char::from(ALPHABET[(bits & 31) as usize])
}

/// Decodes so many bytes from small and capital letters; `None`: other characters, or bits are
/// left.
fn decode<const BYTES: usize>(text: &str) -> Option<[u8; BYTES]> {
    if text.len() != (8 * BYTES).div_ceil(5) {
        return None;
    }
    let (mut bits, mut count) = (0u32, 0);
    let (mut bytes, mut written) = ([0; BYTES], 0);
    for letter in text.bytes() {
        let letter = letter.to_ascii_lowercase();
        let value = ALPHABET.iter().position(|known| *known == letter)?;
        bits = bits << 5 | u32::try_from(value).ok()?;
        count += 5;
        if count >= 8 {
            count -= 8;
            bytes[written] = u8::try_from(bits >> count & 0xff).ok()?;
            written += 1;
        }
    }
    let left = bits & ((1 << count) - 1);
    (written == BYTES && left == 0).then_some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The name of the key 00 01 02 … 1f.
    const NAME: &str = "aaaqeayeaudaocajbifqydiob4ibceqtcqkrmfyydenbwha5dyp3kead.onion";
    const DESTINATION: &str = "ukeu3k5oycgaauneqgtnvselmt4yemvoilkln7jpvamvfx7dnkdq.b32.i2p";

    #[test]
    fn an_address_is_read_and_written_as_core_does() {
        let key = std::array::from_fn(|n| u8::try_from(n).expect("small"));
        assert_eq!(NAME.parse(), Ok(Overlay::Onion(key)));
        assert_eq!(Overlay::Onion(key).to_string(), NAME);
        let destination: Overlay = DESTINATION.parse().expect("an address");
        assert_eq!(destination.to_string(), DESTINATION);
        let capitals = DESTINATION.to_ascii_uppercase();
        assert_eq!(capitals.parse(), Ok(destination));
        let name = NAME.trim_end_matches(ONION).to_ascii_uppercase();
        assert_eq!(format!("{name}{ONION}").parse(), Ok(Overlay::Onion(key)));
    }

    #[test]
    fn an_invalid_overlay_address_is_refused() {
        let capitals = NAME.to_ascii_uppercase();
        // The first letter differs: the checksum is wrong.
        let other = NAME.replacen('a', "b", 1);
        // The last of 260 bits exceed the 256.
        let left_over = DESTINATION.replacen("q.b32", "r.b32", 1);
        for text in [
            "",
            ".onion",
            ".b32.i2p",
            "abc.onion",
            "aaaaaaaaaaaaaaaa.onion",
            &capitals,
            &other,
            &left_over,
            &format!("{NAME}."),
            &format!("{NAME}:8333"),
            &format!("a{NAME}"),
            &NAME.replacen('q', "1", 1),
            &NAME.replacen('q', "é", 1),
            "192.0.2.7",
        ] {
            assert_eq!(text.parse::<Overlay>(), Err(OverlayError), "{text:?}");
        }
    }
}
