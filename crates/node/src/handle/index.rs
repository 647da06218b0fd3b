//! Questions to indexes.

use std::time::Duration;

use handfast_index::{IndexError, IndexProgress, Location, Subject};

use super::{NodeHandle, off_the_arbiter};
use crate::indexed::IndexName;
use crate::view::Gone;

/// How long a caller waits for an index to reach the tip: it is a block behind for some
/// milliseconds, and for longer only when the disk cannot be written.
const CATCH_UP: Duration = Duration::from_secs(10);
/// Blocks that an index may lack of the chain for its being waited for.
const FAR_BEHIND: u32 = 16;

/// Why an index has no answer.
#[derive(Debug, thiserror::Error)]
pub enum FindError {
    /// The node is not there to answer.
    #[error(transparent)]
    Gone(#[from] Gone),
    /// The database failed.
    #[error(transparent)]
    Index(#[from] IndexError),
}

impl NodeHandle {
    /// How far an index is; `None`: the node does not keep it. Never waits.
    #[must_use]
    pub fn index(&self, name: IndexName) -> Option<IndexProgress> {
        let indexed = self.shared.index(name)?;
        Some(indexed.index.progress())
    }

    /// Waits until an index has the tip of this moment. False at once if there is none, or
    /// while it is built, and after ten seconds if something keeps it from it. Core
    /// `BaseIndex::BlockUntilSyncedToCurrentChain`.
    ///
    /// # Cancel safety
    /// May be dropped and called again.
    pub async fn index_at_tip(&self, name: IndexName) -> bool {
        let Some(indexed) = self.shared.index(name) else {
            return false;
        };
        let asked = self.view().tree.tip();
        // It would not be there in time, and the caller holds a place meanwhile.
        if indexed.index.progress().height + FAR_BEHIND < asked.height {
            return false;
        }
        let has_it = |standing: &IndexProgress| {
            // The chain may have left the tip that was there when the caller came.
            let at_tip = || standing.block == Some(self.view().tree.tip().hash);
            let at_asked = standing.block == Some(asked.hash) || asked.height == 0;
            let beyond = || {
                let block = standing.block.filter(|_| standing.height > asked.height);
                block.is_some_and(|block| self.view().tree.in_active_chain(&block))
            };
            at_asked || beyond() || at_tip()
        };
        let mut standing = indexed.standing.subscribe();
        let wait = standing.wait_for(|now| !now.synced || has_it(now));
        let waited = tokio::time::timeout(CATCH_UP, wait).await;
        waited.is_ok_and(|standing| standing.is_ok_and(|standing| standing.synced))
    }

    /// Where an index has the subject: a transaction in one place at most; an output is spent
    /// in none, some or all of the places. Nowhere if the node does not keep the index.
    ///
    /// # Errors
    /// See [`FindError`].
    pub async fn find(
        &self,
        name: IndexName,
        subject: Subject,
    ) -> Result<Vec<Location>, FindError> {
        let shared = self.shared.clone();
        let find = move || match shared.index(name) {
            Some(indexed) => indexed.index.find(&subject),
            None => Ok(vec![]),
        };
        Ok(off_the_arbiter(find).await??)
    }
}
