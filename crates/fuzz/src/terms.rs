//! Scenario names and requests shared by the command line and a node's RPC.

use std::time::{SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use handfast_wire::Network;

use crate::{Plan, Scenario, Share};

/// Selects all scenarios by their weights.
pub const MIX: &str = "mix";

/// Whether blocks of this network can be made by anyone at almost no cost: regtest, and signets
/// whose challenge needs no signature. A block without a required signature would only show that
/// the target does not follow invalid blocks.
#[must_use]
pub fn is_minable(network: &Network) -> bool {
    match network {
        Network::Regtest => true,
        Network::CustomSignet { .. } => !network.signet_needs_a_signature(),
        Network::Mainnet | Network::Testnet3 | Network::Testnet4 | Network::Signet => false,
    }
}

/// The time in our `version` messages, Unix seconds.
#[must_use]
pub fn unix_time() -> u32 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH);
    now.map_or(0, |now| u32::try_from(now.as_secs()).unwrap_or(u32::MAX))
}

/// The scenarios of these names. `rpc`: whether an RPC is given.
///
/// # Errors
/// An unknown name, or one that needs an RPC without one.
pub fn shares(names: &[String], rpc: bool) -> Result<Vec<Share>, String> {
    let mut shares: Vec<Share> = Vec::new();
    for name in names {
        if name == MIX {
            shares.extend(Plan::mix(rpc));
            continue;
        }
        let scenario: Scenario = name.parse().map_err(|error| format!("{error}"))?;
        if scenario == Scenario::RpcBurst && !rpc {
            return Err("rpc-burst needs an RPC: give it with --rpc or --rpc-socket".into());
        }
        shares.push(Share {
            scenario,
            weight: 1,
        });
    }
    Ok(shares)
}

/// The HTTP request of a call. `login`: a header line, or nothing.
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
    fn blocks_are_made_only_where_no_signature_is_needed() {
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
