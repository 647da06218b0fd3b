//! The words of this code base, for readers who know Bitcoin Core. Words that are not here have
//! their meaning in the BIPs or in Bitcoin Core.
//!
//! # Structure
//!
//! | word | meaning | in Bitcoin Core |
//! |---|---|---|
//! | machine | a struct in `proto` that makes protocol decisions: inputs and the time go in, effects come out; no sockets, no clock, no threads | the decisions inside `PeerManagerImpl`, `CConnman` |
//! | part | a struct inside a machine with private fields and tests of its own, such as the block download | |
//! | effect | what a machine wants done: send a message, disconnect a peer, submit a block | a call into `CConnman` or `ChainstateManager` |
//! | actor | an object with a mailbox, on one thread; it turns messages into inputs and performs effects | |
//! | arbiter | a thread with an event loop, on which actors run | `ThreadMessageHandler`, `ThreadSocketHandler` |
//! | subscriber | a manager that receives the connections, messages and disconnections that the PeerManager forwards | `CValidationInterface`, for peers |
//! | role | which subscriber it is | |
//! | engine, kernel | Bitcoin Core's validation code, behind the crate `chain` | `libbitcoinkernel` |
//! | view | an immutable snapshot that RPC calls read without asking an actor | |
//!
//! # Connections
//!
//! | word | meaning | in Bitcoin Core |
//! |---|---|---|
//! | connection id | number of a connection, never used again (L1) | `NodeId` |
//! | slot | the right to one connection; taken before a socket becomes a peer, freed when the last subscriber handled its `Done` | `semOutbound`, `nMaxConnections` |
//! | connection parameters | what a connection is made of: id, direction, addresses, slot, handshake permit | the arguments of `CNode::CNode` |
//! | `Add`, `Done` | a peer completed its handshake; a connection ended. At most one and exactly one per connection (L2) | `InitializeNode`, `FinalizeNode` |
//! | lifecycle guard | the field of a peer's actor that sends `Add` and, when it is dropped, `Done` | |
//! | admitted peer | a peer that the PeerManager's table contains | `fSuccessfullyConnected` |
//! | manual peer | a peer of `--connect`, `--add-node` or `addnode` | `ConnectionType::MANUAL` |
//! | handshake limiter | decides which connection leaves the handshake when too many are in it | |
//! | handshake permit | the right to be in the handshake; revoked by the limiter | |
//! | credit | bytes that a peer may have queued towards the managers; without credit its socket is not read | `fPauseRecv` |
//! | disconnection | how far a connection came, why it ended, how long it lasted | |
//! | eviction | disconnecting a peer in favour of a new one | `SelectNodeToEvict` |
//! | discouraged | the address of a peer that misbehaved, first to be evicted | `m_discouraged` |
//! | self-probe | the node's connection to its own listening socket, to see that it accepts | |
//!
//! # Sync
//!
//! | word | meaning | in Bitcoin Core |
//! |---|---|---|
//! | source, sync peer | the peer that headers are requested from | `fSyncStarted`, `m_chain_sync` |
//! | shown | said of a chain whose headers a peer sent, with valid proof of work; a height in `version` is only claimed | `pindexBestKnownBlock` |
//! | cool-down | time in which a peer is not chosen as the source again | |
//! | stalling | said of a peer that does not deliver a requested block in time | `m_stalling_since` |
//! | side branch | valid headers or blocks that are not on the active chain | |
//! | verdict | the engine's answer about a block: valid, invalid, mutated, unknown | `BlockValidationState` |
//! | mark | the engine's verdict about a block hash, stored in the header tree | `BLOCK_FAILED_VALID` |
//! | durable | written to the block files or the journal, so that a crash cannot lose it | `FlushStateToDisk` |
//! | journal | the file of blocks that were acknowledged and are not durable in the engine yet | |
//! | watchdog | the part that compares what sync does with what S1 promises; it only reads | |
//!
//! # Proofs
//!
//! | word | meaning |
//! |---|---|
//! | ledger | the checker of L1 to L6, used by the node, the model, the simulator and the fuzzer |
//! | audit | the comparison of open sockets, peer table and sync table in a running node |
//! | model | the exhaustive search of all orders of events over the production machines |
//! | mutant | a wrong variant of the wiring that the model must refute |
//! | ghost | a peer in a table whose connection has ended: what L3 and L6 exclude |
