//! The fuzzer finds what it is for, and finds nothing where there is nothing.

use std::path::Path;
use std::process::Command;
use std::sync::atomic::AtomicBool;
use std::time::{Duration, Instant};

use handfast_fuzz::oracle::{GRACE, Verdict};
use handfast_fuzz::plan::Limit;
use handfast_fuzz::run::{Outcome, Run};
use handfast_fuzz::shrink::shrink;
use handfast_fuzz::trace::{ReplayEntry, Trace};
use handfast_fuzz::writer::PeerParams;
use handfast_fuzz::{Endpoints, Plan, Scenario, Share};
use handfast_tests::faulty::{Fault, FaultyNode};
use handfast_tests::process::Program;
use handfast_wire::Network;

/// How long an honest peer waits. Generous against what it takes on a busy machine, short
/// against the minute in which a fault is to be found.
const PATIENCE: Duration = Duration::from_secs(6);

fn run(fault: Fault, scenario: Scenario, cycles: u64) -> Outcome {
    run_with(fault, scenario, cycles, PATIENCE, 50, vec![])
}

fn run_with(
    fault: Fault,
    scenario: Scenario,
    cycles: u64,
    answer_timeout: Duration,
    concurrency: usize,
    entries: Vec<ReplayEntry>,
) -> Outcome {
    let program = Path::new(env!("CARGO_BIN_EXE_faulty-node"));
    let node = FaultyNode::start(program, fault);
    let target = node.address();
    let run = Run {
        plan: Plan {
            seed: 20_240_817,
            shares: vec![Share {
                scenario,
                weight: 1,
            }],
            concurrency,
            limit: Limit {
                cycles,
                duration: Duration::from_secs(30),
            },
            rate: None,
            answer_timeout,
        },
        params: PeerParams::new(&Network::Regtest, 1_700_000_000),
        target,
        endpoints: Endpoints {
            p2p: target.into(),
            rpc: None,
        },
        sources: None,
        honest_peers_from: None,
        mines: true,
        introspection: None,
        answer_timeout,
        network: Network::Regtest,
        entries,
        records: true,
    };
    let outcome = run.execute(&AtomicBool::new(false), |_| {});
    let outcome = outcome.expect("it is well to begin with");
    println!("{fault:?}: {:?}", outcome.judgement);
    outcome
}

#[test]
fn a_node_without_a_fault_is_found_well() {
    for scenario in [Scenario::HandshakeDrop, Scenario::Burst, Scenario::Reset] {
        let outcome = run(Fault::None, scenario, 1_000);
        assert_eq!(outcome.judgement.verdict, Verdict::Ok, "{scenario}");
        assert_eq!(outcome.seen.counters.total().failed(), 0, "{scenario}");
    }
}

#[test]
fn an_end_that_overtakes_its_beginning_is_found_as_stuck_sync() {
    let outcome = run(Fault::AddDoneRace, Scenario::HandshakeDrop, 3_000);
    assert_eq!(outcome.judgement.verdict, Verdict::StuckSync);
}

#[test]
fn a_run_that_finds_it_is_shrunk_to_under_twenty_connections_that_still_do() {
    // A block is followed within milliseconds, or never: a shorter timeout makes no mistakes
    // here, since whatever comes out of it is run once more with all of it.
    let hasty = Duration::from_millis(1_500);
    let stuck = |entries: &[ReplayEntry], answer_timeout: Duration| {
        let entries = entries.to_vec();
        let outcome = run_with(
            Fault::AddDoneRace,
            Scenario::HandshakeDrop,
            0,
            answer_timeout,
            50,
            entries,
        );
        outcome.judgement.verdict == Verdict::StuckSync
    };
    let outcome = run(Fault::AddDoneRace, Scenario::HandshakeDrop, 1_000);
    let trace = outcome.trace.expect("it was written down");
    let entries = trace.entries(Path::new("trace")).expect("known scenarios");
    // Whether a race is lost is a matter of luck: more than one try.
    let mut tries = 60;
    let shrunk = shrink(entries, |entries| {
        tries -= 1;
        (tries >= 0).then(|| (0..3).any(|_| stuck(entries, hasty)))
    });
    assert!(shrunk.len() < 20, "{} connections are left", shrunk.len());
    assert!((0..10).any(|_| stuck(&shrunk, PATIENCE)), "it still fails");
}

/// `sh` forks for a command that is not its last: what listens is no child of the tool, and
/// its socket may outlive the shell that is waited for.
#[test]
fn a_target_that_is_started_by_a_forking_shell_is_shrunk_run_by_run_as_many_as_were_allowed() {
    let program = Path::new(env!("CARGO_BIN_EXE_faulty-node"));
    let node = FaultyNode::start(program, Fault::LeakedDescriptors);
    let dir = tempfile::tempdir().expect("a directory");
    let (trace, shorter) = (dir.path().join("run.trace"), dir.path().join("short.trace"));
    let fuzz = |arguments: &[&str], files: [&Path; 2]| {
        let output = Command::new(Program::Handfast.path())
            .args([&["fuzz"], arguments, &["--patience", "1"]].concat())
            .arg(if arguments[0] == "run" {
                "--trace"
            } else {
                "--output"
            })
            .args(files.iter().filter(|file| !file.as_os_str().is_empty()))
            .output()
            .expect("the program starts");
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        (
            output.status.code(),
            text(&output.stdout),
            text(&output.stderr),
        )
    };
    let target = node.address().to_string();
    let line = "run --scenario reset --cycles 300 --target";
    let line: Vec<&str> = line.split(' ').chain([&target[..]]).collect();
    let (code, summary, _) = fuzz(&line, [&trace, Path::new("")]);
    assert_eq!(code, Some(1), "{summary}");
    drop(node);

    let port = target.rsplit(':').next().expect("a port");
    let start = format!("{} leaked-descriptors {port}; true", program.display());
    let line = ["shrink", "--tries", "6", "--start", &start];
    let (code, said, progress) = fuzz(&line, [&shorter, &trace]);
    assert_eq!(code, Some(0), "{said}{progress}");
    let runs = progress.lines().filter(|it| it.contains(" connections: "));
    let mut failed = runs.clone().filter(|it| !it.ends_with(": ok"));
    assert_eq!(runs.count(), 6, "{progress}");
    assert!(
        failed.clone().all(|it| it.ends_with(": ghost peers")),
        "{progress}"
    );
    let best = failed
        .next_back()
        .expect("the first one fails")
        .split(' ')
        .next();
    let best: usize = best.and_then(|it| it.parse().ok()).expect("a count");
    assert!(best < 300, "{progress}");
    let kept = Trace::load(&shorter).expect("it was written");
    assert_eq!(
        (kept.connections.len(), &kept.verdict[..]),
        (best, "ghost peers")
    );
}

#[test]
fn descriptors_that_are_never_closed_are_found_as_ghost_peers() {
    let outcome = run(Fault::LeakedDescriptors, Scenario::Reset, 300);
    assert_eq!(outcome.judgement.verdict, Verdict::GhostPeers);
    let evidence = &outcome.judgement.evidence;
    let descriptors = |text: &str| text.contains("open descriptors");
    assert!(
        evidence.iter().any(|one| descriptors(&one.text)),
        "{evidence:?}"
    );
}

#[test]
fn a_short_accept_queue_is_found_as_refusal() {
    let outcome = run(Fault::ShortQueue, Scenario::Burst, 200);
    assert_eq!(outcome.judgement.verdict, Verdict::Refuses);
}

#[test]
fn a_lost_listening_socket_is_found_as_refusal() {
    let outcome = run(Fault::OverwrittenListener, Scenario::HandshakeDrop, 300);
    assert_eq!(outcome.judgement.verdict, Verdict::Refuses);
    let evidence = &outcome.judgement.evidence;
    let unanswered = |text: &str| text.contains("after the run: connected, but no answer");
    assert!(
        evidence.iter().any(|one| unanswered(&one.text)),
        "{evidence:?}"
    );
}

#[test]
fn a_node_that_only_shakes_hands_refuses_and_is_waited_for_no_longer_than_was_wanted() {
    let program = Path::new(env!("CARGO_BIN_EXE_faulty-node"));
    let node = FaultyNode::start(program, Fault::OnlyShakesHands);
    let target = node.address().to_string();
    let begun = Instant::now();
    let output = Command::new(Program::Handfast.path())
        .args(["fuzz", "run", "--target", &target, "--seed", "1"])
        .args(["--scenario", "handshake-drop", "--duration", "6s"])
        .output()
        .expect("the program starts");
    let took = begun.elapsed();
    let summary = String::from_utf8_lossy(&output.stdout);
    assert_eq!(output.status.code(), Some(1), "{summary}");
    assert!(summary.starts_with("Verdict   refuses\n"), "{summary}");
    for when in ["before", "after"] {
        let line = format!(
            "refuses: an honest peer {when} the run completed the handshake, but its ping was not answered"
        );
        assert!(summary.contains(&line), "{summary}");
    }
    // The start of the program is not the run's.
    let bound = Duration::from_secs(6) + GRACE + Duration::from_secs(5);
    assert!(took < bound, "{took:?} for 6 s: {summary}");
}

/// What steers a target needs time for it: a few seconds, of which most are waited.
fn steered(fault: Fault, scenario: Scenario) -> Outcome {
    run(fault, scenario, 100)
}

#[test]
fn a_node_that_blames_a_hash_for_what_came_under_it_is_found_as_stuck_sync() {
    let outcome = steered(Fault::BlamesTheHash, Scenario::TamperedBlock);
    assert_eq!(outcome.judgement.verdict, Verdict::StuckSync);
}

#[test]
fn a_node_that_waits_for_one_peer_while_another_could_deliver_is_found_as_stuck_sync() {
    for scenario in [
        Scenario::WithheldBranch,
        Scenario::WithheldChain,
        Scenario::SlowBlock,
    ] {
        // Longer than what an honest block is waited for: peers that stay for seconds hold it
        // up one after the other.
        let outcome = run(Fault::AsksOnce, scenario, 300);
        assert_eq!(outcome.judgement.verdict, Verdict::StuckSync, "{scenario}");
    }
}

#[test]
fn a_node_that_keeps_what_every_connection_promises_is_found_by_its_memory() {
    let outcome = run_with(Fault::None, Scenario::HalfFrame, 300, PATIENCE, 150, vec![]);
    assert_eq!(outcome.judgement.verdict, Verdict::MemoryGrowth);
}

#[test]
fn a_node_that_is_not_steered_is_found_well() {
    for scenario in [
        Scenario::TamperedBlock,
        Scenario::StaleSource,
        Scenario::WithheldBranch,
        Scenario::NotFoundBranch,
        Scenario::WithheldChain,
        Scenario::SlowBlock,
    ] {
        let outcome = steered(Fault::None, scenario);
        assert_eq!(outcome.judgement.verdict, Verdict::Ok, "{scenario}");
    }
}

#[test]
fn a_run_that_steered_a_node_does_so_again_and_is_shrunk() {
    let scenario = Scenario::TamperedBlock;
    let again = |entries: &[ReplayEntry], answer_timeout: Duration| {
        let entries = entries.to_vec();
        let outcome = run_with(
            Fault::BlamesTheHash,
            scenario,
            0,
            answer_timeout,
            50,
            entries,
        );
        outcome.judgement.verdict == Verdict::StuckSync
    };
    let outcome = run(Fault::BlamesTheHash, scenario, 60);
    let trace = outcome.trace.expect("it was written down");
    let entries = trace.entries(Path::new("trace")).expect("known scenarios");
    assert!(
        again(&entries, PATIENCE),
        "the replay knows what was spoilt"
    );
    let hasty = Duration::from_millis(1_500);
    let mut tries = 5;
    let shrunk = shrink(entries, |entries| {
        tries -= 1;
        (tries >= 0).then(|| again(entries, hasty))
    });
    assert!(shrunk.len() <= 30, "{} connections are left", shrunk.len());
}
