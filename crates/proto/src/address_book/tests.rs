use std::net::Ipv4Addr;

use super::*;
use proptest::prelude::*;

const NOW: Now = Now {
    mono: Duration::from_secs(1_000),
    unix: 1_700_000_000,
};

fn later(seconds: u64) -> Now {
    NOW.after(Duration::from_secs(seconds))
}

fn book() -> AddressBook {
    AddressBook::new(false)
}

fn at(a: u8, b: u8, c: u8, d: u8) -> SocketAddr {
    SocketAddr::new(IpAddr::V4(Ipv4Addr::new(a, b, c, d)), 8333)
}

fn gossip(a: u8, b: u8) -> Source {
    Source::Gossip(Group::V4([a, b]))
}

/// Adds `addr` as a full node seen an hour ago.
fn learn(book: &mut AddressBook, addr: SocketAddr, source: Source, random: &mut Random) -> bool {
    book.learn(addr, full_node(), NOW.unix - 3_600, source, NOW, random)
}

/// Address number `n`, all different, 256 to a group.
fn nth(n: u32) -> SocketAddr {
    let [_, b, c, d] = n.to_be_bytes();
    at(20 + b, c, d, 1)
}

#[test]
fn one_source_cannot_fill_the_book() {
    let (mut book, mut random) = (book(), Random::new(1));
    learn(&mut book, at(8, 8, 8, 8), gossip(9, 9), &mut random);
    for n in 0..5_000 {
        learn(&mut book, nth(n), gossip(5, 5), &mut random);
    }
    assert_eq!(book.len(), MAX_PER_SOURCE + 1);
    assert!(
        book.contains(at(8, 8, 8, 8)),
        "it belongs to another source"
    );
}

#[test]
fn a_full_book_takes_from_the_source_that_owns_most() {
    let (mut book, mut random) = (book(), Random::new(1));
    let crowd = u32::try_from(MAX_ADDRESSES / MAX_PER_SOURCE).expect("small");
    let per = u32::try_from(MAX_PER_SOURCE).expect("small");
    for source in 0..crowd {
        for n in 0..per {
            let owner = gossip(100, u8::try_from(source).expect("few sources"));
            assert!(learn(&mut book, nth(source * per + n), owner, &mut random));
        }
    }
    assert_eq!(book.len(), MAX_ADDRESSES);
    for n in 0..10 {
        let honest = nth(crowd * per + n);
        assert!(learn(&mut book, honest, gossip(7, 7), &mut random));
        assert!(book.contains(honest));
    }
    assert_eq!(book.len(), MAX_ADDRESSES);
    assert_eq!(
        book.owned[&gossip(7, 7)].len(),
        10,
        "the small source lost nothing"
    );
}

#[test]
fn gossip_neither_displaces_nor_changes_a_tried_address() {
    let (mut book, mut random) = (book(), Random::new(1));
    let good = at(8, 8, 8, 8);
    learn(&mut book, good, gossip(5, 5), &mut random);
    book.succeeded(good, full_node(), NOW, &mut random);
    for n in 0..2_000 {
        learn(&mut book, nth(n), gossip(5, 5), &mut random);
    }
    assert!(book.contains(good));
    assert!(!book.learn(
        good,
        ServiceFlags::BLOOM,
        NOW.unix,
        gossip(5, 5),
        NOW,
        &mut random
    ));
    let row = book.rows().find(|row| row.addr == good).expect("kept");
    assert_eq!(row.services, full_node().to_u64());
    assert_eq!((book.tried(), row.last_success), (1, Some(NOW.unix)));
}

#[test]
fn too_many_tried_addresses_make_the_oldest_new_again() {
    let (mut book, mut random) = (book(), Random::new(1));
    let most = u32::try_from(MAX_TRIED).expect("small");
    for n in 0..=most {
        book.succeeded(nth(n), full_node(), later(n.into()), &mut random);
    }
    assert_eq!((book.tried(), book.len()), (MAX_TRIED, MAX_TRIED + 1));
    let first = book.rows().find(|row| row.addr == nth(0)).expect("kept");
    assert_eq!(first.last_success, None);
}

#[test]
fn private_addresses_are_added_only_on_private_networks() {
    let odd = [
        "127.0.0.1:8333",
        "10.0.0.1:8333",
        "192.168.1.1:8333",
        "169.254.1.1:8333",
        "[::1]:8333",
        "[fe80::1]:8333",
        "[fc00::1]:8333",
        "[::ffff:127.0.0.1]:8333",
    ];
    let mut random = Random::new(1);
    for text in odd {
        let addr = text.parse().expect(text);
        assert!(
            !learn(&mut book(), addr, Source::Own, &mut random),
            "{text}"
        );
        let mut private = AddressBook::new(true);
        assert!(
            learn(&mut private, addr, Source::Own, &mut random),
            "{text}"
        );
    }
    for text in [
        "8.8.8.8:0",
        "0.0.0.0:8333",
        "100.64.0.1:8333",
        "198.18.0.1:8333",
        "0.1.2.3:8333",
        "240.0.0.1:8333",
        "192.0.2.1:8333",
        "198.51.100.1:8333",
        "203.0.113.5:8333",
        "[2001:db8::1]:8333",
        "[2001:10::1]:8333",
        "224.0.0.1:8333",
        "[ff02::1]:8333",
    ] {
        let addr = text.parse().expect(text);
        let mut private = AddressBook::new(true);
        assert!(
            !learn(&mut private, addr, Source::Own, &mut random),
            "{text} is no peer on any network"
        );
    }
    for text in [
        "8.8.8.8:8333",
        "[2a00:1450::1]:8333",
        "[::ffff:8.8.8.8]:8333",
    ] {
        assert!(
            learn(
                &mut book(),
                text.parse().expect(text),
                Source::Own,
                &mut random
            ),
            "{text}"
        );
    }
}

#[test]
fn one_address_in_two_spellings_is_one_address() {
    let (mut book, mut random) = (book(), Random::new(1));
    let mapped = "[::ffff:8.8.8.8]:8333".parse().expect("an address");
    assert!(learn(&mut book, at(8, 8, 8, 8), Source::Own, &mut random));
    assert!(!learn(&mut book, mapped, Source::Own, &mut random));
    assert!(book.contains(mapped));
}

#[test]
fn claimed_times_are_limited_to_plausible_ones() {
    let unix = NOW.unix;
    let five_days = unix - 5 * 24 * 3_600;
    assert_eq!(
        believable(unix + 3_600, Source::Own, unix),
        five_days,
        "the future"
    );
    assert_eq!(
        believable(5, Source::Own, unix),
        five_days,
        "before Bitcoin"
    );
    assert_eq!(believable(unix - 60, Source::Own, unix), unix - 60);
    assert_eq!(believable(unix - 60, gossip(1, 1), unix), unix - 60 - 7_200);
    let ancient = unix - 31 * 24 * 3_600;
    let mut random = Random::new(1);
    assert!(!book().learn(
        at(8, 8, 8, 8),
        full_node(),
        ancient,
        Source::Own,
        NOW,
        &mut random
    ));
}

#[test]
fn a_failed_address_pauses_longer_each_time_and_is_removed() {
    let (mut book, mut random) = (book(), Random::new(1));
    let addr = at(8, 8, 8, 8);
    learn(&mut book, addr, Source::Own, &mut random);
    book.failed(addr, true, NOW, &mut random);
    assert_eq!(book.pick(later(59), &mut random, |_| true), None);
    assert_eq!(
        book.pick(later(72), &mut random, |_| true),
        Some(addr),
        "60 s and a fifth"
    );
    book.failed(addr, true, later(72), &mut random);
    assert_eq!(book.pick(later(72 + 119), &mut random, |_| true), None);
    assert_eq!(
        book.pick(later(72 + 144), &mut random, |_| true),
        Some(addr)
    );
    book.failed(addr, true, later(300), &mut random);
    assert!(book.is_empty(), "three failures and never a success");
}

#[test]
fn the_book_survives_without_a_network() {
    let (mut book, mut random) = (book(), Random::new(1));
    let addr = at(8, 8, 8, 8);
    learn(&mut book, addr, Source::Own, &mut random);
    for hour in 0..100 {
        book.failed(addr, false, later(hour * 3_600), &mut random);
    }
    assert!(book.contains(addr));
}

#[test]
fn a_tried_address_is_removed_after_many_failures_over_a_week() {
    let (mut book, mut random) = (book(), Random::new(1));
    let addr = at(8, 8, 8, 8);
    book.succeeded(addr, full_node(), NOW, &mut random);
    for _ in 0..TRIED_FAILURES {
        book.failed(addr, true, later(3_600), &mut random);
    }
    assert!(book.contains(addr), "it answered an hour ago");
    book.failed(addr, true, later(8 * 24 * 3_600), &mut random);
    assert!(!book.contains(addr));
}

#[test]
fn only_full_nodes_that_are_allowed_are_picked() {
    let (mut book, mut random) = (book(), Random::new(1));
    let (pruned, banned, good) = (at(8, 1, 1, 1), at(8, 2, 1, 1), at(8, 3, 1, 1));
    book.learn(
        pruned,
        ServiceFlags::NETWORK_LIMITED,
        NOW.unix,
        Source::Own,
        NOW,
        &mut random,
    );
    learn(&mut book, banned, Source::Own, &mut random);
    learn(&mut book, good, Source::Own, &mut random);
    for _ in 0..50 {
        assert_eq!(
            book.pick(NOW, &mut random, |addr| addr != banned),
            Some(good)
        );
    }
    book.pause_for(good, Duration::from_secs(10), NOW);
    assert_eq!(
        book.pick(later(9), &mut random, |addr| addr != banned),
        None
    );
}

#[test]
fn tried_and_new_addresses_are_picked_with_equal_chance() {
    let (mut book, mut random) = (book(), Random::new(1));
    let good = at(8, 8, 8, 8);
    book.succeeded(good, full_node(), NOW, &mut random);
    for n in 0..200 {
        learn(&mut book, nth(n), Source::Own, &mut random);
    }
    let picks = (0..400).filter_map(|_| book.pick(NOW, &mut random, |_| true));
    let tried = picks.filter(|addr| *addr == good).count();
    assert!((120..280).contains(&tried), "{tried} of 400");
}

#[test]
fn a_sample_is_at_most_23_per_cent_and_at_most_1000() {
    let (mut book, mut random) = (book(), Random::new(1));
    for n in 0..100 {
        learn(&mut book, nth(n), Source::Own, &mut random);
    }
    assert_eq!(book.sample(NOW, &mut random).len(), 23);
    for n in 100..8_000 {
        let owner = gossip(5, u8::try_from(n / 500).expect("few"));
        learn(&mut book, nth(n), owner, &mut random);
    }
    let sample = book.sample(NOW, &mut random);
    assert_eq!(sample.len(), MAX_SAMPLE);
    let distinct: BTreeSet<SocketAddr> = sample.iter().map(|row| row.addr).collect();
    assert_eq!(distinct.len(), MAX_SAMPLE);
}

#[test]
fn a_saved_book_is_loaded_unchanged() {
    let (mut book, mut random) = (book(), Random::new(1));
    for n in 0..300 {
        learn(&mut book, nth(n), gossip(5, 5), &mut random);
    }
    book.succeeded(nth(7), full_node(), NOW, &mut random);
    let rows: Vec<Row> = book.rows().collect();
    let back = AddressBook::from_rows(false, rows.clone(), &mut random);
    assert_eq!(back.rows().collect::<Vec<_>>(), rows);
    assert_eq!((back.tried(), back.owned), (1, book.owned));
}

#[test]
fn a_saved_book_that_breaks_the_rules_is_cut_to_them() {
    let mut random = Random::new(1);
    let row = |n: u32| Row {
        addr: if n == 0 { at(127, 0, 0, 1) } else { nth(n) },
        services: full_node().to_u64(),
        last_seen: NOW.unix,
        last_success: None,
        failures: 0,
        source: gossip(5, 5),
    };
    let book = AddressBook::from_rows(false, (0..1_000).map(row), &mut random);
    assert_eq!(book.len(), MAX_PER_SOURCE);
    assert!(!book.contains(at(127, 0, 0, 1)));
}

#[test]
fn pauses_double_up_to_the_longest_with_at_most_a_fifth_more() {
    let mut random = Random::new(1);
    let (first, longest) = (Duration::from_secs(5), Duration::from_secs(60));
    for (attempts, base) in [(0, 5), (1, 5), (2, 10), (3, 20), (4, 40), (5, 60), (90, 60)] {
        let base = Duration::from_secs(base);
        for _ in 0..50 {
            let pause = backoff(first, longest, attempts, &mut random);
            assert!(
                pause >= base && pause < base + base / 5,
                "{attempts}: {pause:?}"
            );
        }
    }
}

proptest! {
    /// The indices agree with the entries, and every bound holds, whatever happens.
    #[test]
    fn the_index_agrees_with_the_entries(
        steps in prop::collection::vec((0u8..4, 0u32..40, 0u8..3), 0..200),
        seed in any::<u64>(),
    ) {
        let (mut book, mut random) = (book(), Random::new(seed));
        for (what, n, owner) in steps {
            let addr = nth(n);
            match what {
                0 => { learn(&mut book, addr, gossip(5, owner), &mut random); }
                1 => book.succeeded(addr, full_node(), NOW, &mut random),
                2 => book.failed(addr, true, NOW, &mut random),
                _ => book.pause_for(addr, Duration::from_secs(1), NOW),
            }
            let tried = book.entries.values().filter(|e| e.last_success.is_some()).count();
            prop_assert_eq!(book.tried, tried);
            let owned: usize = book.owned.values().map(BTreeSet::len).sum();
            prop_assert_eq!(owned + tried, book.len());
            for (source, addrs) in &book.owned {
                prop_assert!(!addrs.is_empty());
                for addr in addrs {
                    prop_assert_eq!(book.entries[addr].source, *source);
                }
            }
        }
    }
}
