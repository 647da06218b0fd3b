//! The command line of `handfast fuzz`, as clap knows it.

use clap::builder::PathBufValueParser;
use clap::{Arg, ArgAction, Command};

use super::options::{CONCURRENCY, CYCLES, DURATION, MAX_DURATION};

/// Of the subcommand.
pub(crate) const NAME: &str = "fuzz";
/// Connections at a time at most: more than one process may have descriptors for.
const MAX_CONCURRENCY: u64 = 20_000;
/// The most connections that one may ask for.
const MAX_CYCLES: u64 = 1_000_000_000;

const ABOUT: &str = "\
Opens and closes connections to a node in every way that a peer can, and looks all the while,
as an honest peer, whether the node is still well.

  handfast fuzz run --target 127.0.0.1:18444 --network regtest --scenario mix --report out

The verdict is one of ok, slow, ghost peers, stuck sync, refuses, unreachable, crashed. The
exit code is 0 for ok and 1 for any other; 2 if there was no run, or one that proves nothing.

It is a load tool: it goes to this machine and to private networks, and anywhere else only
with --i-operate-this-node; never to mainnet.
";

pub(crate) fn command() -> Command {
    Command::new(NAME)
        .about("Find out whether a node survives peers that come and go")
        .after_help(ABOUT)
        .subcommand_required(true)
        .subcommand(
            Command::new("scenarios")
                .about("List what connections can do, or explain one")
                .arg(Arg::new("SCENARIO").help("Whose page is shown")),
        )
        .subcommand(run_command())
        .subcommand(replay_command(
            "replay",
            "Make the connections of a trace again, at the same times",
        ))
        .subcommand(
            Command::new("show")
                .about("Print a trace for people")
                .arg(file("FILE", "The trace")),
        )
        .subcommand(shrink_command())
}

/// A run of what is in a file.
fn replay_command(name: &'static str, about: &'static str) -> Command {
    let command = Command::new(name)
        .about(about)
        .arg(file("FILE", "The trace"))
        .arg(text(
            "target",
            "HOST:PORT",
            "Another target than that of the trace",
        ))
        .arg(path(
            "report",
            "DIR",
            "Where report.html and report.json are written",
        ))
        .arg(patience())
        .arg(own());
    with_rpc(command)
}

/// Where the target's RPC is.
fn with_rpc(command: Command) -> Command {
    command
        .arg(text(
            "rpc",
            "URL",
            "The node's RPC, e.g. http://127.0.0.1:18443: its own count of peers, and rpc-burst",
        ))
        .arg(path("rpc-cookie", "FILE", "Its cookie").requires("rpc"))
        .arg(path("rpc-socket", "PATH", "Its RPC on a Unix socket").conflicts_with("rpc"))
}

fn shrink_command() -> Command {
    replay_command(
        "shrink",
        "Find a shorter trace that still gets a verdict other than ok",
    )
    .arg(
        text(
            "start",
            "COMMAND",
            "Starts the target, afresh, by a shell; it is killed after each try",
        )
        .required(true),
    )
    .arg(path("output", "FILE", "Where the shorter trace is written").required(true))
    .arg(number(
        "tries",
        100_000,
        "Runs at most [default: 200]".into(),
    ))
}

fn file(name: &'static str, help: &'static str) -> Arg {
    Arg::new(name)
        .required(true)
        .value_parser(PathBufValueParser::new())
        .help(help)
}

fn patience() -> Arg {
    let help = "Seconds that an honest peer, or a block, may have to wait [default: 30]";
    number("patience", 3_600, help.into())
}

fn own() -> Arg {
    Arg::new("i-operate-this-node")
        .long("i-operate-this-node")
        .action(ArgAction::SetTrue)
        .help("The target has a public address and is mine")
}

fn number(name: &'static str, most: u64, help: String) -> Arg {
    Arg::new(name)
        .long(name)
        .value_name("N")
        .value_parser(clap::value_parser!(u64).range(1..=most))
        .help(help)
}

fn text(name: &'static str, value: &'static str, help: &'static str) -> Arg {
    Arg::new(name).long(name).value_name(value).help(help)
}

fn path(name: &'static str, value: &'static str, help: &'static str) -> Arg {
    text(name, value, help).value_parser(PathBufValueParser::new())
}

fn run_command() -> Command {
    let command = Command::new("run")
        .about("Run scenarios against a node")
        .arg(text("target", "HOST:PORT", "The node's socket for peers").required(true))
        .arg(text(
            "network",
            "NAME",
            "Its network: regtest, signet, testnet3, testnet4 [default: regtest]",
        ))
        .arg(text(
            "signet-challenge",
            "HEX",
            "The challenge of a signet of one's own",
        ))
        .arg(
            text(
                "scenario",
                "NAME",
                "What connections do; can be repeated; mix: all of them [default: mix]",
            )
            .action(ArgAction::Append),
        )
        .arg(
            text(
                "seed",
                "N",
                "Where everything random comes from [default: random, and printed]",
            )
            .value_parser(clap::value_parser!(u64)),
        )
        .arg(number(
            "concurrency",
            MAX_CONCURRENCY,
            format!("Connections at a time [default: {CONCURRENCY}]"),
        ))
        .arg(number(
            "cycles",
            MAX_CYCLES,
            format!("Connections in all [default: {CYCLES}, unless --duration is given]"),
        ))
        .arg(number(
            "duration",
            MAX_DURATION,
            format!("Seconds after which none begins [default: {DURATION}]"),
        ))
        .arg(number(
            "rate",
            1_000_000,
            "Connections a second at most".into(),
        ))
        .arg(text(
            "source-range",
            "CIDR",
            "Addresses to come from, by turns, e.g. 127.1.0.0/16",
        ))
        .arg(path(
            "report",
            "DIR",
            "Where report.html and report.json are written",
        ))
        .arg(text(
            "magic",
            "HEX",
            "The four bytes that open a frame, if they are not the network's",
        ))
        .arg(
            text(
                "protocol-version",
                "N",
                "The version that we claim [default: 70016]",
            )
            .value_parser(clap::value_parser!(i32)),
        )
        .arg(number(
            "handshake-deadline",
            3_600,
            "Seconds after which the node gives up a handshake [default: 60; btcd: 30]".into(),
        ))
        .arg(path(
            "trace",
            "FILE",
            "Where everything that was sent and heard is written down",
        ))
        .arg(patience())
        .arg(own());
    with_rpc(command)
}
