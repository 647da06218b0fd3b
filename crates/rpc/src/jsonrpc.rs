//! JSON-RPC 1.0, 1.1 and 2.0 as Bitcoin Core speaks them. Pure: bytes in, bytes out.
//!
//! A request takes no more memory here than its text, however many calls or values it has: the
//! calls of a batch are parsed one after the other, [`MAX_VALUES`] bounds the arguments of one,
//! and [`Execute::flush`] may take answers before all are there.
//!
//! Version 1 (no `jsonrpc` member, or `"1.0"`) answers an error with an HTTP
//! status and always carries both `result` and `error`. Version 2 answers `200`
//! with one of the two, and nothing at all to a notification (no `id`).
//!
//! The `id` stays text: it is echoed to the letter.

mod arguments;
mod error;
mod members;
mod pieces;

pub use arguments::{MAX_VALUES, Params, positional};
pub use error::{Error, code};
pub(crate) use error::{mismatch, type_name};
use members::{Fields, elements};
pub use pieces::Pieces;

use std::borrow::Cow;

use serde_json::value::RawValue;

/// Executes calls.
pub trait Execute {
    /// Executes `method`: its result as JSON text, or the error for the client.
    fn execute(&self, method: &str, params: Params) -> impl Future<Output = Result<String, Error>>;

    /// Called between two calls of a batch: may take the answers so far, to send them ahead.
    fn flush(&self, _answered: &mut Pieces) -> impl Future<Output = ()> {
        std::future::ready(())
    }
}

/// The HTTP answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    /// The HTTP status: 200, 204, 400, 404 or 500.
    pub status: u16,
    /// The body, ending with a newline, or its end if [`Execute::flush`] has taken the beginning;
    /// `None` for notifications.
    pub body: Option<Pieces>,
}

/// Parses a request or a batch, executes it in order, and writes the answer.
pub async fn answer(body: &[u8], execute: &impl Execute) -> Answer {
    let Ok(text) = serde_json::from_slice::<&RawValue>(body) else {
        return refuse(&Error::new(code::PARSE_ERROR, "Parse error"));
    };
    match text.get().as_bytes().first() {
        Some(b'{') => single(text, execute).await,
        Some(b'[') => batch(text, execute).await,
        _ => refuse(&Error::new(
            code::PARSE_ERROR,
            "Top-level object parse error",
        )),
    }
}

/// The first method that is called and not allowed, if any. What cannot be parsed calls nothing,
/// and gets its error when it is executed.
pub(crate) fn first_refused(body: &[u8], allowed: impl Fn(&str) -> bool) -> Option<String> {
    called(body)?.find(|method| !allowed(method))
}

/// Whether the request is one call of `method`, and no batch.
pub(crate) fn calls_only(body: &[u8], method: &str) -> bool {
    !is_batch(body) && called(body).is_some_and(|mut called| called.any(|it| it == method))
}

/// Whether the request is a batch, if it can be parsed.
pub(crate) fn is_batch(body: &[u8]) -> bool {
    body.trim_ascii_start().first() == Some(&b'[')
}

/// The methods that a request calls, as far as it can be parsed.
fn called(body: &[u8]) -> Option<impl Iterator<Item = String>> {
    let text = serde_json::from_slice::<&RawValue>(body).ok()?;
    let one = (!is_batch(body)).then_some(text);
    let several = is_batch(body).then(|| elements(text)).into_iter().flatten();
    Some(one.into_iter().chain(several).filter_map(|call| {
        let fields: Fields<'_> = serde_json::from_str(call.get()).ok()?;
        serde_json::from_str::<String>(fields.method?.get()).ok()
    }))
}

/// One request on its own: only version 2 hides an error behind status 200.
async fn single(text: &RawValue, execute: &impl Execute) -> Answer {
    let mut head = Head::default();
    let request = match Request::parse(text, &mut head) {
        Ok(request) => request,
        Err(error) => return head.answer(error.http_status(), Err(error)),
    };
    let result = execute.execute(&request.method, request.params).await;
    if head.is_notification() {
        return Answer {
            status: 204,
            body: None,
        };
    }
    let status = match (&result, head.version) {
        (Err(error), Version::One) => error.http_status(),
        (Ok(_), _) | (Err(_), Version::Two) => 200,
    };
    head.answer(status, result)
}

/// A batch is answered with status 200 whatever happened to its members.
async fn batch(text: &RawValue, execute: &impl Execute) -> Answer {
    let (mut body, mut any, mut replied) = (Pieces::default(), false, false);
    for call in elements(text) {
        any = true;
        let mut head = Head::default();
        let result = match Request::parse(call, &mut head) {
            Ok(request) => execute.execute(&request.method, request.params).await,
            Err(error) => Err(error),
        };
        if !head.is_notification() {
            body.push_str(if replied { "," } else { "[" });
            replied = true;
            head.reply(result, &mut body);
            execute.flush(&mut body).await;
        }
    }
    // An empty batch names no version, so it gets an answer that version 1 understands.
    match (replied, any) {
        (false, true) => {
            return Answer {
                status: 204,
                body: None,
            };
        }
        (false, false) => body.push_str("[]\n"),
        (true, _) => body.push_str("]\n"),
    }
    Answer {
        status: 200,
        body: Some(body),
    }
}

fn refuse(error: &Error) -> Answer {
    Head::default().answer(error.http_status(), Err(error.clone()))
}

/// The version of an answer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Version {
    #[default]
    One,
    Two,
}

/// The parts of a request that its answer repeats, as far as they could be parsed.
struct Head<'a> {
    id: Option<Cow<'a, str>>,
    version: Version,
}

impl Default for Head<'_> {
    fn default() -> Self {
        // Nothing is known of a value that is no object: the answer's id is null.
        Self {
            id: Some("null".into()),
            version: Version::One,
        }
    }
}

impl Head<'_> {
    fn is_notification(&self) -> bool {
        self.id.is_none() && self.version == Version::Two
    }

    fn answer(&self, status: u16, result: Result<String, Error>) -> Answer {
        let mut body = Pieces::default();
        self.reply(result, &mut body);
        body.push_str("\n");
        Answer {
            status,
            body: Some(body),
        }
    }

    fn reply(&self, result: Result<String, Error>, text: &mut Pieces) {
        text.push_str("{");
        if self.version == Version::Two {
            text.push_str("\"jsonrpc\":\"2.0\",");
        }
        match (result, self.version) {
            (Ok(result), version) => {
                text.push_str("\"result\":");
                text.push(result);
                if version == Version::One {
                    text.push_str(",\"error\":null");
                }
            }
            (Err(error), Version::One) => {
                text.push(format!("\"result\":null,\"error\":{}", error.to_json()));
            }
            (Err(error), Version::Two) => text.push(format!("\"error\":{}", error.to_json())),
        }
        if let Some(id) = &self.id {
            text.push_str(",\"id\":");
            text.push_str(id);
        }
        text.push_str("}");
    }
}

/// A call, parsed.
struct Request {
    method: String,
    params: Params,
}

impl Request {
    /// Parses in Core's order, filling `head` as it goes: a late failure is still answered with
    /// its own id and version.
    fn parse<'a>(text: &'a RawValue, head: &mut Head<'a>) -> Result<Self, Error> {
        let invalid = |message: &str| Error::new(code::INVALID_REQUEST, message);
        let Ok(fields) = serde_json::from_str::<Fields<'a>>(text.get()) else {
            return Err(invalid("Invalid Request object"));
        };
        let text_of = |field: Option<&'a RawValue>| field.map(RawValue::get);

        head.id = text_of(fields.id).map(Cow::Borrowed);
        head.version = match text_of(fields.jsonrpc) {
            None | Some("null") => Version::One,
            Some(text) => match serde_json::from_str::<String>(text).as_deref() {
                Ok("1.0") => Version::One,
                Ok("2.0") => Version::Two,
                Ok(_) => return Err(invalid("JSON-RPC version not supported")),
                Err(_) => return Err(invalid("jsonrpc field must be a string")),
            },
        };
        let method = match text_of(fields.method) {
            None | Some("null") => return Err(invalid("Missing method")),
            Some(text) => {
                serde_json::from_str(text).map_err(|_| invalid("Method must be a string"))?
            }
        };
        let params = Params::parse(text_of(fields.params).unwrap_or("null"))?;
        Ok(Self { method, params })
    }
}

#[cfg(test)]
mod tests;
