//! What a fuzz run is given must be right, and what it says must be shown.
//!
//! An RPC that is named is a part of the target: it must answer before the run, during it and
//! afterwards, and be that of a node that may be called. A run that hardly took place is no
//! reason to call a target well.

use std::io::{BufRead, BufReader, Read};
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use handfast_tests::faulty::{Fault, FaultyNode};
use handfast_tests::process::Program;
use handfast_tests::rpc_stand_in::{Says, stand_in};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::json;

/// What a well node on regtest says.
fn well(method: &str) -> Says {
    match method {
        "getblockchaininfo" => Says::Result(json!({ "chain": "regtest" })),
        "getconnectioncount" | "getblockcount" => Says::Result(json!(0)),
        _ => Says::NoSuchMethod,
    }
}

/// A run against a well node, with these options.
fn fuzz(options: &[&str]) -> Output {
    fuzz_under("unlimited", options)
}

/// The same with so many open files: options of `ulimit`.
fn fuzz_under(files: &str, options: &[&str]) -> Output {
    let node = FaultyNode::start(Path::new(env!("CARGO_BIN_EXE_faulty-node")), Fault::None);
    let target = node.address().to_string();
    let limited = match files {
        "unlimited" => r#"exec "$0" "$@""#.to_owned(),
        files => format!(r#"ulimit {files} && exec "$0" "$@""#),
    };
    let output = Command::new("sh")
        .args(["-c", &limited])
        .arg(Program::Handfast.path())
        .args(["fuzz", "run", "--target", &target, "--seed", "1"])
        .args(options)
        .output();
    output.expect("the program starts")
}

/// The same with an RPC over TCP, whose cookie is there.
fn fuzz_with(rpc: SocketAddr, options: &[&str]) -> Output {
    let dir = tempfile::tempdir().expect("a directory");
    let cookie = dir.path().join("cookie");
    std::fs::write(&cookie, "__cookie__:secret").expect("a cookie");
    let (url, cookie) = (format!("http://{rpc}"), cookie.display().to_string());
    fuzz(&[&["--rpc", &url, "--rpc-cookie", &cookie], options].concat())
}

/// There was no run: one line, which says why.
#[track_caller]
fn assert_no_run(output: &Output, part: &str) {
    let line = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(2), "{line}");
    assert_eq!(line.trim_end().lines().count(), 1, "{line}");
    assert!(line.contains(part), "{part:?} is missing in: {line}");
    assert!(output.stdout.is_empty());
}

#[track_caller]
fn assert_verdict(output: &Output, verdict: &str, evidence: &str) {
    let summary = String::from_utf8_lossy(&output.stdout);
    let expected = i32::from(verdict != "ok");
    assert_eq!(output.status.code(), Some(expected), "{summary}{output:?}");
    let first = summary.lines().next().unwrap_or_default();
    assert_eq!(first, format!("Verdict   {verdict}"), "{summary}");
    assert!(summary.contains(evidence), "{evidence}: {summary}");
}

const FEW: [&str; 4] = ["--scenario", "handshake-drop", "--cycles", "20"];

#[test]
fn an_rpc_that_does_not_answer_is_told_before_the_run_with_its_cause() {
    let absent = [&["--rpc-socket", "/nonexistent"], &FEW[..]].concat();
    assert_no_run(&fuzz(&absent), "nothing listens on /nonexistent");
    let refuses = stand_in(|_| Says::Status("401 Unauthorized"));
    assert_no_run(&fuzz_with(refuses, &FEW), "refuses the cookie");
    let mute = stand_in(|_| Says::Hangs);
    assert_no_run(&fuzz_with(mute, &FEW), "did not answer within 10 s");
    let denies = stand_in(|_| Says::NoSuchMethod);
    assert_no_run(&fuzz_with(denies, &FEW), "answers getblockchaininfo with");
}

#[test]
fn an_rpc_of_mainnet_or_of_another_network_is_not_called() {
    for (chain, part) in [("main", "mainnet"), ("signet", "\"regtest\"")] {
        let called = std::sync::Arc::new(AtomicBool::new(false));
        let burst = called.clone();
        let foreign = stand_in(move |method| match method {
            "getblockchaininfo" => Says::Result(json!({ "chain": chain })),
            other => {
                burst.store(true, Ordering::Relaxed);
                well(other)
            }
        });
        let output = fuzz_with(foreign, &["--scenario", "rpc-burst", "--cycles", "20"]);
        assert_no_run(&output, part);
        assert!(!called.load(Ordering::Relaxed), "{chain}: it was called");
    }
}

/// Well until it has been asked for its audit, which is the last question before the run.
fn well_before(then: fn() -> Says) -> SocketAddr {
    let asked = AtomicBool::new(false);
    stand_in(move |method| match asked.load(Ordering::Relaxed) {
        true => then(),
        false => {
            asked.store(method == "audit", Ordering::Relaxed);
            well(method)
        }
    })
}

#[test]
fn an_rpc_that_answered_before_the_run_and_not_after_it_is_a_refusal() {
    thread::scope(|scope| {
        for (then, evidence) in [
            (
                (|| Says::Status("401 Unauthorized")) as fn() -> Says,
                "refuses the cookie",
            ),
            (|| Says::Closes, "closed the connection"),
            (|| Says::Hangs, "did not answer within"),
        ] {
            scope.spawn(move || {
                let output = fuzz_with(well_before(then), &FEW);
                assert_verdict(&output, "refuses", "refuses: its RPC after the run");
                assert_verdict(&output, "refuses", evidence);
            });
        }
    });
    assert_verdict(&fuzz_with(stand_in(well), &FEW), "ok", "Cycles    20");
}

#[test]
fn calls_of_a_burst_that_fail_are_a_refusal_and_one_that_is_asked_to_come_later_heeds_it() {
    let burst = ["--scenario", "rpc-burst", "--cycles", "40"];
    let some = |says: Says| {
        let number = std::sync::atomic::AtomicU64::new(0);
        stand_in(move |method| match method {
            "getblockcount" if number.fetch_add(1, Ordering::Relaxed) == 7 => says.clone(),
            other => well(other),
        })
    };
    let failed = fuzz_with(some(Says::Status("500 Internal Server Error")), &burst);
    assert_verdict(&failed, "refuses", "rpc-burst: 1 of 40 HTTP 500");
    let closed = fuzz_with(some(Says::Closes), &burst);
    assert_verdict(&closed, "refuses", "rpc-burst: 1 of 40");
    let later = Says::Status("503 Service Unavailable\r\nRetry-After: 1");
    assert_verdict(
        &fuzz_with(some(later), &burst),
        "ok",
        "1 x overloaded (HTTP 503",
    );
}

#[test]
fn a_signal_ends_the_wait_for_a_target_that_is_mute() {
    let mute = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port on loopback");
    let target = mute.local_addr().expect("it is bound").to_string();
    let fuzzer = Command::new(Program::Handfast.path())
        .args([
            "fuzz",
            "run",
            "--target",
            &target,
            "--answer-timeout",
            "3600",
        ])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("the program starts");
    let _held = mute.accept().expect("it comes, and waits for an answer");
    kill_process(id(&fuzzer), Signal::INT).expect("it runs");
    let output = fuzzer.wait_with_output().expect("it ends");
    assert_no_run(&output, "ended by a signal before the run began");
}

#[test]
fn addresses_that_are_not_of_this_machine_are_told_before_the_run() {
    let foreign = [&["--source-range", "192.0.2.0/24"], &FEW[..]].concat();
    assert_no_run(&fuzz(&foreign), "cannot come from 192.0.2.1");
    let own = [&["--source-range", "127.1.0.0/16"], &FEW[..]].concat();
    assert_verdict(&fuzz(&own), "ok", "Cycles    20");
}

#[test]
fn as_many_descriptors_as_there_may_be_are_had_and_too_few_are_told_before_the_run() {
    let many = ["--scenario", "burst", "--cycles", "300"];
    let many = [&many[..], &["--concurrency", "300"]].concat();
    assert_no_run(&fuzz_under("-n 64", &many), "lower --concurrency");
    assert_verdict(&fuzz_under("-Sn 64", &many), "ok", "Cycles    300");
}

#[test]
fn a_run_of_which_no_connection_came_to_its_end_proves_nothing_and_says_so() {
    let dir = tempfile::tempdir().expect("a directory");
    let report = dir.path().display().to_string();
    let unfinished = ["--scenario", "negotiate-timeout", "--duration", "1"];
    let output = fuzz(&[&unfinished[..], &["--report", &report]].concat());
    let line = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(2), "{line}");
    let last = line.lines().last().unwrap_or_default();
    assert!(last.contains("the run proves nothing: none of"), "{line}");
    assert!(last.contains("--duration"), "{line}");
    let summary = String::from_utf8_lossy(&output.stdout);
    assert!(summary.starts_with("Verdict   none\n"), "{summary}");
    assert!(
        summary.contains("had not ended when the run ended"),
        "{summary}"
    );
    let report = std::fs::read(dir.path().join("report.json")).expect("a report");
    let report: serde_json::Value = serde_json::from_slice(&report).expect("JSON");
    assert_eq!(report["verdict"], "none");
    assert_eq!(report["total"]["unfinished"], report["total"]["begun"]);
}

/// Starts a run against `target` with these options.
fn started(target: SocketAddr, options: &[&str]) -> Child {
    Command::new(Program::Handfast.path())
        .args(["fuzz", "run", "--target", &target.to_string()])
        .args(["--seed", "1", "--scenario", "reset"])
        .args(options)
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("the program starts")
}

/// Reads what it says of its progress until there is `part`.
#[track_caller]
fn read_until(progress: &mut impl BufRead, part: &str) {
    let mut all = String::new();
    while !all.contains(part) {
        let read = progress.read_line(&mut all).expect("it can be read");
        assert!(read > 0, "{part:?} was never said: {all}");
    }
}

fn id(child: &Child) -> Pid {
    let id = i32::try_from(child.id()).ok().and_then(Pid::from_raw);
    id.expect("it runs")
}

#[test]
fn a_target_that_had_no_time_to_answer_since_a_signal_ended_the_run_gets_no_verdict() {
    let node = FaultyNode::start(Path::new(env!("CARGO_BIN_EXE_faulty-node")), Fault::None);
    let mut run = started(node.address(), &["--duration", "1h", "--rate", "50"]);
    let mut progress = BufReader::new(run.stderr.take().expect("piped"));
    read_until(&mut progress, " connections, ");
    // It answers nobody any more, and would not be blamed before half a minute is over.
    kill_process(node.id(), Signal::STOP).expect("it runs");
    // As a terminal does that is closed.
    kill_process(id(&run), Signal::HUP).expect("it runs");
    let mut rest = String::new();
    progress.read_to_string(&mut rest).expect("it can be read");
    let ended = run.wait_with_output().expect("it ends");
    kill_process(node.id(), Signal::CONT).expect("it is there");
    let summary = String::from_utf8_lossy(&ended.stdout);
    assert!(summary.starts_with("Verdict   none\n"), "{summary}{rest}");
    assert!(summary.contains("the run was ended before"), "{summary}");
    assert_eq!(ended.status.code(), Some(2), "{summary}{rest}");
}

#[test]
fn two_signals_in_a_breath_are_one_and_the_report_is_written() {
    let node = FaultyNode::start(Path::new(env!("CARGO_BIN_EXE_faulty-node")), Fault::None);
    let dir = tempfile::tempdir().expect("a directory");
    let report = dir.path().display().to_string();
    let options = ["--duration", "1h", "--rate", "50", "--report", &report];
    let mut run = started(node.address(), &options);
    let mut progress = BufReader::new(run.stderr.take().expect("piped"));
    read_until(&mut progress, " connections, ");
    // Two of one kind would become one before they arrive.
    for signal in [Signal::TERM, Signal::INT] {
        kill_process(id(&run), signal).expect("it runs");
    }
    let mut rest = String::new();
    progress.read_to_string(&mut rest).expect("it can be read");
    let ended = run.wait_with_output().expect("it ends");
    let summary = String::from_utf8_lossy(&ended.stdout);
    assert!(summary.starts_with("Verdict   ok\n"), "{summary}{rest}");
    assert_eq!(ended.status.code(), Some(0), "{summary}{rest}");
    assert!(dir.path().join("report.html").exists(), "{summary}");
}

#[test]
fn a_run_ends_when_its_target_is_gone_and_says_when_that_was() {
    let node = FaultyNode::start(Path::new(env!("CARGO_BIN_EXE_faulty-node")), Fault::None);
    let mut run = started(node.address(), &["--duration", "10m", "--rate", "50"]);
    let mut progress = BufReader::new(run.stderr.take().expect("piped"));
    read_until(&mut progress, " connections, ");
    drop(node);
    read_until(&mut progress, "the target is gone; the run ends");
    let mut rest = String::new();
    progress.read_to_string(&mut rest).expect("it can be read");
    let ended = run.wait_with_output().expect("it ends");
    let summary = String::from_utf8_lossy(&ended.stdout);
    assert!(
        summary.starts_with("Verdict   crashed\n"),
        "{summary}{rest}"
    );
    assert!(
        summary.contains("crashed: its process was gone at "),
        "{summary}"
    );
}

#[test]
fn a_scenario_that_had_no_time_is_named_and_what_was_waited_for_is_told() {
    let played = ["--scenario", "negotiate-timeout", "--scenario", "reset"];
    let output = fuzz(&[&played[..], &["--duration", "1", "--rate", "40"]].concat());
    assert_verdict(
        &output,
        "ok",
        "ok: negotiate-timeout was not judged: none of",
    );
    let summary = String::from_utf8_lossy(&output.stdout);
    let waited = summary.lines().find(|it| it.starts_with("Waited    "));
    let waited = waited.unwrap_or_else(|| panic!("{summary}"));
    assert!(
        waited.contains(" s for connections to end: ")
            && waited.contains(" negotiate-timeout (until the handshake deadline)"),
        "{waited}"
    );
    let progress = String::from_utf8_lossy(&output.stderr);
    assert!(progress.contains("waiting for "), "{progress}");

    let in_time = ["--handshake-deadline", "1", "--duration", "1"];
    let output = fuzz(&[&played[..], &in_time, &["--rate", "40"]].concat());
    assert_verdict(&output, "ok", "Cycles ");
    let summary = String::from_utf8_lossy(&output.stdout);
    let unjudged = "negotiate-timeout was not judged";
    assert!(!summary.contains(unjudged), "{summary}");
}

#[test]
fn connections_that_are_slow_on_purpose_say_nothing_of_how_fast_a_target_is() {
    let options = ["--scenario", "slow-loris", "--cycles", "20"];
    let output = fuzz(&options);
    assert_verdict(&output, "ok", "Handshake none was measured");
}

#[test]
fn a_report_of_an_earlier_run_is_not_overwritten_unless_that_is_wanted() {
    let dir = tempfile::tempdir().expect("a directory");
    let report = dir.path().display().to_string();
    let again = [&FEW[..], &["--report", &report]].concat();
    assert_verdict(&fuzz(&again), "ok", "Report ");
    let before = std::fs::read(dir.path().join("report.json")).expect("a report");
    assert_no_run(&fuzz(&again), "report.html exists already");
    let after = std::fs::read(dir.path().join("report.json")).expect("a report");
    assert_eq!(before, after);
    let wanted = [&again[..], &["--overwrite"]].concat();
    assert_verdict(&fuzz(&wanted), "ok", "Report ");
}
