//! Calls that wait for a block.
//!
//! A waiting call holds no permit of the work queue, or clients that poll a quiet chain would
//! take them all. Waiting calls have a limit of their own; beyond it the oldest yields: it is
//! answered as if its timeout had passed, which clients of these methods expect anyway. A 503
//! would mean that nothing was executed, and fail a whole batch for one of its calls.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use serde_json::{Number, Value};
use tokio::sync::Notify;

use crate::jsonrpc::Params;

/// The waiting calls, and their limit.
#[derive(Debug)]
pub(super) struct WaitingCalls {
    most: usize,
    table: Mutex<WaitTable>,
}

#[derive(Debug, Default)]
struct WaitTable {
    next: u64,
    /// In the order in which they began.
    waiting: BTreeMap<u64, Arc<Notify>>,
}

/// A waiting call, until dropped.
pub(super) struct WaitingCall<'a> {
    calls: &'a WaitingCalls,
    number: u64,
    yields: Arc<Notify>,
}

impl WaitingCalls {
    pub(super) fn new(most: usize) -> Self {
        Self {
            most: most.max(1),
            table: Mutex::default(),
        }
    }

    fn table(&self) -> MutexGuard<'_, WaitTable> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Registers one more. The oldest yields if there are too many.
    pub(super) fn begin(&self) -> WaitingCall<'_> {
        let mut table = self.table();
        if table.waiting.len() >= self.most
            && let Some((_, oldest)) = table.waiting.pop_first()
        {
            oldest.notify_one();
        }
        let number = table.next;
        table.next += 1;
        let yields = Arc::new(Notify::new());
        table.waiting.insert(number, yields.clone());
        WaitingCall {
            calls: self,
            number,
            yields,
        }
    }
}

impl WaitingCall<'_> {
    /// Returns when the call must yield to a younger one.
    pub(super) async fn yields(&self) {
        self.yields.notified().await;
    }
}

impl Drop for WaitingCall<'_> {
    fn drop(&mut self) {
        self.calls.table().waiting.remove(&self.number);
    }
}

/// Why a call takes long.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// It waits for a block, at most as long as its argument of this index says.
    Block { timeout: usize },
    /// It waits for another tip, if a `longpollid` is given.
    LongPoll,
    /// It works until it has its result. It keeps its permit of the work queue, and is dropped
    /// when its client disconnects.
    Work,
}

/// The methods that wait or work long.
const METHODS: [(&str, Kind); 8] = [
    ("waitfornewblock", Kind::Block { timeout: 0 }),
    ("waitforblock", Kind::Block { timeout: 1 }),
    ("waitforblockheight", Kind::Block { timeout: 1 }),
    ("getblocktemplate", Kind::LongPoll),
    ("generatetoaddress", Kind::Work),
    ("generatetodescriptor", Kind::Work),
    ("generateblock", Kind::Work),
    // Reads a block for each requested output.
    ("gettxspendingprevout", Kind::Work),
];
/// The name of the timeout argument of [`Kind::Block`].
const TIMEOUT: &str = "timeout";
/// The member of the argument of [`Kind::LongPoll`].
const LONG_POLL_ID: &str = "longpollid";

/// How a call waits or works; `None`: neither for long.
pub(super) fn kind(method: &str, params: &Params) -> Option<Kind> {
    let (_, kind) = METHODS.iter().find(|(name, _)| *name == method)?;
    let has_id = |value: &Value| !value[LONG_POLL_ID].is_null();
    match kind {
        Kind::LongPoll => any(params, &has_id).then_some(*kind),
        Kind::Block { .. } | Kind::Work => Some(*kind),
    }
}

/// The same call with a timeout that has passed.
pub(super) fn without_wait(kind: Kind, params: &Params) -> Params {
    let at_once = Value::Number(Number::from(1));
    let mut params = params.clone();
    match (kind, &mut params) {
        (Kind::Work, _) => {}
        (Kind::LongPoll, _) => each(&mut params, &mut |value| {
            if let Value::Object(members) = value {
                members.remove(LONG_POLL_ID);
            }
        }),
        (Kind::Block { timeout }, Params::Positional(values)) => {
            values.resize(values.len().max(timeout + 1), Value::Null);
            values[timeout] = at_once;
        }
        (Kind::Block { timeout }, Params::Named(values)) => {
            if let Some((_, value)) = values.iter_mut().find(|(name, _)| name == TIMEOUT) {
                *value = at_once;
            } else if let Some(leading) = leading(values, timeout) {
                *leading = at_once;
            } else {
                values.push((TIMEOUT.to_owned(), at_once));
            }
        }
    }
    params
}

/// Argument number `index` of the positional ones in `args`.
fn leading(values: &mut [(String, Value)], index: usize) -> Option<&mut Value> {
    let (_, leading) = values.iter_mut().find(|(name, _)| name == "args")?;
    leading.as_array_mut()?.get_mut(index)
}

/// Whether `is` holds for one of the arguments, `args` included.
fn any(params: &Params, is: &impl Fn(&Value) -> bool) -> bool {
    let with_leading = |value: &Value| {
        let inside = value.as_array().into_iter().flatten();
        is(value) || inside.into_iter().any(is)
    };
    match params {
        Params::Positional(values) => values.iter().any(is),
        Params::Named(values) => values.iter().any(|(_, value)| with_leading(value)),
    }
}

/// Changes all arguments, `args` included.
fn each(params: &mut Params, change: &mut impl FnMut(&mut Value)) {
    match params {
        Params::Positional(values) => values.iter_mut().for_each(change),
        Params::Named(values) => {
            for (_, value) in values {
                change(value);
                let inside = value.as_array_mut().into_iter().flatten();
                inside.for_each(&mut *change);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;
    use serde_json::json;

    use super::*;
    use crate::methods;

    #[test]
    fn beyond_the_limit_only_the_oldest_waiting_call_yields() {
        let calls = WaitingCalls::new(3);
        let first = calls.begin();
        let waiting: Vec<_> = (0..2).map(|_| calls.begin()).collect();
        let yields = |waiting: &WaitingCall<'_>| waiting.yields().now_or_never().is_some();
        assert!(!yields(&first));
        let fourth = calls.begin();
        assert!(yields(&first));
        assert!(!waiting.iter().any(yields) && !yields(&fourth));
        // It has yielded already.
        drop(first);
        drop(waiting);
        assert_eq!(calls.table().waiting.len(), 1);
        drop(fourth);
        assert!(calls.table().waiting.is_empty());
    }

    #[test]
    fn methods_that_wait_exist_and_have_the_arguments_listed_here() {
        for (name, kind) in METHODS {
            let method = methods::find(name).expect(name);
            if let Kind::Block { timeout } = kind {
                assert_eq!(method.params[timeout].names, [TIMEOUT], "{name}");
            }
        }
        let poll = |value: Value| kind("getblocktemplate", &Params::Positional(vec![value]));
        assert_eq!(poll(json!({ "rules": [] })), None);
        assert_eq!(poll(json!({ "longpollid": "00" })), Some(Kind::LongPoll));
    }

    #[test]
    fn a_call_that_yields_is_repeated_without_waiting() {
        let block = Kind::Block { timeout: 1 };
        let positional = |values: Value| match values {
            Value::Array(values) => Params::Positional(values),
            other => panic!("{other}"),
        };
        let named = |values: Value| match values {
            Value::Object(values) => Params::Named(values.into_iter().collect()),
            other => panic!("{other}"),
        };
        for (given, made) in [
            (positional(json!([])), positional(json!([null, 1]))),
            (positional(json!([9])), positional(json!([9, 1]))),
            (positional(json!([9, 0])), positional(json!([9, 1]))),
            (
                named(json!({ "height": 9 })),
                named(json!({ "height": 9, "timeout": 1 })),
            ),
            (
                named(json!({ "timeout": 0 })),
                named(json!({ "timeout": 1 })),
            ),
            (
                named(json!({ "args": [9, 0] })),
                named(json!({ "args": [9, 1] })),
            ),
            (
                named(json!({ "args": [9] })),
                named(json!({ "args": [9], "timeout": 1 })),
            ),
        ] {
            assert_eq!(without_wait(block, &given), made);
        }
        let request = json!({ "longpollid": "00", "rules": ["segwit"] });
        let left = json!({ "rules": ["segwit"] });
        for (given, made) in [
            (positional(json!([request])), positional(json!([left]))),
            (
                named(json!({ "args": [request] })),
                named(json!({ "args": [left] })),
            ),
            (
                named(json!({ "template_request": request })),
                named(json!({ "template_request": left })),
            ),
        ] {
            assert_eq!(kind("getblocktemplate", &given), Some(Kind::LongPoll));
            assert_eq!(without_wait(Kind::LongPoll, &given), made);
        }
    }
}
