//! Calls that wait for a block.
//!
//! They hold none of the places of the work queue while they wait, or impatient callers on a
//! quiet chain would take them all. They have places of their own, and when those are taken
//! the oldest call yields: it is answered as if its time were up, which clients of these
//! methods have to expect anyway. A 503 would say that nothing was carried out, and fail a
//! whole batch for one of its calls.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use serde_json::{Number, Value};
use tokio::sync::Notify;

use crate::jsonrpc::Params;

/// Calls that wait, and how many there may be.
#[derive(Debug)]
pub(super) struct Waits {
    most: usize,
    table: Mutex<Table>,
}

#[derive(Debug, Default)]
struct Table {
    next: u64,
    /// In the order in which they began.
    waiting: BTreeMap<u64, Arc<Notify>>,
}

/// A call that waits, until dropped.
pub(super) struct Waiting<'a> {
    waits: &'a Waits,
    number: u64,
    yields: Arc<Notify>,
}

impl Waits {
    pub(super) fn new(most: usize) -> Self {
        Self {
            most: most.max(1),
            table: Mutex::default(),
        }
    }

    fn table(&self) -> MutexGuard<'_, Table> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// One more. The oldest yields if there are too many.
    pub(super) fn begin(&self) -> Waiting<'_> {
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
        Waiting {
            waits: self,
            number,
            yields,
        }
    }
}

impl Waiting<'_> {
    /// Returns when a younger call needs the place.
    pub(super) async fn yields(&self) {
        self.yields.notified().await;
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.waits.table().waiting.remove(&self.number);
    }
}

/// How a method takes its time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// For a block, at most for as long as its argument of this number says.
    Block { timeout: usize },
    /// For another tip, if it is given an id.
    LongPoll,
    /// It works until it has what it was asked for. It has a place of the work queue, as
    /// other calls that have work to do, but goes on only for a caller who is there.
    Work,
}

/// The methods that wait, or work for long.
const METHODS: [(&str, Kind); 8] = [
    ("waitfornewblock", Kind::Block { timeout: 0 }),
    ("waitforblock", Kind::Block { timeout: 1 }),
    ("waitforblockheight", Kind::Block { timeout: 1 }),
    ("getblocktemplate", Kind::LongPoll),
    ("generatetoaddress", Kind::Work),
    ("generatetodescriptor", Kind::Work),
    ("generateblock", Kind::Work),
    // Reads a block for each output that it is asked for.
    ("gettxspendingprevout", Kind::Work),
];
/// The argument of [`Kind::Block`] by name.
const TIMEOUT: &str = "timeout";
/// The member of the argument of [`Kind::LongPoll`].
const LONG_POLL_ID: &str = "longpollid";

/// How a call waits or works; `None`: it does neither for long.
pub(super) fn kind(method: &str, params: &Params) -> Option<Kind> {
    let (_, kind) = METHODS.iter().find(|(name, _)| *name == method)?;
    let has_id = |value: &Value| !value[LONG_POLL_ID].is_null();
    match kind {
        Kind::LongPoll => any(params, &has_id).then_some(*kind),
        Kind::Block { .. } | Kind::Work => Some(*kind),
    }
}

/// The same call, whose time is up at once.
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

/// Argument number `index` among those that `args` gives by position.
fn leading(values: &mut [(String, Value)], index: usize) -> Option<&mut Value> {
    let (_, leading) = values.iter_mut().find(|(name, _)| name == "args")?;
    leading.as_array_mut()?.get_mut(index)
}

/// Whether one of the arguments is so, `args` unfolded.
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

/// Changes all arguments, `args` unfolded.
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
    fn when_too_many_wait_the_oldest_yields_and_nobody_else() {
        let waits = Waits::new(3);
        let first = waits.begin();
        let waiting: Vec<_> = (0..2).map(|_| waits.begin()).collect();
        let yields = |waiting: &Waiting<'_>| waiting.yields().now_or_never().is_some();
        assert!(!yields(&first));
        let fourth = waits.begin();
        assert!(yields(&first));
        assert!(!waiting.iter().any(yields) && !yields(&fourth));
        // It has gone already.
        drop(first);
        drop(waiting);
        assert_eq!(waits.table().waiting.len(), 1);
        drop(fourth);
        assert!(waits.table().waiting.is_empty());
    }

    #[test]
    fn methods_that_wait_exist_and_have_the_arguments_that_are_named_here() {
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
    fn a_call_that_yields_is_made_again_as_one_that_does_not_wait() {
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
