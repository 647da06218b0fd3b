//! Reachability of our addresses from a peer.

use std::net::IpAddr;

use crate::address_book::is_routable;

/// A larger value is better. Core `CNetAddr::GetReachabilityFrom`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) enum Reachability {
    /// Not over the internet.
    None,
    /// Over another family than the peer's: it may have both.
    Other,
    /// Through a Teredo tunnel.
    Teredo,
    /// Through another tunnel for IPv6, or over IPv6 though the peer's network is unknown.
    WeakV6,
    V4,
    V6,
}

/// The networks of the internet that an address can belong to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Network {
    V4,
    V6,
    /// IPv6 tunnelled through IPv4: RFC 3964 (6to4), 6052 and 6145.
    Tunnel,
    /// RFC 4380.
    Teredo,
    Unroutable,
}

impl Network {
    fn of(ip: IpAddr) -> Self {
        let ip = ip.to_canonical();
        let IpAddr::V6(v6) = ip else {
            return match is_routable(ip) {
                true => Self::V4,
                false => Self::Unroutable,
            };
        };
        match v6.segments() {
            [0x2001, 0, ..] => Self::Teredo,
            [0x2002, ..] | [0x64, 0xff9b, 0, 0, 0, 0, ..] | [0, 0, 0, 0, 0xffff, 0, ..] => {
                Self::Tunnel
            }
            _ if !is_routable(ip) => Self::Unroutable,
            _ => Self::V6,
        }
    }
}

/// The reachability of `own` from a peer at `remote`.
pub(super) fn reachability(own: IpAddr, remote: IpAddr) -> Reachability {
    let own = Network::of(own);
    match (Network::of(remote), own) {
        (_, Network::Unroutable) => Reachability::None,
        (_, Network::V4) => Reachability::V4,
        (Network::V4, Network::V6 | Network::Tunnel | Network::Teredo) => Reachability::Other,
        (_, Network::Teredo) => Reachability::Teredo,
        (Network::V6 | Network::Tunnel, Network::V6) => Reachability::V6,
        (Network::V6 | Network::Tunnel, Network::Tunnel)
        | (Network::Teredo | Network::Unroutable, Network::V6 | Network::Tunnel) => {
            Reachability::WeakV6
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_peer_reaches_addresses_of_ours_in_the_order_of_core() {
        let (v4, v6, tunnel, teredo) = ("8.8.4.4", "2600::1", "2002:808:404::1", "2001::1");
        for (remote, best_first) in [
            ("9.9.9.9", &[v4][..]),
            ("2601::1", &[v6, v4, tunnel, teredo]),
            ("2001::2", &[v4, v6, teredo]),
            ("127.0.0.1", &[v4, v6, teredo]),
        ] {
            let of = |own: &str| {
                let ip = |text: &str| text.parse().expect("an address");
                reachability(ip(own), ip(remote))
            };
            let ranks: Vec<Reachability> = best_first.iter().map(|own| of(own)).collect();
            assert!(ranks.is_sorted_by(|a, b| a > b), "{remote}: {ranks:?}");
            assert_eq!(of("10.0.0.1"), Reachability::None, "{remote}");
        }
        let from_v4 = |own: &str| {
            let ip = own.parse().expect("an address");
            reachability(ip, IpAddr::from([9, 9, 9, 9]))
        };
        assert_eq!([v6, tunnel, teredo].map(from_v4), [Reachability::Other; 3]);
    }
}
