//! The nodes that are running in a data directory.

use std::fs;
use std::path::Path;

use bitcoin::hex::DisplayHex;
use handfast_disk::{MARKER_FILE, MAX_MARKER, is_in_use, read_text};
use handfast_wire::Network;

/// Custom signets that are looked for at most.
const MAX_CUSTOM: usize = 64;

/// The networks of the nodes that are running in the data directory `dir`, custom signets last.
pub fn running_in(dir: &Path) -> Vec<Network> {
    let runs = |network: &Network| is_in_use(&dir.join(network.directory()));
    let known = Network::ALL.into_iter();
    known.chain(custom_signets(dir)).filter(runs).collect()
}

/// The custom signets that have a directory below `dir`, with the challenge from its marker.
fn custom_signets(dir: &Path) -> Vec<Network> {
    let entries = fs::read_dir(dir).into_iter().flatten().flatten();
    let named = entries.filter(|entry| {
        let name = entry.file_name();
        name.to_string_lossy().starts_with("signet-")
    });
    let mut found: Vec<Network> = named
        .take(MAX_CUSTOM)
        .filter_map(|entry| {
            network_of(&entry.path()).filter(|it| entry.file_name() == *it.directory())
        })
        .collect();
    found.sort_by_key(Network::directory);
    found
}

/// The text after `--network` that chooses this network on a command line.
#[must_use]
pub fn chosen_by(network: &Network) -> String {
    match network {
        Network::CustomSignet { challenge } => {
            let challenge = challenge.to_lower_hex_string();
            format!("signet --signet-challenge {challenge}")
        }
        network => network.name().to_owned(),
    }
}

/// The network of the marker in `dir`; `None` too if the marker cannot be read.
pub(crate) fn network_of(dir: &Path) -> Option<Network> {
    let text = read_text(&dir.join(MARKER_FILE), MAX_MARKER).ok()?;
    Network::from_label(text.lines().nth(1)?)
}

#[cfg(test)]
mod tests {
    use std::fs::File;

    use super::*;

    /// The directory of a node that runs, as it looks from another process.
    fn run(dir: &Path, network: &Network) -> File {
        let dir = dir.join(network.directory());
        fs::create_dir_all(&dir).expect("made");
        let marker = match network {
            Network::CustomSignet { .. } => "signet challenge 51",
            network => network.name(),
        };
        let marker = format!("handfast data directory, format 1\n{marker}\n");
        fs::write(dir.join("network"), marker).expect("written");
        let lock = File::create(dir.join(".lock")).expect("made");
        lock.lock().expect("the lock is free");
        lock
    }

    #[test]
    fn a_node_of_a_custom_signet_is_found_with_its_challenge() {
        let home = tempfile::tempdir().expect("a temporary directory");
        let custom = Network::CustomSignet {
            challenge: vec![0x51],
        };
        let custom_runs = run(home.path(), &custom);
        // Another's directory, by its name.
        fs::create_dir(home.path().join("signet-ffffffff")).expect("made");
        assert_eq!(running_in(home.path()), std::slice::from_ref(&custom));
        assert_eq!(chosen_by(&custom), "signet --signet-challenge 51");
        let _regtest_runs = run(home.path(), &Network::Regtest);
        assert_eq!(running_in(home.path()), [Network::Regtest, custom]);
        // Not by closing it: a child that another test is starting may hold a copy until it executes.
        custom_runs.unlock().expect("it was locked");
        assert_eq!(running_in(home.path()), [Network::Regtest]);
    }
}
