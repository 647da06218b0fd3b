//! `handfastd`: the node. `handfast run` executes this program with the same options. Only this
//! program is linked with the consensus engine.

#![allow(unsafe_code, reason = "a hangup is ignored before `main`")]

mod logging;
mod memory;
mod own_fuzzer;
mod progress;
mod run;
mod settings;

use std::ffi::OsString;
use std::process::ExitCode;

use clap::error::ErrorKind;
use handfast_cli::FRONT_VERSION;
use handfast_cli::keys::Scope;
use handfast_cli::output::{print, print_error};
use handfast_cli::signals::ignore_hangups;
use handfast_cli::usage::{self, Options, Usage, one_line, run_command};

/// The exit code of every failure.
const FAILURE: u8 = 1;

/// Runs among the first initialisers: those of the engine take a tenth of a second, in which a
/// SIGHUP would end the node.
#[cfg(target_os = "linux")]
#[used]
#[unsafe(link_section = ".init_array.00100")]
static EARLY: unsafe extern "C" fn() = handfast_cli::signals::early_hangups_ignored;

fn main() -> ExitCode {
    // For platforms without such initialisers.
    ignore_hangups();
    memory::limit_heap();
    let outcome = match check_front().and_then(|()| parse(std::env::args_os())) {
        Ok(options) => run::run(options),
        Err(Usage::Text(text)) => {
            print(&text);
            Ok(ExitCode::SUCCESS)
        }
        Err(Usage::Wrong(line)) => Err(line),
    };
    outcome.unwrap_or_else(|line| {
        print_error(&line);
        ExitCode::from(FAILURE)
    })
}

/// Refuses a `handfast` of another version, whose options and files may differ.
fn check_front() -> Result<(), Usage> {
    let own = env!("CARGO_PKG_VERSION");
    let Some(front) = std::env::var_os(FRONT_VERSION).filter(|front| front.as_os_str() != own)
    else {
        return Ok(());
    };
    let path = std::env::current_exe().unwrap_or_else(|_| "handfastd".into());
    Err(Usage::Wrong(format!(
        "{} is of version {own}, but `handfast` of {}; install both of one version, as \
         `make install` does",
        path.display(),
        front.display()
    )))
}

/// Parses the command line. Help and errors name it `handfast run`, which users type.
fn parse(arguments: impl Iterator<Item = OsString>) -> Result<Options, Usage> {
    let arguments: Vec<OsString> = arguments.collect();
    let command = run_command().bin_name("handfast run");
    match command.clone().try_get_matches_from(&arguments) {
        Ok(matches) => Ok(usage::options(&matches, Scope::Run)),
        Err(error) => Err(match error.kind() {
            ErrorKind::DisplayHelp | ErrorKind::DisplayVersion => Usage::Text(error.to_string()),
            _ => Usage::Wrong(one_line(&error, &command, &arguments)),
        }),
    }
}
