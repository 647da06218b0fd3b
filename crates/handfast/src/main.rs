//! `handfast`: a Bitcoin full node on the command line. No logic lives here: options become
//! calls, answers become text, and `run` becomes the program `handfastd`, which is the node.

#![allow(unsafe_code, reason = "a hangup is ignored before `main`")]

mod cli;
mod client;
mod daemon;
mod fuzz_command;
mod rpc_command;
mod status;
mod testnet;
mod text;

use std::process::ExitCode;

use cli::CliCommand;
use handfast_cli::output::{print, print_error};
use handfast_cli::signals::{ignore_hangups, restore_hangups};
use handfast_cli::usage::Usage;

/// The exit code of failures that are not RPC errors.
const FAILURE: u8 = 1;

/// Among the first initialisers: those of Rust's runtime take most of the time
/// until `main`.
#[cfg(target_os = "linux")]
#[used]
#[unsafe(link_section = ".init_array.00100")]
static EARLY: unsafe extern "C" fn() = handfast_cli::signals::early_hangups_ignored;

fn main() -> ExitCode {
    let command = std::env::args_os().nth(1);
    // A SIGHUP while the command line is parsed must not end the process.
    let lives_on =
        |command: &std::ffi::OsString| command == daemon::RUN || command == testnet::NAME;
    match command.as_ref().is_some_and(lives_on) {
        true => ignore_hangups(),
        false => restore_hangups(),
    }
    let outcome = match command {
        // `handfastd` parses its options.
        Some(command) if command == daemon::RUN => Err(daemon::exec()),
        _ => dispatch(),
    };
    outcome.unwrap_or_else(|line| {
        print_error(&line);
        ExitCode::from(FAILURE)
    })
}

fn dispatch() -> Result<ExitCode, String> {
    match cli::parse(std::env::args_os()) {
        Ok(CliCommand::Rpc {
            options,
            calls,
            call_options,
        }) => rpc_command::call(options, calls, call_options),
        Ok(CliCommand::Status(options)) => status::show(options),
        Ok(CliCommand::Testnet(options)) => testnet::run(&options),
        Ok(CliCommand::Fuzz(matches)) => Ok(fuzz_command::execute(&matches)),
        Err(Usage::Text(text)) => {
            print(&text);
            Ok(ExitCode::SUCCESS)
        }
        Err(Usage::Wrong(line)) if fuzz_command::is_meant() => Ok(fuzz_command::no_run(&line)),
        Err(Usage::Wrong(line)) => Err(line),
    }
}
