//! Checks of the command line: scenarios by protocol version, and the RPC's address.

use std::collections::BTreeSet;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use handfast_cli::NodeLocation;
use handfast_disk::read_text;
use handfast_fuzz::Scenario;
use handfast_fuzz::terms::call;
use handfast_fuzz::writer::PONG_ABOVE_VERSION;
use socket2::SockAddr;

use crate::client::MAX_COOKIE;

/// Refuses scenarios that wait for messages which a peer of this version does not get.
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
            "a peer of protocol version {version} gets no pong (BIP31), for which {} wait; use \
             --protocol-version {} or above, or run others",
            names.join(", "),
            PONG_ABOVE_VERSION + 1
        )),
    }
}

/// The address of the target's RPC, and the request to send.
pub(super) fn interface(place: &NodeLocation) -> Result<(SockAddr, Bytes), String> {
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
