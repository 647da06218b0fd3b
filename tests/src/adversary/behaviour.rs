//! What a hostile peer says once the handshake is done.

use std::sync::Arc;

use bitcoin::block::Header;
use bitcoin::p2p::message_blockdata::Inventory;
use bitcoin::{BlockHash, hashes::Hash};
use bytes::Bytes;
use handfast_wire::limits::MAX_HEADERS;
use handfast_wire::{Locator, Message, RawBlock};

use super::frames::{self, frame};
use super::{Attack, Ground};
use crate::scripted_peer::block_hash;
use crate::served_chain::ServedChain;

/// What all peers of a crew share.
#[derive(Debug)]
pub(super) struct Common {
    pub(super) ground: Ground,
    /// The honest chain with all news.
    whole: ServedChain,
    side: ServedChain,
    pub(super) unfinished: Bytes,
    pub(super) big: Vec<Bytes>,
}

impl Common {
    pub(super) fn new(ground: Ground, attacks: &[Attack]) -> Self {
        let does = |attack| attacks.contains(&attack);
        Self {
            whole: ground.served(ground.news.len()),
            side: ground.served_side(),
            unfinished: match does(Attack::HalfFrames) || does(Attack::Trickle) {
                true => frames::unfinished(&ground.network),
                false => Bytes::new(),
            },
            big: match does(Attack::Big) {
                true => frames::big(&ground),
                false => vec![],
            },
            ground,
        }
    }
}

/// One connection's side of the talk. Its methods answer the frames to be sent.
pub(super) struct Behaviour {
    attack: Attack,
    common: Arc<Common>,
    /// Of the peer.
    number: usize,
    /// Connections that this peer had before.
    earlier: usize,
    /// The chain of [`Attack::Branches`].
    branch: Option<Arc<ServedChain>>,
    /// News that the peer knows of.
    told: usize,
    /// The whole burst of [`Attack::Poisoned`], or the frame of [`Attack::Trickle`], is sent
    /// once.
    poured: bool,
}

impl Behaviour {
    pub(super) fn new(
        attack: Attack,
        common: &Arc<Common>,
        branch: Option<&Arc<ServedChain>>,
        (number, earlier): (usize, usize),
        told: usize,
    ) -> Self {
        Self {
            attack,
            common: Arc::clone(common),
            number,
            earlier,
            branch: branch.cloned(),
            told,
            poured: false,
        }
    }

    /// The branch that this peer shows, if it has one of its own.
    pub(super) fn branch_of(
        attack: Attack,
        ground: &Ground,
        number: usize,
    ) -> Option<Arc<ServedChain>> {
        matches!(attack, Attack::Branches | Attack::NotFound).then(|| {
            let headers = ground.branch(number as u64);
            Arc::new(ServedChain::of_headers(headers))
        })
    }

    /// The handshake is done.
    pub(super) fn connected(&mut self) -> Vec<Bytes> {
        match self.attack {
            // The first block that the node lacks, unasked.
            Attack::Tampered | Attack::TamperedSignet => {
                let mut sent = vec![self.announce(self.known_tip())];
                sent.extend(self.tampered(&self.common.ground.trunk[0]));
                sent
            }
            Attack::Branches
            | Attack::NotFound
            | Attack::Withhold
            | Attack::Trickle
            | Attack::Late => vec![self.announce(self.known_tip())],
            Attack::Poisoned => {
                let fork = self.common.ground.side[0].header.prev_blockhash;
                let locator = Locator {
                    hashes: vec![fork],
                    stop: BlockHash::all_zeros(),
                };
                vec![self.headers(&self.common.side, &locator)]
            }
            Attack::HalfFrames => vec![self.common.unfinished.clone()],
            Attack::Useless | Attack::Big | Attack::Mix => vec![],
        }
    }

    /// A block was found: all of them up to this number.
    pub(super) fn news(&mut self, told: usize) -> Vec<Bytes> {
        let earlier = std::mem::replace(&mut self.told, told);
        let Some(block) = self.common.ground.news[earlier..told].last() else {
            return vec![];
        };
        match self.attack {
            Attack::Tampered | Attack::TamperedSignet => {
                let block = block.clone();
                let mut sent: Vec<Bytes> = self.tampered(&block).into_iter().collect();
                sent.push(self.announce(block.header));
                sent
            }
            Attack::Withhold | Attack::Trickle | Attack::Late => {
                vec![self.announce(block.header)]
            }
            Attack::Branches | Attack::NotFound => vec![self.announce(self.known_tip())],
            Attack::Poisoned => self.pour(),
            Attack::Useless | Attack::HalfFrames | Attack::Big | Attack::Mix => vec![],
        }
    }

    /// Answers `getheaders`.
    pub(super) fn get_headers(&mut self, locator: &Locator) -> Vec<Bytes> {
        let common = Arc::clone(&self.common);
        match self.attack {
            Attack::Poisoned => vec![self.headers(&common.side, locator)],
            Attack::Branches | Attack::NotFound => {
                let branch = self.branch.clone();
                branch.map_or_else(Vec::new, |branch| vec![self.headers(&branch, locator)])
            }
            Attack::Useless => {
                let mut headers = common.whole.headers_after(locator);
                let end = common.ground.trunk.get(MAX_HEADERS).map(|next| next.hash);
                cut(&mut headers, end);
                vec![self.frame(&Message::Headers(headers))]
            }
            Attack::Tampered
            | Attack::TamperedSignet
            | Attack::Withhold
            | Attack::HalfFrames
            | Attack::Trickle
            | Attack::Late
            | Attack::Big
            | Attack::Mix => {
                let mut headers = common.whole.headers_after(locator);
                let unknown = common.ground.news.get(self.told);
                cut(&mut headers, unknown.map(|next| next.hash));
                vec![self.frame(&Message::Headers(headers))]
            }
        }
    }

    /// Answers `getdata`.
    pub(super) fn get_data(&mut self, wanted: &[Inventory]) -> Vec<Bytes> {
        match self.attack {
            Attack::Tampered | Attack::TamperedSignet => {
                let common = Arc::clone(&self.common);
                let blocks = wanted.iter().filter_map(block_hash);
                let blocks = blocks.filter_map(|hash| common.whole.block(&hash));
                blocks.filter_map(|block| self.tampered(block)).collect()
            }
            Attack::Poisoned => self.pour(),
            Attack::Trickle if std::mem::replace(&mut self.poured, true) => vec![],
            Attack::Trickle => vec![self.common.unfinished.clone()],
            Attack::NotFound => vec![
                self.frame(&Message::NotFound(wanted.to_vec())),
                self.announce(self.known_tip()),
            ],
            // It does what it may, and gives what it has, so it is never cut off for silence.
            Attack::Big | Attack::Late => {
                let blocks = wanted.iter().filter_map(block_hash);
                let blocks = blocks.filter_map(|hash| self.common.whole.block(&hash));
                let frames = blocks.map(|block| self.frame(&Message::Block(block.clone())));
                frames.collect()
            }
            Attack::Useless
            | Attack::Branches
            | Attack::Withhold
            | Attack::HalfFrames
            | Attack::Mix => vec![],
        }
    }

    /// The first block of the side branch tampered with, all others true, in one go.
    fn pour(&mut self) -> Vec<Bytes> {
        if std::mem::replace(&mut self.poured, true) {
            return vec![];
        }
        let common = Arc::clone(&self.common);
        let Some((first, others)) = common.ground.side.split_first() else {
            return vec![];
        };
        let tampered = self.tampered(first).into_iter();
        let others = others
            .iter()
            .map(|block| self.frame(&Message::Block(block.clone())));
        tampered.chain(others).collect()
    }

    /// This block, tampered with in another way by each peer and each time.
    fn tampered(&self, block: &RawBlock) -> Option<Bytes> {
        let ways = self.common.ground.tampered(&block.hash);
        let way = ways.get((self.number + self.earlier) % ways.len().max(1))?;
        Some(self.frame(&Message::Block(way.clone())))
    }

    fn known_tip(&self) -> Header {
        if let Some(branch) = &self.branch {
            return branch.tip_header();
        }
        let ground = &self.common.ground;
        let news = ground.news[..self.told].last();
        let tip = news.or(ground.trunk.last());
        tip.expect("a trunk has blocks").header
    }

    fn announce(&self, header: Header) -> Bytes {
        self.frame(&Message::Headers(vec![header]))
    }

    fn headers(&self, chain: &ServedChain, locator: &Locator) -> Bytes {
        self.frame(&Message::Headers(chain.headers_after(locator)))
    }

    fn frame(&self, message: &Message) -> Bytes {
        frame(&self.common.ground.network, message)
    }
}

/// Leaves out the header with this hash and those after it.
fn cut(headers: &mut Vec<Header>, from: Option<BlockHash>) {
    let end = from.and_then(|from| {
        headers
            .iter()
            .position(|header| header.block_hash() == from)
    });
    headers.truncate(end.unwrap_or(headers.len()));
}
