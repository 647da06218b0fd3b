//! Headers that the engine was not given yet.

use std::collections::BTreeSet;

use bitcoin::BlockHash;
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

use super::super::HeaderTree;
use super::{EASY, child, genesis};

#[test]
fn each_header_is_given_once_and_never_before_its_parent() {
    for seed in 0..30 {
        let mut random = ChaCha8Rng::seed_from_u64(seed);
        let first = genesis(EASY);
        let mut tree = HeaderTree::new(first);
        let mut all = vec![first];
        let mut given = BTreeSet::from([first.block_hash()]);
        for salt in 1..400 {
            let chosen = all.len() - 1 - random.random_range(0..all.len().min(9));
            let header = child(&all[chosen], salt);
            tree.insert(header).unwrap();
            tree.mark_unsent(&header.block_hash());
            all.push(header);
            let end = all[random.random_range(0..all.len())].block_hash();
            match random.random_range(0..12) {
                0 => {
                    let max = random.random_range(1..9);
                    let batch = tree.take_unsent(&end, max);
                    assert!(batch.len() <= max);
                    assert!(batch.len() == max || given_up_to(&tree, &end));
                    for header in batch {
                        assert!(given.contains(&header.prev_blockhash), "{seed} {salt}");
                        assert!(given.insert(header.block_hash()), "{seed} {salt}");
                    }
                }
                1 => {
                    tree.mark_sent(&end);
                    let path = tree.branch(&end, 0, usize::MAX);
                    given.extend(path.iter().map(|entry| entry.hash));
                }
                2 if end != first.block_hash() && random.random_ratio(1, 3) => {
                    tree.mark_unsent(&end);
                    given.retain(|hash| !tree.is_ancestor(&end, hash));
                }
                _ => {}
            }
            for header in &all {
                let hash = header.block_hash();
                assert_eq!(
                    tree.is_unsent(&hash),
                    !given.contains(&hash),
                    "{seed} {salt}"
                );
            }
        }
    }
}

fn given_up_to(tree: &HeaderTree, end: &BlockHash) -> bool {
    !tree.is_unsent(end)
}
