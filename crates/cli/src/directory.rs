//! Whether a directory can be the data directory of a node, or the directory of `handfast testnet`.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use crate::error::SettingsError;
use crate::foreign;
use crate::keys;
use crate::layers::Layers;
use crate::location::{bad_datadir, datadir};

/// Checks that a node can use its data directory, that of all networks.
///
/// # Errors
/// The directory cannot be made, or belongs to another program.
pub fn check_datadir(layers: &Layers) -> Result<(), SettingsError> {
    let dir = datadir(layers)?;
    can_be_made(layers, &dir, true)?;
    match foreign::in_datadir(&dir, layers.file()) {
        Some(found) => Err(SettingsError::Foreign { dir, found }),
        None => Ok(()),
    }
}

/// The directory of `handfast testnet`, whose nodes are called `nodes`. `path`: as the user gave it.
///
/// # Errors
/// The directory cannot be made, or belongs to another program.
pub fn testnet_dir(path: &Path, nodes: &[String]) -> Result<PathBuf, SettingsError> {
    let mut layers = Layers::default();
    layers.command_line(keys::DATADIR, vec![path.to_string_lossy().into_owned()]);
    // A path that is not UTF-8 can be a directory too.
    let dir = match path.to_str() {
        Some(_) => datadir(&layers)?,
        None => std::path::absolute(path)
            .map_err(|source| bad_datadir(&layers, path.to_owned(), source))?,
    };
    can_be_made(&layers, &dir, false)?;
    match foreign::in_testnet_dir(&dir, nodes) {
        Some(found) => Err(SettingsError::Foreign { dir, found }),
        None => Ok(dir),
    }
}

/// Refuses a directory that cannot be made; `below_one`: its parent must exist. The network's
/// directory below it is checked again under its lock.
fn can_be_made(layers: &Layers, dir: &Path, below_one: bool) -> Result<(), SettingsError> {
    match fs::metadata(dir) {
        Ok(found) if !found.is_dir() => return Err(SettingsError::NotADirectory(dir.to_owned())),
        Ok(_) => {}
        Err(source)
            if source.kind() != io::ErrorKind::NotFound
                && source.kind() != io::ErrorKind::NotADirectory =>
        {
            return Err(bad_datadir(layers, dir.to_owned(), source));
        }
        Err(_) => {
            let above = dir.ancestors().skip(1);
            let file = above
                .into_iter()
                .find(|path| path.exists() && !path.is_dir());
            if let Some(file) = file {
                return Err(SettingsError::BelowAFile {
                    dir: dir.to_owned(),
                    file: file.to_owned(),
                });
            }
            if let Ok(target) = fs::read_link(dir) {
                let target = target.display();
                let source = format!("it is a link to {target}, which does not exist");
                let source = io::Error::other(source);
                return Err(bad_datadir(layers, dir.to_owned(), source));
            }
            let parent = dir.parent().unwrap_or(dir);
            if below_one && !parent.is_dir() {
                return Err(SettingsError::NoParent {
                    dir: dir.to_owned(),
                    parent: parent.to_owned(),
                });
            }
        }
    }
    Ok(())
}
