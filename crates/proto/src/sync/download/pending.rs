//! Blocks that were given to the engine.

use std::time::Duration;

use bitcoin::BlockHash;
use bitcoin::block::Header;
use handfast_wire::RawBlock;

use crate::lifecycle::ConnId;

/// A block that is with the engine.
#[derive(Clone, Debug)]
pub(in crate::sync) struct Pending {
    header: Header,
    bytes: usize,
    since: Duration,
    keep: bool,
    /// The first header that goes along with it and that the engine had not been given
    /// before.
    brings: Option<BlockHash>,
    /// What another peer sent meanwhile, should this be bad data.
    copy: Option<(ConnId, RawBlock)>,
}

impl Pending {
    /// `since`: when it is handed over, monotonic. `keep`: whether it is to be durable before
    /// its verdict is reported. `brings`: the first header that goes along with it.
    pub(in crate::sync) fn new(
        block: &RawBlock,
        since: Duration,
        keep: bool,
        brings: Option<BlockHash>,
    ) -> Self {
        Self {
            header: block.header,
            bytes: block.bytes.len(),
            since,
            keep,
            brings,
            copy: None,
        }
    }

    pub(in crate::sync) fn header(&self) -> Header {
        self.header
    }

    pub(in crate::sync) fn bytes(&self) -> usize {
        self.bytes
    }

    /// When it was handed over, monotonic.
    pub(in crate::sync) fn since(&self) -> Duration {
        self.since
    }

    /// Whether the engine makes it durable before it reports its verdict.
    pub(in crate::sync) fn is_to_be_kept(&self) -> bool {
        self.keep
    }

    /// The first header that went along with it.
    pub(in crate::sync) fn brings(&self) -> Option<BlockHash> {
        self.brings
    }

    pub(super) fn has_copy(&self) -> bool {
        self.copy.is_some()
    }

    /// Another copy waits for the verdict, unless one does already.
    pub(super) fn keep_copy(&mut self, id: ConnId, block: RawBlock) {
        self.copy.get_or_insert((id, block));
    }

    /// The copy that another peer sent.
    pub(in crate::sync) fn take_copy(&mut self) -> Option<(ConnId, RawBlock)> {
        self.copy.take()
    }
}
