//! A node with a fault on purpose; see `handfast_tests::faulty`.

use std::process::ExitCode;

use handfast_tests::faulty::{Fault, serve};

fn main() -> ExitCode {
    let name = std::env::args().nth(1).unwrap_or_default();
    match Fault::ALL.into_iter().find(|fault| fault.name() == name) {
        Some(fault) => {
            let port = std::env::args().nth(2);
            serve(fault, port.map_or(0, |port| port.parse().expect("a port")));
            ExitCode::SUCCESS
        }
        None => {
            let names = Fault::ALL.map(Fault::name).join(", ");
            eprintln!("faulty-node: which fault? one of {names}");
            ExitCode::FAILURE
        }
    }
}
