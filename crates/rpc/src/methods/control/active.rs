//! The calls in progress, and `getrpcinfo`.

use std::collections::BTreeMap;
use std::rc::Rc;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use handfast_api::methods::control as specs;
use serde_json::{Value, json};

use super::super::{Call, Method};
use crate::jsonrpc::Error;
use crate::log_control;

pub(super) const GETRPCINFO: Method = Method {
    spec: &specs::GETRPCINFO,
    run: |call| Box::pin(getrpcinfo(call)),
};

/// Calls of all servers of this process. Locked for a read or a change, never across a call.
static CALLS: Mutex<Calls> = Mutex::new(Calls {
    running: BTreeMap::new(),
    next: 0,
});

struct Calls {
    /// In the order in which they began.
    running: BTreeMap<u64, (&'static str, Instant)>,
    next: u64,
}

fn calls() -> MutexGuard<'static, Calls> {
    CALLS.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A call in progress, until dropped.
pub(crate) struct ActiveCall {
    number: u64,
}

impl ActiveCall {
    pub(crate) fn new(method: &'static str) -> Self {
        let mut calls = calls();
        let number = calls.next;
        calls.next += 1;
        calls.running.insert(number, (method, Instant::now()));
        Self { number }
    }
}

impl Drop for ActiveCall {
    fn drop(&mut self) {
        calls().running.remove(&self.number);
    }
}

/// Name and age of every call in progress, oldest first.
fn running() -> Vec<(&'static str, Duration)> {
    let now = Instant::now();
    let age = |(name, since): &(&'static str, Instant)| (*name, now.duration_since(*since));
    calls().running.values().map(age).collect()
}

async fn getrpcinfo(_: Rc<Call>) -> Result<Value, Error> {
    let row = |(method, age): (&str, Duration)| {
        let microseconds = u64::try_from(age.as_micros()).unwrap_or(u64::MAX);
        json!({ "method": method, "duration": microseconds })
    };
    let rows = running().into_iter().map(row);
    let log = log_control::file().unwrap_or_default();
    Ok(json!({
        "active_commands": rows.collect::<Value>(),
        "logpath": log.display().to_string(),
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_call_is_listed_with_its_age_until_it_is_over_however_it_ends() {
        let listed = || {
            let ours = |(name, _): &(&str, Duration)| name.starts_with("test-");
            running().into_iter().filter(ours).collect::<Vec<_>>()
        };
        let first = ActiveCall::new("test-first");
        let second = ActiveCall::new("test-second");
        let names: Vec<&str> = listed().into_iter().map(|(name, _)| name).collect();
        assert_eq!(names, ["test-first", "test-second"]);
        let age = listed()[0].1;
        assert!(listed()[0].1 >= age, "ages only grow");
        drop(first);
        let panics = std::panic::catch_unwind(move || {
            let _second = second;
            panic!("a bug in a method, on purpose");
        });
        assert!(panics.is_err() && listed().is_empty());
    }
}
