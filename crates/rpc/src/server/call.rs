//! `POST /`: calls.

use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use http_body_util::BodyExt;
use hyper::body::Incoming;
use hyper::header::{ALLOW, CONNECTION, CONTENT_LENGTH, HeaderValue, RETRY_AFTER};
use hyper::http::request::Parts;
use hyper::{Method, StatusCode};
use tokio::sync::OwnedSemaphorePermit;

use handfast_node::Phase;

use crate::auth::Rights;
use crate::jsonrpc;

use super::connection::Client;
use super::content::{self, Content, Response, plain};
use super::execution::Execution;
use super::quota::Slot;
use super::{Context, READ_TIMEOUT, authorize, long_calls};

/// Longest request body, bytes. Core `MAX_SIZE`.
const MAX_BODY: usize = 32 * 1024 * 1024;
/// `Retry-After` when the work queue is full, seconds.
const RETRY_SECONDS: HeaderValue = HeaderValue::from_static("1");
/// The method that is executed even when the work queue is full.
const ALWAYS: &str = "stop";

/// One HTTP request. The body is read only from an authenticated client.
pub(super) async fn handle(
    request: &Parts,
    body: &mut Incoming,
    rights: Option<Rights>,
    client: &Client,
    context: &Arc<Context>,
) -> Response {
    if request.method != Method::POST {
        let text = "JSONRPC server handles only POST requests";
        let mut response = plain(StatusCode::METHOD_NOT_ALLOWED, text);
        let post = HeaderValue::from_static("POST");
        response.headers_mut().insert(ALLOW, post);
        return response;
    }
    let Some(rights) = rights else {
        return authorize::unauthorized("");
    };
    let announced = announced(request);
    if announced.is_some_and(|length| length > MAX_BODY as u64) {
        // The body is not awaited.
        return plain(StatusCode::PAYLOAD_TOO_LARGE, "");
    }
    let body = match read_body(body, announced, client, context).await {
        Ok(body) => body,
        Err(refusal) => return refusal,
    };
    answer(body, rights, client, context).await
}

/// A body, and its permit of memory if it is long.
struct Body {
    bytes: Bytes,
    _memory: Option<OwnedSemaphorePermit>,
}

async fn answer(body: Body, rights: Rights, client: &Client, context: &Arc<Context>) -> Response {
    let permit = context.load.call();
    let is_urgent =
        || body.bytes.len() <= long_calls::SHORT && jsonrpc::calls_only(&body.bytes, ALWAYS);
    if permit.is_none() && !is_urgent() {
        return reject_busy(context);
    }
    let progress = client.progress().clone();
    let execution = Execution::new(context.clone(), client.group(), permit, progress);
    if jsonrpc::is_batch(&body.bytes) {
        return Box::pin(batch(body, rights, execution, client, context)).await;
    }
    let answer = dispatch(body, rights, execution, context).await;
    worded(answer, client.progress().take_slot(), context)
}

/// The answer to a batch, whose beginning may be sent before its end is there.
async fn batch(
    body: Body,
    rights: Rights,
    mut execution: Execution,
    client: &Client,
    context: &Arc<Context>,
) -> Response {
    let mut pieces = execution.sends_ahead();
    let of_call = context.clone();
    let mut call = Box::pin(async move { dispatch(body, rights, execution, &of_call).await });
    let progress = client.progress();
    tokio::select! {
        biased;
        answer = &mut call => worded(answer, progress.take_slot(), context),
        Some(first) = pieces.recv() => {
            let (of_maker, with) = (progress.clone(), context.clone());
            let maker = Box::pin(async move {
                let answer = call.await;
                let slot = of_maker.take_slot();
                match answer {
                    Some(Ok(answer)) => {
                        Some(with_seat(answer.body.unwrap_or_default(), &slot, &with))
                    }
                    Some(Err(Forbidden)) | None => None,
                }
            });
            let kind = "application/json";
            let mut response = content::answer(StatusCode::OK, kind, Bytes::new());
            *response.body_mut() = Content::made(first, pieces, maker);
            hold_slot(&mut response, progress.slot());
            response
        }
    }
}

/// Executes here, or on the thread for long requests. `None`: it panicked, or the server ends.
async fn dispatch(
    body: Body,
    rights: Rights,
    execution: Execution,
    context: &Context,
) -> Option<Result<jsonrpc::Answer, Forbidden>> {
    let _counted = context.load.in_progress.one_more();
    match body.bytes.len() > long_calls::SHORT {
        false => Some(execute(body, rights, execution).await),
        true => {
            let call = move || execute(body, rights, execution);
            Box::pin(context.long_calls.execute(call)).await
        }
    }
}

/// The request calls a method that the user may not call.
struct Forbidden;

/// The work that grows with the length of the request.
async fn execute(
    body: Body,
    rights: Rights,
    execution: Execution,
) -> Result<jsonrpc::Answer, Forbidden> {
    let refused = match &rights {
        Rights::All => None,
        Rights::Only(_) => jsonrpc::first_refused(&body.bytes, |method| rights.allow(method)),
    };
    if let Some(method) = refused {
        tracing::debug!(method, "RPC call of a method that the user may not call");
        return Err(Forbidden);
    }
    Ok(jsonrpc::answer(&body.bytes, &execution).await)
}

fn worded(
    answer: Option<Result<jsonrpc::Answer, Forbidden>>,
    slot: Option<Arc<Slot>>,
    context: &Context,
) -> Response {
    let answer = match answer {
        Some(Ok(answer)) => answer,
        Some(Err(Forbidden)) => return plain(StatusCode::FORBIDDEN, ""),
        None => return plain(StatusCode::INTERNAL_SERVER_ERROR, ""),
    };
    let status = StatusCode::from_u16(answer.status);
    let status = status.expect("jsonrpc answers with registered status codes");
    let mut response = match answer.body {
        None => content::empty(status),
        Some(body) => {
            let whole: content::Whole = with_seat(body, &slot, context).into_iter().collect();
            let mut response = content::answer(status, "application/json", whole);
            hold_slot(&mut response, slot);
            response
        }
    };
    if stopping(context) {
        last(&mut response);
    }
    response
}

/// The pieces of a body, each holding the slot that they were made on.
fn with_seat(mut body: jsonrpc::Pieces, slot: &Option<Arc<Slot>>, context: &Context) -> Vec<Bytes> {
    let pieces = body.take();
    let Some(slot) = slot else {
        return pieces;
    };
    let holding = |piece| content::holding_slot(piece, slot.clone(), &context.load.large_results);
    pieces.into_iter().map(holding).collect()
}

/// Reads the rest of a body; `false`: it is long, and has no permit of memory.
async fn read_on(
    body: &mut Incoming,
    bytes: &mut BytesMut,
    without_memory: bool,
) -> Result<bool, Response> {
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|_| plain(StatusCode::BAD_REQUEST, ""))?;
        let Some(chunk) = frame.data_ref() else {
            continue;
        };
        if bytes.len() + chunk.len() > MAX_BODY {
            return Err(plain(StatusCode::PAYLOAD_TOO_LARGE, ""));
        }
        bytes.extend_from_slice(chunk);
        if without_memory && bytes.len() > long_calls::SHORT {
            return Ok(false);
        }
    }
    Ok(true)
}

/// Holds the slot until the answer is sent; idle, so that it can be evicted while the client
/// reads nothing.
fn hold_slot(response: &mut Response, slot: Option<Arc<Slot>>) {
    if let Some(slot) = slot {
        slot.set_idle(true);
        response.extensions_mut().insert(slot);
    }
}

/// Closes the connection after this answer.
pub(super) fn last(response: &mut Response) {
    let close = HeaderValue::from_static("close");
    response.headers_mut().insert(CONNECTION, close);
}

/// An idle connection would delay the end of the server.
fn stopping(context: &Context) -> bool {
    context.methods.node.phase() == Phase::Stopping
}

/// Refuses a call: the work queue is full, or the server stops. Nothing of it was executed.
pub(super) fn reject_busy(context: &Context) -> Response {
    context.metrics.rejected();
    let ends = stopping(context);
    let why = match ends {
        true => "Shutting down",
        false => "Work queue depth exceeded",
    };
    let mut response = plain(StatusCode::SERVICE_UNAVAILABLE, why);
    response.headers_mut().insert(RETRY_AFTER, RETRY_SECONDS);
    if ends {
        last(&mut response);
    }
    response
}

/// The `Content-Length` of the request.
fn announced(request: &Parts) -> Option<u64> {
    let length = request.headers.get(CONTENT_LENGTH);
    length.and_then(|length| length.to_str().ok()?.parse().ok())
}

/// The whole body, bounded in size, time and memory.
async fn read_body(
    body: &mut Incoming,
    announced: Option<u64>,
    client: &Client,
    context: &Context,
) -> Result<Body, Response> {
    let memory_of = |length| client.progress().queued(context.load.memory(length));
    let announced = announced.and_then(|length| usize::try_from(length).ok());
    let mut memory = None;
    if let Some(length) = announced
        && length > long_calls::SHORT
    {
        memory = memory_of(length).await;
    }
    let mut bytes = BytesMut::with_capacity(announced.unwrap_or(0).min(MAX_BODY));
    loop {
        // The wait for memory does not count as the client's time.
        let read = read_on(body, &mut bytes, memory.is_none());
        match tokio::time::timeout(READ_TIMEOUT, read).await {
            Ok(Ok(true)) => break,
            Ok(Ok(false)) => memory = memory_of(MAX_BODY).await,
            Ok(Err(refusal)) => return Err(refusal),
            Err(_) => return Err(plain(StatusCode::REQUEST_TIMEOUT, "")),
        }
    }
    Ok(Body {
        bytes: bytes.freeze(),
        _memory: memory,
    })
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use super::*;
    use crate::server::content::tests::read;
    use crate::server::tests::test_node;

    const CALL: &str = r#"{"id":1,"method":"getblockcount","params":[]}"#;

    /// A call of at least `length` bytes.
    fn call(length: usize) -> Body {
        let padding = " ".repeat(length.saturating_sub(CALL.len()));
        body(&(CALL.to_owned() + &padding))
    }

    fn body(text: &str) -> Body {
        Body {
            bytes: Bytes::copy_from_slice(text.as_bytes()),
            _memory: None,
        }
    }

    async fn is_zero(response: Response) -> bool {
        let body = read(response.into_body()).await;
        body.expect("it is whole").starts_with(br#"{"result":0,"#)
    }

    #[actix_rt::test]
    async fn short_requests_do_not_wait_for_long_ones() {
        let test_node = test_node().await;
        let context = Arc::new(test_node.context());
        let client = Client::over_unix(&context);
        let (release, released) = mpsc::channel::<()>();
        let long_calls = context.long_calls.clone();
        let held = actix_rt::spawn(async move {
            // Not awaited: a request that takes long to read.
            let hold = async move || released.recv();
            long_calls.execute(hold).await
        });
        tokio::task::yield_now().await;

        let long = answer(call(long_calls::SHORT + 1), Rights::All, &client, &context);
        tokio::pin!(long);
        tokio::select! {
            biased;
            _ = &mut long => panic!("it was carried out here"),
            answered = answer(call(0), Rights::All, &client, &context) => {
                assert!(is_zero(answered).await);
            }
        }
        release.send(()).expect("the call waits");
        assert!(is_zero(long.await).await);
        assert_eq!(held.await.expect("no panic"), Some(Ok(())));
        test_node.end().await;
    }

    #[actix_rt::test]
    async fn a_long_forbidden_request_is_refused_like_a_short_one() {
        let test_node = test_node().await;
        let context = Arc::new(test_node.context());
        let client = Client::over_unix(&context);
        for length in [0, long_calls::SHORT + 1] {
            for (allowed, status) in [("getblockcount", 200), ("uptime", 403)] {
                let rights = Rights::Only(Arc::new([allowed.to_owned()].into()));
                let answered = answer(call(length), rights, &client, &context).await;
                assert_eq!(answered.status(), status, "{length} bytes");
            }
        }
        test_node.end().await;
    }

    #[actix_rt::test]
    async fn the_node_can_be_stopped_however_full_the_work_queue_is() {
        let test_node = test_node().await;
        let context = Arc::new(test_node.context());
        let client = Client::over_unix(&context);
        let all = context.load.calls.available_permits();
        let taken = u32::try_from(all).expect("a few thousand");
        let _taken = context.load.calls.acquire_many(taken).await;
        let count = answer(call(0), Rights::All, &client, &context).await;
        assert_eq!(count.status(), 503);
        let batch = answer(
            body(r#"[{"method":"stop"}]"#),
            Rights::All,
            &client,
            &context,
        );
        assert_eq!(batch.await.status(), 503, "which may be of any length");
        let stop = answer(body(r#"{"method":"stop"}"#), Rights::All, &client, &context);
        assert_eq!(stop.await.status(), 200);
        assert_eq!(context.methods.node.phase(), Phase::Stopping);
        test_node.end().await;
    }
}
