//! The nodes' state: a table redrawn in place on a terminal, and a line per change elsewhere.

use std::fmt::Write as _;
use std::io::IsTerminal;

use handfast_cli::output::print;
use serde_json::Value;

use super::node::NAME;

/// The state of one node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Row {
    /// It does not answer.
    Silent,
    Live {
        height: u64,
        best: String,
        inbound: u64,
        outbound: u64,
        /// The sync peer.
        source: String,
        phase: String,
    },
}

impl Row {
    /// From the answers to `getblockchaininfo`, `getnetworkinfo`, `getsyncstate` and
    /// `getpeerinfo`.
    pub(super) fn of([chain, network, sync, peers]: &[Value; 4]) -> Self {
        let number = |value: &Value| value.as_u64().unwrap_or_default();
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let source = match &sync["source"]["peer"] {
            Value::Null => "none".to_owned(),
            id => name_of(id, peers).unwrap_or_else(|| format!("peer {id}")),
        };
        Self::Live {
            height: number(&chain["blocks"]),
            best: text(&chain["bestblockhash"]),
            inbound: number(&network["connections_in"]),
            outbound: number(&network["connections_out"]),
            source,
            phase: text(&sync["phase"]),
        }
    }
}

/// The name of this peer's node, from its user agent: `/Handfast:0.1.0(node2)/`.
fn name_of(id: &Value, peers: &Value) -> Option<String> {
    let peer = peers.as_array()?.iter().find(|peer| peer["id"] == *id)?;
    let (_, comment) = peer["subver"].as_str()?.split_once('(')?;
    let number = comment.strip_prefix(NAME)?.split_once(')')?.0;
    Some(format!("{NAME} {number}"))
}

/// Where rows are shown.
#[derive(Debug)]
pub(super) struct Table {
    terminal: bool,
    shown: Vec<Row>,
}

impl Table {
    /// On standard output.
    pub(super) fn new() -> Self {
        Self {
            terminal: std::io::stdout().is_terminal(),
            shown: vec![],
        }
    }

    /// Shows these rows instead of the last ones.
    pub(super) fn show(&mut self, rows: &[Row]) {
        let text = match self.terminal {
            true => in_place(rows, self.shown.len()),
            false => changes(rows, &self.shown),
        };
        print(&text);
        self.shown = rows.to_vec();
    }
}

/// The table, drawn over the previous one of `shown` rows.
fn in_place(rows: &[Row], shown: usize) -> String {
    let mut text = String::new();
    if shown > 0 {
        // Moves up, over the rows and the head.
        let _ = write!(text, "\x1b[{}A", shown + 1);
    }
    // Long lines are cut off instead of wrapped.
    text += "\x1b[?7l";
    let head = "Node  Height  Best block            Peers          Syncs from  Sync";
    for line in [head.to_owned()]
        .into_iter()
        .chain(numbered(rows).map(line))
    {
        text += "\r\x1b[K";
        text += line.trim_end();
        text += "\n";
    }
    text + "\x1b[?7h"
}

fn line((number, row): (usize, &Row)) -> String {
    match row {
        Row::Silent => format!("{number:4}  does not answer"),
        Row::Live {
            height,
            best,
            inbound,
            outbound,
            source,
            phase,
        } => format!(
            "{number:4}  {height:6}  {:20}  {:13}  {source:10}  {phase}",
            shortened(best),
            format!("{inbound} in, {outbound} out"),
        ),
    }
}

/// A line for each row that has changed.
fn changes(rows: &[Row], before: &[Row]) -> String {
    let mut text = String::new();
    for (number, row) in numbered(rows) {
        if before.get(number - 1) == Some(row) {
            continue;
        }
        let _ = match row {
            Row::Silent => writeln!(text, "node {number}: does not answer"),
            Row::Live {
                height,
                best,
                inbound,
                outbound,
                source,
                phase,
            } => writeln!(
                text,
                "node {number}: height {height}, best block {best}, peers {inbound} in {outbound} out, \
                 syncs from {source}, {phase}"
            ),
        };
    }
    text
}

fn numbered(rows: &[Row]) -> impl Iterator<Item = (usize, &Row)> {
    (1..).zip(rows)
}

/// The ends of a hash, which are enough to compare.
fn shortened(hash: &str) -> String {
    match (hash.get(..8), hash.get(hash.len().saturating_sub(8)..)) {
        (Some(first), Some(last)) if hash.len() > 17 => format!("{first}…{last}"),
        _ => hash.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn live(height: u64) -> Row {
        Row::Live {
            height,
            best: "0f9188f13cb7b2c71f2a335e3a4fc328bf5beb436012afca590b1a11466e2206".into(),
            inbound: 1,
            outbound: 0,
            source: "none".into(),
            phase: "synced".into(),
        }
    }

    #[test]
    fn the_sync_peer_is_shown_by_its_node_number() {
        let source = |id: Value| {
            let row = Row::of(&[
                json!({ "blocks": 7, "bestblockhash": "aa" }),
                json!({ "connections_in": 1, "connections_out": 2 }),
                json!({ "source": id, "phase": "synced" }),
                json!([
                    { "id": 0, "subver": "/Handfast:0.1.0(node3)/" },
                    { "id": 4, "subver": "/Satoshi:31.99.0/" },
                ]),
            ]);
            match row {
                Row::Live {
                    source,
                    height: 7,
                    inbound: 1,
                    outbound: 2,
                    ..
                } => source,
                other => panic!("{other:?}"),
            }
        };
        assert_eq!(source(json!({ "peer": 0 })), "node 3");
        assert_eq!(source(json!({ "peer": 4 })), "peer 4", "a foreign node");
        assert_eq!(source(Value::Null), "none");
    }

    #[test]
    fn without_a_terminal_only_changes_are_printed() {
        let before = [live(1), live(1), Row::Silent];
        let text = changes(&[live(1), live(2), Row::Silent], &before);
        assert!(
            text.starts_with("node 2: height 2, best block 0f91"),
            "{text}"
        );
        assert_eq!(text.lines().count(), 1);
        assert!(!text.contains('\x1b'));
        assert_eq!(
            changes(&before, &[]).lines().count(),
            3,
            "all is new at first"
        );
    }

    #[test]
    fn on_a_terminal_a_table_is_drawn_over_the_last_one() {
        let rows = [live(1), live(12_345), Row::Silent];
        let first = in_place(&rows, 0);
        assert!(!first.contains("\x1b[4A"));
        // A head and three rows lie between the cursor and the first line.
        let second = in_place(&rows, 3);
        assert_eq!(second, format!("\x1b[4A{first}"));
        assert_eq!(first.matches('\n').count(), 4);
        assert!(
            first.contains("   2   12345  0f9188f1…466e2206     1 in, 0 out    none"),
            "{first}"
        );
    }
}
