//! What the target says of itself, over its RPC.

use std::time::Duration;

use handfast_cli::NodeLocation;
use handfast_disk::read_text;
use handfast_fuzz::oracle::{Inside, Unsaid, Wait, differ};
use serde_json::{Value, json};
use tokio::time::sleep;

use super::options::Setup;
use crate::client::{self, ClientError, MAX_COOKIE, Patience};

/// How long nobody may listen: a target that was started a moment ago takes peers before it
/// takes calls, and our own ports may be in TIME_WAIT for a second.
const ABSENT: Duration = Duration::from_secs(2);
/// How often it is looked whether somebody wants the run to end, or somebody listens now.
const PIECE: Duration = Duration::from_millis(100);

/// A way to ask the target, if the user named one.
pub(super) fn inside(setup: &Setup) -> Option<Box<dyn Inside + Send>> {
    let place = setup.rpc.clone()?;
    Some(Box::new(Asked { place }))
}

struct Asked {
    place: NodeLocation,
}

/// What came of a call.
type Called = Result<Value, Unsaid>;

impl Asked {
    /// The whole JSON-RPC answer.
    fn call(&self, method: &str, wait: Wait<'_>) -> Called {
        let called = client::block_on(async {
            tokio::select! {
                biased;
                answer = self.post(method, wait) => answer,
                () = until_over(wait) => Err(match wait.is_cut() {
                    true => Unsaid::Ended,
                    false => Unsaid::Not(format!(
                        "{} did not answer within {} s", self.at(), wait.took().as_secs()
                    )),
                }),
            }
        });
        called.map_err(Unsaid::Not)?
    }

    async fn post(&self, method: &str, wait: Wait<'_>) -> Called {
        let request = json!({ "jsonrpc": "2.0", "id": 1, "method": method }).to_string();
        loop {
            // A little longer than our own, which can be cut short, and is told in round
            // numbers; this one is for pauses that an overloaded node asks for.
            let left = Some(Duration::from_secs(wait.left().as_secs() + 1));
            let patience = Patience {
                connect: left,
                answer: left,
            };
            match client::post(&self.place, patience, request.clone()).await {
                Ok(posted) => {
                    let answer = serde_json::from_slice(&posted.body);
                    let no_json = |error| posted.foreign(&format!("no JSON ({error})"));
                    return answer.map_err(|error| Unsaid::Not(no_json(error)));
                }
                Err(ClientError::NotRunning { .. }) if wait.took() < ABSENT => sleep(PIECE).await,
                Err(error) => return Err(self.unsaid(&error)),
            }
        }
    }

    /// What a method results in.
    fn result(&self, method: &str, wait: Wait<'_>) -> Called {
        let mut answer = self.call(method, wait)?;
        match answer.get("error") {
            None | Some(Value::Null) => Ok(answer["result"].take()),
            Some(error) => Err(self.no_answer(method, error)),
        }
    }

    fn no_answer(&self, method: &str, what: &Value) -> Unsaid {
        Unsaid::Not(format!("{} answers {method} with {what}", self.at()))
    }

    /// The cause: what is to be done is another matter in a fuzz run than elsewhere.
    fn unsaid(&self, error: &ClientError) -> Unsaid {
        let cookie = &self.place.cookie;
        let unread = (!self.place.rpc_listen.is_empty())
            .then(|| read_text(cookie, MAX_COOKIE).err())
            .flatten();
        match (error, unread) {
            (ClientError::NotRunning { .. }, Some(unread)) => Unsaid::Not(format!(
                "the cookie {} cannot be read ({unread})",
                cookie.display()
            )),
            (ClientError::NotRunning { .. }, None) => {
                Unsaid::Not(format!("nobody listens on {}", self.at()))
            }
            (ClientError::Busy { .. }, _) => Unsaid::Later(cause(error)),
            (error, _) => Unsaid::Not(cause(error)),
        }
    }

    fn at(&self) -> String {
        match self.place.rpc_listen.first() {
            Some(address) => address.to_string(),
            None => self.place.rpc_socket.display().to_string(),
        }
    }
}

/// The line of an error up to its remedy.
fn cause(error: &ClientError) -> String {
    let line = error.to_string();
    let cause = line.split_once("; ").map_or(&*line, |(cause, _)| cause);
    cause.to_owned()
}

async fn until_over(wait: Wait<'_>) {
    while !wait.is_over() {
        sleep(wait.left().min(PIECE)).await;
    }
}

impl Inside for Asked {
    fn chain(&mut self, wait: Wait<'_>) -> Result<String, Unsaid> {
        const METHOD: &str = "getblockchaininfo";
        let info = self.result(METHOD, wait)?;
        let chain = info["chain"].as_str().map(str::to_owned);
        chain.ok_or_else(|| self.no_answer(METHOD, &info))
    }

    fn peers(&mut self, wait: Wait<'_>) -> Result<u64, Unsaid> {
        const METHOD: &str = "getconnectioncount";
        let count = self.result(METHOD, wait)?;
        count.as_u64().ok_or_else(|| self.no_answer(METHOD, &count))
    }

    fn audit(&mut self, wait: Wait<'_>) -> Result<Option<Result<(), String>>, Unsaid> {
        let answer = self.call("audit", wait)?;
        Ok(judged(&answer))
    }
}

/// What the answer to `audit` says: Handfast's own. Other nodes have no such method.
fn judged(answer: &Value) -> Option<Result<(), String>> {
    let audit = &answer["result"];
    let broken = audit["invariants"]
        .as_array()?
        .iter()
        .filter(|one| one["held"] == Value::Bool(false));
    let mut broken: Vec<String> = broken.map(ToString::to_string).collect();
    if audit["agrees"] == Value::Bool(false) {
        let count = |name: &str| audit[name].as_array().map_or(0, Vec::len);
        broken.push(differ(
            (&audit["sockets"], &audit["in_handshake"]),
            count("peer_table"),
            count("sync_table"),
        ));
    }
    Some(match broken.is_empty() {
        true => Ok(()),
        false => Err(broken.join("; ")),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn audit(agrees: bool, held: bool) -> Value {
        json!({ "result": {
            "agrees": agrees,
            "sockets": 3,
            "in_handshake": 1,
            "peer_table": [4, 5],
            "sync_table": [4],
            "invariants": [{ "name": "L1", "held": true }, { "name": "L4", "held": held }],
        }})
    }

    #[test]
    fn an_audit_is_clean_when_all_is_held_and_all_agrees() {
        assert_eq!(judged(&audit(true, true)), Some(Ok(())));
        let text = |agrees, held| judged(&audit(agrees, held)).and_then(Result::err);
        let differs = text(false, true).expect("it does not agree");
        assert!(differs.starts_with("3 open sockets (1 of"), "{differs}");
        let broken = text(true, false).expect("it is not held");
        assert!(broken.contains("L4") && !broken.contains("L1"), "{broken}");
        let none = json!({ "error": { "code": -32_601, "message": "Method not found" } });
        assert_eq!(judged(&none), None);
    }
}
