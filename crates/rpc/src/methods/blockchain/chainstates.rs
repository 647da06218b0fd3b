//! `getchainstates`.

use std::rc::Rc;

use handfast_api::methods::blockchain as specs;
use serde_json::{Value, json};

use super::super::{Call, Method};
use crate::jsonrpc::Error;
use crate::render::number::{real, work_fields};

pub(super) const GETCHAINSTATES: Method = Method {
    spec: &specs::GETCHAINSTATES,
    run: |call| Box::pin(getchainstates(call)),
};

/// What the engine gives its caches: Core `kernel::CacheSizes` of `DEFAULT_KERNEL_CACHE`
/// (450 MiB), of which the coins database gets at most `MAX_COINS_DB_CACHE` (8 MiB).
const COINS_DB_CACHE: u64 = 8 << 20;
const COINS_TIP_CACHE: u64 = (450 << 20) - BLOCK_TREE_CACHE - COINS_DB_CACHE;
/// Core `MAX_BLOCK_DB_CACHE`.
const BLOCK_TREE_CACHE: u64 = 2 << 20;

async fn getchainstates(call: Rc<Call>) -> Result<Value, Error> {
    let view = call.node.view();
    let tip = view.tree.tip();
    let (bits, target, difficulty) = work_fields(tip.header.bits);
    Ok(json!({
        "headers": view.tree.best_header().height,
        "chainstates": [{
            "blocks": tip.height,
            "bestblockhash": tip.hash.to_string(),
            "bits": bits,
            "target": target,
            "difficulty": difficulty,
            "verificationprogress": real(call.node.verification_progress()),
            "coins_db_cache_bytes": COINS_DB_CACHE,
            "coins_tip_cache_bytes": COINS_TIP_CACHE,
            "validated": true,
        }],
    }))
}
