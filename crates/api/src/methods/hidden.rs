//! Methods for tests, which `help` does not list. As in Core.

use super::{Category, Kind, Need, Param, Spec};

const fn argument(names: &'static [&'static str], kind: Kind) -> Param {
    Param {
        names,
        kind,
        need: Need::Optional("left out"),
        about: "Anything",
    }
}

const fn arguments(kind: Kind) -> [Param; 10] {
    [
        argument(&["arg0"], kind),
        argument(&["arg1"], kind),
        argument(&["arg2"], kind),
        argument(&["arg3"], kind),
        argument(&["arg4"], kind),
        argument(&["arg5"], kind),
        argument(&["arg6"], kind),
        argument(&["arg7"], kind),
        argument(&["arg8"], kind),
        argument(&["arg9"], kind),
    ]
}

const MAX_TRIES: Param = Param {
    names: &["maxtries"],
    kind: Kind::Number,
    need: Need::Optional("default: 1000000"),
    about: "Hashes to try, for all blocks together",
};

const RESULT: &str = "[ hashes ]  of the new blocks, in order; fewer than asked for when the tries were spent,\n\
    or when another block was in the way of each";

pub(super) const ALL: &[&Spec] = &[
    &ADDCONNECTION,
    &ADDPEERADDRESS,
    &ECHO,
    &ECHOJSON,
    &ESTIMATERAWFEE,
    &GENERATE,
    &GENERATEBLOCK,
    &GENERATETOADDRESS,
    &GENERATETODESCRIPTOR,
    &MOCKSCHEDULER,
    &SENDMSGTOPEER,
    &SETMOCKTIME,
    &SYNCWITHVALIDATIONINTERFACEQUEUE,
];

/// `addconnection`.
pub static ADDCONNECTION: Spec = Spec {
    name: "addconnection",
    category: Category::Hidden,
    params: &[
        Param {
            names: &["address"],
            kind: Kind::Text,
            need: Need::Required,
            about: "IP address and port",
        },
        Param {
            names: &["connection_type"],
            kind: Kind::Text,
            need: Need::Required,
            about: "Only outbound-full-relay: Handfast opens no other connections",
        },
        Param {
            names: &["v2transport"],
            kind: Kind::Flag,
            need: Need::Required,
            about: "Encrypted transport (BIP324), which is not supported yet: only false",
        },
    ],
    about: "Opens an outbound connection as if the address had been chosen automatically (regtest only).",
    result: "{ address, connection_type }  it is being dialled",
    example: "192.168.0.6:18444 outbound-full-relay false",
    needs_chain: true,
};

/// `addpeeraddress`.
pub static ADDPEERADDRESS: Spec = Spec {
    name: "addpeeraddress",
    category: Category::Hidden,
    params: &[
        Param {
            names: &["address"],
            kind: Kind::Text,
            need: Need::Required,
            about: "The IP address",
        },
        Param {
            names: &["port"],
            kind: Kind::Number,
            need: Need::Required,
            about: "The port",
        },
        Param {
            names: &["tried"],
            kind: Kind::Flag,
            need: Need::Optional("default: false"),
            about: "As if we had been connected to it",
        },
    ],
    about: "Adds an address of a node to the address book, as if it had announced itself.",
    result: "{ success } or { error, success }",
    example: "1.2.3.4 8333 true",
    needs_chain: true,
};

/// `echo`.
pub static ECHO: Spec = Spec {
    name: "echo",
    category: Category::Hidden,
    params: &const { arguments(Kind::Any) },
    about: "Returns its arguments.",
    result: "[ the arguments ]",
    example: "one two",
    needs_chain: false,
};

/// `echojson`.
pub static ECHOJSON: Spec = Spec {
    name: "echojson",
    category: Category::Hidden,
    params: &const { arguments(Kind::Json) },
    about: "Returns its arguments. On a command line they are JSON.",
    result: "[ the arguments ]",
    example: "1 '{\"two\": 2}'",
    needs_chain: false,
};

/// `estimaterawfee`.
pub static ESTIMATERAWFEE: Spec = Spec {
    name: "estimaterawfee",
    category: Category::Hidden,
    params: &[
        Param {
            names: &["conf_target"],
            kind: Kind::Number,
            need: Need::Required,
            about: "Blocks within which the transaction is to be confirmed, 1 to 1008",
        },
        Param {
            names: &["threshold"],
            kind: Kind::Number,
            need: Need::Optional("default: 0.95"),
            about: "The share of the transactions of a fee rate that was confirmed in time, 0 to 1",
        },
    ],
    about: "Returns what fee estimates are made of. There is no estimator yet, so that the answer is what Bitcoin\n\
            Core's is as long as it has seen nothing.",
    result: "{ short, medium, long: { decay, scale, fail, errors } }  those that look as far ahead",
    example: "6 0.9",
    needs_chain: true,
};

/// `generate`.
pub static GENERATE: Spec = Spec {
    name: "generate",
    category: Category::Hidden,
    params: &[],
    about: "Not offered, as in Bitcoin Core: see generatetoaddress.",
    result: "error -32601 with the reason",
    example: "",
    needs_chain: false,
};

/// `generateblock`.
pub static GENERATEBLOCK: Spec = Spec {
    name: "generateblock",
    category: Category::Hidden,
    params: &[
        Param {
            names: &["output"],
            kind: Kind::Text,
            need: Need::Required,
            about: "The address or descriptor that the block pays to",
        },
        Param {
            names: &["transactions"],
            kind: Kind::List,
            need: Need::Required,
            about: "Raw transactions in hex, in an order in which they are valid. Transaction ids are refused: there is no mempool",
        },
        Param {
            names: &["submit"],
            kind: Kind::Flag,
            need: Need::Optional("default: true"),
            about: "false: the block is made and returned, and not submitted. It is not validated then: the consensus engine only validates blocks that it stores",
        },
    ],
    about: "Makes a block of these transactions. It collects no fees. A block that breaks a rule is refused, and its hash stays marked invalid.",
    result: "{ hash, hex }  hex when submit is false",
    example: "bcrt1qft5p2uhsdcdc3l2ua4ap5qqfg4pjaqlp250x7us7a8qqhrxrxfsqseac85 '[]'",
    needs_chain: true,
};

/// `generatetoaddress`.
pub static GENERATETOADDRESS: Spec = Spec {
    name: "generatetoaddress",
    category: Category::Hidden,
    params: &[
        Param {
            names: &["nblocks"],
            kind: Kind::Number,
            need: Need::Required,
            about: "How many blocks",
        },
        Param {
            names: &["address"],
            kind: Kind::Text,
            need: Need::Required,
            about: "The address that they pay to",
        },
        MAX_TRIES,
    ],
    about: "Makes blocks at once, each on the previous one, independently of --mine-interval.",
    result: RESULT,
    example: "11 bcrt1qft5p2uhsdcdc3l2ua4ap5qqfg4pjaqlp250x7us7a8qqhrxrxfsqseac85",
    needs_chain: true,
};

/// `generatetodescriptor`.
pub static GENERATETODESCRIPTOR: Spec = Spec {
    name: "generatetodescriptor",
    category: Category::Hidden,
    params: &[
        Param {
            names: &["num_blocks"],
            kind: Kind::Number,
            need: Need::Required,
            about: "How many blocks",
        },
        Param {
            names: &["descriptor"],
            kind: Kind::Text,
            need: Need::Required,
            about: "The descriptor of the output that they pay to, with or without its checksum",
        },
        MAX_TRIES,
    ],
    about: "Makes blocks at once, each on the previous one, independently of --mine-interval.",
    result: RESULT,
    example: "11 'raw(51)'",
    needs_chain: true,
};

/// `mockscheduler`.
pub static MOCKSCHEDULER: Spec = Spec {
    name: "mockscheduler",
    category: Category::Hidden,
    params: &[Param {
        names: &["delta_time"],
        kind: Kind::Number,
        need: Need::Required,
        about: "Seconds",
    }],
    about: "Not offered: there is no scheduler whose time could be advanced. The clock can be set, see setmocktime.",
    result: "error -32601 with the reason",
    example: "60",
    needs_chain: false,
};

/// `sendmsgtopeer`.
pub static SENDMSGTOPEER: Spec = Spec {
    name: "sendmsgtopeer",
    category: Category::Hidden,
    params: &[
        Param {
            names: &["peer_id"],
            kind: Kind::Number,
            need: Need::Required,
            about: "The peer's id as getpeerinfo shows it",
        },
        Param {
            names: &["msg_type"],
            kind: Kind::Text,
            need: Need::Required,
            about: "The command, at most 12 bytes of ASCII",
        },
        Param {
            names: &["msg"],
            kind: Kind::Hex,
            need: Need::Required,
            about: "The payload, without a header",
        },
    ],
    about: "Sends any bytes to a peer as a message.",
    result: "{ }",
    example: "0 addr ffffff",
    needs_chain: true,
};

/// `setmocktime`.
pub static SETMOCKTIME: Spec = Spec {
    name: "setmocktime",
    category: Category::Hidden,
    params: &[Param {
        names: &["timestamp"],
        kind: Kind::Number,
        need: Need::Required,
        about: "Unix seconds, at which the clock then stays; 0: the system's clock again",
    }],
    about: "Sets the clock (regtest only) of the consensus engine and of the node alike: what is too far ahead, initial\n\
            block download, block templates, addresses, bans. Time-outs of connections are not affected.",
    result: "null",
    example: "0",
    needs_chain: false,
};

/// `syncwithvalidationinterfacequeue`.
pub static SYNCWITHVALIDATIONINTERFACEQUEUE: Spec = Spec {
    name: "syncwithvalidationinterfacequeue",
    category: Category::Hidden,
    params: &[],
    about: "Waits until the rest of the node has processed all earlier reports of the consensus engine.",
    result: "null",
    example: "",
    needs_chain: true,
};
