//! `getmemoryinfo`.

use std::rc::Rc;

use serde_json::{Value, json};

use super::super::{Call, Category, Kind, Method, Need, Param};
use crate::jsonrpc::{Error, code};

pub(super) const GETMEMORYINFO: Method = Method {
    name: "getmemoryinfo",
    category: Category::Control,
    params: &[Param {
        names: &["mode"],
        kind: Kind::Text,
        need: Need::Optional("default: stats"),
        about: "Only stats: Core's other mode, mallocinfo, is not available",
    }],
    about: "Returns how much memory that is kept from the swap area is in use: that for secrets, of which Handfast has\n\
            none. What the process uses in all is on the page of metrics (process_resident_memory_bytes).",
    result: "{ locked: { used, free, total, locked, chunks_used, chunks_free } }",
    example: "",
    needs_chain: false,
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
