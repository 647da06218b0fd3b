//! What `SyncManager` is sent, besides what every subscriber is ([`crate::subscribers`]).

use bitcoin::block::Header;
use handfast_proto::sync::{KernelEvent, SubmitResult};
use handfast_wire::RawBlock;
use tokio::sync::oneshot;

use crate::post::posted;

/// Verdicts of the kernel, oldest first. One message for several: each would wake
/// this thread in place of the kernel's.
#[derive(Debug)]
pub(crate) struct Kernel(pub(crate) Vec<KernelEvent>);

/// Offers a block from outside the network.
#[derive(Debug)]
pub(crate) struct SubmitBlock {
    /// The block.
    pub(crate) block: RawBlock,
    /// Gets the verdict.
    pub(crate) answer: oneshot::Sender<SubmitResult>,
}

/// Offers a header from outside the network.
#[derive(Debug)]
pub(crate) struct SubmitHeader {
    /// The header.
    pub(crate) header: Header,
    /// Gets the verdict.
    pub(crate) answer: oneshot::Sender<SubmitResult>,
}

/// Offers a block of our own, if its parent is the tip when this is handled.
#[derive(Debug)]
pub(crate) struct SubmitMined {
    /// The block.
    pub(crate) block: RawBlock,
    /// Gets the verdict; dropped without one: the block is stale, and was not offered.
    pub(crate) answer: oneshot::Sender<SubmitResult>,
}

posted!(by request: Kernel);
posted!(rare: SubmitBlock, SubmitHeader, SubmitMined);
