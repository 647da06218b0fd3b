//! The configuration file.

use std::fs;
use std::io;
use std::path::Path;

use handfast_disk::read_text;

use crate::error::SettingsError;
use crate::keys;
use crate::layers::Layers;
use crate::location::{bad_datadir, datadir};

/// The configuration file in the data directory, read if it exists.
const DEFAULT_FILE: &str = "handfast.toml";
/// Longest configuration file, bytes.
const MAX_FILE: u64 = 1 << 20;

/// Adds the configuration file below the command line. `chosen`: the value of `--config`.
///
/// # Errors
/// The file of `--config` cannot be read, or the file has an error in it.
pub fn add_config_file(layers: &mut Layers, chosen: Option<&Path>) -> Result<(), SettingsError> {
    if let Some(file) = chosen {
        let text = read_text(file, MAX_FILE).map_err(|error| SettingsError::File {
            file: file.to_owned(),
            source: error.into(),
        })?;
        return layers.add_file(file, &text);
    }
    let dir = datadir(layers)?;
    let file = dir.join(DEFAULT_FILE);
    let text = match read_text(&file, MAX_FILE) {
        Ok(text) => text,
        Err(error) => {
            let source = io::Error::from(error);
            return match source.kind() {
                io::ErrorKind::NotFound | io::ErrorKind::NotADirectory => Ok(()),
                _ => match fs::symlink_metadata(&file) {
                    Ok(_) => Err(SettingsError::File { file, source }),
                    // The cause is the directory: the file in it is optional.
                    Err(source) => Err(bad_datadir(layers, dir, source)),
                },
            };
        }
    };
    let mut own = Layers::default();
    own.add_file(&file, &text)?;
    if own.given(keys::DATADIR).is_some() {
        return Err(SettingsError::DatadirInDefaultFile(file));
    }
    layers.add_file(&file, &text)
}

#[cfg(test)]
mod tests {
    use handfast_wire::Network;

    use super::*;
    use crate::node_location;

    #[test]
    fn the_file_in_the_data_directory_is_found_by_it_and_cannot_move_it() {
        let home = tempfile::tempdir().expect("a temporary directory");
        let mut layers = Layers::default();
        let dir = home.path().display().to_string();
        layers.command_line(keys::DATADIR, vec![dir]);
        let file = home.path().join(DEFAULT_FILE);
        fs::write(&file, "network = 'testnet4'").expect("written");
        let mut found = layers.clone();
        add_config_file(&mut found, None).expect("valid");
        assert_eq!(
            node_location(&found).expect("valid").network,
            Network::Testnet4
        );

        fs::write(&file, "datadir = '/elsewhere'").expect("written");
        let error = add_config_file(&mut layers.clone(), None)
            .expect_err("a circle")
            .to_string();
        assert!(error.contains("--config"), "{error}");
        add_config_file(&mut layers, Some(&home.path().join("missing.toml")))
            .expect_err("the file of --config must exist");
    }
}
