//! Fakes for tests: a kernel without consensus, and chains without work.
//!
//! Compiled for this crate's tests, and for others with the feature `testing`.

pub mod chains;
pub mod kernel;

pub use chains::{Blocks, Data, EASY, block, data_of, forge, mine, mine_at};
pub use kernel::{Kernel, reject};
