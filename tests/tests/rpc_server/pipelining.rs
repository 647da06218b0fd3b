//! Callers who send the next request before they have the answer to the last.

use std::io::{Read, Write};

use serde_json::{Value, json};

use crate::exchange::{
    Answer, basic, connect, cookie, half_close, last_post, node, post, read_all,
};

fn call(id: usize) -> String {
    json!({ "method": "getblockcount", "id": id }).to_string()
}

/// Which call it answers.
fn id(answer: &Answer) -> usize {
    let body: Value = serde_json::from_str(&answer.text()).expect("JSON");
    let id = body["id"].as_u64().expect("a number");
    usize::try_from(id).expect("one of ours")
}

fn says_it_closes(answer: &Answer) -> bool {
    answer.header("connection") == Some("close")
}

#[test]
fn of_requests_sent_in_one_go_only_the_last_answer_says_that_the_connection_closes() {
    let node = node(&[]);
    let login = cookie(&node);
    let requests: String = (0..40)
        .map(|id| post(&login, &call(id)))
        .chain([last_post(&login, &call(40))])
        .collect();
    for size in [requests.len(), 4_096, 100] {
        let mut stream = connect(&node);
        for part in requests.as_bytes().chunks(size) {
            stream.write_all(part).expect("written");
        }
        let answers = read_all(&mut stream);
        assert!(answers.iter().map(id).eq(0..=40), "{answers:?}");
        let closing: Vec<usize> = answers
            .iter()
            .filter(|it| says_it_closes(it))
            .map(id)
            .collect();
        assert_eq!(closing, [40], "parts of {size}");
    }
}

#[test]
fn what_comes_behind_a_request_that_ends_the_connection_is_not_carried_out() {
    let node = node(&[]);
    let login = cookie(&node);
    let length = call(1).len();
    let closing = last_post(&login, &call(1));
    let of_http_1_0 = format!(
        "POST / HTTP/1.0\r\n{login}Content-Length: {length}\r\n\r\n{}",
        call(1)
    );
    let behind = r#"{"method":"generatetodescriptor","params":[1,"raw(51)"]}"#;
    for first in [closing, of_http_1_0] {
        let mut stream = connect(&node);
        let requests = first + &post(&login, behind);
        stream.write_all(requests.as_bytes()).expect("written");
        half_close(&stream);
        let answers = read_all(&mut stream);
        assert_eq!(answers.iter().map(id).collect::<Vec<_>>(), [1]);
        assert_eq!(node.height(), 0);
    }
}

#[test]
fn a_connection_stays_after_a_refusal_whose_body_is_there() {
    let node = node(&[]);
    let mut stream = connect(&node);
    let requests = post(&basic("nobody:wrong"), &call(1))
        + &post("", &call(2))
        + &last_post(&cookie(&node), &call(3));
    stream.write_all(requests.as_bytes()).expect("written");
    let answers = read_all(&mut stream);
    let statuses: Vec<u16> = answers.iter().map(|answer| answer.status).collect();
    assert_eq!(statuses, [401, 401, 200]);
    let closing: Vec<bool> = answers.iter().map(says_it_closes).collect();
    assert_eq!(closing, [false, false, true]);
}

#[test]
fn who_is_refused_before_the_body_is_not_told_to_send_it() {
    let node = node(&[]);
    let login = cookie(&node);
    let nobody = basic("nobody:wrong");
    for (headers, status) in [
        (format!("{nobody}Content-Length: 5\r\n"), 401),
        (format!("{login}Content-Length: 99999999\r\n"), 413),
    ] {
        let mut stream = connect(&node);
        let head =
            format!("POST / HTTP/1.1\r\nHost: localhost\r\nExpect: 100-continue\r\n{headers}\r\n");
        stream.write_all(head.as_bytes()).expect("written");
        let answers = read_all(&mut stream);
        assert_eq!((answers.len(), answers[0].status), (1, status));
        assert!(says_it_closes(&answers[0]), "the body is not read");
    }
}

#[test]
fn a_header_without_an_end_is_refused_before_it_is_long() {
    let node = node(&[]);
    let mut stream = connect(&node);
    let header = format!("X-Filler: {}", "f".repeat(20_000));
    let head = format!("POST / HTTP/1.1\r\nHost: localhost\r\n{header}");
    stream.write_all(head.as_bytes()).expect("written");
    let mut first = [0; 12];
    let read = stream.read_exact(&mut first);
    read.expect("nothing more is waited for");
    assert_eq!(&first, b"HTTP/1.1 400");
}
