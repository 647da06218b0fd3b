//! `handfast rpc METHOD [ARGS]`, with the manners of `bitcoin-cli`.

mod arguments;
mod batch;
mod reply;

use std::process::ExitCode;
use std::time::Duration;

use handfast_cli::output::print;
use handfast_cli::usage::Options;
use handfast_cli::{NodeLocation, add_config_file, location_to_call};
use serde_json::{Value, json};

use crate::client::{self, ClientError, Patience};
use reply::{Reply, RpcFailure};

/// What is to be called.
#[derive(Clone, Debug)]
pub(crate) enum Calls {
    /// One method.
    One {
        method: String,
        arguments: Vec<String>,
        /// Arguments are `NAME=VALUE`.
        named: bool,
    },
    /// Those on standard input.
    Batch,
}

/// How long to wait for what.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Manners {
    pub(crate) patience: Patience,
    pub(crate) wait: Wait,
}

/// What to do about a node that is not there or that is still starting.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Wait {
    /// Say so.
    #[default]
    No,
    /// Wait for it; `None`: as long as it takes.
    For(Option<Duration>),
}

/// Where calls go.
struct Target {
    place: NodeLocation,
    manners: Manners,
}

/// Makes the calls and prints what came of them.
pub(crate) fn call(
    mut options: Options,
    calls: Calls,
    manners: Manners,
) -> Result<ExitCode, String> {
    add_config_file(&mut options.layers, options.config.as_deref())
        .map_err(|error| error.to_string())?;
    let place = location_to_call(&options.layers).map_err(|error| error.to_string())?;
    let target = Target { place, manners };
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
            Ok(failure.exit_code())
        }
    }
}

impl Target {
    /// One request with the id 1, and its reply.
    async fn one(&self, request: &Value) -> Result<Reply, String> {
        let body = request.to_string();
        let ask = || async {
            let answer = client::post(&self.place, self.manners.patience, body.clone()).await?;
            let reply = reply::one(&answer.body);
            Ok::<_, ClientError>(reply.map_err(|what| answer.foreign(&what)))
        };
        let answer = match self.manners.wait {
            Wait::No => ask().await,
            Wait::For(limit) => {
                let starting = |reply: &Result<Reply, String>| matches!(reply, Ok(Err(failure)) if failure.code == RpcFailure::IN_WARMUP);
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
