//! The optional indexes, and the progress of each.

use std::path::{Path, PathBuf};

use handfast_index::{Index, IndexProgress};
use tokio::sync::watch;

/// Their directory within the network's directory, as in Bitcoin Core.
const DIRECTORY: &str = "indexes";

/// An index, and notifications of its progress.
#[derive(Debug)]
pub(crate) struct Indexed {
    pub(crate) name: IndexName,
    pub(crate) index: Index,
    pub(crate) standing: watch::Sender<IndexProgress>,
}

/// An index that a node can maintain.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum IndexName {
    /// Transactions by their ids.
    Transactions,
    /// Transactions by the outputs that they spend.
    Spenders,
}

impl IndexName {
    /// All indexes, in Bitcoin Core's order.
    pub const ALL: [Self; 2] = [Self::Transactions, Self::Spenders];

    /// Its name in options, directories and `getindexinfo`, as in Bitcoin Core.
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
