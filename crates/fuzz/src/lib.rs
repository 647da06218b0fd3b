//! Connect/disconnect fuzz runs against any Bitcoin node.
//!
//! * [`scenario`]: what one connection does, as small machines without sockets or clocks.
//! * [`plan`]: which connection plays which scenario. Everything random comes from a seed.
//! * [`engine`]: one thread that holds all connections and counts what becomes of them.
//! * [`target`]: whom it may be pointed at.

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
pub mod voice;

/// What is left of a run is written as all local files are: whole, or not at all.
pub use handfast_disk::{replace, try_replace};

pub use engine::{Doors, Engine, Failure, SourceRange, Tally};
pub use plan::{Plan, Share};
pub use scenario::Scenario;
