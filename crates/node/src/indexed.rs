//! The indexes that an operator may want, and how far each is.

use std::path::{Path, PathBuf};

use handfast_index::{Index, IndexProgress};
use tokio::sync::watch;

/// Where they lie in the network's directory, as in Bitcoin Core's.
const DIRECTORY: &str = "indexes";

/// An index, and news of how far it is.
#[derive(Debug)]
pub(crate) struct Indexed {
    pub(crate) name: IndexName,
    pub(crate) index: Index,
    pub(crate) standing: watch::Sender<IndexProgress>,
}

/// An index that a node can keep.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum IndexName {
    /// Transactions by their ids.
    Transactions,
    /// Transactions by the outputs that they spend.
    Spenders,
}

impl IndexName {
    /// All of them, in the order in which Bitcoin Core lists them.
    pub const ALL: [Self; 2] = [Self::Transactions, Self::Spenders];

    /// Its name in options, directories and `getindexinfo`, which is Bitcoin Core's.
    #[must_use]
    pub fn text(self) -> &'static str {
        match self {
            Self::Transactions => "txindex",
            Self::Spenders => "txospenderindex",
        }
    }

    pub(crate) fn directory(self, datadir: &Path) -> PathBuf {
        datadir.join(DIRECTORY).join(self.text())
    }
}
