//! Mining, switched on and off. These are our own: Core mines no more by itself.

use std::rc::Rc;
use std::time::Duration;

use bitcoin::{Address, Network};
use handfast_node::MiningFailure;
use handfast_node::mining::MiningState;
use serde_json::{Value, json};

use super::{Call, Category, Kind, Method, Need, Param};
use crate::jsonrpc::{Error, code};
use crate::payout;
use crate::render::number::real;

/// More threads than any machine has cores.
const MAX_THREADS: usize = 1_024;
const RESULT: &str = "the member \"handfast\" of getmininginfo";

pub(super) const STARTMINING: Method = Method {
    name: "startmining",
    category: Category::Mining,
    params: &[
        Param {
            names: &["threads"],
            kind: Kind::Number,
            need: Need::Optional("default: --mine-threads, else one for each core"),
            about: "Hash threads, 1 to 1024",
        },
        Param {
            names: &["address"],
            kind: Kind::Text,
            need: Need::Optional("default: --mine-address"),
            about: "Blocks pay to it. On regtest and signets of your own none is needed: without one they pay to OP_TRUE, which anybody can spend",
        },
    ],
    about: "Mines until stopmining, at the pace of --mine-interval; begins anew if it does so already. The threads run\n\
            at the lowest priority there is. Nothing is mined while the chain is downloaded; getmininginfo tells.",
    result: RESULT,
    example: "2 bcrt1qft5p2uhsdcdc3l2ua4ap5qqfg4pjaqlp250x7us7a8qqhrxrxfsqseac85",
    needs_chain: true,
    run: |call| Box::pin(startmining(call)),
};

pub(super) const STOPMINING: Method = Method {
    name: "stopmining",
    category: Category::Mining,
    params: &[],
    about: "Mines no more. A block that was found before is still judged; blocks on demand go on.",
    result: RESULT,
    example: "",
    needs_chain: true,
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
            Ok(threads) if (1..=MAX_THREADS).contains(&threads) => Some(threads),
            _ => {
                let message = format!("threads must be 1 to {MAX_THREADS}");
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

/// What the miner tells of itself.
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
        "orders": state.orders,
    })
}
