//! Mining: what the next block is made of, and when it is searched for.
//!
//! | file | what |
//! |---|---|
//! | `next_block` | [`NextBlock`]: where it goes and what its header must say |
//! | `proposal` | [`objection`]: what can be seen to be wrong with a block that others would mine |
//! | `template` | [`Template`]: a whole block but for the nonces; the header of every extra nonce |
//! | `miner` | [`Miner`]: the machine that decides what is worked on, paced and submitted |
//! | `generate`, `on_demand` | blocks on demand, orders by turns: `generatetoaddress` and its kin |
//! | `report` | what it tells of itself |
//! | `rate` | hashes per second over the last minute |
//! | `vocabulary` | the machine's inputs, effects and what it tells |
//!
//! A template is not consensus: the kernel judges the block that is made of it, like any
//! other. A wrong template costs the miner his work and nobody else anything.

mod generate;
mod miner;
mod next_block;
mod on_demand;
mod proposal;
mod rate;
mod report;
mod template;
mod vocabulary;

pub use miner::{BACK_OFF, Miner, MinerConfig, PROGRESS_INTERVAL, REFRESH};
pub use next_block::{MAX_TIME_AHEAD, NextBlock, payout_for_anybody};
pub use proposal::objection;
pub use template::{MAX_TAG, Payout, Template};
pub use vocabulary::{
    Chain, Effect, GenerateFailure, GenerateOrder, Generated, Input, MiningState, News, Totals, Why,
};

#[cfg(test)]
mod tests;
