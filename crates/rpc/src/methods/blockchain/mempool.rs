//! The mempool methods. There is no mempool: it is reported as empty.

use std::rc::Rc;

use bitcoin::Amount;
use handfast_api::methods::blockchain as specs;
use serde_json::{Value, json};

use super::super::{Call, Method};
use crate::jsonrpc::{Error, code};
use crate::policy;
use crate::render::number::amount;

/// Core's number before any transaction came or went.
const FIRST_SEQUENCE: u64 = 1;

pub(super) const GETMEMPOOLINFO: Method = Method {
    spec: &specs::GETMEMPOOLINFO,
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
    spec: &specs::GETRAWMEMPOOL,
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
