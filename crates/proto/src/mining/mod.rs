//! Mining: building the next block, and deciding when to search for it.
//!
//! | file | what |
//! |---|---|
//! | `next_block` | [`NextBlock`]: its parent, height and required header fields |
//! | `proposal` | [`objection`]: faults of a proposed block |
//! | `template` | [`Template`]: a whole block without its nonces; the header of every extra nonce |
//! | `miner` | [`Miner`]: the machine that decides what is worked on, paced and submitted |
//! | `generate`, `on_demand` | blocks on demand, requests in turn: `generatetoaddress` and similar calls |
//! | `report` | the machine's state |
//! | `rate` | hashes per second over the last minute |
//! | `vocabulary` | the machine's inputs, effects and reports |
//!
//! A template is not consensus: the kernel validates the resulting block like any other. A wrong
//! template costs only the miner's work.

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
pub use next_block::{NextBlock, anyone_can_spend_payout};
pub use proposal::objection;
pub use template::{MAX_TAG, Payout, Template};
pub use vocabulary::{
    Chain, Effect, GenerateFailure, GenerateRequest, Generated, Input, MiningState, News, Totals,
    Why,
};

#[cfg(test)]
mod tests;
