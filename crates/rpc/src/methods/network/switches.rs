//! Added nodes, traffic in all, the network on and off.

use std::rc::Rc;
use std::time::{SystemTime, UNIX_EPOCH};

use handfast_api::methods::network as specs;
use handfast_node::{AddedNode, DialFailure};
use serde_json::{Value, json};

use super::super::{Call, Method};
use crate::jsonrpc::{Error, code};

pub(super) const GETADDEDNODEINFO: Method = Method {
    spec: &specs::GETADDEDNODEINFO,
    run: |call| Box::pin(getaddednodeinfo(call)),
};

pub(super) const GETNETTOTALS: Method = Method {
    spec: &specs::GETNETTOTALS,
    run: |call| Box::pin(getnettotals(call)),
};

pub(super) const PING: Method = Method {
    spec: &specs::PING,
    run: |call| {
        Box::pin(async move {
            call.node.ping().await?;
            Ok(Value::Null)
        })
    },
};

pub(super) const SETNETWORKACTIVE: Method = Method {
    spec: &specs::SETNETWORKACTIVE,
    run: |call| Box::pin(setnetworkactive(call)),
};

async fn getaddednodeinfo(call: Rc<Call>) -> Result<Value, Error> {
    let mut nodes = call.node.added_nodes().await?;
    if let Some(name) = call.text(0) {
        nodes.retain(|node| node.name == name);
        if nodes.is_empty() {
            let message = "Error: Node has not been added.";
            return Err(Error::new(code::CLIENT_NODE_NOT_ADDED, message));
        }
    }
    Ok(nodes.iter().map(added_node).collect())
}

fn added_node(node: &AddedNode) -> Value {
    let address = node.connected.map(|(_, remote, direction)| {
        let opened = match direction.is_outgoing() {
            true => "outbound",
            false => "inbound",
        };
        json!({ "address": remote.to_string(), "connected": opened })
    });
    let mut row = json!({
        "addednode": node.name,
        "connected": node.connected.is_some(),
        "addresses": address.into_iter().collect::<Value>(),
    });
    if let Some(DialFailure { error, at, count }) = &node.failure {
        row["handfast"] = json!({ "error": error, "failures": count, "failed_at": at });
    }
    row
}

async fn getnettotals(call: Rc<Call>) -> Result<Value, Error> {
    let totals = call.node.network_info().totals;
    let now = SystemTime::now().duration_since(UNIX_EPOCH);
    let milliseconds = now.map_or(0, |now| now.as_millis());
    Ok(json!({
        "totalbytesrecv": totals.received,
        "totalbytessent": totals.sent,
        "timemillis": u64::try_from(milliseconds).unwrap_or(u64::MAX),
        "uploadtarget": {
            "timeframe": 86_400,
            "target": 0,
            "target_reached": false,
            "serve_historical_blocks": true,
            "bytes_left_in_cycle": 0,
            "time_left_in_cycle": 0,
        },
    }))
}

async fn setnetworkactive(call: Rc<Call>) -> Result<Value, Error> {
    let active = call.flag(0).unwrap_or(true);
    call.node.set_network_active(active).await?;
    Ok(call.node.network_info().active.into())
}

#[cfg(test)]
mod tests {
    use handfast_node::{ConnId, Direction};

    use super::*;

    #[test]
    fn an_added_node_shows_its_connection_while_there_is_one() {
        let mut node = AddedNode {
            name: "example.org".into(),
            connected: None,
            failure: None,
        };
        let alone = json!({ "addednode": "example.org", "connected": false, "addresses": [] });
        assert_eq!(added_node(&node), alone);
        node.failure = Some(DialFailure {
            error: "connection refused".into(),
            at: 1_700_000_000,
            count: 3,
        });
        let failed =
            json!({ "error": "connection refused", "failures": 3, "failed_at": 1_700_000_000 });
        assert_eq!(added_node(&node)["handfast"], failed);
        node.failure = None;
        let remote = "192.0.2.7:8333".parse().expect("an address");
        for (direction, opened) in [
            (Direction::Outbound, "outbound"),
            (Direction::Manual, "outbound"),
            (Direction::Inbound, "inbound"),
        ] {
            node.connected = Some((ConnId(3), remote, direction));
            assert_eq!(
                added_node(&node).to_string(),
                format!(
                    "{{\"addednode\":\"example.org\",\"connected\":true,\
                     \"addresses\":[{{\"address\":\"192.0.2.7:8333\",\"connected\":\"{opened}\"}}]}}"
                )
            );
        }
    }
}
