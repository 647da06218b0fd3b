//! The classification of reasons, and what follows from a class.

use tracing::Level;

use crate::lifecycle::Reached;

/// What kind of end a connection came to. Blame, back-off and log level are derived from it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Class {
    /// We ended it for reasons of ours, or the operator did: it tells nothing about the peer.
    Ours,
    /// A bug of ours ended it.
    Bug,
    /// The connection was closed or broke: by the peer, or by a network between us.
    Lost,
    /// Nothing came: from the peer, or through a network between us.
    Silent,
    /// The peer lives and is too slow, or its chain is.
    Slow,
    /// The peer did not answer what we asked for, or nothing came through.
    Unanswered,
    /// The peer withheld what others were waiting for.
    Stalling,
    /// The peer is not one that we look for, or we are not one that it looks for.
    Unsuitable,
    /// The peer broke the protocol in a way that costs little and is no lie.
    Faulty,
    /// The peer sent what no honest node sends.
    Misbehaving,
    /// The peer sent a header or a block that is invalid.
    Invalid,
}

/// What is held against a peer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Blame {
    /// Nothing.
    None,
    /// It did what the protocol forbids or withheld what it owed, and its connection is all
    /// that it pays with: lateness and bytes that are no message cost little and are no lie.
    RuleBroken,
    /// Its host is discouraged as well ([`crate::bans`]), for what an honest node cannot do.
    Discouraged {
        /// If it came so far at least. What misbehaves before its handshake is complete is
        /// most likely no Bitcoin node of our network at all.
        from: Reached,
    },
}

/// How long automatic dialling leaves the address alone.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum BackOff {
    /// Nothing speaks against the peer.
    Short,
    /// It was too slow.
    Slow,
    /// It broke a rule, or is not what we look for.
    Fault,
}

impl Class {
    /// What is held against the peer, as in Core.
    #[must_use]
    pub fn blame(self) -> Blame {
        match self {
            Self::Invalid => Blame::Discouraged {
                from: Reached::Connected,
            },
            Self::Misbehaving => Blame::Discouraged {
                from: Reached::Handshake,
            },
            Self::Unanswered | Self::Stalling | Self::Faulty => Blame::RuleBroken,
            // One that wants a service that we do not offer may be a light client in good faith.
            Self::Ours | Self::Bug | Self::Lost | Self::Silent | Self::Slow | Self::Unsuitable => {
                Blame::None
            }
        }
    }

    /// Whether the remote did what the protocol forbids, or withheld what it owed.
    #[must_use]
    pub fn breaks_rules(self) -> bool {
        self.blame() != Blame::None
    }

    /// How long automatic dialling leaves the address alone.
    #[must_use]
    pub fn back_off(self) -> BackOff {
        match self {
            Self::Ours | Self::Bug | Self::Lost => BackOff::Short,
            Self::Silent | Self::Slow | Self::Unanswered | Self::Stalling => BackOff::Slow,
            Self::Unsuitable | Self::Faulty | Self::Misbehaving | Self::Invalid => BackOff::Fault,
        }
    }

    /// Whether a connection may have ended so because our own network went down: while it
    /// is, all peers stall.
    #[must_use]
    pub fn may_be_the_network(self) -> bool {
        matches!(
            self,
            Self::Lost | Self::Silent | Self::Unanswered | Self::Stalling
        )
    }

    /// The level at which the end of a connection that was no peer is logged. That of a peer
    /// is [`Level::INFO`] at least.
    #[must_use]
    pub fn level(self) -> Level {
        match self {
            Self::Bug => Level::ERROR,
            _ if self.breaks_rules() => Level::INFO,
            _ => Level::DEBUG,
        }
    }
}
