//! `handfast rpc METHOD [ARGS]`, with the manners of `bitcoin-cli`.

use std::process::ExitCode;

use handfast_rpc::methods::{self, Param};
use serde_json::{Map, Value, json};

use crate::cli::Options;
use crate::{client, settings};

/// Calls a method and prints its result: a string bare, everything else as indented JSON.
pub(crate) fn call(
    mut options: Options,
    method: &str,
    arguments: &[String],
    named: bool,
) -> Result<ExitCode, String> {
    settings::add_config_file(&mut options.layers, options.config.as_deref())
        .map_err(|error| error.to_string())?;
    let place = settings::place(&options.layers).map_err(|error| error.to_string())?;
    let params = if named {
        named_params(method, arguments)?
    } else {
        positional_params(method, arguments)?
    };
    let request = json!({ "jsonrpc": "2.0", "id": 1, "method": method, "params": params });
    let answer = client::block_on(client::post(&place, request.to_string()))?
        .map_err(|error| error.to_string())?;
    let answer: Value = serde_json::from_slice(&answer)
        .map_err(|error| format!("the answer is not JSON ({error}); is it a Handfast node?"))?;
    match answer.get("error") {
        Some(error) if !error.is_null() => Ok(print_error(error)),
        Some(_) | None => {
            print_result(&answer["result"]);
            Ok(ExitCode::SUCCESS)
        }
    }
}

fn print_result(result: &Value) {
    let text = match result {
        Value::Null => return,
        Value::String(text) => text.clone(),
        other => serde_json::to_string_pretty(other).expect("a Value always serializes to memory"),
    };
    crate::print(&(text + "\n"));
}

/// As `bitcoin-cli`: the exit code is the error code without its sign, as far as the system keeps it.
fn print_error(error: &Value) -> ExitCode {
    let code = error["code"].as_i64().unwrap_or(1);
    eprintln!("error code: {code}");
    eprintln!(
        "error message:\n{}",
        error["message"].as_str().unwrap_or_default()
    );
    let low = u8::try_from(code.unsigned_abs() & 0xff).expect("masked to eight bits");
    ExitCode::from(low.max(1))
}

fn positional_params(method: &str, arguments: &[String]) -> Result<Value, String> {
    let params = methods::find(method)
        .map(|method| method.params)
        .unwrap_or_default();
    arguments
        .iter()
        .enumerate()
        .map(|(index, text)| read(params.get(index), text))
        .collect()
}

/// `NAME=VALUE`; what has no `=` is a positional argument.
fn named_params(method: &str, arguments: &[String]) -> Result<Value, String> {
    let params = methods::find(method)
        .map(|method| method.params)
        .unwrap_or_default();
    let mut named = Map::new();
    let mut positional = Vec::new();
    for text in arguments {
        match text.split_once('=') {
            None => positional.push(read(params.get(positional.len()), text)?),
            Some((name, value)) => {
                let param = params.iter().find(|param| param.names.contains(&name));
                named.insert(name.to_owned(), read(param, value)?);
            }
        }
    }
    if !positional.is_empty() {
        named.insert("args".to_owned(), positional.into());
    }
    Ok(named.into())
}

/// An argument as the method wants it: JSON for numbers and flags, text for everything else.
fn read(param: Option<&Param>, text: &str) -> Result<Value, String> {
    match param {
        Some(param) if param.kind.is_json(text) => serde_json::from_str(text).map_err(|_| {
            format!(
                "argument {:?} must be a JSON value, such as a number or true, not {text:?}",
                param.names[0]
            )
        }),
        Some(_) | None => Ok(text.into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn strings(texts: &[&str]) -> Vec<String> {
        texts.iter().map(|text| (*text).to_owned()).collect()
    }

    #[test]
    fn arguments_become_json_where_the_method_wants_it_and_text_elsewhere() {
        let params = positional_params("getblock", &strings(&["00", "2"])).expect("valid");
        assert_eq!(params, json!(["00", 2]));
        let params =
            positional_params("getblockheader", &strings(&["12", "false"])).expect("valid");
        assert_eq!(params, json!(["12", false]));
        let params = positional_params("unheard_of", &strings(&["1", "{}"])).expect("valid");
        assert_eq!(params, json!(["1", "{}"]));
        assert!(positional_params("getblockhash", &strings(&["ten"])).is_err());
    }

    #[test]
    fn named_arguments_may_follow_positional_ones() {
        let params = named_params("getblock", &strings(&["00", "verbosity=0"])).expect("valid");
        assert_eq!(params, json!({ "verbosity": 0, "args": ["00"] }));
    }
}
