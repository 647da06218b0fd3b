//! `POST /`: calls.

use actix_web::http::{ConnectionType, Method, StatusCode, header};
use actix_web::{HttpRequest, HttpResponse, web};
use bytes::{Bytes, BytesMut};
use futures_util::StreamExt;
use handfast_node::Phase;

use crate::auth::Rights;
use crate::jsonrpc;

use super::execution::Execution;
use super::{Context, READ_TIMEOUT, attention, gate, long_calls, plain};

/// Longest request body, bytes. Core `MAX_SIZE`.
const MAX_BODY: usize = 32 * 1024 * 1024;
/// When a caller that was turned away for want of room should come again, seconds.
const RETRY_AFTER: &str = "1";

/// One HTTP request. Nothing of the body is read before the caller is known.
pub(super) async fn handle(
    request: HttpRequest,
    body: web::Payload,
    context: web::Data<Context>,
) -> HttpResponse {
    if request.method() != Method::POST {
        let mut response = plain(
            StatusCode::METHOD_NOT_ALLOWED,
            "JSONRPC server handles only POST requests",
        );
        response
            .headers_mut()
            .insert(header::ALLOW, header::HeaderValue::from_static("POST"));
        return response;
    }
    let Some(rights) = gate::entered(&request) else {
        return gate::unauthorized("");
    };
    if announces_too_much(&request) {
        return plain(StatusCode::PAYLOAD_TOO_LARGE, "");
    }
    let body = match read_body(body).await {
        Ok(body) => body,
        Err(refusal) => return refusal,
    };
    answer(body, rights, context).await
}

async fn answer(body: Bytes, rights: Rights, context: web::Data<Context>) -> HttpResponse {
    let Some(call) = context.load.call() else {
        return turned_away(&context);
    };
    let execution = Execution::new(context.clone());
    let carried_out = match body.len() > long_calls::SHORT {
        false => Some(carry_out(body, rights, execution).await),
        true => {
            let call = move || carry_out(body, rights, execution);
            context.long_calls.carry_out(call).await
        }
    };
    drop(call);
    attention::answered();
    match carried_out {
        Some(Ok(answer)) => worded(answer, &context),
        Some(Err(Forbidden)) => plain(StatusCode::FORBIDDEN, ""),
        None => plain(StatusCode::INTERNAL_SERVER_ERROR, ""),
    }
}

/// A method is called that the user may not call.
struct Forbidden;

/// Everything about a request that takes the longer the longer it is.
async fn carry_out(
    body: Bytes,
    rights: Rights,
    execution: Execution,
) -> Result<jsonrpc::Answer, Forbidden> {
    let refused = match &rights {
        Rights::All => None,
        Rights::Only(_) => jsonrpc::first_refused(&body, |method| rights.allow(method)),
    };
    if let Some(method) = refused {
        tracing::debug!(method, "RPC call of a method that the user may not call");
        return Err(Forbidden);
    }
    Ok(jsonrpc::answer(&body, &execution).await)
}

fn worded(answer: jsonrpc::Answer, context: &Context) -> HttpResponse {
    let status =
        StatusCode::from_u16(answer.status).expect("jsonrpc answers with registered status codes");
    let mut response = HttpResponse::build(status);
    if stopping(context) {
        response.force_close();
    }
    match answer.body {
        Some(body) => response.content_type("application/json").body(body),
        None => response.finish(),
    }
}

/// A connection kept alive would hold up the end of the server.
fn stopping(context: &Context) -> bool {
    context.methods.node.phase() == Phase::Stopping
}

/// There are as many calls in progress as may be, or the server waits for the last of them
/// to end: none of this one was carried out.
pub(super) fn turned_away(context: &Context) -> HttpResponse {
    context.metrics.turned_away();
    let ends = stopping(context);
    let why = match ends {
        true => "Shutting down",
        false => "Work queue depth exceeded",
    };
    let mut response = plain(StatusCode::SERVICE_UNAVAILABLE, why);
    let retry = header::HeaderValue::from_static(RETRY_AFTER);
    response.headers_mut().insert(header::RETRY_AFTER, retry);
    if ends {
        response
            .head_mut()
            .set_connection_type(ConnectionType::Close);
    }
    response
}

/// Whether the request says that its body is too long, so that nobody waits for it.
fn announces_too_much(request: &HttpRequest) -> bool {
    let length = request.headers().get(header::CONTENT_LENGTH);
    let length = length.and_then(|length| length.to_str().ok()?.parse::<u64>().ok());
    length.is_some_and(|length| length > MAX_BODY as u64)
}

/// The whole body, bounded in size and time.
async fn read_body(mut payload: web::Payload) -> Result<Bytes, HttpResponse> {
    let mut body = BytesMut::new();
    let read = async {
        while let Some(chunk) = payload.next().await {
            let chunk = chunk.map_err(|_| plain(StatusCode::BAD_REQUEST, ""))?;
            if body.len() + chunk.len() > MAX_BODY {
                return Err(plain(StatusCode::PAYLOAD_TOO_LARGE, ""));
            }
            body.extend_from_slice(&chunk);
        }
        Ok(())
    };
    match tokio::time::timeout(READ_TIMEOUT, read).await {
        Ok(Ok(())) => Ok(body.freeze()),
        Ok(Err(refusal)) => Err(refusal),
        Err(_) => Err(plain(StatusCode::REQUEST_TIMEOUT, "")),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use actix_web::body::to_bytes;

    use super::*;
    use crate::server::tests::scene;

    const CALL: &str = r#"{"id":1,"method":"getblockcount","params":[]}"#;

    /// A call, of so many bytes at least.
    fn call(length: usize) -> Bytes {
        let padding = " ".repeat(length.saturating_sub(CALL.len()));
        Bytes::from(CALL.to_owned() + &padding)
    }

    async fn is_zero(response: HttpResponse) -> bool {
        let body = to_bytes(response.into_body()).await;
        body.expect("it is whole").starts_with(br#"{"result":0,"#)
    }

    #[actix_rt::test]
    async fn short_requests_do_not_wait_for_long_ones() {
        let scene = scene().await;
        let context = scene.context();
        let (release, released) = mpsc::channel::<()>();
        let long_calls = context.long_calls.clone();
        let held = actix_rt::spawn(async move {
            // Not awaited: a request that is long in the reading.
            let hold = async move || released.recv();
            long_calls.carry_out(hold).await
        });
        tokio::task::yield_now().await;

        let long = answer(call(long_calls::SHORT + 1), Rights::All, context.clone());
        tokio::pin!(long);
        tokio::select! {
            biased;
            _ = &mut long => panic!("it was carried out here"),
            answered = answer(call(0), Rights::All, context.clone()) => {
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
        let context = scene.context();
        for length in [0, long_calls::SHORT + 1] {
            for (allowed, status) in [("getblockcount", 200), ("uptime", 403)] {
                let rights = Rights::Only(std::sync::Arc::new([allowed.to_owned()].into()));
                let answered = answer(call(length), rights, context.clone()).await;
                assert_eq!(answered.status(), status, "{length} bytes");
            }
        }
        scene.end().await;
    }
}
