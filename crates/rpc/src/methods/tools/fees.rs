//! Fee estimates, of which there are none: no transaction was ever seen waiting.

use std::rc::Rc;

use handfast_api::methods as specs;
use serde_json::{Value, json};

use super::super::{Call, Method};
use crate::jsonrpc::{Error, code};
use crate::render::number::real;

/// The most blocks that an estimate may look ahead. Core: the longest horizon of
/// `CBlockPolicyEstimator`, 42 periods of 24 blocks.
const MAX_TARGET: i32 = 1_008;
/// Core `FeeModeMap`.
const MODES: [&str; 3] = ["unset", "economical", "conservative"];

pub(super) const ESTIMATESMARTFEE: Method = Method {
    spec: &specs::util::ESTIMATESMARTFEE,
    run: |call| Box::pin(estimatesmartfee(call)),
};

pub(in crate::methods) const ESTIMATERAWFEE: Method = Method {
    spec: &specs::hidden::ESTIMATERAWFEE,
    run: |call| Box::pin(estimaterawfee(call)),
};

/// The horizons of estimates: the name, the decay per block, the blocks of
/// a period, and the periods. Core `CBlockPolicyEstimator`.
const HORIZONS: [(&str, f64, i32, i32); 3] = [
    ("short", 0.962, 1, 12),
    ("medium", 0.9952, 2, 24),
    ("long", 0.99931, 24, 42),
];
/// A fee rate that is higher than any. Core `INF_FEERATE`.
const INFINITE: f64 = 1e99;

async fn estimaterawfee(call: Rc<Call>) -> Result<Value, Error> {
    let target = target(&call)?;
    let threshold = call.value(1).as_f64().unwrap_or(0.95);
    if !(0.0..=1.0).contains(&threshold) {
        return Err(Error::new(code::INVALID_PARAMETER, "Invalid threshold"));
    }
    let mut answer = json!({});
    for (name, decay, scale, periods) in HORIZONS {
        if target <= scale * periods {
            answer[name] = nothing_seen(decay, scale);
        }
    }
    Ok(answer)
}

fn nothing_seen(decay: f64, scale: i32) -> Value {
    json!({
        "decay": real(decay),
        "scale": scale,
        "fail": {
            "startrange": 0,
            "endrange": real(INFINITE),
            "withintarget": 0,
            "totalconfirmed": 0,
            "inmempool": 0,
            "leftmempool": 0,
        },
        "errors": ["Insufficient data or no feerate found which meets threshold"],
    })
}

/// The first argument of both. Core `ParseConfirmTarget`.
fn target(call: &Call) -> Result<i32, Error> {
    let target: i32 = call.integer(0)?.unwrap_or(0);
    match (1..=MAX_TARGET).contains(&target) {
        true => Ok(target),
        false => {
            let message = format!("Invalid conf_target, must be between 1 and {MAX_TARGET}");
            Err(Error::new(code::INVALID_PARAMETER, message))
        }
    }
}

async fn estimatesmartfee(call: Rc<Call>) -> Result<Value, Error> {
    let bad = |message: String| Err(Error::new(code::INVALID_PARAMETER, message));
    target(&call)?;
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
