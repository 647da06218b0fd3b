//! Tools: addresses, descriptors, signed messages, fee estimates, and how far indexes are.

mod descriptors;
mod fees;
mod messages;
mod multisig;

pub(super) use fees::ESTIMATERAWFEE;

use std::rc::Rc;

use handfast_api::methods::util as specs;
use handfast_node::IndexName;
use serde_json::{Value, json};

use super::{Call, Method};
use crate::jsonrpc::Error;
use crate::render::address;

pub(super) const METHODS: &[Method] = &[
    multisig::CREATEMULTISIG,
    descriptors::DERIVEADDRESSES,
    fees::ESTIMATESMARTFEE,
    descriptors::GETDESCRIPTORINFO,
    Method {
        spec: &specs::GETINDEXINFO,
        run: |call| Box::pin(async move { Ok(getindexinfo(&call)) }),
    },
    messages::SIGNMESSAGEWITHPRIVKEY,
    Method {
        spec: &specs::VALIDATEADDRESS,
        run: |call| Box::pin(validateaddress(call)),
    },
    messages::VERIFYMESSAGE,
];

fn getindexinfo(call: &Call) -> Value {
    let mut all = json!({});
    for name in IndexName::ALL {
        // As in Core an empty name means all.
        let wanted = call.text(0).unwrap_or_default();
        if let Some(standing) = call.node.index(name)
            && (wanted.is_empty() || wanted == name.text())
        {
            let (synced, height) = (standing.synced, standing.height);
            all[name.text()] = json!({ "synced": synced, "best_block_height": height });
        }
    }
    all
}

async fn validateaddress(call: Rc<Call>) -> Result<Value, Error> {
    let network = call.node.view().network.bitcoin();
    Ok(address::describe(call.text(0).unwrap_or_default(), network))
}
