//! What a subscriber of PeerManager is, and what it wants.
//!
//! A new subscriber is a new [`Role`], with its arms here. Which messages it gets follows from
//! the table of messages ([`HandledBy`]), and is written nowhere else.

use std::fmt;
use std::ops::BitAnd;

use bitcoin::p2p::ServiceFlags;
use handfast_wire::{HandledBy, Kind, Message};

use super::VersionInfo;

/// A subscriber of PeerManager, by what it does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Role {
    /// SyncManager: headers and blocks.
    Sync,
    /// No actor of a node. Tests put one beside SyncManager, so that what holds for several
    /// subscribers is tested with several. It wants full nodes only, and of what they send it
    /// handles what SyncManager handles.
    Test,
}

impl Role {
    /// All of them.
    pub const ALL: [Self; 2] = [Self::Sync, Self::Test];

    /// In one word, for names of tables and figures.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Sync => "sync",
            Self::Test => "test",
        }
    }

    /// The actor that has the role, as texts name it.
    #[must_use]
    pub const fn manager(self) -> &'static str {
        match self {
            Self::Sync => "SyncManager",
            Self::Test => "TestManager",
        }
    }

    /// Whether it wants this peer.
    #[must_use]
    pub fn wants_peer(self, peer: &VersionInfo) -> bool {
        match self {
            Self::Sync => true,
            Self::Test => peer.services.has(ServiceFlags::NETWORK),
        }
    }

    const fn bit(self) -> u8 {
        1 << self as u8
    }
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.manager())
    }
}

/// A set of roles. Small enough to go along with every message.
#[derive(Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Roles(u8);

impl Roles {
    /// No role.
    pub const NONE: Self = Self(0);

    /// The roles that handle a message of this kind. A peer's message goes to those of them
    /// that want the peer.
    #[must_use]
    pub fn that_handle(kind: Kind) -> Self {
        match kind.handled_by() {
            HandledBy::SyncManager => Self::from([Role::Sync, Role::Test]),
            HandledBy::Session
            | HandledBy::PeerManager
            | HandledBy::NotUsed
            | HandledBy::NotOffered => Self::NONE,
        }
    }

    /// The same for a message. One that we do not know is for none.
    #[must_use]
    pub fn that_want(message: &Message) -> Self {
        message.kind().map_or(Self::NONE, Self::that_handle)
    }

    /// Those of them that want this peer.
    #[must_use]
    pub fn wanting_peer(self, peer: &VersionInfo) -> Self {
        self.iter().filter(|role| role.wants_peer(peer)).collect()
    }

    /// Whether the role is one of them.
    #[must_use]
    pub const fn contains(self, role: Role) -> bool {
        self.0 & role.bit() != 0
    }

    /// With this role besides.
    #[must_use]
    pub const fn with(self, role: Role) -> Self {
        Self(self.0 | role.bit())
    }

    /// How many they are.
    #[must_use]
    pub const fn len(self) -> usize {
        self.0.count_ones() as usize
    }

    /// Whether there is none.
    #[must_use]
    pub const fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// One after the other, in the order of [`Role::ALL`].
    pub fn iter(self) -> impl Iterator<Item = Role> {
        Role::ALL
            .into_iter()
            .filter(move |role| self.contains(*role))
    }
}

impl From<Role> for Roles {
    fn from(role: Role) -> Self {
        Self::NONE.with(role)
    }
}

impl<const N: usize> From<[Role; N]> for Roles {
    fn from(roles: [Role; N]) -> Self {
        roles.into_iter().collect()
    }
}

impl FromIterator<Role> for Roles {
    fn from_iter<T: IntoIterator<Item = Role>>(roles: T) -> Self {
        roles.into_iter().fold(Self::NONE, Self::with)
    }
}

impl BitAnd for Roles {
    type Output = Self;

    fn bitand(self, other: Self) -> Self {
        Self(self.0 & other.0)
    }
}

impl fmt::Debug for Roles {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.iter()).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_set_holds_exactly_the_roles_that_were_put_in() {
        for bits in 0u8..4 {
            let wanted = |role: &Role| bits & role.bit() != 0;
            let set: Roles = Role::ALL.into_iter().filter(wanted).collect();
            assert!(
                Role::ALL
                    .iter()
                    .all(|role| set.contains(*role) == wanted(role))
            );
            assert!(set.iter().eq(Role::ALL.into_iter().filter(wanted)));
            assert_eq!(set.len(), set.iter().count());
            assert_eq!(set.is_empty(), bits == 0);
        }
    }

    #[test]
    fn a_message_goes_to_the_roles_that_the_table_of_messages_names() {
        for kind in Kind::ALL {
            let to_sync = kind.handled_by() == HandledBy::SyncManager;
            assert_eq!(
                Roles::that_handle(kind).contains(Role::Sync),
                to_sync,
                "{kind:?}"
            );
        }
        let unknown = Message::Unknown {
            command: "sendtxrcncl".into(),
        };
        assert_eq!(Roles::that_want(&unknown), Roles::NONE);
    }
}
