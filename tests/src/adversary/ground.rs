//! The chains that an attack is about, the same for honest and hostile peers.

use std::collections::BTreeMap;

use bitcoin::BlockHash;
use bitcoin::block::Header;
use handfast_wire::{Network, RawBlock};

use super::forge::{Content, TRUNK, bare_header_on, block_on};
use super::{Addresses, Attack, Honest, Tamper};
use crate::data;
use crate::process::{Node, op_true_signet};
use crate::served_chain::ServedChain;

/// Blocks that are found, one after another, once the node has the rest of the chain.
pub const NEWS: usize = 6;
/// Seconds between blocks.
const SPACING: u32 = 60;
/// How far before now the last block of the trunk is, seconds: recent, so that no node takes
/// itself to be in initial download at the tip; and old enough for the branches.
const TIP_AGE: u32 = 3_600;
/// Height at which the stored side branch leaves the trunk.
const SIDE_FORK: usize = 150;
/// Blocks of the side branch that the node has before it is restarted.
const SIDE_STORED: usize = 20;
/// Blocks that it is continued with.
const SIDE_MORE: usize = 80;
/// Blocks that the node has of the trunk then: more than the branch, less than the branch
/// with its continuation.
const SIDE_TRUNK: usize = 200;
/// Blocks below the trunk's last one where hostile branches leave it.
const BRANCH_DEPTH: usize = 10;
/// Blocks of [`Ground::regtest_of_large_blocks`] that are large.
const LARGE: usize = 240;
/// Headers of such a branch: more work than the trunk with all news.
const BRANCH_LENGTH: usize = BRANCH_DEPTH + NEWS + 30;

/// The honest chain, and what the attackers have beside it.
#[derive(Clone, Debug)]
pub struct Ground {
    /// Where it all takes place.
    pub network: Network,
    /// The blocks that the honest peer has when it comes, from height 1.
    pub trunk: Vec<RawBlock>,
    /// Those that it finds afterwards.
    pub news: Vec<RawBlock>,
    /// The side branch, and what continues it: [`SIDE_STORED`] blocks are stored. Empty on
    /// a signet.
    pub(super) side: Vec<RawBlock>,
    tampered: BTreeMap<BlockHash, Vec<RawBlock>>,
}

impl Ground {
    /// A regtest chain of `length` blocks that ends an hour before `now` (Unix seconds).
    ///
    /// # Panics
    /// If it is shorter than 250 blocks.
    pub fn regtest(length: usize, now: u32) -> Self {
        Self::on_regtest(length, 0, now)
    }

    /// The same, and the last blocks of the trunk and those that are found afterwards are
    /// large.
    ///
    /// # Panics
    /// As [`Self::regtest`].
    pub fn regtest_of_large_blocks(length: usize, now: u32) -> Self {
        Self::on_regtest(length, LARGE, now)
    }

    /// What an attack is about. `None` if its data is not there.
    pub fn of(attack: Attack, length: usize, now: u32) -> Option<Self> {
        match attack {
            Attack::TamperedSignet => Self::signet(),
            Attack::Trickle => Some(Self::regtest_of_large_blocks(length, now)),
            _ => Some(Self::regtest(length, now)),
        }
    }

    /// A chain of which the last `large` blocks are large; with some, those found
    /// afterwards, too.
    fn on_regtest(length: usize, large: usize, now: u32) -> Self {
        assert!(
            length >= SIDE_FORK + SIDE_STORED + SIDE_MORE,
            "the side branch must not win"
        );
        let network = Network::Regtest;
        let blocks = u32::try_from(length).expect("a short chain");
        let begin = now - TIP_AGE - blocks * SPACING;
        let mut line = Line::new(network.genesis(), 0, begin);
        let trunk: Vec<_> = (0..length)
            .map(|number| {
                let is_large = number + large >= length;
                line.next(
                    TRUNK,
                    [Content::Coinbase, Content::Large][usize::from(is_large)],
                )
            })
            .collect();
        let news = (0..).take(NEWS).map(|number| {
            line.next(
                TRUNK,
                match number % 2 {
                    _ if large > 0 => Content::Large,
                    0 => Content::Joinable(1 + number / 2),
                    _ => Content::Two(10 + number, 20 + number),
                },
            )
        });
        let news = news.collect();
        let fork = trunk[SIDE_FORK - 1].header;
        let height = u32::try_from(SIDE_FORK).expect("a height");
        let mut line = Line::new(fork, height, fork.time);
        let side = (0..SIDE_STORED + SIDE_MORE).map(|number| {
            line.next(
                "side",
                match number {
                    0 => Content::Joinable(1),
                    _ => Content::Coinbase,
                },
            )
        });
        Self::new(network, trunk, news, side.collect())
    }

    /// The chain of the `OP_TRUE` signet. `None` if its data is not there.
    pub fn signet() -> Option<Self> {
        let mut trunk = data::signet_blocks()?;
        let news = trunk.split_off(trunk.len() - NEWS);
        Some(Self::new(op_true_signet(), trunk, news, vec![]))
    }

    fn new(
        network: Network,
        trunk: Vec<RawBlock>,
        news: Vec<RawBlock>,
        side: Vec<RawBlock>,
    ) -> Self {
        // What is asked for first and what is new: tampering all would take its time.
        let targets = trunk.iter().take(1_024).chain(&news).chain(side.first());
        let tampered = targets.map(|block| {
            let all = Tamper::ALL.into_iter().filter_map(|how| how.of(block));
            (block.hash, all.collect())
        });
        Self {
            tampered: tampered.collect(),
            network,
            trunk,
            news,
            side,
        }
    }

    /// Hash of the trunk's last block.
    ///
    /// # Panics
    /// Never: a trunk has blocks.
    pub fn tip(&self) -> BlockHash {
        self.trunk.last().expect("there are blocks").hash
    }

    /// The trunk with the first `news` blocks on top.
    pub fn served(&self, news: usize) -> ServedChain {
        let blocks = self.trunk.iter().chain(&self.news[..news]);
        ServedChain::new(&self.network, blocks.cloned())
    }

    /// Gives a node the side branch and then, with more work, the beginning of the trunk,
    /// both as a peer does: what is submitted is remembered better.
    ///
    /// # Panics
    /// If the node does not take them.
    pub fn store_side_branch(&self, node: &Node) {
        let fork = self.trunk[..SIDE_FORK].iter();
        let side: Vec<_> = fork.chain(&self.side[..SIDE_STORED]).cloned().collect();
        for blocks in [side, self.trunk[..SIDE_TRUNK].to_vec()] {
            let tip = blocks.last().expect("there are blocks").hash;
            let chain = ServedChain::new(&self.network, blocks);
            let _peer = Honest::dial(&self.network, chain, node.p2p(), Addresses::Loopback);
            node.wait_for_tip(tip);
        }
    }

    /// Every block under the header of this one that can be made of it.
    pub fn tampered(&self, hash: &BlockHash) -> &[RawBlock] {
        self.tampered.get(hash).map_or(&[], Vec::as_slice)
    }

    /// The trunk to where the side branch leaves it, the branch and what continues it.
    pub(super) fn served_side(&self) -> ServedChain {
        let blocks = self.trunk[..SIDE_FORK].iter().chain(&self.side);
        ServedChain::new(&self.network, blocks.cloned())
    }

    /// A branch with more work than the trunk and all news: headers without blocks. Each
    /// salt makes another.
    pub(super) fn branch(&self, salt: u64) -> Vec<Header> {
        let base = self.trunk.len() - BRANCH_DEPTH;
        let mut headers: Vec<Header> = std::iter::once(self.network.genesis())
            .chain(self.trunk[..base].iter().map(|block| block.header))
            .collect();
        for _ in 0..BRANCH_LENGTH {
            let parent = headers.last().expect("genesis is there");
            let header = bare_header_on(parent, parent.time + SPACING, salt);
            headers.push(header);
        }
        headers
    }
}

/// Blocks on top of one another.
struct Line {
    tip: Header,
    height: u32,
    time: u32,
}

impl Line {
    fn new(tip: Header, height: u32, time: u32) -> Self {
        Self { tip, height, time }
    }

    fn next(&mut self, label: &str, content: Content) -> RawBlock {
        self.height += 1;
        self.time += SPACING;
        let block = block_on(&self.tip, self.height, self.time, label, content);
        self.tip = block.header;
        block
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: u32 = 1_800_000_000;

    #[test]
    fn new_blocks_can_be_tampered_with_in_every_way_and_keep_their_hash() {
        let ground = Ground::regtest(300, NOW);
        let mut seen = 0;
        for block in &ground.news {
            let changed = ground.tampered(&block.hash);
            seen += changed.len();
            for changed in changed {
                assert_eq!(changed.hash, block.hash);
                assert_ne!(changed.bytes, block.bytes);
            }
        }
        // Other coinbase, other witness, and by turns joined and doubled.
        assert_eq!(seen, 3 * NEWS);
        assert!(Tamper::Joined.of(&ground.news[0]).is_some());
        assert!(Tamper::Doubled.of(&ground.news[1]).is_some());
        assert!(Tamper::Joined.of(&ground.side[0]).is_some());
    }

    #[test]
    fn branches_have_more_work_than_the_trunk_with_all_news_and_no_header_in_common() {
        let ground = Ground::regtest(300, NOW);
        let (one, other) = (ground.branch(1), ground.branch(2));
        assert!(one.len() > 1 + ground.trunk.len() + NEWS);
        assert_ne!(one.last(), other.last());
        let last = one.last().expect("there are headers");
        assert!(last.time < NOW);
        assert!(ground.news[NEWS - 1].header.time < NOW);
    }
}
