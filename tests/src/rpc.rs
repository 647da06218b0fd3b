//! JSON-RPC clients, small enough to trust: what they send and accept is in this file and
//! in those below it.

mod burst;
pub mod fuzz;
mod http;
mod keep_alive;
mod stream;

use std::fmt;
use std::io::{self, Read, Write};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use bitcoin::base64::Engine;
use bitcoin::base64::prelude::BASE64_STANDARD;
use serde_json::{Value, json};

pub use burst::{Burst, Report};
pub use http::{HttpAnswer, next_answer};
pub use keep_alive::{KeepAlive, Outcome, call};
pub use stream::Stream;

/// How long one answer may take. Loading blocks by `submitblock` waits for validation.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(60);

/// Where a server listens.
#[derive(Clone, Debug)]
pub enum Endpoint {
    /// HTTP over TCP.
    Tcp(SocketAddr),
    /// HTTP over a Unix socket.
    Unix(PathBuf),
}

/// Why a call has no result.
#[derive(Debug)]
pub enum RpcError {
    /// The server could not be reached, or what it said is no HTTP.
    Transport(io::Error),
    /// An HTTP error without a JSON-RPC answer.
    Http {
        /// The status code.
        status: u16,
        /// The text that came with it.
        body: String,
    },
    /// The method's own error.
    Method {
        /// Bitcoin Core's error number.
        code: i64,
        /// Its text.
        message: String,
    },
}

impl fmt::Display for RpcError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Transport(error) => write!(f, "{error}"),
            Self::Http { status, body } => write!(f, "HTTP {status}: {body}"),
            Self::Method { code, message } => write!(f, "error {code}: {message}"),
        }
    }
}

impl From<io::Error> for RpcError {
    fn from(error: io::Error) -> Self {
        Self::Transport(error)
    }
}

/// Calls one node's RPC, a connection per call.
#[derive(Clone, Debug)]
pub struct Rpc {
    endpoint: Endpoint,
    cookie: PathBuf,
}

impl Rpc {
    /// A client that reads its credentials from the file `cookie` at every call,
    /// since a restarted node writes new ones.
    pub fn new(endpoint: Endpoint, cookie: PathBuf) -> Self {
        Self { endpoint, cookie }
    }

    /// The method's result. `params` is a JSON array.
    pub fn call(&self, method: &str, params: Value) -> Result<Value, RpcError> {
        let body =
            json!({ "jsonrpc": "1.0", "id": "handfast-tests", "method": method, "params": params });
        let (status, answer) = self.post(body.to_string().as_bytes())?;
        let Ok(mut answer) = serde_json::from_slice::<Value>(&answer) else {
            return Err(RpcError::Http {
                status,
                body: String::from_utf8_lossy(&answer).into_owned(),
            });
        };
        match answer.get("error") {
            Some(error) if !error.is_null() => Err(RpcError::Method {
                code: error["code"].as_i64().unwrap_or_default(),
                message: error["message"].as_str().unwrap_or_default().to_owned(),
            }),
            _ => Ok(answer["result"].take()),
        }
    }

    /// The result of a call that must succeed.
    ///
    /// # Panics
    /// If it does not, with the method and the error.
    pub fn get(&self, method: &str, params: Value) -> Value {
        self.call(method, params)
            .unwrap_or_else(|error| panic!("{method}: {error}"))
    }

    /// A connection for many calls, with the credentials of the node that runs now.
    pub fn keep_alive(&self) -> io::Result<KeepAlive> {
        let cookie = std::fs::read_to_string(&self.cookie)?;
        KeepAlive::connect(&self.endpoint, cookie)
    }

    /// So many callers at the same moment, so many times, with the credentials of the node
    /// that runs now.
    ///
    /// # Panics
    /// If there is no cookie.
    pub fn burst(&self, callers: usize, rounds: usize) -> Burst {
        Burst {
            endpoint: self.endpoint.clone(),
            cookie: self.cookie(),
            callers,
            rounds,
        }
    }

    /// Where the server listens.
    pub fn endpoint(&self) -> &Endpoint {
        &self.endpoint
    }

    /// `user:password` of the node that runs now.
    ///
    /// # Panics
    /// If it has not written them.
    pub fn cookie(&self) -> String {
        std::fs::read_to_string(&self.cookie).expect("a node that answers has a cookie")
    }

    fn post(&self, body: &[u8]) -> Result<(u16, Vec<u8>), RpcError> {
        let cookie = std::fs::read_to_string(&self.cookie)?;
        let request = request(&cookie, "close", body);
        let stream = Stream::connect(&self.endpoint, ANSWER_TIMEOUT)?;
        let answer = exchange(stream, &request)?;
        parse(&answer).ok_or_else(|| {
            let text = String::from_utf8_lossy(&answer).into_owned();
            io::Error::new(
                io::ErrorKind::InvalidData,
                format!("no whole HTTP answer: {text:?}"),
            )
            .into()
        })
    }
}

/// An HTTP request with `body`; `connection` is the header of that name.
fn request(cookie: &str, connection: &str, body: &[u8]) -> Vec<u8> {
    let mut request = format!(
        "POST / HTTP/1.1\r\nHost: localhost\r\nConnection: {connection}\r\nContent-Type: application/json\r\n\
         {}Content-Length: {}\r\n\r\n",
        credentials(cookie),
        body.len()
    )
    .into_bytes();
    request.extend_from_slice(body);
    request
}

/// The line of a request that logs in.
pub fn credentials(cookie: &str) -> String {
    let encoded = BASE64_STANDARD.encode(cookie.trim_end());
    format!("Authorization: Basic {encoded}\r\n")
}

/// Sends the request and reads what comes until the server closes.
fn exchange(mut stream: impl Read + Write, request: &[u8]) -> io::Result<Vec<u8>> {
    stream.write_all(request)?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer)?;
    Ok(answer)
}

/// Status and body of an answer with `Content-Length`. `None` if it is cut short.
fn parse(answer: &[u8]) -> Option<(u16, Vec<u8>)> {
    let (head, body) = split_head(answer)?;
    let status = head.split(' ').nth(1)?.parse().ok()?;
    let length: usize = header(head, "content-length")?.parse().ok()?;
    Some((status, body.get(..length)?.to_vec()))
}

/// The head of an answer and what came after it. `None` while the head is not whole.
fn split_head(answer: &[u8]) -> Option<(&str, &[u8])> {
    let end = answer.windows(4).position(|window| window == b"\r\n\r\n")?;
    let head = std::str::from_utf8(&answer[..end]).ok()?;
    Some((head, &answer[end + 4..]))
}

/// The value of a header.
fn header<'a>(head: &'a str, name: &str) -> Option<&'a str> {
    head.lines()
        .filter_map(|line| line.split_once(':'))
        .find(|(found, _)| found.eq_ignore_ascii_case(name))
        .map(|(_, value)| value.trim())
}

#[cfg(test)]
mod tests {
    use super::parse;

    #[test]
    fn an_answer_is_taken_only_when_it_is_whole() {
        let whole = b"HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\nnull";
        assert_eq!(parse(whole), Some((200, b"null".to_vec())));
        for cut in 0..whole.len() {
            assert_eq!(parse(&whole[..cut]), None, "cut at {cut}");
        }
    }
}
