//! Execution of methods on a thread that many clients share.

use std::cell::{Cell, RefCell};
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use serde_json::Value;
use tokio::sync::{OwnedSemaphorePermit, mpsc};

use crate::address_group::AddressGroup;
use crate::jsonrpc::{Error, Execute, Params, Pieces, code};
use crate::methods::{self, Method};
use crate::metrics::UNKNOWN;

use super::progress::Progress;
use super::{Context, PIECE, content, waiting_calls};

/// The calls of a batch yield to others on their thread after so long.
const YIELD_AFTER: Duration = Duration::from_millis(1);
/// A batch executed for so long is dropped when its client disconnects.
const LONG_BATCH: Duration = Duration::from_millis(100);
/// A longer result is written on the blocking pool, bytes as counted by [`is_long`]: so much
/// takes about a fifth of a millisecond.
const LONG: usize = 64 * 1024;
/// The answer to a batch is sent ahead from this length on, bytes. Below it is sent as a whole,
/// with its length, which the simplest clients need.
const SENT_AHEAD: usize = 8 * 1024 * 1024;
/// Methods whose results are made of whole blocks or tables. A few are executed at a time
/// (`large_results`), each after taking a slot for its answer.
const LARGE: [&str; 4] = [
    "getblock",
    "getblockstats",
    "getnodeaddresses",
    "getpeerhistory",
];

/// Executes the calls of one request, and measures their time.
pub(super) struct Execution {
    context: Arc<Context>,
    group: AddressGroup,
    progress: Arc<Progress>,
    /// The permit of the work queue; `None` while a call waits, and for a call that needs none.
    permit: RefCell<Option<OwnedSemaphorePermit>>,
    /// Where parts of the answer are sent ahead, if they may be.
    ahead: Option<mpsc::Sender<Bytes>>,
    /// When the first call began.
    began: Cell<Option<Instant>>,
    /// When the thread was last yielded to others.
    yielded_at: Cell<Instant>,
    /// The answer is a long one so far.
    long: Cell<bool>,
}

impl Execution {
    /// For a client of `group`, with its `permit`.
    pub(super) fn new(
        context: Arc<Context>,
        group: AddressGroup,
        permit: Option<OwnedSemaphorePermit>,
        progress: Arc<Progress>,
    ) -> Self {
        Self {
            context,
            group,
            progress,
            permit: RefCell::new(permit),
            ahead: None,
            began: Cell::new(None),
            yielded_at: Cell::new(Instant::now()),
            long: Cell::new(false),
        }
    }

    /// Enables sending ahead: the receiver gets the beginning of a long answer.
    pub(super) fn sends_ahead(&mut self) -> mpsc::Receiver<Bytes> {
        let (ahead, pieces) = mpsc::channel(1);
        self.ahead = Some(ahead);
        pieces
    }

    /// Executes a call and writes its result as text.
    async fn run(&self, method: &'static Method, params: Params) -> Result<String, Error> {
        match waiting_calls::kind(method.name, &params) {
            None => {}
            Some(waiting_calls::Kind::Work) => return Box::pin(self.work(method, params)).await,
            Some(kind) => return Box::pin(self.wait(kind, method, params)).await,
        }
        if LARGE.contains(&method.name) {
            return Box::pin(self.make_large(method, params)).await;
        }
        let value = self.context.methods.run(method, params).await?;
        match is_long(&value) {
            false => Ok(value.to_string()),
            true => Box::pin(self.write_long(value)).await,
        }
    }

    /// Executes a call of one of [`LARGE`].
    async fn make_large(&self, method: &'static Method, params: Params) -> Result<String, Error> {
        self.take_slot().await;
        let make = async {
            let value = self.context.methods.run(method, params).await?;
            self.write(value).await
        };
        let large_results = &self.context.load.large_results;
        let text = large_results.make(&self.progress, self.group, make).await;
        if !self.long.get() {
            self.progress.set_slot(None);
        }
        text
    }

    /// Executes a call that waits, without a permit of the work queue.
    async fn wait(
        &self,
        kind: waiting_calls::Kind,
        method: &'static Method,
        params: Params,
    ) -> Result<String, Error> {
        let at_once = waiting_calls::without_wait(kind, &params);
        let had_permit = self.permit.take().is_some();
        let waiting = self.context.waiting_calls.begin();
        let waits = self.progress.wait();
        self.set_evictable(true);
        let slot = self.progress.slot();
        let close_requested = async {
            match &slot {
                Some(slot) => slot.close_requested().await,
                None => std::future::pending().await,
            }
        };
        let waited = tokio::select! {
            result = self.context.methods.run(method, params) => Some(result),
            () = waiting.yields() => None,
            // The answers before it in this batch are long, and their slot is needed by others.
            () = close_requested => None,
        };
        drop((waiting, waits));
        self.set_evictable(false);
        if had_permit {
            // The semaphore is never closed.
            let permit = self.context.load.calls.clone().acquire_owned();
            let permit = self.progress.queued(permit).await;
            self.permit.replace(permit.ok());
        }
        let result = match waited {
            Some(result) => result,
            None => self.context.methods.run(method, at_once).await,
        };
        self.write(result?).await
    }

    /// Executes a call that may work long, and is dropped when its client disconnects.
    async fn work(&self, method: &'static Method, params: Params) -> Result<String, Error> {
        let waits = self.progress.wait();
        let result = self.context.methods.run(method, params).await;
        drop(waits);
        self.write(result?).await
    }

    /// Takes a slot for a long answer, unless there is one.
    async fn take_slot(&self) {
        if self.progress.slot().is_some() {
            return;
        }
        let answers = &self.context.quotas.answers;
        let slot = loop {
            let slot = self.progress.queued(answers.slot(self.group)).await;
            // Logged in: not cut, and closed only while idle. The login fails if the slot was
            // evicted in between.
            if slot.logged_in() {
                break slot;
            }
        };
        slot.set_idle(false);
        self.progress.set_slot(Some(Arc::new(slot)));
    }

    /// Sets whether the slot may be evicted: the call waits here.
    fn set_evictable(&self, may: bool) {
        if let Some(slot) = self.progress.slot() {
            slot.set_idle(may);
        }
    }

    /// The value as JSON text. A block with all its transactions takes a tenth of a second, which
    /// would hold up the worker.
    async fn write(&self, value: Value) -> Result<String, Error> {
        match is_long(&value) {
            false => Ok(value.to_string()),
            true => self.write_long(value).await,
        }
    }

    async fn write_long(&self, value: Value) -> Result<String, Error> {
        self.take_slot().await;
        self.long.set(true);
        let write = move || {
            let mut text = value.to_string();
            // It has grown by doubling, and may wait long for its client.
            text.shrink_to_fit();
            text
        };
        let written = tokio::task::spawn_blocking(write).await;
        written.map_err(|_| Error::new(code::INTERNAL_ERROR, "writing the result failed"))
    }
}

impl Drop for Execution {
    /// Only sending the answer is left.
    fn drop(&mut self) {
        self.progress.set_long_batch(false);
    }
}

impl Execute for Execution {
    async fn execute(&self, name: &str, params: Params) -> Result<String, Error> {
        match self.began.get() {
            None => self.began.set(Some(Instant::now())),
            Some(began) if began.elapsed() > LONG_BATCH => {
                self.progress.set_long_batch(true);
            }
            Some(_) => {}
        }
        if self.yielded_at.get().elapsed() > YIELD_AFTER {
            tokio::task::yield_now().await;
            self.yielded_at.set(Instant::now());
        }
        let method = methods::find(name);
        let began = Instant::now();
        let result = match method {
            Some(method) => self.run(method, params).await,
            None => Err(methods::not_found()),
        };
        // Unknown names are counted as one, so that clients cannot make the page grow.
        let counted = method.map_or(UNKNOWN, |method| method.name);
        let metrics = &self.context.metrics;
        metrics.called(counted, began.elapsed(), result.is_ok());
        result
    }

    async fn flush(&self, answered: &mut Pieces) {
        if answered.len() <= PIECE {
            return;
        }
        self.take_slot().await;
        self.long.set(true);
        if answered.len() > SENT_AHEAD
            && let Some(ahead) = &self.ahead
            && let Some(slot) = self.progress.slot()
        {
            self.set_evictable(true);
            for piece in answered.take() {
                // Fails when the client has disconnected, and then this ends, too.
                let _ = ahead
                    .send(content::holding_slot(
                        piece,
                        slot.clone(),
                        &self.context.load.large_results,
                    ))
                    .await;
            }
            self.set_evictable(false);
        }
    }
}

/// Whether a value is longer than [`LONG`], without visiting much more of it.
fn is_long(value: &Value) -> bool {
    /// Subtracts the approximate length of a value; `None`: it does not fit.
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
    use crate::server::Load;
    use crate::server::tests::{TestNode, test_node};
    use crate::server::waiting_calls::WaitingCalls;

    fn execution(test_node: &TestNode) -> Execution {
        let context = Arc::new(test_node.context());
        Execution::new(context, AddressGroup::Unix, None, Arc::default())
    }

    #[actix_rt::test]
    async fn the_calls_of_a_batch_yield_to_other_tasks() {
        let test_node = test_node().await;
        let call = r#"{"id":1,"method":"help"}"#;
        let batch = format!("[{}]", [call; 2_000].join(","));
        let execution = execution(&test_node);
        let batch = jsonrpc::answer(batch.as_bytes(), &execution);
        tokio::pin!(batch);
        tokio::select! {
            biased;
            _ = &mut batch => panic!("it did not yield"),
            () = std::future::ready(()) => {}
        }
        assert_eq!(batch.await.status, 200);
        test_node.end().await;
    }

    #[actix_rt::test]
    async fn a_long_result_is_written_off_the_worker() {
        let test_node = test_node().await;
        let execution = execution(&test_node);
        let at_once = execution.write(json!(["a"])).now_or_never();
        assert_eq!(at_once, Some(Ok(r#"["a"]"#.into())));
        assert!(execution.progress.slot().is_none());

        let value = json!({ "hex": "0".repeat(LONG) });
        let text = value.to_string();
        let mut long = pin!(execution.write(value));
        assert_eq!(long.as_mut().now_or_never(), None);
        assert_eq!(long.await, Ok(text));
        assert!(execution.progress.slot().is_some(), "its answer has a slot");
        test_node.end().await;
    }

    #[actix_rt::test]
    async fn a_waiting_call_holds_no_permit_of_the_work_queue_and_yields_to_later_ones() {
        let test_node = test_node().await;
        let mut context = test_node.context();
        context.load = Load::new(2);
        context.waiting_calls = Arc::new(WaitingCalls::new(3));
        let context = Arc::new(context);
        let execute = |call: &'static str| {
            let permit = context.load.call();
            assert!(permit.is_some(), "a free permit for {call}");
            let (context, progress) = (context.clone(), Arc::default());
            let execution = Execution::new(context, AddressGroup::Unix, permit, progress);
            async move {
                let answer = jsonrpc::answer(call.as_bytes(), &execution).await;
                let body = answer.body.expect("it is no notification").take();
                String::from_utf8(body.concat()).expect("text")
            }
        };
        let wait = r#"{"method":"waitfornewblock","params":[]}"#;
        let begun = || {
            let mut call = Box::pin(execute(wait));
            assert!((&mut call).now_or_never().is_none());
            call
        };
        // Each took a permit of two, and gave it back.
        let mut waiting: Vec<_> = (0..3).map(|_| begun()).collect();
        let height = execute(r#"{"method":"getblockcount"}"#).await;
        assert!(height.starts_with(r#"{"result":0,"#), "{height}");
        assert_eq!(context.load.calls.available_permits(), 2);

        waiting.push(begun());
        let oldest = waiting.remove(0).await;
        assert!(oldest.contains(r#""height":0"#), "{oldest}");
        for call in &mut waiting {
            assert!(call.now_or_never().is_none(), "others wait on");
        }
        test_node.end().await;
    }

    #[actix_rt::test]
    async fn a_long_answer_to_a_batch_is_sent_ahead_and_waits_for_its_client() {
        let test_node = test_node().await;
        let mut execution = execution(&test_node);
        let mut sent = execution.sends_ahead();
        let call = r#"{"method":"help","id":1}"#;
        let length = jsonrpc::answer(call.as_bytes(), &execution).await;
        let length = length.body.expect("a text").len();
        let calls = 3 * SENT_AHEAD / length;
        let batch = format!("[{}]", vec![call; calls].join(","));
        let mut made = Box::pin(jsonrpc::answer(batch.as_bytes(), &execution));
        // It runs while the channel has capacity, and no further.
        let mut waited = 0;
        while waited < 100 {
            assert!((&mut made).now_or_never().is_none(), "the channel is full");
            tokio::task::yield_now().await;
            waited = if sent.len() == 1 { waited + 1 } else { 0 };
        }
        let mut bytes = Vec::new();
        let answer = loop {
            tokio::select! {
                biased;
                answer = &mut made => break answer,
                piece = sent.recv() => bytes.extend_from_slice(&piece.expect("it is made")),
            }
        };
        drop(made);
        drop(execution);
        while let Some(piece) = sent.recv().await {
            bytes.extend_from_slice(&piece);
        }
        assert!(bytes.len() > SENT_AHEAD);
        bytes.extend(answer.body.expect("its end").take().concat());
        let answers: Vec<&serde_json::value::RawValue> =
            serde_json::from_slice(&bytes).expect("a list");
        assert_eq!(answers.len(), calls);
        test_node.end().await;
    }

    #[actix_rt::test]
    async fn a_queued_call_counts_as_waiting_and_another_does_not() {
        let test_node = test_node().await;
        let context = Arc::new(test_node.context());
        let progress = Arc::<Progress>::default();
        let call = || {
            let (context, progress) = (context.clone(), progress.clone());
            let execution = Execution::new(context, AddressGroup::Unix, None, progress);
            let call = br#"{"method":"getblockstats","params":[0]}"#;
            async move { jsonrpc::answer(call, &execution).await }
        };
        assert_eq!(call().await.status, 200);
        assert!(!progress.waits());
        // Queued for a slot of large results.
        let large_results = context.load.large_results.clone();
        let forever = || {
            let (large_results, progress) = (large_results.clone(), Arc::<Progress>::default());
            async move {
                let forever = std::future::pending::<()>();
                large_results
                    .make(&progress, AddressGroup::Unix, forever)
                    .await
            }
        };
        let held: Vec<_> = (0..2)
            .map(|_| {
                let mut made = Box::pin(forever());
                assert!((&mut made).now_or_never().is_none());
                made
            })
            .collect();
        let mut queued = Box::pin(call());
        assert!((&mut queued).now_or_never().is_none() && progress.waits());
        drop(held);
        assert_eq!(queued.await.status, 200);
        assert!(!progress.waits());
        // Queued for a slot of long answers.
        let answers = &context.quotas.answers;
        let slots: Vec<_> = std::iter::from_fn(|| answers.try_slot(AddressGroup::Unix))
            .inspect(|slot| assert!(slot.logged_in()))
            .collect();
        let mut queued = Box::pin(call());
        assert!((&mut queued).now_or_never().is_none() && progress.waits());
        drop(queued);
        assert!(!progress.waits(), "a dropped call does not wait");
        drop(slots);
        test_node.end().await;
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
