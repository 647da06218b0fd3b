//! Durability: what survives what.
//!
//! The kernel writes blocks to its files at once, but remembers in memory which blocks
//! there are and what their chain is. It writes that down when it closes, when its cache
//! is full, and with a block that comes 50 to 70 minutes after the last time. A process
//! that is killed leaves a consistent directory that has forgotten everything since.
//!
//! So a block that somebody may rely on is *kept*: appended to `blocks.journal` and synced
//! on the kernel's thread, before its verdict is posted. Whatever acknowledges or announces
//! a block acts upon the verdict; so no order of events can acknowledge first.
//!
//! | block | kept | when |
//! |---|---|---|
//! | submitted over RPC, mined here | yes | before the answer; with all that it builds on |
//! | from a peer, after initial block download | yes | before its verdict |
//! | from a peer, in initial block download, among the last eight of the chain that is downloaded, and its tip | yes | a quarter of a second after the last of them; the tip is announced then |
//! | from a peer, in initial block download | no | it can be had again |
//!
//! Indexes (`--txindex`, `--txospenderindex`) hold nothing that is not in the blocks. A write
//! of some blocks is in them as a whole or not at all, and after any end they go on from the
//! last one that is there: `kill -9` takes nothing from them, a loss of power the end. One that
//! is damaged is quarantined as `indexes/<name>.damaged`, the last one, and built again.
//!
//! What a peer or a caller asks for is answered from the chain as it is: such an answer
//! tells what there is now, and promises nothing.
//!
//! # What survives what
//!
//! | end | the chain | acknowledged blocks | addresses, bans |
//! |---|---|---|---|
//! | clean stop | all | all | all |
//! | `kill -9`, panic, out of memory | to the last flush, and what the journal adds | all | addresses to the last save, at most 15 minutes back; bans all |
//! | loss of power, crash of the system | the same | all, if the drive keeps what it confirmed to `fsync` | the same |
//! | disk full | node goes on serving; takes no blocks below 128 MiB of free space | none is acknowledged that is not on disk | the old file is intact |
//! | journal not writable | goes on, in memory and the kernel's files | none since then; made up for when it can be written | |
//! | a file damaged | | damaged records of the journal are left out and told; a copy stays | quarantined as `<name>.damaged-<n>`, eight at most; a new one is started |
//!
//! # The journal
//!
//! Its format, and what becomes of it when a write or a sync fails, is described in
//! `handfast_disk`'s `Journal`; which blocks are in it in `chain`'s `block_journal`. In short: every
//! record that is whole is found again, whatever is damaged before it; what cannot be read is
//! told, and the file as it was stays under another name; after a failed
//! `fsync` nothing of the file is believed and it is written anew; a write that failed is
//! tried again after one second, then after two, up to every ten.
//!
//! Records are dropped when the kernel has been seen to flush twice since, which it says
//! itself; never by a clock. A clean stop empties the journal once the kernel has closed
//! without an error. At 256 MiB the kernel is made to flush. So it stays between nothing
//! and the blocks of two hours.
//!
//! # After an unclean shutdown
//!
//! The file `running` shows that the last shutdown was unclean. The node warns,
//! offers the journal's blocks to the kernel, and tells how far it is: in the log, in the
//! answer (-28) to calls that need the chain, and so in `handfast status`. What the kernel
//! knows already takes a millisecond each. Blocks whose parent is missing (somebody
//! removed `blocks/`), or whose time lies more than two hours ahead of a clock that was set
//! back, stay in the journal and are offered again at the next start.
//!
//! # What an operator sees
//!
//! | text | cause | remedy |
//! |---|---|---|
//! | `blocks.journal cannot be written (…)`, as the error of `submitblock` (-25) and as a warning of `getblockchaininfo` and `status` | no space, a read-only file system, an error of the drive | make space or make it writable; the node finds out by itself within ten seconds, writes what is missing and announces it |
//! | `the disk is full: … MiB are free` | less than 128 MiB are free | make space; the node goes on within ten seconds |
//! | `blocks.journal: not all of it can be read` | the process or the system ended within a write, or (with `damaged` above 0) the drive gave back something else than was written | in the second case check the drive; the blocks that are missing are downloaded again |
//! | `some blocks of blocks.journal cannot be accepted yet` | the clock was set back, or `blocks/` was removed | set the clock right; start again |
//! | `the index … is not updated: …`, as a warning and in the log | no space, a read-only file system, a block that cannot be read | make space or make it writable; the node tries again every ten seconds |
//! | `the index … is damaged` | the drive, or another version wrote it | none needed |
//! | `a state file cannot be read; it was quarantined` | the drive, or a newer version wrote it | none needed |
