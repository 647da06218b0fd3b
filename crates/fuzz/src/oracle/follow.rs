//! Whether the target follows a new block, served by a new peer.

use std::time::{Duration, Instant};

use bitcoin::BlockHash;
use bitcoin::block::Header;
use bitcoin::hashes::Hash;
use bitcoin::p2p::message_blockdata::Inventory;
use handfast_wire::limits::MAX_HEADERS;
use handfast_wire::{Locator, Message, RawBlock};

use super::honest_peer::{HonestPeer, HonestPeerError, Route};
use super::wait::Wait;
use crate::blocks::{self, Variety, block_hash};
use crate::writer::PeerParams;

/// Interval of asking the target whether it has the block, which is the precision of the time
/// measured.
const ASK_EVERY: Duration = Duration::from_millis(10);

/// The result of an offered block.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Followed {
    /// It is in the target's active chain, so long after it was announced.
    After(Duration),
    /// It is not, after so long; and whether the target requested it.
    Not {
        /// The time waited.
        waited: Duration,
        /// The target requested the block and got it.
        fetched: bool,
    },
    /// The target's own chain grew past every offered block: none of them was to be followed.
    Overtaken {
        /// The time during which blocks were offered.
        waited: Duration,
        /// The number of blocks by which its chain grew meanwhile.
        blocks: u64,
    },
    /// No block could be made in so long: they cost too much work.
    Unmade {
        /// The time tried.
        waited: Duration,
    },
}

/// The kind of block that is offered.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Offer {
    /// An unknown block on top of its chain.
    Fresh,
    /// A block that connections of the run announce, and tamper with or withhold.
    Shown,
    /// A branch with more work, which they treat in the same way.
    Branch,
}

/// How it is announced.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Announce {
    /// By its header (BIP130).
    Headers,
    /// By its hash, so that the target must request the header.
    Inv,
}

/// The target's chain, as known from one probe to the next.
#[derive(Clone, Debug)]
pub struct Follower {
    /// From the genesis block on.
    chain: Vec<Header>,
    probes: u64,
    /// The time taken to make the last offer.
    pub(super) making: Duration,
}

impl Follower {
    /// Starts with the genesis block.
    #[must_use]
    pub fn new(params: &PeerParams) -> Self {
        Self {
            chain: vec![params.genesis],
            probes: 0,
            making: Duration::ZERO,
        }
    }

    /// Connects, reads the chain, makes blocks on top of it, announces and serves them, and waits
    /// until the target has the last of them in its chain, or another chain with as much work:
    /// that of a faster miner. The next call then makes the next block.
    ///
    /// # Errors
    /// The connection failed, or the target closed it.
    pub(super) fn probe(
        &mut self,
        route: Route,
        params: &PeerParams,
        (offer, announce): (Offer, Announce),
        seed: u64,
        wait: Wait<'_>,
    ) -> Result<Followed, HonestPeerError> {
        self.probes += 1;
        let nonce = seed ^ self.probes.wrapping_mul(0x9e37_79b9_7f4a_7c15);
        let mut honest_peer = HonestPeer::dial(route, params, nonce, wait)?;
        self.learn(&mut honest_peer)?;
        let begun = Instant::now();
        let offered = self.make(params, offer, nonce, wait);
        self.making = begun.elapsed();
        let Some(offered) = offered else {
            return Ok(Followed::Unmade {
                waited: wait.took(),
            });
        };
        let headers: Vec<Header> = offered.iter().map(|block| block.header).collect();
        honest_peer.send(&match (announce, offered.last()) {
            (Announce::Inv, Some(last)) => Message::Inv(vec![Inventory::Block(last.hash)]),
            (Announce::Headers, _) | (Announce::Inv, None) => Message::Headers(headers.clone()),
        })?;
        let known = (&self.chain[..], self.locator());
        let followed = serve(&mut honest_peer, &offered, &headers, known, wait)?;
        if matches!(followed, Followed::After(_)) {
            self.adopt(&headers)?;
        }
        Ok(followed)
    }

    /// Makes the offer; `None`: not before `wait` ends.
    fn make(
        &self,
        params: &PeerParams,
        offer: Offer,
        tag: u64,
        wait: Wait<'_>,
    ) -> Option<Vec<RawBlock>> {
        let variety = Variety::of(params);
        let goes_on = || !wait.is_over();
        match offer {
            Offer::Fresh => {
                let now = params.now();
                let block = blocks::on_top_of(&self.chain, params.easy_work, now, tag, goes_on);
                Some(vec![block?])
            }
            Offer::Shown => {
                let number = self.probes % variety.shown;
                Some(vec![blocks::shown(&self.chain, params, number, goes_on)?])
            }
            Offer::Branch => {
                let number = self.probes % variety.branches;
                blocks::branch(&self.chain, number, |chain, number| {
                    blocks::shown(chain, params, number, goes_on)
                })
            }
        }
    }

    /// Requests headers until there are no more.
    fn learn(&mut self, honest_peer: &mut HonestPeer<'_>) -> Result<(), HonestPeerError> {
        loop {
            honest_peer.send(&Message::GetHeaders(self.locator()))?;
            let headers = loop {
                // It requests headers, too; it has all that we have.
                let said = honest_peer.receive_up_to_date("while it was asked for headers")?;
                if let Message::Headers(headers) = said {
                    break headers;
                }
            };
            let more = headers.len() == MAX_HEADERS;
            self.adopt(&headers)?;
            if !more {
                return Ok(());
            }
        }
    }

    fn locator(&self) -> Locator {
        let mut hashes = Vec::new();
        let (mut at, mut step) = (self.chain.len() - 1, 1);
        loop {
            hashes.push(self.chain[at].block_hash());
            if at == 0 {
                break;
            }
            if hashes.len() > 10 {
                step *= 2;
            }
            at = at.saturating_sub(step);
        }
        Locator {
            hashes,
            stop: BlockHash::all_zeros(),
        }
    }

    /// Appends headers to the one that they follow.
    fn adopt(&mut self, headers: &[Header]) -> Result<(), HonestPeerError> {
        let Some(first) = headers.first() else {
            return Ok(());
        };
        let parent = first.prev_blockhash;
        let at = self
            .chain
            .iter()
            .rposition(|header| header.block_hash() == parent);
        let Some(at) = at else {
            let text = "headers that follow none of its own".to_owned();
            return Err(HonestPeerError::Foreign(text));
        };
        self.chain.truncate(at + 1);
        for header in headers {
            if header.prev_blockhash != self.chain[self.chain.len() - 1].block_hash() {
                let text = "headers that do not follow one another".to_owned();
                return Err(HonestPeerError::Foreign(text));
            }
            self.chain.push(*header);
        }
        Ok(())
    }
}

/// Serves the blocks on request, and asks whether the last is in the chain now. `known`: what the
/// target had before, and its locator.
fn serve<'a>(
    honest_peer: &mut HonestPeer<'a>,
    offered: &[RawBlock],
    headers: &[Header],
    (known, mut locator): (&[Header], Locator),
    wait: Wait<'a>,
) -> Result<Followed, HonestPeerError> {
    let mut fetched = false;
    let begun = Instant::now();
    let (Some(first), Some(last)) = (offered.first(), offered.last()) else {
        return Ok(Followed::After(Duration::ZERO));
    };
    // What it has besides the last of ours. Once it has switched to another chain, and not to
    // ours, that begins at the fork with its former one.
    if last.header.prev_blockhash != first.header.prev_blockhash {
        locator.hashes.insert(0, last.header.prev_blockhash);
    }
    let question = Message::GetHeaders(locator);
    let mut asked = begun;
    while !wait.is_over() {
        honest_peer.within(wait.shorter(ASK_EVERY));
        let said = honest_peer.receive("while it was given a block");
        match said {
            Ok(Message::GetData(wanted)) => {
                let wanted = wanted.iter().filter_map(block_hash);
                let ours = wanted.filter_map(|hash| offered.iter().find(|it| it.hash == hash));
                for block in ours {
                    fetched = true;
                    unless_over(honest_peer.send(&Message::Block(block.clone())))?;
                }
            }
            Ok(Message::GetHeaders(_)) => {
                unless_over(honest_peer.send(&Message::Headers(headers.to_vec())))?;
            }
            Ok(Message::Headers(theirs)) => {
                if theirs.iter().any(|header| header.block_hash() == last.hash) {
                    return Ok(Followed::After(begun.elapsed()));
                }
                if overtake(&theirs, offered, known) {
                    return Ok(Followed::Overtaken {
                        waited: begun.elapsed(),
                        blocks: theirs.len() as u64,
                    });
                }
            }
            Ok(_) | Err(HonestPeerError::Silent(_) | HonestPeerError::Ended) => {}
            Err(error) => return Err(error),
        }
        if asked.elapsed() >= ASK_EVERY {
            asked = Instant::now();
            unless_over(honest_peer.send(&question))?;
        }
    }
    if wait.is_cut() {
        return Err(HonestPeerError::Ended);
    }
    Ok(Followed::Not {
        waited: begun.elapsed(),
        fetched,
    })
}

/// Whether the target's chain, which these headers continue, has as much work as the offer,
/// without it: of two chains with the same work a node stays with the first. All of their blocks
/// have the same target, but for one in 2,016. `chain`: what was known of the target's when the
/// blocks were made.
fn overtake(theirs: &[Header], offered: &[RawBlock], chain: &[Header]) -> bool {
    let height = |hash: BlockHash| chain.iter().rposition(|it| it.block_hash() == hash);
    let (Some(their_first), Some(our_first)) = (theirs.first(), offered.first()) else {
        return false;
    };
    let Some(fork) = height(our_first.header.prev_blockhash) else {
        return false;
    };
    let ours = |hash| {
        let at = offered.iter().position(|it| it.hash == hash)?;
        Some(fork + 1 + at)
    };
    let parent = their_first.prev_blockhash;
    // Headers that continue neither are no answer to our request.
    let parent = ours(parent).or_else(|| height(parent));
    parent.is_some_and(|parent| parent + theirs.len() >= fork + offered.len())
}

/// A timeout while messages arrive is no error: the loop ends by it, and returns the result of
/// the block.
fn unless_over(sent: Result<(), HonestPeerError>) -> Result<(), HonestPeerError> {
    match sent {
        Err(HonestPeerError::Silent(_) | HonestPeerError::Ended) => Ok(()),
        sent => sent,
    }
}

#[cfg(test)]
mod tests;
