//! Addresses that are refused: banned by the operator, or discouraged because a peer at them
//! misbehaved.
//!
//! | | [`BanList`] | [`Discouraged`] |
//! |---|---|---|
//! | made by | `setban` | [`DoneReason::discourages`](crate::lifecycle::DoneReason::discourages) |
//! | matches | an address, a subnet, an onion service or an address of I2P | one host |
//! | lasts | as the operator says, 24 h by default; survives a restart | 24 h, in memory |
//! | inbound | never admitted | evicted first; refused while no slot is free |
//! | dialled | never | only as a manual peer |
//!
//! The two differ since an address says little about its user: our automatic decisions must not
//! exclude the neighbours of a misbehaving peer for good.

mod discouraged;
mod subnet;
mod target;

pub use discouraged::{DISCOURAGED_FOR, Discouraged, MAX_DISCOURAGED};
pub use subnet::{Subnet, SubnetError};
pub use target::BanTarget;

use std::collections::BTreeMap;
use std::net::IpAddr;

use crate::address_book::Overlay;
use crate::time::Now;

/// Duration of a ban unless the operator sets one. 24 h; Core `DEFAULT_MISBEHAVING_BANTIME`.
pub const DEFAULT_BAN_SECONDS: i64 = 24 * 3_600;

/// One of the operator's bans. Times in Unix seconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Ban {
    /// The addresses that it matches.
    pub target: BanTarget,
    /// When it was made.
    pub created: i64,
    /// When it ends.
    pub until: i64,
}

/// The duration of a ban.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum BanTime {
    /// [`DEFAULT_BAN_SECONDS`].
    #[default]
    Default,
    /// So many seconds from now. Zero or less: the default, as in Core.
    For(i64),
    /// Until this moment, Unix seconds.
    Until(i64),
}

/// A change of the list.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum BanCommand {
    /// `setban add`.
    Add {
        /// The addresses.
        target: BanTarget,
        /// The duration.
        time: BanTime,
    },
    /// `setban remove`.
    Remove {
        /// The target that was banned.
        target: BanTarget,
    },
    /// `clearbanned`.
    Clear,
}

/// Why the list was not changed. The texts are Core's.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, thiserror::Error)]
pub enum BanError {
    /// Core error −23, `RPC_CLIENT_NODE_ALREADY_ADDED`.
    #[error("Error: IP/Subnet already banned")]
    AlreadyBanned,
    /// Core error −30, `RPC_CLIENT_INVALID_IP_OR_SUBNET`.
    #[error("Error: Unban failed. Requested address/subnet was not previously manually banned.")]
    NotBanned,
    /// Core error −8, `RPC_INVALID_PARAMETER`.
    #[error("Error: Absolute timestamp is in the past")]
    InThePast,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Span {
    created: i64,
    until: i64,
}

/// The operator's bans.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct BanList {
    bans: BTreeMap<BanTarget, Span>,
}

impl BanList {
    /// The list that was saved as `rows`, without bans that have ended.
    #[must_use]
    pub fn from_rows(rows: impl IntoIterator<Item = Ban>, now: Now) -> Self {
        let mut list = Self::default();
        for Ban {
            target,
            created,
            until,
        } in rows
        {
            list.bans.insert(target, Span { created, until });
        }
        list.sweep(now);
        list
    }

    /// The bans in force, by target.
    pub fn rows(&self, now: Now) -> impl Iterator<Item = Ban> + '_ {
        let unix = i64::from(now.unix);
        self.bans
            .iter()
            .filter(move |(_, span)| unix < span.until)
            .map(|(target, span)| Ban {
                target: *target,
                created: span.created,
                until: span.until,
            })
    }

    /// Whether the list is empty.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.bans.is_empty()
    }

    /// Whether a ban in force matches this address. At most one look-up per prefix length, and none
    /// while the list is empty: it is called for every connection.
    #[must_use]
    pub fn is_banned(&self, ip: IpAddr, now: Now) -> bool {
        let mut around = Subnet::all_containing(ip).map(BanTarget::Subnet);
        !self.bans.is_empty() && around.any(|target| self.holds(&target, now))
    }

    /// Whether a ban in force matches this address of a network other than IP.
    #[must_use]
    pub fn is_overlay_banned(&self, address: Overlay, now: Now) -> bool {
        self.holds(&BanTarget::Overlay(address), now)
    }

    fn holds(&self, target: &BanTarget, now: Now) -> bool {
        let unix = i64::from(now.unix);
        self.bans.get(target).is_some_and(|span| unix < span.until)
    }

    /// Changes the list.
    ///
    /// As in Core, one address is "already banned" when any ban matches it, a subnet when it is on
    /// the list itself.
    ///
    /// # Errors
    /// Why the list was not changed.
    pub fn apply(&mut self, now: Now, command: BanCommand) -> Result<(), BanError> {
        self.sweep(now);
        match command {
            BanCommand::Add { target, time } => self.add(now, target, time),
            BanCommand::Remove { target } => match self.bans.remove(&target) {
                Some(_) => Ok(()),
                None => Err(BanError::NotBanned),
            },
            BanCommand::Clear => {
                self.bans.clear();
                Ok(())
            }
        }
    }

    fn add(&mut self, now: Now, target: BanTarget, time: BanTime) -> Result<(), BanError> {
        let single = match target {
            BanTarget::Subnet(subnet) => subnet.single(),
            BanTarget::Overlay(_) => None,
        };
        let met = match single {
            Some(ip) => self.is_banned(ip, now),
            None => self.holds(&target, now),
        };
        if met {
            return Err(BanError::AlreadyBanned);
        }
        let created = i64::from(now.unix);
        let until = match time {
            BanTime::Until(at) if at < created => return Err(BanError::InThePast),
            BanTime::Until(at) => at,
            BanTime::For(seconds) if seconds > 0 => created.saturating_add(seconds),
            BanTime::For(_) | BanTime::Default => created + DEFAULT_BAN_SECONDS,
        };
        self.bans.insert(target, Span { created, until });
        Ok(())
    }

    fn sweep(&mut self, now: Now) {
        let unix = i64::from(now.unix);
        self.bans.retain(|_, span| unix < span.until);
    }
}

#[cfg(test)]
mod tests;
