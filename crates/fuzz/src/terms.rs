//! How a run is named, by the command line and by a node's RPC alike.

use std::time::{SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use handfast_wire::Network;

use crate::{Plan, Scenario, Share};

/// Plays all scenarios by their weights.
pub const MIX: &str = "mix";

/// Whether anybody can make blocks of this network, at next to no cost: regtest, and signets
/// whose challenge everybody meets. A block without the signature that others want would only
/// show that the target does not follow what is not valid.
#[must_use]
pub fn is_minable(network: &Network) -> bool {
    match network {
        Network::Regtest => true,
        Network::CustomSignet { .. } => !network.signet_needs_a_signature(),
        Network::Mainnet | Network::Testnet3 | Network::Testnet4 | Network::Signet => false,
    }
}

/// The time that connections of a run claim, Unix seconds.
#[must_use]
pub fn unix_time() -> u32 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH);
    now.map_or(0, |now| u32::try_from(now.as_secs()).unwrap_or(u32::MAX))
}

/// The scenarios of these names. `rpc`: whether there is one to be called.
///
/// # Errors
/// A name of none, and one that needs an RPC where there is none.
pub fn shares(names: &[String], rpc: bool) -> Result<Vec<Share>, String> {
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

/// The request of a call, as plain as can be. `login`: a header line, or nothing.
#[must_use]
pub fn call(login: &str) -> Bytes {
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
