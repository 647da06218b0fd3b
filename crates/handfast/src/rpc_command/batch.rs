//! `handfast rpc --batch`: many calls from standard input.
//!
//! All of the input is read before the first call: an error in the last line has no effect. The
//! calls are sent in JSON-RPC batches, one after the other, so that neither side holds more than
//! [`CALLS_AT_ONCE`] answers.

use std::io::Read;
use std::process::ExitCode;

use handfast_cli::output::{print, print_error};
use serde_json::{Value, json};

use super::reply::{self, RpcFailure};
use super::{Target, Wait, arguments};
use crate::client;

/// Calls in one HTTP request.
const CALLS_AT_ONCE: usize = 64;
/// Longest input, bytes.
const MAX_INPUT: u64 = 256 << 20;

/// The calls, and the format of the output.
#[derive(Debug, PartialEq)]
struct Input {
    calls: Vec<Call>,
    /// The input is a JSON array, and so is the output. Else one answer per line.
    array: bool,
}

/// One call.
#[derive(Debug, PartialEq)]
struct Call {
    /// Its position, for messages: `line 3` or `call 3`.
    at: String,
    /// The user's own id, or its position in the input.
    id: Value,
    method: Value,
    params: Value,
}

/// Makes the calls and prints the answers in the order of the input. The exit code is
/// that of the first call that failed.
pub(super) fn run(target: &Target, input: &mut impl Read) -> Result<ExitCode, String> {
    let mut text = String::new();
    let read = input.take(MAX_INPUT + 1).read_to_string(&mut text);
    read.map_err(|error| format!("cannot read the calls from standard input: {error}"))?;
    if text.len() as u64 > MAX_INPUT {
        return Err(format!("more than {MAX_INPUT} bytes of calls; split them"));
    }
    let input = parse(&text)?;
    drop(text);
    let mut failed = Failed::default();
    let mut printed = Vec::new();
    if !input.calls.is_empty() {
        client::block_on(target.ready())??;
    }
    for calls in input.calls.chunks(CALLS_AT_ONCE) {
        let answers = client::block_on(target.batch(calls))??;
        for (call, mut answer) in calls.iter().zip(answers) {
            let outcome = reply::outcome(&answer).expect("reply::all lets nothing else through");
            if let Err(failure) = outcome {
                failed.add(call, failure);
            }
            answer["id"] = call.id.clone();
            if input.array {
                printed.push(answer);
            } else {
                print(&format!("{answer}\n"));
            }
        }
    }
    if input.array {
        print(&(reply::indented(&printed.into()) + "\n"));
    }
    Ok(failed.exit_code(input.calls.len()))
}

impl Target {
    /// Waits, if wanted, while the chain is being opened: part of a batch could not be repeated.
    async fn ready(&self) -> Result<(), String> {
        match self.call_options.wait {
            Wait::No => Ok(()),
            Wait::For(_) => {
                let probe = json!({ "jsonrpc": "2.0", "id": 1, "method": "getblockcount" });
                match self.one(&probe).await? {
                    Err(failure) if failure.code == RpcFailure::IN_WARMUP => {
                        Err(format!("the node is still starting: {}", failure.message))
                    }
                    Ok(_) | Err(_) => Ok(()),
                }
            }
        }
    }

    async fn batch(&self, calls: &[Call]) -> Result<Vec<Value>, String> {
        let requests = calls.iter().zip(1..).map(|(call, id)| {
            let (method, params) = (&call.method, &call.params);
            json!({ "jsonrpc": "2.0", "id": id, "method": method, "params": params })
        });
        let body = Value::from_iter(requests).to_string();
        let answer = client::post(&self.place()?, self.call_options.timeouts, body).await;
        let answer = answer.map_err(|error| error.to_string())?;
        let answers = reply::all(&answer.body, calls.len());
        answers
            .map_err(|what| answer.foreign(&what))?
            .map_err(|failure| {
                let RpcFailure { code, message } = failure;
                format!("the node refuses the batch: {message} (error {code})")
            })
    }
}

/// The calls that failed.
#[derive(Default)]
struct Failed {
    count: usize,
    first: Option<(String, RpcFailure)>,
}

impl Failed {
    fn add(&mut self, call: &Call, failure: RpcFailure) {
        self.count += 1;
        let method = call.method.as_str().unwrap_or_default();
        self.first
            .get_or_insert_with(|| (format!("{method} in {}", call.at), failure));
    }

    fn exit_code(&self, calls: usize) -> ExitCode {
        match &self.first {
            None => ExitCode::SUCCESS,
            Some((call, failure)) => {
                print_error(&format!(
                    "{} of {calls} calls failed; the first, {call}: {} (error {})",
                    self.count, failure.message, failure.code
                ));
                failure.exit_code()
            }
        }
    }
}

/// Parses a JSON array of request objects; or lines, each with such an object, or a method and
/// its arguments in shell syntax. Empty lines and text after `#` are skipped.
fn parse(text: &str) -> Result<Input, String> {
    if text.trim_start().starts_with('[') {
        let members: Vec<Value> = serde_json::from_str(text)
            .map_err(|error| format!("the input is no JSON array of calls: {error}"))?;
        let calls = members.into_iter().zip(1..);
        let calls = calls.map(|(member, number)| object(member, format!("call {number}"), number));
        let calls = calls.collect::<Result<_, _>>()?;
        return Ok(Input { calls, array: true });
    }
    let mut calls = Vec::new();
    for (line, number) in text.lines().zip(1..) {
        let at = format!("line {number}");
        if line.trim_start().starts_with('{') {
            let member = serde_json::from_str(line)
                .map_err(|error| format!("{at} is no JSON object: {error}"))?;
            calls.push(object(member, at, number)?);
            continue;
        }
        let words = shlex::split(line)
            .ok_or_else(|| format!("{at}: a quotation mark or a backslash is left open"))?;
        let Some((method, words)) = words.split_first() else {
            continue;
        };
        let params = arguments::read(method, words, false)
            .map_err(|error| format!("{at}: {method}: {error}"))?;
        calls.push(Call {
            at,
            id: number.into(),
            method: method.clone().into(),
            params,
        });
    }
    Ok(Input {
        calls,
        array: false,
    })
}

/// A call from a request object. Other members are ignored.
fn object(mut member: Value, at: String, number: u64) -> Result<Call, String> {
    let method = member.get_mut("method").map(Value::take);
    let Some(method @ Value::String(_)) = method else {
        return Err(format!(
            "{at} is no call: it must be an object with \"method\", a string, such as \
             {{\"method\": \"getblockhash\", \"params\": [0]}}"
        ));
    };
    let mut part = |name: &str| member.get_mut(name).map(Value::take).unwrap_or_default();
    let params = match part("params") {
        Value::Null => json!([]),
        params @ (Value::Array(_) | Value::Object(_)) => params,
        _ => return Err(format!("{at}: \"params\" must be an array or an object")),
    };
    let id = match part("id") {
        Value::Null => number.into(),
        id => id,
    };
    Ok(Call {
        at,
        id,
        method,
        params,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn call(at: &str, id: Value, method: &str, params: Value) -> Call {
        let (at, method) = (at.to_owned(), method.into());
        Call {
            at,
            id,
            method,
            params,
        }
    }

    #[test]
    fn a_line_is_a_command_line_or_an_object() {
        let text = "# heights\ngetblockhash 5\n\n  help 'get block'  # why not\n\
                    {\"method\":\"uptime\",\"id\":\"mine\"}\n";
        let expected = vec![
            call("line 2", 2.into(), "getblockhash", json!([5])),
            call("line 4", 4.into(), "help", json!(["get block"])),
            call("line 5", "mine".into(), "uptime", json!([])),
        ];
        let input = parse(text).expect("valid");
        assert_eq!((input.calls, input.array), (expected, false));
        assert_eq!(parse("").map(|input| input.calls), Ok(vec![]));
    }

    #[test]
    fn an_array_is_a_batch_as_json_rpc_has_it() {
        let text = r#" [ {"jsonrpc":"1.0","id":null,"method":"uptime","params":null},
            {"method":"getblockhash","params":{"height":1},"id":7} ] "#;
        let expected = vec![
            call("call 1", 1.into(), "uptime", json!([])),
            call("call 2", 7.into(), "getblockhash", json!({ "height": 1 })),
        ];
        let input = parse(text).expect("valid");
        assert_eq!((input.calls, input.array), (expected, true));
    }

    #[test]
    fn an_invalid_call_is_reported_with_its_position() {
        for (text, part) in [
            ("uptime\ngetblockhash ten\n", "line 2: getblockhash"),
            ("help \"open\n", "line 1"),
            ("uptime\n{\"method\":\n", "line 2"),
            ("{\"params\":[]}", "line 1"),
            ("[{\"method\":\"uptime\"},{\"method\":5}]", "call 2"),
            ("[[]]", "call 1"),
            ("[{\"method\":\"uptime\",\"params\":3}]", "call 1"),
            ("[1,", "array"),
        ] {
            let error = parse(text).expect_err(text);
            assert!(error.contains(part), "{text}: {error}");
        }
    }
}
