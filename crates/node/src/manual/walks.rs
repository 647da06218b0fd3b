//! Three walks through the code, for a first reading. Each row is a hand-over; its files are those
//! to open. A test (`architecture`) checks that the files exist and that the walks stay short.
//!
//! # A connection, from accept to `Done`
//!
//! | step | files | what happens |
//! |---|---|---|
//! | 1 | `node/src/listener.rs`, `node/src/listening_socket.rs`, `node/src/slots.rs` | `Listener` takes the connection out of the accept queue (`drain`), counts it or recognizes the self-probe, checks bans and takes a slot |
//! | 2 | `node/src/acceptor.rs`, `node/src/handshake_permits.rs`, `proto/src/handshake_limiter.rs` | `Acceptor` gives it an id and a handshake permit (another connection loses its own if there are too many), and moves the socket to a `net` arbiter |
//! | 3 | `node/src/peer.rs`, `node/src/lifecycle.rs` | the actor `Peer` starts, with its lifecycle guard, a stream of frames and a writer |
//! | 4 | `node/src/frame_reader.rs` | bytes become frames, as far as the connection has credit |
//! | 5 | `proto/src/session.rs`, `proto/src/session/handshake.rs` | the session decides what to answer: `version`, `verack`, pings, timeouts |
//! | 6 | `node/src/outbox.rs` | answers are queued; the writer frames and writes them |
//! | 7 | `node/src/lifecycle.rs`, `node/src/peer_manager/queue.rs` | after `verack` the guard posts `PeerAdd`; connections take turns in PeerManager's queue |
//! | 8 | `proto/src/peer_table.rs`, `proto/src/peer_table/connections.rs`, `proto/src/peer_table/admission.rs` | the peer table admits it, refuses it, or evicts another for it; the ledger checks L1 to L4 |
//! | 9 | `node/src/peer_manager.rs`, `node/src/subscribers.rs` | PeerManager performs the effects: each subscriber that wants the peer gets `Add` |
//! | 10 | `node/src/sync_manager.rs`, `proto/src/sync/manager.rs` | SyncManager's machine has a new peer; its messages follow on the same way |
//! | 11 | `node/src/peer.rs`, `node/src/lifecycle.rs` | whatever ends the actor drops the guard, which posts `PeerDone` with the slot; steps 7 to 10 again, with `Retire` and `Done` |
//! | 12 | `node/src/joint.rs`, `node/src/slots.rs` | the slot is free when the last subscriber has handled `Done` |
//!
//! # A block, from the socket to the verdict and the announcement
//!
//! | step | files | what happens |
//! |---|---|---|
//! | 1 | `node/src/frame_reader.rs`, `node/src/peer.rs`, `proto/src/session.rs` | a frame with `block` is read, with memory that the request reserved, and delivered |
//! | 2 | `node/src/peer_manager/queue.rs`, `proto/src/peer_table/connections.rs`, `node/src/peer_manager.rs`, `node/src/subscribers.rs` | PeerManager forwards it to the subscribers that handle blocks |
//! | 3 | `node/src/sync_manager.rs`, `proto/src/sync/manager.rs`, `proto/src/sync/manager/blocks.rs` | SyncManager's machine looks up who was asked for it |
//! | 4 | `proto/src/sync/download/mod.rs`, `proto/src/sync/unasked.rs` | a requested block is crossed off; an unrequested one must build on a known header and have proof of work |
//! | 5 | `chain/src/chain.rs`, `chain/src/queue.rs` | `Effect::CheckBlock` becomes a job of the engine; blocks and headers take turns |
//! | 6 | `chain/src/worker.rs`, `chain/src/mutated.rs` | the `decode` thread parses it and compares it with its header: mutated data never reaches the engine |
//! | 7 | `chain/src/kernel.rs`, `chain/src/record.rs`, `chain/src/verdict.rs` | the `kernel` thread validates and connects it, and reads the verdict |
//! | 8 | `chain/src/block_journal.rs` | the block becomes durable, if it is to be announced |
//! | 9 | `node/src/opening.rs`, `node/src/sync_manager.rs` | the answer (`KernelEvent::BlockChecked`) is posted to SyncManager |
//! | 10 | `proto/src/sync/manager/blocks.rs`, `proto/src/sync/verdicts.rs`, `proto/src/sync/chain.rs` | the machine adopts the new tip, or marks the hash and finds the peers that pay for it |
//! | 11 | `proto/src/sync/announcer.rs` | each peer gets the block announced in the form that it wants |
//! | 12 | `node/src/peer_manager.rs`, `node/src/outbox.rs` | the announcement goes to the peer's queue, and its writer sends it |
//!
//! # An RPC call: `getblockcount`
//!
//! | step | files | what happens |
//! |---|---|---|
//! | 1 | `rpc/src/server/workers.rs`, `rpc/src/server/queue.rs` | a worker takes the connection out of the accept queue |
//! | 2 | `rpc/src/server/connection.rs` | hyper reads the request; timeouts and disconnected clients are seen here |
//! | 3 | `rpc/src/server/authorize.rs` | address, host, cookie or user |
//! | 4 | `rpc/src/server/call.rs`, `rpc/src/server/execution.rs` | the body is read; the call gets a permit of the work queue |
//! | 5 | `rpc/src/jsonrpc.rs` | requests and batches become calls with a method and parameters |
//! | 6 | `rpc/src/methods/mod.rs`, `api/src/methods/blockchain.rs` | the method is found, its arguments are checked against its description |
//! | 7 | `rpc/src/methods/blockchain.rs` | the method runs |
//! | 8 | `node/src/handle.rs`, `node/src/view.rs` | it reads the height from the published view, and asks no actor |
//! | 9 | `rpc/src/server/content.rs` | the answer is written, in pieces if it is long |
//!
//! # What a change touches
//!
//! | change | files |
//! |---|---|
//! | a P2P message that sync handles | its row in `wire/src/message/table.rs`, its form in `wire/src/message/forms`, its arm in `proto/src/sync/manager.rs`, and the part that handles it |
//! | the same, for a new subscriber | the row, the form, the subscriber's machine |
//! | a new subscriber | its role in `proto/src/lifecycle/roles.rs`, its actor, one entry in `node/src/wiring.rs` |
//! | an RPC that reads the view | its description in `api/src/methods`, its method in `rpc/src/methods` |
//! | an RPC that asks a manager | the same two, a line in `node/src/handle/operator.rs`, a typed method of the machine |
//! | a transport | its variant of `Transport` in `wire/src/transport.rs` with its codec, where `node/src/peer.rs` chooses it, and its reader in `node/src/frame_reader.rs` |
//! | a state file | its format and name: one constant of `StateFile` where it is used |
