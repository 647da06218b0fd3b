//! Ordering: one sender per connection, one path.
//!
//! ```text
//!  socket ──→ Peer ──PeerAdd, PeerInput, PeerDone──→ PeerManager ──SubscriberAdd, …Input, …Done──→ each subscriber
//!   ↑          │ ↑                                      │  ↑                                          │   ↑
//!   └──writer──┘ └────────Disconnect, ServeBlock────────┘  └──────────Command, with its role──────────┘   │
//!       ↑ outbox ────────────────messages───────────────┘                           kernel (SyncManager) ─┘
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
//! * A subscriber (`SyncManager` is one; `wiring` has the list) hears of connections from
//!   `PeerManager` alone. Whether it hears of one at all is decided in `PeerManager`'s table,
//!   once, with the admission (L3); no flag in the `Peer` takes part. Between subscribers no
//!   order is promised: one may have handled the `Done` of a connection before another its
//!   `Add`.
//! * A manager does not handle its mailbox oldest first: what connections sent goes
//!   into a queue with a line for each connection, and the lines take turns
//!   ([`handfast_proto::fair_queue`]). Of one connection nothing overtakes: `Add`, messages
//!   and `Done` are handled in the order in which they were posted, by all managers.
//!   Between connections no order was ever promised. What is no connection's (verdicts,
//!   questions, commands, the clock) is handled when it comes, before what is queued; the
//!   audit waits for all that was queued before it and goes before the rest.
//! * An effect list of a machine is performed from front to back. Kernel jobs leave
//!   in the order of the effects, and verdicts arrive in the order in which the
//!   kernel's thread gave them.
//!
//! # When everything happens at once
//!
//! A connection's actor is one future. In one poll it looks at its sources in this
//! order: its mailbox (orders of the managers, who know it only after `Add`), its
//! stream of frames with the end of the stream, its writer, and last its place in the
//! handshake and its clock. So when several are ready in the same poll, the result
//! follows from what is ready, not from what became ready first:
//!
//! | ready with the `verack` | PeerManager hears | because |
//! |---|---|---|
//! | the remote's end of the stream, or an error of the socket | `Add`, `Done` with that reason | the end lies behind the `verack` in the stream |
//! | the handshake timeout | `Add`; `Done` when the connection ends later | what has arrived counts before the clock |
//! | the order to leave the handshake (room full, node stops) | the same | the place is given back with `Add`, and an order to leave it is void then; a node that stops disconnects through `PeerManager` |
//!
//! If the last byte of the `verack` is not there when one of these is polled, the
//! connection ends: no `Add`, exactly one `Done`. There is no third result: the decision
//! is one step of the session's machine, and the guard sends what follows from it.
//!
//! One exception for floods: a stream gives way after 16 frames or one costly one, so a
//! remote that puts more than those before its `verack` may find the clock, or the order,
//! read first.
//!
//! # What is not guaranteed
//!
//! * An order of a manager to a connection may find the connection gone. It is
//!   dropped then; the connection's `Done` is already on the way.
//! * A block that is served is not ordered among other messages to that remote; the
//!   blocks are among themselves.
//! * The `view` that RPC reads may be 10 ms behind the tree, except that it is never
//!   behind the answer of a submission.
//! * A deadline of a machine may be handled while a message that would have met it is
//!   queued: for some milliseconds, since each line has its turn. Deadlines are seconds.
//! * `audit` counts open sockets beside the tables: on a busy node a socket may be open
//!   before its connection is in a table, or closed while it still is. The tables
//!   themselves are compared in one consistent cut, because the question takes the way
//!   of the lifecycle messages (see [`Audit`](crate::Audit)).
//!
//! # What would break it
//!
//! Two senders for one connection; two mailboxes; `ctx.notify` or a future that
//! posts later; a bounded mailbox, where a `do_send` overtakes parked `send`s. Each
//! of these lets `Done` overtake `Add`, and then a manager keeps a dead peer for
//! ever. Sending therefore has one home, `mail.rs`, and `clippy.toml` bans the
//! methods of `Addr` elsewhere.
