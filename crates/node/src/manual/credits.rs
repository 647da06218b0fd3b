//! Credits and bounds: nothing that a remote can fill is without one.
//!
//! | queue | bound | when it is full |
//! |---|---|---|
//! | connections | slots: inbound with handshakes and those leaving, outbound, manual | inbound: callers wait in the accept queue, and are closed and counted when no slot came home for 250 ms; outbound: the dial fails |
//! | callers who were not accepted yet | 4,096 for each address, or what the system grants | the system drops them (`ListenOverflows`), and they try again |
//! | connections in the handshake | 512 inbound | the oldest of the largest network group leaves |
//! | lifecycle messages in both managers | two per slot (L5) | cannot be: the slot rides inside `Done` |
//! | frames of a connection in the managers' mailboxes | 64 frames, 8 MiB and one frame | its socket is not read; TCP pushes back |
//! | blocks of all connections that wait for the kernel | 96 MiB | the next block frame waits; other frames of other connections do not |
//! | messages to a remote | 1,000 messages, 6 MiB | managers and session: it is cut off (`SlowReader`); served blocks wait |
//! | blocks read for remotes | 2 threads, 1 MiB or one block each | the next order waits |
//! | orders to serve | the sync machine's own bound per peer | |
//! | snapshots | one, published every 10 ms at most | |
//!
//! # Credit
//!
//! A frame takes credit of its connection as it leaves the decoder, and carries it
//! through every mailbox; the credit goes home when the message that holds it is
//! dropped, which is after it was handled. A panic on the way drops it as well. So
//! there is no path on which credit is lost and a connection stops for ever.
//!
//! A block also takes its size from the node's budget. That share stays with
//! `SyncManager` until the kernel's verdict if the machine gave the block to the
//! kernel, and goes home at once if it did not.
//!
//! # Who may wait
//!
//! Waiting points only downstream: a connection's stream waits for the managers and
//! the kernel; the future that serves blocks waits for room to its own remote. The
//! managers and the kernel's thread wait for nobody: they post, or find a bound
//! reached and act on it. The wait graph has no cycle, so nothing can deadlock.
//!
//! # Security
//!
//! A remote that sends faster than we handle slows itself down. One that does not
//! read is cut off at a bound that an honest slow one does not reach, because what
//! is big (blocks) waits for room instead of being queued. One that connects and
//! says nothing holds a place in the handshake until it times out or a newcomer needs
//! the place; these places come on top of those for peers, so that silence takes no
//! peer's place and keeps nobody out.
