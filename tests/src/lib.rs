//! The test kit: what it takes to try whole nodes from outside.

pub mod chain_file;
pub mod data;
pub mod generator;
pub mod process;
pub mod rpc;
pub mod wait;
