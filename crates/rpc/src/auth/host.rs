//! Whether a request names this machine as its callers do.
//!
//! A page in somebody's browser may read what comes from the host that the page came from.
//! Its owner, who also owns the host's name, lets the name stand for the page's server first
//! and for `127.0.0.1` then ("DNS rebinding"), and the page reads what this node serves
//! without a password. What the browser cannot do is to call the host by another name: the
//! `Host` of such a request is a name of the page's owner. So an address, `localhost`, and
//! what the operator has named are ours, and no other name is.

use std::net::{Ipv4Addr, Ipv6Addr};

/// Whether `host`, the value of a `Host` header, stands for this machine: `names` are those
/// that the operator has given it.
pub(super) fn is_ours(host: &str, names: &[String]) -> bool {
    let host = host.trim();
    // Of a request without a host, which no browser sends.
    if host.is_empty() {
        return true;
    }
    if let Some(rest) = host.strip_prefix('[') {
        let parts = rest.split_once(']');
        return parts.is_some_and(|(address, port)| {
            address.parse::<Ipv6Addr>().is_ok() && (port.is_empty() || port.starts_with(':'))
        });
    }
    let name = host.split_once(':').map_or(host, |(name, _)| name);
    let name = name.strip_suffix('.').unwrap_or(name);
    name.parse::<Ipv4Addr>().is_ok()
        || name.eq_ignore_ascii_case("localhost")
        || names.iter().any(|own| own.eq_ignore_ascii_case(name))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_and_localhost_and_names_of_the_operator_are_ours_and_no_other_name() {
        let names = ["node.lan".to_owned()];
        for ours in [
            "",
            "127.0.0.1",
            "127.0.0.1:8332",
            "192.0.2.7:8332",
            "[::1]",
            "[::1]:8332",
            "localhost",
            "LocalHost:8332",
            "localhost.",
            "node.lan:8332",
            "NODE.lan.",
        ] {
            assert!(is_ours(ours, &names), "{ours}");
        }
        for other in [
            "evil.example",
            "evil.example:8332",
            "127.0.0.1.evil.example",
            "localhost.evil.example",
            "evil.localhost",
            "node.lan.evil.example",
            "[::1].evil.example",
            "[evil.example]",
            "[::1",
            "x",
            "127.0.0.1@evil.example",
            "::1",
        ] {
            assert!(!is_ours(other, &names), "{other}");
        }
    }
}
