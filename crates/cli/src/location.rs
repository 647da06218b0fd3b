//! A node's network, directory and RPC addresses, which every command needs.

use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::PathBuf;
use std::str::FromStr;

use bitcoin::hex::{DisplayHex, FromHex};
use handfast_wire::Network;

use crate::error::SettingsError;
use crate::keys::{self, Key};
use crate::layers::{Layers, Origin};
use crate::running::{chosen_by, network_of, running_in};
use crate::values::{absolute, addresses, bad};

/// The network, directory and RPC addresses of a node, running or to be started.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NodeLocation {
    /// Its network.
    pub network: Network,
    /// The directory of this network, e.g. `~/.handfast/regtest`.
    pub network_dir: PathBuf,
    /// Addresses for RPC over TCP.
    pub rpc_listen: Vec<SocketAddr>,
    /// The Unix socket for RPC; empty: RPC over TCP only.
    pub rpc_socket: PathBuf,
    /// The file with the user and password for RPC over TCP.
    pub cookie: PathBuf,
    /// What the user gave, for hints.
    pub hints: Hints,
}

/// What the user gave to locate the node, to be repeated in hints.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Hints {
    /// Whether the network was given.
    pub network: bool,
    /// `--datadir`, or `datadir` of a configuration file.
    pub datadir: Option<PathBuf>,
}

/// The location of the node that the settings describe.
///
/// # Errors
/// A value that its key does not allow.
pub fn node_location(layers: &Layers) -> Result<NodeLocation, SettingsError> {
    let network = network(layers)?;
    let network_dir = datadir(layers)?.join(network.directory());
    let default = SocketAddr::from((Ipv4Addr::LOCALHOST, network.rpc_port()));
    let listen = addresses(layers, keys::RPC_LISTEN, network.rpc_port())?;
    let rpc_socket = match layers.one(keys::RPC_SOCKET) {
        Some((origin, path)) => absolute(origin, keys::RPC_SOCKET, path)?,
        None => network_dir.join(handfast_api::SOCKET_FILE),
    };
    let rpc_listen = if listen.is_empty() {
        vec![default]
    } else {
        listen
    };
    Ok(NodeLocation {
        network,
        cookie: network_dir.join(handfast_api::COOKIE_FILE),
        network_dir,
        rpc_listen,
        rpc_socket,
        hints: Hints {
            network: layers.given(keys::NETWORK).is_some(),
            datadir: layers.given(keys::DATADIR).and(datadir(layers).ok()),
        },
    })
}

/// The location of the node that a client calls: on the given network, else on that of the only
/// running node. An address on the command line without a socket excludes the default socket,
/// which may be another node's.
///
/// # Errors
/// As [`node_location`]; or several nodes are running and no network is given.
pub fn location_to_call(layers: &Layers) -> Result<NodeLocation, SettingsError> {
    let on_command_line =
        |key: Key| layers.given(key).map(|given| &given.origin) == Some(&Origin::CommandLine);
    let by_tcp =
        on_command_line(keys::RPC_LISTEN.into()) && !on_command_line(keys::RPC_SOCKET.into());
    let mut location = match layers.given(keys::NETWORK) {
        Some(_) => node_location(layers)?,
        None => running_location(layers)?,
    };
    if by_tcp {
        location.rpc_socket = PathBuf::new();
    }
    Ok(location)
}

/// The location of the running node, for clients that give no network: that of mainnet if one
/// is running there, or none is running.
fn running_location(layers: &Layers) -> Result<NodeLocation, SettingsError> {
    let dir = datadir(layers)?;
    match running_in(&dir).as_slice() {
        [only] => {
            let mut layers = layers.clone();
            layers.command_line(keys::NETWORK, vec![only.name().to_owned()]);
            if let Network::CustomSignet { challenge } = only {
                let challenge = challenge.to_lower_hex_string();
                layers.command_line(keys::SIGNET_CHALLENGE, vec![challenge]);
            }
            node_location(&layers)
        }
        [] => node_location(layers),
        several if several.contains(&Network::Mainnet) => node_location(layers),
        several => Err(SettingsError::Several {
            dir,
            networks: several.iter().map(chosen_by).collect(),
        }),
    }
}

/// The network of this name. Bitcoin Core's names are refused: its `test` is testnet3, which is
/// rarely meant.
#[must_use]
pub fn network_called(name: &str) -> Option<Network> {
    Network::from_str(name)
        .ok()
        .filter(|network| network.name() == name)
}

fn network(layers: &Layers) -> Result<Network, SettingsError> {
    let network = match layers.one(keys::NETWORK) {
        None => Network::Mainnet,
        Some((origin, name)) => network_called(name).ok_or_else(|| {
            bad(
                origin,
                keys::NETWORK,
                name,
                "a network: choose mainnet, testnet4, testnet3, signet or regtest",
            )
        })?,
    };
    let key = keys::SIGNET_CHALLENGE;
    let Some((origin, hex)) = layers.one(key) else {
        return Ok(network);
    };
    if network != Network::Signet {
        let reference = origin.reference(key);
        return Err(SettingsError::ChallengeWithoutSignet(reference));
    }
    let challenge = Vec::<u8>::from_hex(hex)
        .ok()
        .filter(|challenge| !challenge.is_empty());
    let wanted = "a script in hexadecimal digits, such as 51 for OP_TRUE";
    let challenge = challenge.ok_or_else(|| bad(origin, key, hex, wanted))?;
    let public = Network::Signet.signet_challenge() == Some(challenge.as_slice());
    Ok(if public {
        network
    } else {
        Network::CustomSignet { challenge }
    })
}

/// The data directory, of all networks.
///
/// # Errors
/// No data directory is given, and there is no `$HOME`; the value is not a path; or it is the
/// directory of one network, inside a data directory.
pub fn datadir(layers: &Layers) -> Result<PathBuf, SettingsError> {
    let dir = given_datadir(layers)?;
    if network_of(&dir).is_some() {
        let parent = dir.parent().unwrap_or(&dir).to_owned();
        return Err(SettingsError::NetworkDirectory { dir, parent });
    }
    Ok(dir)
}

fn given_datadir(layers: &Layers) -> Result<PathBuf, SettingsError> {
    let key = keys::DATADIR;
    match layers.one(key) {
        Some((origin, "")) => Err(bad(origin, key, "", "a directory")),
        Some((origin, dir)) => absolute(origin, key, dir),
        None => match std::env::var_os("HOME").filter(|home| !home.is_empty()) {
            Some(home) => Ok(PathBuf::from(home).join(".handfast")),
            None => Err(SettingsError::NoHome),
        },
    }
}

/// The error of a data directory that the system refuses.
#[must_use]
pub fn bad_datadir(layers: &Layers, dir: PathBuf, source: io::Error) -> SettingsError {
    let given = layers.one(keys::DATADIR);
    let reference = given.map(|(origin, _)| origin.reference(keys::DATADIR));
    SettingsError::BadPath {
        reference: reference.unwrap_or_else(|| "$HOME".to_owned()),
        dir,
        source,
    }
}

/// The address at which this machine reaches a listening socket: loopback for one that listens
/// on every address.
#[must_use]
pub fn reachable(mut addr: SocketAddr) -> SocketAddr {
    if addr.ip().is_unspecified() {
        addr.set_ip(match addr {
            SocketAddr::V4(_) => Ipv4Addr::LOCALHOST.into(),
            SocketAddr::V6(_) => Ipv6Addr::LOCALHOST.into(),
        });
    }
    addr
}
