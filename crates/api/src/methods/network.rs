//! Peers, addresses and bans.

use super::{Category, Kind, Need, Param, Spec};

pub(super) const ALL: &[&Spec] = &[
    &ADDNODE,
    &CLEARBANNED,
    &DISCONNECTNODE,
    &GETADDEDNODEINFO,
    &GETADDRMANINFO,
    &GETCONNECTIONCOUNT,
    &GETNETTOTALS,
    &GETNETWORKINFO,
    &GETNODEADDRESSES,
    &GETPEERINFO,
    &LISTBANNED,
    &PING,
    &SETBAN,
    &SETNETWORKACTIVE,
];

/// `addnode`.
pub static ADDNODE: Spec = Spec {
    name: "addnode",
    category: Category::Network,
    params: &[
        Param {
            names: &["node"],
            kind: Kind::Text,
            need: Need::Required,
            about: "Host name or IP address, with or without :port",
        },
        Param {
            names: &["command"],
            kind: Kind::Text,
            need: Need::Required,
            about: "add: stay connected to it; remove: no longer; onetry: try it once",
        },
        Param {
            names: &["v2transport"],
            kind: Kind::Flag,
            need: Need::Optional("default: false"),
            about: "Encrypted transport (BIP324), which is not supported yet: only false",
        },
    ],
    about: "Adds a node to the list of those to stay connected to, removes it, or tries it once.",
    result: "null",
    example: "192.0.2.7:8333 onetry",
    needs_chain: false,
};

/// `clearbanned`.
pub static CLEARBANNED: Spec = Spec {
    name: "clearbanned",
    category: Category::Network,
    params: &[],
    about: "Lifts every ban.",
    result: "null",
    example: "",
    needs_chain: false,
};

/// `disconnectnode`.
pub static DISCONNECTNODE: Spec = Spec {
    name: "disconnectnode",
    category: Category::Network,
    params: &[
        Param {
            names: &["address"],
            kind: Kind::Text,
            need: Need::Optional("default: use nodeid"),
            about: "The peer's address and port",
        },
        Param {
            names: &["nodeid"],
            kind: Kind::Number,
            need: Need::Optional("default: use address"),
            about: "The peer's id as getpeerinfo shows it",
        },
    ],
    about: "Disconnects a peer, given by its address or by its id (then address is \"\" or left out).",
    result: "null",
    example: "192.0.2.7:8333",
    needs_chain: false,
};

/// `getaddednodeinfo`.
pub static GETADDEDNODEINFO: Spec = Spec {
    name: "getaddednodeinfo",
    category: Category::Network,
    params: &[Param {
        names: &["node"],
        kind: Kind::Text,
        need: Need::Optional("default: all"),
        about: "Only this node, by the name with which it was added",
    }],
    about: "Returns the nodes that were added, by addnode or --add-node, and whether they are connected. As in\n\
            Bitcoin Core those of --connect are not among them; getsyncstate shows both (manual_peers).",
    result: "[ { addednode, connected, addresses: [ { address, connected } ], handfast: { error, failures, failed_at } }, … ]\n\
             addresses: of the connection, if there is one; connected: outbound\n\
             handfast: present while attempts to connect fail: the last error, how many, when (Unix seconds)",
    example: "",
    needs_chain: true,
};

/// `getaddrmaninfo`.
pub static GETADDRMANINFO: Spec = Spec {
    name: "getaddrmaninfo",
    category: Category::Network,
    params: &[],
    about: "Returns how many addresses of other nodes are known, by network.\n\
            new: announced by other nodes; tried: we were connected to them. Addresses of onion, i2p and cjdns are not stored.",
    result: "{ network: { new, tried, total }, …, all_networks: { new, tried, total } }",
    example: "",
    needs_chain: true,
};

/// `getconnectioncount`.
pub static GETCONNECTIONCOUNT: Spec = Spec {
    name: "getconnectioncount",
    category: Category::Network,
    params: &[],
    about: "Returns the number of connections to other nodes, including those in the handshake.",
    result: "n  (numeric)",
    example: "",
    needs_chain: false,
};

/// `getnettotals`.
pub static GETNETTOTALS: Spec = Spec {
    name: "getnettotals",
    category: Category::Network,
    params: &[],
    about: "Returns the traffic with peers since the start, in bytes. There is no upload limit, so uploadtarget is\n\
            that of a node without one.",
    result: "{ totalbytesrecv, totalbytessent, timemillis, uploadtarget: { timeframe, target, target_reached,\n  \
             serve_historical_blocks, bytes_left_in_cycle, time_left_in_cycle } }\n\
             timemillis: now, Unix milliseconds",
    example: "",
    needs_chain: false,
};

/// `getnetworkinfo`.
pub static GETNETWORKINFO: Spec = Spec {
    name: "getnetworkinfo",
    category: Category::Network,
    params: &[],
    about: "Returns the state of this node on the P2P network.\n\
            version: the Bitcoin Core version whose RPC interface this is; subversion: the user agent of this node.",
    result: "{ version, subversion, protocolversion, localservices, localservicesnames, localrelay, timeoffset,\n  \
             networkactive, connections, connections_in, connections_out, networks, relayfee, incrementalfee,\n  \
             localaddresses, warnings }",
    example: "",
    needs_chain: false,
};

/// `getnodeaddresses`.
pub static GETNODEADDRESSES: Spec = Spec {
    name: "getnodeaddresses",
    category: Category::Network,
    params: &[
        Param {
            names: &["count"],
            kind: Kind::Number,
            need: Need::Optional("default: 1"),
            about: "Addresses at most; 0: all",
        },
        Param {
            names: &["network"],
            kind: Kind::Text,
            need: Need::Optional("default: all"),
            about: "Only addresses of this network: ipv4, ipv6, onion, i2p or cjdns",
        },
    ],
    about: "Returns known addresses of other nodes in no particular order, without those that are not worth a connection attempt.",
    result: "[ { time, services, address, port, network }, … ]\n\
             time: when a node last saw it, Unix seconds",
    example: "8",
    needs_chain: true,
};

/// `getpeerinfo`.
pub static GETPEERINFO: Spec = Spec {
    name: "getpeerinfo",
    category: Category::Network,
    params: &[],
    about: "Returns information about each peer. Fields as in Bitcoin Core, as far as they apply to a\n\
            node without a mempool. The member handfast is not in Bitcoin Core: the direction of the connection, the height that\n\
            the peer claims (unverified), how long its handshake took (seconds), or has lasted if half_open, how many of its messages\n\
            could not be decoded and were dropped, whether it is being disconnected, and its role in sync.",
    result: "[ { id, addr, …, handfast: { direction, claimed_height, handshake, half_open, malformed, closing, sync } }, … ]",
    example: "",
    needs_chain: true,
};

/// `listbanned`.
pub static LISTBANNED: Spec = Spec {
    name: "listbanned",
    category: Category::Network,
    params: &[],
    about: "Returns the bans of setban that have not expired.",
    result: "[ { address, ban_created, banned_until, ban_duration, time_remaining }, … ]\n\
             ban_created, banned_until: Unix seconds; ban_duration, time_remaining: seconds",
    example: "",
    needs_chain: false,
};

/// `ping`.
pub static PING: Spec = Spec {
    name: "ping",
    category: Category::Network,
    params: &[],
    about: "Measures the round trip to every peer; getpeerinfo shows it as pingtime, or pingwait while the ping is\n\
            outstanding. A peer with an outstanding ping gets no second one.",
    result: "null",
    example: "",
    needs_chain: true,
};

/// `setban`.
pub static SETBAN: Spec = Spec {
    name: "setban",
    category: Category::Network,
    params: &[
        Param {
            names: &["subnet"],
            kind: Kind::Text,
            need: Need::Required,
            about: "An IP address, or a subnet as ADDRESS/BITS or ADDRESS/MASK; or an address of an onion service (version 3) or of I2P, which is then not relayed",
        },
        Param {
            names: &["command"],
            kind: Kind::Text,
            need: Need::Required,
            about: "add: ban it, and disconnect the peers in it; remove: lift the ban",
        },
        Param {
            names: &["bantime"],
            kind: Kind::Number,
            need: Need::Optional("default: 0"),
            about: "Seconds that the ban lasts, or when it ends if absolute is set; 0: 24 hours",
        },
        Param {
            names: &["absolute"],
            kind: Kind::Flag,
            need: Need::Optional("default: false"),
            about: "Whether bantime is an absolute time, in Unix seconds",
        },
    ],
    about: "Bans an address or a subnet, or lifts such a ban. Bans outlast a restart.",
    result: "null",
    example: "192.0.2.0/24 add 86400",
    needs_chain: false,
};

/// `setnetworkactive`.
pub static SETNETWORKACTIVE: Spec = Spec {
    name: "setnetworkactive",
    category: Category::Network,
    params: &[Param {
        names: &["state"],
        kind: Kind::Flag,
        need: Need::Required,
        about: "true: on; false: off",
    }],
    about: "Switches all activity on the P2P network on or off. Off: every peer is disconnected, inbound connections are\n\
            closed at once, and no outbound connections are made. Does not outlast a restart.",
    result: "true|false  (boolean) the state now",
    example: "false",
    needs_chain: true,
};
