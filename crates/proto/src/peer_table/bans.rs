//! Whom the operator banned, and whose peer misbehaved.

use std::net::IpAddr;

use super::{Effect, PeerTable};
use crate::bans::{BanError, BanList, BanOrder, Discouraged};
use crate::lifecycle::{ConnId, Direction, DoneReason};
use crate::time::Now;

impl PeerTable {
    /// Carries out the operator's order. Whoever is banned is disconnected, manual
    /// peers too: the ban is the operator's later word.
    pub(super) fn carry_out(
        &mut self,
        now: Now,
        order: BanOrder,
        effects: &mut Vec<Effect>,
    ) -> Result<(), BanError> {
        self.bans.order(now, order)?;
        effects.push(Effect::BansChanged);
        match order {
            BanOrder::Add { target, .. } => {
                let banned = |_, ip| target.contains(ip);
                self.close_at(banned, &DoneReason::Banned, effects);
            }
            BanOrder::Remove { .. } | BanOrder::Clear => {}
        }
        Ok(())
    }

    /// A peer at `ip` broke rules: it and its likes go, as in Core; but not whom the
    /// operator named.
    pub(super) fn discourage(&mut self, now: Now, ip: IpAddr, effects: &mut Vec<Effect>) {
        if self.discouraged.add(ip, now) {
            tracing::debug!(%ip, "discouraged");
            let like = |direction, other| {
                direction != Direction::Manual && Discouraged::same_host(other, ip)
            };
            self.close_at(like, &DoneReason::Discouraged, effects);
        }
    }

    fn close_at(
        &mut self,
        meant: impl Fn(Direction, IpAddr) -> bool,
        reason: &DoneReason,
        effects: &mut Vec<Effect>,
    ) {
        let ids: Vec<ConnId> = self
            .peers
            .values()
            .map(|peer| &peer.introduction)
            .filter(|peer| meant(peer.direction, peer.remote.ip()))
            .map(|peer| peer.id)
            .collect();
        for id in ids {
            self.close(id, reason.clone(), effects);
        }
    }
}

/// Whether an address is neither dialled by ourselves, nor learnt, nor told to others.
pub(super) fn is_unwelcome(
    bans: &BanList,
    discouraged: &Discouraged,
    ip: IpAddr,
    now: Now,
) -> bool {
    bans.is_banned(ip, now) || discouraged.contains(ip, now)
}
