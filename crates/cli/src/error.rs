//! Errors of settings, each one line with the cause and the remedy.

use std::io;
use std::path::PathBuf;

/// An error of the settings. `Display` is one line: the cause and the remedy.
#[derive(Debug, thiserror::Error)]
pub enum SettingsError {
    /// A value that its key does not allow.
    #[error("{reference}: {value:?} is not {wanted}")]
    Value {
        /// The option, or the file, line and key.
        reference: String,
        /// The value that was given.
        value: String,
        /// The values that are allowed.
        wanted: String,
    },
    /// A configuration file that is not TOML.
    #[error("{}: line {line}: {message}; correct the line (the samples in config/ show how)", file.display())]
    Syntax {
        /// The file.
        file: PathBuf,
        /// Counted from 1.
        line: usize,
        /// The parser's message.
        message: String,
    },
    /// A key that does not exist.
    #[error("{}: line {line}: there is no key {key:?}{}; the keys are the long options of `handfast run --help` without the dashes", file.display(), meant(*similar))]
    UnknownKey {
        /// The file.
        file: PathBuf,
        /// Counted from 1.
        line: usize,
        /// The key as it is written.
        key: String,
        /// The key with the most similar name.
        similar: Option<&'static str>,
    },
    /// A value whose type is not that of its key.
    #[error("{}: line {line}: {key} must be {wanted}, not {found}", file.display())]
    Type {
        /// The file.
        file: PathBuf,
        /// Counted from 1.
        line: usize,
        /// The key.
        key: &'static str,
        /// The type of the value as it is written.
        found: &'static str,
        /// The values that are allowed.
        wanted: &'static str,
    },
    /// A signet challenge for a network that is not a signet.
    #[error("{0} needs --network signet; leave it out, or choose that network")]
    ChallengeWithoutSignet(String),
    /// A configuration file that cannot be read.
    #[error("the configuration file {}: {source}; correct it, or give another with --config", file.display())]
    File {
        /// The file.
        file: PathBuf,
        /// The cause.
        source: io::Error,
    },
    /// The configuration file in the data directory sets the data directory.
    #[error("{}: datadir cannot be set in the file that is found by it; give --datadir, or give the file with --config", .0.display())]
    DatadirInDefaultFile(PathBuf),
    /// A directory that cannot be used.
    #[error("{reference}: {} cannot be used: {source}; choose another directory", dir.display())]
    BadPath {
        /// The option, or the file, line and key, that gives the directory.
        reference: String,
        /// The directory.
        dir: PathBuf,
        /// The cause.
        source: io::Error,
    },
    /// The parent of the data directory does not exist.
    #[error("the data directory {0} cannot be made: {parent} does not exist; create that first, or choose another --datadir", .dir.display(), parent = .parent.display())]
    NoParent {
        /// The data directory.
        dir: PathBuf,
        /// Its parent.
        parent: PathBuf,
    },
    /// A path component above the data directory is a file.
    #[error("the data directory {} cannot be made: {} is a file; choose another --datadir", .dir.display(), .file.display())]
    BelowAFile {
        /// The data directory.
        dir: PathBuf,
        /// The file.
        file: PathBuf,
    },
    /// The data directory's path is a file.
    #[error("the data directory {} is not a directory; choose another --datadir", .0.display())]
    NotADirectory(PathBuf),
    /// It is the directory of one network, inside a data directory.
    #[error("{} is the directory of one network of a Handfast node; name the data directory, which is the one above it: --datadir {}", dir.display(), parent.display())]
    NetworkDirectory {
        /// The directory that was given.
        dir: PathBuf,
        /// Its parent, the data directory.
        parent: PathBuf,
    },
    /// The data directory belongs to another program.
    #[error("the data directory {} holds {found:?}, which is not Handfast's; choose an empty or new --datadir", dir.display())]
    Foreign {
        /// The data directory.
        dir: PathBuf,
        /// The entry in it that is not Handfast's.
        found: String,
    },
    /// The command names no network, and several nodes are running.
    #[error("several nodes are running in {}: {}; choose one with --network", dir.display(), networks.join(", "))]
    Several {
        /// The data directory.
        dir: PathBuf,
        /// The networks of the running nodes.
        networks: Vec<String>,
    },
    /// Neither the settings nor `$HOME` give a data directory.
    #[error(
        "there is no home directory ($HOME is not set); give the data directory with --datadir"
    )]
    NoHome,
}

/// The hint after an unknown key.
fn meant(similar: Option<&str>) -> String {
    similar.map_or_else(String::new, |key| format!(" (is {key} meant?)"))
}
