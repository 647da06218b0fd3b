//! The command line of `handfast fuzz`, for clap.

use std::time::Duration;

use clap::builder::PathBufValueParser;
use clap::{Arg, ArgAction, Command};
use handfast_fuzz::oracle::GRACE;
use handfast_fuzz::plan::MAX_SEED;

use super::options::{CONCURRENCY, CYCLES, DURATION, MAX_DURATION};
use super::shrink::TRIES;

/// The name of the subcommand.
pub(crate) const NAME: &str = "fuzz";
/// Most connections at a time: more than a process may have descriptors for.
const MAX_CONCURRENCY: u64 = 20_000;
/// Most connections in all.
const MAX_CYCLES: u64 = 1_000_000_000;

const ABOUT: &str = "\
Opens and closes connections to a node in every way that a peer can, and looks all the while,
as an honest peer, whether the node is still well.

  handfast fuzz run --target 127.0.0.1:18444 --network regtest --scenario mix --report out

The verdict is one of ok, slow, memory growth, ghost peers, stuck sync, refuses, unreachable,
crashed. The exit code is 0 for ok and 1 for any other; 2 if there was no run, or one that proves nothing,
or if what it left could not be written.

It is a load tool: it goes to this machine and to private networks, and anywhere else only
with --i-operate-this-node; never to mainnet.
";

pub(crate) fn command() -> Command {
    Command::new(NAME)
        .about("Test whether a node survives peers that connect and disconnect")
        .after_help(ABOUT)
        .subcommand_required(true)
        .subcommand(
            Command::new("scenarios")
                .about("List the scenarios, or describe one")
                .arg(Arg::new("SCENARIO").help("The scenario to describe")),
        )
        .subcommand(run_command())
        .subcommand(
            replay_command(
                "replay",
                "Replay the connections of a trace, at the same times",
            )
            .arg(report())
            .arg(overwrite()),
        )
        .subcommand(
            Command::new("show")
                .about("Print a trace as text")
                .arg(file("FILE", "The trace")),
        )
        .subcommand(shrink_command())
}

/// A subcommand that replays a file.
fn replay_command(name: &'static str, about: &'static str) -> Command {
    let command = Command::new(name)
        .about(about)
        .arg(file("FILE", "The trace"))
        .arg(text(
            "target",
            "HOST:PORT",
            "Target, instead of that of the trace",
        ))
        .arg(answer_timeout())
        .arg(own());
    with_rpc(command)
}

/// Adds the options of the target's RPC.
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
            "Shell command that starts a fresh target in the foreground; it is killed after each run",
        )
        .required(true),
    )
    .arg(path("output", "FILE", "File for the shorter trace").required(true))
    .arg(overwrite())
    .arg(number(
        "tries",
        100_000,
        format!("Maximum number of runs in all [default: {TRIES}]"),
    ))
}

fn file(name: &'static str, help: &'static str) -> Arg {
    Arg::new(name)
        .required(true)
        .value_parser(PathBufValueParser::new())
        .help(help)
}

fn answer_timeout() -> Arg {
    let help = "Timeout for the handshake of an honest peer, and for a new block [default: 30s]";
    time("answer-timeout", 3_600, help.into()).alias("patience")
}

fn report() -> Arg {
    let help = "Directory for report.html and report.json";
    path("report", "DIR", help)
}

fn overwrite() -> Arg {
    Arg::new("overwrite")
        .long("overwrite")
        .action(ArgAction::SetTrue)
        .help("Overwrite the files of an earlier run")
}

fn own() -> Arg {
    Arg::new("i-operate-this-node")
        .long("i-operate-this-node")
        .action(ArgAction::SetTrue)
        .help("Allow a public address: I operate this node")
}

fn number(name: &'static str, most: u64, help: String) -> Arg {
    Arg::new(name)
        .long(name)
        .value_name("N")
        .value_parser(clap::value_parser!(u64).range(1..=most))
        .help(help)
}

/// A time from a second to `most` seconds.
fn time(name: &'static str, most: u64, help: String) -> Arg {
    Arg::new(name)
        .long(name)
        .value_name("TIME")
        .value_parser(move |text: &str| span(text, most))
        .help(help)
}

/// Seconds, or a number with its unit.
fn span(text: &str, most: u64) -> Result<Duration, String> {
    let digits = text.trim_end_matches(|it: char| it.is_ascii_alphabetic());
    let unit = match &text[digits.len()..] {
        "" | "s" => Some(1_u64),
        "m" => Some(60),
        "h" => Some(3_600),
        _ => None,
    };
    let number = digits.parse().ok();
    let (Some(number), Some(unit)) = (number, unit) else {
        return Err("a time is a whole number with s, m or h, as 90s, 5m or 2h".into());
    };
    let seconds = unit
        .checked_mul(number)
        .filter(|it| (1..=most).contains(it));
    seconds
        .map(Duration::from_secs)
        .ok_or_else(|| format!("it takes 1s to {}h", most / 3_600))
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
        .arg(text("target", "HOST:PORT", "The node's P2P address").required(true))
        .arg(text(
            "network",
            "NAME",
            "Its network: regtest, signet, testnet3, testnet4 [default: regtest]",
        ))
        .arg(text(
            "signet-challenge",
            "HEX",
            "The challenge of a custom signet",
        ))
        .arg(
            text(
                "scenario",
                "NAME",
                "Scenario to run; can be repeated; mix: all of them [default: mix]",
            )
            .action(ArgAction::Append),
        )
        .arg(
            text(
                "seed",
                "N",
                "Random seed, below 2^53 [default: random, and printed]",
            )
            .value_parser(clap::value_parser!(u64).range(0..=MAX_SEED)),
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
        .arg(time(
            "duration",
            MAX_DURATION,
            format!(
                "Time during which connections begin, e.g. 90s, 5m or 2h; the whole run takes {} s longer \
                 at most [default: {DURATION}s, unless --cycles is given]",
                GRACE.as_secs()
            ),
        ))
        .arg(number(
            "rate",
            1_000_000,
            "Most connections per second".into(),
        ))
        .arg(text(
            "source-range",
            "CIDR",
            "Source addresses, used in turn, e.g. 127.1.0.0/16",
        ))
        .arg(report())
        .arg(overwrite())
        .arg(text(
            "magic",
            "HEX",
            "Message start bytes, if they are not the network's",
        ))
        .arg(
            text(
                "protocol-version",
                "N",
                "Protocol version in our version message [default: 70016]",
            )
            .value_parser(clap::value_parser!(i32)),
        )
        .arg(time(
            "handshake-deadline",
            3_600,
            "The node's handshake timeout [default: 60s; btcd: 30s]".into(),
        ))
        .arg(path(
            "trace",
            "FILE",
            "File that records everything sent and received",
        ))
        .arg(answer_timeout())
        .arg(own());
    with_rpc(command)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_has_a_unit_or_is_seconds_and_is_bounded() {
        let seconds = |text| span(text, MAX_DURATION).map(|it| it.as_secs());
        for (text, expected) in [
            ("7", 7),
            ("5s", 5),
            ("2m", 120),
            ("1h", 3_600),
            ("24h", 86_400),
        ] {
            assert_eq!(seconds(text), Ok(expected), "{text}");
        }
        for text in ["", "s", "2d", "1.5h", "-1s", "5 s", "2mm", "2\u{20ac}"] {
            let error = seconds(text).expect_err(text);
            assert!(error.contains("90s, 5m or 2h"), "{text}: {error}");
        }
        for text in ["0", "0h", "25h", "18446744073709551615h"] {
            let error = seconds(text).expect_err(text);
            assert!(error.contains("1s to 24h"), "{text}: {error}");
        }
    }
}
