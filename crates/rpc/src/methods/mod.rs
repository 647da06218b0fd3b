//! What can be called: the code of each method, beside what `handfast_api` says of it, by which
//! calls are checked and `help` is written.

mod blockchain;
mod control;
mod fuzzing;
mod hidden;
mod listeners;
mod mining;
mod network;
mod raw_transactions;
mod spec;
mod sync;
mod tools;

pub(crate) use spec::Method;

use std::collections::HashMap;
use std::panic::AssertUnwindSafe;
use std::rc::Rc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, LazyLock};

use futures_util::FutureExt;
use handfast_node::{ChainView, Gone, NodeHandle, Phase};
use serde_json::Value;

use crate::jsonrpc::{Error, Params, code, positional};

/// Every method, by category, then by name, as `help` lists them.
const TABLE: [&[Method]; 9] = [
    blockchain::METHODS,
    control::METHODS,
    fuzzing::METHODS,
    mining::METHODS,
    network::METHODS,
    raw_transactions::METHODS,
    sync::METHODS,
    tools::METHODS,
    hidden::METHODS,
];

/// Every method.
pub(crate) fn all() -> impl Iterator<Item = &'static Method> {
    TABLE.into_iter().flatten()
}

/// The method called `name`.
pub(crate) fn find(name: &str) -> Option<&'static Method> {
    static BY_NAME: LazyLock<HashMap<&str, &Method>> =
        LazyLock::new(|| all().map(|method| (method.name, method)).collect());
    BY_NAME.get(name).copied()
}

/// Whether the chain of this view is open. Not while the node starts,
/// nor when the start has failed or was given up and the process is about to end.
pub(crate) fn is_open(view: &ChainView) -> bool {
    view.open && view.phase != Phase::Starting
}

/// The error of an unknown method.
pub(crate) fn not_found() -> Error {
    Error::new(code::METHOD_NOT_FOUND, "Method not found")
}

/// A call whose arguments have been checked against the table.
pub(crate) struct Call {
    /// The node.
    pub(crate) node: NodeHandle,
    templates: Arc<AtomicBool>,
    arguments: Vec<Value>,
}

impl Call {
    /// Argument number `index`; `null` when it was left out.
    pub(crate) fn value(&self, index: usize) -> &Value {
        self.arguments.get(index).unwrap_or(&Value::Null)
    }

    /// How many arguments were given, `null` among them.
    pub(crate) fn given(&self) -> usize {
        self.arguments.len()
    }

    /// A template of a block was made.
    pub(crate) fn made_template(&self) {
        self.templates.store(true, Ordering::Relaxed);
    }

    /// Whether one was made since the start.
    pub(crate) fn has_made_template(&self) -> bool {
        self.templates.load(Ordering::Relaxed)
    }

    /// All arguments.
    pub(crate) fn arguments(&self) -> &[Value] {
        &self.arguments
    }

    /// A string argument.
    pub(crate) fn text(&self, index: usize) -> Option<&str> {
        self.value(index).as_str()
    }

    /// A boolean argument.
    pub(crate) fn flag(&self, index: usize) -> Option<bool> {
        self.value(index).as_bool()
    }

    /// A numeric argument in the range of `T`, or an error in Core's words.
    pub(crate) fn integer<T: std::str::FromStr>(&self, index: usize) -> Result<Option<T>, Error> {
        match self.value(index) {
            Value::Null => Ok(None),
            Value::Number(number) => match number.as_str().parse() {
                Ok(integer) => Ok(Some(integer)),
                Err(_) => Err(Error::new(code::MISC_ERROR, "JSON integer out of range")),
            },
            other => Err(Error::wrong_type(other, "number")),
        }
    }
}

/// Carries out calls on a node.
#[derive(Clone)]
pub(crate) struct Methods {
    pub(crate) node: NodeHandle,
    /// Whether a block template was made since the start: Core reports the last one.
    templates: Arc<AtomicBool>,
}

impl Methods {
    pub(crate) fn new(node: NodeHandle) -> Self {
        let templates = Arc::default();
        Self { node, templates }
    }

    /// Executes `method`, or returns its error.
    pub(crate) async fn run(
        &self,
        method: &'static Method,
        params: Params,
    ) -> Result<Value, Error> {
        let name = method.name;
        if method.needs_chain {
            let view = self.node.view();
            if !is_open(&view) {
                return Err(Error::new(code::IN_WARMUP, view.starting.clone()));
            }
        }
        let arguments = positional(params, &method.names())?;
        method.check(&arguments)?;
        let call = Rc::new(Call {
            node: self.node.clone(),
            templates: self.templates.clone(),
            arguments,
        });
        let _running = control::active::ActiveCall::new(method.name);
        // A panic in one method costs its client an error, and does not end the worker.
        match AssertUnwindSafe((method.run)(call)).catch_unwind().await {
            Ok(result) => result,
            Err(_) => {
                tracing::error!(
                    method = name,
                    "a method panicked; the caller got an internal error"
                );
                Err(Error::new(
                    code::INTERNAL_ERROR,
                    format!("internal error in {name}"),
                ))
            }
        }
    }
}

impl From<Gone> for Error {
    fn from(gone: Gone) -> Self {
        match gone {
            Gone::Starting => Self::new(code::IN_WARMUP, "Loading block index…"),
            Gone::Stopping => Self::new(code::CLIENT_NOT_CONNECTED, "Shutting down"),
        }
    }
}

#[cfg(test)]
mod tests;
