//! Blocks and headers that are submitted, blocks on demand, and the miner.

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
    about: "Returns what the next block is to be made of (BIP22, BIP23, BIP9, BIP145). There is no mempool, so that it\n\
            holds no transactions. With longpollid it answers when the tip is another one than that of the template\n\
            which had this id.\n\
            With mode proposal and data, a block in hex: why it would be refused, as far as that can be seen without\n\
            taking it in, or inconclusive. Never null: the consensus engine judges only what it takes in, so that\n\
            proposal is not among the capabilities. submitblock tells for certain.",
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
    about: "Returns what is known of mining. There is no mempool, so that blocks of ours hold no transactions but the\n\
            coinbase; blockmintxfee is that of the consensus engine's policy. currentblockweight and currentblocktx are\n\
            those of the last template, if one was made since the start: what is reserved for the coinbase, and none.",
    result: "{ blocks, currentblockweight, currentblocktx, bits, difficulty, target, networkhashps, pooledtx, blockmintxfee, chain, next: { height, bits, difficulty, target },\n\
             signet_challenge, warnings, handfast: {\n  \
               mining: whether mining is switched on\n  \
               why: what is done, or why nothing is\n  \
               threads: hash threads\n  \
               address, script: whom blocks pay\n  \
               interval: least seconds between two blocks of ours\n  \
               hashespersecond: over the last minute\n  \
               hashes: since start\n  \
               found, generated: blocks mined, and made on demand, that became the tip, in all runs\n  \
               stale: blocks that were found too late, in all runs\n  \
               refused: blocks of ours that were refused or could not be judged, in all runs\n  \
               height: of the block that is searched for\n  \
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
            about: "So many of the last blocks; -1: those since the last change of difficulty",
        },
        Param {
            names: &["height"],
            kind: Kind::Number,
            need: Need::Optional("default: -1"),
            about: "As it was when the block at this height was found",
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
    about: "Returns the fee deltas that were set by prioritisetransaction, of which there are none.",
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
    about: "Not offered: Handfast keeps no transactions, so none can be preferred.",
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
            about: "Blocks pay to it. On regtest and signets of your own none is needed: without one they pay to OP_TRUE, which anybody can spend",
        },
    ],
    about: "Mines until stopmining, at the pace of --mine-interval; begins anew if it does so already. The threads run\n\
            at the lowest priority there is. Nothing is mined while the chain is downloaded; getmininginfo tells.",
    result: RESULT,
    example: "2 bcrt1qft5p2uhsdcdc3l2ua4ap5qqfg4pjaqlp250x7us7a8qqhrxrxfsqseac85",
    needs_chain: true,
};

/// `stopmining`.
pub static STOPMINING: Spec = Spec {
    name: "stopmining",
    category: Category::Mining,
    params: &[],
    about: "Mines no more. A block that was found before is still judged; blocks on demand go on.",
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
    about: "Offers a block. Answers when it has been judged (BIP22).",
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
    about: "Offers a header as the tip of a candidate chain. Fails when it is invalid.",
    result: "null",
    example: "0100000…",
    needs_chain: true,
};
