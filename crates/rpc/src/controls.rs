//! What a server is given besides the node.

use std::sync::Arc;

use crate::fuzz_control::FuzzControl;
use crate::log_control::LogControl;

/// What of the process, besides the node, callers may steer. By default nothing: the methods say
/// so.
#[derive(Clone, Default)]
pub struct Controls {
    /// The log. It logs already when the server starts.
    pub log: Option<Arc<dyn LogControl>>,
    /// The fuzzer, which runs against this node.
    pub fuzzer: Option<Arc<dyn FuzzControl>>,
}
