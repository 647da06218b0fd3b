//! The fuzzer of the process, as far as RPC may use it: this node against itself.
//!
//! One run at a time. The program that has a fuzzer gives it to the server
//! ([`Controls`](crate::Controls)); without it the methods say that there is none.

use serde_json::Value;

/// A run, as a caller wants it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FuzzOrder {
    /// What connections do: names of scenarios, or `mix`.
    pub scenarios: Vec<String>,
    /// Where everything random comes from; `None`: random.
    pub seed: Option<u64>,
    /// Connections at a time.
    pub concurrency: usize,
    /// Connections in all.
    pub cycles: u64,
    /// Seconds after which none begins.
    pub duration: u64,
}

/// The fuzzer of this process. Nothing here waits for the target.
pub trait FuzzControl: Send + Sync {
    /// Begins a run.
    ///
    /// # Errors
    /// Why not: one runs already, or something in the order is not known or out of its range.
    fn start(&self, order: &FuzzOrder) -> Result<(), String>;

    /// How far the run is, or what came of the last one.
    fn status(&self) -> Value;

    /// The report of the last run as an HTML page that loads nothing; `None`: none has ended
    /// with a report.
    fn page(&self) -> Option<String>;

    /// Ends the run before its time. False: there is none.
    fn stop(&self) -> bool;
}
