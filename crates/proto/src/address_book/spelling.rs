//! The text forms of one address.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

/// Parses an address in any form that `inet_aton` and `inet_pton` accept, as
/// Bitcoin Core does: `127.0.0.1`, `127.1`, `0x7f.1`, `2130706433`, `::ffff:127.0.0.1` and
/// `[::ffff:7f00:1]` are one address. No host names, no scopes.
#[must_use]
pub fn read_ip(text: &str) -> Option<IpAddr> {
    let bare = text
        .strip_prefix('[')
        .and_then(|rest| rest.strip_suffix(']'))
        .unwrap_or(text);
    let ip = bare.parse::<IpAddr>().ok().map(|ip| ip.to_canonical());
    ip.or_else(|| short_v4(text).map(IpAddr::V4))
}

/// One to four numbers with dots between them; the last one fills the remaining bytes.
fn short_v4(text: &str) -> Option<Ipv4Addr> {
    let parts: Vec<&str> = text.split('.').collect();
    let (last, bytes) = parts.split_last()?;
    let left = 4usize.checked_sub(bytes.len()).filter(|left| *left > 0)?;
    let mut bits = 0u32;
    for (place, part) in bytes.iter().enumerate() {
        let byte = u8::try_from(number(part)?).ok()?;
        bits |= u32::from(byte) << (24 - 8 * place);
    }
    let last = number(last)?;
    // With three numbers before it the last is a byte, and so on.
    if left < 4 && last >> (8 * left) != 0 {
        return None;
    }
    Some(Ipv4Addr::from_bits(bits | last))
}

/// Decimal, octal with a leading 0, or hexadecimal with 0x.
fn number(text: &str) -> Option<u32> {
    let lower = text.to_ascii_lowercase();
    let (digits, radix) = match (lower.strip_prefix("0x"), lower.strip_prefix('0')) {
        (Some(digits), _) => (digits, 16),
        (None, Some(digits)) if !digits.is_empty() => (digits, 8),
        (None, _) => (lower.as_str(), 10),
    };
    let all_digits = digits.chars().all(|digit| digit.is_digit(radix));
    (all_digits && !digits.is_empty())
        .then(|| u32::from_str_radix(digits, radix).ok())
        .flatten()
}

/// The network of a name that is an address there, if it is not IP: `onion` or `i2p`. Such a name
/// must never be resolved.
#[must_use]
pub fn overlay_network(host: &str) -> Option<&'static str> {
    let host = host.trim().trim_end_matches('.').to_ascii_lowercase();
    let of = |suffix| host.ends_with(suffix);
    match (of(".onion"), of(".i2p")) {
        (true, _) => Some("onion"),
        (_, true) => Some("i2p"),
        (false, false) => None,
    }
}

/// Whether `text` is `ADDRESS`, `ADDRESS:PORT`, `[IPV6]:PORT`, `HOST` or `HOST:PORT`: what can be
/// resolved or dialled. An address may be in any form of [`read_ip`].
#[must_use]
pub fn is_peer_name(text: &str) -> bool {
    let text = text.trim();
    if read_ip(text).is_some() {
        return true;
    }
    if let Ok(addr) = text.parse::<SocketAddr>() {
        return addr.port() != 0;
    }
    let (host, port) = match text.rsplit_once(':') {
        Some((host, port)) => (host, port.parse().unwrap_or(0)),
        None => (text, 1),
    };
    port != 0u16 && (read_ip(host).is_some_and(|ip| ip.is_ipv4()) || is_host_name(host))
}

/// Whether it can be a host name (RFC 1123; underscores are seen in the wild). A name that ends in
/// a number is an IP address or invalid, as for browsers: `300.1.1.1` is no host.
fn is_host_name(host: &str) -> bool {
    const MAX_NAME: usize = 253;
    const MAX_LABEL: usize = 63;
    let host = host.strip_suffix('.').unwrap_or(host);
    let label = |label: &str| {
        let letters = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_';
        (1..=MAX_LABEL).contains(&label.len())
            && label.chars().all(letters)
            && !label.starts_with('-')
            && !label.ends_with('-')
    };
    let last = host.rsplit('.').next().unwrap_or_default();
    host.len() <= MAX_NAME
        && host.split('.').all(label)
        && !last.chars().all(|c| c.is_ascii_digit())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_peer_name_is_a_host_or_address_with_a_valid_port() {
        for name in [
            "192.0.2.7",
            "192.0.2.7:8333",
            "127.1:18444",
            "[2001:470::7]:8333",
            "2001:470::7",
            "node.example",
            "node.example:1",
            "a_b.example.",
        ] {
            assert!(is_peer_name(name), "{name}");
        }
        for name in [
            "",
            "1.2.3.4:99999",
            "1.2.3.4:0",
            "1.2.3.4:",
            "300.1.1.1",
            "node.example:port",
            "-a.example",
            "a b",
            "[2001:470::7]:70000",
        ] {
            assert!(!is_peer_name(name), "{name}");
        }
    }

    #[test]
    fn every_spelling_of_an_address_is_that_address() {
        for (spellings, address) in [
            (
                &[
                    "127.0.0.1",
                    "127.1",
                    "127.0.1",
                    "0x7f.1",
                    "0X7F.0.0.0x1",
                    "0177.1",
                    "2130706433",
                    "0x7f000001",
                    "017700000001",
                    "::ffff:127.0.0.1",
                    "[::ffff:7f00:1]",
                ][..],
                "127.0.0.1",
            ),
            (&["192.0.2", "192.0.0.2", "192.2"][..2], "192.0.0.2"),
            (&["1.2.772"][..], "1.2.3.4"),
            (&["0"][..], "0.0.0.0"),
            (&["2001:470:0:0::7", "[2001:470::7]"][..], "2001:470::7"),
        ] {
            for text in spellings {
                assert_eq!(read_ip(text), address.parse().ok(), "{text}");
            }
        }
    }

    #[test]
    fn text_that_is_no_address_parses_as_none() {
        for text in [
            "",
            ".",
            "1.",
            ".1",
            "1..2",
            "256.1",
            "1.2.3.256",
            "1.2.3.4.5",
            "08.1",
            "0x",
            "0xg",
            "4294967296",
            "1.16777216",
            "-1",
            "+1",
            "1 ",
            "node.example",
            "[127.1]",
            "1.2.3.4:5",
        ] {
            assert_eq!(read_ip(text), None, "{text:?}");
        }
    }

    #[test]
    fn names_of_other_networks_are_distinguished_from_host_names() {
        assert_eq!(overlay_network("abc.onion"), Some("onion"));
        assert_eq!(overlay_network("ABC.Onion."), Some("onion"));
        assert_eq!(overlay_network("abc.b32.i2p"), Some("i2p"));
        assert_eq!(overlay_network("onion.example"), None);
        assert_eq!(overlay_network("192.0.2.7"), None);
    }
}
