//! `getmemoryinfo`.

use std::rc::Rc;

use handfast_api::methods::control as specs;
use serde_json::{Value, json};

use super::super::{Call, Method};
use crate::jsonrpc::{Error, code};

pub(super) const GETMEMORYINFO: Method = Method {
    spec: &specs::GETMEMORYINFO,
    run: |call| Box::pin(getmemoryinfo(call)),
};

async fn getmemoryinfo(call: Rc<Call>) -> Result<Value, Error> {
    let bad = |message: String| Err(Error::new(code::INVALID_PARAMETER, message));
    match call.text(0) {
        None | Some("stats") => {}
        Some("mallocinfo") => return bad("mallocinfo mode not available".to_owned()),
        Some(mode) => return bad(format!("unknown mode {mode}")),
    }
    Ok(json!({
        "locked": {
            "used": 0,
            "free": 0,
            "total": 0,
            "locked": 0,
            "chunks_used": 0,
            "chunks_free": 0,
        },
    }))
}
