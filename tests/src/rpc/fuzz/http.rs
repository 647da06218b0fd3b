//! Requests that break HTTP: their first line, their headers, the length of their body.

use handfast_proto::random::Random;

use super::{Ingredients, damage, noise, pick};

const CALL: &str = r#"{"id":1,"method":"uptime","params":[]}"#;

const FIRST_LINES: &[&str] = &[
    "POST / HTTP/1.1",
    "POST / HTTP/1.0",
    "POST / HTTP/1.2",
    "POST / HTTP/9.9",
    "POST / HTTP/0.9",
    "POST / HTTP/",
    "POST /",
    "POST",
    "",
    " ",
    "GET / HTTP/1.1",
    "HEAD / HTTP/1.1",
    "PUT / HTTP/1.1",
    "DELETE /x HTTP/1.1",
    "OPTIONS * HTTP/1.1",
    "CONNECT localhost:1 HTTP/1.1",
    "TRACE / HTTP/1.1",
    "post / http/1.1",
    "POST /../../etc/passwd HTTP/1.1",
    "POST /%00%ff HTTP/1.1",
    "POST // HTTP/1.1",
    "POST http://localhost/ HTTP/1.1",
    "POST /wallet/none HTTP/1.1",
    "POST /?a=b HTTP/1.1",
    "POST  /  HTTP/1.1",
    "POST\t/\tHTTP/1.1",
    "P\0ST / HTTP/1.1",
    "PRI * HTTP/2.0",
    "GET /health HTTP/1.1",
    "GET /metrics HTTP/1.1",
    "GET /rest/chaininfo.json HTTP/1.1",
    "GET /ready?x=\u{fc} HTTP/1.1",
];

const HEADERS: &[&str] = &[
    "Content-Length: -1",
    "Content-Length: 18446744073709551616",
    "Content-Length: 33554433",
    "Content-Length: +5",
    "Content-Length: 5 5",
    "Content-Length: 0x5",
    "Content-Length: ",
    "Content-Length: 9999999",
    "Transfer-Encoding: chunked",
    "Transfer-Encoding: gzip, chunked",
    "Transfer-Encoding: chunked, chunked",
    "Transfer-Encoding: identity",
    "Transfer-Encoding: xchunked",
    "Expect: 100-continue",
    "Expect: 200-ok",
    "Connection: close",
    "Connection: keep-alive",
    "Connection: upgrade",
    "Upgrade: h2c",
    "Upgrade: websocket",
    "Content-Encoding: gzip",
    "No colon here",
    ": no name",
    "Space : before",
    "Authorization: Basic",
    "Authorization: Bearer x",
    "Host: a\r\nHost: b",
    " folded: line",
    "X: \x01\x02",
    "Range: bytes=0-",
    "Accept: */*",
    "Content-Type: text/plain",
    "Content-Type: application/json; charset=utf-7",
];

const CHUNKS: &[&str] = &[
    "0\r\n\r\n",
    "5\r\nhello\r\n0\r\n\r\n",
    "5\r\nhello",
    "ffffffffffffffff\r\n",
    "-1\r\n\r\n",
    "5;name=value\r\nhello\r\n0\r\nTrailer: x\r\n\r\n",
    "zz\r\n\r\n",
    "5\nhello\n0\n\n",
    "\r\n",
    "00000000000000000005\r\nhello\r\n0\r\n\r\n",
];

/// Bytes for a connection.
pub(super) fn request(random: &mut Random, ingredients: &Ingredients) -> Vec<u8> {
    match random.below(12) {
        0..3 => {
            let mut bytes = whole(&ingredients.credentials);
            damage(random, &mut bytes);
            bytes
        }
        3..7 => composed(random, ingredients),
        7 => pipelined(random, ingredients),
        8 => noise(random, 500),
        9 => {
            let bytes = whole(&ingredients.credentials);
            bytes[..random.index(bytes.len())].to_vec()
        }
        10 => chunked(random, ingredients),
        _ => oversized(random, ingredients),
    }
}

/// Nothing is wrong with it.
fn whole(credentials: &str) -> Vec<u8> {
    let length = CALL.len();
    format!(
        "POST / HTTP/1.1\r\nHost: localhost\r\n{credentials}Content-Length: {length}\r\n\r\n{CALL}"
    )
    .into()
}

/// A first line, some headers and a body that were not made for each other.
fn composed(random: &mut Random, ingredients: &Ingredients) -> Vec<u8> {
    // Most of it is right, or nothing would come as far as to the rest.
    let end = match random.below(8) {
        0 => pick(random, &["\n", "\r", "\r\r\n"]),
        _ => "\r\n",
    };
    let first = match random.below(2) {
        0 => pick(random, FIRST_LINES),
        _ => FIRST_LINES[0],
    };
    let mut text = format!("{first}{end}");
    if random.below(8) > 0 {
        text.push_str(&format!("Host: localhost{end}"));
    }
    if random.below(8) > 0 {
        text.push_str(&ingredients.credentials);
    }
    for _ in 0..random.below(4) {
        text.push_str(pick(random, HEADERS));
        text.push_str(end);
    }
    if random.below(2) == 0 {
        text.push_str(&format!("Content-Length: {}{end}", CALL.len()));
    }
    text.push_str(end);
    text.push_str(pick(random, &[CALL, "", "0\r\n\r\n", "null"]));
    text.into_bytes()
}

fn pipelined(random: &mut Random, ingredients: &Ingredients) -> Vec<u8> {
    let mut bytes = Vec::new();
    let count = 1 + random.below(9);
    for _ in 0..count {
        bytes.extend(match random.below(6) {
            0 => composed(random, ingredients),
            _ => whole(&ingredients.credentials),
        });
    }
    bytes
}

fn chunked(random: &mut Random, ingredients: &Ingredients) -> Vec<u8> {
    let credentials = &ingredients.credentials;
    let mut text = format!(
        "POST / HTTP/1.1\r\nHost: localhost\r\n{credentials}Transfer-Encoding: chunked\r\n\r\n"
    );
    if random.below(2) == 0 {
        let (first, second) = CALL.split_at(random.index(CALL.len()));
        for part in [first, second] {
            text.push_str(&format!("{:x}\r\n{part}\r\n", part.len()));
        }
    }
    for _ in 0..random.below(3) {
        text.push_str(pick(random, CHUNKS));
    }
    text.into_bytes()
}

/// Lines, headers and lists of headers that are too long.
fn oversized(random: &mut Random, ingredients: &Ingredients) -> Vec<u8> {
    let length = random.index(40_000);
    let credentials = &ingredients.credentials;
    let head = match random.below(3) {
        0 => format!(
            "POST /{} HTTP/1.1\r\nHost: localhost\r\n{credentials}",
            "a".repeat(length)
        ),
        1 => format!(
            "POST / HTTP/1.1\r\nHost: localhost\r\n{credentials}X: {}\r\n",
            "b".repeat(length)
        ),
        _ => format!(
            "POST / HTTP/1.1\r\nHost: localhost\r\n{credentials}{}",
            "N: v\r\n".repeat(length / 50)
        ),
    };
    format!("{head}Content-Length: {}\r\n\r\n{CALL}", CALL.len()).into_bytes()
}
