//! `handfast`: a Bitcoin full node on the command line. No logic lives here:
//! options become settings, settings start the node, answers become text.

mod cli;
mod client;
mod fuzz_command;
mod logging;
mod memory;
mod own_fuzzer;
mod progress;
mod rpc_command;
mod run;
#[cfg(quick_seeding)]
mod seeding;
mod settings;
mod signals;
mod status;
mod testnet;
mod text;

/// Where the symbols cannot be replaced, the kernel seeds itself.
#[cfg(not(quick_seeding))]
mod seeding {
    pub(crate) fn seed() {}
}

use std::io::Write;
use std::process::ExitCode;

use cli::{Order, Usage};
use handfast_node::text::without_error_numbers;

/// Every failure that is not an RPC error.
const FAILURE: u8 = 1;

fn main() -> ExitCode {
    // First: a hangup while the command line is read would end what lives on otherwise.
    let command = std::env::args_os().nth(1);
    if command.is_some_and(|command| command == "run" || command == testnet::NAME) {
        signals::survive_hangups();
    }
    memory::keep_the_heap_small();
    let outcome = match cli::parse(std::env::args_os()) {
        Ok(Order::Run(options)) => run::run(options),
        Ok(Order::Rpc {
            options,
            calls,
            manners,
        }) => rpc_command::call(options, calls, manners),
        Ok(Order::Status(options)) => status::show(options),
        Ok(Order::Testnet(wishes)) => testnet::run(&wishes),
        Ok(Order::Fuzz(matches)) => Ok(fuzz_command::obey(&matches)),
        Err(Usage::Text(text)) => {
            print(&text);
            Ok(ExitCode::SUCCESS)
        }
        Err(Usage::Wrong(line)) if fuzz_command::is_meant() => Ok(fuzz_command::no_run(&line)),
        Err(Usage::Wrong(line)) => Err(line),
    };
    outcome.unwrap_or_else(|line| {
        complain(&line);
        ExitCode::from(FAILURE)
    })
}

/// Tells on standard error what went wrong.
fn complain(line: &str) {
    tell(&format!("handfast: {}", without_error_numbers(line)));
}

/// Prints a line to standard error. A terminal that is gone must not end the program, as
/// `eprintln!` does.
fn tell(line: &str) {
    let _ = writeln!(std::io::stderr().lock(), "{line}");
}

/// Prints to standard output. Whoever reads there may stop reading (`| head`).
fn print(text: &str) {
    let mut out = std::io::stdout().lock();
    let _ = out.write_all(text.as_bytes()).and_then(|()| out.flush());
}
