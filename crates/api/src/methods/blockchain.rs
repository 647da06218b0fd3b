//! The chain.

use super::{Category, Kind, Need, Param, Spec};

const WAITED: &str = "{ hash, height }  the tip waited for, or the present tip after the timeout or when the node stops";
const BLOCKHASH: Param = Param {
    names: &["blockhash"],
    kind: Kind::Hex,
    need: Need::Required,
    about: "The block hash",
};

const TIMEOUT: Param = Param {
    names: &["timeout"],
    kind: Kind::Number,
    need: Need::Optional("default: 0"),
    about: "Timeout in milliseconds; 0: no timeout",
};

pub(super) const ALL: &[&Spec] = &[
    &GETBESTBLOCKHASH,
    &GETBLOCK,
    &GETBLOCKCHAININFO,
    &GETBLOCKCOUNT,
    &GETBLOCKFROMPEER,
    &GETBLOCKHASH,
    &GETBLOCKHEADER,
    &GETBLOCKSTATS,
    &GETCHAINSTATES,
    &GETCHAINTIPS,
    &GETCHAINTXSTATS,
    &GETDEPLOYMENTINFO,
    &GETDIFFICULTY,
    &GETMEMPOOLINFO,
    &GETRAWMEMPOOL,
    &GETTXSPENDINGPREVOUT,
    &WAITFORBLOCK,
    &WAITFORBLOCKHEIGHT,
    &WAITFORNEWBLOCK,
];

/// `getbestblockhash`.
pub static GETBESTBLOCKHASH: Spec = Spec {
    name: "getbestblockhash",
    category: Category::Blockchain,
    params: &[],
    about: "Returns the hash of the tip of the fully validated chain with most work.",
    result: "\"hex\"  (string) the block hash",
    example: "",
    needs_chain: true,
};

/// `getblock`.
pub static GETBLOCK: Spec = Spec {
    name: "getblock",
    category: Category::Blockchain,
    params: &[
        BLOCKHASH,
        Param {
            names: &["verbosity", "verbose"],
            kind: Kind::Level,
            need: Need::Optional("default: 1"),
            about: "0: serialized block in hex; 1: object with transaction ids; 2: with whole transactions; \
                    3: also with the outputs that they spend",
        },
    ],
    about: "Returns a block.",
    result: "\"hex\" or {…}  as Bitcoin Core's getblock",
    example: "000000000019d6689c085ae165831e934ff763ae46a2a6c172b3f1b60a8ce26f 2",
    needs_chain: true,
};

/// `getblockchaininfo`.
pub static GETBLOCKCHAININFO: Spec = Spec {
    name: "getblockchaininfo",
    category: Category::Blockchain,
    params: &[],
    about: "Returns the state of the chain and of its validation.",
    result: "{ chain, blocks, headers, bestblockhash, bits, target, difficulty, time, mediantime,\n  \
             verificationprogress, initialblockdownload, chainwork, size_on_disk, pruned,\n  \
             signet_challenge (signets only), warnings }",
    example: "",
    needs_chain: true,
};

/// `getblockcount`.
pub static GETBLOCKCOUNT: Spec = Spec {
    name: "getblockcount",
    category: Category::Blockchain,
    params: &[],
    about: "Returns the height of the fully validated chain with most work. The genesis block has height 0.",
    result: "n  (numeric) the height",
    example: "",
    needs_chain: true,
};

/// `getblockfrompeer`.
pub static GETBLOCKFROMPEER: Spec = Spec {
    name: "getblockfrompeer",
    category: Category::Blockchain,
    params: &[
        BLOCKHASH,
        Param {
            names: &["peer_id"],
            kind: Kind::Number,
            need: Need::Required,
            about: "The peer's id as getpeerinfo shows it",
        },
    ],
    about: "Requests a block whose header is known and whose data is missing from one peer, and cancels other requests for it.\n\
            Peers need not send blocks of branches that they left, and one that sends nothing is disconnected.",
    result: "{ }  the block was requested from the peer",
    example: "00000000c937983704a73af28acdec37b049d214adbda81d7e2a3dd146f6ed09 0",
    needs_chain: true,
};

/// `getblockhash`.
pub static GETBLOCKHASH: Spec = Spec {
    name: "getblockhash",
    category: Category::Blockchain,
    params: &[Param {
        names: &["height"],
        kind: Kind::Number,
        need: Need::Required,
        about: "The height",
    }],
    about: "Returns the hash of the block of the active chain at a height.",
    result: "\"hex\"  (string) the block hash",
    example: "1000",
    needs_chain: true,
};

/// `getblockheader`.
pub static GETBLOCKHEADER: Spec = Spec {
    name: "getblockheader",
    category: Category::Blockchain,
    params: &[
        BLOCKHASH,
        Param {
            names: &["verbose"],
            kind: Kind::Flag,
            need: Need::Optional("default: true"),
            about: "true: an object; false: the serialized header in hex",
        },
    ],
    about: "Returns the header of a block.",
    result: "\"hex\" or { hash, confirmations, height, version, versionHex, merkleroot, time, mediantime,\n  \
             nonce, bits, target, difficulty, chainwork, nTx, previousblockhash, nextblockhash }",
    example: "000000000019d6689c085ae165831e934ff763ae46a2a6c172b3f1b60a8ce26f",
    needs_chain: true,
};

/// `getblockstats`.
pub static GETBLOCKSTATS: Spec = Spec {
    name: "getblockstats",
    category: Category::Blockchain,
    params: &[
        Param {
            names: &["hash_or_height"],
            kind: Kind::HashOrHeight,
            need: Need::Required,
            about: "The block, by hash or by height",
        },
        Param {
            names: &["stats"],
            kind: Kind::List,
            need: Need::Optional("default: all"),
            about: "The members to return",
        },
    ],
    about: "Returns statistics of a block that is or was part of the active chain. Amounts in satoshi, fee rates in\n\
            satoshi per virtual byte.",
    result: "{ avgfee, avgfeerate, avgtxsize, blockhash, feerate_percentiles, height, ins, maxfee, maxfeerate, maxtxsize,\n  \
             medianfee, mediantime, mediantxsize, minfee, minfeerate, mintxsize, outs, subsidy, swtotal_size,\n  \
             swtotal_weight, swtxs, time, total_out, total_size, total_weight, totalfee, txs, utxo_increase,\n  \
             utxo_size_inc, utxo_increase_actual, utxo_size_inc_actual }\n\
             feerate_percentiles: at 10, 25, 50, 75 and 90 % of the weight; utxo_*_actual: without what cannot be spent",
    example: "1000 '[\"minfeerate\",\"avgfeerate\"]'",
    needs_chain: true,
};

/// `getchainstates`.
pub static GETCHAINSTATES: Spec = Spec {
    name: "getchainstates",
    category: Category::Blockchain,
    params: &[],
    about: "Returns the chainstates, of which there is one: Handfast loads no snapshots.",
    result: "{ headers, chainstates: [ { blocks, bestblockhash, bits, target, difficulty, verificationprogress,\n  \
             coins_db_cache_bytes, coins_tip_cache_bytes, validated } ] }\n\
             coins_*_bytes: as the consensus engine divides its default cache of 450 MiB",
    example: "",
    needs_chain: true,
};

/// `getchaintips`.
pub static GETCHAINTIPS: Spec = Spec {
    name: "getchaintips",
    category: Category::Blockchain,
    params: &[],
    about: "Returns the tips of all known branches, including the active chain.",
    result: "[ { height, hash, branchlen, status }, … ]\n\
             status: active, valid-fork, valid-headers, headers-only or invalid",
    example: "",
    needs_chain: true,
};

/// `getchaintxstats`.
pub static GETCHAINTXSTATS: Spec = Spec {
    name: "getchaintxstats",
    category: Category::Blockchain,
    params: &[
        Param {
            names: &["nblocks"],
            kind: Kind::Number,
            need: Need::Optional("default: one month"),
            about: "Blocks in the window",
        },
        Param {
            names: &["blockhash"],
            kind: Kind::Hex,
            need: Need::Optional("default: the tip"),
            about: "The last block of the window",
        },
    ],
    about: "Returns the number and the rate of the chain's transactions. They are not indexed: blocks are read to\n\
            count them. So window_tx_count and txrate are left out of windows of more than 1,000 blocks, and\n\
            txcount above height 1,000.",
    result: "{ time, txcount, window_final_block_hash, window_final_block_height, window_block_count, window_interval,\n  \
             window_tx_count, txrate }",
    example: "144",
    needs_chain: true,
};

/// `getdeploymentinfo`.
pub static GETDEPLOYMENTINFO: Spec = Spec {
    name: "getdeploymentinfo",
    category: Category::Blockchain,
    params: &[Param {
        names: &["blockhash"],
        kind: Kind::Hex,
        need: Need::Optional("default: the tip"),
        about: "The block for which the state is returned",
    }],
    about: "Returns which consensus changes are enforced, and the state of those that blocks signal for.\n\
            Changes that are enforced from genesis on are not in deployments.",
    result: "{ hash, height, script_flags: [ \"flag\", … ], deployments: { name: { type, height, active, bip9 }, … } }\n\
             type: buried or bip9; height: the first block for which it is enforced, once it is known\n\
             bip9: { bit, start_time, timeout, min_activation_height, status, since, status_next, statistics,\n  \
             signalling }",
    example: "",
    needs_chain: true,
};

/// `getdifficulty`.
pub static GETDIFFICULTY: Spec = Spec {
    name: "getdifficulty",
    category: Category::Blockchain,
    params: &[],
    about: "Returns the difficulty of the tip, as a multiple of the minimum difficulty of mainnet.",
    result: "n  (numeric)",
    example: "",
    needs_chain: true,
};

/// `getmempoolinfo`.
pub static GETMEMPOOLINFO: Spec = Spec {
    name: "getmempoolinfo",
    category: Category::Blockchain,
    params: &[],
    about: "Returns the state of the mempool. Handfast relays and stores no transactions: it is empty, and\n\
            takes no memory. Fee rates and limits, maxmempool among them, are those of the consensus engine's policy, by\n\
            which other nodes relay.",
    result: "{ loaded, size, bytes, usage, total_fee, maxmempool, mempoolminfee, minrelaytxfee, incrementalrelayfee,\n  \
             unbroadcastcount, permitbaremultisig, maxdatacarriersize, limitclustercount, limitclustersize, optimal, fullrbf }",
    example: "",
    needs_chain: true,
};

/// `getrawmempool`.
pub static GETRAWMEMPOOL: Spec = Spec {
    name: "getrawmempool",
    category: Category::Blockchain,
    params: &[
        Param {
            names: &["verbose"],
            kind: Kind::Flag,
            need: Need::Optional("default: false"),
            about: "true: an object by transaction id; false: a list of ids",
        },
        Param {
            names: &["mempool_sequence"],
            kind: Kind::Flag,
            need: Need::Optional("default: false"),
            about: "Also return the number of changes so far",
        },
    ],
    about: "Returns the transactions in the mempool, which is empty: Handfast relays no transactions.",
    result: "[ ] or { } or { txids: [ ], mempool_sequence }",
    example: "",
    needs_chain: true,
};

/// `gettxspendingprevout`.
pub static GETTXSPENDINGPREVOUT: Spec = Spec {
    name: "gettxspendingprevout",
    category: Category::Blockchain,
    params: &[
        Param {
            names: &["outputs"],
            kind: Kind::List,
            need: Need::Required,
            about: "The outputs, each { txid, vout }",
        },
        Param {
            names: &["options"],
            kind: Kind::Object,
            need: Need::Optional("default: {}"),
            about: "{ mempool_only, return_spending_tx }; mempool_only is false only with --txospenderindex, unless it is given, and no transaction is in a mempool",
        },
    ],
    about: "Returns which transactions spend the given outputs.",
    result: "[ { txid, vout, spendingtxid, spendingtx, blockhash } … ]  the last three only if it is spent",
    example: "'[{\"txid\":\"a08e6907dbbd3d809776dbfc5d82e371b764ed838b5655e72f463568df1aadf0\",\"vout\":3}]'",
    needs_chain: true,
};

/// `waitforblock`.
pub static WAITFORBLOCK: Spec = Spec {
    name: "waitforblock",
    category: Category::Blockchain,
    params: &[
        Param {
            names: &["blockhash"],
            kind: Kind::Hex,
            need: Need::Required,
            about: "The block to wait for",
        },
        TIMEOUT,
    ],
    about: "Waits until the given block is the tip.",
    result: WAITED,
    example: "0000000000079f8ef3d2c688c244eb7a4570b24c9ed7b4a8c619eb02596f8862 1000",
    needs_chain: true,
};

/// `waitforblockheight`.
pub static WAITFORBLOCKHEIGHT: Spec = Spec {
    name: "waitforblockheight",
    category: Category::Blockchain,
    params: &[
        Param {
            names: &["height"],
            kind: Kind::Number,
            need: Need::Required,
            about: "The height to wait for",
        },
        TIMEOUT,
    ],
    about: "Waits until the tip has at least this height.",
    result: WAITED,
    example: "100 1000",
    needs_chain: true,
};

/// `waitfornewblock`.
pub static WAITFORNEWBLOCK: Spec = Spec {
    name: "waitfornewblock",
    category: Category::Blockchain,
    params: &[
        TIMEOUT,
        Param {
            names: &["current_tip"],
            kind: Kind::Hex,
            need: Need::Optional("default: the tip now"),
            about: "Wait until the tip is another block than this one",
        },
    ],
    about: "Waits for a new tip.",
    result: WAITED,
    example: "1000",
    needs_chain: true,
};
