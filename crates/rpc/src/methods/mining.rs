//! Mining: blocks and headers that are submitted, blocks on demand, and the miner.

mod generating;
mod submitting;

pub(super) use generating::{GENERATE, GENERATEBLOCK, GENERATETOADDRESS, GENERATETODESCRIPTOR};
use submitting::{SUBMITBLOCK, SUBMITHEADER};

use super::{Call, Category, Kind, Method, Need, Param};

pub(super) const METHODS: &[Method] = &[SUBMITBLOCK, SUBMITHEADER];
