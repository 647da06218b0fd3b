//! Whether a directory can be a node's.

use std::fs;
use std::io;
use std::path::Path;

use handfast_cli::values::bad;
use handfast_cli::{Layers, Place, bad_datadir, keys};
use handfast_node::Network;
use handfast_rpc::MAX_SOCKET_PATH;

use super::RunError;

/// The node makes its own directory, and no other.
pub(super) fn check_socket_directory(layers: &Layers, place: &Place) -> Result<(), RunError> {
    let Some((origin, path)) = layers.one(keys::RPC_SOCKET) else {
        let length = place.rpc_socket.as_os_str().len();
        if length > MAX_SOCKET_PATH {
            let dir = place.network_dir.clone();
            return Err(RunError::DatadirTooLong { dir, length });
        }
        return Ok(());
    };
    match place.rpc_socket.parent() {
        Some(dir) if dir.is_dir() || place.network_dir.starts_with(dir) => Ok(()),
        Some(_) | None => Err(bad(
            origin,
            keys::RPC_SOCKET,
            path,
            "a path in a directory that exists",
        )
        .into()),
    }
}

/// Refuses a directory that cannot be made, or that is somebody else's. The
/// network's own directory below it is checked again under its lock.
pub(super) fn check_datadir(layers: &Layers, dir: &Path) -> Result<(), RunError> {
    match fs::metadata(dir) {
        Ok(found) if !found.is_dir() => return Err(RunError::NotADirectory(dir.to_owned())),
        Ok(_) => {}
        Err(source)
            if source.kind() != io::ErrorKind::NotFound
                && source.kind() != io::ErrorKind::NotADirectory =>
        {
            return Err(bad_datadir(layers, dir.to_owned(), source).into());
        }
        Err(_) => {
            let above = dir.ancestors().skip(1);
            let file = above
                .into_iter()
                .find(|path| path.exists() && !path.is_dir());
            if let Some(file) = file {
                return Err(RunError::BelowAFile {
                    dir: dir.to_owned(),
                    file: file.to_owned(),
                });
            }
            let parent = dir.parent().unwrap_or(dir);
            if !parent.is_dir() {
                return Err(RunError::NoParent {
                    dir: dir.to_owned(),
                    parent: parent.to_owned(),
                });
            }
        }
    }
    match foreign_entry(dir) {
        Some(found) => Err(RunError::Foreign {
            dir: dir.to_owned(),
            found,
        }),
        None => Ok(()),
    }
}

/// What lies in a directory that no node of ours has used, and that no node of ours would
/// put there. A directory with the marker of a network is ours, whatever else it holds; the
/// marker itself is read when the directory is taken.
fn foreign_entry(dir: &Path) -> Option<String> {
    // Bitcoin Core keeps these at the top, Handfast one level below.
    let core = ["bitcoin.conf", "chainstate", "blocks"]
        .into_iter()
        .find(|name| dir.join(name).exists());
    if let Some(core) = core {
        return Some(core.to_owned());
    }
    let mut foreign = None;
    for entry in fs::read_dir(dir).ok()?.flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        if is_network_directory(&name) && entry.path().join("network").exists() {
            return None;
        }
        if !is_harmless(&name) {
            foreign = foreign.or(Some(name));
        }
    }
    foreign
}

fn is_network_directory(name: &str) -> bool {
    let plain = Network::ALL.iter().any(|network| network.name() == name);
    plain || name.starts_with("signet-")
}

/// What may lie there before the first start: a configuration, the output of that start, and
/// what a fresh file system carries.
fn is_harmless(name: &str) -> bool {
    is_network_directory(name)
        || name == "lost+found"
        || [".toml", ".log"].iter().any(|end| name.ends_with(end))
}
