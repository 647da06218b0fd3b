//! Transactions and scripts, decoded.

use super::{Category, Kind, Need, Param, Spec};

pub(super) const ALL: &[&Spec] = &[&DECODERAWTRANSACTION, &DECODESCRIPT, &GETRAWTRANSACTION];

/// `decoderawtransaction`.
pub static DECODERAWTRANSACTION: Spec = Spec {
    name: "decoderawtransaction",
    category: Category::RawTransactions,
    params: &[
        Param {
            names: &["hexstring"],
            kind: Kind::Hex,
            need: Need::Required,
            about: "The serialized transaction",
        },
        Param {
            names: &["iswitness"],
            kind: Kind::Flag,
            need: Need::Optional("default: whichever makes sense"),
            about: "true: it is serialized with witness data (BIP144); false: without",
        },
    ],
    about: "Decodes a serialized transaction.",
    result: "{ txid, hash, version, size, vsize, weight, locktime, vin: [ … ], vout: [ … ] }  as in getblock",
    example: "0100000…",
    needs_chain: false,
};

/// `decodescript`.
pub static DECODESCRIPT: Spec = Spec {
    name: "decodescript",
    category: Category::RawTransactions,
    params: &[Param {
        names: &["hexstring"],
        kind: Kind::Hex,
        need: Need::Required,
        about: "The script",
    }],
    about: "Decodes a script, and returns its type and the addresses that pay to its hash.",
    result: "{ asm, desc, address, type, p2sh, segwit: { asm, desc, hex, address, type, p2sh-segwit } }",
    example: "76a914…88ac",
    needs_chain: false,
};

/// `getrawtransaction`.
pub static GETRAWTRANSACTION: Spec = Spec {
    name: "getrawtransaction",
    category: Category::RawTransactions,
    params: &[
        Param {
            names: &["txid"],
            kind: Kind::Hex,
            need: Need::Required,
            about: "The transaction id",
        },
        Param {
            names: &["verbosity", "verbose"],
            kind: Kind::Level,
            need: Need::Optional("default: 0"),
            about: "0: serialized in hex; 1: an object; 2: also with its fee and the outputs that it spends",
        },
        Param {
            names: &["blockhash"],
            kind: Kind::Hex,
            need: Need::Optional(
                "without it the transaction is looked for in the index, which a node has with --txindex",
            ),
            about: "The block that the transaction is in",
        },
    ],
    about: "Returns a transaction of the chain.",
    result: "\"hex\" or { in_active_chain (with blockhash), txid, hash, version, size, vsize, weight, locktime, vin, vout, fee, hex,\n  \
             blockhash, confirmations, time, blocktime }",
    example: "4a5e1e4baab89f3a32518a88c31bc87f618f76673e2cc77ab2127b7afdeda33b 1 \
              00000000839a8e6886ab5951d76f411475428afc90947ee320161bbf18eb6048",
    needs_chain: true,
};
