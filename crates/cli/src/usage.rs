//! The options of a command, and what is said about a command line that is wrong.

use std::ffi::OsString;
use std::path::PathBuf;

use clap::builder::PathBufValueParser;
use clap::{Arg, ArgAction, ArgMatches, Command};

use crate::keys::{KEYS, Key, Scope, Shape};
use crate::layers::Layers;
use crate::place::network_called;

/// The options of a command, unchecked.
#[derive(Debug)]
pub struct Options {
    /// What the command line says.
    pub layers: Layers,
    /// The file that it names with `--config`.
    pub config: Option<PathBuf>,
}

/// Why there is nothing to do.
#[derive(Debug)]
pub enum Usage {
    /// The user asked for a text.
    Text(String),
    /// The command line is wrong; one line.
    Wrong(String),
}

/// `handfast run`, which `handfast` explains and `handfastd` carries out.
#[must_use]
pub fn run_command() -> Command {
    with_options(
        Command::new("run").about("Run a node until it is told to stop"),
        Scope::Run,
    )
}

/// `command` with the options that commands of this scope know.
#[must_use]
pub fn with_options(mut command: Command, scope: Scope) -> Command {
    let config = Arg::new("config")
        .long("config")
        .value_name("FILE")
        .value_parser(PathBufValueParser::new())
        .help("Configuration, TOML, same keys as the options [default: handfast.toml in the data directory, if there]");
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

/// What a command line says by these options.
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

/// clap's message without its decoration: the cause, what was meant, where to look. `root`: the
/// command that `arguments` are of, its own name the first of them.
///
/// clap's own tips are left out: it takes `start` for `status`, and tells to write `--` before
/// an option that there is not. What is similar by a slip or two is named instead.
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
    let (named, path) = named_command(root, arguments);
    let given = |kind| error.get(kind).map(ToString::to_string);
    if let (clap::error::ErrorKind::TooManyValues, Some(option), Some(value)) = (
        error.kind(),
        given(ContextKind::InvalidArg),
        given(ContextKind::InvalidValue),
    ) {
        return format!("{option} takes no value, and {value:?} was given; see `{path} --help`");
    }
    if let Some(option) = given(ContextKind::InvalidArg)
        && let Some(command) = named.get_subcommands().find(|it| has_option(it, &option))
    {
        let command = command.get_name();
        return format!(
            "{option} goes behind the command, such as `{path} {command} {option} …`; see `{path} --help`"
        );
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

/// Whether a command has the option that was given, `--network` or `--network <NAME>`.
fn has_option(command: &Command, given: &str) -> bool {
    let name = given.split([' ', '=']).next().unwrap_or(given);
    let mut options = command.get_arguments().filter_map(Arg::get_long);
    options.any(|known| name.strip_prefix("--") == Some(known))
}

/// The command that the arguments begin with, and how it is called.
fn named_command<'a>(root: &'a Command, arguments: &[OsString]) -> (&'a Command, String) {
    let mut named = root;
    let mut path = root.get_bin_name().unwrap_or(root.get_name()).to_owned();
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
#[must_use]
pub fn nearest(given: &str, mut words: Vec<String>) -> Option<String> {
    let letters = |word: &str| word.trim_start_matches('-').to_owned();
    let is_short = |word: &str| letters(word).len() <= 5;
    let slips = |word: &str| if is_short(word) { 1 } else { 2 };
    let first = |word: &str| letters(word).chars().next();
    words.retain(|word| !is_short(word) || first(word) == first(given));
    let distance = |word: &String| strsim::damerau_levenshtein(given, word);
    let nearest = words.into_iter().min_by_key(distance)?;
    (distance(&nearest) <= slips(&nearest)).then_some(nearest)
}
