//! Tools.

use super::{Category, Kind, Need, Param, Spec};

const DESCRIPTOR: Param = Param {
    names: &["descriptor"],
    kind: Kind::Text,
    need: Need::Required,
    about: "The descriptor",
};

const MESSAGE: Param = Param {
    names: &["message"],
    kind: Kind::Text,
    need: Need::Required,
    about: "The message",
};

pub(super) const ALL: &[&Spec] = &[
    &CREATEMULTISIG,
    &DERIVEADDRESSES,
    &ESTIMATESMARTFEE,
    &GETDESCRIPTORINFO,
    &GETINDEXINFO,
    &SIGNMESSAGEWITHPRIVKEY,
    &VALIDATEADDRESS,
    &VERIFYMESSAGE,
];

/// `createmultisig`.
pub static CREATEMULTISIG: Spec = Spec {
    name: "createmultisig",
    category: Category::Util,
    params: &[
        Param {
            names: &["nrequired"],
            kind: Kind::Number,
            need: Need::Required,
            about: "The number of signatures needed to spend",
        },
        Param {
            names: &["keys"],
            kind: Kind::List,
            need: Need::Required,
            about: "The public keys, in hex",
        },
        Param {
            names: &["address_type"],
            kind: Kind::Text,
            need: Need::Optional("default: legacy"),
            about: "legacy, p2sh-segwit or bech32",
        },
    ],
    about: "Makes a multisig address of several keys.",
    result: "{ address, redeemScript, descriptor, warnings }",
    example: "1 '[\"0279be667ef9dcbbac55a06295ce870b07029bfcdb2dce28d959f2815b16f81798\"]'",
    needs_chain: false,
};

/// `deriveaddresses`.
pub static DERIVEADDRESSES: Spec = Spec {
    name: "deriveaddresses",
    category: Category::Util,
    params: &[
        DESCRIPTOR,
        Param {
            names: &["range"],
            kind: Kind::Range,
            need: Need::Optional("only and always for a ranged descriptor"),
            about: "The last index, or [first, last]; at most 100,000 indices",
        },
    ],
    about: "Returns the addresses of a descriptor. Its checksum must be given.",
    result: "[ addresses ], or of a descriptor with several paths [ [ addresses ], … ]",
    example: "'wpkh(0279be667ef9dcbbac55a06295ce870b07029bfcdb2dce28d959f2815b16f81798)#xg0e4v9z'",
    needs_chain: false,
};

/// `estimatesmartfee`.
pub static ESTIMATESMARTFEE: Spec = Spec {
    name: "estimatesmartfee",
    category: Category::Util,
    params: &[
        Param {
            names: &["conf_target"],
            kind: Kind::Number,
            need: Need::Required,
            about: "Blocks within which the transaction is to be confirmed, 1 to 1008",
        },
        Param {
            names: &["estimate_mode"],
            kind: Kind::Text,
            need: Need::Optional("default: economical"),
            about: "unset, economical or conservative",
        },
    ],
    about: "Returns the fee rate with which a transaction is likely to be confirmed in time. There is no estimator\n\
            yet, so the answer is that of Bitcoin Core with insufficient data.",
    result: "{ errors: [ \"Insufficient data or no feerate found\" ], blocks: 0 }",
    example: "6",
    needs_chain: true,
};

/// `getdescriptorinfo`.
pub static GETDESCRIPTORINFO: Spec = Spec {
    name: "getdescriptorinfo",
    category: Category::Util,
    params: &[DESCRIPTOR],
    about: "Analyses a descriptor, and returns it without private keys and with its checksum. musig(), unused() and\n\
            sortedmulti_a() are not supported.",
    result: "{ descriptor, multipath_expansion, checksum, isrange, issolvable, hasprivatekeys }\n\
             multipath_expansion: of a descriptor with several paths, all of them; checksum: of the text given",
    example: "'wpkh(0279be667ef9dcbbac55a06295ce870b07029bfcdb2dce28d959f2815b16f81798)'",
    needs_chain: false,
};

/// `getindexinfo`.
pub static GETINDEXINFO: Spec = Spec {
    name: "getindexinfo",
    category: Category::Util,
    params: &[Param {
        names: &["index_name"],
        kind: Kind::Text,
        need: Need::Optional("default: all"),
        about: "Only this index",
    }],
    about: "Returns the progress of each enabled index: txindex, txospenderindex.",
    result: "{ NAME: { synced, best_block_height } … }",
    example: "txindex",
    needs_chain: false,
};

/// `signmessagewithprivkey`.
pub static SIGNMESSAGEWITHPRIVKEY: Spec = Spec {
    name: "signmessagewithprivkey",
    category: Category::Util,
    params: &[
        Param {
            names: &["privkey"],
            kind: Kind::Text,
            need: Need::Required,
            about: "The private key, in wallet import format",
        },
        MESSAGE,
    ],
    about: "Signs a message with a private key.",
    result: "\"signature\"  (string) in base64",
    example: "cMahea7zqjxrtgAbB7LSGbcQUr1uX1ojuat9jZodMN87JcbXMTcA 'a message'",
    needs_chain: false,
};

/// `validateaddress`.
pub static VALIDATEADDRESS: Spec = Spec {
    name: "validateaddress",
    category: Category::Util,
    params: &[Param {
        names: &["address"],
        kind: Kind::Text,
        need: Need::Required,
        about: "The address",
    }],
    about: "Returns whether a text is an address of this network, and its scriptPubKey.",
    result: "{ isvalid, address, scriptPubKey, isscript, iswitness, witness_version, witness_program }, or\n\
             { isvalid, error_locations, error }  error_locations: characters that are probably wrong, from 0",
    example: "bc1qw508d6qejxtdg4y5r3zarvary0c5xw7kv8f3t4",
    needs_chain: false,
};

/// `verifymessage`.
pub static VERIFYMESSAGE: Spec = Spec {
    name: "verifymessage",
    category: Category::Util,
    params: &[
        Param {
            names: &["address"],
            kind: Kind::Text,
            need: Need::Required,
            about: "The address of the key that signed (P2PKH)",
        },
        Param {
            names: &["signature"],
            kind: Kind::Text,
            need: Need::Required,
            about: "The signature, in base64",
        },
        MESSAGE,
    ],
    about: "Returns whether the owner of an address has signed a message.",
    result: "true|false  (boolean)",
    example: "mrCDrCybB6J1vRfbwM5hemdJz73FwDBC8r H… 'a message'",
    needs_chain: false,
};
