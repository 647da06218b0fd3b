//! The command line.

use std::ffi::OsString;
use std::ops::RangeInclusive;
use std::time::Duration;

use clap::builder::PathBufValueParser;
use clap::error::ErrorKind;
use clap::{Arg, ArgAction, ArgMatches, Command};
use handfast_cli::keys::Scope;
use handfast_cli::usage::{Options, Usage, one_line, options, run_command, with_options};

use crate::client::{DEFAULT_TIMEOUT, Timeouts};
use crate::fuzz_command;
use crate::rpc_command::{CallOptions, Calls, Wait};
use crate::testnet;

/// The parsed command.
#[derive(Debug)]
pub(crate) enum CliCommand {
    /// Call RPC methods of a running node.
    Rpc {
        options: Options,
        calls: Calls,
        call_options: CallOptions,
    },
    /// Show the state of a running node.
    Status(Options),
    /// Run three nodes that mine and follow.
    Testnet(testnet::TestnetOptions),
    /// Fuzz a node: a command line of its own.
    Fuzz(ArgMatches),
}

/// Parses the command line. A wrong one gives one line with a hint; `--help`
/// and `--version` give their text and no error.
pub(crate) fn parse(arguments: impl Iterator<Item = OsString>) -> Result<CliCommand, Usage> {
    let arguments: Vec<OsString> = arguments.collect();
    let matches = command()
        .try_get_matches_from(&arguments)
        .map_err(|error| usage_of(&error, &arguments))?;
    let (name, matches) = matches.subcommand().expect("clap requires a subcommand");
    if name == testnet::NAME {
        return Ok(CliCommand::Testnet(testnet_options(matches)));
    }
    if name == fuzz_command::NAME {
        return Ok(CliCommand::Fuzz(matches.clone()));
    }
    let options = options(matches, Scope::Everywhere);
    Ok(match name {
        "status" => CliCommand::Status(options),
        "rpc" => CliCommand::Rpc {
            options,
            calls: calls(matches),
            call_options: call_options(matches),
        },
        other => unreachable!("clap knows no subcommand {other}"),
    })
}

fn usage_of(error: &clap::Error, arguments: &[OsString]) -> Usage {
    match error.kind() {
        ErrorKind::DisplayHelp | ErrorKind::DisplayVersion => Usage::Text(error.to_string()),
        ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand | ErrorKind::MissingSubcommand => {
            Usage::Wrong(match fuzz_command::is_meant() {
                true => "no command given; try `handfast fuzz run --target HOST:PORT`, or \
                         `handfast fuzz --help` for all of them"
                    .into(),
                false => "no command given; try `handfast run --network regtest`, or \
                          `handfast --help` for all of them"
                    .into(),
            })
        }
        _ => Usage::Wrong(one_line(error, &command(), arguments)),
    }
}

fn command() -> Command {
    Command::new("handfast")
        .version(env!("CARGO_PKG_VERSION"))
        .about("A Bitcoin full node")
        .subcommand_required(true)
        // Shown in the help; `main` passes it to `handfastd` before this is used.
        .subcommand(run_command())
        .subcommand(with_options(
            Command::new("status").about("Show the state of the running node"),
            Scope::Everywhere,
        ))
        .subcommand(with_options(rpc_command(), Scope::Everywhere))
        .subcommand(testnet_command())
        .subcommand(fuzz_command::command())
}

/// Interval between testnet blocks, seconds.
const MINE_INTERVAL: RangeInclusive<f64> = 0.1..=3_600.0;

fn mine_interval(text: &str) -> Result<f64, String> {
    let seconds = text
        .parse()
        .ok()
        .filter(|seconds| MINE_INTERVAL.contains(seconds));
    let (least, most) = MINE_INTERVAL.into_inner();
    seconds.ok_or_else(|| format!("it takes {least} to {most}"))
}

fn testnet_command() -> Command {
    Command::new(testnet::NAME)
        .about("Run three regtest nodes in a line, the first of which mines, and show their state")
        .arg(
            Arg::new("datadir")
                .long("datadir")
                .value_name("DIR")
                .value_parser(PathBufValueParser::new())
                .help("Directory for the nodes' files, which are not removed [default: a temporary directory, which is removed]"),
        )
        .arg(
            Arg::new("mine-interval")
                .long("mine-interval")
                .value_name("SECONDS")
                .value_parser(mine_interval)
                .default_value("5")
                .help("Seconds between blocks"),
        )
}

fn testnet_options(matches: &ArgMatches) -> testnet::TestnetOptions {
    testnet::TestnetOptions {
        datadir: matches.get_one("datadir").cloned(),
        mine_interval: *matches.get_one("mine-interval").expect("it has a default"),
    }
}

fn calls(matches: &ArgMatches) -> Calls {
    match matches.get_one::<String>("METHOD") {
        None => Calls::Batch,
        Some(method) => Calls::One {
            method: method.clone(),
            arguments: matches
                .get_many("ARGS")
                .into_iter()
                .flatten()
                .cloned()
                .collect(),
            named: matches.get_flag("named"),
        },
    }
}

fn call_options(matches: &ArgMatches) -> CallOptions {
    let seconds = |name| matches.get_one::<u64>(name).copied();
    // 0: without limit, as with `bitcoin-cli -rpcclienttimeout`.
    let limit = |name| match seconds(name) {
        None => Some(DEFAULT_TIMEOUT),
        Some(0) => None,
        Some(seconds) => Some(Duration::from_secs(seconds)),
    };
    CallOptions {
        timeouts: Timeouts {
            connect: limit("connect-timeout"),
            answer: limit("timeout"),
        },
        wait: match seconds("wait") {
            None => Wait::No,
            Some(0) => Wait::For(None),
            Some(seconds) => Wait::For(Some(Duration::from_secs(seconds))),
        },
    }
}

const RPC_HELP: &str = "\
`handfast rpc help` lists the methods, `handfast rpc help METHOD` explains one.

With --batch the calls come from standard input: one per line, a method and its arguments
as on a command line, or a JSON object with `method` and `params`; empty lines and what
follows a # are skipped. The answers come in the same order, one JSON object per line,
with the number of the line as `id` unless the call has one. If the input is a JSON array
of such objects, so is the output. Nothing is called when a line cannot be read.

  seq 0 9 | sed 's/^/getblockhash /' | handfast rpc --batch | jq -r .result

Exit codes: 0 with a result; 1 when the node is absent, hangs or is another program, with
one line on standard error; else the code of the RPC error without its sign, modulo 256,
with its message on standard error. Of a batch, that of the first call that failed.
";

fn rpc_command() -> Command {
    // A day: longer is the same as without limit.
    let seconds = |name, help| {
        let values = clap::value_parser!(u64).range(0..=86_400);
        Arg::new(name)
            .long(name)
            .value_name("SECONDS")
            .value_parser(values)
            .help(help)
    };
    Command::new("rpc")
        .about("Call RPC methods of the running node")
        .after_help(RPC_HELP)
        .arg(Arg::new("named").long("named").action(ArgAction::SetTrue).help("Arguments are NAME=VALUE"))
        .arg(
            Arg::new("batch")
                .long("batch")
                .action(ArgAction::SetTrue)
                .conflicts_with_all(["METHOD", "named"])
                .help("Make the calls read from standard input; see below"),
        )
        .arg(seconds("connect-timeout", "Time to connect; 0: without limit [default: 30]"))
        .arg(seconds("timeout", "Time for an answer; 0: without limit [default: 30]"))
        .arg(
            seconds("wait", "Wait for a node that is not running yet or still opens its chain: for so many seconds, or without limit")
                .num_args(0..=1)
                .require_equals(true)
                .default_missing_value("0"),
        )
        .arg(
            Arg::new("METHOD")
                .required_unless_present("batch")
                .help("The method, e.g. getblockchaininfo"),
        )
        .arg(
            Arg::new("ARGS")
                .num_args(0..)
                .trailing_var_arg(true)
                .allow_hyphen_values(true)
                .help("Its arguments: text as it is, numbers and true/false where the method takes them"),
        )
}
