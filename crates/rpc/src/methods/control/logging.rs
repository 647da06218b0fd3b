//! `logging`.

use std::rc::Rc;

use serde_json::{Value, json};

use super::super::{Call, Category, Kind, Method, Need, Param};
use crate::jsonrpc::{Error, code};
use crate::log_control::{self, AdjustError};

pub(super) const LOGGING: Method = Method {
    name: "logging",
    category: Category::Control,
    params: &[
        Param {
            names: &["include"],
            kind: Kind::List,
            need: Need::Optional("default: none"),
            about: "Categories to log in detail from now on",
        },
        Param {
            names: &["exclude"],
            kind: Kind::List,
            need: Need::Optional("default: none"),
            about: "Categories not to log in detail any more; wins over include",
        },
    ],
    about: "Returns which parts of the node log in detail (level debug), and changes it until the node stops. What is\n\
            not logged in detail is logged as --log says, at most at level info.\n\
            The categories are our crates, and modules of them: chain, node, node::connector, node::listener,\n\
            node::peer_manager, proto, proto::peer_table, proto::session, proto::sync, rpc. A crate stands for its\n\
            modules too; all (or 1) for everything. Those of Bitcoin Core stand for ours: net for node and proto,\n\
            addrman for proto::peer_table, cmpctblock for proto::sync, http for rpc, and blockstorage, coindb, kernel,\n\
            leveldb, prune, reindex and validation for chain. Of the others there is nothing to log: they are taken,\n\
            and stay false.",
    result: "{ category: true|false, … }  whether it is logged in detail",
    example: "'[\"proto\"]' '[\"proto::session\"]'",
    needs_chain: false,
    run: |call| Box::pin(logging(call)),
};

async fn logging(call: Rc<Call>) -> Result<Value, Error> {
    let (include, exclude) = (names(call.value(0))?, names(call.value(1))?);
    let changes = include
        .iter()
        .map(|name| (*name, true))
        .chain(exclude.iter().map(|name| (*name, false)));
    let changes: Vec<(&str, bool)> = changes.collect();
    if !changes.is_empty() {
        log_control::adjust(&changes).map_err(refused)?;
    }
    let mut object = json!({});
    for (name, detailed) in log_control::categories() {
        object[name] = detailed.into();
    }
    Ok(object)
}

fn names(list: &Value) -> Result<Vec<&str>, Error> {
    let Value::Array(list) = list else {
        return Ok(Vec::new());
    };
    list.iter()
        .map(|name| {
            name.as_str()
                .ok_or_else(|| Error::wrong_type(name, "string"))
        })
        .collect()
}

fn refused(error: AdjustError) -> Error {
    let code = match error {
        AdjustError::Unknown(_) => code::INVALID_PARAMETER,
        AdjustError::NoLog => code::METHOD_NOT_FOUND,
        AdjustError::Failed(_) => code::MISC_ERROR,
    };
    Error::new(code, error.to_string())
}
