//! HTTP as clients really speak it.

use std::io::{Read, Write};
use std::net::TcpStream;

use crate::exchange::{
    connect, cookie, exchange, half_close, last_post, node, post, read_all, read_to_end,
};

const CALL: &str = r#"{"method":"getblockcount","id":7}"#;
const ANSWER: &str = "{\"result\":0,\"error\":null,\"id\":7}\n";

#[test]
fn a_body_in_chunks_is_read_however_it_is_cut() {
    let node = node(&[]);
    let head = format!(
        "POST / HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nTransfer-Encoding: chunked\r\n{}\r\n",
        cookie(&node)
    );
    for size in [1, 5, CALL.len()] {
        let mut stream = connect(&node);
        stream.write_all(head.as_bytes()).expect("written");
        for chunk in CALL.as_bytes().chunks(size) {
            let framed = format!("{:x}\r\n", chunk.len());
            for part in [framed.as_bytes(), chunk, b"\r\n"] {
                stream.write_all(part).expect("written");
            }
        }
        stream.write_all(b"0\r\n\r\n").expect("written");
        let answer = read_to_end(&mut stream);
        assert_eq!(
            (answer.status, answer.text().as_str()),
            (200, ANSWER),
            "{size}"
        );
    }
}

#[test]
fn a_connection_stays_after_a_body_in_chunks() {
    let node = node(&[]);
    let login = cookie(&node);
    let chunks = format!("{:x}\r\n{CALL}\r\n0\r\n", CALL.len());
    let head =
        format!("POST / HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n{login}");
    // Also when it was refused before its body was read.
    let stranger = head.replace(&login, "");
    let trailer = format!("{head}\r\n{chunks}X-Trailer: 1\r\n\r\n");
    let mut requests = [&head, &stranger]
        .map(|head| format!("{head}\r\n{chunks}\r\n"))
        .concat();
    requests += &trailer;
    requests += &last_post(&login, CALL);
    let mut stream = connect(&node);
    stream.write_all(requests.as_bytes()).expect("written");
    let answers = read_all(&mut stream);
    let told: Vec<_> = answers
        .iter()
        .map(|it| (it.status, it.header("connection")))
        .collect();
    let last = (200, Some("close"));
    assert_eq!(told, [(200, None), (401, None), (200, None), last]);
}

#[test]
fn who_asks_whether_to_go_on_is_told_to() {
    let node = node(&[]);
    let request = last_post(&format!("Expect: 100-continue\r\n{}", cookie(&node)), CALL);
    let (head, body) = request.split_at(request.len() - CALL.len());
    let mut stream = connect(&node);
    stream.write_all(head.as_bytes()).expect("written");
    let mut first = [0; 25];
    stream.read_exact(&mut first).expect("told to go on");
    assert_eq!(&first, b"HTTP/1.1 100 Continue\r\n\r\n");
    stream.write_all(body.as_bytes()).expect("written");
    assert_eq!(read_to_end(&mut stream).text(), ANSWER);
}

#[test]
fn who_closes_its_half_after_the_request_still_gets_the_answer() {
    let node = node(&[]);
    let request = post(&cookie(&node), CALL);
    for _ in 0..50 {
        let mut stream = connect(&node);
        stream.write_all(request.as_bytes()).expect("written");
        half_close(&stream);
        assert_eq!(read_to_end(&mut stream).text(), ANSWER);
    }
}

#[test]
fn http_1_0_is_answered_and_closed() {
    let node = node(&[]);
    let length = CALL.len();
    let login = cookie(&node);
    let request = format!("POST / HTTP/1.0\r\n{login}Content-Length: {length}\r\n\r\n{CALL}");
    let answer = exchange(&node, request.as_bytes());
    assert_eq!((answer.status, answer.text().as_str()), (200, ANSWER));
}

#[test]
fn who_speaks_http_1_0_changes_nothing_for_who_speaks_http_1_1() {
    let node = node(&[]);
    let login = cookie(&node);
    let old = b"GET /health HTTP/1.0\r\n\r\n";
    for _ in 0..100 {
        assert_eq!(exchange(&node, old).header("connection"), None);
    }
    let two = post(&login, CALL) + &last_post(&login, CALL);
    for number in 0..100 {
        let mut stream = connect(&node);
        stream.write_all(two.as_bytes()).expect("written");
        let answers = read_all(&mut stream);
        let said: Vec<_> = answers
            .iter()
            .map(|it| {
                (
                    it.head.starts_with("HTTP/1.1 200 "),
                    it.header("connection"),
                )
            })
            .collect();
        assert_eq!(
            said,
            [(true, None), (true, Some("close"))],
            "connection {number}"
        );
    }
}

#[test]
fn http_1_1_without_a_host_is_served_as_core_serves_it_and_two_hosts_are_refused() {
    let node = node(&[]);
    let length = CALL.len();
    let with = |hosts: &str| {
        let login = cookie(&node);
        let request = format!(
            "POST / HTTP/1.1\r\n{hosts}Connection: close\r\n{login}Content-Length: {length}\r\n\r\n{CALL}"
        );
        exchange(&node, request.as_bytes())
    };
    assert_eq!(with("").text(), ANSWER);
    assert_eq!(with("Host: localhost\r\nHost: localhost\r\n").status, 400);
}

#[test]
fn a_request_line_that_is_too_long_is_refused_as_malformed() {
    let node = node(&[]);
    let status = |length: usize| {
        let path = "a".repeat(length);
        let head = format!("GET /{path} HTTP/1.1\r\nHost: localhost\r\n");
        exchange(&node, (head + "Connection: close\r\n\r\n").as_bytes()).status
    };
    assert_eq!(status(8_000), 404);
    for length in [9_000, 20_000, 100_000] {
        assert_eq!(status(length), 400, "{length}");
    }
}

/// Reads up to the end of [`ANSWER`], on a connection that stays.
fn read_answer(stream: &mut TcpStream) {
    let mut answer = Vec::new();
    while !answer.ends_with(ANSWER.as_bytes()) {
        let mut byte = [0];
        stream.read_exact(&mut byte).expect("an answer");
        answer.push(byte[0]);
    }
}

#[test]
fn more_headers_than_core_reads_are_refused() {
    let node = node(&[]);
    let login = cookie(&node);
    let with = |bytes: usize| {
        let filler = format!("X-Filler: {}\r\n", "f".repeat(bytes));
        exchange(
            &node,
            last_post(&format!("{filler}{login}"), CALL).as_bytes(),
        )
    };
    assert_eq!(with(7_000).status, 200);
    assert_eq!(with(9_000).status, 400);
    // Their number does not matter, as long as they are short enough together.
    let lines = |count: usize| {
        let filler = "X: 1\r\n".repeat(count);
        let request = last_post(&format!("{filler}{login}"), CALL);
        exchange(&node, request.as_bytes()).status
    };
    assert_eq!((lines(400), lines(1_200)), (200, 200));
    assert_eq!((lines(1_500), lines(5_000)), (400, 400));
    // Neither of the first request of a connection alone, nor when they come by and by.
    let mut stream = connect(&node);
    let filler = "X: 1\r\n".repeat(400);
    let many = post(&format!("{filler}{login}"), CALL);
    for request in [&post(&login, CALL), &many, &post(&login, CALL), &many] {
        for part in request.as_bytes().chunks(1_000) {
            stream.write_all(part).expect("written");
        }
        read_answer(&mut stream);
    }
}

#[test]
fn a_request_line_without_an_end_is_refused_before_it_is_long() {
    let node = node(&[]);
    let line = format!("GET /{}", "a".repeat(9_000));
    let mut stranger = connect(&node);
    stranger.write_all(line.as_bytes()).expect("written");
    assert_eq!(read_to_end(&mut stranger).status, 400);
    let mut caller = connect(&node);
    let call = post(&cookie(&node), CALL);
    caller.write_all(call.as_bytes()).expect("written");
    read_answer(&mut caller);
    caller.write_all(line.as_bytes()).expect("written");
    assert_eq!(read_to_end(&mut caller).status, 400, "who has logged in");
}

#[test]
fn what_is_no_http_is_refused_and_the_next_caller_served() {
    let node = node(&[]);
    for garbage in [
        &b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03"[..],
        b"hello\r\n\r\n",
        b"POST / HTTP/9.9\r\n\r\n",
        b"POST / HTTP/1.1\r\nContent-Length: minus one\r\n\r\n",
        b"POST / HTTP/1.1\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\nhello!",
    ] {
        let mut stream = connect(&node);
        stream.write_all(garbage).expect("written");
        half_close(&stream);
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).expect("a clean end");
        let text = String::from_utf8_lossy(&answer);
        assert!(
            answer.is_empty() || text.starts_with("HTTP/1.1 4"),
            "{text}"
        );
    }
    let request = last_post(&cookie(&node), CALL);
    assert_eq!(exchange(&node, request.as_bytes()).text(), ANSWER);
    let log = node.output();
    assert!(!log.contains("ERROR"), "callers write into the log: {log}");
}
