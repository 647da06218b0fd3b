//! Every option, once: the command line, the configuration file and the help
//! text are all made of this table.

/// How a key takes values.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Shape {
    /// One value; the text stands for it in the help.
    One(&'static str),
    /// Any number of values.
    Many(&'static str),
    /// Present or not; `true` or `false` in the file.
    Flag,
}

/// Which commands know a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Scope {
    /// All of them: it says where the node is.
    Everywhere,
    /// `run` alone.
    Run,
}

/// One option and configuration key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Key {
    pub(crate) name: &'static str,
    pub(crate) shape: Shape,
    pub(crate) scope: Scope,
    pub(crate) help: &'static str,
}

const fn key(name: &'static str, shape: Shape, scope: Scope, help: &'static str) -> Key {
    Key {
        name,
        shape,
        scope,
        help,
    }
}

/// Every key that the command line and the configuration file share.
pub(crate) const KEYS: &[Key] = &[
    key(
        "network",
        Shape::One("NAME"),
        Scope::Everywhere,
        "mainnet (default), testnet4, testnet3, signet or regtest",
    ),
    key(
        "signet-challenge",
        Shape::One("HEX"),
        Scope::Everywhere,
        "With --network signet: the challenge script of a signet of your own",
    ),
    key(
        "datadir",
        Shape::One("DIR"),
        Scope::Everywhere,
        "Where everything is kept [default: ~/.handfast]",
    ),
    key(
        "rpc-listen",
        Shape::Many("ADDR"),
        Scope::Everywhere,
        "Address for RPC over TCP [default: 127.0.0.1 and the network's RPC port]",
    ),
    key(
        "rpc-socket",
        Shape::One("PATH"),
        Scope::Everywhere,
        "Unix socket for RPC [default: node.sock in the network's directory]",
    ),
    key(
        "listen",
        Shape::Many("ADDR"),
        Scope::Run,
        "Address to accept peers on [default: every address and the network's port; regtest: 127.0.0.1 only]",
    ),
    key(
        "external-ip",
        Shape::Many("ADDR"),
        Scope::Run,
        "Where peers can reach this node, with the port if it is another than the one it listens on; told to peers [default: found out]",
    ),
    key(
        "discover",
        Shape::Flag,
        Scope::Run,
        "Find out where peers can reach this node besides what --external-ip says: from the machine's interfaces and from what peers see",
    ),
    key(
        "no-discover",
        Shape::Flag,
        Scope::Run,
        "Tell peers no address of this node but what --external-ip says",
    ),
    key("no-listen", Shape::Flag, Scope::Run, "Accept no peers"),
    key(
        "connect",
        Shape::Many("ADDR"),
        Scope::Run,
        "Connect to this peer, and to none but those named so",
    ),
    key(
        "add-node",
        Shape::Many("ADDR"),
        Scope::Run,
        "Stay connected to this peer, besides the automatic ones",
    ),
    key(
        "no-dial",
        Shape::Flag,
        Scope::Run,
        "Dial nobody but the peers named by --connect and --add-node",
    ),
    key(
        "max-inbound",
        Shape::One("N"),
        Scope::Run,
        "Inbound peers at most [default: 115]",
    ),
    key(
        "backlog",
        Shape::One("N"),
        Scope::Run,
        "Callers that may wait to be accepted, on each address; the system caps it at net.core.somaxconn [default: 4096]",
    ),
    key(
        "minimum-chain-work",
        Shape::One("HEX"),
        Scope::Run,
        "Work that a header chain must show to be followed [default: the network's]",
    ),
    key(
        "handshake-timeout",
        Shape::One("SECONDS"),
        Scope::Run,
        "Time that a peer has for the handshake [default: 60]",
    ),
    key(
        "user-agent-comment",
        Shape::One("TEXT"),
        Scope::Run,
        "Text that peers see in our user agent",
    ),
    key(
        "rpc-auth",
        Shape::Many("NAME:SALT$HMAC"),
        Scope::Run,
        "A user who may call over TCP, as Bitcoin Core's rpcauth.py prints it",
    ),
    key(
        "rpc-whitelist",
        Shape::Many("USER:METHODS"),
        Scope::Run,
        "Methods, separated by commas, that this user is held to; users without a list may then call none",
    ),
    key(
        "rpc-allow-ip",
        Shape::Many("NETWORK"),
        Scope::Run,
        "Address or network that may call over TCP, besides this machine",
    ),
    key(
        "rpc-allow-host",
        Shape::Many("NAME"),
        Scope::Run,
        "Host name by which callers without a password may call this machine, besides localhost",
    ),
    key(
        "rpc-work-queue",
        Shape::One("N"),
        Scope::Run,
        "RPC calls in progress at most; more are told to come again [default: 4096]",
    ),
    key(
        "rest",
        Shape::Flag,
        Scope::Run,
        "Serve blocks and headers over plain GET, at /rest on the RPC address",
    ),
    key(
        "txindex",
        Shape::Flag,
        Scope::Run,
        "Keep an index of all transactions by their ids, for getrawtransaction and for servers such as ElectrumX; built in the background",
    ),
    key(
        "txospenderindex",
        Shape::Flag,
        Scope::Run,
        "Keep an index of all transactions by the outputs that they spend, for gettxspendingprevout and ElectrumX 2.0; built in the background",
    ),
    key(
        "mine",
        Shape::Flag,
        Scope::Run,
        "Mine from the start on; not while the chain of a public network is downloaded",
    ),
    key(
        "mine-interval",
        Shape::One("SECONDS"),
        Scope::Run,
        "Least time between two blocks of ours [default: 5 on regtest, where finding one takes none; else 0]",
    ),
    key(
        "mine-threads",
        Shape::One("N"),
        Scope::Run,
        "Threads that hash, at the lowest priority there is [default: one for each core]",
    ),
    key(
        "mine-address",
        Shape::One("ADDR"),
        Scope::Run,
        "Whom blocks pay [default on regtest and signets of your own: OP_TRUE, which anybody can spend; needed elsewhere]",
    ),
    key(
        "mine-tag",
        Shape::One("TEXT"),
        Scope::Run,
        "Text in the coinbase of our blocks, at most 64 bytes [default: /Handfast/]",
    ),
    key(
        "log",
        Shape::One("FILTER"),
        Scope::Run,
        "What is logged: error, warn, info, debug, trace, also per crate, as in info,handfast_node=debug [default: info]",
    ),
];

/// The key that was most likely meant by `name`, which is none.
pub(crate) fn similar(name: &str) -> Option<&'static str> {
    let name = name.replace('_', "-").to_lowercase();
    let distance = |key: &Key| strsim::damerau_levenshtein(&name, key.name);
    let nearest = KEYS.iter().min_by_key(|key| distance(key))?;
    // Two slips; in a short name one makes another word of it.
    let most = if nearest.name.len() > 5 { 2 } else { 1 };
    (distance(nearest) <= most).then_some(nearest.name)
}

/// The key called `name`.
pub(crate) fn find(name: &str) -> Option<&'static Key> {
    KEYS.iter().find(|key| key.name == name)
}
