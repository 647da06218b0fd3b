//! Connect/disconnect fuzz runs against any Bitcoin node.
//!
//! * [`scenario`]: what one connection does, as small machines without sockets or clocks.
//! * [`plan`]: which connection plays which scenario. Everything random comes from a seed.
//! * [`engine`]: one thread that holds all connections and counts what becomes of them.
//! * [`target`]: which targets are allowed.

mod blocks;
pub mod engine;
pub mod oracle;
pub mod plan;
mod recorder;
pub mod report;
pub mod run;
pub mod scenario;
pub mod shrink;
mod tamper;
pub mod target;
pub mod terms;
pub mod trace;
pub mod writer;

/// Files of a run are written like all local files: whole, or not at all.
pub use handfast_disk::{replace, try_replace};

pub use engine::{Counters, Endpoints, Engine, Failure, SourceRange};
pub use plan::{Plan, Share};
pub use scenario::Scenario;
