//! `POST /`: calls.

use std::time::Instant;

use actix_web::http::{ConnectionType, Method, StatusCode, header};
use actix_web::{HttpRequest, HttpResponse, web};
use bytes::{Bytes, BytesMut};
use futures_util::StreamExt;
use handfast_node::Phase;
use serde_json::Value;

use crate::auth::Rights;
use crate::jsonrpc::{self, Error, Execute, Params};
use crate::methods::{self, Methods};
use crate::metrics::{RpcMetrics, UNKNOWN};

use super::{Context, READ_TIMEOUT, attention, gate, plain};

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
    let rights = match gate::admit(&request, &context.access).await {
        Ok(rights) => rights,
        Err(refusal) => return refusal,
    };
    if announces_too_much(&request) {
        return plain(StatusCode::PAYLOAD_TOO_LARGE, "");
    }
    let body = match read_body(body).await {
        Ok(body) => body,
        Err(refusal) => return refusal,
    };
    let refused = match &rights {
        Rights::All => None,
        Rights::Only(_) => jsonrpc::first_refused(&body, |method| rights.allow(method)),
    };
    if let Some(method) = refused {
        tracing::debug!(method, "RPC call of a method that the user may not call");
        return plain(StatusCode::FORBIDDEN, "");
    }
    answer(body, &context).await
}

async fn answer(body: Bytes, context: &Context) -> HttpResponse {
    let Some(call) = context.load.call() else {
        return turned_away(context);
    };
    let timed = Timed {
        methods: &context.methods,
        metrics: &context.metrics,
    };
    let answer = jsonrpc::answer(&body, &timed).await;
    drop((body, call));
    attention::answered();
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

/// The methods, with a clock.
struct Timed<'a> {
    methods: &'a Methods,
    metrics: &'a RpcMetrics,
}

impl Execute for Timed<'_> {
    async fn execute(&self, name: &str, params: Params) -> Result<Value, Error> {
        let method = methods::find(name);
        let began = Instant::now();
        let result = match method {
            Some(method) => self.methods.run(method, params).await,
            None => Err(methods::not_found()),
        };
        // What callers make up is counted as one, so that they cannot make the page grow.
        let counted = method.map_or(UNKNOWN, |method| method.name);
        self.metrics
            .called(counted, began.elapsed(), result.is_ok());
        result
    }
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
