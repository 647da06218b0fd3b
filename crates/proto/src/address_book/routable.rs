//! Which addresses a peer can have.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

/// The canonical form of an address: IPv4 as IPv4, no flow label, no scope.
#[must_use]
pub fn canonical(addr: SocketAddr) -> SocketAddr {
    SocketAddr::new(addr.ip().to_canonical(), addr.port())
}

/// Whether the address can be reached over the public internet. Everything that Core's
/// `CNetAddr::IsRoutable` refuses is refused; and so are multicast, reserved and unassigned IPv6
/// addresses, which Core accepts and no node can be dialled at.
#[must_use]
pub fn is_routable(ip: IpAddr) -> bool {
    match ip.to_canonical() {
        IpAddr::V4(ip) => is_routable_v4(ip),
        IpAddr::V6(ip) => is_routable_v6(ip),
    }
}

/// Whether nodes of a private network, on one machine or several, can have the address.
#[must_use]
pub fn is_local(ip: IpAddr) -> bool {
    match ip.to_canonical() {
        IpAddr::V4(ip) => ip.is_private() || ip.is_loopback() || ip.is_link_local(),
        IpAddr::V6(ip) => ip.is_loopback() || ip.is_unique_local() || ip.is_unicast_link_local(),
    }
}

fn is_routable_v4(ip: Ipv4Addr) -> bool {
    let [a, b, ..] = ip.octets();
    let shared = a == 100 && b & 0xc0 == 64; // RFC 6598
    let benchmark = a == 198 && b & 0xfe == 18; // RFC 2544
    !(ip.is_private()
        || ip.is_loopback()
        || ip.is_link_local()
        || ip.is_documentation()
        || a == 0
        || a >= 224 // multicast, reserved, broadcast
        || shared
        || benchmark)
}

fn is_routable_v6(ip: Ipv6Addr) -> bool {
    let [a, b, ..] = ip.segments();
    let global_unicast = a & 0xe000 == 0x2000;
    let documentation = a == 0x2001 && b == 0x0db8; // RFC 3849
    let orchid = a == 0x2001 && matches!(b & 0xfff0, 0x0010 | 0x0020); // RFC 4843, 7343
    global_unicast && !documentation && !orchid
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The first and the last address of each range, by the answers of `bitcoind` 31 to
    /// `addpeeraddress`.
    #[test]
    fn what_core_does_not_route_is_not_routable() {
        for (ip, local) in [
            ("0.0.0.0", false),
            ("0.255.255.255", false),
            ("10.0.0.0", true),
            ("10.255.255.255", true),
            ("100.64.0.0", false),
            ("100.127.255.255", false),
            ("127.0.0.0", true),
            ("127.255.255.255", true),
            ("169.254.0.0", true),
            ("169.254.255.255", true),
            ("172.16.0.0", true),
            ("172.31.255.255", true),
            ("192.0.2.0", false),
            ("192.0.2.255", false),
            ("192.168.0.0", true),
            ("192.168.255.255", true),
            ("198.18.0.0", false),
            ("198.19.255.255", false),
            ("198.51.100.0", false),
            ("198.51.100.255", false),
            ("203.0.113.0", false),
            ("203.0.113.255", false),
            ("255.255.255.255", false),
            ("::", false),
            ("::1", true),
            ("::ffff:10.0.0.1", true),
            ("2001:10::", false),
            ("2001:2f:ffff::", false),
            ("2001:db8::", false),
            ("2001:db8:ffff::", false),
            ("fc00::", true),
            ("fdff::", true),
            ("fe80::1", true),
        ] {
            let address: IpAddr = ip.parse().expect(ip);
            assert_eq!(
                (is_routable(address), is_local(address)),
                (false, local),
                "{ip}"
            );
        }
    }

    #[test]
    fn addresses_next_to_those_ranges_are_routable() {
        for ip in [
            "1.0.0.0",
            "9.255.255.255",
            "11.0.0.0",
            "100.63.255.255",
            "100.128.0.0",
            "126.255.255.255",
            "128.0.0.0",
            "169.253.255.255",
            "169.255.0.0",
            "172.15.255.255",
            "172.32.0.0",
            "192.0.1.255",
            "192.0.3.0",
            "192.88.99.1",
            "192.167.255.255",
            "192.169.0.0",
            "198.17.255.255",
            "198.20.0.0",
            "198.51.99.255",
            "198.51.101.0",
            "203.0.112.255",
            "203.0.114.0",
            "223.255.255.255",
            "2000::1",
            "2001:f::1",
            "2001:30::1",
            "2001:db7::1",
            "2001:db9::1",
            "2002:102:304::1",
            "3fff::1",
        ] {
            let address: IpAddr = ip.parse().expect(ip);
            assert!(is_routable(address) && !is_local(address), "{ip}");
        }
    }
}
