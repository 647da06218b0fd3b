//! The command line.

use std::ffi::OsString;
use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::time::Duration;

use clap::builder::PathBufValueParser;
use clap::{Arg, ArgAction, ArgMatches, Command};

use crate::client::{DEFAULT_TIMEOUT, Patience};
use crate::fuzz_command;
use crate::rpc_command::{Calls, Manners, Wait};
use crate::settings::{KEYS, Layers, Scope, Shape, network_called};
use crate::testnet;

/// What the user wants.
#[derive(Debug)]
pub(crate) enum Order {
    /// Run a node.
    Run(Options),
    /// Call RPC methods of a running node.
    Rpc {
        options: Options,
        calls: Calls,
        manners: Manners,
    },
    /// Say how a running node is doing.
    Status(Options),
    /// Run three nodes that mine and follow.
    Testnet(testnet::Wishes),
    /// Fuzz a node: a command line of its own.
    Fuzz(ArgMatches),
}

/// The options of a command, unchecked.
#[derive(Debug)]
pub(crate) struct Options {
    pub(crate) layers: Layers,
    pub(crate) config: Option<PathBuf>,
}

/// Parses the command line. A wrong one gives one line with a hint; `--help`
/// and `--version` give their text and no error.
pub(crate) fn parse(arguments: impl Iterator<Item = OsString>) -> Result<Order, Usage> {
    let arguments: Vec<OsString> = arguments.collect();
    let matches = command()
        .try_get_matches_from(&arguments)
        .map_err(|error| Usage::of(&error, &arguments))?;
    let (name, matches) = matches.subcommand().expect("clap requires a subcommand");
    if name == testnet::NAME {
        return Ok(Order::Testnet(wishes(matches)));
    }
    if name == fuzz_command::NAME {
        return Ok(Order::Fuzz(matches.clone()));
    }
    let options = options(matches, name == "run");
    Ok(match name {
        "run" => Order::Run(options),
        "status" => Order::Status(options),
        "rpc" => Order::Rpc {
            options,
            calls: calls(matches),
            manners: manners(matches),
        },
        other => unreachable!("clap knows no subcommand {other}"),
    })
}

/// Why there is no order.
#[derive(Debug)]
pub(crate) enum Usage {
    /// The user asked for a text.
    Text(String),
    /// The command line is wrong; one line.
    Wrong(String),
}

impl Usage {
    fn of(error: &clap::Error, arguments: &[OsString]) -> Self {
        use clap::error::ErrorKind;
        match error.kind() {
            ErrorKind::DisplayHelp | ErrorKind::DisplayVersion => Self::Text(error.to_string()),
            ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand | ErrorKind::MissingSubcommand => {
                Self::Wrong(match fuzz_command::is_meant() {
                    true => "no command given; try `handfast fuzz run --target HOST:PORT`, or \
                             `handfast fuzz --help` for all of them"
                        .into(),
                    false => "no command given; try `handfast run --network regtest`, or `handfast --help` for all \
                              of them"
                        .into(),
                })
            }
            _ => Self::Wrong(one_line(error, arguments)),
        }
    }
}

/// clap's message without its decoration: the cause, what was meant, where to look.
///
/// clap's own tips are left out: it takes `start` for `status`, and tells to write `--` before
/// an option that there is not. What is similar by a slip or two is named instead.
fn one_line(error: &clap::Error, arguments: &[OsString]) -> String {
    use clap::error::ContextKind;
    let message = error.to_string();
    let end = message.find("\n\n").unwrap_or(message.len());
    let text = message[..end].trim_start_matches("error: ");
    let words: Vec<&str> = text
        .lines()
        .map(str::trim)
        .filter(|line| !line.is_empty())
        .collect();
    let text = words.join("; ").replace(":; ", ": ");
    let text = text
        .split("; For more information")
        .next()
        .unwrap_or_default();
    let root = command();
    let (named, path) = named_command(&root, arguments);
    let given = |kind| error.get(kind).map(ToString::to_string);
    if let (clap::error::ErrorKind::TooManyValues, Some(option), Some(value)) = (
        error.kind(),
        given(ContextKind::InvalidArg),
        given(ContextKind::InvalidValue),
    ) {
        return format!("{option} takes no value, and {value:?} was given; see `{path} --help`");
    }
    let meant = match (
        given(ContextKind::InvalidSubcommand),
        given(ContextKind::InvalidArg),
    ) {
        (Some(given), _) => {
            let names = named.get_subcommands().map(|known| known.get_name());
            nearest(&given, names.map(str::to_owned).collect())
        }
        (None, Some(given)) => {
            let options = named.get_arguments().filter_map(Arg::get_long);
            let options: Vec<String> = options.map(|name| format!("--{name}")).collect();
            single_dash(arguments, &options).or_else(|| nearest(&given, options))
        }
        (None, None) => None,
    };
    let meant = meant.map_or_else(String::new, |name| format!(" (is {name} meant?)"));
    format!("{text}{meant}; see `{path} --help`")
}

/// The command that the arguments begin with, and how it is called.
fn named_command<'a>(root: &'a Command, arguments: &[OsString]) -> (&'a Command, String) {
    let mut named = root;
    let mut path = root.get_name().to_owned();
    for argument in arguments.iter().skip(1) {
        let Some(next) = argument
            .to_str()
            .and_then(|name| named.find_subcommand(name))
        else {
            break;
        };
        named = next;
        path = format!("{path} {}", next.get_name());
    }
    (named, path)
}

/// What is meant by an option in Bitcoin Core's form: `-regtest`, `-datadir=DIR`.
fn single_dash(arguments: &[OsString], options: &[String]) -> Option<String> {
    arguments.iter().skip(1).find_map(|argument| {
        let word = argument.to_str()?.strip_prefix('-')?;
        let name = word.split('=').next().filter(|name| name.len() > 1)?;
        if name.starts_with('-') || !options.contains(&"--network".to_owned()) {
            return None;
        }
        match name {
            // That of Bitcoin Core is the third one.
            "testnet" | "test" => Some("--network testnet3".to_owned()),
            name if network_called(name).is_some() => Some(format!("--network {name}")),
            name => nearest(&format!("--{name}"), options.to_vec()),
        }
    })
}

/// The word that differs from `given` by no more than two slips; in a short one two make
/// another word of it, and so does another letter at its beginning: `--test` is not `--rest`.
fn nearest(given: &str, mut words: Vec<String>) -> Option<String> {
    let letters = |word: &str| word.trim_start_matches('-').to_owned();
    let is_short = |word: &str| letters(word).len() <= 5;
    let slips = |word: &str| if is_short(word) { 1 } else { 2 };
    let first = |word: &str| letters(word).chars().next();
    words.retain(|word| !is_short(word) || first(word) == first(given));
    let distance = |word: &String| strsim::damerau_levenshtein(given, word);
    let nearest = words.into_iter().min_by_key(distance)?;
    (distance(&nearest) <= slips(&nearest)).then_some(nearest)
}

fn command() -> Command {
    Command::new("handfast")
        .version(env!("CARGO_PKG_VERSION"))
        .about("A Bitcoin full node")
        .subcommand_required(true)
        .subcommand(with_options(
            Command::new("run").about("Run a node until it is told to stop"),
            true,
        ))
        .subcommand(with_options(
            Command::new("status").about("Say how the running node is doing"),
            false,
        ))
        .subcommand(with_options(rpc_command(), false))
        .subcommand(testnet_command())
        .subcommand(fuzz_command::command())
}

/// From one block of a testnet to the next, seconds: as fast as a reader can follow, to an hour.
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
        .about("Run three regtest nodes in a line, the first of which mines, and show how they are")
        .arg(
            Arg::new("datadir")
                .long("datadir")
                .value_name("DIR")
                .value_parser(PathBufValueParser::new())
                .help("Where the nodes keep their files, and leave them [default: a temporary directory, which is removed]"),
        )
        .arg(
            Arg::new("mine-interval")
                .long("mine-interval")
                .value_name("SECONDS")
                .value_parser(mine_interval)
                .default_value("5")
                .help("From one block to the next"),
        )
}

fn wishes(matches: &ArgMatches) -> testnet::Wishes {
    testnet::Wishes {
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

fn manners(matches: &ArgMatches) -> Manners {
    let seconds = |name| matches.get_one::<u64>(name).copied();
    // 0 is without end, as with `bitcoin-cli -rpcclienttimeout`.
    let limit = |name| match seconds(name) {
        None => Some(DEFAULT_TIMEOUT),
        Some(0) => None,
        Some(seconds) => Some(Duration::from_secs(seconds)),
    };
    Manners {
        patience: Patience {
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
    // A day: whoever wants to wait longer does not want a limit.
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
                .help("Make the calls that come from standard input; see below"),
        )
        .arg(seconds("connect-timeout", "Time to connect; 0: without limit [default: 30]"))
        .arg(seconds("timeout", "Time for an answer; 0: without limit [default: 30]"))
        .arg(
            seconds("wait", "Wait for a node that is not there yet or still opens its chain: so many seconds, or as long as it takes")
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
                .help("Its arguments: text as it is, numbers and true/false where the method wants them"),
        )
}

fn with_options(mut command: Command, run: bool) -> Command {
    let config = Arg::new("config")
        .long("config")
        .value_name("FILE")
        .value_parser(PathBufValueParser::new())
        .help("Configuration, TOML, same keys as the options [default: handfast.toml in the data directory, if there]");
    command = command.arg(config);
    for key in KEYS
        .iter()
        .filter(|key| run || key.scope == Scope::Everywhere)
    {
        let arg = Arg::new(key.name).long(key.name).help(key.help);
        command = command.arg(match key.shape {
            Shape::One(value) => arg
                .value_name(value)
                .action(ArgAction::Set)
                .allow_hyphen_values(false),
            Shape::Many(value) => arg.value_name(value).action(ArgAction::Append),
            Shape::Flag => arg.action(ArgAction::SetTrue),
        });
    }
    command
}

fn options(matches: &ArgMatches, run: bool) -> Options {
    let mut layers = Layers::default();
    for key in KEYS
        .iter()
        .filter(|key| run || key.scope == Scope::Everywhere)
    {
        match key.shape {
            Shape::Flag if matches.get_flag(key.name) => {
                layers.command_line(key.name, vec!["true".into()])
            }
            Shape::Flag => {}
            Shape::One(_) | Shape::Many(_) => {
                if let Some(values) = matches.get_many::<String>(key.name) {
                    layers.command_line(key.name, values.cloned().collect());
                }
            }
        }
    }
    Options {
        layers,
        config: matches.get_one::<PathBuf>("config").cloned(),
    }
}
