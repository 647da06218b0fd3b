//! The mempool, which there is none of: what can be said of it is that it is empty.

use std::rc::Rc;

use bitcoin::Amount;
use serde_json::{Value, json};

use super::super::{Call, Category, Kind, Method, Need, Param};
use crate::jsonrpc::{Error, code};
use crate::policy;
use crate::render::number::amount;

/// Core's number before any transaction came or went.
const FIRST_SEQUENCE: u64 = 1;

pub(super) const GETMEMPOOLINFO: Method = Method {
    name: "getmempoolinfo",
    category: Category::Blockchain,
    params: &[],
    about: "Returns the state of the mempool. Handfast relays no transactions and keeps none: it is empty, and\n\
            takes no byte. Fee rates and limits, maxmempool among them, are those of the consensus engine's policy, which\n\
            other nodes relay by.",
    result: "{ loaded, size, bytes, usage, total_fee, maxmempool, mempoolminfee, minrelaytxfee, incrementalrelayfee,\n  \
             unbroadcastcount, permitbaremultisig, maxdatacarriersize, limitclustercount, limitclustersize, optimal, fullrbf }",
    example: "",
    needs_chain: true,
    run: |_| {
        Box::pin(async {
            Ok(json!({
                "loaded": true,
                "size": 0,
                "bytes": 0,
                "usage": 0,
                "total_fee": amount(Amount::ZERO),
                "maxmempool": policy::MAX_MEMPOOL,
                "mempoolminfee": amount(policy::MIN_RELAY_FEE),
                "minrelaytxfee": amount(policy::MIN_RELAY_FEE),
                "incrementalrelayfee": amount(policy::INCREMENTAL_RELAY_FEE),
                "unbroadcastcount": 0,
                "permitbaremultisig": policy::PERMIT_BARE_MULTISIG,
                "maxdatacarriersize": policy::MAX_DATA_CARRIER,
                "limitclustercount": policy::CLUSTER_COUNT,
                "limitclustersize": policy::CLUSTER_SIZE,
                "optimal": true,
                // Dropped by Core since version 31, and read by every client of 24 to 31: a
                // transaction may always be replaced.
                "fullrbf": true,
            }))
        })
    },
};

pub(super) const GETRAWMEMPOOL: Method = Method {
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
            about: "With the list, the number of changes so far",
        },
    ],
    about: "Returns the transactions in the mempool, of which there are none: Handfast relays no transactions.",
    result: "[ ] or { } or { txids: [ ], mempool_sequence }",
    example: "",
    needs_chain: true,
    run: |call| Box::pin(getrawmempool(call)),
};

async fn getrawmempool(call: Rc<Call>) -> Result<Value, Error> {
    let flag = |index| call.flag(index).unwrap_or(false);
    match (flag(0), flag(1)) {
        (true, true) => {
            let message = "Verbose results cannot contain mempool sequence values.";
            Err(Error::new(code::INVALID_PARAMETER, message))
        }
        (true, false) => Ok(json!({})),
        (false, true) => Ok(json!({ "txids": [], "mempool_sequence": FIRST_SEQUENCE })),
        (false, false) => Ok(json!([])),
    }
}
