//! Raw HTTP: what is sent is what the test says, to the byte.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpStream};
use std::time::Duration;

use handfast_tests::process::{Node, Setup};
use handfast_tests::rpc::Endpoint;
use handfast_wire::Network;

/// Longer than the server has any reason to take.
const PATIENCE: Duration = Duration::from_secs(60);

/// An answer, parsed no further than needed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) head: String,
    pub(crate) body: Vec<u8>,
}

impl Answer {
    pub(crate) fn text(&self) -> String {
        String::from_utf8(self.body.clone()).expect("text")
    }

    /// A header's value.
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        let lines = self.head.lines().filter_map(|line| line.split_once(": "));
        let mut found = lines.filter(|(key, _)| key.eq_ignore_ascii_case(name));
        found.next().map(|(_, value)| value)
    }
}

pub(crate) fn node(arguments: &[&str]) -> Node {
    let setup = Setup::handfast(Network::Regtest);
    let setup = arguments.iter().fold(setup, |setup, arg| setup.arg(*arg));
    setup.start()
}

/// Where the node's TCP socket for RPC is.
pub(crate) fn rpc_address(node: &Node) -> String {
    match node.rpc().endpoint() {
        Endpoint::Tcp(address) => address.to_string(),
        Endpoint::Unix(path) => panic!("the tests' nodes have RPC over TCP, not {path:?}"),
    }
}

/// A connection to it.
pub(crate) fn connect(node: &Node) -> TcpStream {
    let stream = TcpStream::connect(rpc_address(node)).expect("the node accepts");
    stream.set_read_timeout(Some(PATIENCE)).expect("a timeout");
    stream.set_nodelay(true).expect("a socket option");
    stream
}

/// A connection on which this was sent.
pub(crate) fn send(node: &Node, request: &str) -> TcpStream {
    let mut stream = connect(node);
    stream.write_all(request.as_bytes()).expect("written");
    stream
}

/// Sends all of it, then reads until the server closes.
pub(crate) fn exchange(node: &Node, request: &[u8]) -> Answer {
    let mut stream = connect(node);
    stream.write_all(request).expect("written");
    read_to_end(&mut stream)
}

pub(crate) fn get(node: &Node, path: &str) -> Answer {
    let request = format!("GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n");
    exchange(node, request.as_bytes())
}

pub(crate) fn half_close(stream: &TcpStream) {
    stream.shutdown(Shutdown::Write).expect("shut down");
}

/// The only answer until the server closes.
pub(crate) fn read_to_end(stream: &mut TcpStream) -> Answer {
    let mut answers = read_all(stream);
    assert_eq!(answers.len(), 1, "{answers:?}");
    answers.remove(0)
}

/// Every answer until the server closes.
pub(crate) fn read_all(stream: &mut TcpStream) -> Vec<Answer> {
    let mut bytes = Vec::new();
    stream
        .read_to_end(&mut bytes)
        .expect("an answer, then the end, and no reset");
    let mut rest = &bytes[..];
    let mut answers = Vec::new();
    while !rest.is_empty() || answers.is_empty() {
        let (answer, after) =
            parse(rest).unwrap_or_else(|| panic!("no HTTP: {}", String::from_utf8_lossy(&bytes)));
        answers.push(answer);
        rest = after;
    }
    answers
}

/// The first answer and what follows it; without a length all is its body.
fn parse(bytes: &[u8]) -> Option<(Answer, &[u8])> {
    let end = bytes.windows(4).position(|four| four == b"\r\n\r\n")?;
    let head = String::from_utf8(bytes[..end].to_vec()).ok()?;
    let status = head.split(' ').nth(1)?.parse().ok()?;
    let rest = &bytes[end + 4..];
    let mut answer = Answer {
        status,
        head,
        body: Vec::new(),
    };
    let length = answer.header("content-length").map(str::parse);
    let length = length.map_or(Some(rest.len()), Result::ok)?;
    let (body, rest) = rest.split_at_checked(length)?;
    answer.body = body.to_vec();
    Some((answer, rest))
}

/// `Authorization` for these credentials.
pub(crate) fn basic(credentials: &str) -> String {
    use bitcoin::base64::Engine;
    let encoded = bitcoin::base64::engine::general_purpose::STANDARD.encode(credentials);
    format!("Authorization: Basic {encoded}\r\n")
}

/// `Authorization` by the node's cookie.
pub(crate) fn cookie(node: &Node) -> String {
    let file = node.setup().network_dir().join(".cookie");
    basic(&std::fs::read_to_string(file).expect("it is there"))
}

/// A `POST` with these headers; each ends with a line break.
pub(crate) fn post(headers: &str, body: &str) -> String {
    let length = body.len();
    format!("POST / HTTP/1.1\r\nHost: localhost\r\n{headers}Content-Length: {length}\r\n\r\n{body}")
}

/// The same on a connection that is closed after it.
pub(crate) fn last_post(headers: &str, body: &str) -> String {
    post(&format!("Connection: close\r\n{headers}"), body)
}
