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
    /// An RPC of the main network, whatever the target is.
    #[error(
        "the RPC that was named is that of a mainnet node, and mainnet is not a network to fuzz; \
         name the RPC of the target"
    )]
    MainnetRpc,
    /// An RPC of another network than the target.
    #[error(
        "the RPC that was named is that of a node on {0:?}, and the run is on {1:?}: it is not \
         the target's; name that of the target, or the right --network"
    )]
    OtherChain(String, &'static str),
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

/// Whether the node whose RPC this is may be called: it must be on the run's network, by the
/// name that its `getblockchaininfo` gives. `own_magic`: whether the run's network is one that
/// we have no name for.
///
/// # Errors
/// Why not.
pub fn permit_chain(chain: &str, network: &Network, own_magic: bool) -> Result<(), Refusal> {
    // What btcd calls them.
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
    fn an_rpc_is_called_only_on_the_network_of_the_run_and_on_mainnet_never() {
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
    fn the_main_network_is_refused_whatever_anybody_says() {
        let address = "127.0.0.1:8333".parse().expect("an address");
        assert_eq!(
            permit(address, &Network::Mainnet, true),
            Err(Refusal::Mainnet)
        );
    }
}
