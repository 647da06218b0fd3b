//! The node itself.

use super::{Category, Kind, Need, Param, Spec};

pub(super) const ALL: &[&Spec] = &[&GETMEMORYINFO, &GETRPCINFO, &HELP, &LOGGING, &STOP, &UPTIME];

/// `getmemoryinfo`.
pub static GETMEMORYINFO: Spec = Spec {
    name: "getmemoryinfo",
    category: Category::Control,
    params: &[Param {
        names: &["mode"],
        kind: Kind::Text,
        need: Need::Optional("default: stats"),
        about: "Only stats: Core's other mode, mallocinfo, is not available",
    }],
    about: "Returns how much memory that is kept from the swap area is in use: that for secrets, of which Handfast has\n\
            none. What the process uses in all is on the page of metrics (process_resident_memory_bytes).",
    result: "{ locked: { used, free, total, locked, chunks_used, chunks_free } }",
    example: "",
    needs_chain: false,
};

/// `getrpcinfo`.
pub static GETRPCINFO: Spec = Spec {
    name: "getrpcinfo",
    category: Category::Control,
    params: &[],
    about: "Returns what the RPC server is doing: the calls that have no answer yet, this one among them.",
    result: "{ active_commands: [ { method, duration }, … ], logpath }\n\
             duration: microseconds; logpath: the log file, empty if there is none",
    example: "",
    needs_chain: false,
};

/// `help`.
pub static HELP: Spec = Spec {
    name: "help",
    category: Category::Control,
    params: &[Param {
        names: &["command"],
        kind: Kind::Text,
        need: Need::Optional("default: all methods"),
        about: "The method to explain",
    }],
    about: "Lists all methods, or explains one.",
    result: "\"text\"  (string) the help text",
    example: "getblock",
    needs_chain: false,
};

/// `logging`.
pub static LOGGING: Spec = Spec {
    name: "logging",
    category: Category::Control,
    params: &[
        Param {
            names: &["include"],
            kind: Kind::List,
            need: Need::Optional("default: none"),
            about: "Categories to log in detail from now on",
        },
        Param {
            names: &["exclude"],
            kind: Kind::List,
            need: Need::Optional("default: none"),
            about: "Categories not to log in detail any more; wins over include",
        },
    ],
    about: "Returns which parts of the node log in detail (level debug), and changes it until the node stops. What is\n\
            not logged in detail is logged as --log says, at most at level info.\n\
            The categories are our crates, and modules of them: chain, node, node::connector, node::listener,\n\
            node::peer_manager, proto, proto::peer_table, proto::session, proto::sync, rpc. A crate stands for its\n\
            modules too; all (or 1) for everything. Those of Bitcoin Core stand for ours: net for node and proto,\n\
            addrman for proto::peer_table, cmpctblock for proto::sync, http for rpc, and blockstorage, coindb, kernel,\n\
            leveldb, prune, reindex and validation for chain. Of the others there is nothing to log: they are taken,\n\
            and stay false.",
    result: "{ category: true|false, … }  whether it is logged in detail",
    example: "'[\"proto\"]' '[\"proto::session\"]'",
    needs_chain: false,
};

/// `stop`.
pub static STOP: Spec = Spec {
    name: "stop",
    category: Category::Control,
    params: &[Param {
        names: &["wait"],
        kind: Kind::Number,
        need: Need::Hidden,
        about: "Accepted for the sake of Bitcoin Core's tests; milliseconds to wait before the answer",
    }],
    about: "Asks the node to shut down cleanly.",
    result: "\"Handfast stopping\"  (string)",
    example: "",
    needs_chain: false,
};

/// `uptime`.
pub static UPTIME: Spec = Spec {
    name: "uptime",
    category: Category::Control,
    params: &[],
    about: "Tells for how long the node has been running.",
    result: "n  (numeric) seconds",
    example: "",
    needs_chain: false,
};
