//! Submission of blocks and headers, blocks on demand, and the miner.

use super::{Category, Kind, Need, Param, Spec};

const RESULT: &str = "the member \"handfast\" of getmininginfo";

pub(super) const ALL: &[&Spec] = &[
    &GETBLOCKTEMPLATE,
    &GETMININGINFO,
    &GETNETWORKHASHPS,
    &GETPRIORITISEDTRANSACTIONS,
    &PRIORITISETRANSACTION,
    &STARTMINING,
    &STOPMINING,
    &SUBMITBLOCK,
    &SUBMITHEADER,
];

/// `getblocktemplate`.
pub static GETBLOCKTEMPLATE: Spec = Spec {
    name: "getblocktemplate",
    category: Category::Mining,
    params: &[Param {
        names: &["template_request"],
        kind: Kind::Object,
        need: Need::Required,
        about: "{ rules: [ \"segwit\", on signets also \"signet\" ], mode: \"template\" or \"proposal\", longpollid, data }",
    }],
    about: "Returns a template of the next block (BIP22, BIP23, BIP9, BIP145). There is no mempool, so it\n\
            has no transactions. With longpollid it answers when the tip has changed since the template with this id.\n\
            With mode proposal and data, a block in hex: why it would be refused, as far as that is known without\n\
            storing it, or inconclusive. Never null: the consensus engine only validates blocks that it stores, so\n\
            proposal is not among the capabilities. Use submitblock for the verdict.",
    result: "{ capabilities, version, rules, vbavailable, vbrequired, previousblockhash, transactions, coinbaseaux,\n\
             coinbasevalue, longpollid, target, mintime, mutable, noncerange, sigoplimit, sizelimit, weightlimit,\n\
             curtime, bits, height, signet_challenge, default_witness_commitment }\n\
             or, of a proposal, the reason (string)",
    example: "'{\"rules\": [\"segwit\"]}'",
    needs_chain: true,
};

/// `getmininginfo`.
pub static GETMININGINFO: Spec = Spec {
    name: "getmininginfo",
    category: Category::Mining,
    params: &[],
    about: "Returns the state of mining. There is no mempool, so mined blocks have no transactions but the\n\
            coinbase; blockmintxfee is that of the consensus engine's policy. currentblockweight and currentblocktx are\n\
            those of the last template, if one was made since the start: the reserve for the coinbase, and 0.",
    result: "{ blocks, currentblockweight, currentblocktx, bits, difficulty, target, networkhashps, pooledtx, blockmintxfee, chain, next: { height, bits, difficulty, target },\n\
             signet_challenge, warnings, handfast: {\n  \
               mining: whether mining is switched on\n  \
               why: what the miner does, or why it does not mine\n  \
               threads: hash threads\n  \
               address, script: the payout of blocks\n  \
               interval: least seconds between two mined blocks\n  \
               hashespersecond: over the last minute\n  \
               hashes: since start\n  \
               found, generated: blocks mined, and made on demand, that became the tip, in all runs\n  \
               stale: blocks that were found too late, in all runs\n  \
               refused: mined blocks that were refused or could not be validated, in all runs\n  \
               height: of the block that is being mined\n  \
               expected: mean seconds until the next block is found\n  \
               orders: calls for blocks on demand that are not answered yet } }",
    example: "",
    needs_chain: true,
};

/// `getnetworkhashps`.
pub static GETNETWORKHASHPS: Spec = Spec {
    name: "getnetworkhashps",
    category: Category::Mining,
    params: &[
        Param {
            names: &["nblocks"],
            kind: Kind::Number,
            need: Need::Optional("default: 120"),
            about: "The number of last blocks; -1: those since the last change of difficulty",
        },
        Param {
            names: &["height"],
            kind: Kind::Number,
            need: Need::Optional("default: -1"),
            about: "The estimate at the time of the block at this height",
        },
    ],
    about: "Estimates the hashes per second of the network by the work and the times of its last blocks.",
    result: "n  hashes per second",
    example: "144 1000",
    needs_chain: true,
};

/// `getprioritisedtransactions`.
pub static GETPRIORITISEDTRANSACTIONS: Spec = Spec {
    name: "getprioritisedtransactions",
    category: Category::Mining,
    params: &[],
    about: "Returns the fee deltas of prioritisetransaction: there are none.",
    result: "{ }",
    example: "",
    needs_chain: true,
};

/// `prioritisetransaction`.
pub static PRIORITISETRANSACTION: Spec = Spec {
    name: "prioritisetransaction",
    category: Category::Mining,
    params: &[
        Param {
            names: &["txid"],
            kind: Kind::Hex,
            need: Need::Required,
            about: "The transaction",
        },
        Param {
            names: &["dummy"],
            kind: Kind::Number,
            need: Need::Optional("ignored"),
            about: "For compatibility",
        },
        Param {
            names: &["fee_delta"],
            kind: Kind::Number,
            need: Need::Optional("ignored"),
            about: "Satoshis",
        },
    ],
    about: "Not offered: Handfast stores no transactions, so none can be prioritised.",
    result: "error -32601 with the reason",
    example: "00 0 10000",
    needs_chain: true,
};

/// `startmining`.
pub static STARTMINING: Spec = Spec {
    name: "startmining",
    category: Category::Mining,
    params: &[
        Param {
            names: &["threads"],
            kind: Kind::Number,
            need: Need::Optional("default: --mine-threads, else one for each core"),
            about: "Hash threads, 1 to 1024",
        },
        Param {
            names: &["address"],
            kind: Kind::Text,
            need: Need::Optional("default: --mine-address"),
            about: "Payout address. Optional on regtest and custom signets: without it blocks pay to OP_TRUE, which anyone can spend",
        },
    ],
    about: "Mines until stopmining, at the pace of --mine-interval; restarts a running miner. The threads run\n\
            at the lowest priority. Nothing is mined during the initial block download; getmininginfo shows why.",
    result: RESULT,
    example: "2 bcrt1qft5p2uhsdcdc3l2ua4ap5qqfg4pjaqlp250x7us7a8qqhrxrxfsqseac85",
    needs_chain: true,
};

/// `stopmining`.
pub static STOPMINING: Spec = Spec {
    name: "stopmining",
    category: Category::Mining,
    params: &[],
    about: "Stops mining. A block that was found before is still submitted; blocks on demand continue.",
    result: RESULT,
    example: "",
    needs_chain: true,
};

/// `submitblock`.
pub static SUBMITBLOCK: Spec = Spec {
    name: "submitblock",
    category: Category::Mining,
    params: &[
        Param {
            names: &["hexdata"],
            kind: Kind::Hex,
            need: Need::Required,
            about: "The serialized block",
        },
        Param {
            names: &["dummy"],
            kind: Kind::Text,
            need: Need::Optional("ignored"),
            about: "For compatibility with BIP22",
        },
    ],
    about: "Submits a block. Answers when it has been validated (BIP22).",
    result: "null when the block was accepted into the active chain, else the reason (string):\n\
                 duplicate, duplicate-invalid, duplicate-inconclusive, inconclusive, or the rule that it breaks",
    example: "0100000…",
    needs_chain: true,
};

/// `submitheader`.
pub static SUBMITHEADER: Spec = Spec {
    name: "submitheader",
    category: Category::Mining,
    params: &[Param {
        names: &["hexdata"],
        kind: Kind::Hex,
        need: Need::Required,
        about: "The serialized header, 80 bytes",
    }],
    about: "Submits a header as the tip of a candidate chain. Fails when it is invalid.",
    result: "null",
    example: "0100000…",
    needs_chain: true,
};
