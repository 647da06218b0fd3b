//! `GET /rest/…`: headers and blocks for those who need no login for them. Off by default.
//!
//! As in Core: `block`, `block/notxdetails`, `headers`, `blockhashbyheight`, `chaininfo`,
//! each with `.bin`, `.hex` or `.json` at its end. The JSON is that of the RPC methods.

use std::pin::Pin;
use std::task::{Poll, ready};

use actix_web::body::{BodySize, BoxBody, MessageBody};
use actix_web::http::{Method, StatusCode};
use actix_web::{HttpRequest, HttpResponse, web};
use bitcoin::BlockHash;
use bitcoin::consensus::encode::serialize;
use bytes::Bytes;
use handfast_node::{BlockError, ChainView, Entry};
use serde_json::{Value, json};

use crate::address_group::AddressGroup;
use crate::jsonrpc::Params;
use crate::methods;

use super::share::Seat;
use super::{Context, PIECE, gate, plain};

/// Most headers in one answer. Core `MAX_REST_HEADERS_RESULTS`.
const MAX_HEADERS: usize = 2_000;
/// Headers in an answer when nobody says how many, as in Core.
const DEFAULT_HEADERS: usize = 5;

/// How an answer is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Format {
    Binary,
    Hex,
    Json,
}

/// A refusal, or the text of an error.
type Refused = (StatusCode, String);

/// One request.
pub(super) async fn handle(
    request: HttpRequest,
    path: web::Path<String>,
    context: web::Data<Context>,
) -> HttpResponse {
    if !context.rest {
        return plain(StatusCode::NOT_FOUND, "");
    }
    if ![Method::GET, Method::HEAD].contains(request.method()) {
        return plain(StatusCode::METHOD_NOT_ALLOWED, "");
    }
    if !methods::is_open(&context.methods.node.view()) {
        let text = "Service temporarily unavailable: Loading block index…\r\n";
        return plain(StatusCode::SERVICE_UNAVAILABLE, text);
    }
    // Before the permit for a call: strangers who wait for each other take none from others.
    let seat = match gate::entered(&request).is_some() {
        true => None,
        false => Some(seat(&request, &context).await),
    };
    let Some(_call) = context.load.call() else {
        return super::call::turned_away(&context);
    };
    let response = match serve(&path, request.query_string(), &context).await {
        Ok(response) => response,
        Err((status, text)) => plain(status, text + "\r\n"),
    };
    match seat {
        None => response,
        Some(seat) => response.map_body(|_, body| {
            let bytes = Bytes::new();
            BoxBody::new(Held { body, bytes, seat })
        }),
    }
}

/// One of the seats for those who have not logged in, who wait for each other.
async fn seat(request: &HttpRequest, context: &Context) -> Seat {
    let addr = request.peer_addr();
    let group = addr.map_or(AddressGroup::Unix, |addr| addr.ip().into());
    loop {
        let seat = context.shares.rest.seat(group).await;
        // As if it had logged in: not to be cut now, and to be asked to leave in a while.
        // Unless somebody was quicker.
        if seat.logged_in() {
            seat.idles(true);
            return seat;
        }
    }
}

/// The body of an answer, which keeps its seat until it is sent, or until others who wait
/// have waited for long enough.
struct Held {
    body: BoxBody,
    /// Taken out of the body and not sent.
    bytes: Bytes,
    seat: Seat,
}

impl MessageBody for Held {
    type Error = Box<dyn std::error::Error>;

    fn size(&self) -> BodySize {
        self.body.size()
    }

    fn poll_next(
        mut self: Pin<&mut Self>,
        cx: &mut std::task::Context<'_>,
    ) -> Poll<Option<Result<Bytes, Self::Error>>> {
        if self.seat.is_leaving() {
            return Poll::Ready(Some(Err("others have waited for long enough".into())));
        }
        if self.bytes.is_empty() {
            match ready!(Pin::new(&mut self.body).poll_next(cx)) {
                Some(Ok(bytes)) => self.bytes = bytes,
                end => return Poll::Ready(end),
            }
        }
        // In pieces, so that it is seen between them whether others wait.
        let piece = self.bytes.len().min(PIECE);
        Poll::Ready(Some(Ok(self.bytes.split_to(piece))))
    }
}

async fn serve(path: &str, query: &str, context: &Context) -> Result<HttpResponse, Refused> {
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
            hash_at(&context.methods.node.view(), height, format)
        }
        (["chaininfo"], Some(Format::Json)) => {
            let info = call(context, "getblockchaininfo", Vec::new()).await?;
            Ok(json(&info))
        }
        (["chaininfo"], _) => Err(not_found("output format not found (available: json)")),
        (["block" | "headers" | "blockhashbyheight", ..], None) => Err(not_found(
            "output format not found (available: .bin, .hex, .json)",
        )),
        _ => Err((StatusCode::NOT_FOUND, String::new())),
    }
}

fn split_format(path: &str) -> (&str, Option<Format>) {
    let formats = [
        (".bin", Format::Binary),
        (".hex", Format::Hex),
        (".json", Format::Json),
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
    format: Format,
    verbosity: u8,
) -> Result<HttpResponse, Refused> {
    let hash = parse_hash(hash)?;
    let node = &context.methods.node;
    if node.view().tree.get(&hash).is_none() {
        return Err(not_found(&format!("{hash} not found")));
    }
    if format == Format::Json {
        let arguments = vec![hash.to_string().into(), verbosity.into()];
        return Ok(json(&call(context, "getblock", arguments).await?));
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
    format: Format,
) -> Result<HttpResponse, Refused> {
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
    if format != Format::Json {
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
    Ok(json(&Value::Array(rows)))
}

/// Blocks of the active chain from this one on; none when it is not in it.
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

fn hash_at(view: &ChainView, height: &str, format: Format) -> Result<HttpResponse, Refused> {
    let invalid = || bad(&format!("Invalid height: {height}"));
    let number: i32 = height.parse().map_err(|_| invalid())?;
    let number = u32::try_from(number).map_err(|_| invalid())?;
    let entry = view.tree.at_height(number);
    let hash = entry
        .ok_or_else(|| not_found("Block height out of range"))?
        .hash;
    Ok(match format {
        Format::Binary => raw(format, serialize(&hash).into()),
        Format::Hex => text(hash.to_string()),
        Format::Json => json(&json!({ "blockhash": hash.to_string() })),
    })
}

/// A method of the RPC interface, whose errors become HTTP statuses.
async fn call(context: &Context, method: &str, params: Vec<Value>) -> Result<Value, Refused> {
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

fn parse_hash(text: &str) -> Result<BlockHash, Refused> {
    text.parse()
        .map_err(|_| bad(&format!("Invalid hash: {text}")))
}

fn not_found(text: &str) -> Refused {
    (StatusCode::NOT_FOUND, text.to_owned())
}

fn bad(text: &str) -> Refused {
    (StatusCode::BAD_REQUEST, text.to_owned())
}

fn raw(format: Format, bytes: Bytes) -> HttpResponse {
    match format {
        Format::Binary => HttpResponse::Ok()
            .content_type("application/octet-stream")
            .body(bytes),
        Format::Hex | Format::Json => text(crate::render::hex(&bytes)),
    }
}

fn text(line: String) -> HttpResponse {
    HttpResponse::Ok()
        .content_type("text/plain")
        .body(line + "\n")
}

fn json(value: &Value) -> HttpResponse {
    HttpResponse::Ok()
        .content_type("application/json")
        .body(format!("{value}\n"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_format_is_the_end_of_the_path() {
        assert_eq!(
            split_format("block/00.json"),
            ("block/00", Some(Format::Json))
        );
        assert_eq!(split_format("a.hex"), ("a", Some(Format::Hex)));
        assert_eq!(split_format("a.bin"), ("a", Some(Format::Binary)));
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
