//! The test kit: what it takes to try whole nodes from outside.
//!
//! * [`process`] starts `handfast` and `bitcoind`, [`rpc`] asks them.
//! * [`callers`] come all at once, or one after another, and want an answer.
//! * [`churn`] comes and goes thousands of times, by the engine of the fuzzer; a [`crowd`] comes
//!   and stays, without it.
//! * [`scripted_peer`] plays peers that a test makes honest, silent or dishonest.
//! * [`adversary`] plays many hostile peers at once, and the honest one beside them.
//! * [`miner_stand_in`] uses all cores, [`descriptors`] makes room for thousands of sockets.
//! * [`data`], [`chain_file`] and [`generator`] have the chains.
//!
//! Nothing here speaks to anything but loopback.

pub mod adversary;
pub mod callers;
pub mod chain_file;
pub mod churn;
pub mod connection;
pub mod crowd;
pub mod data;
pub mod descriptors;
pub mod faulty;
pub mod fuzz_runs;
pub mod generator;
pub mod miner_stand_in;
pub mod process;
pub mod rpc;
pub mod rpc_stand_in;
pub mod scripted_peer;
pub mod served_chain;
pub mod shifted_clock;
pub mod sim;
pub mod usage;
pub mod wait;

/// Says that the test which calls it proves nothing here, and why: on standard error itself,
/// since what a test that passes prints is shown to nobody.
pub fn skipped(why: &str) {
    use std::io::Write;
    let thread = std::thread::current();
    let test = thread.name().unwrap_or("a test");
    // Nothing can be done about a standard error that is closed.
    let _ = writeln!(std::io::stderr(), "SKIPPED {test}: {why}");
}
