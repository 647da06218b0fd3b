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
use handfast_node::{IndexName, MiningConfig, Network, is_peer_name, is_routable, overlay_network};
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
    #[error("{}: line {line}: there is no key {key:?}{}; the keys are the long options of `handfast run --help` without the dashes", file.display(), meant(*similar))]
    UnknownKey {
        file: PathBuf,
        line: usize,
        key: String,
        similar: Option<&'static str>,
    },
    #[error("{}: line {line}: {key} must be {wanted}, not {found}", file.display())]
    Type {
        file: PathBuf,
        line: usize,
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
    #[error("the data directory {} cannot be made: {} is a file; choose another --datadir", .dir.display(), .file.display())]
    BelowAFile { dir: PathBuf, file: PathBuf },
    #[error("the data directory {} is not a directory; choose another --datadir", .0.display())]
    NotADirectory(PathBuf),
    #[error("{reference}: {} cannot be used: {source}; choose another directory", dir.display())]
    BadPath {
        reference: String,
        dir: PathBuf,
        source: io::Error,
    },
    #[error("--datadir: the RPC socket in {} would have a path of {length} bytes, at most {most} are possible; choose a shorter --datadir, or a place for the socket with --rpc-socket", dir.display(), most = handfast_rpc::MAX_SOCKET_PATH)]
    DatadirTooLong { dir: PathBuf, length: usize },
    #[error("several nodes are running in {}: {}; say which by --network", dir.display(), networks.join(", "))]
    Several { dir: PathBuf, networks: Vec<String> },
    #[error("the data directory {} holds {found:?}, which is not Handfast's; choose an empty or new --datadir", dir.display())]
    Foreign { dir: PathBuf, found: String },
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
    pub(crate) hints: Hints,
}

/// What the user said of the place, for hints that are to lead there too.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Hints {
    pub(crate) network: bool,
    /// `--datadir`, or that of a configuration file.
    pub(crate) datadir: Option<PathBuf>,
}

/// Everything that `run` has to know.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct RunSettings {
    pub(crate) place: Place,
    pub(crate) listen: Vec<SocketAddr>,
    /// Port 0: that of the first address of `listen`.
    pub(crate) external: Vec<SocketAddr>,
    /// `None`: unless `external` says where peers can reach us.
    pub(crate) discover: Option<bool>,
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
    pub(crate) indexes: Vec<IndexName>,
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
    let dir = datadir(layers)?;
    let file = dir.join(DEFAULT_FILE);
    let text = match read_text(&file, MAX_FILE) {
        Ok(text) => text,
        Err(error) => {
            let source = io::Error::from(error);
            return match source.kind() {
                io::ErrorKind::NotFound | io::ErrorKind::NotADirectory => Ok(()),
                _ => match fs::metadata(&dir) {
                    Ok(_) => Err(SettingsError::File { file, source }),
                    // The directory is at fault, not a file in it that nobody named.
                    Err(source) => Err(bad_datadir(layers, dir, source)),
                },
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
        Some((origin, path)) => absolute(origin, "rpc-socket", path)?,
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
            network: layers.get("network").is_some(),
            datadir: layers.get("datadir").and(datadir(layers).ok()),
        },
    })
}

/// Settles where the node is that a client calls: on the network that is named, or else on
/// that of the one node that is running there. Whoever names an address of it on the
/// command line, and no socket, means that address: the socket may be another node's.
pub(crate) fn place_to_call(layers: &Layers) -> Result<Place, SettingsError> {
    let named = |key| layers.get(key).map(|given| &given.origin) == Some(&Origin::CommandLine);
    let by_tcp = named("rpc-listen") && !named("rpc-socket");
    let mut place = match layers.get("network") {
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
    let running: Vec<Network> = Network::ALL
        .into_iter()
        .filter(|network| handfast_disk::is_in_use(&dir.join(network.directory())))
        .collect();
    match running.as_slice() {
        [only] => {
            let mut layers = layers.clone();
            layers.command_line("network", vec![only.name().to_owned()]);
            place(&layers)
        }
        [] => place(layers),
        several if several.contains(&Network::Mainnet) => place(layers),
        several => Err(SettingsError::Several {
            dir,
            networks: several.iter().map(|it| it.name().to_owned()).collect(),
        }),
    }
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
        external: external(layers, &place.network)?,
        discover: discover(layers)?,
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
        indexes: IndexName::ALL
            .into_iter()
            .filter(|index| layers.flag(index.text()).is_some())
            .collect(),
        place,
    };
    check_datadir(layers, &datadir(layers)?)?;
    check_socket_directory(layers, &settings.place)?;
    Ok(settings)
}

/// The node makes its own directory, and no other.
fn check_socket_directory(layers: &Layers, place: &Place) -> Result<(), SettingsError> {
    let Some((origin, path)) = layers.one("rpc-socket") else {
        let length = place.rpc_socket.as_os_str().len();
        if length > handfast_rpc::MAX_SOCKET_PATH {
            let dir = place.network_dir.clone();
            return Err(SettingsError::DatadirTooLong { dir, length });
        }
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

/// The network of this name, and no other: Bitcoin Core's `test` is the third test network,
/// which hardly anybody means who writes it.
pub(crate) fn network_called(name: &str) -> Option<Network> {
    Network::from_str(name)
        .ok()
        .filter(|network| network.name() == name)
}

fn network(layers: &Layers) -> Result<Network, SettingsError> {
    let network = match layers.one("network") {
        None => Network::Mainnet,
        Some((origin, name)) => network_called(name).ok_or_else(|| {
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

fn absolute(origin: &Origin, key: &str, path: &str) -> Result<PathBuf, SettingsError> {
    std::path::absolute(path).map_err(|_| bad(origin, key, path, "a path"))
}

/// What is said after a key that there is not.
fn meant(similar: Option<&str>) -> String {
    similar.map_or_else(String::new, |key| format!(" (is {key} meant?)"))
}

fn bad_datadir(layers: &Layers, dir: PathBuf, source: io::Error) -> SettingsError {
    let reference = layers.one("datadir").map_or_else(
        || "$HOME".to_owned(),
        |(origin, _)| Reference(origin, "datadir").to_string(),
    );
    SettingsError::BadPath {
        reference,
        dir,
        source,
    }
}

fn datadir(layers: &Layers) -> Result<PathBuf, SettingsError> {
    match layers.one("datadir") {
        Some((origin, "")) => Err(bad(origin, "datadir", "", "a directory")),
        Some((origin, dir)) => absolute(origin, "datadir", dir),
        None => match std::env::var_os("HOME").filter(|home| !home.is_empty()) {
            Some(home) => Ok(PathBuf::from(home).join(".handfast")),
            None => Err(SettingsError::NoHome),
        },
    }
}

/// Refuses a directory that cannot be made, or that is somebody else's. The
/// network's own directory below it is checked again under its lock.
fn check_datadir(layers: &Layers, dir: &Path) -> Result<(), SettingsError> {
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
            let parent = dir.parent().unwrap_or(dir);
            if !parent.is_dir() {
                return Err(SettingsError::NoParent {
                    dir: dir.to_owned(),
                    parent: parent.to_owned(),
                });
            }
        }
    }
    match foreign_entry(dir) {
        Some(found) => Err(SettingsError::Foreign {
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
        (Some(a), Some(b)) if a.is_beside(b) && !given.is_empty() => Err(SettingsError::Conflict(
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

/// Where peers can reach us. On regtest that may be anywhere.
fn external(layers: &Layers, network: &Network) -> Result<Vec<SocketAddr>, SettingsError> {
    let key = "external-ip";
    let found = addresses(layers, key, 0)?;
    let useless = |addr: &SocketAddr| {
        let ip = addr.ip();
        let private = *network != Network::Regtest && !is_routable(ip);
        private || ip.is_unspecified() || ip.is_multicast()
    };
    match layers.many(key).zip(&found).find(|(_, addr)| useless(addr)) {
        Some(((origin, text), _)) => Err(bad(
            origin,
            key,
            text,
            "an address by which other machines can reach this one over the internet",
        )),
        None => Ok(found),
    }
}

/// Whether to find out where peers can reach us, if anybody says.
fn discover(layers: &Layers) -> Result<Option<bool>, SettingsError> {
    match (layers.flag("discover"), layers.flag("no-discover")) {
        (Some(a), Some(b)) if a.is_beside(b) => Err(SettingsError::Conflict(
            Reference(a, "discover").to_string(),
            Reference(b, "no-discover").to_string(),
        )),
        // The command line wins over the file, whichever of the two it says.
        (Some(Origin::CommandLine), _) | (Some(_), None) => Ok(Some(true)),
        (_, Some(_)) => Ok(Some(false)),
        (None, None) => Ok(None),
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
        let host = text.rsplit_once(':').map_or(text, |(host, _)| host);
        if overlay_network(host).is_some() {
            let wanted = "an address that Handfast can dial: it has no proxy for onion and i2p";
            return Err(bad(origin, key, text, wanted));
        }
        match is_peer_name(text) {
            true => Ok(text.to_owned()),
            false => Err(bad(
                origin,
                key,
                text,
                "a host name or IP address with an optional port, such as 192.0.2.7:8333",
            )),
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
