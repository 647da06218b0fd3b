//! The address book.

use std::net::{IpAddr, SocketAddr};
use std::rc::Rc;

use handfast_api::methods::network as specs;
use handfast_node::AddressRow;
use rand::seq::SliceRandom;
use serde_json::{Map, Value, json};

use super::super::{Call, Method};
use crate::jsonrpc::{Error, code};

/// The networks of Core, in its order. No address of the last three is stored.
const NETWORKS: [&str; 5] = ["ipv4", "ipv6", "onion", "i2p", "cjdns"];

pub(super) const GETADDRMANINFO: Method = Method {
    spec: &specs::GETADDRMANINFO,
    run: |call| Box::pin(getaddrmaninfo(call)),
};

pub(super) const GETNODEADDRESSES: Method = Method {
    spec: &specs::GETNODEADDRESSES,
    run: |call| Box::pin(getnodeaddresses(call)),
};

fn network_of(addr: SocketAddr) -> &'static str {
    match addr.ip().to_canonical() {
        IpAddr::V4(_) => "ipv4",
        IpAddr::V6(_) => "ipv6",
    }
}

async fn getaddrmaninfo(call: Rc<Call>) -> Result<Value, Error> {
    Ok(count(&call.node.known_addresses(false).await?))
}

fn count(rows: &[AddressRow]) -> Value {
    let counted = |of: &dyn Fn(&AddressRow) -> bool| {
        let total = rows.iter().filter(|row| of(row)).count();
        let tried = rows
            .iter()
            .filter(|row| of(row) && row.last_success.is_some())
            .count();
        json!({ "new": total - tried, "tried": tried, "total": total })
    };
    let mut object: Map<String, Value> = NETWORKS
        .iter()
        .map(|name| {
            let of = |row: &AddressRow| network_of(row.addr) == *name;
            ((*name).to_owned(), counted(&of))
        })
        .collect();
    object.insert("all_networks".into(), counted(&|_| true));
    object.into()
}

async fn getnodeaddresses(call: Rc<Call>) -> Result<Value, Error> {
    let count = call.integer::<i32>(0)?.unwrap_or(1);
    let Ok(count) = usize::try_from(count) else {
        let message = "Address count out of range";
        return Err(Error::new(code::INVALID_PARAMETER, message));
    };
    let network = call.text(1).map(str::to_ascii_lowercase);
    if let Some(name) = &network
        && !NETWORKS.contains(&name.as_str())
    {
        let given = call.text(1).unwrap_or_default();
        let message = format!("Network not recognized: {given}");
        return Err(Error::new(code::INVALID_PARAMETER, message));
    }
    let mut rows = call.node.known_addresses(true).await?;
    rows.retain(|row| {
        let name = network_of(row.addr);
        network.as_deref().is_none_or(|wanted| wanted == name)
    });
    rows.shuffle(&mut rand::rng());
    if count > 0 {
        rows.truncate(count);
    }
    Ok(rows.iter().map(row).collect())
}

fn row(row: &AddressRow) -> Value {
    json!({
        "time": row.last_seen,
        "services": row.services,
        "address": row.addr.ip().to_canonical().to_string(),
        "port": row.addr.port(),
        "network": network_of(row.addr),
    })
}

#[cfg(test)]
mod tests {
    use handfast_proto::address_book::Source;

    use super::*;

    fn known(addr: &str, tried: bool) -> AddressRow {
        AddressRow {
            addr: addr.parse().expect("a test writes addresses"),
            services: 9,
            last_seen: 1_700_000_000,
            last_success: tried.then_some(1_700_000_000),
            failures: 0,
            source: Source::Own,
        }
    }

    #[test]
    fn addresses_are_counted_by_network_and_by_whether_they_were_tried() {
        let rows = [
            known("8.8.8.8:8333", true),
            known("8.8.4.4:8333", false),
            known("[2600::1]:8333", false),
        ];
        let counted = count(&rows);
        let names: Vec<&String> = counted.as_object().expect("an object").keys().collect();
        let all = ["ipv4", "ipv6", "onion", "i2p", "cjdns", "all_networks"];
        assert_eq!(names, all);
        assert_eq!(counted["ipv4"], json!({ "new": 1, "tried": 1, "total": 2 }));
        assert_eq!(counted["ipv6"], json!({ "new": 1, "tried": 0, "total": 1 }));
        assert_eq!(counted["i2p"], json!({ "new": 0, "tried": 0, "total": 0 }));
        let sum = json!({ "new": 2, "tried": 1, "total": 3 });
        assert_eq!(counted["all_networks"], sum);
    }

    #[test]
    fn an_address_has_the_fields_of_core_in_its_order() {
        assert_eq!(
            row(&known("[2600::1]:18444", false)).to_string(),
            "{\"time\":1700000000,\"services\":9,\"address\":\"2600::1\",\"port\":18444,\"network\":\"ipv6\"}"
        );
    }
}
