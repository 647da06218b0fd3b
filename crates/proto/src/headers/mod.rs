//! The header tree: the block chain without its blocks, and how headers are received from untrusted
//! peers and served to others.
//!
//! | file | what |
//! |---|---|
//! | `tree` | [`HeaderTree`]: all headers, their work and status, the active chain |
//! | `walk` | ancestors, fork points, median time past |
//! | `serve` | locators, and the answers to `getheaders` and `getblocks` |
//! | `tips` | the answer of `getchaintips` |
//! | `version_bits` | [`DeploymentState`]: the signalling part of `getdeploymentinfo` |
//! | `pow` | [`check_pow`], next required work, permitted difficulty transitions |
//! | `rules` | [`HeaderRules`]: contextual rules of a header
//! | `unsent` | headers that the engine was not given yet
//! | `low_work` | [`LowWork`]: headers of a chain that has not shown enough work yet |
//!
//! Nothing here decides what the chain is: the kernel decides which block is valid, and the tree
//! stores its verdicts. Proof of work and the contextual rules of a header are checked here too, so
//! that what the kernel would refuse is never stored.

mod entry;
mod error;
mod index;
mod low_work;
mod marks;
mod pow;
mod rules;
mod serve;
mod tips;
mod tree;
mod version_bits;
mod walk;
mod work;

pub use entry::{Entry, Status};
pub use error::HeaderError;
pub use low_work::{LowWork, LowWorkFailure, LowWorkOutcome, LowWorkParams, LowWorkStep};
pub use pow::{
    PowError, PowParams, anti_dos_threshold, check_pow, next_work, permitted_difficulty_transition,
};
pub(crate) use rules::MAX_TIMEWARP;
pub use rules::{HeaderFault, HeaderRules, MAX_FUTURE_BLOCK_TIME, is_too_new};
pub use tips::{ChainTip, TipStatus};
pub use tree::{Connected, HeaderTree, InsertError, Inserted};
pub(crate) use version_bits::TOP_BITS;
pub use version_bits::{DeploymentState, DeploymentStatus};
pub use work::block_work;

#[cfg(test)]
mod tests;
