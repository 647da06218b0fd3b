//! From options and configuration file to settings that can be acted on.
//!
//! Nothing here writes to the disk. A bad value ends the start with one line
//! that names the option, or file and key, what is wrong, and what to do.

mod keys;
mod layers;
mod mining;
mod rpc;

pub(crate) use keys::{KEYS, Scope, Shape};
pub(crate) use layers::Layers;
pub(crate) use rpc::RpcSettings;

use std::fs;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::time::Duration;

use bitcoin::Work;
use bitcoin::hex::FromHex;
use handfast_node::files::read_text;
use handfast_node::{MiningConfig, Network};
use layers::{Origin, Reference};
use tracing_subscriber::EnvFilter;
use tracing_subscriber::filter::LevelFilter;

/// The configuration file that is read when there is one.
const DEFAULT_FILE: &str = "handfast.toml";
/// Most inbound peers that may be asked for. Each takes a file descriptor and a few KB.
const MAX_INBOUND_LIMIT: usize = 100_000;
/// Deepest accept queue that may be asked for. Linux keeps it in 32 bits, others in 16.
const MAX_BACKLOG: u32 = 65_535;
/// Longest time for the handshake, seconds.
const MAX_HANDSHAKE_SECONDS: u64 = 3_600;

/// Why settings cannot be used. `Display` is one line: the cause and the remedy.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SettingsError {
    #[error("{reference}: {value:?} is not {wanted}")]
    Value {
        reference: String,
        value: String,
        wanted: String,
    },
    #[error("{}: line {line}: {message}; correct the line (the samples in config/ show how)", file.display())]
    Syntax {
        file: PathBuf,
        line: usize,
        message: String,
    },
    #[error("{}: there is no key {key:?}; the keys are the long options of `handfast run --help` without the dashes", file.display())]
    UnknownKey { file: PathBuf, key: String },
    #[error("{}: {key} must be {wanted}, not {found}", file.display())]
    Type {
        file: PathBuf,
        key: &'static str,
        found: &'static str,
        wanted: &'static str,
    },
    #[error("{0} and {1} contradict each other; leave one of them out")]
    Conflict(String, String),
    #[error("{0} needs --network signet; leave it out, or choose that network")]
    ChallengeWithoutSignet(String),
    #[error(
        "{0}: blocks of this signet need a signature, which Handfast cannot make; leave it out, or choose a signet whose challenge is OP_TRUE"
    )]
    SignetNeedsSignature(String),
    #[error("{0}: nobody is named whom blocks pay; add --mine-address")]
    MineForWhom(String),
    #[error("the configuration file {}: {source}; correct it, or name another with --config", file.display())]
    File { file: PathBuf, source: io::Error },
    #[error("{}: datadir cannot be set in the file that is found by it; give --datadir, or name the file with --config", .0.display())]
    DatadirInDefaultFile(PathBuf),
    #[error("the data directory {0} cannot be made: {parent} does not exist; create that first, or choose another --datadir", .dir.display(), parent = .parent.display())]
    NoParent { dir: PathBuf, parent: PathBuf },
    #[error("the data directory {} is not a directory; choose another --datadir", .0.display())]
    NotADirectory(PathBuf),
    #[error("{} holds {found:?} and looks like the data directory of another program; choose another --datadir", dir.display())]
    Foreign { dir: PathBuf, found: &'static str },
    #[error(
        "there is no home directory ($HOME is not set); say where to keep the data with --datadir"
    )]
    NoHome,
    #[error("{reference}: {source}")]
    UserAgent {
        reference: String,
        source: handfast_node::StartError,
    },
}

/// Where a node is, or is to be: what every command has to know.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Place {
    pub(crate) network: Network,
    /// The directory of this network, e.g. `~/.handfast/regtest`.
    pub(crate) network_dir: PathBuf,
    pub(crate) rpc_listen: Vec<SocketAddr>,
    /// Empty: calls are by TCP alone.
    pub(crate) rpc_socket: PathBuf,
    /// The file with the name and password for calls over TCP.
    pub(crate) cookie: PathBuf,
}

/// Everything that `run` has to know.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct RunSettings {
    pub(crate) place: Place,
    pub(crate) listen: Vec<SocketAddr>,
    pub(crate) connect: Vec<String>,
    pub(crate) add_nodes: Vec<String>,
    pub(crate) dial: bool,
    pub(crate) max_inbound: usize,
    pub(crate) backlog: u32,
    pub(crate) minimum_work: Option<Work>,
    pub(crate) handshake_timeout: Duration,
    pub(crate) user_agent: String,
    pub(crate) log: String,
    pub(crate) rpc: RpcSettings,
    pub(crate) mining: MiningConfig,
}

/// Longest configuration file, bytes.
const MAX_FILE: u64 = 1 << 20;

/// Adds the configuration file to what the command line says. `named`: the value of `--config`.
pub(crate) fn add_config_file(
    layers: &mut Layers,
    named: Option<&Path>,
) -> Result<(), SettingsError> {
    if let Some(file) = named {
        let text = read_text(file, MAX_FILE).map_err(|error| SettingsError::File {
            file: file.to_owned(),
            source: error.into(),
        })?;
        return layers.add_file(file, &text);
    }
    let file = datadir(layers)?.join(DEFAULT_FILE);
    let text = match read_text(&file, MAX_FILE) {
        Ok(text) => text,
        Err(error) => {
            let source = io::Error::from(error);
            return match source.kind() {
                io::ErrorKind::NotFound | io::ErrorKind::NotADirectory => Ok(()),
                _ => Err(SettingsError::File { file, source }),
            };
        }
    };
    let mut own = Layers::default();
    own.add_file(&file, &text)?;
    if own.get("datadir").is_some() {
        return Err(SettingsError::DatadirInDefaultFile(file));
    }
    layers.add_file(&file, &text)
}

/// Settles where the node is.
pub(crate) fn place(layers: &Layers) -> Result<Place, SettingsError> {
    let network = network(layers)?;
    let network_dir = datadir(layers)?.join(network.directory());
    let default = SocketAddr::from((Ipv4Addr::LOCALHOST, network.rpc_port()));
    let listen = addresses(layers, "rpc-listen", network.rpc_port())?;
    let rpc_socket = match layers.one("rpc-socket") {
        Some((_, path)) => absolute(path)?,
        None => network_dir.join("node.sock"),
    };
    let rpc_listen = if listen.is_empty() {
        vec![default]
    } else {
        listen
    };
    Ok(Place {
        network,
        cookie: network_dir.join(handfast_rpc::COOKIE_FILE),
        network_dir,
        rpc_listen,
        rpc_socket,
    })
}

/// Settles where the node is that a client calls. Whoever names an address of it on the
/// command line, and no socket, means that address: the socket may be another node's.
pub(crate) fn place_to_call(layers: &Layers) -> Result<Place, SettingsError> {
    let named = |key| layers.get(key).map(|given| &given.origin) == Some(&Origin::CommandLine);
    let by_tcp = named("rpc-listen") && !named("rpc-socket");
    let mut place = place(layers)?;
    if by_tcp {
        place.rpc_socket = PathBuf::new();
    }
    Ok(place)
}

/// Settles everything for `run` and looks whether the data directory can be ours.
pub(crate) fn run_settings(layers: &Layers) -> Result<RunSettings, SettingsError> {
    let place = place(layers)?;
    let wanted_inbound = format!("a number from 0 to {MAX_INBOUND_LIMIT}");
    let wanted_seconds = format!("a number of seconds from 1 to {MAX_HANDSHAKE_SECONDS}");
    let max_inbound = number(
        layers,
        "max-inbound",
        0..=MAX_INBOUND_LIMIT,
        &wanted_inbound,
    )?;
    let seconds = number(
        layers,
        "handshake-timeout",
        1..=MAX_HANDSHAKE_SECONDS,
        &wanted_seconds,
    )?;
    let wanted_backlog = format!("a number from 1 to {MAX_BACKLOG}");
    let backlog = number(layers, "backlog", 1..=MAX_BACKLOG, &wanted_backlog)?;
    let settings = RunSettings {
        listen: listen(layers, &place.network)?,
        connect: peers(layers, "connect")?,
        add_nodes: peers(layers, "add-node")?,
        dial: layers.flag("no-dial").is_none(),
        max_inbound: max_inbound.unwrap_or(handfast_node::config::DEFAULT_MAX_INBOUND),
        backlog: backlog.unwrap_or(handfast_node::config::DEFAULT_BACKLOG),
        minimum_work: minimum_work(layers)?,
        handshake_timeout: seconds.map_or(
            handfast_node::config::DEFAULT_HANDSHAKE_TIMEOUT,
            Duration::from_secs,
        ),
        user_agent: user_agent(layers)?,
        log: log_filter(layers)?,
        rpc: rpc::rpc(layers)?,
        mining: mining::mining(layers, &place.network)?,
        place,
    };
    check_datadir(&datadir(layers)?)?;
    check_socket_directory(layers, &settings.place)?;
    Ok(settings)
}

/// The node makes its own directory, and no other.
fn check_socket_directory(layers: &Layers, place: &Place) -> Result<(), SettingsError> {
    let Some((origin, path)) = layers.one("rpc-socket") else {
        return Ok(());
    };
    match place.rpc_socket.parent() {
        Some(dir) if dir.is_dir() || place.network_dir.starts_with(dir) => Ok(()),
        Some(_) | None => Err(bad(
            origin,
            "rpc-socket",
            path,
            "a path in a directory that exists",
        )),
    }
}

fn bad(origin: &Origin, key: &str, value: &str, wanted: impl Into<String>) -> SettingsError {
    SettingsError::Value {
        reference: Reference(origin, key).to_string(),
        value: value.to_owned(),
        wanted: wanted.into(),
    }
}

fn network(layers: &Layers) -> Result<Network, SettingsError> {
    let network = match layers.one("network") {
        None => Network::Mainnet,
        Some((origin, name)) => Network::from_str(name).map_err(|_| {
            bad(
                origin,
                "network",
                name,
                "a network: choose mainnet, testnet4, testnet3, signet or regtest",
            )
        })?,
    };
    let Some((origin, hex)) = layers.one("signet-challenge") else {
        return Ok(network);
    };
    if network != Network::Signet {
        return Err(SettingsError::ChallengeWithoutSignet(
            Reference(origin, "signet-challenge").to_string(),
        ));
    }
    let challenge = Vec::<u8>::from_hex(hex)
        .ok()
        .filter(|challenge| !challenge.is_empty());
    let challenge = challenge.ok_or_else(|| {
        bad(
            origin,
            "signet-challenge",
            hex,
            "a script in hexadecimal digits, such as 51 for OP_TRUE",
        )
    })?;
    let public = Network::Signet.signet_challenge() == Some(challenge.as_slice());
    Ok(if public {
        network
    } else {
        Network::CustomSignet { challenge }
    })
}

fn absolute(path: &str) -> Result<PathBuf, SettingsError> {
    std::path::absolute(path).map_err(|source| SettingsError::File {
        file: path.into(),
        source,
    })
}

fn datadir(layers: &Layers) -> Result<PathBuf, SettingsError> {
    match layers.one("datadir") {
        Some((origin, "")) => Err(bad(origin, "datadir", "", "a directory")),
        Some((_, dir)) => absolute(dir),
        None => match std::env::var_os("HOME").filter(|home| !home.is_empty()) {
            Some(home) => Ok(PathBuf::from(home).join(".handfast")),
            None => Err(SettingsError::NoHome),
        },
    }
}

/// Refuses a directory that cannot be made, or that is somebody else's. The
/// network's own directory below it is checked again under its lock.
fn check_datadir(dir: &Path) -> Result<(), SettingsError> {
    match fs::metadata(dir) {
        Ok(found) if !found.is_dir() => return Err(SettingsError::NotADirectory(dir.to_owned())),
        Ok(_) => {}
        Err(_) => {
            let parent = dir.parent().unwrap_or(dir);
            if !parent.is_dir() {
                return Err(SettingsError::NoParent {
                    dir: dir.to_owned(),
                    parent: parent.to_owned(),
                });
            }
        }
    }
    // Bitcoin Core keeps these at the top, Handfast one level below.
    match ["bitcoin.conf", "chainstate", "blocks"]
        .into_iter()
        .find(|name| dir.join(name).exists())
    {
        Some(found) => Err(SettingsError::Foreign {
            dir: dir.to_owned(),
            found,
        }),
        None => Ok(()),
    }
}

/// An address with a port, or without: then it is `port`.
fn addresses(layers: &Layers, key: &str, port: u16) -> Result<Vec<SocketAddr>, SettingsError> {
    let parse = |(origin, text): (&Origin, &str)| {
        let addr = text.parse::<SocketAddr>().ok();
        let unbracketed = text
            .strip_prefix('[')
            .and_then(|rest| rest.strip_suffix(']'))
            .unwrap_or(text);
        let addr =
            addr.or_else(|| Some(SocketAddr::new(unbracketed.parse::<IpAddr>().ok()?, port)));
        addr.ok_or_else(|| {
            bad(
                origin,
                key,
                text,
                "an IP address with an optional port, such as 127.0.0.1:8333 or [::1]:8333",
            )
        })
    };
    let mut found: Vec<SocketAddr> = Vec::new();
    for (origin, text) in layers.many(key) {
        let addr = parse((origin, text))?;
        // Port 0 is another port each time.
        if addr.port() != 0 && found.contains(&addr) {
            return Err(bad(origin, key, text, "an address that is named once"));
        }
        found.push(addr);
    }
    Ok(found)
}

fn listen(layers: &Layers, network: &Network) -> Result<Vec<SocketAddr>, SettingsError> {
    let given = addresses(layers, "listen", network.p2p_port())?;
    match (
        layers.flag("no-listen"),
        layers.get("listen").map(|given| &given.origin),
    ) {
        (Some(a), Some(b)) if a == b && !given.is_empty() => Err(SettingsError::Conflict(
            Reference(b, "listen").to_string(),
            Reference(a, "no-listen").to_string(),
        )),
        // The command line wins over the file, whichever of the two it says.
        (Some(_), Some(Origin::CommandLine)) => Ok(given),
        (Some(_), _) => Ok(Vec::new()),
        (None, _) if given.is_empty() => Ok(default_listen(network)),
        (None, _) => Ok(given),
    }
}

/// Every address of the machine; a regtest node is for its own machine only.
fn default_listen(network: &Network) -> Vec<SocketAddr> {
    let port = network.p2p_port();
    if *network == Network::Regtest {
        return vec![(Ipv4Addr::LOCALHOST, port).into()];
    }
    let mut addresses = vec![SocketAddr::from((Ipv4Addr::UNSPECIFIED, port))];
    // A machine without IPv6 is no reason not to start.
    if TcpListener::bind((Ipv6Addr::LOCALHOST, 0)).is_ok() {
        addresses.push((Ipv6Addr::UNSPECIFIED, port).into());
    }
    addresses
}

/// Names or addresses of peers; what they resolve to is found out later.
fn peers(layers: &Layers, key: &str) -> Result<Vec<String>, SettingsError> {
    let check = |(origin, text): (&Origin, &str)| {
        let host = match text.rsplit_once(':') {
            // More than one colon and no bracket: an IPv6 address without a port.
            Some((host, _)) if host.contains(':') && !host.starts_with('[') => {
                text.parse::<IpAddr>().ok().map(|_| text)
            }
            Some(_) if text.ends_with(']') => Some(text),
            Some((host, port)) => port
                .parse::<u16>()
                .ok()
                .filter(|port| *port != 0)
                .map(|_| host),
            None => Some(text),
        };
        let plausible = host.is_some_and(|host| {
            !host.is_empty() && !host.contains(|c: char| c.is_whitespace() || c == '/')
        });
        if plausible {
            Ok(text.to_owned())
        } else {
            Err(bad(
                origin,
                key,
                text,
                "a host name or IP address with an optional port, such as 192.0.2.7:8333",
            ))
        }
    };
    layers.many(key).map(check).collect()
}

fn number<T: FromStr + PartialOrd>(
    layers: &Layers,
    key: &str,
    range: std::ops::RangeInclusive<T>,
    wanted: &str,
) -> Result<Option<T>, SettingsError> {
    let Some((origin, text)) = layers.one(key) else {
        return Ok(None);
    };
    match text.parse().ok().filter(|number| range.contains(number)) {
        Some(number) => Ok(Some(number)),
        None => Err(bad(origin, key, text, wanted)),
    }
}

fn minimum_work(layers: &Layers) -> Result<Option<Work>, SettingsError> {
    let Some((origin, text)) = layers.one("minimum-chain-work") else {
        return Ok(None);
    };
    let digits = text.strip_prefix("0x").unwrap_or(text);
    let padded = (1..=64)
        .contains(&digits.len())
        .then(|| format!("{digits:0>64}"));
    match padded.and_then(|digits| <[u8; 32]>::from_hex(&digits).ok()) {
        Some(bytes) => Ok(Some(Work::from_be_bytes(bytes))),
        None => Err(bad(
            origin,
            "minimum-chain-work",
            text,
            "a number of 1 to 64 hexadecimal digits",
        )),
    }
}

fn user_agent(layers: &Layers) -> Result<String, SettingsError> {
    let comments: Vec<String> = layers
        .one("user-agent-comment")
        .map(|(_, text)| text.to_owned())
        .into_iter()
        .collect();
    handfast_node::user_agent(&comments).map_err(|source| {
        let reference = layers.one("user-agent-comment");
        let reference =
            reference.map(|(origin, _)| Reference(origin, "user-agent-comment").to_string());
        SettingsError::UserAgent {
            reference: reference.unwrap_or_else(|| "user agent".into()),
            source,
        }
    })
}

fn log_filter(layers: &Layers) -> Result<String, SettingsError> {
    let Some((origin, filter)) = layers.one("log") else {
        return Ok("info".into());
    };
    // A bare word that is no level would be taken for the name of a crate, and silence all others.
    let level = |part: &str| {
        !part.trim().is_empty()
            && (part.contains(['=', '[']) || part.trim().parse::<LevelFilter>().is_ok())
    };
    if filter.split(',').all(level) && EnvFilter::try_new(filter).is_ok() {
        return Ok(filter.to_owned());
    }
    Err(bad(
        origin,
        "log",
        filter,
        "a log filter, such as info, debug or info,handfast_node=debug",
    ))
}

#[cfg(test)]
mod tests;
