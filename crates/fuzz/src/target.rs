//! Which targets are allowed.
//!
//! # Security
//! This is a load tool. By default it connects to this machine and to private networks only; a
//! public address needs an option, and mainnet is always refused.

use std::net::{IpAddr, Ipv6Addr, SocketAddr};

use handfast_wire::Network;

/// Why a target is refused. `Display` is one line: the cause and the remedy.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// Mainnet, even for the operator of the node.
    #[error("mainnet is not a network to fuzz; run the node with --network regtest or signet")]
    Mainnet,
    /// A public address.
    #[error(
        "{0} is a public address: this is a load tool for your own nodes; if you operate \
         this one, use --i-operate-this-node"
    )]
    Public(SocketAddr),
    /// The RPC of a mainnet node, whatever the target is.
    #[error(
        "the given RPC is that of a mainnet node, and mainnet is not a network to fuzz; \
         give the RPC of the target"
    )]
    MainnetRpc,
    /// An RPC of another network than the target.
    #[error(
        "the given RPC is that of a node on {0:?}, but the run is on {1:?}: it is not \
         the target's; give the target's RPC, or the right --network"
    )]
    OtherChain(String, &'static str),
    /// No host has this address.
    #[error("{0} is not an address that can be connected to")]
    NotAHost(SocketAddr),
}

/// Whether `target` may be fuzzed. `own`: the operator allows a public address.
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

/// Whether the node with this RPC may be called: it must be on the run's network, by the name in
/// its `getblockchaininfo`. `own_magic`: the run's network has no name.
///
/// # Errors
/// Why not.
pub fn permit_chain(chain: &str, network: &Network, own_magic: bool) -> Result<(), Refusal> {
    // btcd's names.
    let chain = match chain {
        "mainnet" => "main",
        "testnet3" => "test",
        other => other,
    };
    let expected = network.core_chain_name();
    match chain {
        "main" => Err(Refusal::MainnetRpc),
        chain if own_magic || chain == expected => Ok(()),
        other => Err(Refusal::OtherChain(other.to_owned(), expected)),
    }
}

/// Loopback, link-local, or a private network (RFC 1918, 3927, 4193, 4291, 6598).
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
    fn local_and_private_addresses_are_allowed_and_others_only_by_option() {
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
    fn an_rpc_is_called_only_on_the_network_of_the_run_and_never_on_mainnet() {
        let signet = Network::CustomSignet {
            challenge: vec![0x51],
        };
        for (chain, network) in [
            ("regtest", Network::Regtest),
            ("signet", Network::Signet),
            ("signet", signet),
            ("test", Network::Testnet3),
            ("testnet3", Network::Testnet3),
            ("testnet4", Network::Testnet4),
        ] {
            assert_eq!(permit_chain(chain, &network, false), Ok(()), "{chain}");
        }
        for main in ["main", "mainnet"] {
            for own_magic in [false, true] {
                let refused = permit_chain(main, &Network::Regtest, own_magic);
                assert_eq!(refused, Err(Refusal::MainnetRpc));
            }
        }
        let other = Refusal::OtherChain("signet".into(), "regtest");
        assert_eq!(permit_chain("signet", &Network::Regtest, false), Err(other));
        assert_eq!(permit_chain("simnet", &Network::Regtest, true), Ok(()));
    }

    #[test]
    fn mainnet_is_always_refused() {
        let address = "127.0.0.1:8333".parse().expect("an address");
        assert_eq!(
            permit(address, &Network::Mainnet, true),
            Err(Refusal::Mainnet)
        );
    }
}
