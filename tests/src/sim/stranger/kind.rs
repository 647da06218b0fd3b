//! The kinds of simulated peers.

use std::time::Duration;

/// The behaviour of a simulated peer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// Connects and never sends a byte.
    Mute,
    /// Completes the handshake, claims height 1,000,000, answers only pings.
    Claimer,
    /// Shows the honest chain and never sends a block.
    NoBlocks,
    /// The same, and answers `notfound`.
    NotFound,
    /// Shows a longer chain, and withholds its blocks.
    Withholder,
    /// The same, answers `notfound`, and announces the chain again at once.
    Denier,
    /// Sends blocks that are found invalid when they are checked.
    BadBlocks,
    /// Sends blocks that are found invalid when they are connected.
    BadToConnect,
    /// Sends headers that do not connect to each other, or whose parent is unknown.
    BadHeaders,
    /// Answers requests for honest blocks with other data.
    Tamperer,
    /// Sends the latest honest blocks with other data, unsolicited.
    Forger,
    /// Extends a branch that lost a race, and sends its first block with other data and the later
    /// ones unchanged. A node that was restarted may have that block and not know it.
    Poisoner,
    /// Answers each `getheaders` with the beginning of the honest chain, or with nothing.
    Useless,
    /// Announces blocks that do not exist.
    Rumourer,
    /// Sends garbage, wrong checksums, lengths beyond all bounds.
    Garbage,
    /// Connects, completes the handshake and disconnects as fast as it can.
    Churner,
    /// Requests the whole chain again and again, and does not read.
    SlowReader,
    /// Sends far more than any peer requests.
    Flooder,
    /// Sends frames of the largest size: 50,000 items of `inv` and `notfound`, 2,000 known headers.
    Bulk,
    /// Sends a byte from time to time.
    Trickler,
    /// Closes its side after the handshake.
    HalfCloser,
    /// Honest, and has only genesis: its headers are always empty.
    Behind,
}

/// All kinds, with the name under which they are counted.
pub(crate) const KINDS: [(Kind, &str); 22] = [
    (Kind::Mute, "mute"),
    (Kind::Claimer, "claims a height"),
    (Kind::NoBlocks, "sends no blocks"),
    (Kind::NotFound, "says notfound"),
    (Kind::Withholder, "withholds a longer chain"),
    (Kind::Denier, "denies a longer chain"),
    (Kind::BadBlocks, "invalid blocks"),
    (Kind::BadToConnect, "blocks that do not connect"),
    (Kind::BadHeaders, "invalid headers"),
    (Kind::Tamperer, "tampers with blocks"),
    (Kind::Forger, "pushes forged blocks"),
    (Kind::Poisoner, "poisons a branch"),
    (Kind::Useless, "has only the beginning"),
    (Kind::Rumourer, "announces what nobody has"),
    (Kind::Garbage, "garbage"),
    (Kind::Churner, "churner"),
    (Kind::SlowReader, "slow reader"),
    (Kind::Flooder, "flooder"),
    (Kind::Bulk, "big frames"),
    (Kind::Trickler, "trickler"),
    (Kind::HalfCloser, "half-closes"),
    (Kind::Behind, "behind"),
];

impl Kind {
    /// The name under which it is counted.
    #[must_use]
    pub fn name(self) -> &'static str {
        let of = KINDS.iter().find(|(kind, _)| *kind == self);
        of.expect("all kinds are listed").1
    }

    /// The kind of this name.
    #[must_use]
    pub fn of(name: &str) -> Option<Self> {
        let of = KINDS.iter().find(|(_, of)| *of == name);
        of.map(|(kind, _)| *kind)
    }

    /// Number of connections that it keeps open.
    pub(super) fn connections(self) -> usize {
        match self {
            Self::Churner => 8,
            Self::Mute => 4,
            _ => 2,
        }
    }

    /// Mean time between two unsolicited actions.
    pub(super) fn interval(self) -> Duration {
        Duration::from_millis(match self {
            Self::Churner => 150,
            Self::Trickler => 700,
            Self::Denier | Self::Forger => 2_000,
            Self::Garbage => 4_000,
            Self::Flooder => 15_000,
            Self::SlowReader | Self::Bulk => 40_000,
            _ => 9_000,
        })
    }
}
