//! Mining: blocks and headers that are submitted, blocks on demand, and the miner.

mod control;
mod generating;
mod info;
mod submitting;
mod template;

use control::{STARTMINING, STOPMINING};
pub(super) use generating::{GENERATE, GENERATEBLOCK, GENERATETOADDRESS, GENERATETODESCRIPTOR};
use info::{GETMININGINFO, GETNETWORKHASHPS, GETPRIORITISEDTRANSACTIONS, PRIORITISETRANSACTION};
use submitting::{SUBMITBLOCK, SUBMITHEADER};
use template::GETBLOCKTEMPLATE;

use super::{Call, Method};

pub(super) const METHODS: &[Method] = &[
    GETBLOCKTEMPLATE,
    GETMININGINFO,
    GETNETWORKHASHPS,
    GETPRIORITISEDTRANSACTIONS,
    PRIORITISETRANSACTION,
    STARTMINING,
    STOPMINING,
    SUBMITBLOCK,
    SUBMITHEADER,
];
