//! `handfast rpc` against servers that are absent, slow, broken or something else, on
//! loopback and Unix sockets of its own. Runs the built binary.
//!
//! Every stand-in counts the calls that it was sent: what may have been executed must not
//! be sent twice.

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use serde_json::{Value, json};
use socket2::{Domain, SockAddr, Socket, Type};
use tempfile::TempDir;

const COOKIE: &str = "__cookie__:00";

/// A data directory that looks like that of a regtest node.
struct Home(TempDir);

impl Home {
    fn new() -> Self {
        let home = Self(tempfile::tempdir().expect("a temporary directory"));
        fs::create_dir_all(home.dir()).expect("made");
        fs::write(home.dir().join(".cookie"), COOKIE).expect("written");
        home
    }

    fn dir(&self) -> PathBuf {
        self.0.path().join("regtest")
    }

    fn socket(&self) -> PathBuf {
        self.dir().join("node.sock")
    }

    fn command(&self, arguments: &[&str]) -> Command {
        // A client that hangs would hang the test.
        let mut command = Command::new("timeout");
        command.args(["60", env!("CARGO_BIN_EXE_handfast"), "rpc"]);
        command
            .args(["--network", "regtest", "--datadir"])
            .arg(self.0.path());
        command.args(arguments);
        command
    }

    /// Over the Unix socket; nobody listens on TCP port 1.
    fn command_unix(&self) -> Command {
        let mut command = self.command(&["--rpc-listen", "127.0.0.1:1", "--rpc-socket"]);
        command.arg(self.socket());
        command
    }

    fn call(&self, arguments: &[&str]) -> Output {
        let mut command = self.command_unix();
        command.args(arguments).output().expect("the binary runs")
    }

    /// Calls over TCP.
    fn call_tcp(&self, addr: SocketAddr, arguments: &[&str]) -> Output {
        let mut command = self.command(&["--rpc-listen", &addr.to_string()]);
        command.args(arguments).output().expect("the binary runs")
    }

    /// Feeds `input` to a batch.
    fn batch(&self, arguments: &[&str], input: &str) -> Output {
        let mut command = self.command_unix();
        let mut child = command
            .arg("--batch")
            .args(arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("the binary runs");
        let mut stdin = child.stdin.take().expect("piped");
        stdin.write_all(input.as_bytes()).expect("it reads");
        drop(stdin);
        child.wait_with_output().expect("it ends")
    }
}

/// What a stand-in says to a request.
enum Says {
    /// This, and closes.
    AndCloses(Vec<u8>),
    /// This, and keeps the connection open.
    AndHangs(&'static [u8]),
}
use Says::{AndCloses, AndHangs};

/// What it says to request number n, counted from 0, whose body it has read.
type Script = fn(usize, &Value) -> Says;

/// A stand-in for a node.
struct StandIn(Arc<AtomicUsize>);

impl StandIn {
    fn unix(path: &Path, script: Script) -> Self {
        let listener = UnixListener::bind(path).expect("a free path");
        Self::serve(move || listener.accept().map(|(stream, _)| stream), script)
    }

    fn tcp(script: Script) -> (Self, SocketAddr) {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let addr = listener.local_addr().expect("bound");
        let accept = move || listener.accept().map(|(stream, _)| stream);
        (Self::serve(accept, script), addr)
    }

    fn serve<S: Read + Write + Send + 'static>(
        accept: impl Fn() -> std::io::Result<S> + Send + 'static,
        script: Script,
    ) -> Self {
        let requests = Arc::new(AtomicUsize::new(0));
        let counter = requests.clone();
        // Ends with the process.
        thread::spawn(move || {
            let mut held = Vec::new();
            while let Ok(mut stream) = accept() {
                let Some(body) = read_request(&mut stream) else {
                    continue;
                };
                let number = counter.fetch_add(1, Ordering::SeqCst);
                match script(number, &body) {
                    AndCloses(answer) => drop(stream.write_all(&answer)),
                    AndHangs(answer) => {
                        drop(stream.write_all(answer));
                        held.push(stream);
                    }
                }
            }
        });
        Self(requests)
    }

    fn requests(&self) -> usize {
        self.0.load(Ordering::SeqCst)
    }
}

/// The body of a whole request.
fn read_request(stream: &mut impl Read) -> Option<Value> {
    let mut stream = BufReader::new(stream);
    let mut length = 0;
    loop {
        let mut line = String::new();
        stream.read_line(&mut line).ok().filter(|read| *read > 0)?;
        if line == "\r\n" {
            break;
        }
        if let Some((name, value)) = line.split_once(':')
            && name.eq_ignore_ascii_case("content-length")
        {
            length = value.trim().parse().expect("a number");
        }
    }
    let mut body = vec![0; length];
    stream.read_exact(&mut body).ok()?;
    Some(serde_json::from_slice(&body).expect("the client sends JSON"))
}

fn http(status: &str, body: &str) -> Vec<u8> {
    let length = body.len();
    format!("HTTP/1.1 {status}\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n{body}")
        .into()
}

fn answer(body: &Value) -> Says {
    AndCloses(http("200 OK", &body.to_string()))
}

fn result(result: &Value) -> Says {
    answer(&json!({ "jsonrpc": "2.0", "result": result, "id": 1 }))
}

fn error(code: i64, message: &str) -> Says {
    let error = json!({ "code": code, "message": message });
    answer(&json!({ "jsonrpc": "2.0", "error": error, "id": 1 }))
}

#[track_caller]
fn assert_one_line(output: &Output, parts: &[&str]) {
    let line = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{line}");
    assert_eq!(line.trim_end().lines().count(), 1, "{line}");
    assert!(line.starts_with("handfast: "), "{line}");
    assert!(output.stdout.is_empty());
    for part in parts {
        assert!(line.contains(part), "{part:?} is missing in: {line}");
    }
}

#[track_caller]
fn assert_result(output: &Output, expected: &str) {
    let complaint = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(0), "{complaint}");
    assert_eq!(String::from_utf8_lossy(&output.stdout), expected);
    assert!(complaint.is_empty(), "{complaint}");
}

/// The same script behind a Unix socket and behind a TCP port: one line with `parts`, and
/// the call was sent once.
#[track_caller]
fn refused_on_both(script: Script, arguments: &[&str], parts: &[&str]) {
    let home = Home::new();
    let (server, addr) = StandIn::tcp(script);
    let output = home.call_tcp(addr, arguments);
    assert_one_line(&output, &[parts, &[&addr.to_string()]].concat());
    assert_eq!(server.requests(), 1, "over TCP");

    let server = StandIn::unix(&home.socket(), script);
    let output = home.call(arguments);
    assert_one_line(&output, &[parts, &["node.sock"]].concat());
    assert_eq!(server.requests(), 1, "over the Unix socket");
}

#[test]
fn a_node_that_hangs_is_given_up_after_the_time_that_the_user_grants() {
    refused_on_both(
        |_, _| AndHangs(b""),
        &["--timeout", "1", "uptime"],
        &["did not answer within 1s"],
    );
    // It began to answer and hangs then.
    refused_on_both(
        |_, _| {
            AndHangs(
                b"HTTP/1.1 200 OK
Content-Length: 9

{",
            )
        },
        &["--timeout", "1", "uptime"],
        &["did not answer within 1s"],
    );
}

#[test]
fn a_node_that_takes_no_connection_is_given_up_after_the_time_that_the_user_grants() {
    let home = Home::new();
    let listener = Socket::new(Domain::UNIX, Type::STREAM, None).expect("a socket");
    let address = SockAddr::unix(home.socket()).expect("a short path");
    listener.bind(&address).expect("a free path");
    listener.listen(0).expect("listens");
    // The queue has room for this one alone, and nobody ever accepts it.
    let _first = UnixStream::connect(home.socket()).expect("the first is queued");
    let output = home.call(&["--connect-timeout", "1", "uptime"]);
    assert_one_line(
        &output,
        &["does not accept the connection within 1s", "node.sock"],
    );
}

#[test]
fn a_caller_whom_a_full_queue_turned_away_comes_again() {
    let home = Home::new();
    let listener = Socket::new(Domain::UNIX, Type::STREAM, None).expect("a socket");
    let address = SockAddr::unix(home.socket()).expect("a short path");
    listener.bind(&address).expect("a free path");
    listener.listen(0).expect("listens");
    let first = UnixStream::connect(home.socket()).expect("the first is queued");
    let client = home
        .command_unix()
        .arg("uptime")
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("the binary runs");
    drop(first);
    let listener = UnixListener::from(std::os::fd::OwnedFd::from(listener));
    let accept = move || listener.accept().map(|(stream, _)| stream);
    let server = StandIn::serve(accept, |_, _| result(&json!(5)));
    assert_result(&client.wait_with_output().expect("it ends"), "5\n");
    assert_eq!(server.requests(), 1);
}

#[test]
fn another_program_behind_the_socket_is_told_from_a_node() {
    for (script, part) in [
        (
            (|_, _| AndCloses(b"220 mail.example.org ESMTP\r\n".to_vec())) as Script,
            "does not speak HTTP",
        ),
        (|_, _| AndCloses(vec![0xff; 300]), "does not speak HTTP"),
        (
            |_, _| AndCloses(b"-ERR unknown command\r\n".to_vec()),
            "does not speak HTTP",
        ),
        (
            |_, _| AndCloses(http("200 OK", "<html>hello</html>")),
            "HTTP status 200 and no JSON-RPC",
        ),
        (
            |_, _| AndCloses(http("404 Not Found", "")),
            "HTTP status 404 and no JSON-RPC",
        ),
        (
            |_, _| AndCloses(http("503 Service Unavailable", "come back")),
            "HTTP status 503",
        ),
        (
            |_, _| AndCloses(http("200 OK", "{\"result\"")),
            "broken JSON",
        ),
        (
            |_, _| AndCloses(http("200 OK", "{}")),
            "is it a Handfast node?",
        ),
        (
            |_, _| AndCloses(http("200 OK", "[]")),
            "is it a Handfast node?",
        ),
        (
            |_, _| AndCloses(http("200 OK", "{\"id\":7,\"result\":1}")),
            "is it a Handfast node?",
        ),
        (|_, _| AndCloses(vec![]), "closed the connection"),
        (
            |_, _| AndCloses(b"HTTP/1.1 200 OK\r\nContent-Le".to_vec()),
            "closed the connection",
        ),
        (
            |_, _| {
                AndCloses(
                    b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\n{\"a".to_vec(),
                )
            },
            "closed the connection",
        ),
    ] {
        refused_on_both(script, &["uptime"], &[part]);
    }
}

#[test]
fn a_wrong_cookie_is_named() {
    let script: Script = |_, _| AndCloses(http("401 Unauthorized", ""));
    refused_on_both(script, &["uptime"], &["refuses the cookie", ".cookie"]);
}

#[test]
fn an_address_that_the_user_names_is_called_and_not_the_socket() {
    let home = Home::new();
    let (_tcp, addr) = StandIn::tcp(|_, _| result(&json!("by TCP")));
    let other = StandIn::unix(&home.socket(), |_, _| result(&json!("by the socket")));
    assert_result(&home.call_tcp(addr, &["uptime"]), "by TCP\n");
    assert_eq!(other.requests(), 0);
    assert_result(&home.call(&["uptime"]), "by the socket\n");
}

#[test]
fn somebody_who_listens_where_no_cookie_is_is_not_called_absent() {
    let home = Home::new();
    let (node, addr) = StandIn::tcp(|_, _| result(&json!(1)));
    fs::remove_file(home.dir().join(".cookie")).expect("it was there");
    let output = home.call_tcp(addr, &["uptime"]);
    let addr = addr.to_string();
    assert_one_line(&output, &[&addr, "no cookie", ".cookie", "--datadir"]);
    assert_eq!(node.requests(), 0);
}

#[test]
fn an_overloaded_node_is_asked_again_when_it_says_so_and_no_earlier() {
    let busy: Script = |number, _| match number {
        0 | 1 => AndCloses(
            b"HTTP/1.1 503 Service Unavailable\r\nRetry-After: 1\r\nContent-Length: 0\r\n\r\n"
                .to_vec(),
        ),
        _ => result(&json!("at last")),
    };
    let home = Home::new();
    let server = StandIn::unix(&home.socket(), busy);
    let begun = std::time::Instant::now();
    assert_result(&home.call(&["uptime"]), "at last\n");
    assert_eq!(server.requests(), 3);
    assert!(begun.elapsed().as_secs() >= 2, "it came too early");

    // Later than the caller would wait: said at once.
    refused_on_both(
        |_, _| {
            AndCloses(
                b"HTTP/1.1 503 Service Unavailable\r\nRetry-After: 60\r\nContent-Length: 0\r\n\r\n"
                    .to_vec(),
            )
        },
        &["uptime"],
        &["overloaded", "60s"],
    );
}

#[test]
fn an_error_of_the_method_has_its_message_and_its_code() {
    let home = Home::new();
    let _server = StandIn::unix(&home.socket(), |_, _| {
        error(-8, "Block height out of range")
    });
    let output = home.call(&["getblockhash", "5"]);
    assert_eq!(output.status.code(), Some(8));
    assert_eq!(
        String::from_utf8_lossy(&output.stderr),
        "error code: -8\nerror message:\nBlock height out of range\n"
    );
    assert!(output.stdout.is_empty());
}

#[test]
fn a_node_that_is_starting_is_waited_for() {
    let home = Home::new();
    let starting: Script = |number, _| match number {
        0..3 => error(-28, "Loading block index…"),
        _ => result(&json!(7)),
    };
    let wait = |arguments: &[&str]| {
        home.command_unix()
            .args(arguments)
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("the binary runs")
    };
    // Without the option it says so.
    assert_one_line(
        &home.call(&["getblockcount"]),
        &["no regtest node", "--wait"],
    );
    // There is no socket at all while it begins to wait.
    let client = wait(&["--wait", "getblockcount"]);
    let server = StandIn::unix(&home.socket(), starting);
    assert_result(&client.wait_with_output().expect("it ends"), "7\n");
    assert_eq!(server.requests(), 4);
}

#[test]
fn waiting_has_an_end_if_the_user_wants_one() {
    let home = Home::new();
    assert_one_line(
        &home.call(&["--wait=1", "uptime"]),
        &["no regtest node is running"],
    );

    let server = StandIn::unix(&home.socket(), |_, _| error(-28, "Loading block index…"));
    let output = home.call(&["--wait=1", "getblockcount"]);
    assert_eq!(output.status.code(), Some(28));
    assert!(server.requests() > 1);
    // What waiting does not mend ends it.
    let output = home.call(&["getblockcount"]);
    assert_eq!(output.status.code(), Some(28));
}

/// Answers each call of a batch with its method and arguments, backwards; `fail` fails.
fn echo(_: usize, body: &Value) -> Says {
    let Value::Array(calls) = body else {
        return result(&json!(0));
    };
    let reply = |call: &Value| match call["method"].as_str() {
        Some("fail") => json!({ "id": call["id"], "error": { "code": -8, "message": "it does" } }),
        _ => json!({ "id": call["id"], "result": [call["method"], call["params"]] }),
    };
    answer(&calls.iter().rev().map(reply).collect())
}

#[test]
fn a_batch_of_lines_is_answered_line_by_line_in_its_order() {
    let home = Home::new();
    let server = StandIn::unix(&home.socket(), echo);
    let output = home.batch(
        &["--wait"],
        "getblockhash 5\n\n# no call\nhelp 'a b'\n{\"method\": \"x\", \"id\": \"mine\"}\n",
    );
    assert_result(
        &output,
        "{\"id\":1,\"result\":[\"getblockhash\",[5]]}\n\
         {\"id\":4,\"result\":[\"help\",[\"a b\"]]}\n\
         {\"id\":\"mine\",\"result\":[\"x\",[]]}\n",
    );
    assert_eq!(
        server.requests(),
        2,
        "one to see that it is ready, one for all calls"
    );

    // More than go into one request.
    let many: String = (0..1_000).map(|n| format!("getblockhash {n}\n")).collect();
    let output = home.batch(&[], &many);
    let lines = String::from_utf8(output.stdout).expect("UTF-8");
    assert_eq!(lines.lines().count(), 1_000);
    for (line, height) in lines.lines().zip(0..) {
        let line: Value = serde_json::from_str(line).expect("a JSON object per line");
        assert_eq!(
            line,
            json!({ "id": height + 1, "result": ["getblockhash", [height]] })
        );
    }
}

#[test]
fn a_batch_that_is_an_array_is_answered_with_one() {
    let home = Home::new();
    let _server = StandIn::unix(&home.socket(), echo);
    let output = home.batch(
        &[],
        "[{\"method\":\"a\",\"params\":{\"b\":1}},\n {\"method\":\"c\",\"id\":9}]",
    );
    let answers: Value = serde_json::from_slice(&output.stdout).expect("one JSON text");
    let expected =
        json!([{ "id": 1, "result": ["a", { "b": 1 }] }, { "id": 9, "result": ["c", []] }]);
    assert_eq!(answers, expected);
    assert_result(&home.batch(&[], "[]"), "[]\n");
    assert_result(&home.batch(&[], ""), "");
}

#[test]
fn a_call_that_fails_does_not_stop_its_batch_and_gives_the_exit_code() {
    let home = Home::new();
    let _server = StandIn::unix(&home.socket(), echo);
    let output = home.batch(&[], "a\nfail\nb\nfail\n");
    assert_eq!(output.status.code(), Some(8));
    assert_eq!(String::from_utf8_lossy(&output.stdout).lines().count(), 4);
    assert_eq!(
        String::from_utf8_lossy(&output.stderr),
        "handfast: 2 of 4 calls failed; the first, fail in line 2: it does (error -8)\n"
    );
}

#[test]
fn a_batch_that_cannot_be_read_calls_nothing() {
    let home = Home::new();
    let server = StandIn::unix(&home.socket(), echo);
    assert_one_line(
        &home.batch(&[], "stop\ngetblockhash ten\n"),
        &["line 2", "\"ten\""],
    );
    assert_one_line(&home.batch(&[], "[{\"method\":\"stop\"},5]"), &["call 2"]);
    assert_eq!(server.requests(), 0);
    // A method on the command line is no batch.
    let output = home.batch(&["uptime"], "");
    assert_one_line(&output, &["--batch", "METHOD"]);
}

#[test]
fn answers_that_do_not_fit_a_batch_are_foreign() {
    for (script, part) in [
        ((|_, _| answer(&json!([]))) as Script, "no answer to call 1"),
        (
            |_, _| answer(&json!([{ "id": 5, "result": 1 }])),
            "an answer to no call",
        ),
        (|_, _| error(-32600, "no batches here"), "no batches here"),
    ] {
        let home = Home::new();
        let _server = StandIn::unix(&home.socket(), script);
        assert_one_line(&home.batch(&[], "uptime\n"), &[part]);
    }
}
