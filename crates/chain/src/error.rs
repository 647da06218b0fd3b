//! Errors of opening, reading and closing, with remedies for an operator.

use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use bitcoin::BlockHash;
use handfast_disk::quoted;

use crate::cause_on_disk::cause_on_disk;

/// The data directory cannot be used. Each text names the cause and the remedy.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// Another node holds the lock.
    #[error(
        "{}: another Handfast node is using this data directory; stop it or choose another --datadir",
        .0.display()
    )]
    InUse(PathBuf),
    /// The directory has files, but no marker of Handfast.
    #[error(
        "{}: not empty and not a Handfast data directory (it holds {found:?}); choose an empty or new --datadir",
        dir.display()
    )]
    Foreign {
        /// The directory.
        dir: PathBuf,
        /// One of its entries.
        found: String,
    },
    /// A Handfast directory of another network.
    #[error(
        "{}: belongs to network {found}, not {wanted}; choose another --datadir or --network",
        dir.display()
    )]
    WrongNetwork {
        /// The directory.
        dir: PathBuf,
        /// The network in its marker file.
        found: String,
        /// The network asked for.
        wanted: String,
    },
    /// The marker file is of a later format.
    #[error(
        "{}: cannot be read by this version ({found:?}); it was written by a newer Handfast: use that version or another --datadir",
        file.display()
    )]
    Marker {
        /// The marker file.
        file: PathBuf,
        /// Its first line.
        found: String,
    },
    /// The marker file is damaged.
    #[error(
        "{}: damaged ({found:?}); if this directory belongs to network {wanted}, write the two lines {head:?} and {wanted:?} into the file, else choose another --datadir",
        file.display(), head = crate::lock::MARKER_HEAD
    )]
    DamagedMarker {
        /// The marker file.
        file: PathBuf,
        /// The damaged text.
        found: String,
        /// The network asked for, as its label in the file.
        wanted: String,
    },
    /// A special file is at the path of one of Handfast's files.
    #[error("{}: {found}; move it away, or choose another --datadir", path.display())]
    NotAFile {
        /// Its path.
        path: PathBuf,
        /// What it is.
        found: String,
    },
    /// The kernel's C interface takes UTF-8 paths only.
    #[error("{}: the path is not valid UTF-8; choose another --datadir", .0.display())]
    Path(PathBuf),
    /// The operating system refused.
    #[error("{}: {source}; {}", path.display(), system_remedy(source.kind()))]
    Io {
        /// File or directory concerned.
        path: PathBuf,
        /// The system's error.
        source: std::io::Error,
    },
    /// The chainstate has coins, and the block files are missing.
    #[error(
        "{blocks}: holds no blocks, but the chainstate was built from blocks: mount the disk that \
         they are on, or correct the link; if they are lost, remove {chainstate} to download \
         everything again",
        blocks = dir.join("blocks").display(), chainstate = quoted(&dir.join("chainstate"))
    )]
    NoBlocks {
        /// The data directory.
        dir: PathBuf,
    },
    /// The key of the block files is not the one with which they were written: the cause, and
    /// its remedy.
    #[error("{0}")]
    BlockKey(String),
    /// Opening panicked: a bug in Handfast.
    #[error("{}: opening it failed by a bug in Handfast ({message}); please report it with the log", dir.display())]
    Panicked {
        /// The data directory.
        dir: PathBuf,
        /// The panic's message.
        message: String,
    },
    /// The kernel did not open its databases.
    #[error(
        "{}: the block database cannot be opened ({detail}); {}",
        dir.display(), database_remedy(detail, dir)
    )]
    Kernel {
        /// The data directory.
        dir: PathBuf,
        /// What the kernel logged.
        detail: String,
    },
}

/// The remedy when the system refuses to read or write a file.
fn system_remedy(kind: ErrorKind) -> &'static str {
    match kind {
        ErrorKind::StorageFull | ErrorKind::QuotaExceeded => "free disk space",
        ErrorKind::ReadOnlyFilesystem => "make the file system writable",
        ErrorKind::PermissionDenied => "make it readable and writable for this user",
        _ => "check that the path exists and that this user may write there",
    }
}

/// Whether the kernel reports a full disk.
fn is_disk_full(detail: &str) -> bool {
    let detail = detail.to_ascii_lowercase();
    let words = ["no space left", "disk space", "disk quota"];
    words.iter().any(|words| detail.contains(words))
}

fn flush_remedy(detail: &str) -> &'static str {
    match is_disk_full(detail) {
        true => "; free disk space, then start again",
        false => "",
    }
}

/// The remedy for a database that does not open. Rebuilding it takes hours to days, so it is
/// advised only when neither the kernel's log nor the disk shows a cause with a simpler remedy.
fn database_remedy(detail: &str, dir: &Path) -> String {
    let detail = detail.to_ascii_lowercase();
    let logged = |words: &[&str]| words.iter().any(|word| detail.contains(word));
    // The cause on disk names the file.
    let simple = if let Some(cause) = cause_on_disk(dir) {
        return format!("{cause}; nothing has to be removed");
    } else if logged(&["from the future", "date and time"]) {
        "set the clock of this machine, then start again; nothing has to be removed"
    } else if is_disk_full(&detail) {
        "free disk space, then start again; nothing has to be removed"
    } else if logged(&["permission denied", "read-only", "operation not permitted"]) {
        "make the directory writable for this user, then start again; nothing has to be removed"
    } else if logged(&["too many open files"]) {
        "raise the limit on open files (ulimit -n), then start again; nothing has to be removed"
    } else if logged(&["resource temporarily unavailable"]) {
        "another program uses it: stop that, then start again; nothing has to be removed"
    } else {
        return format!(
            "if the clock, the disk and its permissions are right it may be damaged: remove \
             {} to rebuild it from the stored blocks, or also {} to download everything again",
            quoted(&dir.join("chainstate")),
            quoted(&dir.join("blocks"))
        );
    };
    simple.to_owned()
}

/// A block or its undo data cannot be read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ReadError {
    /// No block index entry has this hash.
    #[error("block {0} is not known")]
    Unknown(BlockHash),
    /// The header is known, but its data is not on disk (the block was not downloaded, or, for
    /// spent outputs, never connected).
    #[error("block {0} has no data on disk")]
    NoData(BlockHash),
    /// The files could not be read or do not match the index.
    #[error("block {hash} cannot be read: {detail}")]
    Io {
        /// The block asked for.
        hash: BlockHash,
        /// What the kernel logged.
        detail: String,
    },
    /// The chain is closed; the node is stopping.
    #[error("the block store is closed")]
    Closed,
}

/// The chain did not close cleanly. Blocks validated since the last flush may have to be
/// downloaded again; the directory is consistent.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CloseError {
    /// A thread of this crate had panicked.
    #[error("the {thread} thread panicked: {message}")]
    Panicked {
        /// Thread name.
        thread: &'static str,
        /// The panic's message.
        message: String,
    },
    /// The kernel reported an error while it wrote its state.
    #[error("the kernel could not save its state: {0}{remedy}", remedy = flush_remedy(.0))]
    Flush(String),
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_error_of_the_system_has_its_own_remedy() {
        let remedy_of = |kind: ErrorKind| {
            let path = PathBuf::from("/d");
            let source = kind.into();
            OpenError::Io { path, source }.to_string()
        };
        assert!(remedy_of(ErrorKind::StorageFull).ends_with("free disk space"));
        assert!(remedy_of(ErrorKind::PermissionDenied).contains("for this user"));
        let flush = CloseError::Flush("Disk space is too low!".to_owned()).to_string();
        assert!(
            flush.ends_with("; free disk space, then start again"),
            "{flush}"
        );
        assert!(remedy_of(ErrorKind::NotFound).contains("that the path exists"));
    }

    #[test]
    fn removing_a_database_is_advised_only_when_no_simpler_cause_is_known() {
        let remedy = |detail: &str| database_remedy(detail, Path::new("/d"));
        for (detail, part) in [
            (
                "The block database contains a block which appears to be from the future",
                "clock",
            ),
            ("IO error: /d/x.ldb: No space left on device", "disk space"),
            ("IO error: /d/LOCK: Permission denied", "writable"),
            ("IO error: /d/7.log: Too many open files", "ulimit -n"),
        ] {
            let remedy = remedy(detail);
            assert!(remedy.contains(part), "{detail}: {remedy}");
            assert!(!remedy.contains("/d/chainstate"), "{detail}: {remedy}");
        }
        let damaged = remedy("Corruption: bad magic");
        assert!(damaged.contains("remove /d/chainstate to"), "{damaged}");
        let damaged = database_remedy("Corruption: bad magic", Path::new("/it's"));
        assert!(damaged.contains("\"/it's/chainstate\""), "{damaged}");
    }
}
