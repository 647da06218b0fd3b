//! Against the behaviour of Bitcoin Core's `httprpc.cpp` and `request.cpp`.

use std::cell::RefCell;
use std::pin::pin;
use std::task::{Context, Poll, Waker};

use serde_json::{Value, json};

use super::*;

/// Answers `echo` with its arguments, `fail` with an error, and records its calls.
#[derive(Default)]
struct Echo {
    calls: RefCell<Vec<String>>,
}

impl Execute for Echo {
    async fn execute(&self, method: &str, params: Params) -> Result<String, Error> {
        self.calls.borrow_mut().push(method.to_owned());
        match method {
            "echo" => {
                let arguments = positional(params, &[&["arg0"], &["arg1", "other"]])?;
                Ok(Value::from(arguments).to_string())
            }
            "fail" => Err(Error::new(code::INVALID_PARAMETER, "no")),
            _ => Err(Error::new(code::METHOD_NOT_FOUND, "Method not found")),
        }
    }
}

/// Nothing here ever waits, so one poll is enough.
fn ask(body: &str) -> Answer {
    ask_of(&Echo::default(), body)
}

fn ask_of(echo: &Echo, body: &str) -> Answer {
    let answer = pin!(answer(body.as_bytes(), echo));
    match answer.poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(answer) => answer,
        Poll::Pending => panic!("the echo never waits"),
    }
}

#[track_caller]
fn expect(body: &str, status: u16, answer: &str) {
    let expected = Answer {
        status,
        body: Some(format!("{answer}\n").into()),
    };
    assert_eq!(ask(body), expected, "{body}");
}

#[test]
fn version_1_always_carries_result_and_error() {
    expect(
        r#"{"method":"echo","params":[1],"id":1}"#,
        200,
        r#"{"result":[1],"error":null,"id":1}"#,
    );
    expect(
        r#"{"jsonrpc":"1.0","method":"echo","id":"x"}"#,
        200,
        r#"{"result":[],"error":null,"id":"x"}"#,
    );
    expect(
        r#"{"jsonrpc":null,"method":"echo","params":null}"#,
        200,
        r#"{"result":[],"error":null}"#,
    );
    expect(
        r#"{"method":"fail","id":7}"#,
        500,
        r#"{"result":null,"error":{"code":-8,"message":"no"},"id":7}"#,
    );
    expect(
        r#"{"method":"nope","id":7}"#,
        404,
        r#"{"result":null,"error":{"code":-32601,"message":"Method not found"},"id":7}"#,
    );
}

#[test]
fn version_2_carries_one_of_them_and_hides_errors_behind_status_200() {
    expect(
        r#"{"jsonrpc":"2.0","method":"echo","params":[1],"id":1}"#,
        200,
        r#"{"jsonrpc":"2.0","result":[1],"id":1}"#,
    );
    expect(
        r#"{"jsonrpc":"2.0","method":"nope","id":1}"#,
        200,
        r#"{"jsonrpc":"2.0","error":{"code":-32601,"message":"Method not found"},"id":1}"#,
    );
}

#[test]
fn the_id_is_echoed_whatever_it_is() {
    for id in [
        "null",
        "0",
        "-1",
        "1.0",
        "1e5",
        "123456789012345678901234567890",
        "\"\"",
        "\"a\\u00e9\\n\"",
        "true",
        "[1,[2]]",
        r#"{"a":{"b":null},"a":1}"#,
    ] {
        let body = format!(r#"{{"method":"echo","id":{id}}}"#);
        expect(
            &body,
            200,
            &format!(r#"{{"result":[],"error":null,"id":{id}}}"#),
        );
        let body = format!(r#"{{"jsonrpc":"2.0","method":"echo","id":{id}}}"#);
        expect(
            &body,
            200,
            &format!(r#"{{"jsonrpc":"2.0","result":[],"id":{id}}}"#),
        );
    }
}

#[test]
fn a_notification_is_carried_out_and_not_answered() {
    let silent = Answer {
        status: 204,
        body: None,
    };
    for method in ["echo", "fail", "nope"] {
        let echo = Echo::default();
        let body = format!(r#"{{"jsonrpc":"2.0","method":"{method}"}}"#);
        assert_eq!(ask_of(&echo, &body), silent);
        assert_eq!(*echo.calls.borrow(), [method]);
    }
    // An id of null is an id, and version 1 knows no notifications.
    assert_ne!(
        ask(r#"{"jsonrpc":"2.0","method":"echo","id":null}"#),
        silent
    );
    assert_ne!(ask(r#"{"method":"echo"}"#), silent);
}

#[test]
fn a_request_that_is_none_gets_status_400_and_the_reason() {
    for (body, message, id) in [
        (r#"{"id":1}"#, "Missing method", "1"),
        (r#"{"id":1,"method":null}"#, "Missing method", "1"),
        (r#"{"id":1,"method":5}"#, "Method must be a string", "1"),
        (
            r#"{"id":1,"method":"echo","params":"x"}"#,
            "Params must be an array or object",
            "1",
        ),
        (
            r#"{"id":1,"method":"echo","params":5}"#,
            "Params must be an array or object",
            "1",
        ),
        (
            r#"{"id":1,"method":"echo","jsonrpc":2.0}"#,
            "jsonrpc field must be a string",
            "1",
        ),
        (
            r#"{"id":1,"method":"echo","jsonrpc":"3.0"}"#,
            "JSON-RPC version not supported",
            "1",
        ),
    ] {
        let error = format!(r#"{{"code":-32600,"message":"{message}"}}"#);
        expect(
            body,
            400,
            &format!(r#"{{"result":null,"error":{error},"id":{id}}}"#),
        );
    }
}

#[test]
fn what_is_not_json_gets_status_500_and_a_null_id() {
    for body in [
        "",
        "{",
        "nonsense",
        r#"{"method":"echo"} x"#,
        "[1,",
        "\u{0}",
        "{\"id\":1,}",
    ] {
        expect(
            body,
            500,
            r#"{"result":null,"error":{"code":-32700,"message":"Parse error"},"id":null}"#,
        );
    }
    for body in ["1", "\"x\"", "null", "true"] {
        let error = r#"{"code":-32700,"message":"Top-level object parse error"}"#;
        expect(
            body,
            500,
            &format!(r#"{{"result":null,"error":{error},"id":null}}"#),
        );
    }
    let invalid_utf8 = b"{\"method\":\"\xff\"}";
    let answer =
        pin!(answer(invalid_utf8, &Echo::default())).poll(&mut Context::from_waker(Waker::noop()));
    assert!(matches!(answer, Poll::Ready(Answer { status: 500, .. })));
}

#[test]
fn deep_nesting_is_an_error_not_an_overflow() {
    let deep = "[".repeat(1_000_000);
    assert_eq!(ask(&deep).status, 500);
    let deep = format!(
        r#"{{"method":"echo","params":[{}1{}]}}"#,
        "[".repeat(100_000),
        "]".repeat(100_000)
    );
    assert_eq!(ask(&deep).status, 500);
}

#[test]
fn a_batch_is_answered_member_by_member_with_status_200() {
    expect(
        r#" [ {"method":"echo","id":1}, {"jsonrpc":"2.0","method":"fail","id":2}, {"jsonrpc":"2.0","method":"echo"}, 5 ] "#,
        200,
        concat!(
            r#"[{"result":[],"error":null,"id":1},"#,
            r#"{"jsonrpc":"2.0","error":{"code":-8,"message":"no"},"id":2},"#,
            r#"{"result":null,"error":{"code":-32600,"message":"Invalid Request object"},"id":null}]"#
        ),
    );
    expect("[]", 200, "[]");
    let all_silent = r#"[{"jsonrpc":"2.0","method":"echo"},{"jsonrpc":"2.0","method":"fail"}]"#;
    assert_eq!(
        ask(all_silent),
        Answer {
            status: 204,
            body: None
        }
    );
}

#[test]
fn named_arguments_are_put_in_order_and_gaps_are_null() {
    let call = |params: &str| {
        ask(&format!(r#"{{"method":"echo","params":{params}}}"#))
            .body
            .expect("answered")
            .text()
    };
    let ok = |result: &str| format!(r#"{{"result":{result},"error":null}}"#) + "\n";
    assert_eq!(call(r#"{"arg1":2,"arg0":1}"#), ok("[1,2]"));
    assert_eq!(call(r#"{"arg1":2}"#), ok("[null,2]"));
    assert_eq!(call(r#"{"other":2}"#), ok("[null,2]"));
    assert_eq!(call(r#"{"arg0":1}"#), ok("[1]"));
    assert_eq!(call(r#"{"args":[1,2]}"#), ok("[1,2]"));
    assert_eq!(call(r#"{"args":[1],"arg1":2}"#), ok("[1,2]"));
    assert_eq!(call(r#"{"args":5,"arg0":1}"#), ok("[1]"));
    for (params, message) in [
        (r#"{"arg2":1}"#, "Unknown named parameter arg2"),
        (
            r#"{"arg0":1,"arg0":2}"#,
            "Parameter arg0 specified multiple times",
        ),
        (
            r#"{"args":[1],"arg0":2}"#,
            "Parameter arg0 specified twice both as positional and named argument",
        ),
    ] {
        assert!(
            call(params).contains(&format!(r#"{{"code":-8,"message":"{message}"}}"#)),
            "{params}"
        );
    }
}

#[test]
fn numbers_keep_their_digits_on_the_way_through() {
    expect(
        r#"{"method":"echo","params":[50.00000000,18446744073709551616],"id":1}"#,
        200,
        r#"{"result":[50.00000000,18446744073709551616],"error":null,"id":1}"#,
    );
    assert_eq!(json!(0.5).to_string(), "0.5");
}

/// Takes away what is answered after each call.
struct Flushed {
    echo: Echo,
    taken: RefCell<Vec<bytes::Bytes>>,
}

impl Execute for Flushed {
    async fn execute(&self, method: &str, params: Params) -> Result<String, Error> {
        self.echo.execute(method, params).await
    }

    async fn flush(&self, answered: &mut Pieces) {
        self.taken.borrow_mut().extend(answered.take());
    }
}

#[test]
fn the_flushed_and_the_remaining_parts_of_a_batch_are_the_whole_answer() {
    let batch = r#"[{"method":"echo","id":1},5,{"method":"fail","id":2}]"#;
    let whole = ask(batch).body.expect("answered").text();
    let flushed = Flushed {
        echo: Echo::default(),
        taken: RefCell::default(),
    };
    let answer = pin!(answer(batch.as_bytes(), &flushed));
    let Poll::Ready(rest) = answer.poll(&mut Context::from_waker(Waker::noop())) else {
        panic!("the echo never waits");
    };
    let taken = flushed.taken.take();
    assert_eq!(taken.len(), 3, "after each call");
    let rest = rest.body.expect("answered").text();
    assert_eq!(rest, "]\n");
    assert_eq!(String::from_utf8_lossy(&taken.concat()) + &*rest, whole);
}

#[test]
fn a_request_is_one_call_of_a_method_or_it_is_not() {
    let stop = |body: &str| calls_only(body.as_bytes(), "stop");
    assert!(stop(r#" {"method":"stop"}"#) && stop(r#"{"id":1,"m\u0065thod":"st\u006fp"}"#));
    for other in [
        r#"[{"method":"stop"}]"#,
        r#"{"method":"help","method":"stop"}"#,
        r#"{"method":"stop""#,
        r#"{"params":["stop"]}"#,
        "\"stop\"",
        "",
    ] {
        assert!(!stop(other), "{other}");
    }
}
