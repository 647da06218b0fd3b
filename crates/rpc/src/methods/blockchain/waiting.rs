//! Waiting for blocks. A waiting call holds no thread.

use std::rc::Rc;
use std::time::Duration;

use handfast_api::methods::blockchain as specs;
use handfast_node::ChainView;
use serde_json::{Value, json};

use super::super::{Call, Method};
use super::hash_argument;
use crate::jsonrpc::{Error, code};

pub(super) const WAITFORBLOCK: Method = Method {
    spec: &specs::WAITFORBLOCK,
    run: |call| Box::pin(waitforblock(call)),
};

pub(super) const WAITFORBLOCKHEIGHT: Method = Method {
    spec: &specs::WAITFORBLOCKHEIGHT,
    run: |call| Box::pin(waitforblockheight(call)),
};

pub(super) const WAITFORNEWBLOCK: Method = Method {
    spec: &specs::WAITFORNEWBLOCK,
    run: |call| Box::pin(waitfornewblock(call)),
};

async fn waitforblock(call: Rc<Call>) -> Result<Value, Error> {
    let hash = hash_argument(call.text(0).unwrap_or_default(), "blockhash")?;
    let timeout = timeout(&call, 1)?;
    wait(&call, timeout, |view| view.tree.tip().hash == hash).await
}

async fn waitforblockheight(call: Rc<Call>) -> Result<Value, Error> {
    let height = call.integer::<i32>(0)?.unwrap_or(0);
    let timeout = timeout(&call, 1)?;
    let reached = |view: &ChainView| i64::from(view.tree.tip().height) >= i64::from(height);
    wait(&call, timeout, reached).await
}

async fn waitfornewblock(call: Rc<Call>) -> Result<Value, Error> {
    let timeout = timeout(&call, 0)?;
    let current = match call.text(1) {
        Some(text) => hash_argument(text, "current_tip")?,
        None => call.node.view().tree.tip().hash,
    };
    wait(&call, timeout, |view| view.tree.tip().hash != current).await
}

/// How long to wait; `None`: without end.
fn timeout(call: &Call, index: usize) -> Result<Option<Duration>, Error> {
    let milliseconds = call.integer::<i32>(index)?.unwrap_or(0);
    match u64::try_from(milliseconds) {
        Ok(0) => Ok(None),
        Ok(some) => Ok(Some(Duration::from_millis(some))),
        Err(_) => Err(Error::new(code::MISC_ERROR, "Negative timeout")),
    }
}

async fn wait(
    call: &Call,
    timeout: Option<Duration>,
    wanted: impl Fn(&ChainView) -> bool,
) -> Result<Value, Error> {
    let wait = call.node.view_when(wanted);
    let view = match timeout {
        None => wait.await,
        Some(timeout) => match tokio::time::timeout(timeout, wait).await {
            Ok(view) => view,
            Err(_) => call.node.view(),
        },
    };
    let tip = view.tree.tip();
    Ok(json!({ "hash": tip.hash.to_string(), "height": tip.height }))
}
