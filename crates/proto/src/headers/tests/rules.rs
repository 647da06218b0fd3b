//! The contextual rules of a header.

use bitcoin::CompactTarget;
use bitcoin::block::{Header, Version};
use handfast_wire::Network;
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

use super::super::{HeaderFault, HeaderRules, HeaderTree, PowParams, next_work};
use super::{EASY, child, genesis, real_headers};

/// Long after all headers of these tests.
const CLOCK: u32 = 2_000_000_000;

fn params(network: Network) -> PowParams {
    PowParams::for_network(&network)
}

/// A header like [`child`]'s, of a version that is still accepted.
fn next(parent: &Header, salt: u32) -> Header {
    Header {
        version: Version::NO_SOFT_FORK_SIGNALLING,
        ..child(parent, salt)
    }
}

#[test]
fn every_real_header_follows_the_rules() {
    for (file, network) in [
        ("mainnet_headers_0_10236.bin", Network::Mainnet),
        ("signet_headers_0_2015.bin", Network::Signet),
    ] {
        let Some(headers) = real_headers(file) else {
            return;
        };
        let pow = params(network);
        let mut tree = HeaderTree::new(headers[0]);
        let genesis = headers[0].block_hash();
        let mut rules = HeaderRules::after(&pow, &tree, &genesis, CLOCK).unwrap();
        for header in &headers[1..] {
            assert_eq!(
                rules.check(header),
                Ok(()),
                "{file} {}",
                header.block_hash()
            );
            let fresh = HeaderRules::after(&pow, &tree, &header.prev_blockhash, CLOCK);
            if header.nonce % 16 == 0 {
                assert_eq!(fresh.unwrap().check(header), Ok(()), "{file}");
            }
            tree.insert(*header).unwrap();
        }
    }
}

/// On a random chain with exceptions, retargets and times that go back, rules that follow the chain
/// require the same as the tree, and so do rules that start in its middle.
#[test]
fn the_rules_require_the_bits_and_the_time_that_the_tree_says() {
    for (seed, network) in [
        (1, Network::Testnet4),
        (2, Network::Testnet3),
        (3, Network::Mainnet),
        (4, Network::Regtest),
    ] {
        let mut random = ChaCha8Rng::seed_from_u64(seed);
        let pow = params(network);
        let mut tree = HeaderTree::new(genesis(0x1c00_ffff));
        let mut last = genesis(0x1c00_ffff);
        let mut rules = HeaderRules::after(&pow, &tree, &last.block_hash(), CLOCK).unwrap();
        for height in 1..4_500 {
            let mut header = next(&last, height);
            header.time = last.time + [1, 300, 900, 1_201, 5_000][random.random_range(0..5)];
            let hash = last.block_hash();
            let required = next_work(&pow, &tree, &hash, header.time).unwrap();
            header.bits = CompactTarget::from_consensus(required.to_consensus() ^ 1);
            let (claimed, fault) = (header.bits, rules.check(&header));
            assert_eq!(
                fault,
                Err(HeaderFault::Bits { claimed, required }),
                "{seed} {height}"
            );
            header.bits = required;
            let mut old = header;
            let median = tree.median_time_past(&hash).unwrap();
            old.time = median;
            if next_work(&pow, &tree, &hash, median) == Some(required) {
                let fault = HeaderFault::TooOld {
                    time: median,
                    median,
                };
                assert_eq!(rules.check(&old), Err(fault), "{seed} {height}");
            }
            if random.random_ratio(1, 40) {
                rules = HeaderRules::after(&pow, &tree, &hash, CLOCK).unwrap();
            }
            assert_eq!(rules.check(&header), Ok(()), "{seed} {height}");
            tree.insert(header).unwrap();
            last = header;
        }
    }
}

#[test]
fn a_header_of_an_ended_version_or_too_far_ahead_is_refused() {
    let pow = params(Network::Regtest);
    let first = genesis(EASY);
    let tree = HeaderTree::new(first);
    let clock = first.time + 600 - 7_200;
    let rules = |clock| HeaderRules::after(&pow, &tree, &first.block_hash(), clock).unwrap();
    assert_eq!(rules(clock).check(&next(&first, 0)), Ok(()));
    let time = first.time + 600;
    let fault = HeaderFault::TooNew {
        time,
        clock: clock - 1,
    };
    assert_eq!(rules(clock - 1).check(&next(&first, 0)), Err(fault));
    for version in [-1, 0, 1, 2, 3] {
        let mut header = next(&first, 0);
        header.version = Version::from_consensus(version);
        let fault = rules(clock).check(&header);
        assert_eq!(fault, Err(HeaderFault::Version(version)));
    }
    // On mainnet the old versions are valid below the heights that ended them.
    let pow = params(Network::Mainnet);
    let mut rules = HeaderRules::after(&pow, &tree, &first.block_hash(), CLOCK).unwrap();
    assert_eq!(rules.check(&child(&first, 0)), Ok(()));
}

#[test]
fn a_period_may_not_begin_long_before_the_last_one_ended_where_bip94_holds() {
    let pow = params(Network::Testnet4);
    let bits = 0x1c00_ffff;
    let mut tree = HeaderTree::new(genesis(bits));
    let mut last = genesis(bits);
    for height in 1..2_016 {
        let mut header = next(&last, height);
        header.time = last.time + if height == 2_015 { 5_000 } else { 600 };
        tree.insert(header).unwrap();
        last = header;
    }
    let mut header = next(&last, 0);
    header.bits = next_work(&pow, &tree, &last.block_hash(), 0).unwrap();
    let check = |header: &Header| {
        let rules = HeaderRules::after(&pow, &tree, &last.block_hash(), CLOCK);
        rules.unwrap().check(header)
    };
    header.time = last.time - 600;
    assert_eq!(check(&header), Ok(()));
    header.time -= 1;
    let (time, parent) = (header.time, last.time);
    assert_eq!(check(&header), Err(HeaderFault::Timewarp { time, parent }));
}
