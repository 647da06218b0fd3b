//! The answers to an honest peer after its handshake: a target that only completes handshakes is
//! not healthy.

use std::time::{Duration, Instant};

use bitcoin::BlockHash;
use bitcoin::hashes::Hash;
use handfast_wire::{Locator, Message};

use super::honest_peer::{HonestPeer, HonestPeerError};
use super::wait::Wait;
use crate::writer::{ConnectionRng, PONG_ABOVE_VERSION, PeerParams};

/// Number of pings. Their median is judged, since one may be delayed by anything.
const PINGS: usize = 5;
/// Timeout of headers. A node need not serve them during its initial sync, and some do not answer
/// then.
const HEADERS_WITHIN: Duration = Duration::from_secs(10);

/// Headers served from the genesis block on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Served {
    /// Their number. Zero is an answer, too: nodes serve none below their minimum work.
    pub headers: usize,
    /// The height that its `version` claimed.
    pub claimed: i32,
}

/// The answers to an honest peer.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Answers {
    /// The median time of a pong; `None`: our version gets none (BIP31).
    pub pong: Option<Result<Duration, HonestPeerError>>,
    /// The answer to `getheaders`; `None`: it was not sent.
    pub headers: Option<Result<Served, HonestPeerError>>,
}

impl Answers {
    /// Why a request was not answered.
    pub(super) fn unanswered(&self) -> Option<&HonestPeerError> {
        let pong = self.pong.as_ref().and_then(|it| it.as_ref().err());
        let headers = self.headers.as_ref().and_then(|it| it.as_ref().err());
        pong.or(headers)
    }

    /// The target closed before all was answered: honest peers reconnect.
    pub(super) fn were_cut_off(&self) -> bool {
        matches!(self.unanswered(), Some(HonestPeerError::Closed(_)))
    }
}

/// Sends pings, and then `getheaders`, unless the pings were not answered.
pub(super) fn ask<'a>(
    honest_peer: &mut HonestPeer<'a>,
    params: &PeerParams,
    rng: &mut ConnectionRng,
    (for_pongs, for_headers): (Wait<'a>, Wait<'a>),
) -> Answers {
    let common = params.version.min(honest_peer.version_info.version);
    let pong = (common > PONG_ABOVE_VERSION).then(|| {
        honest_peer.within(for_pongs);
        pongs(honest_peer, rng)
    });
    let headers = match &pong {
        Some(Err(_)) => None,
        Some(Ok(_)) | None => {
            honest_peer.within(for_headers.shorter(HEADERS_WITHIN));
            Some(headers(honest_peer, params))
        }
    };
    Answers { pong, headers }
}

/// The median time of some pings.
fn pongs(
    honest_peer: &mut HonestPeer<'_>,
    rng: &mut ConnectionRng,
) -> Result<Duration, HonestPeerError> {
    let mut times = Vec::with_capacity(PINGS);
    for _ in 0..PINGS {
        let (nonce, sent) = (rng.any(), Instant::now());
        honest_peer.send(&Message::Ping(nonce))?;
        while honest_peer.receive_up_to_date("before it answered a ping")? != Message::Pong(nonce) {
        }
        times.push(sent.elapsed());
    }
    times.sort_unstable();
    Ok(times[PINGS / 2])
}

/// Headers on top of the genesis block.
fn headers(
    honest_peer: &mut HonestPeer<'_>,
    params: &PeerParams,
) -> Result<Served, HonestPeerError> {
    let genesis = params.genesis.block_hash();
    honest_peer.send(&Message::GetHeaders(Locator {
        hashes: vec![genesis],
        stop: BlockHash::all_zeros(),
    }))?;
    loop {
        if let Message::Headers(headers) =
            honest_peer.receive_up_to_date("before it answered getheaders")?
        {
            // A block announcement is no answer.
            if headers
                .first()
                .is_none_or(|first| first.prev_blockhash == genesis)
            {
                return Ok(Served {
                    headers: headers.len(),
                    claimed: honest_peer.version_info.height,
                });
            }
        }
    }
}
