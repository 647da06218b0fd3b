//! How messages travel: as built, the six ways that went wrong elsewhere, and a seventh that
//! several subscribers invite.

/// What is changed about the wiring. The machines stay as they are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Wiring {
    /// One sender per connection, one FIFO mailbox per manager, one path.
    AsBuilt,
    /// (a) `Add` is sent by another task than `Done`: it is under way for as long as
    /// that task likes. btcd's first race: `OnVerAck` and the connection's own task.
    SeparateSenders,
    /// (b) PeerManager has a queue for `Add` and one for `Done`, and takes from either:
    /// btcd's `newPeers` and `donePeers` in one `select`.
    TwoQueuesAtPeers,
    /// (b) once more, between PeerManager and SyncManager.
    TwoQueuesAtSync,
    /// (c) The connection calls itself ready when it has seen `verack`; `Add` is sent by
    /// the callback that follows. Until then the handshake's timer runs on.
    FlagBeforeCallback,
    /// (d) `Done` goes on to SyncManager when the *connection* says that it was ready,
    /// not when PeerManager's table says that it was admitted.
    DoneByThePeersFlag,
    /// (e) The slot is free when `Done` is sent, not when it has been handled.
    SlotFreedWhenSent,
    /// (f) Once the node stops, PeerManager empties its mailbox without looking.
    DrainDropsEvents,
    /// (g) The slot is free when the first subscriber has handled `Done`, not the last.
    SlotFreedAfterTheFirst,
}

/// Which mailbox of a manager, where a wiring gives it two.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Lane {
    /// The only one, in the wiring as built.
    First,
    /// `Done` alone, under [`Wiring::TwoQueuesAtPeers`] and [`Wiring::TwoQueuesAtSync`].
    Second,
}
