//! Fuzz runs of the node against itself.

use super::{Category, Kind, Need, Param, Spec};

pub(super) const ALL: &[&Spec] = &[&GETFUZZSTATUS, &STARTFUZZ, &STOPFUZZ];

/// `getfuzzstatus`.
pub static GETFUZZSTATUS: Spec = Spec {
    name: "getfuzzstatus",
    category: Category::Fuzzing,
    params: &[Param {
        names: &["format"],
        kind: Kind::Text,
        need: Need::Optional("default: json"),
        about: "html: the report of the last run as a page, which loads nothing, as report.html of handfast fuzz",
    }],
    about: "Returns the progress of the fuzz run of startfuzz, or the result of the last one.",
    result: "{ state: \"none\", \"running\", \"done\" or \"failed\", … }\n\
             running: scenarios, seed, concurrency, connections, seconds, failed\n\
             done: the same, with report: the verdict, its evidence and figures, as report.json of handfast fuzz has them\n\
             failed: with error, why there was no run\n\
             format html: the page, a string",
    example: "html",
    needs_chain: true,
};

/// `startfuzz`.
pub static STARTFUZZ: Spec = Spec {
    name: "startfuzz",
    category: Category::Fuzzing,
    params: &[
        Param {
            names: &["scenarios"],
            kind: Kind::List,
            need: Need::Optional("default: [\"mix\"]"),
            about: "Scenarios of the connections; `handfast fuzz scenarios` explains each",
        },
        Param {
            names: &["options"],
            kind: Kind::Object,
            need: Need::Optional("default: {}"),
            about: "{ seed (below 2^53), concurrency (50, at most 1000), cycles (10000, at most 1000000), duration (60 s, at most 3600) }",
        },
    ],
    about: "Opens and closes connections to this node in every way that a peer can, and checks all the while that it\n\
            still works. On regtest and signet only; on regtest, and on custom signets, blocks are made to check that\n\
            the node follows them: their versionHex is 46555a5a, the letters FUZZ. Connections come from 127.70.85.90, and\n\
            getpeerhistory leaves them out, unless the node listens on IPv6 alone. One run at a time.",
    result: "what getfuzzstatus returns",
    example: "'[\"handshake-drop\"]' '{\"cycles\": 20000}'",
    needs_chain: true,
};

/// `stopfuzz`.
pub static STOPFUZZ: Spec = Spec {
    name: "stopfuzz",
    category: Category::Fuzzing,
    params: &[],
    about: "Ends the fuzz run early; getfuzzstatus has its report after the last check of the node.",
    result: "what getfuzzstatus returns",
    example: "",
    needs_chain: true,
};
