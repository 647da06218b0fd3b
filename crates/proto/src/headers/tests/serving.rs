//! Answers to peers, and operations that the tree refuses.

use bitcoin::hashes::Hash;
use bitcoin::{BlockHash, block::Header};

use super::super::{
    Connected, HeaderTree, InsertError, Inserted, Status, TipStatus, anti_dos_threshold,
};
use super::{EASY, child, connect_all, genesis, grow, insert_all};
use crate::headers::entry::to_work;

/// Active: genesis and `active`. A branch of six headers on `active[9]`.
struct Forked {
    tree: HeaderTree,
    active: Vec<Header>,
    branch: Vec<Header>,
}

fn forked() -> Forked {
    let root = genesis(EASY);
    let mut tree = HeaderTree::new(root);
    let active = grow(&root, 30, 1);
    let branch = grow(&active[9], 6, 2);
    insert_all(&mut tree, &active);
    insert_all(&mut tree, &branch);
    connect_all(&mut tree, &active);
    Forked {
        tree,
        active,
        branch,
    }
}

fn none() -> BlockHash {
    BlockHash::all_zeros()
}

#[test]
fn getheaders_continues_after_the_first_locator_hash_in_the_active_chain() {
    let Forked {
        tree,
        active,
        branch,
    } = forked();
    let locator = [
        branch[5].block_hash(),
        active[19].block_hash(),
        active[4].block_hash(),
    ];
    assert_eq!(tree.headers_after(&locator, &none(), 2_000), active[20..]);
    assert_eq!(tree.shared_with(&locator).hash, active[19].block_hash());
    assert_eq!(tree.headers_after(&locator, &none(), 3), active[20..23]);
    assert_eq!(tree.headers_after(&locator, &none(), 0), []);
}

#[test]
fn a_locator_of_unknown_hashes_starts_at_genesis() {
    let Forked {
        tree,
        active,
        branch,
    } = forked();
    let stranger = BlockHash::from_byte_array([3; 32]);
    // The branch is known, but not active: it counts as unknown.
    for locator in [[stranger], [branch[5].block_hash()]] {
        assert_eq!(tree.headers_after(&locator, &none(), 2_000), active[..]);
    }
}

#[test]
fn getheaders_includes_the_stop_block_and_ignores_one_that_is_not_active() {
    let Forked {
        tree,
        active,
        branch,
    } = forked();
    let locator = [active[4].block_hash()];
    let stop = active[8].block_hash();
    assert_eq!(tree.headers_after(&locator, &stop, 2_000), active[5..=8]);
    assert_eq!(
        tree.headers_after(&locator, &branch[0].block_hash(), 2_000),
        active[5..]
    );
    // A block before the locator's does not stop either.
    assert_eq!(
        tree.headers_after(&locator, &active[2].block_hash(), 2_000),
        active[5..]
    );
}

#[test]
fn the_parent_as_locator_and_a_block_as_stop_show_whether_we_have_the_block() {
    let Forked { tree, active, .. } = forked();
    let locator = [active[28].block_hash()];
    let stop = active[29].block_hash();
    assert_eq!(tree.headers_after(&locator, &stop, 2_000), [active[29]]);
    let unknown = child(&active[29], 9).block_hash();
    assert_eq!(tree.headers_after(&[stop], &unknown, 2_000), []);
}

#[test]
fn a_locator_ahead_of_our_tip_on_our_branch_needs_nothing() {
    let Forked {
        mut tree, active, ..
    } = forked();
    let ahead = grow(&active[29], 3, 5);
    insert_all(&mut tree, &ahead);
    let locator = [ahead[2].block_hash(), active[0].block_hash()];
    assert_eq!(tree.headers_after(&locator, &none(), 2_000), []);
    assert_eq!(tree.hashes_after(&locator, &none(), 500), []);
}

#[test]
fn an_empty_locator_requests_only_the_stop_block() {
    let Forked {
        tree,
        active,
        branch,
    } = forked();
    assert_eq!(
        tree.headers_after(&[], &active[3].block_hash(), 2_000),
        [active[3]]
    );
    assert_eq!(tree.headers_after(&[], &none(), 2_000), []);
    // Never connected: it may be invalid, and must not be relayed.
    assert_eq!(tree.headers_after(&[], &branch[0].block_hash(), 2_000), []);
}

#[test]
fn getblocks_stops_before_the_stop_block() {
    let Forked { tree, active, .. } = forked();
    let hashes: Vec<_> = active.iter().map(Header::block_hash).collect();
    assert_eq!(
        tree.hashes_after(&[hashes[4]], &hashes[8], 500),
        hashes[5..8]
    );
    assert_eq!(tree.hashes_after(&[hashes[4]], &none(), 7), hashes[5..12]);
    assert_eq!(tree.hashes_after(&[], &none(), 500), hashes);
    assert_eq!(tree.hashes_after(&[hashes[4]], &hashes[5], 500), []);
}

/// Connects `branch` up to its end, then returns to `active`.
fn reorganize_and_back(forked: &mut Forked) {
    for header in forked.active[10..].iter().rev() {
        forked.tree.disconnect(&header.block_hash());
    }
    connect_all(&mut forked.tree, &forked.branch);
    for header in forked.branch.iter().rev() {
        forked.tree.disconnect(&header.block_hash());
    }
    connect_all(&mut forked.tree, &forked.active[10..]);
}

#[test]
fn a_stale_block_is_served_for_a_month_of_time_and_of_work() {
    let mut forked = forked();
    let stale = forked.branch[5].block_hash();
    assert!(!forked.tree.may_serve(&stale), "never connected");
    reorganize_and_back(&mut forked);
    assert_eq!(
        forked.tree.get(&stale).map(|entry| entry.status),
        Some(Status::Connected)
    );
    assert!(forked.tree.may_serve(&stale));
    assert_eq!(
        forked.tree.headers_after(&[], &stale, 1),
        [forked.branch[5]]
    );

    let mut late = child(&forked.active[29], 1);
    late.time = forked.branch[5].time + 30 * 24 * 60 * 60;
    let mut by_time = forked.tree.clone();
    insert_all(&mut by_time, &[late]);
    assert!(!by_time.may_serve(&stale), "a month old");
    assert!(
        forked.tree.may_serve(&stale),
        "the snapshot knows nothing of it"
    );

    // 30 days are 4,320 blocks.
    let mut quick = grow(&forked.active[29], 4_320, 1);
    let mut prev = forked.active[29].block_hash();
    for header in &mut quick {
        (header.time, header.prev_blockhash) = (forked.active[29].time, prev);
        prev = header.block_hash();
    }
    let mut by_work = forked.tree.clone();
    insert_all(&mut by_work, &quick[..4_305]);
    assert!(by_work.may_serve(&stale));
    insert_all(&mut by_work, &quick[4_305..]);
    assert!(!by_work.may_serve(&stale), "a month of work behind");
    assert!(
        by_work.may_serve(&forked.active[0].block_hash()),
        "active blocks always"
    );
}

#[test]
fn chain_tips_show_how_much_of_a_branch_was_seen() {
    let mut forked = forked();
    let tip = forked.branch[5].block_hash();
    let status = |tree: &HeaderTree| {
        let tips = tree.chain_tips();
        assert_eq!(
            tips.iter().map(|tip| tip.branch_len).collect::<Vec<_>>(),
            [0, 6]
        );
        assert_eq!((tips[0].status, tips[0].height), (TipStatus::Active, 30));
        assert_eq!((tips[1].hash, tips[1].height), (tip, 16));
        tips[1].status
    };
    assert_eq!(status(&forked.tree), TipStatus::HeadersOnly);
    for header in &forked.branch[1..] {
        forked.tree.mark_stored(&header.block_hash());
    }
    assert_eq!(
        status(&forked.tree),
        TipStatus::HeadersOnly,
        "one block is missing"
    );
    forked.tree.mark_stored(&forked.branch[0].block_hash());
    assert_eq!(status(&forked.tree), TipStatus::ValidHeaders);
    let mut invalid = forked.tree.clone();
    assert_eq!(invalid.mark_invalid(&forked.branch[3].block_hash()), 3);
    assert_eq!(status(&invalid), TipStatus::Invalid);
    reorganize_and_back(&mut forked);
    assert_eq!(status(&forked.tree), TipStatus::ValidFork);
}

#[test]
fn an_orphan_and_a_child_of_an_invalid_header_are_refused() {
    let Forked {
        mut tree, branch, ..
    } = forked();
    let far = grow(&branch[5], 2, 3);
    let hash = far[1].block_hash();
    let parent = far[0].block_hash();
    assert_eq!(
        tree.insert(far[1]),
        Err(InsertError::UnknownParent { hash, parent })
    );
    tree.mark_invalid(&branch[2].block_hash());
    let (hash, parent) = (far[0].block_hash(), branch[5].block_hash());
    assert_eq!(
        tree.insert(far[0]),
        Err(InsertError::InvalidParent { hash, parent })
    );
    assert!(!tree.contains(&hash));
}

#[test]
fn the_first_of_two_equal_headers_is_best_again_when_the_better_one_becomes_invalid() {
    let root = genesis(EASY);
    let mut tree = HeaderTree::new(root);
    let (first, second) = (grow(&root, 3, 1), grow(&root, 3, 2));
    insert_all(&mut tree, &first);
    insert_all(&mut tree, &second);
    assert_eq!(tree.best_header().hash, first[2].block_hash());
    insert_all(&mut tree, &[child(&second[2], 2)]);
    assert_eq!(tree.best_header().height, 4);
    tree.mark_invalid(&second[1].block_hash());
    assert_eq!(tree.best_header().hash, first[2].block_hash());
    tree.mark_invalid(&first[0].block_hash());
    assert_eq!(tree.best_header().hash, second[0].block_hash());
}

#[test]
fn the_kernels_tip_becomes_the_tip_whatever_the_tree_held() {
    let Forked {
        mut tree, active, ..
    } = forked();
    let ahead = grow(&active[29], 3, 5);
    insert_all(&mut tree, &ahead);
    tree.mark_invalid(&ahead[0].block_hash());
    assert_eq!(tree.best_header().hash, active[29].block_hash());
    // Its parent is skipped, and both are marked.
    let tip = ahead[1].block_hash();
    assert_eq!(tree.connect(&tip), Connected::Adopted);
    assert_eq!(tree.tip().hash, tip);
    assert!(tree.in_active_chain(&ahead[0].block_hash()));
    let above = tree.get(&ahead[2].block_hash()).unwrap();
    assert_eq!(above.status, Status::Header, "its mark came from below");
    assert_eq!(tree.best_header().hash, above.hash);
    assert_eq!(tree.connect(&above.hash), Connected::AsExpected);
    // A tip below the old one.
    let lower = active[20].block_hash();
    assert_eq!(tree.connect(&lower), Connected::Adopted);
    assert_eq!(tree.tip().hash, lower);
    let unknown = child(&above.header, 7).block_hash();
    assert_eq!(tree.connect(&unknown), Connected::Unknown);
}

#[test]
fn disconnecting_a_block_disconnects_all_above_it_and_never_genesis() {
    let Forked {
        mut tree, active, ..
    } = forked();
    tree.disconnect(&active[28].block_hash());
    assert_eq!(tree.tip().hash, active[27].block_hash());
    tree.disconnect(&active[29].block_hash());
    let genesis = tree.at_height(0).unwrap().hash;
    tree.disconnect(&genesis);
    assert_eq!(tree.tip().hash, active[27].block_hash());
}

#[test]
fn a_block_does_not_become_invalid_while_it_is_active() {
    let Forked {
        mut tree, active, ..
    } = forked();
    let hash = active[28].block_hash();
    assert_eq!(tree.mark_invalid(&hash), 0);
    assert_eq!(tree.get(&hash).unwrap().status, Status::Connected);
}

#[test]
fn a_header_that_the_kernel_has_is_adopted_on_an_invalid_parent_as_invalid() {
    let Forked {
        mut tree, branch, ..
    } = forked();
    tree.mark_invalid(&branch[2].block_hash());
    let header = child(&branch[5], 9);
    let hash = header.block_hash();
    assert_eq!(tree.adopt(hash, header), Ok(Inserted::New));
    assert_eq!(tree.get(&hash).unwrap().status, Status::Invalid);
    assert_ne!(tree.best_header().hash, hash);
}

#[test]
fn the_anti_dos_threshold_is_the_minimum_work_until_the_tip_is_144_blocks_above_it() {
    // Two expected hashes a block at these bits.
    let Forked {
        mut tree, active, ..
    } = forked();
    assert_eq!(anti_dos_threshold(&tree, to_work(0)), to_work(0));
    assert_eq!(anti_dos_threshold(&tree, to_work(99)), to_work(99));
    let more = grow(&active[29], 170, 1);
    insert_all(&mut tree, &more);
    assert_eq!(
        anti_dos_threshold(&tree, to_work(0)),
        to_work(0),
        "the tip counts, not headers"
    );
    connect_all(&mut tree, &more);
    assert_eq!(
        anti_dos_threshold(&tree, to_work(0)),
        to_work(2 * (201 - 144))
    );
    assert_eq!(anti_dos_threshold(&tree, to_work(115)), to_work(115));
}
