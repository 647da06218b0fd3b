//! Hostile peers over TCP: every way known to us in which peers tried to steer a node.
//!
//! An [`Adversary`] is some peers of one [`Attack`] on a thread of its own: they dial the
//! node, or listen for it, speak the protocol well enough to stay connected, and come back
//! when they are cut off. Beside them stands an [`Honest`] peer with the right chain, which
//! measures what the node does for it. What they know lies in a [`Ground`].
//!
//! The attackers are to cost the node its time, not the machine: one thread, frames built
//! once and shared, as little decoding as will do. The benchmark puts them into a process of
//! its own at the lowest priority.

mod behaviour;
mod crew;
mod forge;
mod frames;
mod ground;
mod honest;
mod joined;

use std::fmt;
use std::net::Ipv4Addr;
use std::str::FromStr;

pub use crew::{Adversary, Crew, Seen};
pub use forge::Tamper;
pub use ground::{Ground, NEWS};
pub use honest::{Honest, HonestRecord};

/// What hostile peers do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Attack {
    /// Blocks under the header of the true one with other transactions or witnesses, each
    /// way that leaves the merkle root right among them; asked for and unasked.
    Tampered,
    /// The same on a signet, whose solution is checked before the merkle root.
    TamperedSignet,
    /// A branch that the node has stored before a restart, announced with more work; its
    /// first block comes tampered with, those after it true.
    Poisoned,
    /// `getheaders` answered with the first 2,000 headers, which have too little work, and
    /// then with nothing, for ever.
    Useless,
    /// To each peer a branch of its own with more work, and none of its blocks.
    Branches,
    /// The same, with `notfound` for each block, and announced again.
    NotFound,
    /// The right chain, and none of its blocks.
    Withhold,
    /// All bytes but one of frames of 4 MB, before the handshake and after it.
    HalfFrames,
    /// The right chain, whose blocks are large, and when one is asked for a frame of 4 MB at
    /// a megabit a second, of which the last byte does not come.
    Trickle,
    /// The right chain, and each of its blocks just in time, 1.9 s after it was asked for.
    Late,
    /// `inv` and `notfound` of 50,000, transactions of 4 MB, known headers, without a pause;
    /// otherwise as an honest peer.
    Big,
    /// Each peer another of those above (on regtest).
    Mix,
}

impl Attack {
    /// All of them, in the order of the table.
    pub const ALL: [Self; 12] = [
        Self::Tampered,
        Self::TamperedSignet,
        Self::Poisoned,
        Self::Useless,
        Self::Branches,
        Self::NotFound,
        Self::Withhold,
        Self::HalfFrames,
        Self::Trickle,
        Self::Late,
        Self::Big,
        Self::Mix,
    ];

    /// What the peers of [`Attack::Mix`] do by turns.
    const MIXED: [Self; 9] = [
        Self::Withhold,
        Self::Branches,
        Self::Tampered,
        Self::Big,
        Self::NotFound,
        Self::Poisoned,
        Self::HalfFrames,
        Self::Trickle,
        Self::Late,
    ];

    /// As the command line and the table name it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Tampered => "tampered",
            Self::TamperedSignet => "signet",
            Self::Poisoned => "poisoned",
            Self::Useless => "useless",
            Self::Branches => "branches",
            Self::NotFound => "notfound",
            Self::Withhold => "withhold",
            Self::HalfFrames => "half",
            Self::Trickle => "trickle",
            Self::Late => "late",
            Self::Big => "big",
            Self::Mix => "mix",
        }
    }

    /// Whether the node must have been restarted with a side branch in its block index.
    pub fn wants_side_branch(self) -> bool {
        matches!(self, Self::Poisoned | Self::Mix)
    }

    /// Whether the node is to want more work than the first 2,000 headers have.
    pub fn wants_minimum_work(self) -> bool {
        self == Self::Useless
    }

    /// What the peer with this number does.
    pub(crate) fn of_peer(self, number: usize) -> Self {
        match self {
            Self::Mix => Self::MIXED[number % Self::MIXED.len()],
            alone => alone,
        }
    }
}

impl fmt::Display for Attack {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

impl FromStr for Attack {
    type Err = String;

    fn from_str(name: &str) -> Result<Self, String> {
        let attack = Self::ALL.into_iter().find(|attack| attack.name() == name);
        attack.ok_or_else(|| {
            let names = Self::ALL.map(Self::name).join(", ");
            format!("no attack is called {name:?}; there are {names}")
        })
    }
}

/// Who opens a connection, seen from the node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    /// The peer.
    Inbound,
    /// The node, told to by its operator.
    Dialled,
    /// The node, of its own choice.
    Chosen,
}

impl Side {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Inbound, Self::Dialled, Self::Chosen];
}

/// Where peers are. Each hostile one is in an address group of its own, as far as they go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Addresses {
    /// On loopback, which nodes treat with care: it is never discouraged, and to
    /// `bitcoind` it is all one group.
    Loopback,
    /// Public ones. They exist in a network name space where `5.0.0.0/8` is local.
    Public,
}

impl Addresses {
    fn first_octet(self) -> u8 {
        match self {
            Self::Loopback => 127,
            Self::Public => 5,
        }
    }

    fn of_peer(self, number: usize) -> Ipv4Addr {
        let group = u8::try_from(10 + number % 200).expect("a byte");
        let host = u8::try_from(1 + number / 200).expect("some peers");
        Ipv4Addr::new(self.first_octet(), group, 0, host)
    }

    fn of_honest(self) -> Ipv4Addr {
        Ipv4Addr::new(self.first_octet(), 250, 0, 1)
    }
}

impl fmt::Display for Side {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Inbound => "inbound",
            Self::Dialled => "dialled",
            Self::Chosen => "chosen",
        })
    }
}
