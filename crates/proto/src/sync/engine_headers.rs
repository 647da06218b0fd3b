//! Headers to be given to the engine.
//!
//! A header that a peer sends enters the tree when it follows the rules that can be checked without
//! the engine. The engine is given it with the first block that needs it: the block's ancestors go
//! along with it, and, where the network has an `assumevalid` block, some more of the chain that
//! the block's sender has shown: the engine skips the scripts of old blocks only when it has the
//! headers of later ones.
//!
//! # Bounds
//!
//! So headers from any peer and message cannot delay blocks: at most [`MAX_BATCHES_AHEAD`] batches
//! wait that no block needs. A chain whose blocks no peer sends costs the engine nothing.

use bitcoin::BlockHash;
use bitcoin::block::Header;

use super::chain::Chain;

/// Most headers in one job of the engine: those of one `headers` message.
const BATCH: usize = 2_000;
/// Waiting batches at which no more are given that no block needs yet.
const MAX_BATCHES_AHEAD: usize = 4;

/// Headers to be given to the engine. See the module.
#[derive(Clone, Debug, Default)]
pub(super) struct EngineHeaders {
    /// Batches given that are not answered.
    waiting: usize,
}

impl EngineHeaders {
    /// The next headers on the path to `end`, unless enough wait.
    pub(super) fn ahead(&mut self, chain: &mut Chain, end: &BlockHash) -> Option<Vec<Header>> {
        if self.waiting >= MAX_BATCHES_AHEAD {
            return None;
        }
        let batch = chain.take_unsent(end, BATCH);
        if batch.is_empty() {
            return None;
        }
        self.waiting += 1;
        Some(batch)
    }

    /// The engine has processed a batch.
    pub(super) fn answered(&mut self) {
        let waiting = self.waiting.checked_sub(1);
        self.waiting = waiting.expect("the engine answers each batch once");
    }

    /// Batches given that the engine has not answered.
    pub(super) fn waiting(&self) -> usize {
        self.waiting
    }
}

#[cfg(test)]
mod tests {
    use bitcoin::Work;
    use handfast_wire::Network;

    use super::*;
    use crate::headers::PowParams;
    use crate::testing::chains::Blocks;
    use crate::time::Now;

    #[test]
    fn four_batches_wait_at_most_and_each_header_is_given_once() {
        let blocks = Blocks::new(9_000, 1);
        let none = Work::from_be_bytes([0; 32]);
        let mut chain = Chain::new(Blocks::new(0, 0).tree(), none);
        let (headers, pow) = (blocks.headers(), PowParams::for_network(&Network::Regtest));
        let hashes: Vec<BlockHash> = headers.iter().map(Header::block_hash).collect();
        let now = Now {
            unix: u32::MAX,
            ..Now::default()
        };
        assert_eq!(chain.accept(&pow, now, &headers, &hashes), Ok(9_000));
        let mut engine = EngineHeaders::default();
        let mut given = Vec::new();
        while let Some(batch) = engine.ahead(&mut chain, &blocks.tip_hash()) {
            assert!(batch.len() <= BATCH);
            given.extend(batch);
        }
        assert_eq!((engine.waiting(), given.len()), (MAX_BATCHES_AHEAD, 8_000));
        engine.answered();
        let last = engine.ahead(&mut chain, &blocks.tip_hash());
        given.extend(last.expect("one was answered"));
        assert_eq!(given, headers);
        engine.answered();
        assert_eq!(engine.ahead(&mut chain, &blocks.tip_hash()), None);
    }
}
