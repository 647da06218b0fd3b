//! From command-line words to the `params` of a call.

use handfast_api::methods::{self, Param};
use serde_json::{Map, Value};

/// The arguments of `method`, converted.
pub(super) fn read(method: &str, arguments: &[String], named: bool) -> Result<Value, String> {
    if named {
        named_params(method, arguments)
    } else {
        positional_params(method, arguments)
    }
}

fn positional_params(method: &str, arguments: &[String]) -> Result<Value, String> {
    let params = methods::find(method)
        .map(|method| method.params)
        .unwrap_or_default();
    arguments
        .iter()
        .enumerate()
        .map(|(index, text)| value(params.get(index), text))
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
            None => positional.push(value(params.get(positional.len()), text)?),
            Some((name, text)) => {
                let param = params.iter().find(|param| param.names.contains(&name));
                named.insert(name.to_owned(), value(param, text)?);
            }
        }
    }
    if !positional.is_empty() {
        named.insert("args".to_owned(), positional.into());
    }
    Ok(named.into())
}

/// An argument as the method takes it: JSON for numbers and flags, text for everything else.
fn value(param: Option<&Param>, text: &str) -> Result<Value, String> {
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
    use serde_json::json;

    use super::*;

    fn strings(texts: &[&str]) -> Vec<String> {
        texts.iter().map(|text| (*text).to_owned()).collect()
    }

    #[test]
    fn arguments_become_json_where_the_method_wants_it_and_text_elsewhere() {
        let params = read("getblock", &strings(&["00", "2"]), false).expect("valid");
        assert_eq!(params, json!(["00", 2]));
        let params = read("getblockheader", &strings(&["12", "false"]), false).expect("valid");
        assert_eq!(params, json!(["12", false]));
        let params = read("unheard_of", &strings(&["1", "{}"]), false).expect("valid");
        assert_eq!(params, json!(["1", "{}"]));
        assert!(read("getblockhash", &strings(&["ten"]), false).is_err());
    }

    #[test]
    fn named_arguments_may_follow_positional_ones() {
        let params = read("getblock", &strings(&["00", "verbosity=0"]), true).expect("valid");
        assert_eq!(params, json!({ "verbosity": 0, "args": ["00"] }));
    }
}
