//! The tree on real headers of mainnet and signet.

use handfast_wire::Network;

use super::super::{
    HeaderTree, Inserted, PowParams, Status, TipStatus, block_work, check_pow, next_work,
};
use super::{connect_all, insert_all, real_headers};
use crate::headers::entry::to_work;

const MAINNET: (&str, Network) = ("mainnet_headers_0_10236.bin", Network::Mainnet);
const SIGNET: (&str, Network) = ("signet_headers_0_2015.bin", Network::Signet);

#[test]
fn every_real_header_has_the_work_and_bits_that_the_tree_expects() {
    for (file, network) in [MAINNET, SIGNET] {
        let Some(headers) = real_headers(file) else {
            return;
        };
        let params = PowParams::for_network(&network);
        let mut tree = HeaderTree::new(headers[0]);
        let mut work = block_work(headers[0].bits);
        for (height, header) in headers.iter().enumerate().skip(1) {
            let hash = check_pow(header, params.limit()).expect("real work");
            let bits = next_work(&params, &tree, &header.prev_blockhash, header.time);
            assert_eq!(bits, Some(header.bits), "{file} {height}");
            assert_eq!(tree.insert(*header), Ok(Inserted::New));
            assert_eq!(tree.insert(*header), Ok(Inserted::Known));

            work += block_work(header.bits);
            let entry = tree.get(&hash).expect("just inserted");
            assert_eq!(entry.header, *header, "{file} {height}");
            assert_eq!((entry.hash, entry.height), (hash, height as u32));
            assert_eq!((entry.work, entry.status), (to_work(work), Status::Header));
            assert_eq!(tree.best_header(), entry);
        }
        assert_eq!(tree.len(), headers.len());
        assert_eq!(tree.tip().height, 0, "headers alone move no tip");
    }
}

#[test]
fn work_at_a_known_height_is_what_the_network_says() {
    let Some(headers) = real_headers(MAINNET.0) else {
        return;
    };
    // Difficulty 1 throughout: 0x100010001 expected hashes for each block.
    let mut tree = HeaderTree::new(headers[0]);
    insert_all(&mut tree, &headers[1..=1000]);
    assert_eq!(tree.best_header().work, to_work(0x1_0001_0001 * 1001));
}

#[test]
fn median_time_past_is_that_of_eleven_headers_and_below_every_next_time() {
    let Some(headers) = real_headers(MAINNET.0) else {
        return;
    };
    let mut tree = HeaderTree::new(headers[0]);
    insert_all(&mut tree, &headers[1..]);
    for height in 0..headers.len() {
        let mut times: Vec<u32> = headers[height.saturating_sub(10)..=height]
            .iter()
            .map(|header| header.time)
            .collect();
        times.sort_unstable();
        let median = tree.median_time_past(&headers[height].block_hash());
        assert_eq!(median, Some(times[times.len() / 2]), "height {height}");
        if let Some(next) = headers.get(height + 1) {
            assert!(
                next.time > times[times.len() / 2],
                "consensus at height {height}"
            );
        }
    }
}

#[test]
fn any_ancestor_is_found_within_a_few_hops() {
    let Some(headers) = real_headers(MAINNET.0) else {
        return;
    };
    let mut tree = HeaderTree::new(headers[0]);
    insert_all(&mut tree, &headers[1..]);
    let top = headers.last().expect("not empty").block_hash();
    let mut most = 0;
    for (height, header) in headers.iter().enumerate() {
        let found = tree.ancestor(&top, height as u32).expect("below the top");
        assert_eq!(found.hash, header.block_hash());
        let (mut slot, mut hops) = (tree.slot(&top).expect("known"), 0);
        while tree.record(slot).height > height as u32 {
            let record = tree.record(slot);
            let jump = tree.record(record.jump).height >= height as u32;
            slot = if jump { record.jump } else { record.parent };
            hops += 1;
        }
        most = most.max(hops);
    }
    assert!(most <= 2 * 14, "{most} hops among 2^13.3 headers");
    assert_eq!(tree.ancestor(&top, headers.len() as u32), None);
}

#[test]
fn a_locator_is_dense_at_its_head_and_ends_with_genesis() {
    let Some(headers) = real_headers(MAINNET.0) else {
        return;
    };
    let mut tree = HeaderTree::new(headers[0]);
    insert_all(&mut tree, &headers[1..]);
    for (height, header) in headers.iter().enumerate() {
        let locator = tree.locator(&header.block_hash());
        // Eleven steps of one, then 2, 4, 8 ...
        let steps = std::iter::repeat_n(1, 11).chain((1..).map(|power| 1 << power));
        let mut expected = Vec::new();
        let mut at = height;
        for step in steps {
            expected.push(headers[at].block_hash());
            if at == 0 {
                break;
            }
            at = at.saturating_sub(step);
        }
        assert_eq!(locator, expected, "height {height}");
        assert!(locator.len() <= 10 + 14 + 1);
    }
}

#[test]
fn the_active_chain_serves_all_its_headers_in_batches() {
    let Some(headers) = real_headers(MAINNET.0) else {
        return;
    };
    let mut tree = HeaderTree::new(headers[0]);
    insert_all(&mut tree, &headers[1..]);
    connect_all(&mut tree, &headers[1..]);
    let stop = bitcoin::hashes::Hash::all_zeros();
    let mut asking = HeaderTree::new(headers[0]);
    loop {
        let batch = tree.headers_after(&asking.locator(&asking.best_header().hash), &stop, 2_000);
        if batch.is_empty() {
            break;
        }
        assert!(batch.len() == 2_000 || batch.last() == headers.last());
        insert_all(&mut asking, &batch);
    }
    assert_eq!(asking.best_header().hash, tree.tip().hash);
    let tips = tree.chain_tips();
    assert_eq!(tips.len(), 1);
    assert_eq!((tips[0].status, tips[0].branch_len), (TipStatus::Active, 0));
}
