//! `getblockstats` and `getchaintxstats`.

use std::collections::BTreeSet;
use std::rc::Rc;

use bitcoin::Block;
use bitcoin::consensus::deserialize;
use handfast_api::methods::blockchain as specs;
use handfast_node::{BlockError, ChainView, Entry, ReadError};
use serde_json::{Map, Value, json};

use super::super::{Call, Method};
use super::{hash_argument, known};
use crate::jsonrpc::{Error, code};
use crate::render::block::count_transactions;
use crate::render::block_stats::block_stats;
use crate::render::number::real;

/// Most blocks that one call reads to count their transactions.
const MAX_COUNTED: u32 = 1_000;
/// The default window of `getchaintxstats`, seconds: one month.
const MONTH: u32 = 30 * 24 * 60 * 60;

pub(super) const GETBLOCKSTATS: Method = Method {
    spec: &specs::GETBLOCKSTATS,
    run: |call| Box::pin(getblockstats(call)),
};

pub(super) const GETCHAINTXSTATS: Method = Method {
    spec: &specs::GETCHAINTXSTATS,
    run: |call| Box::pin(getchaintxstats(call)),
};

async fn getblockstats(call: Rc<Call>) -> Result<Value, Error> {
    let view = call.node.view();
    let entry = by_hash_or_height(&call, &view)?;
    let selected = selected(call.value(1))?;
    let bytes = call.node.block(entry.hash, true).await?;
    // The genesis block spends nothing and has no undo data.
    let spent = if entry.height == 0 {
        Vec::new()
    } else {
        call.node
            .spent_outputs(entry.hash)
            .await
            .map_err(without_undo)?
    };
    let median_time = view.tree.median_time_past(&entry.hash);
    let network = view.network.clone();
    let compute = move || {
        let block: Block = deserialize(&bytes).ok()?;
        let median_time = median_time.unwrap_or(entry.header.time);
        block_stats(&entry, median_time, &block, &spent, &network)
    };
    let stats = tokio::task::spawn_blocking(compute).await;
    let stats = stats.map_err(|_| Error::new(code::INTERNAL_ERROR, "counting failed"))?;
    let all =
        stats.ok_or_else(|| Error::new(code::MISC_ERROR, "Can't read undo data from disk"))?;
    pick(all, &selected)
}

fn by_hash_or_height(call: &Call, view: &ChainView) -> Result<Entry, Error> {
    let bad = |message| Err(Error::new(code::INVALID_PARAMETER, message));
    if let Some(text) = call.text(0) {
        return known(&view.tree, &hash_argument(text, "hash_or_height")?);
    }
    if !call.value(0).is_number() {
        return Err(Error::wrong_type(call.value(0), "string"));
    }
    let height = call.integer::<i32>(0)?.unwrap_or(-1);
    let Ok(wanted) = u32::try_from(height) else {
        return bad(format!("Target block height {height} is negative"));
    };
    match view.tree.at_height(wanted) {
        Some(entry) => Ok(entry),
        None => bad(format!(
            "Target block height {height} after current tip {}",
            view.tree.tip().height
        )),
    }
}

/// The requested names; none: all.
fn selected(list: &Value) -> Result<BTreeSet<String>, Error> {
    let Value::Array(list) = list else {
        return Ok(BTreeSet::new());
    };
    let name = |value: &Value| match value {
        Value::String(name) => Ok(name.clone()),
        other => Err(Error::wrong_type(other, "string")),
    };
    list.iter().map(name).collect()
}

fn pick(mut all: Map<String, Value>, names: &BTreeSet<String>) -> Result<Value, Error> {
    if names.is_empty() {
        return Ok(all.into());
    }
    let mut picked = Map::new();
    for name in names {
        let Some(value) = all.remove(name) else {
            let message = format!("Invalid selected statistic '{name}'");
            return Err(Error::new(code::INVALID_PARAMETER, message));
        };
        picked.insert(name.clone(), value);
    }
    Ok(picked.into())
}

fn without_undo(error: BlockError) -> Error {
    match error {
        BlockError::Read(ReadError::NoData(_)) => {
            Error::new(code::MISC_ERROR, "Undo data not available")
        }
        BlockError::Read(ReadError::Io { .. }) => {
            Error::new(code::MISC_ERROR, "Can't read undo data from disk")
        }
        other => other.into(),
    }
}

async fn getchaintxstats(call: Rc<Call>) -> Result<Value, Error> {
    let view = call.node.view();
    let last = match call.text(1) {
        None => view.tree.tip(),
        Some(text) => {
            let entry = known(&view.tree, &hash_argument(text, "blockhash")?)?;
            if !view.tree.in_active_chain(&entry.hash) {
                let message = "Block is not in main chain";
                return Err(Error::new(code::INVALID_PARAMETER, message));
            }
            entry
        }
    };
    let count = window(call.integer::<i32>(0)?, &view, last.height)?;
    let median = |height: u32| {
        let entry = view.tree.at_height(height)?;
        view.tree.median_time_past(&entry.hash)
    };
    let interval = median(last.height)
        .zip(median(last.height - count))
        .map_or(0, |(end, start)| i64::from(end) - i64::from(start));
    let counted = count_in_window(&call, &view, last.height, count).await?;

    let mut stats = json!({ "time": last.header.time });
    if let Some(total) = counted.total {
        stats["txcount"] = total.into();
    }
    stats["window_final_block_hash"] = last.hash.to_string().into();
    stats["window_final_block_height"] = last.height.into();
    stats["window_block_count"] = count.into();
    if count > 0 {
        stats["window_interval"] = interval.into();
        if let Some(transactions) = counted.window {
            stats["window_tx_count"] = transactions.into();
            if interval > 0 {
                stats["txrate"] = real(transactions as f64 / interval as f64);
            }
        }
    }
    Ok(stats)
}

/// The number of blocks in the window that ends at `height`.
fn window(asked: Option<i32>, view: &ChainView, height: u32) -> Result<u32, Error> {
    let Some(asked) = asked else {
        let month = MONTH / view.network.pow().target_spacing;
        return Ok(month.min(height.saturating_sub(1)));
    };
    match u32::try_from(asked) {
        Ok(count) if count == 0 || count < height => Ok(count),
        _ => Err(Error::new(
            code::INVALID_PARAMETER,
            "Invalid block count: should be between 0 and the block's height - 1",
        )),
    }
}

/// What was counted, as far as it was.
struct TxCount {
    /// From genesis to the end of the window.
    total: Option<u64>,
    /// In the window.
    window: Option<u64>,
}

/// Reads the blocks one after another, each on the blocking pool: others come in between.
async fn count_in_window(
    call: &Call,
    view: &ChainView,
    height: u32,
    count: u32,
) -> Result<TxCount, Error> {
    let start = height - count + 1;
    let from = if height <= MAX_COUNTED {
        0
    } else if count <= MAX_COUNTED {
        start
    } else {
        return Ok(TxCount {
            total: None,
            window: None,
        });
    };
    let (mut total, mut window) = (0, 0);
    for height in from..=height {
        let entry = view.tree.at_height(height);
        let entry = entry.ok_or_else(|| Error::new(code::INTERNAL_ERROR, "a height is missing"))?;
        let transactions = count_transactions(&call.node.block(entry.hash, true).await?);
        total += transactions;
        if height >= start {
            window += transactions;
        }
    }
    Ok(TxCount {
        total: (from == 0).then_some(total),
        window: Some(window),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn selected_members_are_sorted_and_unique_and_unknown_ones_are_reported() {
        let all = || {
            let members = [("txs", 1), ("height", 2), ("avgfee", 3)];
            members
                .map(|(name, value)| (name.to_owned(), Value::from(value)))
                .into_iter()
                .collect::<Map<_, _>>()
        };
        let names = |list| selected(&list).expect("strings");
        let picked = pick(all(), &names(json!(["txs", "avgfee", "txs"]))).expect("known");
        assert_eq!(picked.to_string(), "{\"avgfee\":3,\"txs\":1}");
        let whole = pick(all(), &names(json!([]))).expect("all");
        assert_eq!(whole.to_string(), "{\"txs\":1,\"height\":2,\"avgfee\":3}");
        let error = pick(all(), &names(json!(["nonsense"]))).expect_err("unknown");
        assert_eq!(
            (error.code, error.message.as_str()),
            (-8, "Invalid selected statistic 'nonsense'")
        );
        let error = selected(&json!([7])).expect_err("no string");
        assert_eq!(error.code, code::TYPE_ERROR);
    }
}
