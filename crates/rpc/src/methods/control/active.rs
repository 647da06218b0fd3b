//! The calls in progress, and `getrpcinfo`.

use std::collections::BTreeMap;
use std::rc::Rc;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use handfast_api::methods::control as specs;
use serde_json::{Value, json};

use super::super::{Call, Method};
use crate::jsonrpc::Error;

pub(super) const GETRPCINFO: Method = Method {
    spec: &specs::GETRPCINFO,
    run: |call| Box::pin(getrpcinfo(call)),
};

/// The calls in progress of a server.
///
/// # Locks
/// One, held for a look or a change, never across a call.
#[derive(Default)]
pub(crate) struct Calls(Mutex<Running>);

#[derive(Default)]
struct Running {
    /// In the order in which they began.
    calls: BTreeMap<u64, (&'static str, Instant)>,
    next: u64,
}

/// A call in progress, until dropped.
pub(crate) struct ActiveCall<'a> {
    calls: &'a Calls,
    number: u64,
}

impl Calls {
    fn lock(&self) -> MutexGuard<'_, Running> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A call of this method begins.
    pub(crate) fn begin(&self, method: &'static str) -> ActiveCall<'_> {
        let mut running = self.lock();
        let number = running.next;
        running.next += 1;
        running.calls.insert(number, (method, Instant::now()));
        ActiveCall {
            calls: self,
            number,
        }
    }

    /// Name and age of every call in progress, oldest first.
    fn ages(&self) -> Vec<(&'static str, Duration)> {
        let now = Instant::now();
        let age = |(name, since): &(&'static str, Instant)| (*name, now.duration_since(*since));
        self.lock().calls.values().map(age).collect()
    }
}

impl Drop for ActiveCall<'_> {
    fn drop(&mut self) {
        self.calls.lock().calls.remove(&self.number);
    }
}

async fn getrpcinfo(call: Rc<Call>) -> Result<Value, Error> {
    let row = |(method, age): (&str, Duration)| {
        let microseconds = u64::try_from(age.as_micros()).unwrap_or(u64::MAX);
        json!({ "method": method, "duration": microseconds })
    };
    let rows = call.server.calls.ages().into_iter().map(row);
    let log = call.server.log.file().unwrap_or_default();
    Ok(json!({
        "active_commands": rows.collect::<Value>(),
        "logpath": log.display().to_string(),
    }))
}

#[cfg(test)]
mod tests {
    use std::panic::AssertUnwindSafe;

    use super::*;

    #[test]
    fn a_call_is_listed_with_its_age_until_it_is_over_however_it_ends() {
        let calls = Calls::default();
        let listed = || calls.ages();
        let first = calls.begin("test-first");
        let second = calls.begin("test-second");
        let names: Vec<&str> = listed().into_iter().map(|(name, _)| name).collect();
        assert_eq!(names, ["test-first", "test-second"]);
        let age = listed()[0].1;
        assert!(listed()[0].1 >= age, "ages only grow");
        drop(first);
        let panics = std::panic::catch_unwind(AssertUnwindSafe(move || {
            let _second = second;
            panic!("a bug in a method, on purpose");
        }));
        assert!(panics.is_err() && listed().is_empty());
    }
}
