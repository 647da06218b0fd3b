//! Makes the generated chains before a test or benchmark waits for them.

use handfast_tests::generator::{Plan, SIGNED, SMALL};

fn main() -> std::process::ExitCode {
    let wanted: Vec<String> = std::env::args().skip(1).collect();
    let plans: Vec<Plan> = [SIGNED, SMALL]
        .into_iter()
        .filter(|plan| wanted.is_empty() || wanted.iter().any(|name| name == plan.name))
        .collect();
    if plans.is_empty() {
        eprintln!("usage: gen-chain [signed] [small]");
        return std::process::ExitCode::FAILURE;
    }
    for plan in plans {
        match plan.ensure() {
            Ok(path) => println!(
                "{} blocks, tip {}: {}",
                plan.height(),
                plan.tip,
                path.display()
            ),
            Err(error) => {
                eprintln!("{}: {error}", plan.name);
                return std::process::ExitCode::FAILURE;
            }
        }
    }
    std::process::ExitCode::SUCCESS
}
