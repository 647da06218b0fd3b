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
    about: "Returns the use of locked memory, which is not swapped: that of secrets, of which Handfast has\n\
            none. The metrics have the memory of the process (process_resident_memory_bytes).",
    result: "{ locked: { used, free, total, locked, chunks_used, chunks_free } }",
    example: "",
    needs_chain: false,
};

/// `getrpcinfo`.
pub static GETRPCINFO: Spec = Spec {
    name: "getrpcinfo",
    category: Category::Control,
    params: &[],
    about: "Returns the calls in progress of the RPC server, including this one.",
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
    about: "Returns which parts of the node log in detail (level debug), and changes it until the node stops. Other\n\
            parts log as --log says, at most at level info.\n\
            The categories are our crates, and modules of them: chain, node, node::connector, node::listener,\n\
            node::peer_manager, proto, proto::peer_table, proto::session, proto::sync, rpc. A crate includes its\n\
            modules; all (or 1) is everything. Categories of Bitcoin Core are mapped to ours: net to node and proto,\n\
            addrman to proto::peer_table, cmpctblock to proto::sync, http to rpc, and blockstorage, coindb, kernel,\n\
            leveldb, prune, reindex and validation to chain. The others log nothing: they are accepted, and stay\n\
            false.",
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
    about: "Requests a clean shutdown of the node.",
    result: "\"Handfast stopping\"  (string)",
    example: "",
    needs_chain: false,
};

/// `uptime`.
pub static UPTIME: Spec = Spec {
    name: "uptime",
    category: Category::Control,
    params: &[],
    about: "Returns for how long the node has been running.",
    result: "n  (numeric) seconds",
    example: "",
    needs_chain: false,
};
