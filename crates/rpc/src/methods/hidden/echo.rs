//! `echo`, `echojson` and `syncwithvalidationinterfacequeue`: for tests and for clients that
//! look whether they are understood.

use std::rc::Rc;

use serde_json::Value;

use super::super::{Call, Category, Kind, Method, Need, Param};
use crate::jsonrpc::Error;

const fn argument(names: &'static [&'static str], kind: Kind) -> Param {
    Param {
        names,
        kind,
        need: Need::Optional("left out"),
        about: "Anything",
    }
}

const fn arguments(kind: Kind) -> [Param; 10] {
    [
        argument(&["arg0"], kind),
        argument(&["arg1"], kind),
        argument(&["arg2"], kind),
        argument(&["arg3"], kind),
        argument(&["arg4"], kind),
        argument(&["arg5"], kind),
        argument(&["arg6"], kind),
        argument(&["arg7"], kind),
        argument(&["arg8"], kind),
        argument(&["arg9"], kind),
    ]
}

pub(super) const ECHO: Method = Method {
    name: "echo",
    category: Category::Hidden,
    params: &const { arguments(Kind::Any) },
    about: "Returns its arguments.",
    result: "[ the arguments ]",
    example: "one two",
    needs_chain: false,
    run: |call| Box::pin(echo(call)),
};

pub(super) const ECHOJSON: Method = Method {
    name: "echojson",
    category: Category::Hidden,
    params: &const { arguments(Kind::Json) },
    about: "Returns its arguments. On a command line they are JSON.",
    result: "[ the arguments ]",
    example: "1 '{\"two\": 2}'",
    needs_chain: false,
    run: |call| Box::pin(echo(call)),
};

pub(super) const SYNCWITHVALIDATIONINTERFACEQUEUE: Method = Method {
    name: "syncwithvalidationinterfacequeue",
    category: Category::Hidden,
    params: &[],
    about: "Waits until everything that the consensus engine had reported is known to the rest of the node.",
    result: "null",
    example: "",
    needs_chain: true,
    run: |call| Box::pin(syncwithvalidationinterfacequeue(call)),
};

async fn echo(call: Rc<Call>) -> Result<Value, Error> {
    Ok(call.arguments().to_vec().into())
}

/// # Ordering
/// The engine's reports and this question go to the same actor, which takes them in order.
async fn syncwithvalidationinterfacequeue(call: Rc<Call>) -> Result<Value, Error> {
    call.node.sync_state().await?;
    Ok(Value::Null)
}
