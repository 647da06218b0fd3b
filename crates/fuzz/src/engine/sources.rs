//! Source addresses of connections.

use std::net::{IpAddr, Ipv4Addr, SocketAddr, UdpSocket};
use std::str::FromStr;

/// Most addresses that are checked.
const TRIED: u64 = 1_024;

/// An IPv4 network whose hosts are used in turn, `127.1.0.0/16` for example. On Linux all of
/// 127.0.0.0/8 is local.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SourceRange {
    first: u32,
    hosts: u32,
}

/// A text is no range of source addresses.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is no range of IPv4 source addresses; write it as 127.1.0.0/16")]
pub struct NoRange(String);

/// An address cannot be a source. `Display` is one line: the cause and the remedy.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "connections to {target} cannot come from {source_address} ({cause}); choose a --source-range \
     of addresses of this machine, for a target on loopback 127.1.0.0/16"
)]
pub struct NoSource {
    /// The target.
    pub target: SocketAddr,
    /// The source address.
    pub source_address: IpAddr,
    /// The system's error.
    pub cause: String,
}

/// Whether connections to `target` can have this source address. Connecting a UDP socket checks
/// the routing without sending anything.
pub(crate) fn can_come_from(source: IpAddr, target: SocketAddr) -> Result<(), NoSource> {
    let socket = UdpSocket::bind((source, 0));
    let connected = socket.and_then(|socket| socket.connect(target));
    connected.map_err(|error| NoSource {
        target,
        source_address: source,
        cause: error.to_string(),
    })
}

impl FromStr for SourceRange {
    type Err = NoRange;

    fn from_str(text: &str) -> Result<Self, NoRange> {
        let wrong = || NoRange(text.to_owned());
        let (network, bits) = text.split_once('/').unwrap_or((text, "32"));
        let network: Ipv4Addr = network.parse().map_err(|_| wrong())?;
        let bits: u32 = bits.parse().map_err(|_| wrong())?;
        if !(8..=32).contains(&bits) {
            return Err(wrong());
        }
        let hosts = 1_u32 << (32 - bits);
        let first = u32::from(network) & !(hosts - 1);
        // The first and the last are no hosts, in networks with others.
        Ok(match hosts {
            1 | 2 => Self { first, hosts },
            _ => Self {
                first: first + 1,
                hosts: hosts - 2,
            },
        })
    }
}

impl From<Ipv4Addr> for SourceRange {
    /// This address only.
    fn from(address: Ipv4Addr) -> Self {
        Self {
            first: address.into(),
            hosts: 1,
        }
    }
}

impl SourceRange {
    /// The address of connection `number`.
    #[must_use]
    pub fn address(&self, number: u64) -> IpAddr {
        let offset = u32::try_from(number % u64::from(self.hosts)).expect("below the hosts");
        Ipv4Addr::from(self.first + offset).into()
    }

    /// Whether so many connections to `target` can come from this range. Of a large range a
    /// sample is checked: a local network is local as a whole.
    ///
    /// # Errors
    /// An address that cannot be a source.
    pub fn check(&self, target: SocketAddr, connections: u64) -> Result<(), NoSource> {
        let used = connections.clamp(1, self.hosts.into());
        let step = usize::try_from(used.div_ceil(TRIED)).expect("at least 1");
        let tried = (0..used).step_by(step).chain([used - 1]);
        tried
            .map(|number| self.address(number))
            .try_for_each(|source| can_come_from(source, target))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_range_must_be_of_this_machine_and_lead_to_the_target() {
        let check = |range: &str, target: &str| {
            let range: SourceRange = range.parse().expect("a range");
            range.check(target.parse().expect("an address"), 1_000_000)
        };
        assert_eq!(check("127.1.0.0/16", "127.0.0.1:18444"), Ok(()));
        // In a documentation network (RFC 5737), which has no hosts.
        for (range, target) in [
            ("192.0.2.0/24", "127.0.0.1:18444"),
            ("127.1.0.0/16", "[::1]:18444"),
        ] {
            let error = check(range, target).expect_err(range).to_string();
            assert!(error.contains("--source-range"), "{error}");
        }
    }

    #[test]
    fn the_hosts_of_a_range_are_used_in_turn() {
        let range: SourceRange = "127.1.0.0/30".parse().expect("a range");
        let addresses: Vec<String> = (0..3).map(|n| range.address(n).to_string()).collect();
        assert_eq!(addresses, ["127.1.0.1", "127.1.0.2", "127.1.0.1"]);
        let one: SourceRange = "127.0.0.9".parse().expect("a host");
        assert_eq!(one.address(5).to_string(), "127.0.0.9");
        for wrong in ["127.0.0.0/33", "127.0.0.0/7", "::1/64", "localhost", ""] {
            assert!(wrong.parse::<SourceRange>().is_err(), "{wrong}");
        }
    }
}
