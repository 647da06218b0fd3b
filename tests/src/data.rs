//! Where the real chain data lies.

use std::path::{Path, PathBuf};

/// The workspace's root.
pub fn workspace_root() -> &'static Path {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/.."))
}

/// The path of `name` in `../shared/data` beside the workspace.
///
/// `None`, with a line on standard error that names the test's loss, when it is
/// not there: the data is large and not part of the repository.
pub fn find(name: &str) -> Option<PathBuf> {
    let path = workspace_root().join("../shared/data").join(name);
    if path.is_file() {
        return Some(path);
    }
    eprintln!("SKIPPED: {} is not there", path.display());
    None
}

/// The folder for what is expensive to make: generated chains, `bitcoind`.
///
/// `$HANDFAST_CACHE`, else `$XDG_CACHE_HOME/handfast`, else `~/.cache/handfast`,
/// as in `scripts/bitcoind`.
pub fn cache_dir() -> PathBuf {
    let set = |name| {
        std::env::var_os(name)
            .filter(|value| !value.is_empty())
            .map(PathBuf::from)
    };
    set("HANDFAST_CACHE")
        .or_else(|| set("XDG_CACHE_HOME").map(|dir| dir.join("handfast")))
        .or_else(|| set("HOME").map(|dir| dir.join(".cache/handfast")))
        .expect("one of HANDFAST_CACHE, XDG_CACHE_HOME and HOME is set")
}
