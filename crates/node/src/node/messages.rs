//! What `Node` is sent.

use handfast_chain::OpenError;

use crate::opening::Open;
use crate::post::posted;

/// Shut the node down.
#[derive(Debug)]
pub(crate) struct Shutdown {
    /// Who wants it, or why.
    pub(crate) why: String,
}

/// An actor or thread that the node cannot run without has ended on its own.
#[derive(Debug)]
pub(crate) struct ActorDied {
    /// Which.
    pub(crate) who: &'static str,
    /// How.
    pub(crate) how: String,
}

/// The kernel was opened, or cannot be.
#[derive(Debug)]
pub(crate) struct Opened(pub(crate) Result<Box<Open>, OpenError>);

posted!(rare: Shutdown, ActorDied, Opened);
