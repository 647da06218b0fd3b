//! The state of the listening sockets: `getlistenerinfo`.

use std::rc::Rc;

use handfast_api::methods::sync as specs;
use handfast_node::self_probe::{Health, Outcome, Report};
use handfast_node::{ListenerInfo, ListeningSocketInfo};
use serde_json::{Value, json};

use super::{Call, Method};
use crate::jsonrpc::Error;
use crate::render::number::real;

pub(super) const GETLISTENERINFO: Method = Method {
    spec: &specs::GETLISTENERINFO,
    run: |call| Box::pin(getlistenerinfo(call)),
};

async fn getlistenerinfo(call: Rc<Call>) -> Result<Value, Error> {
    Ok(to_json(&call.node.listeners()))
}

fn to_json(info: &ListenerInfo) -> Value {
    json!({
        "sockets": info.sockets.iter().map(socket).collect::<Value>(),
        "listen_overflows": info.overflows.map(|counted| counted.overflows),
        "listen_drops": info.overflows.map(|counted| counted.drops),
    })
}

fn socket(socket: &ListeningSocketInfo) -> Value {
    json!({
        "name": socket.name,
        "address": socket.address.to_string(),
        "backlog": {
            "asked": socket.backlog_asked,
            "granted": socket.queue.map(|queue| queue.granted),
        },
        "accept_queue": socket.queue.map(|queue| queue.now),
        "accepted": socket.accepted,
        "refused": {
            "banned": socket.refused.banned,
            "no_slot": socket.refused.no_slot,
            "no_descriptor": socket.refused.no_descriptor,
        },
        "pauses": socket.pauses,
        "probe": probe(&socket.probe),
    })
}

fn probe(report: &Report) -> Value {
    let last = report.last.as_ref().map(|last| {
        let (result, took, why) = match &last.outcome {
            Outcome::Accepted(took) => ("accepted", Some(real(took.as_secs_f64())), None),
            Outcome::Overtaken => ("overtaken", None, None),
            Outcome::Failed(why) => ("failed", None, Some(why)),
            Outcome::NotTried(why) => ("not tried", None, Some(why)),
        };
        json!({ "at": last.at, "result": result, "took": took, "why": why })
    });
    json!({
        "state": match report.health {
            Health::Unknown => "unknown",
            Health::Accepting => "accepting",
            Health::Busy => "busy",
            Health::Failing => "failing",
        },
        "probes": report.probes,
        "failures": report.failures,
        "recreated": report.recreated,
        "not_recreated": report.not_recreated,
        "last": last,
    })
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use handfast_node::self_probe::{Input, SelfProbe};
    use handfast_node::{AcceptQueue, ListenAddress, Overflows, Refused};
    use handfast_proto::Now;

    use super::*;

    fn info(probe: &SelfProbe, queue: Option<AcceptQueue>) -> ListeningSocketInfo {
        ListeningSocketInfo {
            name: "p2p",
            address: ListenAddress::Tcp("[::1]:8333".parse().expect("an address")),
            backlog_asked: 4_096,
            queue,
            accepted: 9,
            refused: Refused {
                banned: 1,
                no_slot: 2,
                no_descriptor: 3,
            },
            pauses: 4,
            probe: probe.report().clone(),
        }
    }

    #[test]
    fn a_socket_is_shown_with_its_queue_its_connections_and_its_last_probe() {
        let now = Now {
            mono: Duration::from_secs(1),
            unix: 1_700_000_000,
        };
        let mut machine = SelfProbe::new();
        machine.step(now, Input::Tick);
        let outcome = Outcome::Accepted(Duration::from_micros(250));
        machine.step(now, Input::Ended(outcome));
        let queue = AcceptQueue {
            now: 5,
            granted: 128,
        };
        let shown = to_json(&ListenerInfo {
            sockets: vec![info(&machine, Some(queue))],
            overflows: Some(Overflows {
                overflows: 6,
                drops: 7,
            }),
        });
        let expected = r#"{"sockets":[{"name":"p2p","address":"[::1]:8333",
            "backlog":{"asked":4096,"granted":128},"accept_queue":5,"accepted":9,
            "refused":{"banned":1,"no_slot":2,"no_descriptor":3},"pauses":4,
            "probe":{"state":"accepting","probes":1,"failures":0,"recreated":0,"not_recreated":null,
            "last":{"at":1700000000,"result":"accepted","took":0.00025,"why":null}}}],
            "listen_overflows":6,"listen_drops":7}"#;
        let expected: Value = serde_json::from_str(expected).expect("JSON");
        assert_eq!(shown.to_string(), expected.to_string());
    }

    #[test]
    fn unknown_values_are_null_and_a_socket_never_probed_is_unknown() {
        let shown = to_json(&ListenerInfo {
            sockets: vec![info(&SelfProbe::new(), None)],
            overflows: None,
        });
        let socket = &shown["sockets"][0];
        assert_eq!(socket["probe"]["state"], "unknown");
        assert_eq!(socket["probe"]["last"], Value::Null);
        assert_eq!(socket["backlog"], json!({ "asked": 4096, "granted": null }));
        assert_eq!(socket["accept_queue"], Value::Null);
        assert_eq!(shown["listen_drops"], Value::Null);
    }

    #[test]
    fn a_failure_is_shown_with_its_cause() {
        let now = Now {
            mono: Duration::from_secs(1),
            unix: 1_700_000_000,
        };
        let mut machine = SelfProbe::new();
        machine.step(now, Input::Tick);
        machine.step(now, Input::Ended(Outcome::Failed("refused".into())));
        let shown = probe(machine.report());
        assert_eq!(shown["state"], "failing");
        let last =
            json!({ "at": 1_700_000_000, "result": "failed", "took": null, "why": "refused" });
        assert_eq!(shown["last"].to_string(), last.to_string());
    }
}
