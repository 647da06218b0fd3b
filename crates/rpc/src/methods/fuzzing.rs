//! `startfuzz`, `getfuzzstatus`, `stopfuzz`: the node against itself.

use std::rc::Rc;

use handfast_api::methods::fuzzing as specs;
use handfast_node::Network;
use serde_json::{Value, json};

use super::{Call, Method};
use crate::fuzz_control::{self, FuzzControl, FuzzRequest};
use crate::jsonrpc::{Error, code};

/// Bounds and defaults of a run.
const MAX_CONCURRENCY: u64 = 1_000;
const CONCURRENCY: u64 = 50;
const MAX_CYCLES: u64 = 1_000_000;
const CYCLES: u64 = 10_000;
const MAX_DURATION: u64 = 3_600;
/// Numbers of JSON that all programs read alike end there.
const MAX_SEED: u64 = (1 << 53) - 1;
const DURATION: u64 = 60;

pub(super) const METHODS: &[Method] = &[GETFUZZSTATUS, STARTFUZZ, STOPFUZZ];

const GETFUZZSTATUS: Method = Method {
    spec: &specs::GETFUZZSTATUS,
    run: |call| Box::pin(getfuzzstatus(call)),
};

const STARTFUZZ: Method = Method {
    spec: &specs::STARTFUZZ,
    run: |call| Box::pin(startfuzz(call)),
};

const STOPFUZZ: Method = Method {
    spec: &specs::STOPFUZZ,
    run: |call| Box::pin(stopfuzz(call)),
};

fn fuzzer() -> Result<&'static dyn FuzzControl, Error> {
    fuzz_control::registered().ok_or_else(|| {
        let message =
            "There is no fuzzer in this process: it was not set up by the program handfast";
        Error::new(code::METHOD_NOT_FOUND, message)
    })
}

async fn getfuzzstatus(call: Rc<Call>) -> Result<Value, Error> {
    let fuzzer = fuzzer()?;
    match call.value(0).as_str() {
        None | Some("json") => Ok(fuzzer.status()),
        Some("html") => fuzzer.page().map(Value::String).ok_or_else(|| {
            let message = "There is no report: no run of startfuzz has ended with one";
            Error::new(code::MISC_ERROR, message)
        }),
        Some(other) => {
            let message = format!("format must be json or html, not {other:?}");
            Err(Error::new(code::INVALID_PARAMETER, message))
        }
    }
}

async fn startfuzz(call: Rc<Call>) -> Result<Value, Error> {
    let network = &call.node.view().network;
    match network {
        Network::Regtest | Network::Signet | Network::CustomSignet { .. } => {}
        Network::Mainnet | Network::Testnet3 | Network::Testnet4 => {
            let message = format!(
                "startfuzz is for regtest and signet, and this node is on {}",
                network.name()
            );
            return Err(Error::new(code::MISC_ERROR, message));
        }
    }
    let request = request(call.value(0), call.value(1))?;
    let fuzzer = fuzzer()?;
    let started = fuzzer.start(&request);
    started.map_err(|why| Error::new(code::INVALID_PARAMETER, why))?;
    Ok(fuzzer.status())
}

async fn stopfuzz(_: Rc<Call>) -> Result<Value, Error> {
    let fuzzer = fuzzer()?;
    match fuzzer.stop() {
        true => Ok(fuzzer.status()),
        false => Err(Error::new(code::MISC_ERROR, "No fuzz run is going on")),
    }
}

fn request(scenarios: &Value, options: &Value) -> Result<FuzzRequest, Error> {
    let wrong = |message: String| Error::new(code::INVALID_PARAMETER, message);
    let none = vec![json!("mix")];
    let names = scenarios.as_array().unwrap_or(&none).iter().map(|name| {
        let text = name.as_str().map(str::to_owned);
        text.ok_or_else(|| Error::wrong_type(name, "string"))
    });
    let scenarios = names.collect::<Result<Vec<String>, Error>>()?;
    if scenarios.is_empty() {
        return Err(wrong("scenarios must name at least one".into()));
    }
    let empty = serde_json::Map::new();
    let options = options.as_object().unwrap_or(&empty);
    let known = ["seed", "concurrency", "cycles", "duration"];
    if let Some(other) = options.keys().find(|key| !known.contains(&key.as_str())) {
        return Err(wrong(format!("Unexpected key {other}")));
    }
    let number = |name: &str, default: u64, most: u64| match options.get(name) {
        None | Some(Value::Null) => Ok(default),
        Some(value) => {
            let number = value.as_u64().filter(|number| (1..=most).contains(number));
            number.ok_or_else(|| wrong(format!("{name} must be 1 to {most}")))
        }
    };
    let seed = match options.get("seed") {
        None | Some(Value::Null) => None,
        Some(value) => {
            let seed = value.as_u64().filter(|seed| *seed <= MAX_SEED);
            Some(seed.ok_or_else(|| wrong("seed must be a number below 2^53".into()))?)
        }
    };
    Ok(FuzzRequest {
        scenarios,
        seed,
        concurrency: usize::try_from(number("concurrency", CONCURRENCY, MAX_CONCURRENCY)?)
            .expect("at most 1,000"),
        cycles: number("cycles", CYCLES, MAX_CYCLES)?,
        duration: number("duration", DURATION, MAX_DURATION)?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn missing_options_have_defaults_and_wrong_ones_are_reported() {
        let plain = request(&Value::Null, &Value::Null).expect("defaults");
        let expected = FuzzRequest {
            scenarios: vec!["mix".into()],
            seed: None,
            concurrency: 50,
            cycles: 10_000,
            duration: 60,
        };
        assert_eq!(plain, expected);
        let said = request(
            &json!(["reset", "burst"]),
            &json!({ "seed": 7, "concurrency": 3, "cycles": 4, "duration": 5 }),
        );
        let expected = FuzzRequest {
            scenarios: vec!["reset".into(), "burst".into()],
            seed: Some(7),
            concurrency: 3,
            cycles: 4,
            duration: 5,
        };
        assert_eq!(said.expect("all is right"), expected);
        for (scenarios, options, part) in [
            (json!([]), json!({}), "at least one"),
            (json!([1]), json!({}), "not of expected type string"),
            (
                json!(["mix"]),
                json!({ "cycle": 1 }),
                "Unexpected key cycle",
            ),
            (
                json!(["mix"]),
                json!({ "cycles": 0 }),
                "cycles must be 1 to",
            ),
            (json!(["mix"]), json!({ "concurrency": 1_001 }), "1000"),
            (json!(["mix"]), json!({ "seed": -1 }), "seed must be"),
            (
                json!(["mix"]),
                json!({ "seed": 1_u64 << 53 }),
                "number below 2^53",
            ),
        ] {
            let error = request(&scenarios, &options).expect_err("wrong");
            assert!(error.message.contains(part), "{}", error.message);
        }
    }
}
