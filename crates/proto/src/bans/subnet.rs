//! An address, or all addresses that begin with the same bits.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::str::FromStr;

use crate::address_book::read_ip;

/// All addresses that share their first bits. Its `Display` is `ADDRESS/BITS`, as in Core.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Subnet {
    /// The bits after the prefix are zero; IPv4 is never mapped to IPv6.
    network: IpAddr,
    prefix: u8,
}

/// The text is neither an address nor a subnet. Core error −30, `RPC_CLIENT_INVALID_IP_OR_SUBNET`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, thiserror::Error)]
#[error("Error: Invalid IP/Subnet")]
pub struct SubnetError;

impl Subnet {
    /// The subnet of `ip` with `prefix` bits; `None` when an address has fewer.
    #[must_use]
    pub fn new(ip: IpAddr, prefix: u8) -> Option<Self> {
        let ip = ip.to_canonical();
        (prefix <= width(ip)).then(|| Self::masked(ip, prefix))
    }

    /// The subnet of a single address.
    #[must_use]
    pub fn of(ip: IpAddr) -> Self {
        let ip = ip.to_canonical();
        Self::masked(ip, width(ip))
    }

    /// `ip` is canonical, and has at least `prefix` bits.
    fn masked(ip: IpAddr, prefix: u8) -> Self {
        let prefix_bits = u32::from(prefix);
        let network = match ip {
            IpAddr::V4(ip) => {
                let mask = u32::MAX.checked_shl(32 - prefix_bits).unwrap_or(0);
                IpAddr::V4(Ipv4Addr::from_bits(ip.to_bits() & mask))
            }
            IpAddr::V6(ip) => {
                let mask = u128::MAX.checked_shl(128 - prefix_bits).unwrap_or(0);
                IpAddr::V6(Ipv6Addr::from_bits(ip.to_bits() & mask))
            }
        };
        Self { network, prefix }
    }

    /// The subnets that `ip` is in, from the largest to itself.
    pub(super) fn all_containing(ip: IpAddr) -> impl Iterator<Item = Self> {
        let ip = ip.to_canonical();
        (0..=width(ip)).map(move |prefix| Self::masked(ip, prefix))
    }

    /// Its lowest address.
    #[must_use]
    pub fn network(&self) -> IpAddr {
        self.network
    }

    /// Bits that its addresses share: 0 to 32, or to 128 for IPv6.
    #[must_use]
    pub fn prefix(&self) -> u8 {
        self.prefix
    }

    /// The address, when the subnet has only one.
    #[must_use]
    pub fn single(&self) -> Option<IpAddr> {
        (self.prefix == width(self.network)).then_some(self.network)
    }

    /// Whether `ip` is in it.
    #[must_use]
    pub fn contains(&self, ip: IpAddr) -> bool {
        Self::new(ip, self.prefix).as_ref() == Some(self)
    }
}

fn width(ip: IpAddr) -> u8 {
    match ip {
        IpAddr::V4(_) => 32,
        IpAddr::V6(_) => 128,
    }
}

impl fmt::Display for Subnet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.network, self.prefix)
    }
}

impl FromStr for Subnet {
    type Err = SubnetError;

    /// Parses `ADDRESS`, `ADDRESS/BITS` or `ADDRESS/MASK`, addresses in every form; no host names.
    fn from_str(text: &str) -> Result<Self, SubnetError> {
        let Some((address, mask)) = text.rsplit_once('/') else {
            let ip = read_ip(text).filter(is_an_address).ok_or(SubnetError)?;
            return Ok(Self::of(ip));
        };
        let ip = read_ip(address).ok_or(SubnetError)?;
        let digits = !mask.is_empty() && mask.bytes().all(|byte| byte.is_ascii_digit());
        let prefix = if digits {
            mask.parse().ok()
        } else {
            read_ip(mask).and_then(|mask| mask_bits(ip, mask))
        };
        prefix
            .and_then(|prefix| Self::new(ip, prefix))
            .ok_or(SubnetError)
    }
}

/// Whether a peer can have this address at all. Core `CNetAddr::IsValid`.
fn is_an_address(ip: &IpAddr) -> bool {
    match ip {
        IpAddr::V4(ip) => !ip.is_unspecified() && !ip.is_broadcast(),
        IpAddr::V6(ip) => {
            let [a, b, c, ..] = ip.segments();
            // Core reserves these for onion services of version 2, and for its internal names.
            let reserved = matches!(
                [a, b, c],
                [0xfd87, 0xd87e, 0xeb43] | [0xfd6b, 0x88c0, 0x8724]
            );
            !ip.is_unspecified() && [a, b] != [0x2001, 0x0db8] && !reserved
        }
    }
}

/// The length of the prefix that `mask` describes; `None` when it has gaps or is of another family
/// than `ip`.
fn mask_bits(ip: IpAddr, mask: IpAddr) -> Option<u8> {
    let (ones, zeros, width) = match (ip, mask) {
        (IpAddr::V4(_), IpAddr::V4(mask)) => {
            let bits = mask.to_bits();
            (bits.leading_ones(), bits.trailing_zeros(), 32)
        }
        (IpAddr::V6(_), IpAddr::V6(mask)) => {
            let bits = mask.to_bits();
            (bits.leading_ones(), bits.trailing_zeros(), 128)
        }
        (IpAddr::V4(_), IpAddr::V6(_)) | (IpAddr::V6(_), IpAddr::V4(_)) => return None,
    };
    (ones + zeros == width).then_some(u8::try_from(ones).ok()?)
}
