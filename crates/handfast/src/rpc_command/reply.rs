//! Parses a node's answers, and recognises those of other programs.

use std::process::ExitCode;

use serde_json::Value;

/// The result of a call, or its RPC error.
pub(super) type Reply = Result<Value, RpcFailure>;

/// An error object of JSON-RPC.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct RpcFailure {
    pub(super) code: i64,
    pub(super) message: String,
}

impl RpcFailure {
    /// The node is opening its chain, and did not execute the call. Core `RPC_IN_WARMUP`.
    pub(super) const IN_WARMUP: i64 = -28;

    /// There is no such method. JSON-RPC 2.0.
    pub(super) const METHOD_NOT_FOUND: i64 = -32_601;

    /// As `bitcoin-cli`: the error code without its sign, modulo 256.
    pub(super) fn exit_code(&self) -> ExitCode {
        let low = u8::try_from(self.code.unsigned_abs() & 0xff).expect("masked to eight bits");
        ExitCode::from(low.max(1))
    }
}

/// The answer to the request with the id 1, or an error that says what it is instead.
pub(super) fn one(answer: &[u8]) -> Result<Reply, String> {
    let answer = json(answer)?;
    // A request that could not be parsed is answered with a null id.
    let refused = answer["id"].is_null() && answer.get("error").is_some_and(Value::is_object);
    if answer["id"] != 1 && !refused {
        return Err("an answer to another call".into());
    }
    outcome(&answer)
}

/// The answers to requests with the ids 1 to `count`, in that order, or why the batch was
/// refused. They may come in any order (JSON-RPC 2.0, section 6).
pub(super) fn all(answer: &[u8], count: usize) -> Result<Result<Vec<Value>, RpcFailure>, String> {
    let answers = match json(answer)? {
        Value::Array(answers) => answers,
        refusal => {
            return match outcome(&refusal)? {
                Ok(_) => Err("a single answer to a batch".into()),
                Err(failure) => Ok(Err(failure)),
            };
        }
    };
    let mut ordered = vec![Value::Null; count];
    for answer in answers {
        outcome(&answer)?.ok();
        let id = answer["id"]
            .as_u64()
            .and_then(|id| usize::try_from(id).ok());
        let place = id.and_then(|id| ordered.get_mut(id.checked_sub(1)?));
        match place {
            Some(place) if place.is_null() => *place = answer,
            Some(_) | None => return Err("an answer to no call".into()),
        }
    }
    match ordered.iter().position(Value::is_null) {
        Some(missing) => Err(format!("no answer to call {}", missing + 1)),
        None => Ok(Ok(ordered)),
    }
}

/// Result or error of one answer.
pub(super) fn outcome(answer: &Value) -> Result<Reply, String> {
    match (answer.get("result"), answer.get("error")) {
        (_, Some(Value::Object(error))) => {
            let code = error.get("code").and_then(Value::as_i64);
            let message = error.get("message").and_then(Value::as_str);
            match (code, message) {
                (Some(code), Some(message)) => Ok(Err(RpcFailure {
                    code,
                    message: message.to_owned(),
                })),
                _ => Err("an error without code and message".into()),
            }
        }
        (Some(result), None | Some(Value::Null)) => Ok(Ok(result.clone())),
        _ => Err("JSON with neither result nor error".into()),
    }
}

/// JSON with an indent of two, as `bitcoin-cli` and `jq` print it.
pub(super) fn indented(value: &Value) -> String {
    serde_json::to_string_pretty(value).expect("a Value always serializes to memory")
}

fn json(answer: &[u8]) -> Result<Value, String> {
    serde_json::from_slice(answer).map_err(|error| format!("broken JSON ({error})"))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn json_of_another_program_is_no_answer() {
        for text in [
            "{}",
            "[]",
            r#"{"id":1}"#,
            r#"{"id":2,"result":5}"#,
            r#"{"id":1,"error":"no"}"#,
            r#"{"id":1,"error":{"code":-8}}"#,
            r#"{"id":null,"result":5}"#,
            r#"{"status":"ok"}"#,
            r#"{"id":1,"result":5"#,
        ] {
            let error = one(text.as_bytes()).expect_err(text);
            assert_eq!(error.lines().count(), 1);
        }
        assert_eq!(one(br#"{"id":1,"result":null}"#), Ok(Ok(Value::Null)));
    }

    #[test]
    fn answers_of_a_batch_are_sorted_by_id_and_each_occurs_once() {
        let two = br#"[{"id":2,"result":"b"},{"id":1,"error":{"code":-8,"message":"a"}}]"#;
        let sorted = all(two, 2).expect("JSON-RPC").expect("both are there");
        assert_eq!(
            (&sorted[0]["error"]["code"], &sorted[1]["result"]),
            (&json!(-8), &json!("b"))
        );
        assert!(all(two, 3).is_err(), "one is missing");
        assert!(all(two, 1).is_err(), "one is too much");
        assert!(all(br#"[{"id":1,"result":1},{"id":1,"result":1}]"#, 2).is_err());
        assert!(all(br#"[{"id":1,"result":1},{"id":0,"result":1}]"#, 2).is_err());
        let refused = all(
            br#"{"id":null,"error":{"code":-32700,"message":"Parse error"}}"#,
            1,
        );
        assert!(refused.is_ok_and(|refused| refused.is_err_and(|error| error.code == -32700)));
    }

    #[test]
    fn the_exit_code_is_the_error_code_without_its_sign_and_never_zero() {
        for (code, expected) in [(-8, 8), (-28, 28), (-32601, 89), (-256, 1), (0, 1)] {
            let message = String::new();
            let shown = format!("{:?}", RpcFailure { code, message }.exit_code());
            assert_eq!(shown, format!("{:?}", ExitCode::from(expected)), "{code}");
        }
    }
}
