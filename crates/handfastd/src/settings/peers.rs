//! Listening addresses, own addresses, and manual peers.

use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener};

use handfast_cli::keys::Many;
use handfast_cli::values::{addresses, bad};
use handfast_cli::{Layers, Origin, SettingsError, keys};
use handfast_node::{Network, is_peer_name, is_routable, overlay_network};

use super::RunError;

pub(super) fn listen(layers: &Layers, network: &Network) -> Result<Vec<SocketAddr>, RunError> {
    let given = addresses(layers, keys::LISTEN, network.p2p_port())?;
    match (
        layers.flag(keys::NO_LISTEN),
        layers.given(keys::LISTEN).map(|given| &given.origin),
    ) {
        (Some(a), Some(b)) if a.same_layer(b) && !given.is_empty() => Err(RunError::Conflict(
            b.reference(keys::LISTEN),
            a.reference(keys::NO_LISTEN),
        )),
        // The command line has precedence over the file for either option.
        (Some(_), Some(Origin::CommandLine)) => Ok(given),
        (Some(_), _) => Ok(Vec::new()),
        (None, _) if given.is_empty() => Ok(default_listen(network)),
        (None, _) => Ok(given),
    }
}

/// The addresses under which peers reach this node. On regtest any address is allowed.
pub(super) fn external(
    layers: &Layers,
    network: &Network,
) -> Result<Vec<SocketAddr>, SettingsError> {
    let key = keys::EXTERNAL_IP;
    let found = addresses(layers, key, 0)?;
    let useless = |addr: &SocketAddr| {
        let ip = addr.ip();
        let private = *network != Network::Regtest && !is_routable(ip);
        private || ip.is_unspecified() || ip.is_multicast()
    };
    match layers.many(key).zip(&found).find(|(_, addr)| useless(addr)) {
        Some(((origin, text), _)) => Err(bad(
            origin,
            key,
            text,
            "an address by which other machines can reach this one over the internet",
        )),
        None => Ok(found),
    }
}

/// Whether to discover our own address from peers, if an option says so.
pub(super) fn discover(layers: &Layers) -> Result<Option<bool>, RunError> {
    match (layers.flag(keys::DISCOVER), layers.flag(keys::NO_DISCOVER)) {
        (Some(a), Some(b)) if a.same_layer(b) => Err(RunError::Conflict(
            a.reference(keys::DISCOVER),
            b.reference(keys::NO_DISCOVER),
        )),
        // The command line has precedence over the file for either option.
        (Some(Origin::CommandLine), _) | (Some(_), None) => Ok(Some(true)),
        (_, Some(_)) => Ok(Some(false)),
        (None, None) => Ok(None),
    }
}

/// Every address of the machine; on regtest loopback only.
fn default_listen(network: &Network) -> Vec<SocketAddr> {
    let port = network.p2p_port();
    if *network == Network::Regtest {
        return vec![(Ipv4Addr::LOCALHOST, port).into()];
    }
    let mut addresses = vec![SocketAddr::from((Ipv4Addr::UNSPECIFIED, port))];
    // A machine without IPv6 can start all the same.
    if TcpListener::bind((Ipv6Addr::LOCALHOST, 0)).is_ok() {
        addresses.push((Ipv6Addr::UNSPECIFIED, port).into());
    }
    addresses
}

/// Names or addresses of peers; names are resolved later.
pub(super) fn peers(layers: &Layers, key: Many) -> Result<Vec<String>, SettingsError> {
    let check = |(origin, text): (&Origin, &str)| {
        let host = text.rsplit_once(':').map_or(text, |(host, _)| host);
        if overlay_network(host).is_some() {
            let wanted = "an address that Handfast can dial: it has no proxy for onion and i2p";
            return Err(bad(origin, key, text, wanted));
        }
        match is_peer_name(text) {
            true => Ok(text.to_owned()),
            false => Err(bad(
                origin,
                key,
                text,
                "a host name or IP address with an optional port, such as 192.0.2.7:8333",
            )),
        }
    };
    layers.many(key).map(check).collect()
}
