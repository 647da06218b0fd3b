//! `handfast rpc METHOD [ARGS]`, compatible with `bitcoin-cli`.

mod arguments;
mod batch;
mod reply;

use std::process::ExitCode;
use std::time::Duration;

use handfast_cli::output::print;
use handfast_cli::usage::{Options, nearest};
use handfast_cli::{Layers, NodeLocation, add_config_file, location_to_call};
use serde_json::{Value, json};

use crate::client::{self, ClientError, Timeouts};
use reply::Reply;

/// The calls to make.
#[derive(Clone, Debug)]
pub(crate) enum Calls {
    /// One method.
    One {
        method: String,
        arguments: Vec<String>,
        /// Arguments are `NAME=VALUE`.
        named: bool,
    },
    /// The calls on standard input.
    Batch,
}

/// Timeouts and waiting.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct CallOptions {
    pub(crate) timeouts: Timeouts,
    pub(crate) wait: Wait,
}

/// What to do if the node is not running or still starting.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Wait {
    /// Fail.
    #[default]
    No,
    /// Wait for it; `None`: without limit.
    For(Option<Duration>),
}

/// The node to call, and the call options.
struct Target {
    layers: Layers,
    place: NodeLocation,
    call_options: CallOptions,
}

/// Makes the calls and prints the results.
pub(crate) fn call(
    mut options: Options,
    calls: Calls,
    call_options: CallOptions,
) -> Result<ExitCode, String> {
    add_config_file(&mut options.layers, options.config.as_deref())
        .map_err(|error| error.to_string())?;
    let place = location_to_call(&options.layers).map_err(|error| error.to_string())?;
    let layers = options.layers;
    let target = Target {
        layers,
        place,
        call_options,
    };
    match calls {
        Calls::One {
            method,
            arguments,
            named,
        } => one(&target, &method, &arguments, named),
        Calls::Batch => batch::run(&target, &mut std::io::stdin().lock()),
    }
}

/// Calls a method and prints its result: a string bare, everything else as indented JSON.
fn one(
    target: &Target,
    method: &str,
    arguments: &[String],
    named: bool,
) -> Result<ExitCode, String> {
    let params = arguments::read(method, arguments, named)?;
    let request = json!({ "jsonrpc": "2.0", "id": 1, "method": method, "params": params });
    match client::block_on(target.one(&request))?? {
        Ok(result) => {
            print_result(&result);
            Ok(ExitCode::SUCCESS)
        }
        Err(failure) => {
            eprintln!("error code: {}", failure.code);
            eprintln!("error message:\n{}", failure.message);
            if failure.is_unknown_method() {
                let names = handfast_api::methods::all().map(|spec| spec.name.to_owned());
                let meant = nearest(method, names.collect())
                    .map_or_else(String::new, |name| format!("is {name} meant? "));
                eprintln!("{meant}`handfast rpc help` lists the methods");
            }
            Ok(failure.exit_code())
        }
    }
}

impl Target {
    /// Where the next call goes. The node that a call waits for may start on any network, so
    /// each attempt looks for it again.
    fn place(&self) -> Result<NodeLocation, String> {
        match self.call_options.wait {
            Wait::No => Ok(self.place.clone()),
            Wait::For(_) => location_to_call(&self.layers).map_err(|error| error.to_string()),
        }
    }

    /// One request with the id 1, and its reply.
    async fn one(&self, request: &Value) -> Result<Reply, String> {
        let body = request.to_string();
        let ask = || async {
            let place = match self.place() {
                Ok(place) => place,
                Err(error) => return Ok(Err(error)),
            };
            let answer = client::post(&place, self.call_options.timeouts, body.clone()).await?;
            let reply = reply::one(&answer.body);
            Ok::<_, ClientError>(reply.map_err(|what| answer.foreign(&what)))
        };
        let answer = match self.call_options.wait {
            Wait::No => ask().await,
            Wait::For(limit) => {
                let starting = |reply: &Result<Reply, String>| matches!(reply, Ok(Err(failure)) if failure.is_warmup());
                client::wait_while_starting(limit, ask, starting).await
            }
        };
        answer.map_err(|error| error.to_string())?
    }
}

fn print_result(result: &Value) {
    let text = match result {
        Value::Null => return,
        Value::String(text) => text.clone(),
        other => reply::indented(other),
    };
    print(&(text + "\n"));
}
