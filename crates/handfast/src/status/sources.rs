//! The lines of `handfast status` about sync: the sync peer, the peers that deliver blocks, the
//! next deadline, and manual peers that cannot be reached.

use serde_json::Value;

use crate::text::duration;

/// How many peers with requested blocks are listed; the others are counted.
const NAMED: usize = 2;

/// From the answers to `getsyncstate` and `getpeerinfo`. `unix`: now, Unix seconds.
pub(super) fn lines(sync: &Value, peers: &Value, unix: u64) -> Vec<String> {
    let mut lines = vec![
        format!("Source    {}", source(sync, peers)),
        format!("Blocks by {}", block_sources(sync, peers, unix)),
    ];
    if let (Some(left), Some(what)) = (
        sync["next_deadline"].as_f64(),
        sync["next_deadline_for"].as_str(),
    ) {
        let left = duration(whole(left));
        lines.push(format!("Next      in {left}: {what}"));
    }
    let manual = sync["manual_peers"].as_array().into_iter().flatten();
    lines.extend(manual.filter_map(manual_peer));
    lines
}

/// Seconds, rounded up: a deadline is not shown as passed before it is.
fn whole(seconds: f64) -> u64 {
    seconds.max(0.0).ceil() as u64
}

/// The sync peer, since when, and why.
fn source(sync: &Value, peers: &Value) -> String {
    let source = &sync["source"];
    let Some(id) = source["peer"].as_u64() else {
        return "none".to_owned();
    };
    let since = duration(source["age"].as_f64().unwrap_or_default() as u64);
    let why = source["why"].as_str().unwrap_or_default();
    format!(
        "headers come from {} for {since}: {why}",
        peer(id, source["addr"].as_str(), peers)
    )
}

/// `peer 3 (192.0.2.7:8333 /Satoshi:29.0.0/)`.
fn peer(id: u64, addr: Option<&str>, peers: &Value) -> String {
    let row = peers.as_array().into_iter().flatten();
    let row = row.into_iter().find(|row| row["id"].as_u64() == Some(id));
    let text = |field: &str| row.and_then(|row| row[field].as_str());
    let parts = [addr.or(text("addr")), text("subver")];
    let parts: Vec<&str> = parts
        .into_iter()
        .flatten()
        .filter(|part| !part.is_empty())
        .collect();
    format!("peer {id} ({})", parts.join(" "))
}

/// The peers that blocks are requested from, or the one that delivered the last.
fn block_sources(sync: &Value, peers: &Value, unix: u64) -> String {
    let rows = sync["peers"].as_array().into_iter().flatten();
    let mut asked: Vec<(usize, u64, Option<&str>)> = rows
        .filter_map(|row| {
            let count = row["in_flight"].as_array()?.len();
            (count > 0).then_some((count, row["id"].as_u64()?, row["addr"].as_str()))
        })
        .collect();
    if asked.is_empty() {
        return last_block_source(peers, unix);
    }
    asked.sort_by_key(|(count, id, _)| (std::cmp::Reverse(*count), *id));
    let mut parts: Vec<String> = asked
        .iter()
        .take(NAMED)
        .map(|(count, id, addr)| {
            let who = peer(*id, *addr, peers);
            format!("{who}{}: {count} requested", connected(*id, peers, unix))
        })
        .collect();
    if let Some(more) = asked.len().checked_sub(NAMED).filter(|more| *more > 0) {
        parts.push(format!("{more} more"));
    }
    parts.join(", ")
}

/// How long a peer has been connected.
fn connected(id: u64, peers: &Value, unix: u64) -> String {
    let mut rows = peers.as_array().into_iter().flatten();
    let row = rows.find(|row| row["id"].as_u64() == Some(id));
    match row.and_then(|row| row["conntime"].as_u64()) {
        Some(since) => format!(", connected for {}", duration(unix.saturating_sub(since))),
        None => String::new(),
    }
}

fn last_block_source(peers: &Value, unix: u64) -> String {
    let rows = peers.as_array().into_iter().flatten();
    let last = rows
        .filter_map(|row| {
            let at = row["last_block"].as_u64().filter(|at| *at > 0)?;
            Some((at, row["id"].as_u64()?))
        })
        .max();
    match last {
        None => "no connected peer".to_owned(),
        Some((at, id)) => format!(
            "{}{}: the last one {} ago",
            peer(id, None, peers),
            connected(id, peers, unix),
            duration(unix.saturating_sub(at))
        ),
    }
}

/// A manual peer that is not connected, and why.
fn manual_peer(row: &Value) -> Option<String> {
    let error = row["error"].as_str()?;
    let next = match row["next_attempt"].as_f64() {
        Some(left) => format!("next attempt in {}", duration(whole(left))),
        None => "trying again".to_owned(),
    };
    Some(format!(
        "Manual    {}: {error}; {} failed, {next}",
        row["node"].as_str().unwrap_or_default(),
        row["failures"]
    ))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn peers() -> Value {
        json!([
            { "id": 3, "addr": "192.0.2.3:8333", "subver": "/Satoshi:29.0.0/", "last_block": 100 },
            { "id": 4, "addr": "192.0.2.4:8333", "subver": "", "last_block": 160, "conntime": 140 },
            { "id": 5, "addr": "192.0.2.5:8333", "subver": "/x/", "last_block": 0 },
        ])
    }

    #[test]
    fn sync_peers_are_shown_with_address_user_agent_and_connection_time() {
        let asked = |id: u64, count: usize| json!({ "id": id, "addr": format!("192.0.2.{id}:8333"), "in_flight": vec![7; count] });
        let sync = json!({
            "source": { "peer": 3, "addr": "192.0.2.3:8333", "age": 306.5, "why": "outbound" },
            "peers": [asked(3, 2), asked(4, 16), asked(5, 1)],
            "next_deadline": 57.2,
            "next_deadline_for": "peer 4 must have delivered a block",
        });
        assert_eq!(
            lines(&sync, &peers(), 200),
            [
                "Source    headers come from peer 3 (192.0.2.3:8333 /Satoshi:29.0.0/) for 5m 6s: outbound",
                "Blocks by peer 4 (192.0.2.4:8333), connected for 1m 0s: 16 requested, \
                 peer 3 (192.0.2.3:8333 /Satoshi:29.0.0/): 2 requested, 1 more",
                "Next      in 58s: peer 4 must have delivered a block",
            ]
        );
    }

    #[test]
    fn without_requests_the_peer_that_delivered_the_last_block_is_shown() {
        let sync = json!({ "source": null, "peers": [], "next_deadline": null });
        assert_eq!(
            lines(&sync, &peers(), 172),
            [
                "Source    none",
                "Blocks by peer 4 (192.0.2.4:8333), connected for 32s: the last one 12s ago"
            ]
        );
        assert_eq!(
            lines(&sync, &json!([]), 172).last().map(String::as_str),
            Some("Blocks by no connected peer")
        );
    }

    #[test]
    fn a_manual_peer_that_cannot_be_reached_is_shown_with_its_error() {
        let sync = json!({ "manual_peers": [
            { "node": "a:1", "error": null, "failures": 0, "next_attempt": null },
            { "node": "b:2", "error": "connection refused", "failures": 3, "next_attempt": 4.2 },
        ] });
        assert_eq!(
            lines(&sync, &json!([]), 0).last().map(String::as_str),
            Some("Manual    b:2: connection refused; 3 failed, next attempt in 5s")
        );
    }
}
