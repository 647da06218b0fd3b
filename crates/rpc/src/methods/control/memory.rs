//! `getmemoryinfo`.

use std::rc::Rc;

use serde_json::{Map, Value, json};

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
    about: "Returns how much memory the process uses. The member locked is Core's, about memory for secrets, of which\n\
            Handfast has none; the member handfast is our own: what the system says, bytes, as far as it says it.",
    result: "{ locked: { used, free, total, locked, chunks_used, chunks_free }, handfast: { resident, peak, virtual } }\n\
             resident: in memory now; peak: the most that ever was",
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
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    Ok(json!({
        "locked": {
            "used": 0,
            "free": 0,
            "total": 0,
            "locked": 0,
            "chunks_used": 0,
            "chunks_free": 0,
        },
        "handfast": sizes(&status),
    }))
}

/// What Linux says of a process (`proc_pid_status(5)`): lines such as `VmRSS:  5120 kB`.
fn sizes(status: &str) -> Map<String, Value> {
    let find = |key: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(key))?;
        let kilobytes = line.trim().strip_suffix("kB")?.trim();
        kilobytes.parse::<u64>().ok()?.checked_mul(1_024)
    };
    [
        ("resident", "VmRSS:"),
        ("peak", "VmHWM:"),
        ("virtual", "VmSize:"),
    ]
    .into_iter()
    .filter_map(|(name, key)| Some((name.to_owned(), find(key)?.into())))
    .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_read_where_the_system_tells_them_and_left_out_elsewhere() {
        let status =
            "Name:\thandfast\nVmSize:\t  200000 kB\nVmHWM:\t   5120 kB\nVmRSS:\t   4096 kB\n";
        let told = Value::from(sizes(status)).to_string();
        let expected = json!({ "resident": 4_194_304, "peak": 5_242_880, "virtual": 204_800_000 });
        assert_eq!(told, expected.to_string());
        assert!(sizes("").is_empty());
        assert!(sizes("VmRSS: many kB").is_empty());
    }
}
