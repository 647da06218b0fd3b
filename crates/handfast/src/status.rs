//! `handfast status`: a summary of the running node.

mod sources;

use std::process::ExitCode;

use handfast_api::code::IN_WARMUP;
use handfast_cli::output::print;
use handfast_cli::usage::Options;
use handfast_cli::{NodeLocation, add_config_file, location_to_call};
use handfast_proto::text::count as plural;
use serde_json::{Value, json};

use crate::client;
use crate::text::{bitcoin_date, duration};
use bitcoin::hex::FromHex;
use handfast_wire::Network;

/// The calls, in one batch.
const METHODS: [&str; 6] = [
    "getblockchaininfo",
    "getnetworkinfo",
    "getpeerinfo",
    "getsyncstate",
    "getmininginfo",
    "uptime",
];

/// Calls the node and prints a summary.
pub(crate) fn show(mut options: Options) -> Result<ExitCode, String> {
    add_config_file(&mut options.layers, options.config.as_deref())
        .map_err(|error| error.to_string())?;
    let place = location_to_call(&options.layers).map_err(|error| error.to_string())?;
    let request: Value = METHODS
        .iter()
        .enumerate()
        .map(|(id, method)| json!({ "jsonrpc": "2.0", "id": id, "method": method }))
        .collect();
    let answer = client::block_on(client::post(
        &place,
        client::Timeouts::default(),
        request.to_string(),
    ))?
    .map_err(|error| error.to_string())?;
    let answers: Vec<Value> = serde_json::from_slice(&answer.body)
        .map_err(|error| answer.foreign(&format!("no list of answers ({error})")))?;
    let [chain, network, peers, sync, mining, uptime] = answers.as_slice() else {
        return Err(answer.foreign(&format!(
            "{} answers to {} calls",
            answers.len(),
            METHODS.len()
        )));
    };
    for answer in &answers {
        if let Some(error) = answer.get("error") {
            return refused(&place, error);
        }
    }
    print(&summary(
        &place,
        &chain["result"],
        &network["result"],
        &sources::lines(&sync["result"], &peers["result"], unix_now()),
        &sync["result"],
        &mining["result"]["handfast"],
        &uptime["result"],
    ));
    Ok(ExitCode::SUCCESS)
}

fn refused(place: &NodeLocation, error: &Value) -> Result<ExitCode, String> {
    let message = error["message"].as_str().unwrap_or_default();
    if error["code"].as_i64() == Some(i64::from(IN_WARMUP)) {
        print(&format!(
            "The {} node is starting: {message}\n",
            place.network.name()
        ));
        return Ok(ExitCode::SUCCESS);
    }
    Err(format!("the node does not answer: {message}"))
}

fn summary(
    place: &NodeLocation,
    chain: &Value,
    network: &Value,
    sources: &[String],
    sync: &Value,
    mining: &Value,
    uptime: &Value,
) -> String {
    let number = |value: &Value| value.as_i64().unwrap_or_default();
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let date = bitcoin_date(u32::try_from(number(&chain["time"])).unwrap_or_default());
    let progress = chain["verificationprogress"].as_f64().unwrap_or_default() * 100.0;
    let mut lines = vec![
        format!("Network   {}", network_line(place, chain)),
        format!("Headers   {}", number(&chain["headers"])),
        format!(
            "Blocks    {} ({progress:.2} % validated, last one of {date})",
            number(&chain["blocks"])
        ),
        format!("Best      {}", text(&chain["bestblockhash"])),
        format!(
            "Peers     {} ({} in, {} out)",
            number(&network["connections"]),
            number(&network["connections_in"]),
            number(&network["connections_out"])
        ),
        format!("Sync      {}: {}", text(&sync["phase"]), text(&sync["why"])),
    ];
    lines.extend_from_slice(sources);
    lines.push(format!("Mining    {}", mined(mining)));
    lines.push(format!(
        "Uptime    {}",
        duration(number(uptime).unsigned_abs())
    ));
    let warnings = chain["warnings"].as_array().into_iter().flatten();
    lines.extend(warnings.map(|warning| format!("Warning   {}", text(warning))));
    lines.join("\n") + "\n"
}

/// The network and its directory; or, if the node is of another network, what it answers: a
/// socket or an address may belong to a node of any network.
fn network_line(place: &NodeLocation, chain: &Value) -> String {
    let meant = handfast_cli::chosen_by(&place.network);
    let name = chain["chain"].as_str().unwrap_or_default();
    let found = name.parse().ok().map(|found| {
        let challenge = chain["signet_challenge"].as_str();
        let challenge = challenge.and_then(|hex| Vec::<u8>::from_hex(hex).ok());
        match challenge.filter(|it| Network::Signet.signet_challenge() != Some(it.as_slice())) {
            Some(challenge) => Network::CustomSignet { challenge },
            None => found,
        }
    });
    match found {
        Some(found) if found != place.network => {
            let found = handfast_cli::chosen_by(&found);
            match place.hints.network {
                true => format!("{found}, not {meant} as requested"),
                false => found,
            }
        }
        _ => format!("{} ({})", place.network.name(), place.network_dir.display()),
    }
}

fn unix_now() -> u64 {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    now.map_or(0, |now| now.as_secs())
}

/// The state of the miner, and its results.
fn mined(mining: &Value) -> String {
    let count = |name: &str| mining[name].as_u64().unwrap_or_default();
    let why = mining["why"].as_str().unwrap_or_default();
    let mut text = match mining["mining"].as_bool() {
        Some(true) => format!("{why}, {}", plural(count("threads"), "thread")),
        _ => why.strip_prefix("mining is ").unwrap_or(why).to_owned(),
    };
    let rate = mining["hashespersecond"].as_f64().unwrap_or_default();
    if rate >= 1.0 {
        text += &format!(", {}", hash_rate(rate));
    }
    if count("found") + count("generated") + count("stale") > 0 {
        text += &format!(
            "; {} found, {} made on demand, {} stale",
            count("found"),
            count("generated"),
            count("stale")
        );
    }
    if let Some(expected) = mining["expected"].as_f64() {
        text += &format!("; next in about {}", duration(expected.ceil() as u64));
    }
    text
}

/// `33.1 MH/s`.
fn hash_rate(per_second: f64) -> String {
    let units = [(1e9, "GH/s"), (1e6, "MH/s"), (1e3, "kH/s")];
    match units.into_iter().find(|(unit, _)| per_second >= *unit) {
        Some((unit, name)) => format!("{:.1} {name}", per_second / unit),
        None => format!("{per_second:.0} H/s"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_node_of_another_network_than_requested_is_shown_as_what_it_is() {
        let place = |network: Network, named: bool| NodeLocation {
            network,
            network_dir: "/d/signet".into(),
            rpc_listen: vec![],
            rpc_socket: "/elsewhere".into(),
            cookie: "/d/signet/.cookie".into(),
            hints: handfast_cli::Hints {
                network: named,
                datadir: None,
            },
        };
        let own = json!({ "chain": "signet", "signet_challenge": "51" });
        for (network, named, chain, line) in [
            (
                Network::Signet,
                true,
                json!({ "chain": "regtest" }),
                "regtest, not signet as requested",
            ),
            (
                Network::Mainnet,
                false,
                json!({ "chain": "regtest" }),
                "regtest",
            ),
            (
                Network::Signet,
                true,
                own.clone(),
                "signet --signet-challenge 51, not signet as requested",
            ),
            (
                Network::Mainnet,
                true,
                json!({ "chain": "main" }),
                "mainnet (/d/signet)",
            ),
        ] {
            assert_eq!(network_line(&place(network, named), &chain), line);
        }
        let challenge = vec![0x51];
        let same = place(Network::CustomSignet { challenge }, true);
        assert_eq!(network_line(&same, &own), "signet (/d/signet)");
    }

    #[test]
    fn a_miner_is_shown_with_its_state_and_results() {
        let off = json!({ "mining": false, "why": "mining is off", "found": 0, "expected": null });
        assert_eq!(mined(&off), "off");
        let on = json!({
            "mining": true, "why": "searching for a block", "threads": 2,
            "hashespersecond": 33_100_000.5, "found": 7, "generated": 101, "stale": 1,
            "expected": 129.2,
        });
        assert_eq!(
            mined(&on),
            "searching for a block, 2 threads, 33.1 MH/s; 7 found, 101 made on demand, 1 stale; next in about 2m 10s"
        );
        let dead = json!({ "mining": false, "why": "the miner died (it panicked); restart the node to mine again" });
        assert!(mined(&dead).starts_with("the miner died"));
    }
}
