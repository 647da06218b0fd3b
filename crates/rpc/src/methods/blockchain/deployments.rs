//! `getdeploymentinfo`.

use std::rc::Rc;

use handfast_api::methods::blockchain as specs;
use handfast_node::{DeploymentState, DeploymentStatus, Entry, HeaderTree, Network, VersionBits};
use serde_json::{Map, Value, json};

use super::super::{Call, Method};
use super::{hash_argument, known};
use crate::jsonrpc::{Error, code};

pub(super) const GETDEPLOYMENTINFO: Method = Method {
    spec: &specs::GETDEPLOYMENTINFO,
    run: |call| Box::pin(getdeploymentinfo(call)),
};

async fn getdeploymentinfo(call: Rc<Call>) -> Result<Value, Error> {
    let view = call.node.view();
    let entry = match call.text(0) {
        Some(text) => known(&view.tree, &hash_argument(text, "blockhash")?)?,
        None => view.tree.tip(),
    };
    // Counts the signals of every period.
    let render = move || render(&view.tree, &view.network, &entry);
    let rendered = tokio::task::spawn_blocking(render).await;
    rendered.map_err(|_| Error::new(code::INTERNAL_ERROR, "looking at the headers failed"))
}

fn render(tree: &HeaderTree, network: &Network, entry: &Entry) -> Value {
    let mut deployments = Map::new();
    for buried in network.buried_deployments() {
        let shown = json!({
            "type": "buried",
            "active": entry.height + 1 >= buried.height,
            "height": buried.height,
        });
        deployments.insert(buried.name.to_owned(), shown);
    }
    if let Some(rules) = network.version_bits()
        && let Some(state) = tree.deployment_state(&entry.hash, &rules)
    {
        let shown = signalled(&state, &rules, entry.height);
        deployments.insert(rules.name.to_owned(), shown);
    }
    json!({
        "hash": entry.hash.to_string(),
        "height": entry.height,
        "script_flags": network.script_flags(&entry.hash, entry.height),
        "deployments": deployments,
    })
}

fn signalled(state: &DeploymentState, rules: &VersionBits, height: u32) -> Value {
    let watched = !state.signals.is_empty();
    let mut bip9 = Map::new();
    if watched {
        bip9.insert("bit".into(), rules.bit.into());
    }
    bip9.insert("start_time".into(), rules.start_time.into());
    bip9.insert("timeout".into(), rules.timeout.into());
    bip9.insert(
        "min_activation_height".into(),
        rules.min_activation_height.into(),
    );
    bip9.insert("status".into(), state.status.as_str().into());
    bip9.insert("since".into(), state.since.into());
    bip9.insert("status_next".into(), state.next.as_str().into());
    if watched {
        bip9.insert("statistics".into(), statistics(state, rules));
        let mark = |signals: &bool| if *signals { '#' } else { '-' };
        let marks: String = state.signals.iter().map(mark).collect();
        bip9.insert("signalling".into(), marks.into());
    }
    let mut object = Map::new();
    object.insert("type".into(), "bip9".into());
    if let Some(since) = state.active_since {
        object.insert("height".into(), since.into());
    }
    let active = state.active_since.is_some_and(|since| since <= height + 1);
    object.insert("active".into(), active.into());
    object.insert("bip9".into(), bip9.into());
    object.into()
}

fn statistics(state: &DeploymentState, rules: &VersionBits) -> Value {
    let elapsed = state.signals.len() as u32;
    let count = state.signals.iter().filter(|signals| **signals).count() as u32;
    let mut object = json!({ "period": rules.period, "elapsed": elapsed, "count": count });
    if state.status == DeploymentStatus::Started {
        object["threshold"] = rules.threshold.into();
        object["possible"] = (rules.period - rules.threshold >= elapsed - count).into();
    }
    object
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_buried_softfork_is_active_from_one_block_before_its_height() {
        let tree = HeaderTree::new(Network::Mainnet.genesis());
        let at = |height| {
            let entry = Entry {
                height,
                ..tree.tip()
            };
            render(&tree, &Network::Mainnet, &entry)["deployments"]["segwit"].clone()
        };
        let expected = json!({ "type": "buried", "active": false, "height": 481_824 });
        assert_eq!(at(481_822), expected);
        assert_eq!(at(481_823)["active"], true);
    }

    #[test]
    fn the_dummy_of_regtest_is_shown_as_core_shows_it() {
        let tree = HeaderTree::new(Network::Regtest.genesis());
        let rules = Network::Regtest.version_bits().expect("the dummy");
        let shown =
            render(&tree, &Network::Regtest, &tree.tip())["deployments"]["testdummy"].clone();
        assert_eq!(
            shown.to_string(),
            "{\"type\":\"bip9\",\"active\":false,\"bip9\":{\"start_time\":0,\
             \"timeout\":9223372036854775807,\"min_activation_height\":0,\"status\":\"defined\",\
             \"since\":0,\"status_next\":\"defined\"}}"
        );
        let state = DeploymentState {
            status: DeploymentStatus::Started,
            since: 144,
            next: DeploymentStatus::Started,
            active_since: None,
            signals: vec![true, false, true],
        };
        let bip9 = signalled(&state, &rules, 146)["bip9"].clone();
        assert_eq!(bip9["signalling"], "#-#");
        assert_eq!(bip9["bit"], 28);
        let statistics = json!({
            "period": 144, "threshold": 108, "elapsed": 3, "count": 2, "possible": true,
        });
        assert_eq!(bip9["statistics"], statistics);
    }
}
