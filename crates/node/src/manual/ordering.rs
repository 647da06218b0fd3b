//! Ordering: one sender per connection, one path.
//!
//! ```text
//!  socket ──→ Peer ──PeerAdd, PeerInput, PeerDone──→ PeerManager ──SyncAdd, SyncInput, SyncDone──→ SyncManager
//!   ↑          │ ↑                                      │  ↑                                          │   ↑
//!   └──writer──┘ └────────Disconnect, ServeBlock────────┘  └──────────────SyncCommand─────────────────┘   │
//!       ↑ outbox ────────────────messages───────────────┘                                    kernel ──────┘
//! ```
//!
//! # What is guaranteed
//!
//! * A mailbox is unbounded and strictly first in, first out. So what one sender
//!   posts to one receiver is handled in the order in which it was posted, across
//!   threads too.
//! * Everything that a connection causes leaves from one place, its `Peer`, to one
//!   mailbox, `PeerManager`'s. The end is posted by the `Drop` of the lifecycle
//!   guard, which is a field of the actor: after it the actor cannot post anything,
//!   and it is dropped exactly once, whether the actor stopped, panicked or was
//!   never started. Hence L2: `Add` at most once, `Done` exactly once, in this order.
//! * `SyncManager` hears of connections from `PeerManager` alone. Whether it hears
//!   of one at all is decided in `PeerManager`'s table (L3); no flag in the `Peer`
//!   takes part.
//! * An effect list of a machine is performed from front to back. Kernel jobs leave
//!   in the order of the effects, and verdicts arrive in the order in which the
//!   kernel's thread gave them.
//!
//! # What is not guaranteed
//!
//! * An order of a manager to a connection may find the connection gone. It is
//!   dropped then; the connection's `Done` is already on the way.
//! * A block that is served is not ordered among other messages to that remote; the
//!   blocks are among themselves.
//! * The `view` that RPC reads may be 10 ms behind the tree, except that it is never
//!   behind the answer of a submission.
//! * `audit` asks one actor after the other: on a busy node a connection may be
//!   counted at one and not yet, or no longer, at the other.
//!
//! # What would break it
//!
//! Two senders for one connection; two mailboxes; `ctx.notify` or a future that
//! posts later; a bounded mailbox, where a `do_send` overtakes parked `send`s. Each
//! of these lets `Done` overtake `Add`, and then a manager keeps a dead peer for
//! ever. Sending therefore has one home, `mail.rs`, and `clippy.toml` bans the
//! methods of `Addr` elsewhere.
