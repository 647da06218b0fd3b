//! Which addresses can be anybody's peer.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

/// The one form of an address: IPv4 as IPv4, no flow label, no scope.
#[must_use]
pub fn canonical(addr: SocketAddr) -> SocketAddr {
    SocketAddr::new(addr.ip().to_canonical(), addr.port())
}

/// Whether the address can be reached over the public internet.
#[must_use]
pub fn is_routable(ip: IpAddr) -> bool {
    match ip.to_canonical() {
        IpAddr::V4(ip) => is_routable_v4(ip),
        IpAddr::V6(ip) => is_routable_v6(ip),
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
