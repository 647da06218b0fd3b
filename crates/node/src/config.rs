//! The configuration of a node, and the errors of its start.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use bitcoin::ScriptBuf;
use bitcoin::pow::Work;
use handfast_proto::{peer_table, session};
use handfast_wire::Network;

use crate::indexed::IndexName;
use crate::scheduling::net_arbiters;

/// Inbound connections at most. Core: 125 in all, of which 10 are outbound.
pub const DEFAULT_MAX_INBOUND: usize = peer_table::MAX_INBOUND;
/// Automatic outbound connections. Core: 8 full relay and 2 block relay.
pub const DEFAULT_MAX_OUTBOUND: usize = peer_table::MAX_OUTBOUND;
/// Inbound connections whose handshake is not complete; they come on top of `max_inbound`.
/// A burst of as many at one moment is served without anybody being pushed out; silent,
/// they cost 3 MB together.
pub const DEFAULT_MAX_HANDSHAKES: usize = 512;
/// Time from connected to handshake complete. Core `DEFAULT_PEER_CONNECT_TIMEOUT`.
pub const DEFAULT_HANDSHAKE_TIMEOUT: Duration = session::HANDSHAKE_TIMEOUT;
/// Time for a dial. Core `DEFAULT_CONNECT_TIMEOUT` (5 s).
pub const DEFAULT_DIAL_TIMEOUT: Duration = Duration::from_secs(5);
/// The default text of our coinbases.
pub const DEFAULT_TAG: &[u8] = b"/Handfast/";
/// Threads of the miner at most: more than any machine has cores.
pub const MAX_MINE_THREADS: usize = 1_024;
/// Depth of the accept queue asked of the system (which may cap it).
pub const DEFAULT_BACKLOG: u32 = 4096;

/// The configuration of a node, checked by [`crate::Node::bind`].
#[derive(Clone, Debug)]
pub struct NodeConfig {
    /// The network to join.
    pub network: Network,
    /// The directory of this network, e.g. `~/.handfast/regtest`; created when missing.
    pub datadir: PathBuf,
    /// Addresses to listen on for peers; empty: accept no connections.
    pub listen: Vec<SocketAddr>,
    /// Where peers can reach us, as the operator says (`--external-ip`); port 0: that of the
    /// first address of `listen`.
    pub external: Vec<SocketAddr>,
    /// Whether to find out where peers can reach us: from `listen`, the machine's interfaces and
    /// what peers see. `None`: unless `external` says it. Core `-discover`.
    pub discover: Option<bool>,
    /// When not empty: connect only to these.
    pub connect: Vec<String>,
    /// Addresses to stay connected to, besides the automatic ones.
    pub add_nodes: Vec<String>,
    /// Whether to dial addresses of the address book and the DNS seeds.
    pub dial: bool,
    /// Inbound connections at most, counted after the handshake.
    pub max_inbound: usize,
    /// Automatic outbound connections at most.
    pub max_outbound: usize,
    /// Inbound connections in the handshake at most. One more displaces one of them
    /// (see [`handfast_proto::handshake_limiter`]).
    pub max_handshakes: usize,
    /// Time for the handshake.
    pub handshake_timeout: Duration,
    /// Time for a dial, from the first SYN to connected.
    pub dial_timeout: Duration,
    /// Depth of the accept queue of each address, at most 2^31 - 1; the system may cap it.
    pub backlog: u32,
    /// Open files that the process is to be allowed besides those that a node of this
    /// configuration may need: for RPC callers, say. Their number is in
    /// [`crate::BoundNode::other_descriptors`].
    pub other_descriptors: u64,
    /// BIP14 user agent, e.g. `/Handfast:0.1.0/`.
    pub user_agent: String,
    /// Work below which a header chain is not followed; `None`: the network's own.
    pub minimum_work: Option<Work>,
    /// Threads that check scripts besides the kernel's own; `None`: by the number of cores.
    pub script_threads: Option<i32>,
    /// Threads that do nothing but connections; none: they share one with the managers.
    pub net_arbiters: usize,
    /// Seed of everything that is chosen at random; `None`: from the system.
    pub seed: Option<u64>,
    /// What blocks of our own are made of, and how fast.
    pub mining: MiningConfig,
    /// The indexes to keep. Others that are there stay as they are.
    pub indexes: Vec<IndexName>,
}

/// How blocks are mined, when they are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MiningConfig {
    /// Mine from the start on. Needs a payout, or a network on which none is needed.
    pub at_start: bool,
    /// Hash threads; `None`: one for each core. At least one.
    pub threads: Option<usize>,
    /// Least time between two blocks of ours; zero: as fast as they are found.
    pub interval: Duration,
    /// Payout; `None`: the one given when mining is started, else anyone-can-spend on networks
    /// without value.
    pub payout: Option<ScriptBuf>,
    /// Text in the coinbase, at most [`handfast_proto::mining::MAX_TAG`] bytes.
    pub tag: Vec<u8>,
}

impl MiningConfig {
    /// The defaults for `network`: not from the start on.
    #[must_use]
    pub fn new(network: &Network) -> Self {
        Self {
            at_start: false,
            threads: None,
            interval: default_mine_interval(network),
            payout: None,
            tag: DEFAULT_TAG.to_vec(),
        }
    }
}

/// The default pace: a block takes no time on regtest, and a chain that runs away
/// is of no use to anybody.
#[must_use]
pub fn default_mine_interval(network: &Network) -> Duration {
    match network {
        Network::Regtest => Duration::from_secs(5),
        Network::Mainnet
        | Network::Testnet4
        | Network::Testnet3
        | Network::Signet
        | Network::CustomSignet { .. } => Duration::ZERO,
    }
}

impl NodeConfig {
    /// Where the operator says that we are, with the ports that were left out; `listen`: the
    /// bound addresses.
    pub(crate) fn external_addresses(&self, listen: &[SocketAddr]) -> Vec<SocketAddr> {
        let listening = listen.first().map_or(0, SocketAddr::port);
        let with_port = |addr: &SocketAddr| match addr.port() {
            0 => SocketAddr::new(addr.ip(), listening),
            _ => *addr,
        };
        self.external.iter().map(with_port).collect()
    }

    /// The defaults for `network` in `datadir`: listens nowhere, dials.
    #[must_use]
    pub fn new(network: Network, datadir: PathBuf) -> Self {
        Self {
            mining: MiningConfig::new(&network),
            network,
            datadir,
            listen: Vec::new(),
            external: Vec::new(),
            discover: None,
            connect: Vec::new(),
            add_nodes: Vec::new(),
            dial: true,
            max_inbound: DEFAULT_MAX_INBOUND,
            max_outbound: DEFAULT_MAX_OUTBOUND,
            max_handshakes: DEFAULT_MAX_HANDSHAKES,
            handshake_timeout: DEFAULT_HANDSHAKE_TIMEOUT,
            dial_timeout: DEFAULT_DIAL_TIMEOUT,
            backlog: DEFAULT_BACKLOG,
            other_descriptors: 0,
            user_agent: user_agent(&[]).expect("no comment is always acceptable"),
            minimum_work: None,
            script_threads: None,
            net_arbiters: net_arbiters(),
            seed: None,
            indexes: Vec::new(),
        }
    }
}

/// The user agent with the operator's comments, as BIP14 writes it.
///
/// # Errors
/// A comment with a character that BIP14 reserves or that Core does not print,
/// or a result longer than [`handfast_wire::limits::MAX_USER_AGENT`] bytes.
pub fn user_agent(comments: &[String]) -> Result<String, StartError> {
    for comment in comments {
        let bad = comment
            .chars()
            .find(|c| !(c.is_ascii_alphanumeric() || " .,;-_?@".contains(*c)));
        if let Some(character) = bad {
            return Err(StartError::UserAgentCharacter {
                comment: comment.clone(),
                character,
            });
        }
    }
    let comments = if comments.is_empty() {
        String::new()
    } else {
        format!("({})", comments.join("; "))
    };
    let agent = format!("/Handfast:{}{comments}/", env!("CARGO_PKG_VERSION"));
    let max = handfast_wire::limits::MAX_USER_AGENT;
    if agent.len() > max {
        return Err(StartError::UserAgentLength {
            got: agent.len(),
            max,
        });
    }
    Ok(agent)
}

/// Why a node did not start. `Display` is one line: the cause and the remedy.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// A listening socket could not be had. Nothing was changed on disk.
    #[error("cannot listen on {addr}: {source}; {}", remedy(source))]
    Listen {
        /// The address asked for.
        addr: SocketAddr,
        /// The system's error.
        source: std::io::Error,
    },
    /// The data directory is in use, foreign, damaged or not writable.
    #[error(transparent)]
    Datadir(#[from] handfast_chain::OpenError),
    /// A thread or an event loop could not be made.
    #[error(
        "cannot start the thread {name}: {source}; check the limits on processes and memory (ulimit -u, -v)"
    )]
    Thread {
        /// Its name.
        name: &'static str,
        /// The system's error.
        source: std::io::Error,
    },
    /// A user agent comment has a character that BIP14 does not allow.
    #[error(
        "user agent comment {comment:?} contains {character:?}; use letters, digits, space and .,;-_?@"
    )]
    UserAgentCharacter {
        /// The comment.
        comment: String,
        /// Its first bad character.
        character: char,
    },
    /// The user agent is too long.
    #[error(
        "the user agent would be {got} bytes long, at most {max} are allowed; shorten the comments"
    )]
    UserAgentLength {
        /// Its length, bytes.
        got: usize,
        /// The limit, bytes.
        max: usize,
    },
}

fn remedy(error: &std::io::Error) -> &'static str {
    use std::io::ErrorKind;
    match error.kind() {
        ErrorKind::AddrInUse => {
            "stop the program that uses it, or choose another address with --listen"
        }
        ErrorKind::PermissionDenied => {
            "ports below 1024 need privileges; choose another with --listen"
        }
        ErrorKind::AddrNotAvailable => {
            "this machine has no such address; choose another with --listen"
        }
        _ => "choose another address with --listen, or accept nobody with --no-listen",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_comment_appears_in_the_user_agent_as_bip14_writes_it() {
        let version = env!("CARGO_PKG_VERSION");
        assert_eq!(
            user_agent(&[]).expect("plain"),
            format!("/Handfast:{version}/")
        );
        let two = user_agent(&["left".into(), "lab 7".into()]).expect("allowed");
        assert_eq!(two, format!("/Handfast:{version}(left; lab 7)/"));
    }

    #[test]
    fn a_comment_that_would_break_the_user_agent_is_refused_with_the_character_named() {
        let error = user_agent(&["a/b".into()]).expect_err("a slash ends a BIP14 token");
        assert!(error.to_string().contains("'/'"), "{error}");
        let error = user_agent(&["x".repeat(300)]).expect_err("too long");
        assert!(error.to_string().contains("at most 256"), "{error}");
    }
}
