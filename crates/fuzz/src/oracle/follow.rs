//! Whether the target follows a new block, served by a peer that it has never seen.

use std::time::{Duration, Instant};

use bitcoin::BlockHash;
use bitcoin::block::Header;
use bitcoin::hashes::Hash;
use bitcoin::p2p::message_blockdata::Inventory;
use handfast_wire::limits::MAX_HEADERS;
use handfast_wire::{Locator, Message, RawBlock};

use super::visitor::{Route, VisitError, Visitor};
use super::wait::Wait;
use crate::blocks::{self, Variety, block_hash};
use crate::voice::Dialect;

/// How often the target is asked whether it has the block, and so how exactly it is known
/// when it had it.
const ASK_EVERY: Duration = Duration::from_millis(10);

/// What became of a block.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Followed {
    /// It is in the target's active chain, so long after it was announced.
    After(Duration),
    /// It is not, after so long; whether the target has asked for it at least.
    Not {
        /// How long was waited.
        waited: Duration,
        /// The target wanted the block and got it.
        fetched: bool,
    },
    /// Its own chain grew past every block that was offered: none of them was to be followed.
    Overtaken {
        /// How long one was offered after the other.
        waited: Duration,
        /// By how many blocks its chain grew meanwhile.
        blocks: u64,
    },
    /// No block could be made in so long: they cost too much work there.
    Unmade {
        /// How long it was tried.
        waited: Duration,
    },
}

/// What is offered.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Offer {
    /// A block on top of its chain that nobody has seen.
    Fresh,
    /// One that connections of the run show, and spoil or withhold.
    Shown,
    /// A branch with more work of which they do the same.
    Branch,
}

/// How it is announced.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Announce {
    /// By its header (BIP130).
    Headers,
    /// By its hash, so that the target must ask for the header.
    Inv,
}

/// What is known of the target's chain, kept from one probe to the next.
#[derive(Clone, Debug)]
pub struct Follower {
    /// From the genesis block on.
    chain: Vec<Header>,
    probes: u64,
    /// How long it took to make what was offered last.
    pub(super) making: Duration,
}

impl Follower {
    /// Knows the genesis block.
    #[must_use]
    pub fn new(dialect: &Dialect) -> Self {
        Self {
            chain: vec![dialect.genesis],
            probes: 0,
            making: Duration::ZERO,
        }
    }

    /// Dials, learns the chain, makes blocks on top of it, announces and serves them, and waits
    /// until the target has the last of them in its chain, or another chain with as much work:
    /// that of a miner who was faster. Then the next block is for the next call.
    ///
    /// # Errors
    /// The target could not be visited, or closed in the middle.
    pub(super) fn probe(
        &mut self,
        route: Route,
        dialect: &Dialect,
        (offer, announce): (Offer, Announce),
        seed: u64,
        wait: Wait<'_>,
    ) -> Result<Followed, VisitError> {
        self.probes += 1;
        let nonce = seed ^ self.probes.wrapping_mul(0x9e37_79b9_7f4a_7c15);
        let mut visitor = Visitor::dial(route, dialect, nonce, wait)?;
        self.learn(&mut visitor)?;
        let begun = Instant::now();
        let offered = self.make(dialect, offer, nonce, wait);
        self.making = begun.elapsed();
        let Some(offered) = offered else {
            return Ok(Followed::Unmade {
                waited: wait.took(),
            });
        };
        let headers: Vec<Header> = offered.iter().map(|block| block.header).collect();
        visitor.send(&match (announce, offered.last()) {
            (Announce::Inv, Some(last)) => Message::Inv(vec![Inventory::Block(last.hash)]),
            (Announce::Headers, _) | (Announce::Inv, None) => Message::Headers(headers.clone()),
        })?;
        let known = (&self.chain[..], self.locator());
        let followed = serve(&mut visitor, &offered, &headers, known, wait)?;
        if matches!(followed, Followed::After(_)) {
            self.adopt(&headers)?;
        }
        Ok(followed)
    }

    /// Makes what is offered; `None`: not while `wait` goes on.
    fn make(
        &self,
        dialect: &Dialect,
        offer: Offer,
        tag: u64,
        wait: Wait<'_>,
    ) -> Option<Vec<RawBlock>> {
        let variety = Variety::of(dialect);
        let goes_on = || !wait.is_over();
        match offer {
            Offer::Fresh => {
                let now = dialect.now();
                let block = blocks::on_top_of(&self.chain, dialect.easy_work, now, tag, goes_on);
                Some(vec![block?])
            }
            Offer::Shown => {
                let number = self.probes % variety.shown;
                Some(vec![blocks::shown(&self.chain, dialect, number, goes_on)?])
            }
            Offer::Branch => {
                let number = self.probes % variety.branches;
                blocks::branch(&self.chain, number, |chain, number| {
                    blocks::shown(chain, dialect, number, goes_on)
                })
            }
        }
    }

    /// Asks for headers until there are no more.
    fn learn(&mut self, visitor: &mut Visitor<'_>) -> Result<(), VisitError> {
        loop {
            visitor.send(&Message::GetHeaders(self.locator()))?;
            let headers = loop {
                // It asks, too; what we have is what it has.
                let said = visitor.receive_up_to_date("while it was asked for headers")?;
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

    /// Puts headers on top of the one that they follow.
    fn adopt(&mut self, headers: &[Header]) -> Result<(), VisitError> {
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
            return Err(VisitError::Foreign(text));
        };
        self.chain.truncate(at + 1);
        for header in headers {
            if header.prev_blockhash != self.chain[self.chain.len() - 1].block_hash() {
                let text = "headers that do not follow one another".to_owned();
                return Err(VisitError::Foreign(text));
            }
            self.chain.push(*header);
        }
        Ok(())
    }
}

/// Gives the blocks to whoever asks, and asks whether the last is in the chain now. `known`:
/// what the target had before, and its locator.
fn serve<'a>(
    visitor: &mut Visitor<'a>,
    offered: &[RawBlock],
    headers: &[Header],
    (known, mut locator): (&[Header], Locator),
    wait: Wait<'a>,
) -> Result<Followed, VisitError> {
    let mut fetched = false;
    let begun = Instant::now();
    let (Some(first), Some(last)) = (offered.first(), offered.last()) else {
        return Ok(Followed::After(Duration::ZERO));
    };
    // What it has besides the last of ours. Once it has gone over to another chain, and not to
    // ours, that begins where it left the one that it had.
    if last.header.prev_blockhash != first.header.prev_blockhash {
        locator.hashes.insert(0, last.header.prev_blockhash);
    }
    let question = Message::GetHeaders(locator);
    let mut asked = begun;
    while !wait.is_over() {
        visitor.within(wait.shorter(ASK_EVERY));
        let said = visitor.receive("while it was given a block");
        match said {
            Ok(Message::GetData(wanted)) => {
                let wanted = wanted.iter().filter_map(block_hash);
                let ours = wanted.filter_map(|hash| offered.iter().find(|it| it.hash == hash));
                for block in ours {
                    fetched = true;
                    unless_over(visitor.send(&Message::Block(block.clone())))?;
                }
            }
            Ok(Message::GetHeaders(_)) => {
                unless_over(visitor.send(&Message::Headers(headers.to_vec())))?;
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
            Ok(_) | Err(VisitError::Silent(_) | VisitError::Ended) => {}
            Err(error) => return Err(error),
        }
        if asked.elapsed() >= ASK_EVERY {
            asked = Instant::now();
            unless_over(visitor.send(&question))?;
        }
    }
    if wait.is_cut() {
        return Err(VisitError::Ended);
    }
    Ok(Followed::Not {
        waited: begun.elapsed(),
        fetched,
    })
}

/// Whether the target's chain, which these headers continue, has as much work as what is
/// offered, without it: of two chains with the same work a node stays with the one that it had
/// first. All of their blocks have the same target, but for one in 2,016. `chain`: what was
/// known of the target's when the blocks were made.
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
    // What continues none of the two is no answer to what was asked.
    let parent = ours(parent).or_else(|| height(parent));
    parent.is_some_and(|parent| parent + theirs.len() >= fork + offered.len())
}

/// That the time is over while something is said is no news: the loop ends by it, and says what
/// became of the block.
fn unless_over(sent: Result<(), VisitError>) -> Result<(), VisitError> {
    match sent {
        Err(VisitError::Silent(_) | VisitError::Ended) => Ok(()),
        sent => sent,
    }
}

#[cfg(test)]
mod tests;
