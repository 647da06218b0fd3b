//! What an honest peer is answered after its handshake: a target that only shakes hands is
//! as little well as one that does not.

use std::time::{Duration, Instant};

use bitcoin::BlockHash;
use bitcoin::hashes::Hash;
use handfast_wire::{Locator, Message};

use super::visitor::{VisitError, Visitor};
use super::wait::Wait;
use crate::voice::{Dialect, Dice, PONG_ABOVE_VERSION};

/// Pings one after the other. Their median is what is judged: one may meet with anything.
const PINGS: usize = 5;
/// How long headers may take at most. A node need not serve them while it is in its initial
/// sync, and some say nothing then: that is waited for no longer.
const HEADERS_WITHIN: Duration = Duration::from_secs(10);

/// Headers that were served from the genesis block on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Served {
    /// How many. None is an answer, too: nodes give it below their minimum work.
    pub headers: usize,
    /// The height that its `version` claimed.
    pub claimed: i32,
}

/// What an honest peer was answered.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Answers {
    /// The median time of a pong; `None`: none is owed to peers of our version (BIP31).
    pub pong: Option<Result<Duration, VisitError>>,
    /// What came for `getheaders`; `None`: it was not asked.
    pub headers: Option<Result<Served, VisitError>>,
}

impl Answers {
    /// Why a question has no answer.
    pub(super) fn unanswered(&self) -> Option<&VisitError> {
        let pong = self.pong.as_ref().and_then(|it| it.as_ref().err());
        let headers = self.headers.as_ref().and_then(|it| it.as_ref().err());
        pong.or(headers)
    }

    /// The target closed before all was answered: honest peers come again.
    pub(super) fn were_cut_off(&self) -> bool {
        matches!(self.unanswered(), Some(VisitError::Closed(_)))
    }
}

/// Asks for pongs, and then for headers. One that leaves the first unanswered is not asked
/// the second.
pub(super) fn ask<'a>(
    visitor: &mut Visitor<'a>,
    dialect: &Dialect,
    dice: &mut Dice,
    (for_pongs, for_headers): (Wait<'a>, Wait<'a>),
) -> Answers {
    let common = dialect.version.min(visitor.introduction.version);
    let pong = (common > PONG_ABOVE_VERSION).then(|| {
        visitor.within(for_pongs);
        pongs(visitor, dice)
    });
    let headers = match &pong {
        Some(Err(_)) => None,
        Some(Ok(_)) | None => {
            visitor.within(for_headers.shorter(HEADERS_WITHIN));
            Some(headers(visitor, dialect))
        }
    };
    Answers { pong, headers }
}

/// The median of some.
fn pongs(visitor: &mut Visitor<'_>, dice: &mut Dice) -> Result<Duration, VisitError> {
    let mut times = Vec::with_capacity(PINGS);
    for _ in 0..PINGS {
        let (nonce, sent) = (dice.any(), Instant::now());
        visitor.send(&Message::Ping(nonce))?;
        while visitor.receive_up_to_date("before it answered a ping")? != Message::Pong(nonce) {}
        times.push(sent.elapsed());
    }
    times.sort_unstable();
    Ok(times[PINGS / 2])
}

/// What is on top of the genesis block.
fn headers(visitor: &mut Visitor<'_>, dialect: &Dialect) -> Result<Served, VisitError> {
    let genesis = dialect.genesis.block_hash();
    visitor.send(&Message::GetHeaders(Locator {
        hashes: vec![genesis],
        stop: BlockHash::all_zeros(),
    }))?;
    loop {
        if let Message::Headers(headers) =
            visitor.receive_up_to_date("before it answered getheaders")?
        {
            // One that announces a block meanwhile has not answered yet.
            if headers
                .first()
                .is_none_or(|first| first.prev_blockhash == genesis)
            {
                return Ok(Served {
                    headers: headers.len(),
                    claimed: visitor.introduction.height,
                });
            }
        }
    }
}
