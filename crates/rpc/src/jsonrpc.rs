//! JSON-RPC 1.0, 1.1 and 2.0 as Bitcoin Core speaks them. Pure: bytes in, bytes out.
//!
//! Version 1 (no `jsonrpc` member, or `"1.0"`) answers an error with an HTTP
//! status and always carries both `result` and `error`. Version 2 answers `200`
//! with one of the two, and nothing at all to a notification (no `id`).
//!
//! The `id` travels as the text it was: it is echoed to the letter.

mod arguments;
mod error;

pub use arguments::{Params, positional};
pub(crate) use error::mismatch;
pub use error::{Error, code};

use std::borrow::Cow;
use std::fmt;

use serde::de::{MapAccess, Visitor};
use serde::{Deserialize, Deserializer};
use serde_json::value::RawValue;

/// What carries out a call.
pub trait Execute {
    /// Carries out `method`: its result as JSON text; the error goes to the caller as it is.
    fn execute(&self, method: &str, params: Params) -> impl Future<Output = Result<String, Error>>;
}

/// What goes back over HTTP.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    /// The HTTP status: 200, 204, 400, 404 or 500.
    pub status: u16,
    /// The body, ending with a newline; `None` when there is nothing to say.
    pub body: Option<String>,
}

/// Parses a request or a batch, carries it out in order, and words the answer.
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

/// The first method that is called and not allowed, if any. What cannot be parsed calls
/// nothing, and gets its error when it is carried out.
pub(crate) fn first_refused(body: &[u8], allowed: impl Fn(&str) -> bool) -> Option<String> {
    let text = serde_json::from_slice::<&RawValue>(body).ok()?;
    let members = match text.get().as_bytes().first() {
        Some(b'[') => serde_json::from_str::<Vec<&RawValue>>(text.get()).ok()?,
        _ => vec![text],
    };
    let called = members.into_iter().filter_map(|member| {
        let Members(members) = serde_json::from_str(member.get()).ok()?;
        let (_, method) = members.into_iter().find(|(key, _)| key == "method")?;
        serde_json::from_str::<String>(method.get()).ok()
    });
    called.into_iter().find(|method| !allowed(method))
}

/// One request on its own: only version 2 hides an error behind status 200.
async fn single(text: &RawValue, execute: &impl Execute) -> Answer {
    let mut head = Head::default();
    let request = match Request::parse(text, &mut head) {
        Ok(request) => request,
        Err(error) => {
            return Answer {
                status: error.http_status(),
                body: Some(head.reply(Err(error)) + "\n"),
            };
        }
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
    Answer {
        status,
        body: Some(head.reply(result) + "\n"),
    }
}

/// A batch is answered with status 200 whatever happened to its members.
async fn batch(text: &RawValue, execute: &impl Execute) -> Answer {
    let Ok(members) = serde_json::from_str::<Vec<&RawValue>>(text.get()) else {
        return refuse(&Error::new(code::PARSE_ERROR, "Parse error"));
    };
    let mut replies = Vec::new();
    for member in &members {
        let mut head = Head::default();
        let result = match Request::parse(member, &mut head) {
            Ok(request) => execute.execute(&request.method, request.params).await,
            Err(error) => Err(error),
        };
        if !head.is_notification() {
            replies.push(head.reply(result));
        }
    }
    // An empty batch names no version, so it gets an answer that version 1 understands.
    if replies.is_empty() && !members.is_empty() {
        return Answer {
            status: 204,
            body: None,
        };
    }
    Answer {
        status: 200,
        body: Some(format!("[{}]\n", replies.join(","))),
    }
}

fn refuse(error: &Error) -> Answer {
    let head = Head {
        id: Some("null".into()),
        version: Version::One,
    };
    Answer {
        status: error.http_status(),
        body: Some(head.reply(Err(error.clone())) + "\n"),
    }
}

/// How an answer is worded.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Version {
    #[default]
    One,
    Two,
}

/// What an answer repeats of its request, as far as that could be parsed.
struct Head<'a> {
    id: Option<Cow<'a, str>>,
    version: Version,
}

impl Default for Head<'_> {
    fn default() -> Self {
        // Of something that is no object nothing is known: the answer's id is null.
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

    fn reply(&self, result: Result<String, Error>) -> String {
        let mut text = String::from("{");
        if self.version == Version::Two {
            text.push_str("\"jsonrpc\":\"2.0\",");
        }
        match (result, self.version) {
            (Ok(result), version) => {
                // With room for what follows, so that a long result is copied once.
                text.reserve(result.len() + 64);
                text.push_str("\"result\":");
                text.push_str(&result);
                if version == Version::One {
                    text.push_str(",\"error\":null");
                }
            }
            (Err(error), Version::One) => {
                text.push_str(&format!("\"result\":null,\"error\":{}", error.to_json()))
            }
            (Err(error), Version::Two) => text.push_str(&format!("\"error\":{}", error.to_json())),
        }
        if let Some(id) = &self.id {
            text.push_str(",\"id\":");
            text.push_str(id);
        }
        text.push('}');
        text
    }
}

/// A call, parsed.
struct Request {
    method: String,
    params: Params,
}

impl Request {
    /// Parses in Core's order, filling `head` as it goes: what fails late is
    /// still answered with its own id and version.
    fn parse<'a>(text: &'a RawValue, head: &mut Head<'a>) -> Result<Self, Error> {
        let invalid = |message: &str| Error::new(code::INVALID_REQUEST, message);
        let Ok(Members(members)) = serde_json::from_str::<Members<'a>>(text.get()) else {
            return Err(invalid("Invalid Request object"));
        };
        let find = |name: &str| {
            members
                .iter()
                .find(|(key, _)| key == name)
                .map(|(_, value)| value.get())
        };

        head.id = find("id").map(Cow::Borrowed);
        head.version = match find("jsonrpc") {
            None | Some("null") => Version::One,
            Some(text) => match serde_json::from_str::<String>(text).as_deref() {
                Ok("1.0") => Version::One,
                Ok("2.0") => Version::Two,
                Ok(_) => return Err(invalid("JSON-RPC version not supported")),
                Err(_) => return Err(invalid("jsonrpc field must be a string")),
            },
        };
        let method = match find("method") {
            None | Some("null") => return Err(invalid("Missing method")),
            Some(text) => {
                serde_json::from_str(text).map_err(|_| invalid("Method must be a string"))?
            }
        };
        let params = Params::parse(find("params").unwrap_or("null"))?;
        Ok(Self { method, params })
    }
}

/// The members of an object, in order, repeated names included.
pub(crate) struct Members<'a>(pub(crate) Vec<(Cow<'a, str>, &'a RawValue)>);

impl<'de> Deserialize<'de> for Members<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Object;
        impl<'de> Visitor<'de> for Object {
            type Value = Members<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                let mut members = Vec::new();
                while let Some(member) = map.next_entry::<Cow<'de, str>, &'de RawValue>()? {
                    members.push(member);
                }
                Ok(Members(members))
            }
        }
        deserializer.deserialize_map(Object)
    }
}

#[cfg(test)]
mod tests;
