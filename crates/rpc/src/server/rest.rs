//! `GET /rest/…`: headers and blocks without a login. Off by default.
//!
//! As in Core: `block`, `block/notxdetails`, `headers`, `blockhashbyheight`, `chaininfo`,
//! each with `.bin`, `.hex` or `.json` at its end. The JSON is that of the RPC methods.

use std::sync::Arc;

use bitcoin::BlockHash;
use bitcoin::consensus::encode::serialize;
use bytes::Bytes;
use handfast_node::{BlockError, ChainView, Entry};
use hyper::http::request::Parts;
use hyper::{Method, StatusCode};
use serde_json::{Value, json};

use crate::auth::Rights;
use crate::jsonrpc::Params;
use crate::methods;

use super::Context;
use super::connection::Client;
use super::content::{self, Response, Whole, empty, plain};
use super::quota::Slot;

/// Most headers in one answer. Core `MAX_REST_HEADERS_RESULTS`.
const MAX_HEADERS: usize = 2_000;
/// Headers in an answer without `count`, as in Core.
const DEFAULT_HEADERS: usize = 5;

/// The format of an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum RestFormat {
    Binary,
    Hex,
    Json,
}

/// The status and the text of an error.
type RestError = (StatusCode, String);

/// One request for a path behind `/rest/`.
pub(super) async fn handle(
    path: &str,
    request: &Parts,
    rights: Option<Rights>,
    client: &Client,
    context: &Context,
) -> Response {
    if !context.rest {
        return empty(StatusCode::NOT_FOUND);
    }
    if ![Method::GET, Method::HEAD].contains(&request.method) {
        return empty(StatusCode::METHOD_NOT_ALLOWED);
    }
    if !methods::is_open(&context.methods.node.view()) {
        let text = "Service temporarily unavailable: Loading block index…\r\n";
        return plain(StatusCode::SERVICE_UNAVAILABLE, text);
    }
    // Before the permit for a call: requests that wait for a slot hold no permit.
    let slot = slot(rights.is_none(), client, context).await;
    let Some(_call) = context.load.call() else {
        return super::call::reject_busy(context);
    };
    let query = request.uri.query().unwrap_or_default();
    let served = serve(path, query, context);
    let made = context
        .load
        .large_results
        .make(client.progress(), client.group(), served);
    match made.await {
        Ok(served) => {
            let body =
                content::holding_slot(served.body, slot.clone(), &context.load.large_results);
            let whole: Whole = body.into();
            let mut response = content::answer(StatusCode::OK, served.kind, whole);
            slot.set_idle(true);
            response.extensions_mut().insert(slot);
            response
        }
        Err((status, text)) => plain(status, text + "\r\n"),
    }
}

/// A slot for a long answer; unauthenticated clients have a few of their own.
async fn slot(unauthenticated: bool, client: &Client, context: &Context) -> Arc<Slot> {
    let quota = match unauthenticated {
        true => &context.quotas.rest,
        false => &context.quotas.answers,
    };
    loop {
        let free = quota.slot(client.group());
        let slot = client.progress().queued(free).await;
        // Logged in: not cut, and closed only while idle. The login fails if the slot was evicted
        // in between.
        if slot.logged_in() {
            slot.set_idle(unauthenticated);
            return Arc::new(slot);
        }
    }
}

/// The answer to a request.
struct Served {
    kind: &'static str,
    body: Bytes,
}

async fn serve(path: &str, query: &str, context: &Context) -> Result<Served, RestError> {
    let (path, format) = split_format(path);
    let parts: Vec<&str> = path.split('/').collect();
    match (parts.as_slice(), format) {
        (["block", hash], Some(format)) => block(context, hash, format, 3).await,
        (["block", "notxdetails", hash], Some(format)) => block(context, hash, format, 1).await,
        (["headers", hash], Some(format)) => {
            let count = value_of(query, "count");
            headers(context, hash, count, format).await
        }
        // The form before Core 24.
        (["headers", count, hash], Some(format)) => {
            headers(context, hash, Some(count), format).await
        }
        (["blockhashbyheight", height], Some(format)) => {
            hash_at(&context.methods.node.view(), height, format).await
        }
        (["chaininfo"], Some(RestFormat::Json)) => {
            json(call(context, "getblockchaininfo", Vec::new()).await?).await
        }
        (["chaininfo"], _) => Err(not_found("output format not found (available: json)")),
        (["block" | "headers" | "blockhashbyheight", ..], None) => Err(not_found(
            "output format not found (available: .bin, .hex, .json)",
        )),
        _ => Err((StatusCode::NOT_FOUND, String::new())),
    }
}

fn split_format(path: &str) -> (&str, Option<RestFormat>) {
    let formats = [
        (".bin", RestFormat::Binary),
        (".hex", RestFormat::Hex),
        (".json", RestFormat::Json),
    ];
    let found = formats
        .into_iter()
        .find_map(|(end, format)| Some((path.strip_suffix(end)?, format)));
    match found {
        Some((path, format)) => (path, Some(format)),
        None => (path, None),
    }
}

fn value_of<'a>(query: &'a str, name: &str) -> Option<&'a str> {
    let mut pairs = query.split('&').filter_map(|pair| pair.split_once('='));
    pairs.find(|(key, _)| *key == name).map(|(_, value)| value)
}

async fn block(
    context: &Context,
    hash: &str,
    format: RestFormat,
    verbosity: u8,
) -> Result<Served, RestError> {
    let hash = parse_hash(hash)?;
    let node = &context.methods.node;
    if node.view().tree.get(&hash).is_none() {
        return Err(not_found(&format!("{hash} not found")));
    }
    if format == RestFormat::Json {
        let arguments = vec![hash.to_string().into(), verbosity.into()];
        return json(call(context, "getblock", arguments).await?).await;
    }
    match node.block(hash, true).await {
        Ok(bytes) => Ok(raw(format, bytes)),
        Err(BlockError::Read(_)) => Err(not_found(&format!(
            "{hash} not available (not fully downloaded)"
        ))),
        Err(BlockError::Gone(gone)) => Err((StatusCode::SERVICE_UNAVAILABLE, gone.to_string())),
    }
}

async fn headers(
    context: &Context,
    hash: &str,
    count: Option<&str>,
    format: RestFormat,
) -> Result<Served, RestError> {
    let count = match count {
        None => DEFAULT_HEADERS,
        Some(text) => match text.parse() {
            Ok(count) if (1..=MAX_HEADERS).contains(&count) => count,
            Ok(_) | Err(_) => {
                return Err(bad(&format!(
                    "Header count is invalid or out of acceptable range (1-{MAX_HEADERS}): {text}"
                )));
            }
        },
    };
    let hash = parse_hash(hash)?;
    let entries = active_from(&context.methods.node.view(), &hash, count);
    if format != RestFormat::Json {
        let bytes: Vec<u8> = entries
            .iter()
            .flat_map(|entry| serialize(&entry.header))
            .collect();
        return Ok(raw(format, bytes.into()));
    }
    let mut rows = Vec::with_capacity(entries.len());
    for entry in entries {
        let arguments = vec![entry.hash.to_string().into()];
        rows.push(call(context, "getblockheader", arguments).await?);
    }
    json(Value::Array(rows)).await
}

/// Blocks of the active chain from this one on; empty when it is not in it.
fn active_from(view: &ChainView, hash: &BlockHash, count: usize) -> Vec<Entry> {
    let first = view.tree.get(hash);
    let first = first.filter(|_| view.tree.in_active_chain(hash));
    let heights = first.map(|first| first.height..);
    let entries = heights.into_iter().flatten();
    entries
        .map_while(|height| view.tree.at_height(height))
        .take(count)
        .collect()
}

async fn hash_at(view: &ChainView, height: &str, format: RestFormat) -> Result<Served, RestError> {
    let invalid = || bad(&format!("Invalid height: {height}"));
    let number: i32 = height.parse().map_err(|_| invalid())?;
    let number = u32::try_from(number).map_err(|_| invalid())?;
    let entry = view.tree.at_height(number);
    let hash = entry
        .ok_or_else(|| not_found("Block height out of range"))?
        .hash;
    Ok(match format {
        RestFormat::Binary => raw(format, serialize(&hash).into()),
        RestFormat::Hex => text(hash.to_string()),
        RestFormat::Json => return json(json!({ "blockhash": hash.to_string() })).await,
    })
}

/// Calls an RPC method; its errors become HTTP statuses.
async fn call(context: &Context, method: &str, params: Vec<Value>) -> Result<Value, RestError> {
    let result = match methods::find(method) {
        Some(method) => {
            context
                .methods
                .run(method, Params::Positional(params))
                .await
        }
        None => Err(methods::not_found()),
    };
    result.map_err(|error| not_found(error.message.as_ref()))
}

fn parse_hash(text: &str) -> Result<BlockHash, RestError> {
    text.parse()
        .map_err(|_| bad(&format!("Invalid hash: {text}")))
}

fn not_found(text: &str) -> RestError {
    (StatusCode::NOT_FOUND, text.to_owned())
}

fn bad(text: &str) -> RestError {
    (StatusCode::BAD_REQUEST, text.to_owned())
}

fn raw(format: RestFormat, bytes: Bytes) -> Served {
    match format {
        RestFormat::Binary => Served {
            kind: "application/octet-stream",
            body: bytes,
        },
        RestFormat::Hex | RestFormat::Json => text(crate::render::hex(&bytes)),
    }
}

fn text(line: String) -> Served {
    Served {
        kind: "text/plain",
        body: (line + "\n").into(),
    }
}

/// Writes JSON on the blocking pool: a block takes a tenth of a second.
async fn json(value: Value) -> Result<Served, RestError> {
    let write = move || {
        let mut text = value.to_string();
        text.push('\n');
        text.shrink_to_fit();
        text
    };
    let text = tokio::task::spawn_blocking(write).await;
    let text = text.map_err(|_| (StatusCode::INTERNAL_SERVER_ERROR, String::new()))?;
    Ok(Served {
        kind: "application/json",
        body: text.into(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_format_is_the_end_of_the_path() {
        assert_eq!(
            split_format("block/00.json"),
            ("block/00", Some(RestFormat::Json))
        );
        assert_eq!(split_format("a.hex"), ("a", Some(RestFormat::Hex)));
        assert_eq!(split_format("a.bin"), ("a", Some(RestFormat::Binary)));
        assert_eq!(split_format("block/00"), ("block/00", None));
        assert_eq!(split_format("block/00.xml"), ("block/00.xml", None));
    }

    #[test]
    fn a_value_is_found_in_the_query() {
        assert_eq!(value_of("a=1&count=7&b", "count"), Some("7"));
        assert_eq!(value_of("account=7", "count"), None);
        assert_eq!(value_of("", "count"), None);
    }
}
