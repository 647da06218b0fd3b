//! Credits and bounds: everything that a remote can fill is bounded.
//!
//! | what a remote can make us store | per connection | per address group | in all | held by the test |
//! |---|---|---|---|---|
//! | connections | | handshakes: the largest group loses its oldest | slots: inbound 115, in the handshake 512, leaving 32, outbound 10, manual 8 | `at_the_limit_the_oldest_permit_is_revoked…` |
//! | connections that were not accepted yet | | | 4,096 for each address, or what the system grants | `an_accept_queue_that_the_system_caps_is_one_warning…` |
//! | frames before `verack` | 5,000 bytes each, 32 KiB together; longer ones end the connection by their header | | 512 times that | `a_frame_head_of_a_block_before_version…` |
//! | read buffer between frames | 1 to 16 KiB | | | `a_connection_that_falls_silent_gives_its_buffer_back` |
//! | small frame that is being received | 32 KiB | | 165 connections: 5.3 MB | `memory_of_unfinished_frames_is_bounded_over_all_connections` |
//! | large frame, requested, from its header until it was handled | one | all | 40 MB from peers that we chose; 16 MB from inbound ones; what does not fit is on disk, 4.5 MB of each connection while 256 MiB are free, and 128 KiB of it in memory | `memory_of_unfinished_frames_is_bounded_over_all_connections`, `a_requested_block_is_received_while_others_hold_all_memory` |
//! | the same, complete and read back from disk | one | all | 8 MB, the others wait for these to be handled; blocks are among those that wait for the kernel | `a_spilled_block_that_is_complete_waits_for_the_kernel…` |
//! | unsolicited large frame | one | one | 8 MB | `a_group_sends_one_large_unsolicited_frame_at_a_time` |
//! | frames in the managers' mailboxes and queues | 64 frames, 64 KiB and one frame (large ones count above) | | 165 connections: 10 MB | `without_credit_nothing_more_is_taken_off_the_socket` |
//! | blocks that wait for the kernel | | | 32 MiB | `a_block_waits_for_the_nodes_budget_and_other_frames_do_not` |
//! | messages to a remote that does not read | 1,000 messages; 256 KiB to 2 MiB, by how much others have queued | | 16 MiB, and 256 KiB of each connection | `a_remote_may_have_much_queued_while_others_have_little…` |
//! | blocks that are being sent to it | 256 KiB, or one longer block | all | 40 MB to peers that we chose, 16 MB to inbound ones; what does not fit is on disk, 4.5 MB of each connection while 256 MiB are free, and 64 KiB of it in memory; two more that were read | `who_does_not_read_blocks_delays_nobody_but_itself` |
//! | block requests to serve | the sync machine's own bound, below | | | `while_others_have_much_queued_a_peer_may_have_as_much_as_one_getblocks_tells` |
//! | lifecycle messages in all managers | two per slot and subscriber (L5) | | two per slot and subscriber | `assert_bounded`, in release builds too |
//! | snapshots | | | one, published every 10 ms at most | |
//!
//! | what a remote can make us do | per connection | in all |
//! |---|---|---|
//! | read unsolicited messages | 256 KiB a second (1 MiB while few do) after a burst of 4 MiB: then its socket is read later ([`UnaskedRate`]) | 8 MiB a second, or 256 KiB of each |
//! | handle messages | one costly message, or 500 units of work, in a turn (`frame_reader.rs`, `turns.rs`) | each manager serves connections by deficit round robin ([`FairQueue`]), and yields after each turn |
//! | look through an `inv` | its last 500 entries | |
//! | look through a `notfound` | none with more than 500 entries | |
//! | hash a transaction | none: a `tx` ends the connection by its header, since our `version` has `relay=false` | |
//! | hash ignored messages | none: payloads of commands that we do not know are dropped as they come | |
//!
//! By all of these together inbound peers can make us store 170 MB.
//!
//! | what the machines store of remotes | per connection | per source | in all | held by the test |
//! |---|---|---|---|---|
//! | headers that keep the rules, 112 bytes each and 40 in the index | one `getheaders` at a time | | as much as there is proof of work for above the minimum; without a minimum (regtest) no bound, as in Core | `a_header_that_breaks_a_rule_is_stored_on_no_way_in` |
//! | headers of a chain with too little work | 1.5 MB | | four peers at a time | `one_sync_of_mainnet_holds_at_most_a_megabyte_and_a_half` |
//! | headers that wait for the engine and that no block needs | | | 4 batches of 2,000 | `blocks_are_judged_while_headers_still_come…` |
//! | the path to the chain that it has shown | 1,024 hashes | | one for each chain | `blocks_that_are_withheld_do_not_keep_us_from_an_honest_chain` |
//! | blocks asked of it, and overdue ones | 1 to 16, and 32 | | 512 | `download` in `proto`, which asserts it |
//! | blocks that it asked us for | 500 while others have 200,000, else one `getdata` | | 200,000 and 500 of each | `while_others_have_much_queued_a_peer_may_have_as_much_as_one_getblocks_tells` |
//! | senders of blocks that are not connected yet | | | 4,096 | `the_oldest_block_is_removed_first_and_the_memory_is_bounded` |
//! | tips of side branches, over a restart | | | 1,024 | `chain` |
//! | addresses | | 512 of one | 16,384 | `one_source_cannot_fill_the_book` |
//! | discouraged hosts | | a /64 of IPv6 is one | 8,192 | `a_slash_64_takes_one_entry_and_the_memory_is_bounded` |
//!
//! The limits for callers of the RPC are listed beside its server, in `rpc`.
//!
//! # Credit
//!
//! A frame takes credit of its connection as it leaves the decoder, and carries it through every
//! mailbox and queue; the credit is returned when the message that holds it is dropped, which is
//! after the last subscriber has handled it, or by a panic. So no path loses credit and stops a connection for ever.
//!
//! A block also takes its size from the node's budget. `SyncManager` holds that share until the
//! kernel's verdict if the machine gave the block to the kernel, and returns it at once otherwise.
//!
//! # Large frames
//!
//! Bitcoin Core lets each connection hold a message of 4 MB: 114 peers that each send a header and
//! all bytes but one hold 456 MB. Here a frame of more than 32 KiB claims memory that all
//! connections share. How long it is held is the remote's choice, so a frame that we requested
//! never waits for it: when the pool is used up, the frame is received to an unnamed file, where
//! each connection has a slot, and read back when it is complete; blocks that we send do the same.
//! Unsolicited frames wait, and the slowest sender among their holders is disconnected while others
//! wait (`SlowSender`, which discourages no address): see [`LargeFrames`].
//!
//! # Who may wait
//!
//! Waits point only downstream: a connection's stream waits for the managers and the kernel, or for
//! memory; the future that serves blocks waits for its remote. The managers and the kernel's thread
//! never wait: they post, or find a bound reached and act on it. A holder of memory waits for
//! nothing but its remote and, when its frame is complete, for the managers and the kernel. The
//! wait graph has no cycle, so nothing can deadlock.
//!
//! # Security
//!
//! A remote that sends faster than we handle slows itself down. One that does not read is
//! disconnected at a bound that an honest slow one does not reach, because blocks wait for memory
//! instead of being queued. One that connects and stays silent holds a handshake permit until it
//! times out or a newer connection needs it; these permits come on top of the slots for peers, so
//! that silence takes no peer's slot and keeps no peer out.
//!
//! [`UnaskedRate`]: handfast_proto::receiving::UnaskedRate
//! [`LargeFrames`]: handfast_proto::receiving::LargeFrames
//! [`FairQueue`]: handfast_proto::fair_queue::FairQueue
