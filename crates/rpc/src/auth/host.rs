//! Whether the `Host` header of a request names this machine.
//!
//! A page in a browser may read what its own host serves. Its owner controls that host's name,
//! and can resolve it first to the page's server and then to `127.0.0.1` ("DNS rebinding"): the
//! page then reads what this node serves without a password. The browser still sends that name in
//! `Host`. So IP addresses, `localhost` and configured names are accepted, and no others.

use std::net::{Ipv4Addr, Ipv6Addr};

/// Whether `host`, the value of a `Host` header, names this machine. `names`: the configured
/// ones.
pub(super) fn is_ours(host: &str, names: &[String]) -> bool {
    let host = host.trim();
    // A request without a host, which no browser sends.
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
    fn addresses_localhost_and_configured_names_are_own_hosts_and_no_others() {
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
