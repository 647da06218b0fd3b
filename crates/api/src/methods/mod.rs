//! The table of RPC methods, from which the server checks calls and writes `help`, and
//! `handfast rpc` parses its arguments. The code of the methods is in the server.

pub mod blockchain;
pub mod control;
pub mod fuzzing;
pub mod hidden;
pub mod mining;
pub mod network;
pub mod raw_transactions;
mod spec;
pub mod sync;
pub mod util;

pub use spec::{Category, Kind, Need, Param, Spec};

/// Every method, by category, then by name: the order in which `help` lists them.
const TABLE: [&[&Spec]; 9] = [
    blockchain::ALL,
    control::ALL,
    fuzzing::ALL,
    mining::ALL,
    network::ALL,
    raw_transactions::ALL,
    sync::ALL,
    util::ALL,
    hidden::ALL,
];

/// Every method, by category, then by name.
pub fn all() -> impl Iterator<Item = &'static Spec> {
    TABLE.into_iter().flatten().copied()
}

/// The method called `name`.
#[must_use]
pub fn find(name: &str) -> Option<&'static Spec> {
    all().find(|method| method.name == name)
}

#[cfg(test)]
mod tests;
