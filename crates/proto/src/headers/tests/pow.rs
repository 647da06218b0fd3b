//! Targets, retargets and their exceptions.

use bitcoin::block::Header;
use bitcoin::{CompactTarget, Target};
use handfast_wire::Network;

use super::super::{
    HeaderTree, PowError, PowParams, block_work, check_pow, next_work,
    permitted_difficulty_transition,
};
use super::{EASY, child, genesis, insert_all};

fn bits(raw: u32) -> CompactTarget {
    CompactTarget::from_consensus(raw)
}

fn params(network: Network) -> PowParams {
    PowParams::for_network(&network)
}

/// A period of 2,016 headers with these bits: the last is `timespan` seconds after the first.
fn period(first_bits: u32, later_bits: u32, timespan: u32) -> Vec<Header> {
    let mut headers = vec![genesis(first_bits)];
    for height in 1..2_016u32 {
        let mut header = child(&headers[headers.len() - 1], 0);
        header.bits = bits(later_bits);
        header.time = headers[0].time + (u64::from(timespan) * u64::from(height) / 2_015) as u32;
        headers.push(header);
    }
    headers
}

fn tree_of(headers: &[Header]) -> HeaderTree {
    let mut tree = HeaderTree::new(headers[0]);
    insert_all(&mut tree, &headers[1..]);
    tree
}

fn after(network: Network, headers: &[Header], delay: u32) -> u32 {
    let last = headers[headers.len() - 1];
    let tree = tree_of(headers);
    next_work(
        &params(network),
        &tree,
        &last.block_hash(),
        last.time + delay,
    )
    .expect("in the tree")
    .to_consensus()
}

#[test]
fn retargets_give_the_bits_that_mainnet_got() {
    // (height of the last block, its bits, time of the first, of the last, new bits)
    let history = [
        (
            2_015,
            0x1d00_ffff,
            1_231_006_505u32,
            1_233_061_996u32,
            0x1d00_ffff,
        ), // at the limit
        (
            32_255,
            0x1d00_ffff,
            1_261_130_161,
            1_262_152_739,
            0x1d00_d86a,
        ),
        (
            68_543,
            0x1c05_a3f4,
            1_279_008_237,
            1_279_297_671,
            0x1c01_68fd,
        ), // four times harder
    ];
    for (height, old, first, last, new) in history {
        let headers = period(old, old, last - first);
        assert_eq!(after(Network::Mainnet, &headers, 1), new, "height {height}");
    }
    // Four times easier, as the longest of timespans.
    let headers = period(0x1c38_7f6f, 0x1c38_7f6f, 1_269_211_443 - 1_263_163_443);
    assert_eq!(after(Network::Mainnet, &headers, 1), 0x1d00_e1fd);
}

#[test]
fn a_period_that_ends_before_it_began_counts_as_the_shortest() {
    let mut headers = period(0x1c05_a3f4, 0x1c05_a3f4, 1_209_600);
    headers[2_015].time = headers[0].time - 5;
    assert_eq!(after(Network::Mainnet, &headers, 1), 0x1c01_68fd);
}

#[test]
fn bits_above_the_limit_count_as_the_limit() {
    // No network has such headers, but the arithmetic must not wrap on them.
    let headers = period(EASY, EASY, 1_209_600 / 2);
    let half = after(
        Network::Mainnet,
        &period(0x1d00_ffff, 0x1d00_ffff, 1_209_600 / 2),
        1,
    );
    assert_eq!(after(Network::Mainnet, &headers, 1), half);
    assert_eq!(half, 0x1c7f_ff80);
}

#[test]
fn within_a_period_the_bits_stay() {
    let headers = period(0x1c05_a3f4, 0x1c05_a3f4, 100);
    for network in [Network::Mainnet, Network::Signet] {
        assert_eq!(after(network, &headers[..2_015], 100_000), 0x1c05_a3f4);
    }
}

#[test]
fn a_late_block_on_a_test_network_is_easy_and_the_next_one_is_not() {
    let mut headers = period(0x1c05_a3f4, 0x1c05_a3f4, 1_209_600);
    headers.truncate(1_000);
    for network in [Network::Testnet3, Network::Testnet4] {
        assert_eq!(after(network.clone(), &headers, 1_200), 0x1c05_a3f4);
        assert_eq!(after(network.clone(), &headers, 1_201), 0x1d00_ffff);
        let mut easy = headers.clone();
        for _ in 0..3 {
            let mut header = child(&easy[easy.len() - 1], 0);
            (header.bits, header.time) = (bits(0x1d00_ffff), header.time + 700);
            easy.push(header);
        }
        assert_eq!(
            after(network, &easy, 600),
            0x1c05_a3f4,
            "past the easy ones"
        );
    }
}

#[test]
fn testnet4_retargets_from_the_first_block_and_testnet3_from_the_last() {
    let headers = period(0x1c05_a3f4, 0x1d00_ffff, 1_209_600);
    assert_eq!(after(Network::Testnet4, &headers, 1), 0x1c05_a3f4);
    assert_eq!(after(Network::Testnet3, &headers, 1), 0x1d00_ffff);
}

#[test]
fn regtest_never_retargets() {
    let headers = period(EASY, EASY, 1);
    assert_eq!(after(Network::Regtest, &headers, 1), EASY);
    assert_eq!(after(Network::Regtest, &headers[..10], 100_000), EASY);
}

#[test]
fn difficulty_moves_at_most_fourfold_and_only_at_a_retarget() {
    let old = bits(0x1c05_a3f4);
    let permitted = |network, height, new| {
        permitted_difficulty_transition(&params(network), height, old, bits(new))
    };
    for network in [Network::Mainnet, Network::Signet] {
        assert!(permitted(network.clone(), 68_543, 0x1c05_a3f4));
        assert!(!permitted(network.clone(), 68_543, 0x1c05_a3f3));
        assert!(
            permitted(network.clone(), 68_544, 0x1c01_68fd),
            "four times harder"
        );
        assert!(!permitted(network.clone(), 68_544, 0x1c01_68fc));
        assert!(
            permitted(network.clone(), 68_544, 0x1c16_8fd0),
            "four times easier"
        );
        assert!(!permitted(network, 68_544, 0x1c16_8fd1));
    }
    for network in [Network::Testnet3, Network::Testnet4, Network::Regtest] {
        assert!(permitted(network, 7, 0x1d00_ffff));
    }
    let at_limit = permitted_difficulty_transition(
        &params(Network::Mainnet),
        2_016,
        bits(0x1d00_ffff),
        bits(0x1d00_ffff),
    );
    assert!(at_limit, "the limit is the easiest");
}

#[test]
fn a_hash_must_meet_the_target_that_it_claims() {
    let limit = params(Network::Regtest).limit();
    let mut header = genesis(EASY);
    let mut met = 0;
    for nonce in 0..64 {
        header.nonce = nonce;
        let (hash, raw) = (header.block_hash(), EASY);
        let high = hash.to_string().as_bytes()[0] >= b'8';
        match check_pow(&header, limit) {
            Ok(found) => assert!(found == hash && !high),
            Err(error) => {
                assert_eq!(error, PowError::HashAboveTarget { hash, bits: raw });
                assert!(high);
            }
        }
        met += u32::from(!high);
    }
    assert!((16..48).contains(&met), "half of the hashes: {met}");
}

#[test]
fn a_target_out_of_range_is_no_target() {
    // Zero, negative, above 2^256 in three ways, above the limit.
    let wrong = [
        0,
        0x1d00_0000,
        0x1d80_ffff,
        0x2300_0001,
        0x2200_0100,
        0x2101_0001,
        0xff12_3456,
    ];
    for raw in wrong {
        let header = genesis(raw);
        let error = PowError::TargetOutOfRange {
            hash: header.block_hash(),
            bits: raw,
        };
        assert_eq!(check_pow(&header, Target::MAX), Err(error), "{raw:#x}");
        assert_eq!(block_work(bits(raw)), 0, "{raw:#x}");
    }
    let header = genesis(0x1d01_0000);
    let limit = params(Network::Mainnet).limit();
    assert!(matches!(
        check_pow(&header, limit),
        Err(PowError::TargetOutOfRange { .. })
    ));
    // The largest encodings that fit are targets.
    for raw in [0x2200_00ff, 0x2100_ffff, 0x207f_ffff] {
        assert!(block_work(bits(raw)) > 0, "{raw:#x}");
    }
    assert_eq!(
        block_work(bits(0x0300_0001)),
        u128::MAX,
        "2^255 hashes saturate"
    );
}

#[test]
fn a_custom_signet_has_the_rules_of_signet() {
    let own = params(Network::CustomSignet {
        challenge: vec![0x51],
    });
    assert_eq!(own.limit(), params(Network::Signet).limit());
    assert_eq!(own.limit().to_compact_lossy(), bits(0x1e03_77ae));
    assert_eq!(params(Network::Mainnet).interval(), 2_016);
}
