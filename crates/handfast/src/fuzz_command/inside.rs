//! What the target says of itself, over its RPC.

use std::time::Duration;

use handfast_fuzz::oracle::Inside;
use serde_json::{Value, json};

use super::options::Setup;
use crate::client::{self, Patience};
use crate::settings::Place;

/// How long an answer may take: a node under load is asked.
const PATIENCE: Duration = Duration::from_secs(10);

/// A way to ask the target, if the user named one.
pub(super) fn inside(setup: &Setup) -> Option<Box<dyn Inside + Send>> {
    let place = setup.rpc.clone()?;
    Some(Box::new(Asked { place }))
}

struct Asked {
    place: Place,
}

impl Asked {
    fn call(&self, method: &str) -> Result<Value, Value> {
        let request = json!({ "jsonrpc": "2.0", "id": 1, "method": method }).to_string();
        let patience = Patience {
            connect: Some(PATIENCE),
            answer: Some(PATIENCE),
        };
        let posted = client::block_on(client::post(&self.place, patience, request));
        let posted = posted.map_err(Value::from)?;
        let posted = posted.map_err(|error| Value::from(error.to_string()))?;
        let mut answer: Value = serde_json::from_slice(&posted.body)
            .map_err(|error| Value::from(posted.foreign(&format!("no JSON ({error})"))))?;
        match answer.get("error") {
            None | Some(Value::Null) => Ok(answer["result"].take()),
            Some(error) => Err(error.clone()),
        }
    }
}

impl Inside for Asked {
    fn peers(&mut self) -> Result<u64, String> {
        let count = self.call("getconnectioncount");
        let count = count.map_err(|error| error.to_string())?;
        count.as_u64().ok_or_else(|| format!("{count} is no count"))
    }

    /// Handfast's own; other nodes have none.
    fn audit(&mut self) -> Option<Result<(), String>> {
        let audit = self.call("audit").ok()?;
        let invariants = audit["invariants"].as_array()?;
        let broken: Vec<String> = invariants
            .iter()
            .filter(|one| one["held"] == Value::Bool(false))
            .map(ToString::to_string)
            .collect();
        Some(match broken.is_empty() {
            true => Ok(()),
            false => Err(broken.join("; ")),
        })
    }
}
