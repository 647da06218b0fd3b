//! `logging`.

use std::rc::Rc;

use handfast_api::methods::control as specs;
use serde_json::{Value, json};

use super::super::{Call, Method};
use crate::jsonrpc::{Error, code};
use crate::log_control::{self, AdjustError};

pub(super) const LOGGING: Method = Method {
    spec: &specs::LOGGING,
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
        call.server.log.adjust(&changes).map_err(refused)?;
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
