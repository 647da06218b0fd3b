//! `echo`, `echojson` and `syncwithvalidationinterfacequeue`: for tests and for clients that
//! probe the server.

use std::rc::Rc;

use handfast_api::methods::hidden as specs;
use serde_json::Value;

use super::super::{Call, Method};
use crate::jsonrpc::Error;

pub(super) const ECHO: Method = Method {
    spec: &specs::ECHO,
    run: |call| Box::pin(echo(call)),
};

pub(super) const ECHOJSON: Method = Method {
    spec: &specs::ECHOJSON,
    run: |call| Box::pin(echo(call)),
};

pub(super) const SYNCWITHVALIDATIONINTERFACEQUEUE: Method = Method {
    spec: &specs::SYNCWITHVALIDATIONINTERFACEQUEUE,
    run: |call| Box::pin(syncwithvalidationinterfacequeue(call)),
};

async fn echo(call: Rc<Call>) -> Result<Value, Error> {
    Ok(call.arguments().to_vec().into())
}

/// # Ordering
/// The engine's events and this request go to the same actor, which handles them in order.
async fn syncwithvalidationinterfacequeue(call: Rc<Call>) -> Result<Value, Error> {
    call.node.sync_state().await?;
    Ok(Value::Null)
}
