//! Tools: addresses, descriptors, signed messages, fee estimates, and how far indexes are.

mod descriptors;
mod fees;
mod messages;
mod multisig;

pub(super) use fees::ESTIMATERAWFEE;

use std::rc::Rc;

use handfast_node::IndexName;
use serde_json::{Value, json};

use super::{Call, Category, Kind, Method, Need, Param};
use crate::jsonrpc::Error;
use crate::render::address;

pub(super) const METHODS: &[Method] = &[
    multisig::CREATEMULTISIG,
    descriptors::DERIVEADDRESSES,
    fees::ESTIMATESMARTFEE,
    descriptors::GETDESCRIPTORINFO,
    Method {
        name: "getindexinfo",
        category: Category::Util,
        params: &[Param {
            names: &["index_name"],
            kind: Kind::Text,
            need: Need::Optional("default: all"),
            about: "Only this index",
        }],
        about: "Returns how far each index is that the node keeps: txindex, txospenderindex.",
        result: "{ NAME: { synced, best_block_height } … }",
        example: "txindex",
        needs_chain: false,
        run: |call| Box::pin(async move { Ok(getindexinfo(&call)) }),
    },
    messages::SIGNMESSAGEWITHPRIVKEY,
    Method {
        name: "validateaddress",
        category: Category::Util,
        params: &[Param {
            names: &["address"],
            kind: Kind::Text,
            need: Need::Required,
            about: "The address",
        }],
        about: "Tells whether a text is an address on this network, and what it pays to.",
        result: "{ isvalid, address, scriptPubKey, isscript, iswitness, witness_version, witness_program }, or\n\
                 { isvalid, error_locations, error }  error_locations: characters that are probably wrong, from 0",
        example: "bc1qw508d6qejxtdg4y5r3zarvary0c5xw7kv8f3t4",
        needs_chain: false,
        run: |call| Box::pin(validateaddress(call)),
    },
    messages::VERIFYMESSAGE,
];

fn getindexinfo(call: &Call) -> Value {
    let mut all = json!({});
    for name in IndexName::ALL {
        // As in Core an empty name stands for all.
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
