//! What an operator may call a peer.

use std::net::SocketAddr;

use crate::address_book::{canonical, read_ip};

/// What a name stands for.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Target {
    /// An address.
    Address(SocketAddr),
    /// A host to be looked up.
    Host {
        /// Its name.
        host: String,
        /// The port to dial.
        port: u16,
    },
}

/// Reads `ADDRESS`, `ADDRESS:PORT`, `[IPV6]:PORT`, `HOST` or `HOST:PORT`; of an address every
/// spelling ([`read_ip`]).
///
/// Total: what is no address is a host, and one that cannot exist fails when it is
/// looked up.
#[must_use]
pub fn parse_target(name: &str, default_port: u16) -> Target {
    let name = name.trim();
    if let Ok(addr) = name.parse::<SocketAddr>() {
        return Target::Address(canonical(addr));
    }
    if let Some(ip) = read_ip(name) {
        return Target::Address(SocketAddr::new(ip, default_port));
    }
    let (host, port) = match name.rsplit_once(':') {
        Some((host, port)) => match port.parse() {
            Ok(port) => (host, port),
            Err(_) => (name, default_port),
        },
        None => (name, default_port),
    };
    if let Some(ip) = read_ip(host) {
        return Target::Address(SocketAddr::new(ip, port));
    }
    Target::Host {
        host: host.to_owned(),
        port,
    }
}
