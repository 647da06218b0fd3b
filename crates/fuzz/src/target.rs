//! Whom it may be pointed at.
//!
//! # Security
//! This is a load tool. By itself it goes to this machine and to private networks only; a
//! public address needs the operator's word, and the main network is refused altogether.

use std::net::{IpAddr, Ipv6Addr, SocketAddr};

use handfast_wire::Network;

/// Why a target is refused. `Display` is one line: the cause and the remedy.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// The main network, whoever operates the node.
    #[error("mainnet is not a network to fuzz; run the node with --network regtest or signet")]
    Mainnet,
    /// An address that others can have.
    #[error(
        "{0} is a public address: this is a load tool, for nodes of one's own; if you operate \
         this one, say --i-operate-this-node"
    )]
    Public(SocketAddr),
    /// Nobody can be connected to there.
    #[error("{0} is not an address that can be connected to")]
    NotAHost(SocketAddr),
}

/// Whether `target` may be fuzzed. `own`: somebody said that they operate it.
///
/// # Errors
/// Why not.
pub fn permit(target: SocketAddr, network: &Network, own: bool) -> Result<(), Refusal> {
    if *network == Network::Mainnet {
        return Err(Refusal::Mainnet);
    }
    let ip = target.ip().to_canonical();
    if ip.is_unspecified() || ip.is_multicast() || target.port() == 0 {
        return Err(Refusal::NotAHost(target));
    }
    match own || is_local(ip) {
        true => Ok(()),
        false => Err(Refusal::Public(target)),
    }
}

/// This machine, this link, or a network that is nobody's in public (RFC 1918, 3927, 4193,
/// 4291, 6598).
fn is_local(ip: IpAddr) -> bool {
    match ip {
        IpAddr::V4(ip) => {
            let [a, b, ..] = ip.octets();
            let shared = a == 100 && (64..128).contains(&b);
            ip.is_loopback() || ip.is_private() || ip.is_link_local() || shared
        }
        IpAddr::V6(ip) => {
            ip == Ipv6Addr::LOCALHOST || ip.is_unique_local() || ip.is_unicast_link_local()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn permitted(address: &str, own: bool) -> bool {
        let address = address.parse().expect("an address");
        permit(address, &Network::Regtest, own).is_ok()
    }

    #[test]
    fn this_machine_and_private_networks_are_permitted_and_others_by_word_only() {
        for local in [
            "127.0.0.1:18444",
            "127.9.9.9:1",
            "[::1]:18444",
            "10.1.2.3:18444",
            "172.16.0.1:18444",
            "172.31.255.255:18444",
            "192.168.1.1:18444",
            "169.254.1.1:18444",
            "100.64.0.1:18444",
            "[fd00::1]:18444",
            "[fe80::1]:18444",
            "[::ffff:10.0.0.1]:18444",
        ] {
            assert!(permitted(local, false), "{local}");
        }
        for public in [
            "8.8.8.8:18444",
            "172.32.0.1:18444",
            "172.15.0.1:18444",
            "100.128.0.1:18444",
            "192.169.0.1:18444",
            "[2600::1]:18444",
            "[::ffff:8.8.8.8]:18444",
        ] {
            assert!(!permitted(public, false), "{public}");
            assert!(permitted(public, true), "{public}");
        }
        for nowhere in ["0.0.0.0:18444", "127.0.0.1:0", "224.0.0.1:1", "[::]:1"] {
            assert!(!permitted(nowhere, true), "{nowhere}");
        }
    }

    #[test]
    fn the_main_network_is_refused_whatever_anybody_says() {
        let address = "127.0.0.1:8333".parse().expect("an address");
        assert_eq!(
            permit(address, &Network::Mainnet, true),
            Err(Refusal::Mainnet)
        );
    }
}
