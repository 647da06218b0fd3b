//! Durability: what survives what.
//!
//! The kernel writes blocks to its files at once, but holds in memory which blocks there are and
//! what their chain is. It flushes that when it closes, when its cache is full, and with a block
//! that comes 50 to 70 minutes after the last flush. A process that is killed leaves a consistent
//! directory without anything since.
//!
//! So a block that others may rely on is *journaled*: appended to `blocks.journal` and synced on
//! the kernel's thread, before its verdict is posted. Whatever acknowledges or announces a block
//! acts upon the verdict; so no order of events can acknowledge first.
//!
//! | block | journaled | when |
//! |---|---|---|
//! | submitted over RPC, mined here | yes | before the answer; with all that it builds on |
//! | from a peer, after initial block download | yes | before its verdict |
//! | from a peer, in initial block download, among the last eight of the chain that is downloaded, and its tip | yes | a quarter of a second after the last of them; the tip is announced then |
//! | from a peer, in initial block download | no | it can be downloaded again |
//!
//! Indexes (`--txindex`, `--txospenderindex`) hold nothing that is not in the blocks. A batch of
//! blocks is written to them as a whole or not at all, and after any exit they continue from the
//! last one: `kill -9` loses nothing of them, a loss of power their end. A damaged one is moved to
//! `indexes/<name>.damaged`, which holds the last one, and rebuilt.
//!
//! Answers to peers and callers describe the chain as it is: they promise nothing about durability.
//!
//! # What survives what
//!
//! | exit | the chain | acknowledged blocks | addresses, bans |
//! |---|---|---|---|
//! | clean stop | all | all | all |
//! | `kill -9`, panic, out of memory | to the last flush, and the journal's blocks | all | addresses to the last save, at most 15 minutes back; bans all |
//! | loss of power, crash of the system | the same | all, if the drive honours `fsync` | the same |
//! | disk full | node continues to serve; takes no blocks below 128 MiB of free space | none is acknowledged that is not on disk | the old file is intact |
//! | journal not writable | continues, in memory and the kernel's files | none since then; made up for when it can be written | |
//! | a file damaged | | damaged records of the journal are skipped and logged; a copy stays | moved to `<name>.damaged-<n>`, eight at most; started empty |
//!
//! # The journal
//!
//! Its format, and how a failed write or sync is handled, is described in `handfast_disk`'s
//! `Journal`; which blocks are in it in `chain`'s `block_journal`. In short: every complete record is
//! found again, whatever is damaged before it; what cannot be read is logged, and the file as it
//! was stays under another name; after a failed `fsync` nothing of the file is trusted and it is
//! rewritten; a failed write is tried again after one second, then after two, up to every ten.
//!
//! Records are dropped when the kernel reports two flushes since, never by a clock. A clean stop
//! empties the journal once the kernel has closed without an error. At 256 MiB the kernel is made
//! to flush. So it holds at most the blocks of two hours.
//!
//! # After an unclean shutdown
//!
//! The file `running` marks that the last run did not stop cleanly. The node warns, submits the
//! journal's blocks to the kernel, and reports its progress: in the log, in the answer (-28) to
//! calls that need the chain, and so in `handfast status`. A block that the kernel has already
//! takes a millisecond. Blocks whose parent is missing (`blocks/` was removed), or whose time is
//! more than two hours ahead of a clock that was set back, stay in the journal and are submitted
//! again at the next start.
//!
//! # What an operator sees
//!
//! | text | cause | remedy |
//! |---|---|---|
//! | `blocks.journal cannot be written (…)`, as the error of `submitblock` (-25) and as a warning of `getblockchaininfo` and `status` | no space, a read-only file system, an error of the drive | make space or make it writable; the node notices within ten seconds, writes what is missing and announces it |
//! | `the disk is full: … MiB are free` | less than 128 MiB are free | make space; the node continues within ten seconds |
//! | `blocks.journal: not all of it can be read` | the process or the system ended within a write, or (with `damaged` above 0) the drive returned other data than was written | in the second case check the drive; the blocks that are missing are downloaded again |
//! | `some blocks of blocks.journal cannot be accepted yet` | the clock was set back, or `blocks/` was removed | set the clock right; start again |
//! | `the index … is not updated: …`, as a warning and in the log | no space, a read-only file system, a block that cannot be read | make space or make it writable; the node tries again every ten seconds |
//! | `the index … is damaged` | the drive, or another version wrote it | none needed |
//! | `a state file cannot be read; it was quarantined` | the drive, or a newer version wrote it | none needed |
