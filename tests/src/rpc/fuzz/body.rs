//! Bodies: JSON-RPC with something wrong, JSON with something wrong, no JSON.

use handfast_proto::random::Random;

use super::{damage, noise, pick};

/// Numbers at the edges of what programs hold them in, and far beyond.
const NUMBERS: &[&str] = &[
    "0",
    "-0",
    "1",
    "-1",
    "2147483647",
    "2147483648",
    "-2147483649",
    "4294967296",
    "9007199254740993",
    "9223372036854775807",
    "9223372036854775808",
    "18446744073709551616",
    "-9223372036854775809",
    "0.1",
    "1e0",
    "1E+2",
    "1e308",
    "1e309",
    "-1e400",
    "1e-400",
    "1e999999999999",
    "123456789012345678901234567890.123456789",
    "1.",
    ".5",
    "01",
    "+1",
    "0x10",
    "1e",
    "--1",
    "NaN",
    "Infinity",
];

/// Strings that are hard to hold: escapes, halves of pairs, controls, no UTF-8.
const STRINGS: &[&[u8]] = &[
    br#""""#,
    br#""a""#,
    br#""00""#,
    br#""\u0000""#,
    br#""\ud800""#,
    br#""\ud83d\ude00""#,
    br#""\udc00\ud800""#,
    br#""\x41""#,
    br#""\u12""#,
    br#""tab	here""#,
    b"\"\xff\xfe\"",
    b"\"\xc0\xaf\"",
    b"\"\xed\xa0\x80\"",
    b"\"\xf4\x90\x80\x80\"",
    b"\"\xe2\x82\"",
    b"\"\x00\"",
    b"\"open",
    br#""0f9188f13cb7b2c71f2a335e3a4fc328bf5beb436012afca590b1a11466e2206""#,
    br#""127.0.0.1""#,
    br#""127.0.0.1:1""#,
    br#""::/0""#,
    br#""999.1.1.1/99""#,
    br#""remove""#,
    br#""{}""#,
    "\"\u{202e}\u{feff}\u{10ffff}\"".as_bytes(),
];

const WORDS: &[&str] = &[
    "null",
    "true",
    "false",
    "nul",
    "True",
    "undefined",
    "{}",
    "[]",
    "",
];

/// A body, and the text of the id that its answer must have, if that can be known.
pub(super) fn body(random: &mut Random, methods: &[String]) -> (Vec<u8>, Option<String>) {
    match random.below(16) {
        0..6 => call(random, methods),
        6 => (batch(random, methods), None),
        7..10 => {
            let mut bytes = call(random, methods).0;
            damage(random, &mut bytes);
            (bytes, None)
        }
        10 => {
            let mut bytes = batch(random, methods);
            damage(random, &mut bytes);
            (bytes, None)
        }
        11 => (nested(random, 20_000), None),
        12 => (malformed_request(random, methods), None),
        13 => (noise(random, 200), None),
        14 => (value(random, 0), None),
        _ => (long(random), None),
    }
}

/// A call whose frame is sound: its answer carries its id.
fn call(random: &mut Random, methods: &[String]) -> (Vec<u8>, Option<String>) {
    let id = match random.below(4) {
        0 => format!("{}", random.draw()),
        1 => format!("\"caller {}\"", random.below(1_000)),
        2 => format!("[{}, null, {{\"a\": 1e400}}]", random.below(1_000)),
        _ => format!("-1.{:030}", random.draw()),
    };
    let version = pick(
        random,
        &[
            "",
            "\"jsonrpc\":\"1.0\",",
            "\"jsonrpc\": \"2.0\" , ",
            "\"jsonrpc\":null,",
        ],
    );
    let method = &methods[random.index(methods.len())];
    let mut bytes =
        format!("{{{version}\"id\":{id},\"method\":\"{method}\",\"params\":").into_bytes();
    let sound = random.below(2) == 0;
    bytes.extend(if sound {
        sound_params(random)
    } else {
        params(random)
    });
    bytes.push(b'}');
    // What is wrong in the arguments may make it no JSON at all.
    (bytes, sound.then_some(id))
}

/// Arguments that are JSON without a doubt, of types that may fit or not.
fn sound_params(random: &mut Random) -> Vec<u8> {
    let values = [
        "0",
        "1",
        "-1",
        "null",
        "true",
        "\"\"",
        "\"00\"",
        "[]",
        "{}",
        "[[1]]",
        "1e400",
        "99999999999999999999",
    ];
    let count = random.below(6);
    let values = (0..count)
        .map(|_| *pick_sized(random, &values))
        .collect::<Vec<_>>();
    format!("[{}]", values.join(",")).into_bytes()
}

fn pick_sized<'a, T>(random: &mut Random, all: &'a [T]) -> &'a T {
    &all[random.index(all.len())]
}

fn params(random: &mut Random) -> Vec<u8> {
    match random.below(6) {
        0 => value(random, 0),
        1 => object(random, 0),
        2 => nested(random, 1_000),
        _ => array(random, 0),
    }
}

fn batch(random: &mut Random, methods: &[String]) -> Vec<u8> {
    let count = random.below(20);
    let mut bytes = vec![b'['];
    for number in 0..count {
        if number > 0 {
            bytes.push(b',');
        }
        bytes.extend(match random.below(8) {
            0 => value(random, 0),
            1 => malformed_request(random, methods),
            _ => call(random, methods).0,
        });
    }
    bytes.push(b']');
    bytes
}

/// An object that wants to be a request: members of wrong types, twice, missing, unknown.
fn malformed_request(random: &mut Random, methods: &[String]) -> Vec<u8> {
    let mut bytes = vec![b'{'];
    for number in 0..random.below(8) {
        if number > 0 {
            bytes.push(b',');
        }
        let name = pick(
            random,
            &[
                "method",
                "params",
                "id",
                "jsonrpc",
                "args",
                "m\\u0065thod",
                "",
            ],
        );
        bytes.extend(format!("\"{name}\":").into_bytes());
        bytes.extend(match random.below(3) {
            0 => format!("\"{}\"", methods[random.index(methods.len())]).into_bytes(),
            _ => value(random, 0),
        });
    }
    bytes.push(b'}');
    bytes
}

fn value(random: &mut Random, depth: u32) -> Vec<u8> {
    match random.below(if depth < 4 { 6 } else { 4 }) {
        0 => pick(random, NUMBERS).as_bytes().to_vec(),
        1 => pick(random, STRINGS).to_vec(),
        2 => pick(random, WORDS).as_bytes().to_vec(),
        3 => (0..random.below(400))
            .map(|_| b'0' + random.draw().to_le_bytes()[0] % 10)
            .collect(),
        4 => array(random, depth + 1),
        _ => object(random, depth + 1),
    }
}

fn array(random: &mut Random, depth: u32) -> Vec<u8> {
    let mut bytes = vec![b'['];
    for number in 0..random.below(6) {
        if number > 0 {
            bytes.push(b',');
        }
        bytes.extend(value(random, depth));
    }
    bytes.push(b']');
    bytes
}

fn object(random: &mut Random, depth: u32) -> Vec<u8> {
    let mut bytes = vec![b'{'];
    for number in 0..random.below(5) {
        if number > 0 {
            bytes.push(b',');
        }
        let names = [
            "args",
            "blockhash",
            "verbosity",
            "height",
            "address",
            "\\u0000",
            "a",
            "a",
        ];
        bytes.extend(format!("\"{}\":", pick_sized(random, &names)).into_bytes());
        bytes.extend(value(random, depth));
    }
    bytes.push(b'}');
    bytes
}

/// Depth, closed or not.
fn nested(random: &mut Random, deepest: u64) -> Vec<u8> {
    let depth = random.index(usize::try_from(deepest).expect("it fits"));
    let (open, close) = pick_sized(
        random,
        &[("[", "]"), ("{\"a\":", "}"), ("[{\"params\":", "}]")],
    );
    let closed = if random.below(2) == 0 {
        depth
    } else {
        depth / 2
    };
    format!("{}1{}", open.repeat(depth), close.repeat(closed)).into_bytes()
}

/// Long strings, numbers, names and lists.
fn long(random: &mut Random) -> Vec<u8> {
    let length = random.index(50_000);
    match random.below(5) {
        0 => format!("{{\"method\":\"{}\",\"id\":1}}", "m".repeat(length)).into_bytes(),
        1 => format!(
            "{{\"method\":\"getblockhash\",\"params\":[{}],\"id\":1}}",
            "9".repeat(length)
        )
        .into_bytes(),
        2 => format!(
            "{{\"method\":\"uptime\",\"id\":\"{}\"}}",
            "\\n".repeat(length / 2)
        )
        .into_bytes(),
        3 => format!("[{}1]", "1,".repeat(length / 20)).into_bytes(),
        _ => format!(
            "{{\"method\":\"getblock\",\"params\":[\"{}\"]}}",
            "0".repeat(length)
        )
        .into_bytes(),
    }
}
