//! Heads of HTTP requests that are unusual, over sockets: what Bitcoin Core answers, we answer.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use handfast_tests::process::{Node, Setup};
use handfast_tests::rpc::Endpoint;
use handfast_wire::Network;

fn node() -> Node {
    Setup::handfast(Network::Regtest).start()
}

/// Sends bytes, and reads all that comes back until the node closes the connection.
fn answer(node: &Node, request: &[u8]) -> String {
    let Endpoint::Tcp(address) = node.rpc().endpoint() else {
        panic!("over TCP");
    };
    let mut stream = TcpStream::connect(address).expect("it accepts");
    let patience = Some(Duration::from_secs(60));
    stream.set_read_timeout(patience).expect("it can be set");
    // A refusal may come before all is sent.
    let _ = stream.write_all(request);
    let mut answer = Vec::new();
    let mut piece = [0; 4096];
    while let Ok(count @ 1..) = stream.read(&mut piece) {
        answer.extend_from_slice(&piece[..count]);
    }
    String::from_utf8_lossy(&answer).into_owned()
}

fn status(answer: &str) -> &str {
    answer.split_whitespace().nth(1).unwrap_or("none")
}

#[test]
fn a_request_without_a_host_is_answered_and_one_with_two_is_refused() {
    let node = node();
    let get = |head: &str| answer(&node, format!("GET /health {head}\r\n\r\n").as_bytes());
    for head in [
        "HTTP/1.1\r\nConnection: close",
        "HTTP/1.1\r\nHost:\r\nConnection: close",
        "HTTP/1.1\r\nHost: localhost\r\nConnection: close",
        "HTTP/1.0",
    ] {
        let answer = get(head);
        assert_eq!(status(&answer), "200", "{head:?}: {answer}");
    }
    for host in ["localhost", "x"] {
        let two = format!("HTTP/1.1\r\nHost: localhost\r\nHost: {host}\r\nConnection: close");
        assert_eq!(status(&get(&two)), "400", "{two:?}");
    }
}

#[test]
fn a_call_without_a_host_is_carried_out_and_so_is_the_one_behind_it() {
    let node = node();
    let cookie = std::fs::read(node.inside(".cookie")).expect("it is there");
    let login = base64(&cookie);
    let call = r#"{"id":1,"method":"getblockcount"}"#;
    let one = |connection: &str| {
        format!(
            "POST / HTTP/1.1\r\nAuthorization: Basic {login}\r\nConnection: {connection}\r\n\
             Content-Length: {}\r\n\r\n{call}",
            call.len()
        )
    };
    let both = one("keep-alive") + &one("close");
    let answer = answer(&node, both.as_bytes());
    assert_eq!(answer.matches("HTTP/1.1 200").count(), 2, "{answer}");
    assert_eq!(answer.matches("\"result\":0").count(), 2, "{answer}");
}

fn base64(bytes: &[u8]) -> String {
    const LETTERS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::new();
    for chunk in bytes.chunks(3) {
        let number = chunk
            .iter()
            .fold(0, |number, byte| number << 8 | u32::from(*byte));
        let number = number << (8 * (3 - chunk.len()));
        for place in 0..4 {
            let digit = number >> (18 - 6 * place) & 63;
            let letter = char::from(LETTERS[digit as usize]);
            text.push(if place <= chunk.len() { letter } else { '=' });
        }
    }
    text
}

#[test]
fn a_request_line_that_is_too_long_is_answered_with_400() {
    let node = node();
    for (length, expected) in [
        (8_000, "404"),
        (8_200, "400"),
        (20_000, "400"),
        (70_000, "400"),
        (1_000_000, "400"),
    ] {
        let path = "x".repeat(length);
        let request =
            format!("GET /{path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n");
        let answer = answer(&node, request.as_bytes());
        assert_eq!(status(&answer), expected, "{length}: {answer}");
    }
}
