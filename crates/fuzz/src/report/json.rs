//! The report as JSON.

use serde_json::{Value, json};

use super::{Report, TOOL, milliseconds, utc};
use crate::engine::ScenarioCounts;
use crate::oracle::{Followed, Health, HonestPeerError};
use crate::plan::MAX_SEED;

/// The format version. It grows when a member changes its meaning or is removed.
const FORMAT: u32 = 1;

pub(super) fn document(report: &Report<'_>) -> Value {
    let outcome = report.outcome;
    let counters = &outcome.seen.counters;
    let version_info = &outcome.version_info;
    let evidence: Vec<Value> = outcome
        .judgement
        .evidence
        .iter()
        .map(|one| json!({ "verdict": one.verdict.to_string(), "text": one.text }))
        .collect();
    let scenarios: serde_json::Map<String, Value> = counters
        .scenarios
        .iter()
        .map(|(scenario, counts)| (scenario.to_string(), of_counts(counts)))
        .collect();
    let percentile = |percent| milliseconds(counters.handshake_percentile(percent));
    let seconds: Vec<Value> = counters
        .seconds
        .iter()
        .map(|second| {
            json!({
                "ended": second.ended,
                "failed": second.failed,
                "handshakes": second.handshakes,
            })
        })
        .collect();
    let buckets: Vec<Value> = counters
        .handshake_buckets()
        .into_iter()
        .map(|(to, count)| json!({ "to": milliseconds(to), "count": count }))
        .collect();
    json!({
        "format": FORMAT,
        "made": { "at": utc(outcome.at), "by": TOOL },
        "verdict": outcome.judgement.verdict.to_string(),
        "evidence": evidence,
        "interrupted": outcome.interrupted,
        "target": {
            "address": report.target.to_string(),
            "network": report.network,
            "user_agent": version_info.user_agent,
            "protocol_version": version_info.version,
            "claimed_height": version_info.height,
        },
        "run": {
            "command": report.command,
            "scenarios": report.scenarios,
            "seed": seed(report.seed),
            "concurrency": report.concurrency,
            "seconds": counters.elapsed.as_secs_f64(),
            "connections_from": outcome.connections_from.as_secs_f64(),
            "cycles_per_second": counters.rate(),
        },
        "waits": {
            "connections_seconds": counters.waited().as_secs_f64(),
            "connections": counters
                .waited_for
                .iter()
                .map(|(scenario, count)| (scenario.to_string(), (*count).into()))
                .collect::<serde_json::Map<String, Value>>(),
            "settling_seconds": outcome.settling.took.as_secs_f64(),
            "settling": outcome.settling.waited_for,
        },
        "total": of_counts(&counters.total()),
        "handshake_ms": {
            "count": counters.handshakes(),
            "p50": percentile(50.0),
            "p90": percentile(90.0),
            "p99": percentile(99.0),
            "max": percentile(100.0),
            "buckets": buckets,
        },
        "scenarios": scenarios,
        "looks": report.looks().map(of_health).collect::<Vec<Value>>(),
        "by_second": seconds,
    })
}

/// A number; a seed from an older trace may exceed what programs read exactly, and is a text
/// then.
fn seed(seed: u64) -> Value {
    match seed <= MAX_SEED {
        true => seed.into(),
        false => seed.to_string().into(),
    }
}

fn of_counts(counts: &ScenarioCounts) -> Value {
    let failures: serde_json::Map<String, Value> = counts
        .failures
        .iter()
        .map(|(failure, count)| (failure.to_string(), (*count).into()))
        .collect();
    json!({
        "begun": counts.begun,
        "ended": counts.ended,
        "unfinished": counts.unfinished(),
        "ended_by_target": counts.ended_by_target,
        "failures": failures,
    })
}

fn of_health(health: &Health) -> Value {
    let handshake = health.handshake.as_ref();
    let block = match &health.block {
        None => Value::Null,
        Some(Ok(Followed::After(took))) => json!({ "followed_ms": milliseconds(*took) }),
        Some(Ok(Followed::Not { waited, fetched })) => {
            json!({ "not_followed_ms": milliseconds(*waited), "fetched": fetched })
        }
        Some(Ok(Followed::Overtaken { waited, blocks })) => {
            json!({ "overtaken_ms": milliseconds(*waited), "blocks": blocks })
        }
        Some(Ok(Followed::Unmade { waited })) => json!({ "unmade_ms": milliseconds(*waited) }),
        Some(Err(error)) => json!({ "error": error.to_string() }),
    };
    let ping = health.answers.pong.as_ref();
    let headers = health.answers.headers.as_ref();
    let error = |error: &HonestPeerError| error.to_string();
    json!({
        "seconds": health.at.as_secs_f64(),
        "handshake_ms": handshake.ok().map(|took| milliseconds(*took)),
        "handshake_error": handshake.err().map(ToString::to_string),
        "ping_ms": ping.and_then(|it| it.as_ref().ok()).map(|took| milliseconds(*took)),
        "ping_error": ping.and_then(|it| it.as_ref().err()).map(error),
        "headers": headers.and_then(|it| it.as_ref().ok()).map(|served| served.headers),
        "headers_error": headers.and_then(|it| it.as_ref().err()).map(error),
        "block": block,
        "rpc_error": health.rpc.as_ref().and_then(|rpc| rpc.as_ref().err()).map(ToString::to_string),
        "peers": health.peers,
        "audit": health.audit.as_ref().map(|audit| match audit {
            Ok(()) => "clean".to_owned(),
            Err(broken) => broken.clone(),
        }),
        "memory_bytes": health.memory,
        "peak_memory_bytes": health.peak,
        "descriptors": health.descriptors,
        "alive": health.alive,
    })
}
