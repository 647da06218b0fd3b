use serde_json::Value;

use super::*;
use crate::engine::Counters;
use crate::oracle::{
    Answers, Evidence, Followed, HonestPeerError, Judgement, Observations, Served, Settling,
    Verdict, VersionInfo,
};
use crate::plan::{MAX_SEED, Plan};

fn health(at: u64) -> Health {
    Health {
        at: Duration::from_secs(at),
        handshake: Ok(Duration::from_millis(2)),
        answers: Answers {
            pong: Some(Ok(Duration::from_millis(3))),
            headers: Some(Ok(Served {
                headers: 12,
                claimed: 12,
            })),
        },
        block: Some(Ok(Followed::After(Duration::from_millis(40)))),
        rpc: Some(Ok(())),
        peers: Some(3),
        audit: Some(Ok(())),
        memory: Some(50 << 20),
        peak: Some(60 << 20),
        descriptors: Some(40),
        alive: Some(true),
    }
}

fn outcome() -> Outcome {
    let mut after = health(9);
    after.handshake = Err(HonestPeerError::Silent(Duration::from_secs(30)));
    Outcome {
        version_info: VersionInfo {
            user_agent: "/<script>alert('x')</script>:1.0/".into(),
            version: 70_016,
            height: 7,
        },
        seen: Observations {
            before: health(0),
            during: vec![health(5)],
            after,
            counters: Counters::default(),
            gone: None,
            let_settle: true,
        },
        judgement: Judgement {
            verdict: Verdict::Refuses,
            evidence: vec![Evidence {
                verdict: Verdict::Refuses,
                text: "an honest peer after the run: this & that".into(),
            }],
        },
        at: 1_709_210_096,
        connections_from: Duration::from_millis(2_500),
        interrupted: true,
        settling: Settling::default(),
        trace: None,
    }
}

fn report(outcome: &Outcome) -> Report<'_> {
    Report {
        outcome,
        target: "127.0.0.1:18444".parse().expect("an address"),
        network: "regtest",
        scenarios: "mix".into(),
        seed: 7,
        concurrency: 300,
        command: "handfast fuzz run --target 127.0.0.1:18444 --seed 7".into(),
    }
}

#[test]
fn the_document_has_everything_that_was_seen() {
    let outcome = outcome();
    let document: Value = serde_json::from_str(&report(&outcome).json()).expect("JSON");
    assert_eq!(document["verdict"], "refuses");
    assert_eq!(document["evidence"][0]["verdict"], "refuses");
    assert_eq!(document["target"]["claimed_height"], 7);
    assert_eq!(document["run"]["seed"], 7);
    assert_eq!(document["interrupted"], true);
    assert_eq!(document["made"]["at"], "2024-02-29T12:34:56Z");
    let by = document["made"]["by"].as_str().expect("what made it");
    assert!(by.starts_with("handfast "), "{by}");
    assert_eq!(document["run"]["connections_from"], 2.5);
    let looks = document["looks"].as_array().expect("a list");
    assert_eq!(looks.len(), 3);
    assert_eq!(looks[0]["descriptors"], 40);
    assert_eq!(
        (&looks[0]["ping_ms"], &looks[0]["headers"]),
        (&3.0.into(), &12.into())
    );
    assert_eq!(looks[0]["peak_memory_bytes"], 60 << 20);
    assert_eq!(looks[2]["handshake_ms"], Value::Null);
    let error = looks[2]["handshake_error"].as_str().expect("why not");
    assert!(error.contains("no answer within 30 s"), "{error}");
}

#[test]
fn a_seed_is_a_number_that_all_programs_read_alike_or_a_text() {
    let outcome = outcome();
    let of = |seed| {
        let report = Report {
            seed,
            ..report(&outcome)
        };
        let document: Value = serde_json::from_str(&report.json()).expect("JSON");
        document["run"]["seed"].clone()
    };
    assert_eq!(of(MAX_SEED), 9_007_199_254_740_991_u64);
    assert_eq!(of(MAX_SEED + 1), "9007199254740992");
    for _ in 0..1_000 {
        assert!(Plan::any_seed() <= MAX_SEED);
    }
}

#[test]
fn waits_at_the_end_are_reported_with_time_and_reason() {
    let mut outcome = outcome();
    let counters = &mut outcome.seen.counters;
    counters.elapsed = Duration::from_secs(70);
    counters.waits_from = Some(Duration::from_millis(11_500));
    counters.waited_for = [(Scenario::Silent, 2), (Scenario::NegotiateTimeout, 7)].into();
    outcome.settling = Settling {
        took: Duration::from_secs(4),
        waited_for: vec!["it counts 3 peers, 0 before".into()],
        was_cut: false,
    };
    let connections = "58.5 s for connections to end: 7 negotiate-timeout (until the handshake deadline), 2 silent";
    let settling = "4.0 s for the target to settle: it counts 3 peers, 0 before";
    assert_eq!(report(&outcome).waits(), [connections, settling]);
    let page = report(&outcome).html();
    assert!(page.contains(connections) && page.contains(settling));
    let document: Value = serde_json::from_str(&report(&outcome).json()).expect("JSON");
    assert_eq!(document["waits"]["connections_seconds"], 58.5);
    assert_eq!(document["waits"]["connections"]["negotiate-timeout"], 7);

    // Of all scenarios a few are named, one that takes long for a reason among them.
    let all = Scenario::ALL.into_iter().map(|scenario| (scenario, 2));
    let words = in_words(&all.collect());
    assert!(words.starts_with("2 negotiate-timeout (until"), "{words}");
    let rest = 2 * (Scenario::ALL.len() - 5);
    assert!(
        words.ends_with(&format!(", {rest} of other scenarios")),
        "{words}"
    );

    // Short waits are not reported.
    outcome.seen.counters.elapsed = Duration::from_secs(12);
    outcome.settling.took = Duration::from_millis(200);
    assert_eq!(report(&outcome).waits(), Vec::<String>::new());
}

#[test]
fn the_page_shows_the_verdict_first_and_loads_or_runs_nothing() {
    let outcome = outcome();
    let page = report(&outcome).html();
    let verdict = page
        .find("class=\"verdict bad\">refuses")
        .expect("the verdict");
    assert!(verdict < page.find("<h2>").expect("a heading"));
    for foreign in ["<script", "http://", "https://", "src=", "@import", "url("] {
        assert!(!page.contains(foreign), "{foreign}");
    }
    assert!(page.contains("&lt;script&gt;") && page.contains("this &amp; that"));
    assert!(page.contains("Memory of the target") && page.contains("<polyline"));
    assert!(page.contains("--seed 7"));
    assert!(page.contains("Begun 2024-02-29T12:34:56Z, by handfast "));
}

#[test]
fn connections_and_checks_share_a_time_axis_and_handshakes_have_a_histogram() {
    let mut outcome = outcome();
    let counters = &mut outcome.seen.counters;
    for _ in 0..8 {
        let short = Some(Duration::from_micros(700));
        counters.handshake_done(Duration::ZERO, Scenario::Reset, short);
    }
    let at = Duration::from_secs(1);
    counters.handshake_done(at, Scenario::Reset, Some(Duration::from_millis(90)));
    // Of one that is slow on purpose nothing is said.
    for slow in [Scenario::NegotiateTimeout, Scenario::SlowLoris] {
        counters.handshake_done(at, slow, Some(Duration::from_secs(60)));
    }
    let buckets = counters.handshake_buckets();
    let counted: Vec<u64> = buckets.iter().map(|it| it.1).filter(|it| *it > 0).collect();
    assert_eq!(counted, [8, 1]);
    let page = report(&outcome).html();
    assert!(page.contains("Handshakes by how long they took") && page.contains("<rect"));
    // Two seconds of connections, from 2.5 s on, and looks until 9 s would be one picture.
    let plot = page.split("aria-label=\"Connections per second\"").nth(1);
    let points = plot
        .and_then(|it| it.split("points=\"").nth(1))
        .expect("a line");
    let first = points.split(',').next().and_then(|x| x.parse().ok());
    let first: f64 = first.expect("a number");
    assert!(first > 400.0, "2.5 of 3.5 s is far to the right: {first}");
}

#[test]
fn the_first_second_and_the_last_day_of_february_have_their_dates() {
    assert_eq!(utc(0), "1970-01-01T00:00:00Z");
    assert_eq!(utc(951_827_696), "2000-02-29T12:34:56Z");
    assert_eq!(utc(4_107_542_399), "2100-02-28T23:59:59Z");
    assert_eq!(utc(4_107_542_400), "2100-03-01T00:00:00Z");
}
