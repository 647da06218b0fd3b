//! How the actors work together. Documentation only: there is no code here.
//!
//! | actor | arbiter | owns |
//! |---|---|---|
//! | `Node` | the system's | start and stop order |
//! | `Listener` | `listener` | the listening sockets |
//! | `Connector` | `listener` | dials and look-ups in flight |
//! | `Peer`, one per connection | `net`, one arbiter for two cores | the socket, the session, the lifecycle guard |
//! | `PeerManager` | `core` | the peer table with its address book |
//! | `SyncManager` | `core` | the sync machine with the header tree |
//! | `Miner` | `miner` | the mining machine, the hash threads |
//!
//! An arbiter is an OS thread with an event loop. Besides these there are the
//! kernel's two threads (`decode`, `kernel`) and, while blocks are read for
//! remotes or for RPC, blocking threads that end when idle.
//!
//! - [`ordering`]: what arrives before what, and why it cannot be otherwise.
//! - [`credits`]: what bounds each queue.
//! - [`shutdown`]: the phases of the end, and what each one proves.
//! - [`walks`]: three ways through the code, and what a change touches.
//! - [`words`]: what the words of this code base mean.
//! - [`durability`]: what survives a kill, a loss of power, a full disk.

pub mod credits;
pub mod durability;
pub mod ordering;
pub mod shutdown;
pub mod walks;
pub mod words;
