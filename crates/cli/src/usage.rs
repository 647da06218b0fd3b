//! The options of a command, and the error message of a wrong command line.

use std::ffi::OsString;
use std::path::PathBuf;

use clap::builder::PathBufValueParser;
use clap::{Arg, ArgAction, ArgMatches, Command};

use crate::keys::{KEYS, Key, Scope, Shape};
use crate::layers::Layers;
use crate::location::network_called;

/// The options of a command, unchecked.
#[derive(Debug)]
pub struct Options {
    /// The values on the command line.
    pub layers: Layers,
    /// The file of `--config`.
    pub config: Option<PathBuf>,
}

/// The reason to end without running a command.
#[derive(Debug)]
pub enum Usage {
    /// The user asked for help or the version.
    Text(String),
    /// The command line is wrong; the error in one line.
    Wrong(String),
}

/// `handfast run`, which `handfast` documents and `handfastd` runs.
#[must_use]
pub fn run_command() -> Command {
    with_options(
        Command::new("run").about("Run a node until it is stopped"),
        Scope::Run,
    )
}

/// `command` with the options of this scope.
#[must_use]
pub fn with_options(mut command: Command, scope: Scope) -> Command {
    let config = Arg::new("config")
        .long("config")
        .value_name("FILE")
        .value_parser(PathBufValueParser::new())
        .help("Configuration file, TOML, same keys as the options [default: handfast.toml in the data directory, if it exists]");
    command = command.arg(config);
    for key in keys_of(scope) {
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

/// The options of this scope on a command line.
#[must_use]
pub fn options(matches: &ArgMatches, scope: Scope) -> Options {
    let mut layers = Layers::default();
    for key in keys_of(scope) {
        match key.shape {
            Shape::Flag if matches.get_flag(key.name) => {
                layers.command_line(key, vec!["true".into()]);
            }
            Shape::Flag => {}
            Shape::One(_) | Shape::Many(_) => {
                if let Some(values) = matches.get_many::<String>(key.name) {
                    layers.command_line(key, values.cloned().collect());
                }
            }
        }
    }
    Options {
        layers,
        config: matches.get_one::<PathBuf>("config").cloned(),
    }
}

fn keys_of(scope: Scope) -> impl Iterator<Item = Key> {
    let known = move |key: &&Key| scope == Scope::Run || key.scope == Scope::Everywhere;
    KEYS.iter().filter(known).copied()
}

/// clap's message in one line: the cause, the most similar name, the command's `--help`. `root`:
/// the command of `arguments`, the first of which is its name.
///
/// clap's own tips are left out: it suggests `status` for `start`, and `--` before an unknown
/// option. A name that differs by one or two typos is suggested instead.
#[must_use]
pub fn one_line(error: &clap::Error, root: &Command, arguments: &[OsString]) -> String {
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
    let (command, path) = find_command(root, arguments);
    let given = |kind| error.get(kind).map(ToString::to_string);
    if let (clap::error::ErrorKind::TooManyValues, Some(option), Some(value)) = (
        error.kind(),
        given(ContextKind::InvalidArg),
        given(ContextKind::InvalidValue),
    ) {
        return format!("{option} takes no value, and {value:?} was given; see `{path} --help`");
    }
    if let Some(option) = given(ContextKind::InvalidArg)
        && let Some(subcommand) = command_with(command, &option, arguments)
    {
        let subcommand = subcommand.get_name();
        return format!(
            "{option} goes behind the command, such as `{path} {subcommand} {option} …`; see `{path} --help`"
        );
    }
    let meant = match (
        given(ContextKind::InvalidSubcommand),
        given(ContextKind::InvalidArg),
    ) {
        (Some(given), _) => {
            let names = command.get_subcommands().map(|known| known.get_name());
            nearest(&given, names.map(str::to_owned).collect())
        }
        (None, Some(given)) => {
            let options = command.get_arguments().filter_map(Arg::get_long);
            let options: Vec<String> = options.map(|name| format!("--{name}")).collect();
            single_dash(arguments, &options).or_else(|| nearest(&given, options))
        }
        (None, None) => None,
    };
    let meant = meant.map_or_else(String::new, |name| format!(" (is {name} meant?)"));
    format!("{text}{meant}; see `{path} --help`")
}

/// The subcommand that has the option: the one in the arguments, or else any.
fn command_with<'a>(
    root: &'a Command,
    option: &str,
    arguments: &[OsString],
) -> Option<&'a Command> {
    let with = || root.get_subcommands().filter(|it| has_option(it, option));
    with()
        .find(|it| arguments.iter().any(|given| given == it.get_name()))
        .or_else(|| with().next())
}

/// Whether a command has the given option, `--network` or `--network <NAME>`.
fn has_option(command: &Command, given: &str) -> bool {
    let name = given.split([' ', '=']).next().unwrap_or(given);
    let mut options = command.get_arguments().filter_map(Arg::get_long);
    options.any(|known| name.strip_prefix("--") == Some(known))
}

/// The command that the arguments begin with, and its full name.
fn find_command<'a>(root: &'a Command, arguments: &[OsString]) -> (&'a Command, String) {
    let mut command = root;
    let mut path = root.get_bin_name().unwrap_or(root.get_name()).to_owned();
    for argument in arguments.iter().skip(1) {
        let Some(next) = argument
            .to_str()
            .and_then(|name| command.find_subcommand(name))
        else {
            break;
        };
        command = next;
        path = format!("{path} {}", next.get_name());
    }
    (command, path)
}

/// The option that corresponds to Bitcoin Core's form: `-regtest`, `-datadir=DIR`.
fn single_dash(arguments: &[OsString], options: &[String]) -> Option<String> {
    arguments.iter().skip(1).find_map(|argument| {
        let word = argument.to_str()?.strip_prefix('-')?;
        let name = word.split('=').next().filter(|name| name.len() > 1)?;
        if name.starts_with('-') || !options.contains(&"--network".to_owned()) {
            return None;
        }
        match name {
            // Bitcoin Core's `-testnet` is testnet3.
            "testnet" | "test" => Some("--network testnet3".to_owned()),
            name if network_called(name).is_some() => Some(format!("--network {name}")),
            name => nearest(&format!("--{name}"), options.to_vec()),
        }
    })
}

/// The word that differs from `given` by at most two typos, by one if it is short, and not in
/// its first letter: `--test` is not `--rest`.
#[must_use]
pub fn nearest(given: &str, mut words: Vec<String>) -> Option<String> {
    let letters = |word: &str| word.trim_start_matches('-').to_owned();
    let is_short = |word: &str| letters(word).len() <= 5;
    let typos = |word: &str| if is_short(word) { 1 } else { 2 };
    let first = |word: &str| letters(word).chars().next();
    words.retain(|word| !is_short(word) || first(word) == first(given));
    let distance = |word: &String| strsim::damerau_levenshtein(given, word);
    let nearest = words.into_iter().min_by_key(distance)?;
    (distance(&nearest) <= typos(&nearest)).then_some(nearest)
}
