//! The methods, as callers who share a thread can bear them.

use std::cell::Cell;
use std::time::{Duration, Instant};

use actix_web::web;
use serde_json::Value;

use crate::jsonrpc::{Error, Execute, Params, code};
use crate::methods;
use crate::metrics::UNKNOWN;

use super::Context;

/// After so long the calls of a batch let others on their thread have a turn.
const TURN: Duration = Duration::from_millis(1);
/// A result is written on a thread for that when it is longer than this, bytes, as counted by
/// [`is_long`]: to write so much takes about a fifth of a millisecond.
const LONG: usize = 64 * 1024;

/// Carries out the calls of one request, with a clock.
pub(super) struct Execution {
    context: web::Data<Context>,
    /// When others on the thread had their turn.
    turn: Cell<Instant>,
}

impl Execution {
    pub(super) fn new(context: web::Data<Context>) -> Self {
        Self {
            context,
            turn: Cell::new(Instant::now()),
        }
    }
}

impl Execute for Execution {
    async fn execute(&self, name: &str, params: Params) -> Result<String, Error> {
        if self.turn.get().elapsed() > TURN {
            tokio::task::yield_now().await;
            self.turn.set(Instant::now());
        }
        let method = methods::find(name);
        let began = Instant::now();
        let result = match method {
            Some(method) => self.context.methods.run(method, params).await,
            None => Err(methods::not_found()),
        };
        let written = match result {
            Ok(value) => write(value).await,
            Err(error) => Err(error),
        };
        // What callers make up is counted as one, so that they cannot make the page grow.
        let counted = method.map_or(UNKNOWN, |method| method.name);
        let metrics = &self.context.metrics;
        metrics.called(counted, began.elapsed(), written.is_ok());
        written
    }
}

/// As JSON text. A block with all its transactions takes a tenth of a second, in which no
/// worker could do anything else.
async fn write(value: Value) -> Result<String, Error> {
    if !is_long(&value) {
        return Ok(value.to_string());
    }
    let written = tokio::task::spawn_blocking(move || value.to_string()).await;
    written.map_err(|_| Error::new(code::INTERNAL_ERROR, "writing the result failed"))
}

/// Whether a value is longer than [`LONG`], found out without looking at much more of it.
fn is_long(value: &Value) -> bool {
    /// Takes the length of a value, roughly, off what is left; `None`: it does not fit.
    fn rest(left: usize, value: &Value) -> Option<usize> {
        match value {
            Value::Null | Value::Bool(_) => left.checked_sub(4),
            Value::Number(number) => left.checked_sub(number.as_str().len()),
            Value::String(text) => left.checked_sub(text.len() + 2),
            Value::Array(all) => {
                let left = left.checked_sub(all.len() + 2)?;
                all.iter().try_fold(left, rest)
            }
            Value::Object(all) => {
                let left = left.checked_sub(2)?;
                all.iter().try_fold(left, |left, (name, value)| {
                    rest(left.checked_sub(name.len() + 4)?, value)
                })
            }
        }
    }
    rest(LONG, value).is_none()
}

#[cfg(test)]
mod tests {
    use std::pin::pin;

    use futures_util::FutureExt;
    use serde_json::json;

    use super::*;
    use crate::jsonrpc;
    use crate::server::tests::scene;

    #[actix_rt::test]
    async fn the_calls_of_a_batch_let_others_have_a_turn() {
        let scene = scene().await;
        let call = r#"{"id":1,"method":"help"}"#;
        let batch = format!("[{}]", [call; 2_000].join(","));
        let execution = Execution::new(scene.context());
        let batch = jsonrpc::answer(batch.as_bytes(), &execution);
        tokio::pin!(batch);
        tokio::select! {
            biased;
            _ = &mut batch => panic!("nobody else had a turn"),
            () = std::future::ready(()) => {}
        }
        assert_eq!(batch.await.status, 200);
        scene.end().await;
    }

    #[actix_rt::test]
    async fn a_long_result_is_not_written_where_it_would_hold_up_others() {
        let at_once = write(json!(["a"])).now_or_never();
        assert_eq!(at_once, Some(Ok(r#"["a"]"#.into())));

        let value = json!({ "hex": "0".repeat(LONG) });
        let text = value.to_string();
        let mut long = pin!(write(value));
        assert_eq!(long.as_mut().now_or_never(), None);
        assert_eq!(long.await, Ok(text));
    }

    #[test]
    fn the_length_of_a_value_is_that_of_its_text() {
        let values: [fn(usize) -> Value; 4] = [
            |count| vec![Value::Bool(true); count].into(),
            |count| vec![json!({ "name": "value", "height": 123_456 }); count].into(),
            |count| "0".repeat(count).into(),
            |count| json!({ "a": [[[vec![-1.5; count]]]] }),
        ];
        for value in values {
            let length = |count: usize| value(count).to_string().len();
            let longest_short = (1..)
                .find(|count| is_long(&value(count * 16)))
                .map(|it| it * 16);
            let found = length(longest_short.expect("it ends"));
            assert!((LONG * 9 / 10..LONG * 11 / 10).contains(&found), "{found}");
        }
    }
}
