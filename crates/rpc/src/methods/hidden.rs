//! Methods for tests, which `help` does not list. As in Core.

mod echo;

use std::net::{IpAddr, SocketAddr};
use std::rc::Rc;

use bitcoin::hex::FromHex;
use bytes::Bytes;
use handfast_api::methods::hidden as specs;
use handfast_node::limits::MAX_COMMAND;
use handfast_node::{AddAddressFailure, ConnId, ConnectFailure, Network};
use serde_json::{Value, json};

use super::{Call, Method, mining, tools};
use crate::jsonrpc::{Error, code};

/// Why the timers cannot be moved.
const NO_SCHEDULER: &str = "mockscheduler is not offered: Handfast has no scheduler of tasks; its timers \
    run on the system's monotonic clock, which nothing moves";

pub(super) const METHODS: &[Method] = &[
    Method {
        spec: &specs::ADDCONNECTION,
        run: |call| Box::pin(addconnection(call)),
    },
    Method {
        spec: &specs::ADDPEERADDRESS,
        run: |call| Box::pin(addpeeraddress(call)),
    },
    echo::ECHO,
    echo::ECHOJSON,
    tools::ESTIMATERAWFEE,
    mining::GENERATE,
    mining::GENERATEBLOCK,
    mining::GENERATETOADDRESS,
    mining::GENERATETODESCRIPTOR,
    Method {
        spec: &specs::MOCKSCHEDULER,
        run: |_| Box::pin(async { Err(Error::new(code::METHOD_NOT_FOUND, NO_SCHEDULER)) }),
    },
    Method {
        spec: &specs::SENDMSGTOPEER,
        run: |call| Box::pin(sendmsgtopeer(call)),
    },
    Method {
        spec: &specs::SETMOCKTIME,
        run: |call| Box::pin(setmocktime(call)),
    },
    echo::SYNCWITHVALIDATIONINTERFACEQUEUE,
];

async fn setmocktime(call: Rc<Call>) -> Result<Value, Error> {
    if call.node.view().network != Network::Regtest {
        let message = "setmocktime is for regression testing (-regtest mode) only";
        return Err(Error::new(code::MISC_ERROR, message));
    }
    let time = call.integer::<i64>(0)?.unwrap_or(0);
    let Ok(unix) = u32::try_from(time) else {
        let most = u32::MAX;
        let message = format!("Mocktime must be in the range [0, {most}], not {time}.");
        return Err(Error::new(code::INVALID_PARAMETER, message));
    };
    match call.node.set_time(unix) {
        Ok(()) => Ok(Value::Null),
        Err(refusal) => Err(Error::new(code::MISC_ERROR, refusal.to_string())),
    }
}

async fn addconnection(call: Rc<Call>) -> Result<Value, Error> {
    let view = call.node.view();
    if view.network != Network::Regtest {
        let message = "addconnection is for regression testing (-regtest mode) only.";
        return Err(Error::new(code::MISC_ERROR, message));
    }
    let bad = |message: String| Err(Error::new(code::INVALID_PARAMETER, message));
    let kind = call.text(1).unwrap_or_default().trim();
    match kind {
        "outbound-full-relay" => {}
        "block-relay-only" | "addr-fetch" | "feeler" => {
            return bad(format!(
                "Error: Handfast opens no connections of the type {kind}, only outbound-full-relay"
            ));
        }
        _ => return bad(specs::ADDCONNECTION.help()),
    }
    if call.flag(2) == Some(true) {
        let message =
            "Error: Adding v2transport connections requires -v2transport init flag to be set.";
        return bad(message.to_owned());
    }
    let text = call.text(0).unwrap_or_default();
    let Some(addr) = address(text, view.network.p2p_port()) else {
        return bad(format!(
            "Error: not an IP address with or without a port: {text}"
        ));
    };
    match call.node.connect(addr).await {
        Ok(()) => Ok(json!({ "address": text, "connection_type": kind })),
        Err(ConnectFailure::Gone(gone)) => Err(gone.into()),
        Err(ConnectFailure::AtCapacity(full)) => Err(Error::new(
            code::CLIENT_NODE_CAPACITY_REACHED,
            full.to_string(),
        )),
    }
}

fn address(text: &str, default_port: u16) -> Option<SocketAddr> {
    let with_port = text.parse::<SocketAddr>().ok();
    with_port.or_else(|| Some((text.parse::<IpAddr>().ok()?, default_port).into()))
}

async fn addpeeraddress(call: Rc<Call>) -> Result<Value, Error> {
    let port = call.integer::<u16>(1)?.unwrap_or(0);
    let Ok(ip) = call.text(0).unwrap_or_default().parse::<IpAddr>() else {
        let message = "Invalid IP address";
        return Err(Error::new(code::CLIENT_INVALID_IP_OR_SUBNET, message));
    };
    let tried = call.flag(2).unwrap_or(false);
    match call.node.add_address((ip, port).into(), tried).await {
        Ok(()) => Ok(json!({ "success": true })),
        Err(AddAddressFailure::Gone(gone)) => Err(gone.into()),
        Err(AddAddressFailure::Refused(refusal)) => {
            Ok(json!({ "error": refusal.to_string(), "success": false }))
        }
    }
}

async fn sendmsgtopeer(call: Rc<Call>) -> Result<Value, Error> {
    let id = call.integer::<i64>(0)?.unwrap_or(-1);
    let id = ConnId(u64::try_from(id).unwrap_or(u64::MAX));
    let bad = |message: String| Err(Error::new(code::INVALID_PARAMETER, message));
    let command = call.text(1).unwrap_or_default();
    if command.len() > MAX_COMMAND {
        return bad(format!(
            "Error: msg_type too long, max length is {MAX_COMMAND}"
        ));
    }
    let Ok(body) = Vec::<u8>::from_hex(call.text(2).unwrap_or_default()) else {
        return bad("Error parsing input for msg".to_owned());
    };
    if call.node.send_raw(id, command, Bytes::from(body)).await? {
        Ok(json!({}))
    } else {
        let message = "Error: Could not send message to peer";
        Err(Error::new(code::MISC_ERROR, message))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_to_connect_to_may_leave_the_port_out() {
        let read = |text| address(text, 18_444).map(|addr| addr.to_string());
        assert_eq!(read("192.0.2.7:9"), Some("192.0.2.7:9".into()));
        assert_eq!(read("192.0.2.7"), Some("192.0.2.7:18444".into()));
        assert_eq!(read("2001:db8::1"), Some("[2001:db8::1]:18444".into()));
        assert_eq!(read("example.org"), None);
    }
}
