//! A hundred thousand requests that no client would send: each gets a well-formed answer or
//! a clean end of its connection, and the server is none the worse for it.
//!
//! `HANDFAST_FUZZ_SEED` chooses other requests, `HANDFAST_FUZZ_CASES` another number of them.

use std::collections::BTreeMap;
use std::io::{ErrorKind, Read, Write};
use std::net::{IpAddr, Ipv4Addr};
use std::ops::Range;
use std::thread;
use std::time::{Duration, Instant};

use handfast_tests::process::Setup;
use handfast_tests::rpc::fuzz::{Case, Ingredients, case};
use handfast_tests::rpc::{Endpoint, HttpAnswer, Rpc, Stream, credentials, next_answer};
use handfast_tests::usage::Usage;
use handfast_wire::Network;
use serde_json::json;
use serde_json::value::RawValue;

const SEED: u64 = 4;
const CASES: u64 = 100_000;
/// Cases after which memory has its usual size: all buffers have been as long as they get.
const WARM_UP: u64 = 20_000;
/// Threads that send. Many, and each from an address of its own, since wrong logins of one
/// address are answered one after the other, a quarter of a second each.
const SENDERS: u64 = 64;
/// Silence after which a server is said to hang. It bounds a hang, and measures nothing.
const PATIENCE: Duration = Duration::from_secs(25);

/// Cases that ended wrongly and are shown.
const SHOWN: usize = 20;

/// Methods that end the node, reach out to other machines, change its clock or its log, grow
/// its chain, take its processor, or wait for what will not come.
const NOT_FOR_HERE: [&str; 16] = [
    "stop",
    "addnode",
    "addconnection",
    "setnetworkactive",
    "setmocktime",
    "mockscheduler",
    "logging",
    "generatetoaddress",
    "generatetodescriptor",
    "generateblock",
    "startfuzz",
    "startmining",
    "waitforblock",
    "waitforblockheight",
    "waitfornewblock",
    "addpeeraddress",
];

/// The statuses that the interface knows.
const STATUSES: [u16; 14] = [
    100, 200, 204, 400, 401, 403, 404, 405, 408, 413, 414, 417, 431, 500,
];

fn from_environment(name: &str, default: u64) -> u64 {
    match std::env::var(name) {
        Ok(text) => text
            .parse()
            .unwrap_or_else(|_| panic!("{name} is no number: {text:?}")),
        Err(_) => default,
    }
}

#[test]
fn whatever_is_sent_gets_a_well_formed_answer_or_a_clean_close() {
    let seed = from_environment("HANDFAST_FUZZ_SEED", SEED);
    let cases = from_environment("HANDFAST_FUZZ_CASES", CASES);
    println!("{cases} cases of HANDFAST_FUZZ_SEED={seed}");
    let node = Setup::handfast(Network::Regtest).start();
    let targets = [
        Target::new(&node.unix_rpc(), String::new()),
        Target::new(node.rpc(), credentials(&node.rpc().cookie())),
    ];
    let resident = || Usage::of(node.pid()).expect("the node runs").resident;

    let begun = Instant::now();
    let warm_up = WARM_UP.min(cases / 2);
    let mut seen = run(seed, 0..warm_up, &targets);
    let before = resident();
    seen.add(run(seed, warm_up..cases, &targets));
    let after = resident();

    println!(
        "{:.1?}, resident {} MB, then {} MB",
        begun.elapsed(),
        before / 1_000_000,
        after / 1_000_000
    );
    for (what, count) in &seen.ends {
        println!("  {count:6} × {what}");
    }
    for wrong in seen.wrong.iter().take(SHOWN) {
        println!("{wrong}");
    }
    assert_eq!(seen.wrong.len(), 0, "cases ended wrongly, of seed {seed}");
    assert!(after * 4 <= before * 5, "{before} bytes grew to {after}");
    // It answers as if nothing had been, and nothing in it broke.
    assert_eq!(node.rpc().get("getblockcount", json!([])), 0);
    let log = std::fs::read_to_string(node.setup().network_dir().join("handfast.log"));
    let log = log.expect("the node keeps a log") + &node.output();
    assert!(!log.contains("panicked"), "{log}");
    assert!(node.stop().success());
}

#[derive(Clone)]
struct Target {
    endpoint: Endpoint,
    /// Where calls over TCP come from.
    from: Option<IpAddr>,
    ingredients: Ingredients,
}

impl Target {
    fn new(rpc: &Rpc, credentials: String) -> Self {
        let help = rpc.get("help", json!([]));
        let lines = help.as_str().expect("a text").lines();
        let methods = lines
            .filter(|line| !line.is_empty() && !line.starts_with("=="))
            .filter_map(|line| line.split(' ').next())
            .filter(|method| !NOT_FOR_HERE.contains(method))
            .chain(["nosuchmethod"])
            .map(str::to_owned)
            .collect();
        let ingredients = Ingredients {
            methods,
            credentials,
        };
        Self {
            endpoint: rpc.endpoint().clone(),
            from: None,
            ingredients,
        }
    }

    fn connect(&self) -> Result<Stream, String> {
        Stream::connect_from(&self.endpoint, self.from, PATIENCE)
            .map_err(|error| format!("connect: {error}"))
    }
}

/// How the cases ended.
#[derive(Default)]
struct Seen {
    /// How often each kind of end was seen.
    ends: BTreeMap<String, usize>,
    /// Those that ended as none may.
    wrong: Vec<String>,
}

impl Seen {
    fn add(&mut self, more: Self) {
        for (what, count) in more.ends {
            *self.ends.entry(what).or_default() += count;
        }
        self.wrong.extend(more.wrong);
    }
}

fn run(seed: u64, cases: Range<u64>, targets: &[Target; 2]) -> Seen {
    let mut seen = Seen::default();
    thread::scope(|scope| {
        let senders: Vec<_> = (cases.start..cases.start + SENDERS)
            .map(|first| {
                let from =
                    Ipv4Addr::new(127, 0, 1, u8::try_from(first % SENDERS + 1).expect("few"));
                let targets = targets.each_ref().map(|target| Target {
                    from: Some(from.into()),
                    ..target.clone()
                });
                let cases = (first..cases.end).step_by(usize::try_from(SENDERS).expect("few"));
                scope.spawn(move || send(seed, cases, &targets))
            })
            .collect();
        for sender in senders {
            seen.add(sender.join().expect("a sender reports"));
        }
    });
    seen
}

fn send(seed: u64, cases: impl Iterator<Item = u64>, targets: &[Target; 2]) -> Seen {
    let mut seen = Seen::default();
    let mut kept = [None, None];
    for index in cases {
        // Not every other case, or one sender would have all cases of one socket.
        let socket = usize::try_from(index / SENDERS % 2).expect("0 or 1");
        let target = &targets[socket];
        let case = case(seed, index, &target.ingredients);
        let outcome = match &case {
            Case::Body { bytes, id } => {
                let kept = &mut kept[socket];
                post(target, kept, bytes).and_then(|answer| judge_json(&answer, id.as_deref()))
            }
            Case::Raw { bytes, listens } => raw(target, bytes, *listens),
        };
        match outcome {
            Ok(what) => *seen.ends.entry(what).or_default() += 1,
            Err(what) => seen.wrong.push(format!(
                "case {index} at {:?}: {what}\n  {}",
                target.endpoint,
                shown(&case)
            )),
        }
    }
    seen
}

/// Posts a body on the connection that is kept, or on a new one.
fn post(target: &Target, kept: &mut Option<Stream>, body: &[u8]) -> Result<HttpAnswer, String> {
    let mut stream = match kept.take() {
        Some(stream) => stream,
        None => target.connect()?,
    };
    let mut request = format!(
        "POST / HTTP/1.1\r\nHost: localhost\r\n{}Content-Length: {}\r\n\r\n",
        target.ingredients.credentials,
        body.len()
    )
    .into_bytes();
    request.extend(body);
    stream
        .write_all(&request)
        .map_err(|error| format!("send: {error}"))?;
    let mut received = Vec::new();
    let mut chunk = [0; 16 * 1024];
    loop {
        if let Some((answer, rest)) = next_answer(&received)? {
            if !rest.is_empty() {
                return Err("more than one answer".into());
            }
            if !answer.last {
                *kept = Some(stream);
            }
            return Ok(answer);
        }
        match stream.read(&mut chunk) {
            Ok(0) => {
                return Err(format!(
                    "closed after {} bytes of an answer",
                    received.len()
                ));
            }
            Ok(length) => received.extend_from_slice(&chunk[..length]),
            Err(error) => return Err(format!("recv: {error}")),
        }
    }
}

/// Sends bytes and reads what comes until the server closes.
fn raw(target: &Target, bytes: &[u8], listens: bool) -> Result<String, String> {
    let mut stream = target.connect()?;
    // The server may have closed before it read all: then what it said is still to be read.
    let sent = stream.write_all(bytes).and_then(|()| match listens {
        true => stream.finish(),
        false => Ok(()),
    });
    if !listens {
        return Ok("left at once".into());
    }
    let mut received = Vec::new();
    let end = stream.read_to_end(&mut received);
    match end.map_err(|error| error.kind()) {
        Ok(_) => {}
        // What was sent was not all read.
        Err(ErrorKind::ConnectionReset) if sent.is_err() || bytes.len() > 4_096 => {}
        Err(kind) => return Err(format!("after {} bytes: {kind}", received.len())),
    }
    if bytes.windows(5).any(|window| window == b"HEAD ") {
        // The answer to HEAD tells the length of a body that it does not have.
        return match received.is_empty() || received.starts_with(b"HTTP/1.") {
            true => Ok("HEAD".into()),
            false => Err(format!("no HTTP: {}", text(&received))),
        };
    }
    let mut statuses = Vec::new();
    let mut rest = &received[..];
    while !rest.is_empty() {
        let Some((answer, more)) = next_answer(rest)? else {
            return Err(format!("an answer that is not whole: {}", text(rest)));
        };
        // Of a node without peers.
        let not_ready = answer.status == 503 && bytes.windows(6).any(|it| it == b"/ready");
        if !STATUSES.contains(&answer.status) && !not_ready {
            return Err(format!("HTTP status {}", answer.status));
        }
        statuses.push(answer.status);
        rest = more;
    }
    Ok(match statuses.as_slice() {
        [] => "closed without a word".into(),
        [one] => format!("HTTP {one}"),
        [first, .., last] => format!("HTTP {first}, some more, at last {last}"),
    })
}

/// JSON-RPC in HTTP: an object with a result or an error, or a list of such.
fn judge_json(answer: &HttpAnswer, id: Option<&str>) -> Result<String, String> {
    let HttpAnswer { status, body, .. } = answer;
    if *status == 204 && body.is_empty() {
        return Ok("JSON-RPC, status 204".into());
    }
    if ![200, 400, 404, 500].contains(status) {
        return Err(format!("HTTP status {status}"));
    }
    let broken = |error| format!("the answer is not JSON: {error}: {}", text(body));
    // Ids are echoed however deep they are, so nothing is unfolded here.
    let members: Vec<&RawValue> = match body.first() {
        Some(b'[') => serde_json::from_slice(body).map_err(broken)?,
        _ => vec![serde_json::from_slice(body).map_err(broken)?],
    };
    for member in &members {
        let parts: BTreeMap<String, &RawValue> =
            serde_json::from_str(member.get()).map_err(broken)?;
        let has = |name: &str| parts.get(name).is_some_and(|part| part.get() != "null");
        let said = has("error") || parts.contains_key("result");
        if !said || has("error") && has("result") {
            return Err(format!(
                "no answer of JSON-RPC: {}",
                text(member.get().as_bytes())
            ));
        }
        if parts
            .get("error")
            .is_some_and(|error| error.get().contains("internal error in"))
        {
            return Err(format!(
                "a method panicked: {}",
                text(member.get().as_bytes())
            ));
        }
        // A request without an id is answered without one, as in Core.
        if id.is_some_and(|id| parts.get("id").is_none_or(|found| found.get() != id)) {
            return Err(format!(
                "another id than {id:?}: {}",
                text(member.get().as_bytes())
            ));
        }
    }
    Ok(format!("JSON-RPC, status {status}"))
}

fn shown(case: &Case) -> String {
    match case {
        Case::Body { bytes, id } => format!("body, id {id:?}: {}", text(bytes)),
        Case::Raw { bytes, .. } => format!("raw: {}", text(bytes)),
    }
}

fn text(bytes: &[u8]) -> String {
    let shown = &bytes[..bytes.len().min(300)];
    format!("{} bytes: {}", bytes.len(), shown.escape_ascii())
}
