//! Settings of the RPC server: access and limits.

use std::net::IpAddr;
use std::str::FromStr;

use handfast_cli::values::{bad, number};
use handfast_cli::{Layers, Origin, SettingsError, keys};
use handfast_rpc::{AccessRules, DEFAULT_MAX_CALLS, RpcUser, Whitelist, WhitelistError};

/// Most calls in progress. Each may hold a request of 32 MiB.
const MAX_CALLS_LIMIT: usize = 100_000;

/// Settings of the RPC server besides its sockets.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct RpcSettings {
    pub(crate) access: AccessRules,
    pub(crate) rest: bool,
    pub(crate) max_calls: usize,
}

pub(super) fn rpc(layers: &Layers) -> Result<RpcSettings, SettingsError> {
    let wanted = format!("a number of calls from 1 to {MAX_CALLS_LIMIT}");
    let max_calls = number(layers, keys::RPC_WORK_QUEUE, 1..=MAX_CALLS_LIMIT, &wanted)?;
    Ok(RpcSettings {
        access: AccessRules {
            users: users(layers)?,
            whitelists: whitelists(layers)?,
            allowed: allowed(layers)?,
            hosts: hosts(layers)?,
        },
        rest: layers.flag(keys::REST).is_some(),
        max_calls: max_calls.unwrap_or(DEFAULT_MAX_CALLS),
    })
}

fn allowed<T: FromStr>(layers: &Layers) -> Result<Vec<T>, SettingsError> {
    let parse = |(origin, text): (&Origin, &str)| {
        let unspecified = text.parse::<IpAddr>().is_ok_and(|ip| ip.is_unspecified());
        let wanted = match unspecified {
            true => {
                "the address of a caller; write 0.0.0.0/0 for all of IPv4, or ::/0 for all of IPv6"
            }
            false => "an IP address or a network, such as 192.168.1.0/24",
        };
        text.parse()
            .map_err(|_| bad(origin, keys::RPC_ALLOW_IP, text, wanted))
    };
    layers.many(keys::RPC_ALLOW_IP).map(parse).collect()
}

/// Host names as in a `Host` header, without a port.
fn hosts(layers: &Layers) -> Result<Vec<String>, SettingsError> {
    let parse = |(origin, text): (&Origin, &str)| {
        let name = text.strip_suffix('.').unwrap_or(text);
        let is_name = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
        if name.is_empty() || !name.chars().all(is_name) {
            let wanted = "a host name without a port, such as node.lan";
            return Err(bad(origin, keys::RPC_ALLOW_HOST, text, wanted));
        }
        Ok(name.to_owned())
    };
    layers.many(keys::RPC_ALLOW_HOST).map(parse).collect()
}

fn users(layers: &Layers) -> Result<Vec<RpcUser>, SettingsError> {
    let parse = |(origin, text): (&Origin, &str)| {
        // The value may be a password in the clear: it is not repeated.
        let name = text.split_once(':').map_or("…", |(name, _)| name);
        let shown = format!("{name}:…");
        text.parse().map_err(|_| {
            bad(
                origin,
                keys::RPC_AUTH,
                &shown,
                "a line of Bitcoin Core's rpcauth.py: NAME:SALT$HMAC, with 64 hexadecimal digits",
            )
        })
    };
    layers.many(keys::RPC_AUTH).map(parse).collect()
}

fn whitelists(layers: &Layers) -> Result<Vec<Whitelist>, SettingsError> {
    let parse = |(origin, text): (&Origin, &str)| {
        text.parse().map_err(|error| {
            let wanted = match error {
                WhitelistError::Form => "of the form USER:METHOD,METHOD".to_owned(),
                WhitelistError::Unknown(name) => {
                    format!("a list of methods: there is no {name:?} (see handfast rpc help)")
                }
            };
            bad(origin, keys::RPC_WHITELIST, text, wanted)
        })
    };
    layers.many(keys::RPC_WHITELIST).map(parse).collect()
}
