//! The table of all options. The command line, the configuration file and the help text are made
//! of it, and settings are read by its constants, so that a misspelt key does not compile, nor
//! does reading a switch as a value.

/// How many values a key takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shape {
    /// One value, with its placeholder in the help text.
    One(&'static str),
    /// Any number of values, with their placeholder in the help text.
    Many(&'static str),
    /// Present or not; `true` or `false` in the file.
    Flag,
}

/// Which commands accept a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scope {
    /// All commands: the key locates the node.
    Everywhere,
    /// Only `run`.
    Run,
}

/// One option and configuration key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Key {
    /// The long option without its dashes.
    pub name: &'static str,
    /// How it takes values.
    pub shape: Shape,
    /// Which commands accept it.
    pub scope: Scope,
    /// Its description, for `--help`.
    pub help: &'static str,
}

/// A key with one value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct One(Key);

/// A key with any number of values.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Many(Key);

/// A key that is a switch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Flag(Key);

impl From<One> for Key {
    fn from(key: One) -> Self {
        key.0
    }
}

impl From<Many> for Key {
    fn from(key: Many) -> Self {
        key.0
    }
}

impl From<Flag> for Key {
    fn from(key: Flag) -> Self {
        key.0
    }
}

impl Key {
    /// The key called `name`.
    #[must_use]
    pub fn find(name: &str) -> Option<Self> {
        KEYS.iter().find(|key| key.name == name).copied()
    }
}

/// Makes a constant of each row, and [`KEYS`] of all.
macro_rules! keys {
    ($($constant:ident = $scope:ident $shape:ident $(($value:literal))? $name:literal: $help:literal;)*) => {
        $(
            #[doc = $help]
            pub const $constant: $shape = $shape(Key {
                name: $name,
                shape: Shape::$shape $(($value))?,
                scope: Scope::$scope,
                help: $help,
            });
        )*

        /// Every key that the command line and the configuration file share, in the order of the
        /// help text.
        pub const KEYS: &[Key] = &[$($constant.0),*];
    };
}

keys! {
    NETWORK = Everywhere One("NAME") "network":
        "mainnet, testnet4, testnet3, signet or regtest [default: mainnet; rpc and status: that of the running node]";
    SIGNET_CHALLENGE = Everywhere One("HEX") "signet-challenge":
        "With --network signet: the challenge script of a custom signet";
    DATADIR = Everywhere One("DIR") "datadir":
        "Data directory [default: ~/.handfast]";
    RPC_LISTEN = Everywhere Many("ADDR") "rpc-listen":
        "Address for RPC over TCP [default: 127.0.0.1 and the network's RPC port]";
    RPC_SOCKET = Everywhere One("PATH") "rpc-socket":
        "Unix socket for RPC [default: node.sock in the network's directory]";
    LISTEN = Run Many("ADDR") "listen":
        "Address to listen on for inbound peers [default: every address and the network's port; regtest: 127.0.0.1 only]";
    EXTERNAL_IP = Run Many("ADDR") "external-ip":
        "Address at which peers can reach this node, with the port if it is not the one it listens on; announced to peers [default: discovered]";
    DISCOVER = Run Flag "discover":
        "Discover addresses at which peers can reach this node, besides those of --external-ip: from the machine's interfaces and from what peers report";
    NO_DISCOVER = Run Flag "no-discover":
        "Announce no address of this node but those of --external-ip";
    NO_LISTEN = Run Flag "no-listen":
        "Accept no inbound peers";
    CONNECT = Run Many("ADDR") "connect":
        "Connect to this peer, and only to peers given by this option";
    ADD_NODE = Run Many("ADDR") "add-node":
        "Stay connected to this peer, besides the automatic outbound peers";
    NO_DIAL = Run Flag "no-dial":
        "Make no outbound connections but those of --connect and --add-node";
    MAX_INBOUND = Run One("N") "max-inbound":
        "Inbound peers at most [default: 115]";
    BACKLOG = Run One("N") "backlog":
        "Pending connections of each listening socket at most; the system caps it at net.core.somaxconn [default: 4096]";
    MINIMUM_CHAIN_WORK = Run One("HEX") "minimum-chain-work":
        "Least work of a header chain that the node follows [default: the network's]";
    HANDSHAKE_TIMEOUT = Run One("SECONDS") "handshake-timeout":
        "Timeout of the handshake with a peer [default: 60]";
    USER_AGENT_COMMENT = Run One("TEXT") "user-agent-comment":
        "Comment in the user agent that peers see";
    RPC_AUTH = Run Many("NAME:SALT$HMAC") "rpc-auth":
        "A user who may call over TCP, as Bitcoin Core's rpcauth.py prints it";
    RPC_WHITELIST = Run Many("USER:METHODS") "rpc-whitelist":
        "Methods that this user may call, separated by commas; users without a list may then call none";
    RPC_ALLOW_IP = Run Many("NETWORK") "rpc-allow-ip":
        "Address or network that may call over TCP, besides this machine";
    RPC_ALLOW_HOST = Run Many("NAME") "rpc-allow-host":
        "Host name by which callers without a password may call this machine, besides localhost";
    RPC_WORK_QUEUE = Run One("N") "rpc-work-queue":
        "RPC calls in progress at most; further calls are answered with 503 [default: 4096]";
    REST = Run Flag "rest":
        "Serve blocks and headers over plain GET, at /rest on the RPC address";
    TXINDEX = Run Flag "txindex":
        "Keep an index of all transactions by their ids, for getrawtransaction and for servers such as ElectrumX; built in the background";
    TXOSPENDERINDEX = Run Flag "txospenderindex":
        "Keep an index of all transactions by the outputs that they spend, for gettxspendingprevout and ElectrumX 2.0; built in the background";
    MINE = Run Flag "mine":
        "Mine from the start; not during the initial block download of a public network";
    MINE_INTERVAL = Run One("SECONDS") "mine-interval":
        "Least time between two mined blocks [default: 5 on regtest, where finding a block takes no time; else 0]";
    MINE_THREADS = Run One("N") "mine-threads":
        "Hash threads, at the lowest priority [default: one for each core]";
    MINE_ADDRESS = Run One("ADDR") "mine-address":
        "Payout address of mined blocks [default on regtest and custom signets: OP_TRUE, which anyone can spend; required elsewhere]";
    MINE_TAG = Run One("TEXT") "mine-tag":
        "Text in the coinbase of mined blocks, at most 64 bytes [default: /Handfast/]";
    LOG = Run One("FILTER") "log":
        "What is logged: error, warn, info, debug, trace, also per crate, as in info,handfast_node=debug [default: info]";
}

/// The key whose name is most similar to `name`, which is no key.
#[must_use]
pub fn similar(name: &str) -> Option<&'static str> {
    let name = name.replace('_', "-").to_lowercase();
    let distance = |key: &Key| strsim::damerau_levenshtein(&name, key.name);
    let nearest = KEYS.iter().min_by_key(|key| distance(key))?;
    // Two typos; one in a short name, which two would make another word.
    let most = if nearest.name.len() > 5 { 2 } else { 1 };
    (distance(nearest) <= most).then_some(nearest.name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_belongs_to_one_key() {
        for key in KEYS {
            assert_eq!(Key::find(key.name), Some(*key));
        }
    }
}
