//! Shutdown: a barrier, not a drain.
//!
//! Messages of a stopped actor are lost, so no actor is stopped before it is proven
//! that nothing is left for it. The proof are the slots: a connection's slot is free
//! only when the last subscriber has handled its `Done`.
//!
//! | phase | what happens | over when | deadline |
//! |---|---|---|---|
//! | (published) | the view says `Stopping`: RPC refuses writes | at once | |
//! | miner | `Miner` lets go of the hash threads, and of those who wait for blocks on demand; a block that was submitted is judged all the same | it answered | 5 s |
//! | intake | `Listener` and `Connector` stop; their sockets are closed; connections in the handshake are disconnected | both answered | 5 s |
//! | drain | `PeerManager` disconnects all peers and admits none | it answered | 5 s |
//! | connections | | every slot is free, and none can be taken any more (L6) | 10 s |
//! | managers | all assert that their tables are empty, and stop, `PeerManager` first; `SyncManager` lets go of the kernel; the numbers of connections, `Add`s and `Done`s must add up and are logged (`every connection ended`) | all answered | 5 s |
//! | kernel | validation is interrupted, databases are flushed and closed, then the journal is emptied; threads joined | the thread that does it is through | 600 s |
//! | state, mined, bans | `peers.dat`, `mining.dat`, `bans.dat`, each one if it does not say so already | written and renamed | 10 s each |
//! | threads | arbiters are stopped and joined, `core` last | joined | 5 s |
//!
//! A phase that is late is logged with its name, the shutdown goes on without it,
//! and the node ends with [`ExitReason::Failed`](crate::ExitReason::Failed). A
//! manager that panicked answers no question: its phases are over at once, and the
//! kernel is closed all the same.
//!
//! # What starts it
//!
//! [`NodeHandle::shutdown`](crate::NodeHandle::shutdown) (RPC `stop`, signals), or
//! the death of a critical actor: `PeerManager`, `SyncManager`, `Listener` and
//! `Connector` hold a guard whose `Drop` notifies `Node`, unless it was disarmed;
//! the kernel reports its own. A `Peer` is not critical: its panic costs one connection. Nor is
//! `Miner`: its panic ends mining, and is reported in the log, the warnings and the
//! mining state.
//!
//! # Before everything runs
//!
//! While the kernel opens, which includes the replay of the journal (see
//! [`durability`](super::durability)), it cannot be interrupted. A shutdown asked for then begins
//! when it is open.
