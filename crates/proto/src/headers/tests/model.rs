//! The tree against a plain list of blocks, on random histories.

use bitcoin::{BlockHash, CompactTarget};
use proptest::prelude::*;

use super::super::{HeaderTree, InsertError, Inserted, Status, TipStatus, block_work};
use super::{child, genesis};
use crate::headers::entry::to_work;

/// Blocks of different work, so that the longest branch is not always the best.
const BITS: [u32; 3] = [0x207f_ffff, 0x203f_ffff, 0x2010_0000];

/// The next operation. Numbers select among the blocks that exist then.
#[derive(Clone, Debug)]
enum Op {
    Insert {
        parent: usize,
        bits: usize,
        time: u32,
    },
    InsertAgain(usize),
    Store(usize),
    Invalidate(usize),
    Activate(usize),
}

fn op() -> impl Strategy<Value = Op> {
    let any = any::<usize>();
    prop_oneof![
        // Mostly near the end, so that branches become long.
        8 => (0..3usize, 0..3usize, 0..2_000u32)
            .prop_map(|(back, bits, time)| Op::Insert { parent: usize::MAX - back, bits, time }),
        4 => (any, 0..3usize, 0..2_000u32)
            .prop_map(|(parent, bits, time)| Op::Insert { parent, bits, time }),
        1 => any.prop_map(Op::InsertAgain),
        4 => any.prop_map(Op::Store),
        1 => any.prop_map(Op::Invalidate),
        2 => any.prop_map(Op::Activate),
    ]
}

#[derive(Clone)]
struct Block {
    hash: BlockHash,
    parent: Option<usize>,
    height: u32,
    work: u128,
    time: u32,
    status: Status,
}

/// The same facts, each computed the slow and obvious way.
#[derive(Clone)]
struct Model {
    blocks: Vec<Block>,
    active: Vec<usize>,
}

impl Model {
    fn path(&self, at: usize) -> Vec<usize> {
        let mut path = vec![at];
        while let Some(parent) = self.blocks[path[path.len() - 1]].parent {
            path.push(parent);
        }
        path.reverse();
        path
    }

    fn is_invalid(&self, at: usize) -> bool {
        self.path(at)
            .iter()
            .any(|at| self.blocks[*at].status == Status::Invalid)
    }

    fn status(&self, at: usize) -> Status {
        if self.is_invalid(at) {
            Status::Invalid
        } else {
            self.blocks[at].status
        }
    }

    fn best(&self) -> usize {
        let mut best = 0;
        for at in 0..self.blocks.len() {
            if !self.is_invalid(at) && self.blocks[at].work > self.blocks[best].work {
                best = at;
            }
        }
        best
    }

    fn fork(&self, a: usize, b: usize) -> usize {
        let (a, b) = (self.path(a), self.path(b));
        *a.iter()
            .zip(&b)
            .take_while(|(a, b)| a == b)
            .last()
            .expect("genesis is shared")
            .0
    }

    fn tips(&self) -> Vec<(BlockHash, u32, u32, TipStatus)> {
        let tip = *self.active.last().expect("genesis");
        let mut tips = Vec::new();
        for at in 0..self.blocks.len() {
            if at != tip && self.blocks.iter().any(|block| block.parent == Some(at)) {
                continue;
            }
            let block = &self.blocks[at];
            let branch = block.height - self.blocks[self.fork(at, tip)].height;
            let missing = self
                .path(at)
                .iter()
                .any(|at| self.blocks[*at].status == Status::Header);
            let status = match self.status(at) {
                _ if at == tip => TipStatus::Active,
                Status::Invalid => TipStatus::Invalid,
                Status::Connected => TipStatus::ValidFork,
                _ if missing => TipStatus::HeadersOnly,
                _ => TipStatus::ValidHeaders,
            };
            tips.push((block.hash, block.height, branch, status));
        }
        tips.sort_by_key(|tip| std::cmp::Reverse(tip.1));
        tips
    }
}

fn apply(tree: &mut HeaderTree, model: &mut Model, op: &Op, salt: u32) {
    let count = model.blocks.len();
    match *op {
        Op::Insert { parent, bits, time } => insert(tree, model, parent % count, bits, time, salt),
        Op::InsertAgain(at) => {
            let again = tree
                .get(&model.blocks[at % count].hash)
                .expect("inserted before");
            assert_eq!(tree.insert(again.header), Ok(Inserted::Known));
        }
        Op::Store(at) => {
            let block = &mut model.blocks[at % count];
            tree.mark_stored(&block.hash);
            if block.status == Status::Header {
                block.status = Status::Stored;
            }
        }
        Op::Invalidate(at) => {
            let at = at % count;
            if model.active.contains(&at) {
                return;
            }
            let before = (0..count).filter(|at| model.is_invalid(*at)).count();
            model.blocks[at].status = Status::Invalid;
            let after = (0..count).filter(|at| model.is_invalid(*at)).count();
            assert_eq!(tree.mark_invalid(&model.blocks[at].hash), after - before);
        }
        Op::Activate(at) => activate(tree, model, at % count),
    }
}

fn insert(tree: &mut HeaderTree, model: &mut Model, at: usize, bits: usize, time: u32, salt: u32) {
    let parent = model.blocks[at].clone();
    let mut header = child(&tree.get(&parent.hash).expect("known").header, salt);
    header.time = header.time - 900 + time;
    header.bits = CompactTarget::from_consensus(BITS[bits]);
    let hash = header.block_hash();
    if model.is_invalid(at) {
        let refused = InsertError::InvalidParent {
            hash,
            parent: parent.hash,
        };
        assert_eq!(tree.insert(header), Err(refused));
        return;
    }
    assert_eq!(tree.insert(header), Ok(Inserted::New));
    model.blocks.push(Block {
        hash,
        parent: Some(at),
        height: parent.height + 1,
        work: parent.work + block_work(header.bits),
        time: header.time,
        status: Status::Header,
    });
}

/// Moves the active chain as the kernel would, block by block.
fn activate(tree: &mut HeaderTree, model: &mut Model, to: usize) {
    if model.is_invalid(to) {
        return;
    }
    let path = model.path(to);
    while !path.contains(model.active.last().expect("genesis")) {
        let tip = model.active.pop().expect("genesis");
        tree.disconnect(&model.blocks[tip].hash);
    }
    for at in &path[model.active.len().min(path.len())..] {
        tree.connect(&model.blocks[*at].hash);
        model.blocks[*at].status = Status::Connected;
        model.active.push(*at);
    }
}

fn compare(tree: &HeaderTree, model: &Model) {
    let blocks = &model.blocks;
    assert_eq!(tree.len(), blocks.len());
    assert_eq!(
        tree.tip().hash,
        blocks[*model.active.last().expect("genesis")].hash
    );
    for (at, block) in blocks.iter().enumerate() {
        let entry = tree.get(&block.hash).expect("inserted");
        assert_eq!(
            (entry.hash, entry.header.block_hash()),
            (block.hash, block.hash)
        );
        assert_eq!(
            (entry.height, entry.work),
            (block.height, to_work(block.work))
        );
        assert_eq!(entry.status, model.status(at));
        assert_eq!(
            tree.in_active_chain(&block.hash),
            model.active.contains(&at)
        );
        let parent = block.parent.map(|at| blocks[at].hash);
        assert_eq!(tree.parent(&block.hash).map(|entry| entry.hash), parent);

        let path = model.path(at);
        let mut times: Vec<_> = path
            .iter()
            .rev()
            .take(11)
            .map(|at| blocks[*at].time)
            .collect();
        times.sort_unstable();
        assert_eq!(
            tree.median_time_past(&block.hash),
            Some(times[times.len() / 2])
        );
        for (height, ancestor) in path.iter().enumerate() {
            let found = tree
                .ancestor(&block.hash, height as u32)
                .map(|entry| entry.hash);
            assert_eq!(found, Some(blocks[*ancestor].hash));
        }
        assert_eq!(tree.ancestor(&block.hash, block.height + 1), None);
        let from = path.len() / 2;
        let branch: Vec<_> = tree
            .branch(&block.hash, from as u32, 5)
            .iter()
            .map(|entry| entry.hash)
            .collect();
        let expected: Vec<_> = path[from..]
            .iter()
            .take(5)
            .map(|at| blocks[*at].hash)
            .collect();
        assert_eq!(branch, expected);

        for (other, second) in blocks.iter().enumerate() {
            let fork = tree
                .fork_point(&block.hash, &second.hash)
                .map(|entry| entry.hash);
            assert_eq!(fork, Some(blocks[model.fork(at, other)].hash));
            assert_eq!(
                tree.is_ancestor(&second.hash, &block.hash),
                path.contains(&other)
            );
        }
    }
    for (height, at) in model.active.iter().enumerate() {
        assert_eq!(
            tree.at_height(height as u32).map(|entry| entry.hash),
            Some(blocks[*at].hash)
        );
    }
    assert_eq!(tree.at_height(model.active.len() as u32), None);
    let tips: Vec<_> = tree
        .chain_tips()
        .iter()
        .map(|tip| (tip.hash, tip.height, tip.branch_len, tip.status))
        .collect();
    assert_eq!(tips, model.tips());
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: 192,
        failure_persistence: None,
        rng_seed: proptest::test_runner::RngSeed::Fixed(0x7ee),
        ..ProptestConfig::default()
    })]

    #[test]
    fn the_tree_agrees_with_a_plain_list_of_blocks(
        ops in proptest::collection::vec(op(), 1..90),
        snapshot_at in 0..90usize,
    ) {
        let root = genesis(BITS[0]);
        let mut tree = HeaderTree::new(root);
        let work = block_work(root.bits);
        let first = Block {
            hash: root.block_hash(), parent: None, height: 0, work, time: root.time,
            status: Status::Connected,
        };
        let mut model = Model { blocks: vec![first], active: vec![0] };
        let mut snapshot = (tree.clone(), model.clone());
        for (count, op) in ops.iter().enumerate() {
            apply(&mut tree, &mut model, op, count as u32);
            assert_eq!(tree.best_header().hash, model.blocks[model.best()].hash, "after {op:?}");
            if count == snapshot_at {
                snapshot = (tree.clone(), model.clone());
            }
        }
        compare(&tree, &model);
        compare(&snapshot.0, &snapshot.1);
    }
}
