//! Peers.

mod addresses;
mod bans;
pub(super) mod reach;
mod switches;

use std::rc::Rc;

use bitcoin::Amount;
use bitcoin::p2p::ServiceFlags;
use handfast_api::methods::network as specs;
use handfast_node::{
    AddNodeCommand, AddNodeError, AddNodeFailure, ByCommand, ConnId, Direction, DisconnectFailure,
    DisconnectTarget, OwnAddress, PeerInfo, Target, parse_target,
};
use serde_json::{Value, json};

use super::{Call, Method};
use crate::jsonrpc::{Error, code};
use crate::policy;
use crate::render::number::{amount, real};

/// The version of Bitcoin Core whose RPC interface this is, in Core's own
/// counting (31.99.0). Clients decide by it which methods to use.
const CORE_INTERFACE: u32 = 319_900;

pub(super) const METHODS: &[Method] = &[
    Method {
        spec: &specs::ADDNODE,
        run: |call| Box::pin(addnode(call)),
    },
    bans::CLEARBANNED,
    Method {
        spec: &specs::DISCONNECTNODE,
        run: |call| Box::pin(disconnectnode(call)),
    },
    switches::GETADDEDNODEINFO,
    addresses::GETADDRMANINFO,
    Method {
        spec: &specs::GETCONNECTIONCOUNT,
        run: |call| Box::pin(getconnectioncount(call)),
    },
    switches::GETNETTOTALS,
    Method {
        spec: &specs::GETNETWORKINFO,
        run: |call| Box::pin(getnetworkinfo(call)),
    },
    addresses::GETNODEADDRESSES,
    Method {
        spec: &specs::GETPEERINFO,
        run: |call| Box::pin(getpeerinfo(call)),
    },
    bans::LISTBANNED,
    switches::PING,
    bans::SETBAN,
    switches::SETNETWORKACTIVE,
];

async fn getconnectioncount(call: Rc<Call>) -> Result<Value, Error> {
    let info = call.node.network_info();
    Ok((info.connections_in + info.connections_out).into())
}

async fn getnetworkinfo(call: Rc<Call>) -> Result<Value, Error> {
    let info = call.node.network_info();
    let network = |name: &str, reachable: bool| {
        json!({
            "name": name,
            "limited": !reachable,
            "reachable": reachable,
            "proxy": "",
            "proxy_randomize_credentials": false,
        })
    };
    let local = |own: &OwnAddress| json!({ "address": own.addr.ip(), "port": own.addr.port(), "score": own.score });
    let local: Value = info.own_addresses.iter().map(local).collect();
    Ok(json!({
        "version": CORE_INTERFACE,
        "subversion": info.user_agent,
        "protocolversion": info.protocol_version,
        "localservices": format!("{:016x}", info.local_services.to_u64()),
        "localservicesnames": service_names(info.local_services),
        "localrelay": false,
        "timeoffset": info.time_offset,
        "networkactive": info.active,
        "connections": info.connections_in + info.connections_out,
        "connections_in": info.connections_in,
        "connections_out": info.connections_out,
        "networks": [
            network("ipv4", true),
            network("ipv6", true),
            network("onion", false),
            network("i2p", false),
            network("cjdns", false),
        ],
        "relayfee": amount(policy::MIN_RELAY_FEE),
        "incrementalfee": amount(policy::INCREMENTAL_RELAY_FEE),
        "localaddresses": local,
        "warnings": call.node.view().warnings.clone(),
    }))
}

/// The names that Core gives to service bits, lowest bit first.
fn service_names(services: ServiceFlags) -> Vec<String> {
    let name = |bit: u32| match bit {
        0 => "NETWORK".to_owned(),
        2 => "BLOOM".to_owned(),
        3 => "WITNESS".to_owned(),
        6 => "COMPACT_FILTERS".to_owned(),
        10 => "NETWORK_LIMITED".to_owned(),
        11 => "P2P_V2".to_owned(),
        _ => format!("UNKNOWN[2^{bit}]"),
    };
    (0..u64::BITS)
        .filter(|bit| services.to_u64() >> bit & 1 == 1)
        .map(name)
        .collect()
}

async fn getpeerinfo(call: Rc<Call>) -> Result<Value, Error> {
    let peers = call.node.peers().await?;
    let sync = call.node.sync_state().await?;
    let mut rows = Vec::with_capacity(peers.len());
    for peer in &peers {
        let mut row = peer_to_json(peer);
        let peer_sync = sync
            .peers
            .iter()
            .find(|peer_sync| peer_sync.id == peer.row.id);
        let height = |block: Option<u32>| block.map_or(-1, i64::from);
        row["presynced_headers"] =
            height(peer_sync.and_then(|peer_sync| peer_sync.presynced)).into();
        row["synced_headers"] = height(
            peer_sync
                .and_then(|peer_sync| peer_sync.best_known)
                .map(|block| block.height),
        )
        .into();
        row["synced_blocks"] = height(
            peer_sync
                .and_then(|peer_sync| peer_sync.common)
                .map(|block| block.height),
        )
        .into();
        row["inflight"] = peer_sync
            .map(|peer_sync| peer_sync.in_flight.clone())
            .unwrap_or_default()
            .into();
        row["handfast"]["sync"] = peer_sync.map(|peer_sync| peer_sync.why.clone()).into();
        rows.push(row);
    }
    Ok(rows.into())
}

/// All fields but those of the sync state, whose members are there already to keep Core's order.
fn peer_to_json(peer: &PeerInfo) -> Value {
    let PeerInfo {
        row,
        traffic,
        half_open,
    } = peer;
    let version_info = &row.version_info;
    let mut object = json!({
        "id": row.id.0,
        "addr": row.name.clone().unwrap_or_else(|| row.remote.to_string()),
    });
    for (name, address) in [
        ("addrbind", traffic.local),
        ("addrlocal", version_info.sees_us_at),
    ] {
        if let Some(address) = address {
            object[name] = address.to_string().into();
        }
    }
    let times = json!({
        "network": reach::network_name(row.remote.ip()),
        "services": format!("{:016x}", version_info.services.to_u64()),
        "servicesnames": service_names(version_info.services),
        "relaytxes": false,
        // As Core's for a peer to which it relays no transactions.
        "last_inv_sequence": 0,
        "inv_to_send": 0,
        "lastsend": traffic.last_send,
        "lastrecv": traffic.last_receive,
        "last_transaction": 0,
        "last_block": traffic.last_block,
        "bytessent": traffic.sent,
        "bytesrecv": traffic.received,
        "conntime": version_info.connected_at.unix,
        "timeoffset": version_info.time_offset,
    });
    extend(&mut object, times);
    for (name, time) in [
        ("pingtime", traffic.ping),
        ("minping", traffic.min_ping),
        ("pingwait", traffic.ping_wait),
    ] {
        if let Some(time) = time {
            object[name] = real(time.as_secs_f64());
        }
    }
    let connection_type = match row.direction {
        Direction::Inbound => "inbound",
        Direction::Outbound => "outbound-full-relay",
        Direction::Manual => "manual",
    };
    let rest = json!({
        "version": version_info.version,
        "subver": version_info.user_agent,
        "inbound": row.direction == Direction::Inbound,
        "bip152_hb_to": false,
        "bip152_hb_from": false,
        // Dropped by Core since version 31, and read by clients of earlier ones.
        "startingheight": version_info.claimed_height.unwrap_or(-1),
        "presynced_headers": -1,
        "synced_headers": -1,
        "synced_blocks": -1,
        "inflight": [],
        "addr_relay_enabled": row.relays_addresses,
        "addr_processed": row.addresses_processed,
        "addr_rate_limited": row.addresses_rate_limited,
        "permissions": [],
        "minfeefilter": amount(Amount::from_sat(row.fee_filter.unwrap_or(0))),
        "bytessent_per_msg": by_command(&traffic.bytes_sent),
        "bytesrecv_per_msg": by_command(&traffic.bytes_received),
        "connection_type": connection_type,
        "transport_protocol_type": "v1",
        "session_id": "",
        "handfast": {
            "direction": row.direction.to_string(),
            "claimed_height": version_info.claimed_height,
            "handshake": real(version_info.handshake.as_secs_f64()),
            "half_open": half_open,
            "malformed": traffic.malformed,
            "closing": row.closing,
        },
    });
    extend(&mut object, rest);
    object
}

/// Adds members behind those that are there.
fn extend(object: &mut Value, more: Value) {
    if let (Value::Object(object), Value::Object(more)) = (object, more) {
        object.extend(more);
    }
}

fn by_command(bytes: &ByCommand) -> Value {
    let rows = bytes.rows();
    rows.map(|(command, bytes)| (command.to_owned(), bytes.into()))
        .collect::<serde_json::Map<String, Value>>()
        .into()
}

async fn addnode(call: Rc<Call>) -> Result<Value, Error> {
    let command = match call.text(1).unwrap_or_default() {
        "add" => AddNodeCommand::Add,
        "remove" => AddNodeCommand::Remove,
        "onetry" => AddNodeCommand::OneTry,
        _ => {
            let help = specs::ADDNODE.help();
            return Err(Error::new(code::MISC_ERROR, help));
        }
    };
    if call.flag(2) == Some(true) {
        let message = "Error: v2transport requested but not enabled (see -v2transport)";
        return Err(Error::new(code::INVALID_PARAMETER, message));
    }
    let name = call.text(0).unwrap_or_default().to_owned();
    match call.node.add_node(name, command).await {
        Ok(()) => Ok(Value::Null),
        Err(AddNodeFailure::Gone(gone)) => Err(gone.into()),
        Err(AddNodeFailure::Refused(refusal)) => {
            let code = match refusal {
                AddNodeError::AlreadyAdded => code::CLIENT_NODE_ALREADY_ADDED,
                AddNodeError::NotAdded => code::CLIENT_NODE_NOT_ADDED,
                AddNodeError::Unreachable(_) | AddNodeError::Malformed => code::INVALID_PARAMETER,
            };
            Err(Error::new(code, refusal.to_string()))
        }
    }
}

async fn disconnectnode(call: Rc<Call>) -> Result<Value, Error> {
    let id = call.integer::<u64>(1)?.map(ConnId);
    let target = match (call.text(0), id) {
        (Some(address), None) => by_address(&call, address).await?,
        (None | Some(""), Some(id)) => Some(DisconnectTarget::ById(id)),
        (Some(_), Some(_)) | (None, None) => {
            let message = "Only one of address and nodeid should be provided.";
            return Err(Error::new(code::INVALID_PARAMS, message));
        }
    };
    let missing = || {
        Error::new(
            code::CLIENT_NODE_NOT_CONNECTED,
            "Node not found in connected nodes",
        )
    };
    match call.node.disconnect(target.ok_or_else(missing)?).await {
        Ok(()) => Ok(Value::Null),
        Err(DisconnectFailure::Gone(gone)) => Err(gone.into()),
        Err(DisconnectFailure::NotConnected) => Err(missing()),
    }
}

/// An address, or the name under which a peer was added: what `getpeerinfo` shows as `addr`.
async fn by_address(call: &Call, text: &str) -> Result<Option<DisconnectTarget>, Error> {
    let peers = call.node.peers().await?;
    let named = peers
        .iter()
        .find(|peer| peer.row.name.as_deref() == Some(text));
    if let Some(peer) = named {
        return Ok(Some(DisconnectTarget::ById(peer.row.id)));
    }
    let port = call.node.view().network.p2p_port();
    match parse_target(text, port) {
        Target::Address(addr) => Ok(Some(DisconnectTarget::ByAddr(addr))),
        Target::Host { .. } => Ok(None),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn service_bits_have_the_names_of_core() {
        let services = ServiceFlags::from(1 | 1 << 3 | 1 << 10 | 1 << 11 | 1 << 40);
        assert_eq!(
            service_names(services),
            [
                "NETWORK",
                "WITNESS",
                "NETWORK_LIMITED",
                "P2P_V2",
                "UNKNOWN[2^40]"
            ]
        );
    }
}
