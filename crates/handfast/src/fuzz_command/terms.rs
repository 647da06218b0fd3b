//! What a run is called by, whoever starts it: the command line, or a node by its RPC.

use std::collections::BTreeSet;
use std::time::{SystemTime, UNIX_EPOCH};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use handfast_fuzz::voice::PONG_ABOVE_VERSION;
use handfast_fuzz::{Plan, Scenario, Share};
use handfast_node::Network;
use handfast_node::files::read_text;
use socket2::SockAddr;

use crate::client::MAX_COOKIE;
use crate::settings::Place;

/// Plays all scenarios by their weights.
pub(super) const MIX: &str = "mix";

/// Whether anybody can make blocks of this network, at next to no cost: regtest, and signets
/// whose challenge everybody meets. A block without the signature that others want would only
/// show that the target does not follow what is not valid.
pub(crate) fn is_minable(network: &Network) -> bool {
    match network {
        Network::Regtest => true,
        Network::CustomSignet { .. } => !network.signet_needs_a_signature(),
        Network::Mainnet | Network::Testnet3 | Network::Testnet4 | Network::Signet => false,
    }
}

/// The time that connections of a run claim, Unix seconds.
pub(crate) fn unix_time() -> u32 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH);
    now.map_or(0, |now| u32::try_from(now.as_secs()).unwrap_or(u32::MAX))
}

/// The scenarios of these names. `rpc`: whether there is one to be called.
pub(crate) fn shares(names: &[String], rpc: bool) -> Result<Vec<Share>, String> {
    let mut shares: Vec<Share> = Vec::new();
    for name in names {
        if name == MIX {
            shares.extend(Plan::mix(rpc));
            continue;
        }
        let scenario: Scenario = name.parse().map_err(|error| format!("{error}"))?;
        if scenario == Scenario::RpcBurst && !rpc {
            return Err("rpc-burst needs an RPC: name it with --rpc or --rpc-socket".into());
        }
        shares.push(Share {
            scenario,
            weight: 1,
        });
    }
    Ok(shares)
}

/// Refuses scenarios that wait for what a peer of this version does not get.
pub(super) fn answered(
    version: i32,
    scenarios: impl IntoIterator<Item = Scenario>,
) -> Result<(), String> {
    if version > PONG_ABOVE_VERSION {
        return Ok(());
    }
    let waiting: BTreeSet<Scenario> = scenarios
        .into_iter()
        .filter(|scenario| scenario.waits_for_pong())
        .collect();
    let names: Vec<&str> = waiting.into_iter().map(Scenario::name).collect();
    match names.is_empty() {
        true => Ok(()),
        false => Err(format!(
            "a peer of protocol version {version} gets no pong (BIP31), for which {} wait; claim \
             --protocol-version {} or above, or play others",
            names.join(", "),
            PONG_ABOVE_VERSION + 1
        )),
    }
}

/// Where callers of the RPC connect, and what they send.
pub(crate) fn door(place: &Place) -> Result<(SockAddr, Bytes), String> {
    let (address, login) = match place.rpc_listen.first() {
        Some(address) => {
            let cookie = read_text(&place.cookie, MAX_COOKIE).map_err(|error| {
                format!("cannot read the cookie {}: {error}", place.cookie.display())
            })?;
            let login = STANDARD.encode(cookie.trim());
            (
                SockAddr::from(*address),
                format!("Authorization: Basic {login}\r\n"),
            )
        }
        None => {
            let path = &place.rpc_socket;
            let address = SockAddr::unix(path)
                .map_err(|error| format!("--rpc-socket {}: {error}", path.display()))?;
            (address, String::new())
        }
    };
    Ok((address, call(&login)))
}

/// The request of a call, as plain as can be. `login`: a header line, or nothing.
pub(crate) fn call(login: &str) -> Bytes {
    const BODY: &str = r#"{"id":1,"method":"getblockcount","params":[]}"#;
    let request = format!(
        "POST / HTTP/1.1\r\nHost: localhost\r\n{login}Content-Type: application/json\r\n\
         Content-Length: {}\r\n\r\n{BODY}",
        BODY.len()
    );
    request.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_are_made_only_where_nobody_s_signature_is_wanted() {
        let signet = |challenge: &[u8]| Network::CustomSignet {
            challenge: challenge.to_vec(),
        };
        assert!(is_minable(&Network::Regtest));
        assert!(is_minable(&signet(&[0x51])));
        assert!(!is_minable(&signet(&[0x51, 0xac])));
        assert!(!is_minable(&Network::Signet));
        assert!(!is_minable(&Network::Testnet4));
    }
}
