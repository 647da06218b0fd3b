//! Where a node is, or is to be: what every command has to know.

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

/// Where a node is, or is to be: what every command has to know.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    /// Its network.
    pub network: Network,
    /// The directory of this network, e.g. `~/.handfast/regtest`.
    pub network_dir: PathBuf,
    /// Addresses for calls over TCP.
    pub rpc_listen: Vec<SocketAddr>,
    /// Empty: calls are by TCP alone.
    pub rpc_socket: PathBuf,
    /// The file with the name and password for calls over TCP.
    pub cookie: PathBuf,
    /// What the user said of it.
    pub hints: Hints,
}

/// What the user said of the place, for hints that are to lead there too.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Hints {
    /// Whether the network was named.
    pub network: bool,
    /// `--datadir`, or that of a configuration file.
    pub datadir: Option<PathBuf>,
}

/// Settles where the node is.
///
/// # Errors
/// A value that is none.
pub fn place(layers: &Layers) -> Result<Place, SettingsError> {
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
    Ok(Place {
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

/// Settles where the node is that a client calls: on the network that is named, or else on
/// that of the one node that is running there. Whoever names an address of it on the
/// command line, and no socket, means that address: the socket may be another node's.
///
/// # Errors
/// As [`place`]; and several nodes are running, and none is named.
pub fn place_to_call(layers: &Layers) -> Result<Place, SettingsError> {
    let named =
        |key: Key| layers.given(key).map(|given| &given.origin) == Some(&Origin::CommandLine);
    let by_tcp = named(keys::RPC_LISTEN.into()) && !named(keys::RPC_SOCKET.into());
    let mut place = match layers.given(keys::NETWORK) {
        Some(_) => place(layers)?,
        None => running_place(layers)?,
    };
    if by_tcp {
        place.rpc_socket = PathBuf::new();
    }
    Ok(place)
}

/// The place of the node that is running, for callers that name no network. On mainnet if
/// one is running there, or none anywhere.
fn running_place(layers: &Layers) -> Result<Place, SettingsError> {
    let dir = datadir(layers)?;
    match running_in(&dir).as_slice() {
        [only] => {
            let mut layers = layers.clone();
            layers.command_line(keys::NETWORK, vec![only.name().to_owned()]);
            if let Network::CustomSignet { challenge } = only {
                let challenge = challenge.to_lower_hex_string();
                layers.command_line(keys::SIGNET_CHALLENGE, vec![challenge]);
            }
            place(&layers)
        }
        [] => place(layers),
        several if several.contains(&Network::Mainnet) => place(layers),
        several => Err(SettingsError::Several {
            dir,
            networks: several.iter().map(chosen_by).collect(),
        }),
    }
}

/// The network of this name, and no other: Bitcoin Core's `test` is the third test network,
/// which hardly anybody means who writes it.
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
/// Nothing says which; or it is the directory of one network, inside a data directory.
pub fn datadir(layers: &Layers) -> Result<PathBuf, SettingsError> {
    let dir = named_datadir(layers)?;
    if network_of(&dir).is_some() {
        let parent = dir.parent().unwrap_or(&dir).to_owned();
        return Err(SettingsError::NetworkDirectory { dir, parent });
    }
    Ok(dir)
}

fn named_datadir(layers: &Layers) -> Result<PathBuf, SettingsError> {
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

/// The error of a data directory that the system does not let us use.
#[must_use]
pub fn bad_datadir(layers: &Layers, dir: PathBuf, source: io::Error) -> SettingsError {
    let named = layers.one(keys::DATADIR);
    let reference = named.map(|(origin, _)| origin.reference(keys::DATADIR));
    SettingsError::BadPath {
        reference: reference.unwrap_or_else(|| "$HOME".to_owned()),
        dir,
        source,
    }
}

/// Where a socket is reached from this machine: one that listens on every address, on loopback.
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
