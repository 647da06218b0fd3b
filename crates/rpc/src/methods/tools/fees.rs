//! Fee estimates, of which there are none: no transaction was ever seen waiting.

use std::rc::Rc;

use serde_json::{Value, json};

use super::super::{Call, Category, Kind, Method, Need, Param};
use crate::jsonrpc::{Error, code};

/// The most blocks that an estimate may look ahead. Core: the longest horizon of
/// `CBlockPolicyEstimator`, 42 periods of 24 blocks.
const MAX_TARGET: i32 = 1_008;
/// Core `FeeModeMap`.
const MODES: [&str; 3] = ["unset", "economical", "conservative"];

pub(super) const ESTIMATESMARTFEE: Method = Method {
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
            yet, so that the answer is what Bitcoin Core's is as long as it has seen too little.",
    result: "{ errors: [ \"Insufficient data or no feerate found\" ], blocks: 0 }",
    example: "6",
    needs_chain: true,
    run: |call| Box::pin(estimatesmartfee(call)),
};

async fn estimatesmartfee(call: Rc<Call>) -> Result<Value, Error> {
    let bad = |message: String| Err(Error::new(code::INVALID_PARAMETER, message));
    let target: i32 = call.integer(0)?.unwrap_or(0);
    if !(1..=MAX_TARGET).contains(&target) {
        return bad(format!(
            "Invalid conf_target, must be between 1 and {MAX_TARGET}"
        ));
    }
    let mode = call.text(1).unwrap_or("economical");
    if !MODES.iter().any(|known| known.eq_ignore_ascii_case(mode)) {
        let modes = MODES.join("\", \"");
        return bad(format!(
            "Invalid estimate_mode parameter, must be one of: \"{modes}\""
        ));
    }
    // Core clamps the target to what it has data for: nothing.
    Ok(json!({ "errors": ["Insufficient data or no feerate found"], "blocks": 0 }))
}
