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
use super::share::Seat;
use super::{Context, READ_TIMEOUT, gate, long_calls};

/// Longest request body, bytes. Core `MAX_SIZE`.
const MAX_BODY: usize = 32 * 1024 * 1024;
/// When a caller that was turned away for want of room should come again, seconds.
const COME_AGAIN: HeaderValue = HeaderValue::from_static("1");
/// The method that is carried out however full the work queue is.
const ALWAYS: &str = "stop";

/// One HTTP request. Nothing of the body is read before the caller is known.
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
        return gate::unauthorized("");
    };
    let announced = announced(request);
    if announced.is_some_and(|length| length > MAX_BODY as u64) {
        // Nobody waits for it.
        return plain(StatusCode::PAYLOAD_TOO_LARGE, "");
    }
    let body = match read_body(body, announced, client, context).await {
        Ok(body) => body,
        Err(refusal) => return refusal,
    };
    answer(body, rights, client, context).await
}

/// A body, and its part of the memory for long ones.
struct Body {
    bytes: Bytes,
    _memory: Option<OwnedSemaphorePermit>,
}

async fn answer(body: Body, rights: Rights, client: &Client, context: &Arc<Context>) -> Response {
    let permit = context.load.call();
    let is_urgent =
        || body.bytes.len() <= long_calls::SHORT && jsonrpc::calls_only(&body.bytes, ALWAYS);
    if permit.is_none() && !is_urgent() {
        return turned_away(context);
    }
    let progress = client.progress().clone();
    let execution = Execution::new(context.clone(), client.group(), permit, progress);
    if jsonrpc::is_batch(&body.bytes) {
        return Box::pin(batch(body, rights, execution, client, context)).await;
    }
    let answer = carry_out_somewhere(body, rights, execution, context).await;
    worded(answer, client.progress().take_seat(), context)
}

/// The answer to a batch, of which the beginning may be sent before the end is there.
async fn batch(
    body: Body,
    rights: Rights,
    mut execution: Execution,
    client: &Client,
    context: &Arc<Context>,
) -> Response {
    let mut pieces = execution.sends_ahead();
    let of_call = context.clone();
    let mut call =
        Box::pin(async move { carry_out_somewhere(body, rights, execution, &of_call).await });
    let progress = client.progress();
    tokio::select! {
        biased;
        answer = &mut call => worded(answer, progress.take_seat(), context),
        Some(first) = pieces.recv() => {
            let (of_maker, with) = (progress.clone(), context.clone());
            let maker = Box::pin(async move {
                let answer = call.await;
                let seat = of_maker.take_seat();
                match answer {
                    Some(Ok(answer)) => {
                        Some(with_seat(answer.body.unwrap_or_default(), &seat, &with))
                    }
                    Some(Err(Forbidden)) | None => None,
                }
            });
            let kind = "application/json";
            let mut response = content::answer(StatusCode::OK, kind, Bytes::new());
            *response.body_mut() = Content::made(first, pieces, maker);
            keep(&mut response, progress.seat());
            response
        }
    }
}

/// Here, or on the thread for long requests. `None`: it panicked, or the server ends.
async fn carry_out_somewhere(
    body: Body,
    rights: Rights,
    execution: Execution,
    context: &Context,
) -> Option<Result<jsonrpc::Answer, Forbidden>> {
    let _counted = context.load.in_progress.one_more();
    match body.bytes.len() > long_calls::SHORT {
        false => Some(carry_out(body, rights, execution).await),
        true => {
            let call = move || carry_out(body, rights, execution);
            Box::pin(context.long_calls.carry_out(call)).await
        }
    }
}

/// A method is called that the user may not call.
struct Forbidden;

/// Everything about a request that takes the longer the longer it is.
async fn carry_out(
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
    seat: Option<Arc<Seat>>,
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
            let whole: content::Whole = with_seat(body, &seat, context).into_iter().collect();
            let mut response = content::answer(status, "application/json", whole);
            keep(&mut response, seat);
            response
        }
    };
    if stopping(context) {
        last(&mut response);
    }
    response
}

/// The pieces of a body, which keep the seat that they were made on.
fn with_seat(mut body: jsonrpc::Pieces, seat: &Option<Arc<Seat>>, context: &Context) -> Vec<Bytes> {
    let pieces = body.take();
    let Some(seat) = seat else {
        return pieces;
    };
    let kept = |piece| content::kept(piece, seat.clone(), &context.load.large);
    pieces.into_iter().map(kept).collect()
}

/// Reads the rest of a body; `false`: it is long, and has no memory.
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

/// The seat is in use until the answer is sent, and while nothing of that is read others may
/// have it.
fn keep(response: &mut Response, seat: Option<Arc<Seat>>) {
    if let Some(seat) = seat {
        seat.idles(true);
        response.extensions_mut().insert(seat);
    }
}

/// After this answer the connection is closed.
pub(super) fn last(response: &mut Response) {
    let close = HeaderValue::from_static("close");
    response.headers_mut().insert(CONNECTION, close);
}

/// A connection kept alive would hold up the end of the server.
fn stopping(context: &Context) -> bool {
    context.methods.node.phase() == Phase::Stopping
}

/// There are as many calls in progress as may be, or the server waits for the last of them
/// to end: none of this one was carried out.
pub(super) fn turned_away(context: &Context) -> Response {
    context.metrics.turned_away();
    let ends = stopping(context);
    let why = match ends {
        true => "Shutting down",
        false => "Work queue depth exceeded",
    };
    let mut response = plain(StatusCode::SERVICE_UNAVAILABLE, why);
    response.headers_mut().insert(RETRY_AFTER, COME_AGAIN);
    if ends {
        last(&mut response);
    }
    response
}

/// How long the request says that its body is.
fn announced(request: &Parts) -> Option<u64> {
    let length = request.headers.get(CONTENT_LENGTH);
    length.and_then(|length| length.to_str().ok()?.parse().ok())
}

/// The whole body, bounded in size and time, and in memory with those of others.
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
        // What it waits for memory is not its caller's time.
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
    use crate::server::tests::scene;

    const CALL: &str = r#"{"id":1,"method":"getblockcount","params":[]}"#;

    /// A call, of so many bytes at least.
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
        let scene = scene().await;
        let context = Arc::new(scene.context());
        let client = Client::over_unix(&context);
        let (release, released) = mpsc::channel::<()>();
        let long_calls = context.long_calls.clone();
        let held = actix_rt::spawn(async move {
            // Not awaited: a request that is long in the reading.
            let hold = async move || released.recv();
            long_calls.carry_out(hold).await
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
        release.send(()).expect("somebody waits");
        assert!(is_zero(long.await).await);
        assert_eq!(held.await.expect("no panic"), Some(Ok(())));
        scene.end().await;
    }

    #[actix_rt::test]
    async fn a_long_request_of_who_may_not_is_refused_as_a_short_one_is() {
        let scene = scene().await;
        let context = Arc::new(scene.context());
        let client = Client::over_unix(&context);
        for length in [0, long_calls::SHORT + 1] {
            for (allowed, status) in [("getblockcount", 200), ("uptime", 403)] {
                let rights = Rights::Only(Arc::new([allowed.to_owned()].into()));
                let answered = answer(call(length), rights, &client, &context).await;
                assert_eq!(answered.status(), status, "{length} bytes");
            }
        }
        scene.end().await;
    }

    #[actix_rt::test]
    async fn the_node_can_be_stopped_however_full_the_work_queue_is() {
        let scene = scene().await;
        let context = Arc::new(scene.context());
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
        scene.end().await;
    }
}
