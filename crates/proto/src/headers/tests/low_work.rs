//! Low-work sync with honest, lying, endless and ending peers.

use bitcoin::block::Header;
use bitcoin::{CompactTarget, Work};
use handfast_wire::Network;

use super::super::{
    HeaderTree, LowWork, LowWorkFailure, LowWorkOutcome, LowWorkParams, PowError, PowParams,
    check_pow,
};
use super::{EASY, child, genesis, insert_all, real_headers};
use crate::headers::entry::to_work;

const SMALL: LowWorkParams = LowWorkParams {
    commitment_period: 50,
    lookahead: 1_200,
};

/// Long after every header of these tests.
const NOW: u32 = 1_700_000_000;

fn regtest() -> PowParams {
    PowParams::for_network(&Network::Regtest)
}

/// `count` headers with real, easy proof of work on `parent`.
fn mine(parent: &Header, count: usize, salt: u32) -> Vec<Header> {
    let mut headers: Vec<Header> = Vec::with_capacity(count);
    for _ in 0..count {
        let mut header = child(headers.last().unwrap_or(parent), salt << 16);
        header.time -= 599;
        while check_pow(&header, regtest().limit()).is_err() {
            header.nonce += 1;
        }
        headers.push(header);
    }
    headers
}

/// Work of `count` regtest headers on genesis.
fn easy_work(count: u128) -> Work {
    to_work(2 * (count + 1))
}

fn start(params: LowWorkParams, minimum_work: Work, now: u32, seed: u64) -> (HeaderTree, LowWork) {
    let tree = HeaderTree::new(genesis(EASY));
    let sync = LowWork::new(
        regtest(),
        params,
        &tree,
        &tree.tip(),
        minimum_work,
        now,
        seed,
    );
    (tree, sync)
}

/// Lets a peer answer from `first`, and from `second` once the sync starts again. Returns what was
/// released, and the outcome.
fn run(sync: &mut LowWork, first: &[Header], second: &[Header]) -> (Vec<Header>, LowWorkOutcome) {
    let mut released = Vec::new();
    let mut next = sync.locator_start();
    loop {
        let chain = if sync.redownloading() { second } else { first };
        let from = chain
            .iter()
            .position(|header| header.prev_blockhash == next);
        let batch: Vec<_> = chain[from.unwrap_or(chain.len())..]
            .iter()
            .copied()
            .take(2_000)
            .collect();
        let step = sync.receive(&batch, batch.len() == 2_000);
        assert!(
            sync.bytes() <= sync.max_bytes(2_000),
            "{} bytes",
            sync.bytes()
        );
        released.extend(step.accepted);
        match step.outcome {
            LowWorkOutcome::Continue => next = step.next.expect("where to continue"),
            outcome => {
                assert_eq!(step.next, None);
                assert_eq!(sync.bytes(), 0, "nothing is held after the end");
                return (released, outcome);
            }
        }
    }
}

#[test]
fn the_real_mainnet_headers_are_released_once_their_work_is_shown_twice() {
    let Some(headers) = real_headers("mainnet_headers_0_10236.bin") else {
        return;
    };
    let pow = PowParams::for_network(&Network::Mainnet);
    let mut known = HeaderTree::new(headers[0]);
    insert_all(&mut known, &headers[1..]);
    let minimum = known
        .ancestor(&headers[9_000].block_hash(), 9_000)
        .expect("there")
        .work;
    for params in [LowWorkParams::default(), SMALL] {
        let mut tree = HeaderTree::new(headers[0]);
        let mut sync = LowWork::new(pow.clone(), params, &tree, &tree.tip(), minimum, NOW, 11);
        let (released, outcome) = run(&mut sync, &headers[1..], &headers[1..]);
        assert_eq!(outcome, LowWorkOutcome::Done);
        assert_eq!(
            released,
            headers[1..=10_000],
            "whole batches up to the one with the work"
        );
        insert_all(&mut tree, &released);
    }
}

#[test]
fn a_sync_can_start_in_the_middle_of_the_chain() {
    let Some(headers) = real_headers("mainnet_headers_0_10236.bin") else {
        return;
    };
    let pow = PowParams::for_network(&Network::Mainnet);
    let mut tree = HeaderTree::new(headers[0]);
    insert_all(&mut tree, &headers[1..=3_001]);
    let begin = tree.best_header();
    let minimum = to_work(0x1_0001_0001 * 10_000);
    let mut sync = LowWork::new(pow, SMALL, &tree, &begin, minimum, NOW, 12);
    assert_eq!(sync.locator_start(), begin.hash);
    let (released, outcome) = run(&mut sync, &headers[3_002..], &headers[3_002..]);
    assert_eq!(
        (outcome, released),
        (LowWorkOutcome::Done, headers[3_002..].to_vec())
    );
}

#[test]
fn nothing_leaves_the_buffer_before_the_lookahead_behind_it_was_checked() {
    let chain = mine(&genesis(EASY), 8_000, 1);
    let (_, mut sync) = start(SMALL, easy_work(7_990), NOW, 3);
    for batch in chain.chunks(2_000) {
        assert!(!sync.redownloading());
        assert_eq!(sync.receive(batch, true).accepted, []);
    }
    assert!(sync.redownloading());
    let mut released = 0;
    for (count, batch) in chain.chunks(2_000).enumerate() {
        let step = sync.receive(batch, true);
        released += step.accepted.len();
        let expected = if count == 3 {
            8_000
        } else {
            2_000 * (count + 1) - SMALL.lookahead
        };
        assert_eq!(released, expected);
        assert_eq!(step.outcome == LowWorkOutcome::Done, count == 3);
    }
}

#[test]
fn a_chain_that_ends_with_too_little_work_is_dropped_without_blame() {
    let chain = mine(&genesis(EASY), 3_000, 1);
    let (_, mut sync) = start(SMALL, easy_work(3_001), NOW, 3);
    assert_eq!(
        run(&mut sync, &chain, &chain),
        (Vec::new(), LowWorkOutcome::Done)
    );
    let (_, mut sync) = start(SMALL, easy_work(3_000), NOW, 3);
    assert_eq!(
        run(&mut sync, &chain, &chain),
        (chain, LowWorkOutcome::Done)
    );
    let (_, mut sync) = start(SMALL, easy_work(1), NOW, 3);
    assert_eq!(run(&mut sync, &[], &[]), (Vec::new(), LowWorkOutcome::Done));
}

#[test]
fn a_peer_that_shows_another_chain_the_second_time_is_caught_before_anything_is_released() {
    let root = genesis(EASY);
    let (shown, other) = (mine(&root, 4_000, 1), mine(&root, 4_000, 2));
    for seed in 0..50 {
        let (_, mut sync) = start(SMALL, easy_work(3_999), NOW, seed);
        let (released, outcome) = run(&mut sync, &shown, &other);
        assert_eq!(released, [], "seed {seed}");
        let LowWorkOutcome::Failed(LowWorkFailure::CommitmentMismatch { height }) = outcome else {
            panic!("seed {seed}: {outcome:?}")
        };
        assert!(height <= 1_200, "24 commitments lie below: {height}");
    }
}

#[test]
fn each_commitment_halves_the_chance_of_a_smuggled_header() {
    let root = genesis(EASY);
    let (shown, other) = (mine(&root, 100, 1), mine(&root, 100, 2));
    // A batch of 20 releases its first header when all of its bits match: 2^-20
    // with one bit a header, 2^-4 with one in five.
    let smuggled = |commitment_period| {
        let params = LowWorkParams {
            commitment_period,
            lookahead: 19,
        };
        let passed = |seed| {
            let (_, mut sync) = start(params, easy_work(100), NOW, seed);
            sync.receive(&shown, true);
            assert!(sync.redownloading());
            !sync.receive(&other[..20], true).accepted.is_empty()
        };
        (0..3_200).filter(|seed| passed(*seed)).count()
    };
    assert_eq!(smuggled(1), 0);
    let few = smuggled(5);
    assert!(
        (140..260).contains(&few),
        "3,200 / 16 = 200 expected: {few}"
    );
}

#[test]
fn which_headers_are_committed_to_is_secret() {
    let shown = mine(&genesis(EASY), 110, 1);
    let params = LowWorkParams {
        commitment_period: 5,
        lookahead: 200,
    };
    for height in 96..=100 {
        let mut second = shown[..height - 1].to_vec();
        second.extend(mine(&shown[height - 2], 1, 2));
        let noticed = |seed| {
            let (_, mut sync) = start(params, easy_work(110), NOW, seed);
            sync.receive(&shown, true);
            matches!(
                sync.receive(&second, true).outcome,
                LowWorkOutcome::Failed(_)
            )
        };
        // Committed with one seed in five, and then the bit differs every other time.
        let count = (0..400).filter(|seed| noticed(*seed)).count();
        assert!(
            (20..70).contains(&count),
            "height {height}: {count}, 40 expected"
        );
    }
}

#[test]
fn one_swapped_header_in_the_second_download_ends_it() {
    let Some(headers) = real_headers("mainnet_headers_0_10236.bin") else {
        return;
    };
    let pow = PowParams::for_network(&Network::Mainnet);
    let tree = HeaderTree::new(headers[0]);
    let minimum = to_work(0x1_0001_0001 * 9_000);
    let attempt = |second: &[Header]| {
        let mut sync = LowWork::new(pow.clone(), SMALL, &tree, &tree.tip(), minimum, NOW, 5);
        run(&mut sync, &headers[1..], second)
    };
    let mut altered = headers[1..].to_vec();
    altered[4_999].nonce ^= 1;
    let (released, outcome) = attempt(&altered);
    assert!(
        matches!(
            outcome,
            LowWorkOutcome::Failed(LowWorkFailure::ProofOfWork(
                PowError::HashAboveTarget { .. }
            ))
        ),
        "{outcome:?}"
    );
    assert_eq!(released, headers[1..=4_000 - SMALL.lookahead]);

    let mut exchanged = headers[1..].to_vec();
    exchanged.swap(4_998, 4_999);
    let (_, outcome) = attempt(&exchanged);
    let failure = LowWorkFailure::NotContinuous { height: 4_999 };
    assert_eq!(outcome, LowWorkOutcome::Failed(failure));
}

#[test]
fn headers_that_are_withheld_the_second_time_end_the_sync() {
    let chain = mine(&genesis(EASY), 4_000, 1);
    let (_, mut sync) = start(SMALL, easy_work(3_990), NOW, 3);
    let (released, outcome) = run(&mut sync, &chain, &chain[..3_000]);
    let failure = LowWorkFailure::Withheld { height: 3_000 };
    assert_eq!(outcome, LowWorkOutcome::Failed(failure));
    assert_eq!(released, chain[..1_800]);
}

#[test]
fn a_chain_that_grew_meanwhile_is_released_whole() {
    let chain = mine(&genesis(EASY), 3_900, 1);
    let (_, mut sync) = start(SMALL, easy_work(3_100), NOW, 3);
    let (released, outcome) = run(&mut sync, &chain[..3_100], &chain);
    assert_eq!((released, outcome), (chain, LowWorkOutcome::Done));
}

#[test]
fn an_endless_cheap_chain_ends_when_time_permits_no_more_of_it() {
    let root = genesis(EASY);
    let chain = mine(&root, 60_000, 1);
    // 2 h of tolerance and 100 s since genesis: 43,800 headers, 876 commitments.
    let (_, mut sync) = start(SMALL, easy_work(1_000_000), root.time + 100, 3);
    let (released, outcome) = run(&mut sync, &chain, &[]);
    assert_eq!(released, []);
    let LowWorkOutcome::Failed(LowWorkFailure::TooLong { height }) = outcome else {
        panic!("{outcome:?}")
    };
    assert!((43_800..=43_850).contains(&height), "{height}");
}

#[test]
fn one_sync_of_mainnet_holds_at_most_a_megabyte_and_a_half() {
    let tree = HeaderTree::new(genesis(EASY));
    let seventeen_years = tree.tip().header.time + 17 * 365 * 24 * 60 * 60;
    let params = LowWorkParams::default();
    let sync = LowWork::new(
        regtest(),
        params,
        &tree,
        &tree.tip(),
        easy_work(1),
        seventeen_years,
        1,
    );
    assert!(
        sync.max_bytes(2_000) <= 1_500_000,
        "{}",
        sync.max_bytes(2_000)
    );
}

#[test]
fn headers_that_do_not_connect_or_lack_work_end_the_sync_at_once() {
    let root = genesis(EASY);
    let chain = mine(&root, 10, 1);
    let (_, mut sync) = start(SMALL, easy_work(100), NOW, 3);
    let step = sync.receive(&chain[1..], true);
    let failure = LowWorkFailure::NotContinuous { height: 1 };
    assert_eq!(step.outcome, LowWorkOutcome::Failed(failure));

    let (_, mut sync) = start(SMALL, easy_work(100), NOW, 3);
    let mut header = chain[0];
    while check_pow(&header, regtest().limit()).is_ok() {
        header.nonce += 1;
    }
    let step = sync.receive(&[header], true);
    assert!(matches!(
        step.outcome,
        LowWorkOutcome::Failed(LowWorkFailure::ProofOfWork(_))
    ));
}

#[test]
fn difficulty_that_no_retarget_permits_ends_the_sync() {
    let mut pow = regtest();
    pow.consensus.allow_min_difficulty_blocks = false;
    let root = genesis(EASY);
    let mut headers = mine(&root, 3, 1);
    headers[2].bits = CompactTarget::from_consensus(0x207f_fffe);
    while check_pow(&headers[2], pow.limit()).is_err() {
        headers[2].nonce += 1;
    }
    let tree = HeaderTree::new(root);
    let mut sync = LowWork::new(pow, SMALL, &tree, &tree.tip(), easy_work(100), NOW, 3);
    let step = sync.receive(&headers, true);
    let failure = LowWorkFailure::Difficulty { height: 3 };
    assert_eq!(step.outcome, LowWorkOutcome::Failed(failure));
}

#[test]
#[should_panic(expected = "nothing is received after the end")]
fn a_sync_that_is_over_receives_nothing() {
    let (_, mut sync) = start(SMALL, easy_work(100), NOW, 3);
    sync.receive(&[], false);
    sync.receive(&[], false);
}
