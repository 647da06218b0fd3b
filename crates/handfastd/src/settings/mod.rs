//! The node's settings, from options and configuration file.
//!
//! Nothing here writes to the disk. A bad value ends the start with one line that names the
//! option, or file and key, what is wrong, and the remedy.

mod directory;
mod error;
mod mining;
mod peers;
mod rpc;

pub(crate) use error::RunError;
pub(crate) use rpc::RpcSettings;

use std::net::SocketAddr;
use std::time::Duration;

use bitcoin::Work;
use bitcoin::hex::FromHex;
use handfast_cli::keys::Flag;
use handfast_cli::values::{bad, number};
use handfast_cli::{Layers, NodeLocation, SettingsError, check_datadir, keys, node_location};
use handfast_node::{IndexName, MiningConfig, config};
use tracing_subscriber::EnvFilter;
use tracing_subscriber::filter::LevelFilter;

/// Most inbound peers. Each takes a file descriptor and a few KB.
const MAX_INBOUND_LIMIT: usize = 100_000;
/// Deepest accept queue. Linux keeps it in 32 bits, others in 16.
const MAX_BACKLOG: u32 = 65_535;
/// Longest handshake timeout, seconds.
const MAX_HANDSHAKE_SECONDS: u64 = 3_600;

/// The settings of `run`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct RunSettings {
    pub(crate) place: NodeLocation,
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

/// Computes the settings of `run` and checks the data directory.
pub(crate) fn run_settings(layers: &Layers) -> Result<RunSettings, RunError> {
    let place = node_location(layers)?;
    let wanted_inbound = format!("a number from 0 to {MAX_INBOUND_LIMIT}");
    let wanted_seconds = format!("a number of seconds from 1 to {MAX_HANDSHAKE_SECONDS}");
    let max_inbound = number(
        layers,
        keys::MAX_INBOUND,
        0..=MAX_INBOUND_LIMIT,
        &wanted_inbound,
    )?;
    let seconds = number(
        layers,
        keys::HANDSHAKE_TIMEOUT,
        1..=MAX_HANDSHAKE_SECONDS,
        &wanted_seconds,
    )?;
    let wanted_backlog = format!("a number from 1 to {MAX_BACKLOG}");
    let backlog = number(layers, keys::BACKLOG, 1..=MAX_BACKLOG, &wanted_backlog)?;
    let settings = RunSettings {
        listen: peers::listen(layers, &place.network)?,
        external: peers::external(layers, &place.network)?,
        discover: peers::discover(layers)?,
        connect: peers::peers(layers, keys::CONNECT)?,
        add_nodes: peers::peers(layers, keys::ADD_NODE)?,
        dial: layers.flag(keys::NO_DIAL).is_none(),
        max_inbound: max_inbound.unwrap_or(config::DEFAULT_MAX_INBOUND),
        backlog: backlog.unwrap_or(config::DEFAULT_BACKLOG),
        minimum_work: minimum_work(layers)?,
        handshake_timeout: seconds.map_or(config::DEFAULT_HANDSHAKE_TIMEOUT, Duration::from_secs),
        user_agent: user_agent(layers)?,
        log: log_filter(layers)?,
        rpc: rpc::rpc(layers)?,
        mining: mining::mining(layers, &place.network)?,
        indexes: IndexName::ALL
            .into_iter()
            .filter(|index| layers.flag(key_of(*index)).is_some())
            .collect(),
        place,
    };
    check_datadir(layers)?;
    directory::check_socket_directory(layers, &settings.place)?;
    Ok(settings)
}

fn key_of(index: IndexName) -> Flag {
    match index {
        IndexName::Transactions => keys::TXINDEX,
        IndexName::Spenders => keys::TXOSPENDERINDEX,
    }
}

fn minimum_work(layers: &Layers) -> Result<Option<Work>, SettingsError> {
    let Some((origin, text)) = layers.one(keys::MINIMUM_CHAIN_WORK) else {
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
            keys::MINIMUM_CHAIN_WORK,
            text,
            "a number of 1 to 64 hexadecimal digits",
        )),
    }
}

fn user_agent(layers: &Layers) -> Result<String, RunError> {
    let key = keys::USER_AGENT_COMMENT;
    let comment = layers.one(key);
    let comments: Vec<String> = comment
        .map(|(_, text)| text.to_owned())
        .into_iter()
        .collect();
    handfast_node::user_agent(&comments).map_err(|source| {
        let reference = comment.map(|(origin, _)| origin.reference(key));
        RunError::UserAgent {
            reference: reference.unwrap_or_else(|| "user agent".into()),
            source,
        }
    })
}

fn log_filter(layers: &Layers) -> Result<String, SettingsError> {
    let Some((origin, filter)) = layers.one(keys::LOG) else {
        return Ok("info".into());
    };
    // A word that is no level would be taken for the name of a crate, and suppress all others.
    let level = |part: &str| {
        !part.trim().is_empty()
            && (part.contains(['=', '[']) || part.trim().parse::<LevelFilter>().is_ok())
    };
    if filter.split(',').all(level) && EnvFilter::try_new(filter).is_ok() {
        return Ok(filter.to_owned());
    }
    Err(bad(
        origin,
        keys::LOG,
        filter,
        "a log filter, such as info, debug or info,handfast_node=debug",
    ))
}

#[cfg(test)]
mod tests;
