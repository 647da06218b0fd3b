//! Our own addresses, the score of each, and which one a peer is sent.
//!
//! | an address | origin | score |
//! |---|---|---|
//! | of an interface of the machine, while a listening socket is bound to any address | [`Origin::Interface`] | 1 |
//! | that a listening socket is bound to by name | [`Origin::Bound`] | 2 |
//! | set by the operator (`--external-ip`) | [`Origin::Manual`] | 4 |
//!
//! Each inbound peer whose `version` says that it reached us at one of them raises its score by
//! one, as in Bitcoin Core (`SeenLocal`): of several addresses the one that works comes to be
//! announced. Only known addresses gain a score, so that a peer cannot make us announce an address
//! of its choice to others.
//!
//! # Bounds
//!
//! No peer adds an address: there are only those of the machine and of the operator.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};

use crate::address_book::{canonical, is_routable};
use crate::lifecycle::{Direction, VersionInfo};
use crate::random::Random;

use super::reach::reachability;

/// The origin of an address of ours. Core `LOCAL_IF`, `LOCAL_BIND`, `LOCAL_MANUAL`; we map no
/// ports on a router, and so have no `LOCAL_MAPPED`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Origin {
    /// It is an address of an interface of the machine.
    Interface,
    /// A listening socket is bound to it.
    Bound,
    /// The operator set it.
    Manual,
}

impl Origin {
    fn score(self) -> u32 {
        match self {
            Self::Interface => 1,
            Self::Bound => 2,
            Self::Manual => 4,
        }
    }
}

/// An address of ours.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct OwnAddress {
    /// Where peers can reach us.
    pub addr: SocketAddr,
    /// How sure we are that they can: the score of its origin, and one more for each inbound peer
    /// that reached us at it.
    pub score: u32,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Known {
    port: u16,
    score: u32,
}

/// Our own addresses. See the module.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct OwnAddresses {
    /// The port of the first listening socket; `None`: we accept no connections, and announce
    /// nothing.
    port: Option<u16>,
    /// Whether addresses count that the operator did not set.
    discovers: bool,
    known: BTreeMap<IpAddr, Known>,
    /// The addresses of the listening sockets, routable or not: never dialled.
    bound: Vec<SocketAddr>,
}

impl OwnAddresses {
    /// The operator's addresses and those of the listening sockets. `listen`: the bound addresses,
    /// the first of which gives the port; none: we accept no connections. `discovers`: whether
    /// addresses count that the operator did not set (Core `-discover`), and those that peers
    /// report.
    #[must_use]
    pub fn new(listen: &[SocketAddr], named: &[SocketAddr], discovers: bool) -> Self {
        let mut own = Self {
            port: listen.first().map(SocketAddr::port),
            discovers,
            known: BTreeMap::new(),
            bound: listen.to_vec(),
        };
        for (addrs, origin) in [(named, Origin::Manual), (listen, Origin::Bound)] {
            for addr in addrs {
                own.add(*addr, origin);
            }
        }
        own
    }

    /// Adds an address of ours. Core `AddLocal`. An address that is not routable is skipped unless
    /// the operator set it, as is possible on regtest; a known address gains one by being found
    /// again, and takes the port.
    pub fn add(&mut self, addr: SocketAddr, origin: Origin) {
        let addr = canonical(addr);
        let counts = self.discovers && is_routable(addr.ip());
        if origin != Origin::Manual && !counts {
            return;
        }
        let (port, score) = (addr.port(), origin.score());
        self.known
            .entry(addr.ip())
            .and_modify(|known| {
                if score >= known.score {
                    known.score = score.saturating_add(1);
                    known.port = port;
                }
            })
            .or_insert(Known { port, score });
    }

    /// An inbound peer reports that it reached us at `addr`. Core `SeenLocal`, which ignores the
    /// port. Returns whether a score changed.
    pub(super) fn seen(&mut self, addr: SocketAddr) -> bool {
        let ip = canonical(addr).ip();
        let known = self.known.get_mut(&ip).filter(|_| is_routable(ip));
        known.is_some_and(|known| {
            let before = known.score;
            known.score = before.saturating_add(1);
            known.score != before
        })
    }

    /// All of them, by address.
    pub fn rows(&self) -> impl Iterator<Item = OwnAddress> + '_ {
        self.known.iter().map(|(ip, known)| OwnAddress {
            addr: SocketAddr::new(*ip, known.port),
            score: known.score,
        })
    }

    /// Whether we accept connections.
    pub(super) fn accepts(&self) -> bool {
        self.port.is_some()
    }

    /// Whether an address is one of them.
    pub(super) fn contains(&self, addr: SocketAddr) -> bool {
        let known = self.known.get(&addr.ip());
        known.is_some_and(|known| known.port == addr.port())
            || self.bound.iter().any(|own| canonical(*own) == addr)
    }

    /// The address to send to this peer, as Core's `GetLocalAddrForPeer`; `None`: there is none
    /// that it could reach.
    ///
    /// While we discover, a peer is sent the address at which it reports to see us, if we know none
    /// that it could reach, and else half of the time; an eighth of the time if peers have shown
    /// that they reach us at one that the operator set. A peer that lies about it is sent its lie.
    pub(super) fn for_peer(&self, peer: &VersionInfo, random: &mut Random) -> Option<SocketAddr> {
        let port = self.port?;
        let best = self.best_for(peer.remote.ip());
        let known = best.map(|own| own.addr);
        let seen = peer.sees_us_at.map(canonical);
        let seen = seen.filter(|seen| {
            self.discovers && is_routable(seen.ip()) && is_routable(peer.remote.ip())
        });
        let Some(seen) = seen else {
            return known;
        };
        if let Some(own) = best {
            let one_in = match own.score > Origin::Manual.score() {
                true => 8,
                false => 2,
            };
            if random.below(one_in) != 0 {
                return known;
            }
        }
        Some(match peer.direction {
            Direction::Inbound => seen,
            // It sees the port from which we dialled.
            Direction::Outbound | Direction::Manual => {
                SocketAddr::new(seen.ip(), known.map_or(port, |own| own.port()))
            }
        })
    }

    /// The one that a peer at `remote` reaches best, among these the one with the highest score,
    /// among these the lowest. Core `GetLocal`.
    fn best_for(&self, remote: IpAddr) -> Option<OwnAddress> {
        let mut best: Option<(OwnAddress, _)> = None;
        for own in self.rows() {
            let rank = (reachability(own.addr.ip(), remote), own.score);
            if best.is_none_or(|(_, best)| rank > best) {
                best = Some((own, rank));
            }
        }
        best.map(|(own, _)| own)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn addr(text: &str) -> SocketAddr {
        text.parse().expect("an address")
    }

    fn rows(own: &OwnAddresses) -> Vec<(String, u32)> {
        let row = |own: OwnAddress| (own.addr.to_string(), own.score);
        own.rows().map(row).collect()
    }

    fn row(text: &str, score: u32) -> (String, u32) {
        (text.to_owned(), score)
    }

    #[test]
    fn an_address_has_the_score_of_its_origin_and_gains_by_being_found_again() {
        let listen = ["8.8.4.4:8333", "7.7.7.7:8333"].map(addr);
        let mut own = OwnAddresses::new(&listen, &[addr("7.7.7.7:2")], true);
        own.add(addr("9.9.9.9:1"), Origin::Interface);
        let first = [
            row("7.7.7.7:2", 4),
            row("8.8.4.4:8333", 2),
            row("9.9.9.9:1", 1),
        ];
        assert_eq!(rows(&own), first);
        // An origin of lower score changes neither port nor score.
        own.add(addr("7.7.7.7:3"), Origin::Interface);
        own.add(addr("8.8.4.4:3"), Origin::Bound);
        own.add(addr("9.9.9.9:3"), Origin::Manual);
        let later = [
            row("7.7.7.7:2", 4),
            row("8.8.4.4:3", 3),
            row("9.9.9.9:3", 5),
        ];
        assert_eq!(rows(&own), later);
    }

    #[test]
    fn only_routable_addresses_are_discovered_and_none_when_that_is_switched_off() {
        let listen = ["0.0.0.0:8333", "127.0.0.1:8333", "8.8.4.4:8333"].map(addr);
        let found = ["192.168.0.7:8333", "[fe80::1]:8333", "[2600::1]:8333"].map(addr);
        let discovered = |discovers| {
            let mut own = OwnAddresses::new(&listen, &[addr("10.0.0.1:8333")], discovers);
            for addr in found {
                own.add(addr, Origin::Interface);
            }
            rows(&own)
        };
        let manual = row("10.0.0.1:8333", 4);
        let (bound, interface) = (row("8.8.4.4:8333", 2), row("[2600::1]:8333", 1));
        assert_eq!(discovered(true), [bound, manual.clone(), interface]);
        assert_eq!(discovered(false), [manual]);
    }

    #[test]
    fn an_address_that_a_peer_reached_gains_a_score_and_no_other_is_added() {
        let mut own = OwnAddresses::new(&[], &[addr("10.0.0.1:8333")], true);
        own.add(addr("8.8.4.4:8333"), Origin::Interface);
        assert!(
            own.seen(addr("[::ffff:8.8.4.4]:50000")),
            "whatever the port"
        );
        assert!(!own.seen(addr("9.9.9.9:8333")));
        assert!(
            !own.seen(addr("10.0.0.1:8333")),
            "a private address is not reported"
        );
        assert_eq!(
            rows(&own),
            [row("8.8.4.4:8333", 2), row("10.0.0.1:8333", 4)]
        );
    }

    #[test]
    fn no_score_exceeds_what_fits() {
        let mut own = OwnAddresses::new(&[], &[addr("8.8.4.4:8333")], true);
        own.known
            .get_mut(&addr("8.8.4.4:1").ip())
            .expect("known")
            .score = u32::MAX;
        assert!(!own.seen(addr("8.8.4.4:8333")));
        assert_eq!(rows(&own), [row("8.8.4.4:8333", u32::MAX)]);
    }
}
