//! Which network an address belongs to.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// The network's name in `getpeerinfo`. Core `GetNetworkName`.
pub(super) fn network_name(ip: IpAddr) -> &'static str {
    match ip.to_canonical() {
        ip if !is_routable(ip) => "not_publicly_routable",
        IpAddr::V4(_) => "ipv4",
        IpAddr::V6(_) => "ipv6",
    }
}

/// Whether the public internet leads to an address. Core `CNetAddr::IsRoutable`.
fn is_routable(ip: IpAddr) -> bool {
    match ip.to_canonical() {
        IpAddr::V4(ip) => is_routable_v4(ip),
        IpAddr::V6(ip) => is_routable_v6(ip),
    }
}

fn is_routable_v4(ip: Ipv4Addr) -> bool {
    let [a, b, ..] = ip.octets();
    let shared = a == 100 && (64..128).contains(&b); // RFC 6598
    let benchmark = a == 198 && (b == 18 || b == 19); // RFC 2544
    !(a == 0
        || ip.is_loopback()
        || ip.is_private()
        || ip.is_link_local()
        || ip.is_documentation()
        || ip.is_broadcast()
        || shared
        || benchmark)
}

fn is_routable_v6(ip: Ipv6Addr) -> bool {
    let [a, b, ..] = ip.segments();
    let documentation = a == 0x2001 && b == 0x0db8; // RFC 3849
    let orchid = a == 0x2001 && matches!(b & 0xfff0, 0x0010 | 0x0020); // RFC 4843, 7343
    !(ip.is_loopback()
        || ip.is_unspecified()
        || ip.is_unique_local()
        || ip.is_unicast_link_local()
        || documentation
        || orchid)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unroutable_addresses_have_their_own_network_name() {
        for (ip, name) in [
            ("8.8.8.8", "ipv4"),
            ("::ffff:8.8.8.8", "ipv4"),
            ("2600::1", "ipv6"),
            ("127.0.0.1", "not_publicly_routable"),
            ("10.1.2.3", "not_publicly_routable"),
            ("100.64.0.1", "not_publicly_routable"),
            ("198.19.255.255", "not_publicly_routable"),
            ("0.0.0.0", "not_publicly_routable"),
            ("::1", "not_publicly_routable"),
            ("fe80::1", "not_publicly_routable"),
            ("2001:db8::1", "not_publicly_routable"),
        ] {
            assert_eq!(
                network_name(ip.parse().expect("a test writes valid addresses")),
                name,
                "{ip}"
            );
        }
    }
}
