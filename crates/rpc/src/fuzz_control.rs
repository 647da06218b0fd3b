//! The fuzzer of this process, as RPC uses it: this node is its target.
//!
//! One run at a time. The program that has a fuzzer gives it to the server
//! ([`Controls`](crate::Controls)); without one the methods answer that there is none.

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
    /// A run is going on already, or an option is unknown or out of range.
    fn start(&self, request: &FuzzRequest) -> Result<(), String>;

    /// The progress of the run, or the result of the last one.
    fn status(&self) -> Value;

    /// The report of the last run as an HTML page that loads nothing; `None`: no run has ended
    /// with a report.
    fn page(&self) -> Option<String>;

    /// Ends the run early. False: there is none.
    fn stop(&self) -> bool;
}
