//! The chain as we know it: the header tree, and what changes it.
//!
//! A header enters the tree when it keeps the rules that need no engine; its status follows
//! what the engine says of its active chain and of marks. Every change is noted, so that one
//! new snapshot is published at the end of the step.

use bitcoin::block::Header;
use bitcoin::{BlockHash, Work};

use crate::headers::{
    Connected, HeaderFault, HeaderRules, HeaderTree, InsertError, Inserted, PowParams, Status,
    is_too_new,
};
use crate::time::Now;

use super::{Reject, RejectKind};

/// A tip younger than this ends initial block download, seconds. Core `DEFAULT_MAX_TIP_AGE`.
const MAX_TIP_AGE: u32 = 24 * 60 * 60;

/// The header tree, with what sync must know of its changes.
#[derive(Clone, Debug)]
pub(super) struct Chain {
    tree: HeaderTree,
    /// Work that ends initial block download. Core `nMinimumChainWork`.
    minimum_work: Work,
    /// No snapshot was published since the last change.
    changed: bool,
    /// Core's latch: whether initial block download goes on, and the tip that this was judged
    /// by. `None`: not judged yet.
    initial_download: Option<(bool, BlockHash)>,
}

/// Whether a header's time (Unix seconds) is too far ahead of our clock to be accepted now.
pub(super) fn is_from_the_future(now: Now, time: u32) -> bool {
    is_too_new(time, now.unix)
}

/// Headers whose time is more than two hours ahead are no offence and may be right later;
/// the kernel would refuse them now. Where the first of them is, and its time.
pub(super) fn first_from_the_future(now: Now, headers: &[Header]) -> Option<(usize, u32)> {
    let mut times = headers.iter().map(|header| header.time).enumerate();
    times.find(|(_, time)| is_from_the_future(now, *time))
}

impl Chain {
    pub(super) fn new(tree: HeaderTree, minimum_work: Work) -> Self {
        Self {
            tree,
            minimum_work,
            changed: false,
            initial_download: None,
        }
    }

    pub(super) fn tree(&self) -> &HeaderTree {
        &self.tree
    }

    /// Whether there was a change since this was asked last.
    pub(super) fn take_changed(&mut self) -> bool {
        std::mem::take(&mut self.changed)
    }

    /// What tests do to it behind the back of sync.
    #[cfg(test)]
    pub(super) fn tree_mut(&mut self) -> &mut HeaderTree {
        &mut self.tree
    }
}

/// Headers.
impl Chain {
    /// Takes headers, each of which builds on the one before it, into the tree. Returns how
    /// many were new. What breaks a rule is refused before anything of them is stored.
    pub(super) fn accept(
        &mut self,
        pow: &PowParams,
        now: Now,
        headers: &[Header],
        hashes: &[BlockHash],
    ) -> Result<usize, Reject> {
        let known = hashes.partition_point(|hash| self.tree.contains(hash));
        let known = known.min(headers.len());
        let new = &headers[known..];
        self.check_rules(pow, now, new)?;
        for (header, hash) in new.iter().zip(&hashes[known..]) {
            self.tree.insert_hashed(*hash, *header)?;
            self.tree.mark_unsent(hash);
        }
        let last = hashes.get(headers.len().wrapping_sub(1));
        let last = last.and_then(|last| self.tree.get(last));
        if last.is_some_and(|entry| entry.status == Status::Invalid) {
            return Err(Reject {
                kind: RejectKind::CachedInvalid,
                reason: "duplicate-invalid".into(),
            });
        }
        self.changed |= !new.is_empty();
        Ok(new.len())
    }

    /// Whether new headers, which build on each other, keep the rules that need no engine.
    fn check_rules(&self, pow: &PowParams, now: Now, headers: &[Header]) -> Result<(), Reject> {
        let Some(first) = headers.first() else {
            return Ok(());
        };
        let parent = &first.prev_blockhash;
        let Some(mut rules) = HeaderRules::after(pow, &self.tree, parent, now.unix) else {
            return Err(Reject {
                kind: RejectKind::MissingPrev,
                reason: "prev-blk-not-found".into(),
            });
        };
        let mut checked = headers.iter().map(|header| rules.check(header));
        checked.try_for_each(|fault| fault.map_err(Reject::from))
    }

    /// The engine has this header. Whether it was new to us.
    pub(super) fn adopt(&mut self, hash: BlockHash, header: Header) -> bool {
        match self.tree.adopt(hash, header) {
            Ok(Inserted::Known) => false,
            Ok(Inserted::New) => {
                self.changed = true;
                true
            }
            // Its parent is one that the engine had before the start and that we do not
            // know; a peer that has the chain will show it.
            Err(error) => {
                tracing::debug!(%hash, %error, "the kernel knows more than we do");
                false
            }
        }
    }

    /// Headers on the way to `end` that the engine was not given, which count as given now.
    pub(super) fn take_unsent(&mut self, end: &BlockHash, max: usize) -> Vec<Header> {
        self.tree.take_unsent(end, max)
    }

    /// The engine is given this header.
    pub(super) fn mark_sent(&mut self, hash: &BlockHash) {
        self.tree.mark_sent(hash);
    }

    /// The engine did not keep this header: it is to be given again.
    pub(super) fn mark_unsent(&mut self, hash: &BlockHash) {
        self.tree.mark_unsent(hash);
    }

    /// The engine lacks this header or what leads to it: all from the active chain on is given
    /// again with the next block that needs it.
    pub(super) fn give_again(&mut self, hash: &BlockHash) {
        let tip = self.tree.tip().hash;
        if self.tree.is_unsent(hash) {
            let parent = self.tree.parent(hash);
            if parent.is_none_or(|parent| self.tree.is_unsent(&parent.hash)) {
                return;
            }
        }
        if let Some(fork) = self.tree.fork_point(hash, &tip)
            && let Some(first) = self.tree.ancestor(hash, fork.height + 1)
        {
            self.tree.mark_unsent(&first.hash);
        }
    }
}

/// What the engine says.
impl Chain {
    /// The block's data is on disk.
    pub(super) fn mark_stored(&mut self, hash: &BlockHash) {
        self.tree.mark_stored(hash);
        self.changed = true;
    }

    /// The engine has marked a block invalid. Whether that was news.
    pub(super) fn mark_invalid(&mut self, hash: &BlockHash) -> bool {
        let news = self.tree.contains(hash) && self.tree.mark_invalid(hash) > 0;
        self.changed |= news;
        news
    }

    /// The block is the new tip.
    pub(super) fn connect(&mut self, hash: &BlockHash) -> Connected {
        self.changed = true;
        self.tree.connect(hash)
    }

    /// The block was the tip; its parent is now.
    pub(super) fn disconnect(&mut self, hash: &BlockHash) {
        self.changed = true;
        self.tree.disconnect(hash);
    }
}

/// Initial block download.
impl Chain {
    /// Whether we are far behind, as Bitcoin Core reports it: true until the tip has once had
    /// the minimum work and been younger than a day; then never again.
    ///
    /// As in Core (`UpdateIBDStatus`) that is judged when the chain has been opened and when
    /// there is a new tip, not by the clock alone: a tip that has grown old is no reason to
    /// begin again, nor is a clock that was put back one to end.
    pub(super) fn is_initial_download(&self, now: Now) -> bool {
        match self.initial_download {
            Some((goes_on, _)) => goes_on,
            None => !self.tip_is_recent(now),
        }
    }

    /// The chain has been opened.
    pub(super) fn opened(&mut self, now: Now) {
        if self.initial_download.is_none() {
            self.judge_initial_download(now);
        }
    }

    /// Judges a new tip, until there was a recent one.
    pub(super) fn latch_initial_download(&mut self, now: Now) {
        let tip = self.tree.tip().hash;
        if matches!(self.initial_download, Some((true, judged)) if judged != tip) {
            self.judge_initial_download(now);
        }
    }

    fn judge_initial_download(&mut self, now: Now) {
        self.initial_download = Some((!self.tip_is_recent(now), self.tree.tip().hash));
    }

    fn tip_is_recent(&self, now: Now) -> bool {
        let tip = self.tree.tip();
        tip.work >= self.minimum_work && tip.header.time >= now.unix.saturating_sub(MAX_TIP_AGE)
    }
}

impl From<HeaderFault> for Reject {
    fn from(fault: HeaderFault) -> Self {
        let kind = match fault {
            HeaderFault::TooNew { .. } => RejectKind::TimeFuture,
            HeaderFault::Bits { .. }
            | HeaderFault::TooOld { .. }
            | HeaderFault::Timewarp { .. }
            | HeaderFault::Version(_) => RejectKind::InvalidHeader,
        };
        Self {
            kind,
            reason: fault.to_string(),
        }
    }
}

impl From<InsertError> for Reject {
    fn from(error: InsertError) -> Self {
        let (kind, reason) = match error {
            InsertError::UnknownParent { .. } => (RejectKind::MissingPrev, "prev-blk-not-found"),
            InsertError::InvalidParent { .. } => (RejectKind::InvalidPrev, "bad-prevblk"),
        };
        Self {
            kind,
            reason: reason.into(),
        }
    }
}

#[cfg(test)]
mod tests {
    use handfast_wire::Network;

    use super::*;
    use crate::testing::chains::{Blocks, mine};

    /// The chain as we know it, all of whose blocks are connected.
    fn chain_of(blocks: &Blocks) -> Chain {
        Chain::new(blocks.tree(), Work::from_be_bytes([0; 32]))
    }

    fn at(unix: u32) -> Now {
        Now {
            unix,
            ..Now::default()
        }
    }

    fn accept(chain: &mut Chain, headers: &[Header]) -> Result<usize, Reject> {
        let hashes: Vec<BlockHash> = headers.iter().map(Header::block_hash).collect();
        let pow = PowParams::for_network(&Network::Regtest);
        chain.accept(&pow, at(1_400_000_000), headers, &hashes)
    }

    #[test]
    fn of_headers_that_break_a_rule_none_is_stored_and_nothing_has_changed() {
        let blocks = Blocks::new(20, 1);
        let mut chain = chain_of(&blocks);
        let good = mine(&blocks.tip(), blocks.tip().time + 1, 2);
        let too_old = mine(&good, blocks.at(1).header.time, 2);
        let reject = accept(&mut chain, &[good, too_old]).expect_err("it is too old");
        assert_eq!(reject.kind, RejectKind::InvalidHeader);
        assert_eq!(chain.tree().len(), 21);
        assert!(!chain.take_changed());
        assert_eq!(accept(&mut chain, &[good]), Ok(1));
        assert!(chain.take_changed() && chain.tree().is_unsent(&good.block_hash()));
        assert_eq!(accept(&mut chain, &[good]), Ok(0));
        assert!(!chain.take_changed());
    }

    #[test]
    fn headers_that_build_on_an_invalid_one_are_refused_and_so_is_that_itself() {
        let blocks = Blocks::new(20, 1);
        let mut chain = chain_of(&blocks);
        let bad = mine(&blocks.tip(), blocks.tip().time + 1, 2);
        accept(&mut chain, &[bad]).expect("it keeps the rules");
        assert!(chain.mark_invalid(&bad.block_hash()));
        assert!(!chain.mark_invalid(&bad.block_hash()), "no news");
        let kind = |result: Result<usize, Reject>| result.expect_err("refused").kind;
        assert_eq!(kind(accept(&mut chain, &[bad])), RejectKind::CachedInvalid);
        let next = mine(&bad, bad.time + 1, 2);
        assert_eq!(kind(accept(&mut chain, &[next])), RejectKind::InvalidPrev);
    }

    #[test]
    fn initial_block_download_ends_with_a_recent_tip_and_never_begins_again() {
        let blocks = Blocks::new(20, 1);
        let recent = at(blocks.tip().time + MAX_TIP_AGE);
        let old = at(blocks.tip().time + MAX_TIP_AGE + 1);
        let mut chain = chain_of(&blocks);
        chain.opened(old);
        // The clock alone changes nothing.
        chain.latch_initial_download(recent);
        assert!(chain.is_initial_download(recent));
        let next = mine(&blocks.tip(), blocks.tip().time + 1, 2);
        accept(&mut chain, &[next]).expect("it keeps the rules");
        chain.mark_stored(&next.block_hash());
        chain.connect(&next.block_hash());
        chain.latch_initial_download(recent);
        assert!(!chain.is_initial_download(at(u32::MAX)));
    }
}
