//! Mining, switched on and off. These are our own: Core mines no more by itself.

use std::rc::Rc;
use std::time::Duration;

use bitcoin::{Address, Network};
use handfast_api::methods::mining as specs;
use handfast_node::MiningFailure;
use handfast_node::config::MAX_MINE_THREADS;
use handfast_node::mining::MiningState;
use serde_json::{Value, json};

use super::{Call, Method};
use crate::jsonrpc::{Error, code};
use crate::payout;
use crate::render::number::real;

pub(super) const STARTMINING: Method = Method {
    spec: &specs::STARTMINING,
    run: |call| Box::pin(startmining(call)),
};

pub(super) const STOPMINING: Method = Method {
    spec: &specs::STOPMINING,
    run: |call| Box::pin(stopmining(call)),
};

impl From<MiningFailure> for Error {
    fn from(failure: MiningFailure) -> Self {
        let message = failure.to_string();
        match failure {
            MiningFailure::Gone(gone) => gone.into(),
            MiningFailure::NoPayout => Self::new(
                code::INVALID_PARAMETER,
                "On this network an address is needed: startmining THREADS ADDRESS, or --mine-address",
            ),
            MiningFailure::NeedsSignature => Self::new(code::MISC_ERROR, message),
            MiningFailure::Threads(_) | MiningFailure::Dead(_) => {
                Self::new(code::INTERNAL_ERROR, message)
            }
        }
    }
}

async fn startmining(call: Rc<Call>) -> Result<Value, Error> {
    let network = call.node.view().network.bitcoin();
    let threads = match call.integer::<i64>(0)? {
        None => None,
        Some(number) => match usize::try_from(number) {
            Ok(threads) if (1..=MAX_MINE_THREADS).contains(&threads) => Some(threads),
            _ => {
                let message = format!("threads must be 1 to {MAX_MINE_THREADS}");
                return Err(Error::new(code::INVALID_PARAMETER, message));
            }
        },
    };
    let payout = call.text(1).map(|text| payout::of_address(text, network));
    let state = call.node.start_mining(threads, payout.transpose()?).await?;
    Ok(describe(&state, network))
}

async fn stopmining(call: Rc<Call>) -> Result<Value, Error> {
    let network = call.node.view().network.bitcoin();
    let state = call.node.stop_mining().await?;
    Ok(describe(&state, network))
}

/// The miner's state as JSON.
pub(super) fn describe(state: &MiningState, network: Network) -> Value {
    let seconds = |time: Duration| real(time.as_secs_f64());
    let payout = state.payout.as_ref();
    let address = payout.and_then(|script| Address::from_script(script, network).ok());
    json!({
        "mining": state.is_on(),
        "why": state.why.to_string(),
        "threads": state.threads,
        "address": address.map(|address| address.to_string()),
        "script": payout.map(|script| script.to_hex_string()),
        "interval": seconds(state.interval),
        "hashespersecond": real(state.hashes_per_second),
        "hashes": state.hashes,
        "found": state.found,
        "generated": state.generated,
        "stale": state.stale,
        "refused": state.refused,
        "height": state.height,
        "expected": state.expected.map(seconds),
        "orders": state.requests,
    })
}
