use serde_json::Value;

use super::*;
use crate::engine::Tally;
use crate::oracle::{
    Evidence, Followed, Introduction, Judgement, Observations, Verdict, VisitError,
};

fn health(at: u64) -> Health {
    Health {
        at: Duration::from_secs(at),
        handshake: Ok(Duration::from_millis(2)),
        block: Some(Ok(Followed::After(Duration::from_millis(40)))),
        rpc: Some(Ok(())),
        peers: Some(3),
        audit: Some(Ok(())),
        memory: Some(50 << 20),
        descriptors: Some(40),
        alive: Some(true),
    }
}

fn outcome() -> Outcome {
    let mut after = health(9);
    after.handshake = Err(VisitError::Silent(Duration::from_secs(30)));
    Outcome {
        introduction: Introduction {
            user_agent: "/<script>alert('x')</script>:1.0/".into(),
            version: 70_016,
            height: 7,
        },
        seen: Observations {
            before: health(0),
            during: vec![health(5)],
            after,
            tally: Tally::default(),
        },
        judgement: Judgement {
            verdict: Verdict::Refuses,
            evidence: vec![Evidence {
                verdict: Verdict::Refuses,
                text: "an honest peer after the run: nothing & nobody".into(),
            }],
        },
        interrupted: true,
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
fn the_document_says_everything_that_was_seen() {
    let outcome = outcome();
    let document: Value = serde_json::from_str(&report(&outcome).json()).expect("JSON");
    assert_eq!(document["verdict"], "refuses");
    assert_eq!(document["evidence"][0]["verdict"], "refuses");
    assert_eq!(document["target"]["claimed_height"], 7);
    assert_eq!(document["run"]["seed"], 7);
    assert_eq!(document["interrupted"], true);
    let looks = document["looks"].as_array().expect("a list");
    assert_eq!(looks.len(), 3);
    assert_eq!(looks[0]["descriptors"], 40);
    assert_eq!(looks[2]["handshake_ms"], Value::Null);
    let error = looks[2]["handshake_error"].as_str().expect("why not");
    assert!(error.contains("no answer within 30 s"), "{error}");
}

#[test]
fn the_page_says_the_verdict_first_loads_nothing_and_runs_nothing_of_the_targets() {
    let outcome = outcome();
    let page = report(&outcome).html();
    let verdict = page
        .find("class=\"verdict bad\">refuses")
        .expect("the verdict");
    assert!(verdict < page.find("<h2>").expect("a heading"));
    for foreign in ["<script", "http://", "https://", "src=", "@import", "url("] {
        assert!(!page.contains(foreign), "{foreign}");
    }
    assert!(page.contains("&lt;script&gt;") && page.contains("nothing &amp; nobody"));
    assert!(page.contains("Memory of the target") && page.contains("<polyline"));
    assert!(page.contains("--seed 7"));
}
