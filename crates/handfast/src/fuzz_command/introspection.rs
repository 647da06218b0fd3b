//! The target's view of itself, over its RPC.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use handfast_cli::NodeLocation;
use handfast_disk::read_text;
use handfast_fuzz::oracle::{Introspection, NoAnswer, Wait, audit_mismatch};
use serde_json::{Value, json};
use tokio::time::sleep;

use super::options::Setup;
use crate::client::{self, ClientError, MAX_COOKIE, Timeouts};

/// Time that the RPC may refuse connections: a target that has just started accepts peers before
/// calls, and our own ports may be in TIME_WAIT for a second.
const ABSENT_TIMEOUT: Duration = Duration::from_secs(2);
/// Interval of checking whether the run is to end, or the RPC listens now.
const POLL_INTERVAL: Duration = Duration::from_millis(100);

/// The target's RPC, if one was given.
pub(super) fn introspection(setup: &Setup) -> Option<Box<dyn Introspection + Send>> {
    let place = setup.rpc.clone()?;
    let peers = Peers::default();
    Some(Box::new(TargetRpc { place, peers }))
}

struct TargetRpc {
    place: NodeLocation,
    peers: Peers,
}

/// The peers of the target, so that honest ones that connect during a run are not taken for
/// ghosts: a connection from which the target still receives something after ours are closed
/// is not ours.
#[derive(Debug, Default)]
struct Peers {
    /// Those at the first look, before the run.
    first: Option<BTreeSet<u64>>,
    /// Of the others, when the target had received something from them last at our first look.
    others: BTreeMap<u64, u64>,
}

impl Peers {
    /// How many peers there are, those left out that connected after the first look and send.
    /// `rows`: id and time of the last message, Unix seconds.
    fn count(&mut self, rows: &[(u64, u64)]) -> u64 {
        let first = self
            .first
            .get_or_insert_with(|| rows.iter().map(|(id, _)| *id).collect());
        let others = rows.iter().filter(|(id, _)| !first.contains(id));
        let before = std::mem::take(&mut self.others);
        self.others = others
            .clone()
            .map(|(id, last)| (*id, *before.get(id).unwrap_or(last)))
            .collect();
        let silent = others.filter(|(id, last)| self.others[id] == *last).count();
        (first.len() + silent) as u64
    }

    /// Whether there are peers that may be ghosts, or alive: a ping tells.
    fn has_others(&self) -> bool {
        !self.others.is_empty()
    }
}

/// The ids of peers, and when the last message of each was received.
fn last_received(rows: &Value) -> Option<Vec<(u64, u64)>> {
    let row = |row: &Value| Some((row["id"].as_u64()?, row["lastrecv"].as_u64()?));
    rows.as_array()?.iter().map(row).collect()
}

/// The result of a call.
type Called = Result<Value, NoAnswer>;

impl TargetRpc {
    /// The whole JSON-RPC answer.
    fn call(&self, method: &str, wait: Wait<'_>) -> Called {
        let called = client::block_on(async {
            tokio::select! {
                biased;
                answer = self.post(method, wait) => answer,
                () = until_over(wait) => Err(match wait.is_cut() {
                    true => NoAnswer::Ended,
                    false => NoAnswer::Not(format!(
                        "{} did not answer within {} s", self.at(), wait.took().as_secs()
                    )),
                }),
            }
        });
        called.map_err(NoAnswer::Not)?
    }

    async fn post(&self, method: &str, wait: Wait<'_>) -> Called {
        let request = json!({ "jsonrpc": "2.0", "id": 1, "method": method }).to_string();
        loop {
            // A little longer than the run's own timeout, which can be cut short and is shown in
            // whole seconds; this one bounds the pauses requested by an overloaded node.
            let left = Some(Duration::from_secs(wait.left().as_secs() + 1));
            let timeouts = Timeouts {
                connect: left,
                answer: left,
            };
            match client::post(&self.place, timeouts, request.clone()).await {
                Ok(posted) => {
                    let answer = serde_json::from_slice(&posted.body);
                    let no_json = |error| posted.foreign(&format!("no JSON ({error})"));
                    return answer.map_err(|error| NoAnswer::Not(no_json(error)));
                }
                Err(ClientError::NotRunning { .. }) if wait.took() < ABSENT_TIMEOUT => {
                    sleep(POLL_INTERVAL).await
                }
                Err(error) => return Err(self.client_error(&error)),
            }
        }
    }

    /// The `result` of a method.
    fn result(&self, method: &str, wait: Wait<'_>) -> Called {
        let mut answer = self.call(method, wait)?;
        match answer.get("error") {
            None | Some(Value::Null) => Ok(answer["result"].take()),
            Some(error) => Err(self.no_answer(method, error)),
        }
    }

    fn no_answer(&self, method: &str, what: &Value) -> NoAnswer {
        NoAnswer::Not(format!("{} answers {method} with {what}", self.at()))
    }

    /// The cause without the remedy, which does not apply to a fuzz run.
    fn client_error(&self, error: &ClientError) -> NoAnswer {
        let cookie = &self.place.cookie;
        let unread = (!self.place.rpc_listen.is_empty())
            .then(|| read_text(cookie, MAX_COOKIE).err())
            .flatten();
        match (error, unread) {
            (ClientError::NotRunning { .. }, Some(unread)) => NoAnswer::Not(format!(
                "the cookie {} cannot be read ({unread})",
                cookie.display()
            )),
            (ClientError::NotRunning { .. }, None) => {
                NoAnswer::Not(format!("nothing listens on {}", self.at()))
            }
            (ClientError::Busy { .. }, _) => NoAnswer::Later(cause(error)),
            (error, _) => NoAnswer::Not(cause(error)),
        }
    }

    fn at(&self) -> String {
        match self.place.rpc_listen.first() {
            Some(address) => address.to_string(),
            None => self.place.rpc_socket.display().to_string(),
        }
    }
}

/// The line of an error without its remedy.
fn cause(error: &ClientError) -> String {
    let line = error.to_string();
    let cause = line.split_once("; ").map_or(&*line, |(cause, _)| cause);
    cause.to_owned()
}

async fn until_over(wait: Wait<'_>) {
    while !wait.is_over() {
        sleep(wait.left().min(POLL_INTERVAL)).await;
    }
}

impl Introspection for TargetRpc {
    fn chain(&mut self, wait: Wait<'_>) -> Result<String, NoAnswer> {
        const METHOD: &str = "getblockchaininfo";
        let info = self.result(METHOD, wait)?;
        let chain = info["chain"].as_str().map(str::to_owned);
        chain.ok_or_else(|| self.no_answer(METHOD, &info))
    }

    fn peers(&mut self, wait: Wait<'_>) -> Result<u64, NoAnswer> {
        if let Some(rows) = last_received(&self.call("getpeerinfo", wait)?["result"]) {
            let count = self.peers.count(&rows);
            if self.peers.has_others() {
                // Without `ping` in its RPC a target pings by itself, only later.
                let _ = self.call("ping", wait)?;
            }
            return Ok(count);
        }
        const METHOD: &str = "getconnectioncount";
        let count = self.result(METHOD, wait)?;
        count.as_u64().ok_or_else(|| self.no_answer(METHOD, &count))
    }

    fn audit(&mut self, wait: Wait<'_>) -> Result<Option<Result<(), String>>, NoAnswer> {
        let answer = self.call("audit", wait)?;
        Ok(judged(&answer))
    }
}

/// The answer to Handfast's own `audit`. Other nodes have no such method.
fn judged(answer: &Value) -> Option<Result<(), String>> {
    let audit = &answer["result"];
    let broken = audit["invariants"]
        .as_array()?
        .iter()
        .filter(|one| one["held"] == Value::Bool(false));
    let mut broken: Vec<String> = broken.map(ToString::to_string).collect();
    if audit["agrees"] == Value::Bool(false) {
        let count = |name: &str| audit[name].as_array().map_or(0, Vec::len);
        broken.push(audit_mismatch(
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
    fn an_honest_peer_that_connects_during_a_run_is_no_ghost_and_a_silent_one_is() {
        let mut peers = Peers::default();
        assert_eq!(peers.count(&[(1, 100)]), 1, "there before the run");
        assert!(!peers.has_others());
        let (honest, ghost) = (8, 9);
        assert_eq!(peers.count(&[(1, 100), (honest, 150), (ghost, 151)]), 3);
        assert!(peers.has_others(), "a ping tells them apart");
        assert_eq!(peers.count(&[(1, 100), (honest, 152), (ghost, 151)]), 2);
        assert_eq!(
            peers.count(&[(honest, 153), (ghost, 151)]),
            2,
            "one that left does not hide the ghost"
        );
        assert_eq!(peers.count(&[(honest, 154)]), 1);
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
