//! Why settings cannot be used, in lines that name the cause and the remedy.

use std::io;
use std::path::PathBuf;

/// Why settings cannot be used. `Display` is one line: the cause and the remedy.
#[derive(Debug, thiserror::Error)]
pub enum SettingsError {
    /// A value that is none for its key.
    #[error("{reference}: {value:?} is not {wanted}")]
    Value {
        /// The option, or file, line and key.
        reference: String,
        /// What was given.
        value: String,
        /// What would be right.
        wanted: String,
    },
    /// A configuration file that is no TOML.
    #[error("{}: line {line}: {message}; correct the line (the samples in config/ show how)", file.display())]
    Syntax {
        /// The file.
        file: PathBuf,
        /// Counted from 1.
        line: usize,
        /// What the parser says.
        message: String,
    },
    /// A key that there is not.
    #[error("{}: line {line}: there is no key {key:?}{}; the keys are the long options of `handfast run --help` without the dashes", file.display(), meant(*similar))]
    UnknownKey {
        /// The file.
        file: PathBuf,
        /// Counted from 1.
        line: usize,
        /// What was written.
        key: String,
        /// The key that was most likely meant.
        similar: Option<&'static str>,
    },
    /// A value of another type than its key's.
    #[error("{}: line {line}: {key} must be {wanted}, not {found}", file.display())]
    Type {
        /// The file.
        file: PathBuf,
        /// Counted from 1.
        line: usize,
        /// The key.
        key: &'static str,
        /// The type of what was written.
        found: &'static str,
        /// What would be right.
        wanted: &'static str,
    },
    /// A challenge on a network that has none.
    #[error("{0} needs --network signet; leave it out, or choose that network")]
    ChallengeWithoutSignet(String),
    /// A configuration file that cannot be read.
    #[error("the configuration file {}: {source}; correct it, or name another with --config", file.display())]
    File {
        /// The file.
        file: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// The file in the data directory says that it lies elsewhere.
    #[error("{}: datadir cannot be set in the file that is found by it; give --datadir, or name the file with --config", .0.display())]
    DatadirInDefaultFile(PathBuf),
    /// A directory that cannot be used.
    #[error("{reference}: {} cannot be used: {source}; choose another directory", dir.display())]
    BadPath {
        /// What named it.
        reference: String,
        /// The directory.
        dir: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// The directory above the data directory is not there.
    #[error("the data directory {0} cannot be made: {parent} does not exist; create that first, or choose another --datadir", .dir.display(), parent = .parent.display())]
    NoParent {
        /// The data directory.
        dir: PathBuf,
        /// The one above.
        parent: PathBuf,
    },
    /// A file lies where a directory would have to be.
    #[error("the data directory {} cannot be made: {} is a file; choose another --datadir", .dir.display(), .file.display())]
    BelowAFile {
        /// The data directory.
        dir: PathBuf,
        /// The file.
        file: PathBuf,
    },
    /// A file lies in its place.
    #[error("the data directory {} is not a directory; choose another --datadir", .0.display())]
    NotADirectory(PathBuf),
    /// It is the directory of one network, inside a data directory.
    #[error("{} is the directory of one network of a Handfast node; name the data directory, which is the one above it: --datadir {}", dir.display(), parent.display())]
    NetworkDirectory {
        /// The directory that was named.
        dir: PathBuf,
        /// The one above it.
        parent: PathBuf,
    },
    /// It is somebody else's.
    #[error("the data directory {} holds {found:?}, which is not Handfast's; choose an empty or new --datadir", dir.display())]
    Foreign {
        /// The data directory.
        dir: PathBuf,
        /// What lies in it.
        found: String,
    },
    /// A call that names no network, and several nodes that it could be for.
    #[error("several nodes are running in {}: {}; say which by --network", dir.display(), networks.join(", "))]
    Several {
        /// The data directory.
        dir: PathBuf,
        /// The networks of the nodes.
        networks: Vec<String>,
    },
    /// Nobody says where the data is.
    #[error(
        "there is no home directory ($HOME is not set); say where to keep the data with --datadir"
    )]
    NoHome,
}

/// What is said after a key that there is not.
fn meant(similar: Option<&str>) -> String {
    similar.map_or_else(String::new, |key| format!(" (is {key} meant?)"))
}
