//! The fuzzer of this process, as RPC uses it: this node is its target.
//!
//! There is one node per process, and one run at a time. The program registers the fuzzer with
//! [`control_fuzzer`]; without one the methods answer that there is none.

use std::sync::OnceLock;

use serde_json::Value;

/// The options of a run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FuzzRequest {
    /// The scenarios of the connections, or `mix`.
    pub scenarios: Vec<String>,
    /// The random seed, below 2^53; `None`: a random one.
    pub seed: Option<u64>,
    /// Connections at a time.
    pub concurrency: usize,
    /// Connections in all.
    pub cycles: u64,
    /// Seconds after which no connection begins.
    pub duration: u64,
}

/// The fuzzer of this process. No method waits for the target.
pub trait FuzzControl: Send + Sync {
    /// Starts a run.
    ///
    /// # Errors
    /// A run is going on already, or an option is unknown.
    fn start(&self, request: &FuzzRequest) -> Result<(), String>;

    /// The progress of the run, or the result of the last one.
    fn status(&self) -> Value;

    /// The report of the last run as an HTML page that loads nothing; `None`: no run has ended
    /// with a report.
    fn page(&self) -> Option<String>;

    /// Ends the run early. False: there is none.
    fn stop(&self) -> bool;
}

static REGISTERED: OnceLock<Box<dyn FuzzControl>> = OnceLock::new();

/// Registers the fuzzer. Only the first one counts.
pub fn control_fuzzer(fuzzer: impl FuzzControl + 'static) {
    let _ = REGISTERED.set(Box::new(fuzzer));
}

pub(crate) fn registered() -> Option<&'static dyn FuzzControl> {
    REGISTERED.get().map(AsRef::as_ref)
}
