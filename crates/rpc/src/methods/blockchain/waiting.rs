//! Waiting for blocks. Whoever waits holds no thread.

use std::rc::Rc;
use std::time::Duration;

use handfast_node::ChainView;
use serde_json::{Value, json};

use super::super::{Call, Category, Kind, Method, Need, Param};
use super::hash_argument;
use crate::jsonrpc::{Error, code};

const TIMEOUT: Param = Param {
    names: &["timeout"],
    kind: Kind::Number,
    need: Need::Optional("default: 0"),
    about: "Milliseconds to wait; 0: without end",
};
const RESULT: &str =
    "{ hash, height }  the tip: as waited for, or as it is when time is up or the node stops";

pub(super) const WAITFORBLOCK: Method = Method {
    name: "waitforblock",
    category: Category::Blockchain,
    params: &[
        Param {
            names: &["blockhash"],
            kind: Kind::Hex,
            need: Need::Required,
            about: "The block to wait for",
        },
        TIMEOUT,
    ],
    about: "Waits until a block is the tip.",
    result: RESULT,
    example: "0000000000079f8ef3d2c688c244eb7a4570b24c9ed7b4a8c619eb02596f8862 1000",
    needs_chain: true,
    run: |call| Box::pin(waitforblock(call)),
};

pub(super) const WAITFORBLOCKHEIGHT: Method = Method {
    name: "waitforblockheight",
    category: Category::Blockchain,
    params: &[
        Param {
            names: &["height"],
            kind: Kind::Number,
            need: Need::Required,
            about: "The height to wait for",
        },
        TIMEOUT,
    ],
    about: "Waits until the tip has at least this height.",
    result: RESULT,
    example: "100 1000",
    needs_chain: true,
    run: |call| Box::pin(waitforblockheight(call)),
};

pub(super) const WAITFORNEWBLOCK: Method = Method {
    name: "waitfornewblock",
    category: Category::Blockchain,
    params: &[
        TIMEOUT,
        Param {
            names: &["current_tip"],
            kind: Kind::Hex,
            need: Need::Optional("default: the tip now"),
            about: "Wait until the tip is another block than this one",
        },
    ],
    about: "Waits for a new tip.",
    result: RESULT,
    example: "1000",
    needs_chain: true,
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
