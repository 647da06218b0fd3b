//! A stand-in for the RPC of a node, over TCP: it says what a test wants.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::thread;

use serde_json::{Value, json};

/// What is said to a call.
#[derive(Clone, Debug, PartialEq)]
pub enum Says {
    /// This result.
    Result(Value),
    /// That there is no such method.
    NoSuchMethod,
    /// A status line, header lines as they are, and no body.
    Status(&'static str),
    /// Nothing: it closes.
    Closes,
    /// Nothing: it hangs.
    Hangs,
}

/// Listens until the test ends. `script` is given the method of each call.
///
/// # Panics
/// If loopback has no port left.
pub fn stand_in(script: impl Fn(&str) -> Says + Send + Sync + 'static) -> SocketAddr {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port on loopback");
    let address = listener.local_addr().expect("it is bound");
    let script = Arc::new(script);
    thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let script = script.clone();
            thread::spawn(move || serve(stream, &*script));
        }
    });
    address
}

fn serve(mut stream: TcpStream, script: &dyn Fn(&str) -> Says) {
    let Some(request) = read(&stream) else { return };
    let method = request["method"].as_str().unwrap_or_default();
    let body = match script(method) {
        Says::Result(result) => json!({ "result": result, "error": null, "id": 1 }),
        Says::NoSuchMethod => {
            let error = json!({ "code": -32_601, "message": "Method not found" });
            json!({ "result": null, "error": error, "id": 1 })
        }
        Says::Status(head) => {
            let answer = format!("HTTP/1.1 {head}\r\nContent-Length: 0\r\n\r\n");
            let _ = stream.write_all(answer.as_bytes());
            return;
        }
        Says::Closes => return,
        Says::Hangs => {
            let _ = stream.read(&mut [0]);
            return;
        }
    };
    let body = body.to_string();
    let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", body.len());
    let _ = stream.write_all((head + &body).as_bytes());
}

/// The body of a request.
fn read(stream: &TcpStream) -> Option<Value> {
    let mut stream = BufReader::new(stream);
    let mut length = 0;
    loop {
        let mut line = String::new();
        stream.read_line(&mut line).ok().filter(|read| *read > 0)?;
        if line == "\r\n" {
            break;
        }
        let (name, value) = line.split_once(':').unwrap_or_default();
        if name.eq_ignore_ascii_case("content-length") {
            length = value.trim().parse().ok()?;
        }
    }
    let mut body = vec![0; length];
    stream.read_exact(&mut body).ok()?;
    serde_json::from_slice(&body).ok()
}
