//! `mining.dat`: the form, on disk, of what became of the blocks that were mined here.

use handfast_disk::Form;
use handfast_proto::mining::Totals;
use serde::{Deserialize, Serialize};

/// [`Totals`].
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct SavedTotals {
    found: u64,
    generated: u64,
    stale: u64,
    refused: u64,
}

impl Form for SavedTotals {
    type State = Totals;
    const FILE: &'static str = "mining.dat";
    const VERSION: u32 = 1;
    const LOSS: &'static str = "blocks that are mined here are counted from zero; to have the \
                                old counts, stop the node and put an intact copy of the file in \
                                its place";

    fn of(totals: &Totals) -> Self {
        let Totals {
            found,
            generated,
            stale,
            refused,
        } = *totals;
        Self {
            found,
            generated,
            stale,
            refused,
        }
    }

    fn state(self) -> Totals {
        let Self {
            found,
            generated,
            stale,
            refused,
        } = self;
        Totals {
            found,
            generated,
            stale,
            refused,
        }
    }
}

#[cfg(test)]
mod tests {
    use handfast_disk::StateFile;

    use super::*;

    #[test]
    fn counts_are_loaded_as_they_were_saved_and_begin_at_zero() {
        let dir = tempfile::tempdir().expect("a directory");
        let file = StateFile::<SavedTotals>::of_directory(dir.path());
        assert_eq!(file.load().expect("no file"), Totals::default());
        let totals = Totals {
            found: 1,
            generated: 2,
            stale: 3,
            refused: 4,
        };
        file.save(|| totals).expect("it can be written");
        assert_eq!(file.load().expect("it can be read"), totals);
    }
}
