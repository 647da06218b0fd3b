//! Addresses that connections come from.

use std::net::{IpAddr, Ipv4Addr};
use std::str::FromStr;

/// An IPv4 network whose hosts are used by turns, `127.1.0.0/16` for example. On Linux all
/// of 127.0.0.0/8 is this machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SourceRange {
    first: u32,
    hosts: u32,
}

/// A text is no range of source addresses.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is no range of IPv4 addresses to come from; write it as 127.1.0.0/16")]
pub struct NoRange(String);

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
        // The first and the last are no hosts, where there are others.
        Ok(match hosts {
            1 | 2 => Self { first, hosts },
            _ => Self {
                first: first + 1,
                hosts: hosts - 2,
            },
        })
    }
}

impl SourceRange {
    /// The address of connection `number`.
    #[must_use]
    pub fn address(&self, number: u64) -> IpAddr {
        let offset = u32::try_from(number % u64::from(self.hosts)).expect("below the hosts");
        Ipv4Addr::from(self.first + offset).into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_hosts_of_a_range_are_used_by_turns() {
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
