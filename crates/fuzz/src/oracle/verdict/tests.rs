use super::*;
use crate::scenario::{Scenario, Wrong};

fn well(at: u64) -> Health {
    Health {
        at: Duration::from_secs(at),
        handshake: Ok(Duration::from_millis(2)),
        answers: Answers {
            pong: Some(Ok(Duration::from_millis(1))),
            headers: Some(Ok(Served {
                headers: 7,
                claimed: 7,
            })),
        },
        block: Some(Ok(Followed::After(Duration::from_millis(30)))),
        rpc: Some(Ok(())),
        peers: Some(1),
        audit: Some(Ok(())),
        memory: Some(100 << 20),
        peak: Some(120 << 20),
        descriptors: Some(40),
        alive: Some(true),
    }
}

fn seen(after: Health) -> Observations {
    Observations {
        before: well(0),
        during: vec![well(5)],
        after,
        counters: counters(Scenario::Reset, 100, 100),
        gone: None,
        let_settle: true,
    }
}

fn counters(scenario: Scenario, begun: u64, ended: u64) -> Counters {
    let counts = ScenarioCounts {
        begun,
        ended,
        ..ScenarioCounts::default()
    };
    let mut counters = Counters::default();
    counters.scenarios.insert(scenario, counts);
    counters
}

fn verdict_of(change: impl FnOnce(&mut Health)) -> Verdict {
    let mut after = well(9);
    change(&mut after);
    let judgement = judge(&seen(after));
    assert_eq!(
        judgement.evidence.is_empty(),
        judgement.verdict == Verdict::Ok,
        "no verdict without evidence: {judgement:?}"
    );
    judgement.verdict
}

#[test]
fn each_problem_has_its_verdict() {
    let answer_timeout = Duration::from_secs(30);
    assert_eq!(verdict_of(|_| {}), Verdict::Ok);
    assert_eq!(
        verdict_of(|it| it.handshake = Ok(Duration::from_secs(3))),
        Verdict::Slow
    );
    assert_eq!(verdict_of(|it| it.peers = Some(2)), Verdict::GhostPeers);
    assert_eq!(
        verdict_of(|it| it.descriptors = Some(90)),
        Verdict::GhostPeers
    );
    assert_eq!(
        verdict_of(|it| it.memory = Some(300 << 20)),
        Verdict::GhostPeers
    );
    assert_eq!(
        verdict_of(|it| it.audit = Some(Err("L4 broken".into()))),
        Verdict::GhostPeers
    );
    let stuck = Followed::Not {
        waited: answer_timeout,
        fetched: false,
    };
    assert_eq!(
        verdict_of(|it| it.block = Some(Ok(stuck))),
        Verdict::StuckSync
    );
    assert_eq!(
        verdict_of(|it| it.block = Some(Err(HonestPeerError::Silent(answer_timeout)))),
        Verdict::StuckSync
    );
    assert_eq!(
        verdict_of(|it| it.handshake = Err(HonestPeerError::Silent(answer_timeout))),
        Verdict::Refuses
    );
    assert_eq!(
        verdict_of(|it| it.handshake = Err(HonestPeerError::Refused)),
        Verdict::Unreachable
    );
    let gone = |it: &mut Health| {
        it.handshake = Err(HonestPeerError::Refused);
        it.alive = Some(false);
    };
    assert_eq!(verdict_of(gone), Verdict::Crashed);
}

fn no_answer(later: bool) -> Option<Result<(), NoAnswer>> {
    let why = "nothing listens".to_owned();
    Some(Err(match later {
        true => NoAnswer::Later(why),
        false => NoAnswer::Not(why),
    }))
}

#[test]
fn an_rpc_that_stops_answering_is_a_refusal() {
    let dead = |it: &mut Health| (it.rpc, it.peers, it.audit) = (no_answer(false), None, None);
    assert_eq!(verdict_of(dead), Verdict::Refuses);
    let gone = |it: &mut Health| {
        dead(it);
        it.handshake = Err(HonestPeerError::Refused);
    };
    assert_eq!(verdict_of(gone), Verdict::Unreachable);

    let mut during = seen(well(9));
    during.during[0].rpc = no_answer(false);
    let judgement = judge(&during);
    assert_eq!(judgement.verdict, Verdict::Refuses);
    let text = "its RPC during the run: nothing listens";
    assert_eq!(judgement.evidence[0].text, text);

    // One that never answered was no part of the target.
    during.before.rpc = None;
    assert_eq!(judge(&during).verdict, Verdict::Ok);
}

#[test]
fn an_rpc_may_refuse_as_overloaded_only_during_the_run() {
    let mut during = seen(well(9));
    during.during[0].rpc = no_answer(true);
    assert_eq!(judge(&during).verdict, Verdict::Ok);
    assert_eq!(verdict_of(|it| it.rpc = no_answer(true)), Verdict::Refuses);
}

#[test]
fn an_audit_that_is_no_longer_answered_is_not_clean() {
    assert_eq!(verdict_of(|it| it.audit = None), Verdict::GhostPeers);
    let mut other = seen(well(9));
    (other.before.audit, other.after.audit) = (None, None);
    assert_eq!(judge(&other).verdict, Verdict::Ok, "a node that has none");
}

#[test]
fn a_failed_call_counts_unless_the_fault_is_ours_or_it_got_a_503_with_retry_after() {
    let with = |scenario, failure| {
        let mut seen = seen(well(9));
        let counts = seen.counters.scenarios.entry(scenario).or_default();
        (counts.begun, counts.ended) = (300, 300);
        counts.failures.insert(failure, 1);
        judge(&seen).verdict
    };
    for failure in [
        Failure::Refused,
        Failure::Reset(Stage::Ready),
        Failure::Closed(Stage::Ready),
        Failure::Wrong(Wrong::Status(500)),
        Failure::Wrong(Wrong::NoHttp),
        Failure::Unanswered(Stage::Ready),
    ] {
        let verdict = with(Scenario::RpcBurst, failure);
        assert_eq!(verdict, Verdict::Refuses, "{failure}");
    }
    for failure in [
        Failure::NoLocalPort,
        Failure::NoDescriptor,
        Failure::Wrong(Wrong::Later),
    ] {
        assert_eq!(with(Scenario::RpcBurst, failure), Verdict::Ok, "{failure}");
    }
    // A peer may be disconnected.
    let closed = Failure::Closed(Stage::Ready);
    assert_eq!(with(Scenario::Reset, closed), Verdict::Ok);
}

#[test]
fn a_run_with_hardly_any_connections_proves_nothing() {
    let verdict = |ended, failed| {
        let mut seen = seen(well(9));
        seen.counters = counters(Scenario::Reset, 600, ended);
        let counts = seen.counters.scenarios.values_mut().next().expect("one");
        counts.failures.insert(Failure::NoDescriptor, failed);
        let judgement = judge(&seen);
        assert!(!judgement.verdict.is_trouble());
        judgement.verdict
    };
    assert_eq!(verdict(600, 30), Verdict::Ok, "a small part");
    assert_eq!(verdict(600, 31), Verdict::Nothing);
    assert_eq!(verdict(0, 0), Verdict::Nothing);

    // What was seen all the same counts more.
    let mut seen = seen(well(9));
    seen.counters = counters(Scenario::Silent, 600, 0);
    seen.after.peers = Some(7);
    assert_eq!(judge(&seen).verdict, Verdict::GhostPeers);
}

#[test]
fn a_block_not_followed_before_the_run_either_is_reported_as_not_judged() {
    let stuck = Followed::Not {
        waited: Duration::from_secs(30),
        fetched: true,
    };
    let mut seen = seen(well(9));
    seen.before.block = Some(Ok(stuck.clone()));
    for health in &mut seen.during {
        health.block = Some(Ok(stuck.clone()));
    }
    seen.after.block = Some(Ok(stuck));
    let judgement = judge(&seen);
    assert_eq!(judgement.verdict, Verdict::Ok);
    let [only] = &judgement.evidence[..] else {
        panic!("it is said that nothing was judged: {judgement:?}");
    };
    let text = "was not judged: a new block before the run was fetched and not connected";
    assert!(only.text.contains(text), "{only:?}");

    // Where no block can be made, none is awaited.
    (seen.before.block, seen.after.block) = (None, None);
    seen.during[0].block = None;
    assert_eq!(judge(&seen).evidence, []);
}

#[test]
fn a_few_more_descriptors_and_some_more_memory_are_no_leak() {
    let verdict = verdict_of(|it| {
        it.descriptors = Some(40 + 4 + SPARE_DESCRIPTORS);
        it.memory = Some((100 << 20) + (25 << 20) + SPARE_MEMORY);
    });
    assert_eq!(verdict, Verdict::Ok);
}

#[test]
fn the_gravest_evidence_is_first_and_none_is_omitted() {
    let mut after = well(9);
    after.peers = Some(7);
    after.handshake = Err(HonestPeerError::Closed("during the handshake"));
    let judgement = judge(&seen(after));
    let verdicts: Vec<Verdict> = judgement.evidence.iter().map(|one| one.verdict).collect();
    assert_eq!(verdicts, [Verdict::Refuses, Verdict::GhostPeers]);
}

#[test]
fn a_target_that_answers_no_ping_after_the_handshake_refuses() {
    let mute = |it: &mut Health| {
        it.answers = Answers {
            pong: Some(Err(HonestPeerError::Silent(Duration::from_secs(3)))),
            headers: None,
        };
        it.block = Some(Err(HonestPeerError::Silent(Duration::from_secs(3))));
    };
    assert_eq!(verdict_of(mute), Verdict::Refuses);
    // Also when it never answered: `ok` would mean that it was checked.
    let mut seen = seen(well(9));
    for health in [&mut seen.before, &mut seen.during[0], &mut seen.after] {
        mute(health);
    }
    let judgement = judge(&seen);
    assert_eq!(judgement.verdict, Verdict::Refuses);
    let text =
        "an honest peer before the run completed the handshake, but its ping was not answered";
    assert!(
        judgement.evidence[0].text.starts_with(text),
        "{judgement:?}"
    );
}

#[test]
fn a_target_that_only_completes_handshakes_is_not_healthy() {
    let mut seen = seen(well(9));
    let deaf = |it: &mut Health| {
        // A peer of our version gets no pong.
        it.answers.pong = None;
        it.answers.headers = Some(Err(HonestPeerError::Silent(Duration::from_secs(3))));
        it.block = None;
    };
    for health in [&mut seen.before, &mut seen.during[0], &mut seen.after] {
        deaf(health);
    }
    let judgement = judge(&seen);
    assert_eq!(judgement.verdict, Verdict::Nothing, "{judgement:?}");
    let text = "it completed handshakes and did nothing else";
    assert_eq!(judgement.evidence[0].text, text);
    seen.after.answers.pong = Some(Ok(Duration::from_millis(1)));
    assert_eq!(judge(&seen).verdict, Verdict::Ok, "one answer is one");
}

#[test]
fn headers_not_served_before_the_run_either_are_reported_as_not_judged() {
    for headers in [
        Err(HonestPeerError::Silent(Duration::from_secs(3))),
        Ok(Served {
            headers: 0,
            claimed: 400,
        }),
    ] {
        let mut seen = seen(well(9));
        seen.before.answers.headers = Some(headers.clone());
        seen.after.answers.headers = Some(headers);
        let judgement = judge(&seen);
        assert_eq!(judgement.verdict, Verdict::Ok, "{judgement:?}");
        let text = "whether it serves headers was not judged";
        assert!(
            judgement.evidence[0].text.starts_with(text),
            "{judgement:?}"
        );
    }
    let unanswered = |it: &mut Health| {
        it.answers.headers = Some(Err(HonestPeerError::Closed(
            "before it answered getheaders",
        )));
    };
    assert_eq!(verdict_of(unanswered), Verdict::Refuses);
    let none = |it: &mut Health| {
        it.answers.headers = Some(Ok(Served {
            headers: 0,
            claimed: 7,
        }));
    };
    assert_eq!(verdict_of(none), Verdict::Refuses);
}

#[test]
fn slow_pings_and_memory_growth_are_found() {
    let slow = |it: &mut Health| it.answers.pong = Some(Ok(Duration::from_millis(600)));
    assert_eq!(verdict_of(slow), Verdict::Slow);
    let grown = |it: &mut Health| it.peak = Some(400 << 20);
    assert_eq!(verdict_of(grown), Verdict::MemoryGrowth);
    // What it once held before the run says nothing of the run.
    let mut seen = seen(well(9));
    (seen.before.peak, seen.after.peak) = (Some(900 << 20), Some(900 << 20));
    assert_eq!(judge(&seen).verdict, Verdict::Ok);
}

/// The only thing that is said, with a verdict that is no trouble.
#[track_caller]
fn assert_only_told(judgement: &Judgement, verdict: Verdict, part: &str) {
    assert_eq!(judgement.verdict, verdict, "{judgement:?}");
    let [only] = &judgement.evidence[..] else {
        panic!("one thing is to be said: {judgement:?}");
    };
    assert!(only.text.contains(part), "{part}: {only:?}");
}

#[test]
fn a_target_that_mines_faster_than_the_fuzzer_is_not_stuck_and_its_miner_is_reported() {
    let overtaken = || {
        Some(Ok(Followed::Overtaken {
            waited: Duration::from_secs(30),
            blocks: 57,
        }))
    };
    let mut seen = seen(well(9));
    seen.during[0].block = overtaken();
    assert_eq!(
        judge(&seen).evidence,
        [],
        "it was seen to follow afterwards"
    );
    seen.after.block = overtaken();
    let text = "a new block after the run came too late each time, as its own chain grew by 57 \
                blocks in 30.0 s; its miner is faster than the fuzzer's: stop it";
    assert_only_told(&judge(&seen), Verdict::Ok, text);
    seen.before.block = overtaken();
    assert_only_told(
        &judge(&seen),
        Verdict::Ok,
        "a new block before the run came",
    );

    // It follows during the run, and no more afterwards: that is judged, whatever was before.
    seen.during[0].block = Some(Ok(Followed::After(Duration::from_millis(30))));
    seen.after.block = Some(Ok(Followed::Not {
        waited: Duration::from_secs(30),
        fetched: false,
    }));
    assert_eq!(judge(&seen).verdict, Verdict::StuckSync);
}

#[test]
fn a_chain_whose_blocks_cost_too_much_work_is_reported() {
    let mut seen = seen(well(9));
    let unmade = Followed::Unmade {
        waited: Duration::from_secs(30),
    };
    for health in [&mut seen.before, &mut seen.during[0], &mut seen.after] {
        health.block = Some(Ok(unmade.clone()));
    }
    assert_only_told(&judge(&seen), Verdict::Ok, "cost too much work");
}

#[test]
fn what_a_signal_cut_off_is_reported_as_not_judged() {
    let mut unanswered = seen(well(9));
    unanswered.after.answers.pong = Some(Err(HonestPeerError::Ended));
    unanswered.after.block = Some(Err(HonestPeerError::Ended));
    let text = "ended before it was seen whether it answers pings, it follows a new block";
    assert_only_told(&judge(&unanswered), Verdict::Ok, text);

    let mut unserved = seen(well(9));
    unserved.after.answers.headers = Some(Err(HonestPeerError::Ended));
    unserved.after.rpc = Some(Err(NoAnswer::Ended));
    let text = "whether it serves headers, its RPC answers";
    assert_only_told(&judge(&unserved), Verdict::Ok, text);

    let mut absent = seen(well(9));
    absent.after.handshake = Err(HonestPeerError::Ended);
    absent.after.answers = Answers::default();
    absent.after.block = None;
    let text = "ended before an honest peer was answered";
    assert_only_told(&judge(&absent), Verdict::Nothing, text);

    // What was left of connections may have been on its way out.
    let mut unsettled = seen(well(9));
    unsettled.after.peers = Some(7);
    unsettled.after.audit = Some(Err("L4 broken".into()));
    unsettled.after.descriptors = Some(90);
    assert_eq!(judge(&unsettled).verdict, Verdict::GhostPeers);
    unsettled.let_settle = false;
    let text = "it releases ended connections";
    assert_only_told(&judge(&unsettled), Verdict::Ok, text);
}

#[test]
fn a_crash_is_reported_with_its_time_and_the_connections_until_then() {
    let mut seen = seen(well(9));
    seen.after.handshake = Err(HonestPeerError::Refused);
    seen.after.alive = Some(false);
    seen.gone = Some(Duration::from_millis(4_300));
    let judgement = judge(&seen);
    assert_eq!(judgement.verdict, Verdict::Crashed);
    let text = "its process was gone at 4.3 s, after 100 connections";
    assert_eq!(judgement.evidence[0].text, text);
    assert_eq!(judgement.evidence[1].verdict, Verdict::Unreachable);
    assert_eq!(judgement.evidence.len(), 2, "{judgement:?}");
}

#[test]
fn a_scenario_without_completed_connections_is_reported() {
    let mut seen = seen(well(9));
    let counts = ScenarioCounts {
        begun: 3,
        ..ScenarioCounts::default()
    };
    let scenarios = &mut seen.counters.scenarios;
    scenarios.insert(Scenario::NegotiateTimeout, counts);
    let text = "negotiate-timeout was not judged: none of its 3 connections completed";
    assert_only_told(&judge(&seen), Verdict::Ok, text);
    let counts = seen.counters.scenarios.get_mut(&Scenario::NegotiateTimeout);
    counts.expect("it is there").ended = 1;
    assert_eq!(judge(&seen).evidence, [], "one was played");
}
