//! Bans of the operator and discouraged hosts, and which peers go because of them.
//!
//! Invariant: a peer that is banned is disconnected in the step of its ban; one at a discouraged
//! host in the step in which that is discouraged, unless it is a manual peer.

use std::net::IpAddr;

use super::admitted_peers::AdmittedPeers;
use crate::address_book::Overlay;
use crate::bans::{BanCommand, BanError, BanList, Discouraged};
use crate::lifecycle::{ConnId, Direction, VersionInfo};
use crate::time::Now;

/// See the module.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(super) struct Bans {
    list: BanList,
    discouraged: Discouraged,
}

impl Bans {
    /// No peer is discouraged yet.
    pub(super) fn new(list: BanList) -> Self {
        Self {
            list,
            discouraged: Discouraged::default(),
        }
    }

    pub(super) fn list(&self) -> &BanList {
        &self.list
    }

    pub(super) fn discouraged(&self) -> &Discouraged {
        &self.discouraged
    }

    pub(super) fn is_banned(&self, ip: IpAddr, now: Now) -> bool {
        self.list.is_banned(ip, now)
    }

    pub(super) fn is_overlay_banned(&self, address: Overlay, now: Now) -> bool {
        self.list.is_overlay_banned(address, now)
    }

    pub(super) fn is_discouraged(&self, ip: IpAddr, now: Now) -> bool {
        self.discouraged.contains(ip, now)
    }

    /// Whether an address is neither dialled automatically, nor learnt, nor sent to peers.
    pub(super) fn is_unwelcome(&self, ip: IpAddr, now: Now) -> bool {
        self.is_banned(ip, now) || self.is_discouraged(ip, now)
    }

    /// Changes the operator's list. Returns the peers that are banned by that, manual peers
    /// too: the ban is the operator's later word.
    pub(super) fn change(
        &mut self,
        now: Now,
        order: BanCommand,
        peers: &AdmittedPeers,
    ) -> Result<Vec<ConnId>, BanError> {
        self.list.apply(now, order)?;
        Ok(match order {
            BanCommand::Add { target, .. } => {
                peers.ids_where(|peer| target.contains(peer.remote.ip()))
            }
            BanCommand::Remove { .. } | BanCommand::Clear => Vec::new(),
        })
    }

    /// A peer at `ip` broke rules. Returns the peers of its host, as Core disconnects them,
    /// but for manual peers; none if the host is this machine, which is never discouraged.
    pub(super) fn discourage(
        &mut self,
        now: Now,
        ip: IpAddr,
        peers: &AdmittedPeers,
    ) -> Vec<ConnId> {
        if !self.discouraged.add(ip, now) {
            return Vec::new();
        }
        tracing::debug!(%ip, "discouraged");
        peers.ids_where(|peer: &VersionInfo| {
            peer.direction != Direction::Manual && Discouraged::same_host(peer.remote.ip(), ip)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bans::BanTime;
    use crate::peer_table::admitted_peers::testing::peers;
    use Direction::{Inbound, Manual, Outbound};

    const NOW: Now = Now {
        mono: std::time::Duration::from_secs(100),
        unix: 1_700_000_000,
    };

    fn ban(target: &str) -> BanCommand {
        BanCommand::Add {
            target: target.parse().expect("a subnet"),
            time: BanTime::Default,
        }
    }

    #[test]
    fn a_ban_names_every_peer_in_its_subnet_and_a_refused_ban_names_none() {
        let peers = peers([(Inbound, 9), (Manual, 9), (Outbound, 10)]);
        let mut bans = Bans::default();
        let gone = bans.change(NOW, ban("9.0.0.0/8"), &peers);
        assert_eq!(gone, Ok(vec![ConnId(0), ConnId(1)]));
        let again = bans.change(NOW, ban("9.0.0.0/8"), &peers);
        assert_eq!(again, Err(BanError::AlreadyBanned));
        let lifted = bans.change(NOW, BanCommand::Clear, &peers);
        assert_eq!(lifted, Ok(vec![]));
    }

    #[test]
    fn a_discouraged_host_loses_its_peers_but_no_manual_one_and_this_machine_loses_none() {
        let peers = peers([(Inbound, 9), (Manual, 9), (Outbound, 9), (Inbound, 10)]);
        let mut bans = Bans::default();
        let ip = peers
            .values()
            .next()
            .expect("one")
            .version_info()
            .remote
            .ip();
        assert_eq!(bans.discourage(NOW, ip, &peers), [ConnId(0), ConnId(2)]);
        let here = IpAddr::from([127, 0, 0, 1]);
        assert_eq!(
            bans.discourage(NOW, here, &self::peers([(Inbound, 127)])),
            []
        );
        assert!(bans.is_unwelcome(ip, NOW) && !bans.is_banned(ip, NOW));
    }
}
