//! Methods beyond Bitcoin Core's: the sync state, the audit of the tables, closed connections,
//! and manual peers.

use std::rc::Rc;

use handfast_api::methods::sync as specs;
use handfast_node::{Attempt, ConnId, Handled, HistoryRow, Now, Outlook, SyncState};
use serde_json::{Value, json};

use super::{Call, Method};
use crate::jsonrpc::Error;
use crate::render::number::{real, seconds};

/// A block by hash and height.
macro_rules! block {
    ($block:expr) => {
        json!({ "hash": $block.hash.to_string(), "height": $block.height })
    };
}

pub(super) const METHODS: &[Method] = &[
    Method {
        spec: &specs::AUDIT,
        run: |call| Box::pin(audit(call)),
    },
    super::listeners::GETLISTENERINFO,
    Method {
        spec: &specs::GETPEERHISTORY,
        run: |call| Box::pin(getpeerhistory(call)),
    },
    Method {
        spec: &specs::GETSYNCSTATE,
        run: |call| Box::pin(getsyncstate(call)),
    },
];

async fn audit(call: Rc<Call>) -> Result<Value, Error> {
    let audit = call.node.audit().await?;
    let ids =
        |ids: &std::collections::BTreeSet<ConnId>| ids.iter().map(|id| id.0).collect::<Value>();
    let handled = |handled: Handled| json!({ "adds": handled.adds, "dones": handled.dones });
    let lines = audit.invariants();
    let invariants = lines.iter().map(|line| {
        json!({
            "name": line.name,
            "says": line.says,
            "held": line.held,
            "judged_by": line.judged_by,
        })
    });
    let mut answer = json!({
        "agrees": audit.agrees(),
        "sockets": audit.sockets,
        "in_handshake": audit.in_handshake,
        "slots_taken": audit.slots_taken,
        "slots": {
            "total": audit.slots_total,
            "taken": audit.slots_taken,
            "home": audit.slots_total - audit.slots_taken,
        },
        "peer_table": ids(&audit.peer_table),
    });
    for of in &audit.subscribers {
        answer[format!("{}_table", of.role.name())] = ids(&of.peers);
    }
    answer["sync_peer"] = json!(audit.sync_peer.map(|id| id.0));
    answer["lifecycle"] = json!({
        "queued": audit.lifecycle.queued,
        "most": audit.lifecycle.most,
        "bound": audit.lifecycle.bound,
    });
    answer["handled"] = json!({ "peermanager": handled(audit.peer_manager) });
    for of in &audit.subscribers {
        answer["handled"][of.role.manager().to_lowercase()] = handled(of.handled);
    }
    answer["invariants"] = invariants.collect();
    Ok(answer)
}

async fn getpeerhistory(call: Rc<Call>) -> Result<Value, Error> {
    let history = call.node.peer_history().await?;
    Ok(history.iter().map(history_row).collect())
}

fn history_row(row: &HistoryRow) -> Value {
    json!({
        "id": row.id.0,
        "addr": row.remote.to_string(),
        "direction": row.direction.to_string(),
        "subver": row.user_agent,
        "reached": row.reached.to_string(),
        "reason": row.reason.to_string(),
        "connected": row.connected_at,
        "duration": seconds(row.lasted),
        "ended": row.ended_at,
    })
}

async fn getsyncstate(call: Rc<Call>) -> Result<Value, Error> {
    let mut state = state_to_json(&call.node.sync_state().await?);
    let (outlook, now) = call.node.outlook();
    // The same figure as that of getblockchaininfo.
    state["progress"] = real(call.node.verification_progress());
    state["manual_peers"] = manual_peers(&outlook, now);
    state["dns_seeds"] = dns_seeds(&outlook, now);
    Ok(state)
}

fn manual_peers(outlook: &Outlook, now: Now) -> Value {
    let row = |peer: &handfast_node::ManualPeer| {
        let (state, next, id) = match peer.attempt {
            Attempt::Waiting { until } => ("waiting", Some(until.saturating_sub(now.mono)), None),
            Attempt::LookingUp => ("looking up the name", None, None),
            Attempt::Connecting => ("connecting", None, None),
            Attempt::Connected(id) => ("connected", None, Some(id.0)),
        };
        let failure = peer.failure.as_ref();
        json!({
            "node": peer.name,
            "state": state,
            "peer": id,
            "next_attempt": next.map(seconds),
            "error": failure.map(|failure| &failure.error),
            "failures": failure.map_or(0, |failure| failure.count),
            "failed_at": failure.map(|failure| failure.at),
        })
    };
    outlook.manual.iter().map(row).collect()
}

fn dns_seeds(outlook: &Outlook, now: Now) -> Value {
    let again = outlook
        .seeds_again
        .map(|again| again.saturating_sub(now.mono));
    let rows = outlook.seeds.iter().map(|seed| {
        json!({
            "host": seed.host,
            "addresses": seed.answer.as_ref().and_then(|answer| answer.as_ref().ok()),
            "error": seed.answer.as_ref().and_then(|answer| answer.as_ref().err()),
        })
    });
    json!({
        "seeds": rows.collect::<Value>(),
        "next_attempt": again.map(seconds),
    })
}

fn state_to_json(state: &SyncState) -> Value {
    let source = state.source.as_ref().map(|source| {
        json!({
            "peer": source.id.0,
            "addr": source.remote.to_string(),
            "since": source.at,
            "age": seconds(source.since),
            "why": source.why,
        })
    });
    let changes = state.source_changes.iter().map(|change| {
        json!({
            "at": change.at,
            "from": change.from.map(|id| id.0),
            "to": change.to.map(|id| id.0),
            "reason": change.reason,
        })
    });
    let requests = state.requests.iter().map(|request| {
        json!({
            "peer": request.peer.0,
            "what": request.what.to_string(),
            "age": seconds(request.age),
        })
    });
    let peers = state.peers.iter().map(|peer| {
        json!({
            "id": peer.id.0,
            "addr": peer.remote.to_string(),
            "direction": peer.direction.to_string(),
            "best_known": peer.best_known.map(|block| block!(block)),
            "common": peer.common.map(|block| block!(block)),
            "in_flight": peer.in_flight,
            "oldest": peer.oldest.map(seconds),
            "eligible": peer.eligible,
            "why": peer.why,
            "presynced": peer.presynced,
        })
    });
    json!({
        "phase": state.phase.to_string(),
        "why": state.why,
        "initialblockdownload": state.initial_block_download,
        "progress": null,
        "missing": state.missing,
        "tip": block!(state.tip),
        "best_header": block!(state.best_header),
        "best_shown": state.best_shown.map(|block| block!(block)),
        "source": source,
        "requests": requests.collect::<Value>(),
        "next_deadline": state.next_deadline.as_ref().map(|next| seconds(next.left)),
        "next_deadline_for": state.next_deadline.as_ref().map(|next| &next.what),
        "window": { "start": state.window.start, "end": state.window.end },
        "stall_timeout": seconds(state.stall_timeout),
        "backlog": {
            "in_flight": state.backlog.in_flight,
            "with_kernel": state.backlog.with_kernel,
            "kernel_bytes": state.backlog.kernel_bytes,
            "expected_block": state.backlog.expected_block,
            "header_batches": state.backlog.header_batches,
        },
        "peers": peers.collect::<Value>(),
        "source_changes": changes.collect::<Value>(),
        "watchdog": {
            "checks": state.watchdog.checks,
            "fired": state.watchdog.fired,
            "sought_peers": state.watchdog.sought_peers,
            "last": state.watchdog.last.as_ref().map(|alarm| json!({
                "at": alarm.at,
                "reason": alarm.reason,
                "action": alarm.action,
            })),
        },
    })
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use bitcoin::p2p::ServiceFlags;
    use handfast_node::{Direction, DoneReason, HeaderTree, Network, Reached, VersionInfo};
    use handfast_proto::sync::{Input, SyncConfig, SyncManager};
    use handfast_proto::time::Now;

    use super::*;

    fn version_info(id: u64, direction: Direction, services: ServiceFlags, at: Now) -> VersionInfo {
        VersionInfo {
            id: ConnId(id),
            direction,
            remote: format!("192.0.2.{id}:8333").parse().expect("an address"),
            version: 70_016,
            services,
            user_agent: "/x/".into(),
            claimed_height: Some(1_000_000),
            relay: true,
            wants_addrv2: true,
            wtxid_relay: true,
            connected_at: at,
            time_offset: 0,
            sees_us_at: None,
            handshake: Duration::ZERO,
        }
    }

    #[test]
    fn the_sync_state_shows_the_source_the_requests_and_the_next_deadline() {
        let tree = HeaderTree::new(Network::Regtest.genesis());
        let mut machine = SyncManager::new(SyncConfig::new(&Network::Regtest, None, 1), tree);
        let start = Now {
            mono: Duration::from_secs(100),
            unix: 1_700_000_000,
        };
        let full = ServiceFlags::NETWORK | ServiceFlags::WITNESS;
        for (id, services) in [(3, full), (4, ServiceFlags::NONE)] {
            let peer = version_info(id, Direction::Outbound, services, start);
            machine.step(start, Input::Added(peer));
        }
        let state = state_to_json(&machine.state(start.after(Duration::from_millis(1_250))));
        let source = state["source"].to_string();
        let why = "outbound peer; first peer with headers";
        let expected = json!({
            "peer": 3, "addr": "192.0.2.3:8333", "since": 1_700_000_000, "age": 1.25, "why": why,
        });
        assert_eq!(source, expected.to_string());
        assert_eq!(state["phase"], "syncing headers");
        assert_eq!(
            state["why"],
            "waiting for headers from peer 3, asked 1s ago"
        );
        let requests = json!([{ "peer": 3, "what": "headers", "age": 1.25 }]);
        assert_eq!(state["requests"].to_string(), requests.to_string());
        assert_eq!(state["next_deadline"].to_string(), "118.75");
        let then = "is disconnected, if another can be asked, unless it answers getheaders";
        assert_eq!(state["next_deadline_for"], format!("peer 3 {then}"));
        let peers = &state["peers"];
        assert_eq!(
            (&peers[0]["eligible"], &peers[0]["why"]),
            (&json!(true), &json!("the source"))
        );
        assert_eq!(peers[1]["addr"], "192.0.2.4:8333");
        assert_eq!(peers[1]["eligible"], false);
        assert_eq!(peers[1]["why"], "serves no blocks");
        let change = &state["source_changes"][0];
        assert_eq!(
            (&change["at"], &change["to"]),
            (&json!(1_700_000_000), &json!(3))
        );
        assert_eq!(change["from"], Value::Null);
        let watchdog = json!({ "checks": 0, "fired": 0, "sought_peers": 0, "last": null });
        assert_eq!(state["watchdog"], watchdog);
    }

    #[test]
    fn manual_peers_and_dns_seeds_show_their_errors_and_the_next_attempt() {
        let now = Now {
            mono: Duration::from_secs(100),
            unix: 1_700_000_000,
        };
        let until = Duration::from_secs(105);
        let failure = handfast_node::DialFailure {
            error: "connection refused".into(),
            at: 1_699_999_999,
            count: 2,
        };
        let outlook = Outlook {
            manual: vec![handfast_node::ManualPeer {
                name: "192.0.2.7".into(),
                attempt: Attempt::Waiting { until },
                failure: Some(failure),
            }],
            seeds: vec![handfast_node::SeedRow {
                host: "seed.example".into(),
                answer: Some(Err("no such name".into())),
            }],
            seeds_again: Some(Duration::from_secs(110)),
            ..Outlook::default()
        };
        let manual = json!([{
            "node": "192.0.2.7", "state": "waiting", "peer": null, "next_attempt": 5,
            "error": "connection refused", "failures": 2, "failed_at": 1_699_999_999,
        }]);
        assert_eq!(manual_peers(&outlook, now).to_string(), manual.to_string());
        let seeds = json!({
            "seeds": [{ "host": "seed.example", "addresses": null, "error": "no such name" }],
            "next_attempt": 10,
        });
        assert_eq!(dns_seeds(&outlook, now).to_string(), seeds.to_string());
    }

    #[test]
    fn the_sync_state_shows_what_the_watchdog_did_last() {
        let tree = HeaderTree::new(Network::Regtest.genesis());
        let mut machine = SyncManager::new(SyncConfig::new(&Network::Regtest, None, 1), tree);
        let mut now = Now {
            mono: Duration::ZERO,
            unix: 1_700_000_000,
        };
        let services = ServiceFlags::NETWORK | ServiceFlags::WITNESS;
        let silent = version_info(3, Direction::Inbound, services, now);
        machine.step(now, Input::Added(silent));
        while now.unix < 1_700_000_135 {
            now = now.after(Duration::from_secs(1));
            if machine.deadline().is_some_and(|due| due <= now.mono) {
                machine.step(now, Input::Tick);
            }
        }
        let watchdog = &state_to_json(&machine.state(now))["watchdog"];
        assert_eq!(
            (&watchdog["fired"], &watchdog["sought_peers"]),
            (&json!(0), &json!(1))
        );
        let last = json!({
            "at": 1_700_000_130,
            "reason": "no peer sent anything for 2m 10s",
            "action": "more peers wanted",
        });
        assert_eq!(watchdog["last"], last);
    }

    #[test]
    fn a_closed_connection_is_listed_with_address_duration_state_and_reason() {
        let row = HistoryRow {
            id: ConnId(7),
            remote: "192.0.2.7:8333".parse().expect("an address"),
            direction: Direction::Inbound,
            user_agent: None,
            reached: Reached::Version,
            reason: DoneReason::HandshakeTimeout,
            connected_at: 1_700_000_000,
            lasted: Duration::from_millis(20_500),
            ended_at: 1_700_000_020,
        };
        let shown = json!({
            "id": 7,
            "addr": "192.0.2.7:8333",
            "direction": "inbound",
            "subver": null,
            "reached": "version received",
            "reason": "the handshake was not completed in time",
            "connected": 1_700_000_000,
            "duration": 20.5,
            "ended": 1_700_000_020,
        });
        let row = history_row(&row);
        assert_eq!(row.as_object().map(|row| row.len()), Some(9));
        for (name, value) in shown.as_object().expect("an object") {
            assert_eq!(row[name].to_string(), value.to_string(), "{name}");
        }
    }
}
