//! The target of a ban.

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

use super::{Subnet, SubnetError};
use crate::address_book::Overlay;

/// The addresses that a ban matches.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum BanTarget {
    /// An IP address or subnet.
    Subnet(Subnet),
    /// An onion service or an I2P address. None of them connects to us: its address is not relayed.
    Overlay(Overlay),
}

impl BanTarget {
    /// Whether a peer at `ip` matches.
    #[must_use]
    pub fn contains(&self, ip: IpAddr) -> bool {
        match self {
            Self::Subnet(subnet) => subnet.contains(ip),
            Self::Overlay(_) => false,
        }
    }
}

impl From<Subnet> for BanTarget {
    fn from(subnet: Subnet) -> Self {
        Self::Subnet(subnet)
    }
}

impl fmt::Display for BanTarget {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Subnet(subnet) => subnet.fmt(f),
            Self::Overlay(address) => address.fmt(f),
        }
    }
}

impl FromStr for BanTarget {
    type Err = SubnetError;

    fn from_str(text: &str) -> Result<Self, SubnetError> {
        match text.parse() {
            Ok(address) => Ok(Self::Overlay(address)),
            Err(_) => text.parse().map(Self::Subnet),
        }
    }
}
