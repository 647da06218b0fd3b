//! The methods, as callers who share a thread can bear them.

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
use super::{Context, PIECE, content, waits};

/// After so long the calls of a batch let others on their thread have a turn.
const TURN: Duration = Duration::from_millis(1);
/// A batch that was carried out for so long goes on only for a caller who is there.
const LONG_BATCH: Duration = Duration::from_millis(100);
/// A result is written on a thread for that when it is longer than this, bytes, as counted by
/// [`is_long`]: to write so much takes about a fifth of a millisecond.
const LONG: usize = 64 * 1024;
/// The answer to a batch is sent ahead when so much of it is there, bytes. Up to then it is
/// sent as a whole, with its length, which the simplest clients need.
const SENT_AHEAD: usize = 8 * 1024 * 1024;
/// Methods whose results are made of whole blocks or tables. They are carried out a few at a
/// time (`large`), and before one begins there is a seat for its answer.
const LARGE: [&str; 4] = [
    "getblock",
    "getblockstats",
    "getnodeaddresses",
    "getpeerhistory",
];

/// Carries out the calls of one request, with a clock.
pub(super) struct Execution {
    context: Arc<Context>,
    group: AddressGroup,
    progress: Arc<Progress>,
    /// Of the work queue; `None` while a call waits, and for a call that needs none.
    permit: RefCell<Option<OwnedSemaphorePermit>>,
    /// For what is sent before all is there, if anything may be.
    ahead: Option<mpsc::Sender<Bytes>>,
    /// When the first of the calls was begun.
    began: Cell<Option<Instant>>,
    /// When others on the thread had their turn.
    turn: Cell<Instant>,
    /// The answer is a long one, as far as it is there.
    long: Cell<bool>,
}

impl Execution {
    /// Of a caller from `group`, with its `permit`.
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
            turn: Cell::new(Instant::now()),
            long: Cell::new(false),
        }
    }

    /// The beginning of a long answer is sent when it is there: by who has this.
    pub(super) fn sends_ahead(&mut self) -> mpsc::Receiver<Bytes> {
        let (ahead, pieces) = mpsc::channel(1);
        self.ahead = Some(ahead);
        pieces
    }

    /// Carries out a call, with its result as text.
    async fn run(&self, method: &'static Method, params: Params) -> Result<String, Error> {
        match waits::kind(method.name, &params) {
            None => {}
            Some(waits::Kind::Work) => return Box::pin(self.work(method, params)).await,
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

    /// Carries out a call of one of [`LARGE`].
    async fn make_large(&self, method: &'static Method, params: Params) -> Result<String, Error> {
        self.take_seat().await;
        let make = async {
            let value = self.context.methods.run(method, params).await?;
            self.write(value).await
        };
        let large = &self.context.load.large;
        let text = large.make(&self.progress, self.group, make).await;
        if !self.long.get() {
            self.progress.set_seat(None);
        }
        text
    }

    /// Carries out a call that waits, without a place in the work queue.
    async fn wait(
        &self,
        kind: waits::Kind,
        method: &'static Method,
        params: Params,
    ) -> Result<String, Error> {
        let at_once = waits::without_wait(kind, &params);
        let had_permit = self.permit.take().is_some();
        let waiting = self.context.waits.begin();
        let waits = self.progress.wait();
        self.may_leave(true);
        let seat = self.progress.seat();
        let asked_to_leave = async {
            match &seat {
                Some(seat) => seat.asked_to_leave().await,
                None => std::future::pending().await,
            }
        };
        let waited = tokio::select! {
            result = self.context.methods.run(method, params) => Some(result),
            () = waiting.yields() => None,
            // What was answered before it in this batch is long, and others want the seat.
            () = asked_to_leave => None,
        };
        drop((waiting, waits));
        self.may_leave(false);
        if had_permit {
            // Nobody closes it.
            let place = self.context.load.calls.clone().acquire_owned();
            let permit = self.progress.queued(place).await;
            self.permit.replace(permit.ok());
        }
        let result = match waited {
            Some(result) => result,
            None => self.context.methods.run(method, at_once).await,
        };
        self.write(result?).await
    }

    /// Carries out a call that may work for long, and not for a caller who has left.
    async fn work(&self, method: &'static Method, params: Params) -> Result<String, Error> {
        let waits = self.progress.wait();
        let result = self.context.methods.run(method, params).await;
        drop(waits);
        self.write(result?).await
    }

    /// A seat for a long answer, unless there is one.
    async fn take_seat(&self) {
        if self.progress.seat().is_some() {
            return;
        }
        let answers = &self.context.shares.answers;
        let seat = loop {
            let seat = self.progress.queued(answers.seat(self.group)).await;
            // Not to be cut, and asked to leave only while it waits for its caller. Unless
            // somebody was quicker.
            if seat.logged_in() {
                break seat;
            }
        };
        seat.idles(false);
        self.progress.set_seat(Some(Arc::new(seat)));
    }

    /// Whether others who want a seat may have this one: it is waited for something here.
    fn may_leave(&self, may: bool) {
        if let Some(seat) = self.progress.seat() {
            seat.idles(may);
        }
    }

    /// As JSON text. A block with all its transactions takes a tenth of a second, in which no
    /// worker could do anything else.
    async fn write(&self, value: Value) -> Result<String, Error> {
        match is_long(&value) {
            false => Ok(value.to_string()),
            true => self.write_long(value).await,
        }
    }

    async fn write_long(&self, value: Value) -> Result<String, Error> {
        self.take_seat().await;
        self.long.set(true);
        let write = move || {
            let mut text = value.to_string();
            // It has grown by doubling, and may wait for long for its caller.
            text.shrink_to_fit();
            text
        };
        let written = tokio::task::spawn_blocking(write).await;
        written.map_err(|_| Error::new(code::INTERNAL_ERROR, "writing the result failed"))
    }
}

impl Drop for Execution {
    /// What is left to do is to send the answer.
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
        if self.turn.get().elapsed() > TURN {
            tokio::task::yield_now().await;
            self.turn.set(Instant::now());
        }
        let method = methods::find(name);
        let began = Instant::now();
        let result = match method {
            Some(method) => self.run(method, params).await,
            None => Err(methods::not_found()),
        };
        // What callers make up is counted as one, so that they cannot make the page grow.
        let counted = method.map_or(UNKNOWN, |method| method.name);
        let metrics = &self.context.metrics;
        metrics.called(counted, began.elapsed(), result.is_ok());
        result
    }

    async fn relieve(&self, answered: &mut Pieces) {
        if answered.len() <= PIECE {
            return;
        }
        self.take_seat().await;
        self.long.set(true);
        if answered.len() > SENT_AHEAD
            && let Some(ahead) = &self.ahead
            && let Some(seat) = self.progress.seat()
        {
            self.may_leave(true);
            for piece in answered.take() {
                // It fails when the caller has gone, and then this ends, too.
                let _ = ahead
                    .send(content::kept(piece, seat.clone(), &self.context.load.large))
                    .await;
            }
            self.may_leave(false);
        }
    }
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
    use crate::server::Load;
    use crate::server::tests::{Scene, scene};
    use crate::server::waits::Waits;

    fn execution(scene: &Scene) -> Execution {
        let context = Arc::new(scene.context());
        Execution::new(context, AddressGroup::Unix, None, Arc::default())
    }

    #[actix_rt::test]
    async fn the_calls_of_a_batch_let_others_have_a_turn() {
        let scene = scene().await;
        let call = r#"{"id":1,"method":"help"}"#;
        let batch = format!("[{}]", [call; 2_000].join(","));
        let execution = execution(&scene);
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
        let scene = scene().await;
        let execution = execution(&scene);
        let at_once = execution.write(json!(["a"])).now_or_never();
        assert_eq!(at_once, Some(Ok(r#"["a"]"#.into())));
        assert!(execution.progress.seat().is_none());

        let value = json!({ "hex": "0".repeat(LONG) });
        let text = value.to_string();
        let mut long = pin!(execution.write(value));
        assert_eq!(long.as_mut().now_or_never(), None);
        assert_eq!(long.await, Ok(text));
        assert!(execution.progress.seat().is_some(), "its answer has a seat");
        scene.end().await;
    }

    #[actix_rt::test]
    async fn who_waits_holds_no_place_in_the_work_queue_and_yields_to_others_who_wait() {
        let scene = scene().await;
        let mut context = scene.context();
        context.load = Load::new(2);
        context.waits = Arc::new(Waits::new(3));
        let context = Arc::new(context);
        let execute = |call: &'static str| {
            let permit = context.load.call();
            assert!(permit.is_some(), "there is a place for {call}");
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
        // Each had a place of two, and gave it back.
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
        scene.end().await;
    }

    #[actix_rt::test]
    async fn a_long_answer_to_a_batch_is_sent_ahead_and_waits_for_its_caller() {
        let scene = scene().await;
        let mut execution = execution(&scene);
        let mut sent = execution.sends_ahead();
        let call = r#"{"method":"help","id":1}"#;
        let length = jsonrpc::answer(call.as_bytes(), &execution).await;
        let length = length.body.expect("a text").len();
        let calls = 3 * SENT_AHEAD / length;
        let batch = format!("[{}]", vec![call; calls].join(","));
        let mut made = Box::pin(jsonrpc::answer(batch.as_bytes(), &execution));
        // It goes on as long as there is room for what it makes, and no further.
        let mut waited = 0;
        while waited < 100 {
            assert!((&mut made).now_or_never().is_none(), "nobody has read it");
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
        scene.end().await;
    }

    #[actix_rt::test]
    async fn who_queues_waits_and_who_need_not_queue_does_not() {
        let scene = scene().await;
        let context = Arc::new(scene.context());
        let progress = Arc::<Progress>::default();
        let call = || {
            let (context, progress) = (context.clone(), progress.clone());
            let execution = Execution::new(context, AddressGroup::Unix, None, progress);
            let call = br#"{"method":"getblockstats","params":[0]}"#;
            async move { jsonrpc::answer(call, &execution).await }
        };
        assert_eq!(call().await.status, 200);
        assert!(!progress.waits());
        // For its turn.
        let large = context.load.large.clone();
        let forever = || {
            let (large, progress) = (large.clone(), Arc::<Progress>::default());
            async move {
                let forever = std::future::pending::<()>();
                large.make(&progress, AddressGroup::Unix, forever).await
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
        // For a seat.
        let answers = &context.shares.answers;
        let seats: Vec<_> = std::iter::from_fn(|| answers.try_seat(AddressGroup::Unix))
            .inspect(|seat| assert!(seat.logged_in()))
            .collect();
        let mut queued = Box::pin(call());
        assert!((&mut queued).now_or_never().is_none() && progress.waits());
        drop(queued);
        assert!(!progress.waits(), "nor does who has left");
        drop(seats);
        scene.end().await;
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
