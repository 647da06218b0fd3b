//! Hosts whose peer misbehaved, for a limited time.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv6Addr};
use std::time::Duration;

use crate::time::Now;

/// How long a host is remembered. 24 h; Core forgets at a restart, or after some
/// 50,000 others.
pub const DISCOURAGED_FOR: Duration = Duration::from_secs(24 * 3_600);
/// Most hosts that are remembered; beyond it the oldest is removed.
pub const MAX_DISCOURAGED: usize = 8_192;

/// The hosts. See [`crate::bans`].
///
/// # Security
///
/// An IPv6 host is its /64: a subscriber gets at least that much, 2^64 addresses, which could fill
/// this memory.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Discouraged {
    /// Expiry by host, on the monotonic clock.
    hosts: BTreeMap<IpAddr, Duration>,
    /// The same, sorted by expiry.
    pub(super) by_expiry: BTreeSet<(Duration, IpAddr)>,
}

impl Discouraged {
    /// Remembers the host of `ip` from now on. Loopback is never remembered: it would match every
    /// peer behind a proxy on this machine (Core `IsLocal`). Returns whether it is remembered.
    pub fn add(&mut self, ip: IpAddr, now: Now) -> bool {
        if is_local(ip) {
            return false;
        }
        self.forget(now);
        let (host, until) = (host(ip), now.mono.saturating_add(DISCOURAGED_FOR));
        if let Some(before) = self.hosts.insert(host, until) {
            self.by_expiry.remove(&(before, host));
        }
        self.by_expiry.insert((until, host));
        if self.hosts.len() > MAX_DISCOURAGED
            && let Some((_, oldest)) = self.by_expiry.pop_first()
        {
            self.hosts.remove(&oldest);
        }
        true
    }

    /// Whether the host of `ip` is remembered.
    #[must_use]
    pub fn contains(&self, ip: IpAddr, now: Now) -> bool {
        !self.hosts.is_empty()
            && self
                .hosts
                .get(&host(ip))
                .is_some_and(|until| now.mono < *until)
    }

    /// Whether both addresses count as one host here.
    #[must_use]
    pub fn same_host(a: IpAddr, b: IpAddr) -> bool {
        host(a) == host(b)
    }

    /// Number of remembered hosts.
    #[must_use]
    pub fn len(&self) -> usize {
        self.hosts.len()
    }

    /// Whether no host is remembered.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.hosts.is_empty()
    }

    fn forget(&mut self, now: Now) {
        while let Some(&(until, host)) = self.by_expiry.first()
            && until <= now.mono
        {
            self.by_expiry.pop_first();
            self.hosts.remove(&host);
        }
    }
}

fn host(ip: IpAddr) -> IpAddr {
    match ip.to_canonical() {
        IpAddr::V4(ip) => IpAddr::V4(ip),
        IpAddr::V6(ip) => IpAddr::V6(Ipv6Addr::from_bits(ip.to_bits() >> 64 << 64)),
    }
}

fn is_local(ip: IpAddr) -> bool {
    match ip.to_canonical() {
        IpAddr::V4(ip) => ip.is_loopback() || ip.octets()[0] == 0,
        IpAddr::V6(ip) => ip.is_loopback(),
    }
}
