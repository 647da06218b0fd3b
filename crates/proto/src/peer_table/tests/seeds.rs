use super::*;
use Direction::{Inbound, Outbound};

fn seeded() -> PeerTableConfig {
    let dns_seeds = vec!["a.example".to_owned(), "b.example".to_owned()];
    PeerTableConfig {
        dial: true,
        dns_seeds,
        ..config()
    }
}

fn answer(name: &str, addrs: Vec<SocketAddr>) -> Input {
    Input::Resolved {
        name: name.to_owned(),
        addrs,
    }
}

/// Fails both look-ups; returns the pause until the next try.
fn fail_round(table: &mut Table) -> u64 {
    assert_eq!(table.step(answer("a.example", Vec::new())), []);
    let effects = table.step(answer("b.example", Vec::new()));
    let [Effect::Notice(notice @ Notice::NoSeedReached { asked: 2, retry_in })] =
        effects.as_slice()
    else {
        panic!("{effects:?}")
    };
    assert_eq!(table.table.notice(), Some(*notice), "it can be queried");
    retry_in.as_secs()
}

#[test]
fn seeds_are_asked_at_once_when_the_book_is_empty() {
    let mut table = Table::new(seeded());
    let effects = table.tick();
    assert_eq!(lookups(&effects), ["a.example", "b.example"]);
    assert!(effects.iter().all(|e| matches!(
        e,
        Effect::Resolve {
            seeds: true,
            port: 8333,
            ..
        }
    )));
}

#[test]
fn unreachable_seeds_are_asked_again_after_1_2_4_8_and_10_minutes() {
    let mut table = Table::new(seeded());
    assert_eq!(lookups(&table.tick()).len(), 2);
    for pause in [60, 120, 240, 480, 600, 600] {
        assert_eq!(fail_round(&mut table), pause);
        assert_eq!(lookups(&table.run(pause - 1)), Vec::<String>::new());
        assert_eq!(lookups(&table.run(1)).len(), 2);
    }
}

#[test]
fn the_notice_is_one_plain_line() {
    let notice = Notice::NoSeedReached {
        asked: 9,
        retry_in: Duration::from_secs(60),
    };
    assert_eq!(
        notice.to_string(),
        "none of the 9 DNS seeds could be reached; trying again in 60 s"
    );
}

#[test]
fn an_answering_seed_fills_the_book_and_dialling_starts_at_once() {
    let mut table = Table::new(seeded());
    table.tick();
    let effects = table.step(answer("a.example", vec![addr(20), addr(21)]));
    assert_eq!(
        dials(&effects).len(),
        1,
        "it does not wait for the other seed"
    );
    let effects = table.step(answer("b.example", Vec::new()));
    assert!(effects.contains(&Effect::Notice(Notice::SeedsAnswered { addresses: 2 })));
    assert_eq!(table.table.notice(), None);
    assert_eq!(table.table.book().len(), 2);
    let dialled = dials(&table.run(2));
    assert_eq!(dialled.len(), 1);
}

#[test]
fn a_known_address_is_tried_for_a_minute_before_seeds_are_asked() {
    let mut table = Table::with_book(seeded(), book([20]));
    let effects = table.run(59);
    assert_eq!((dials(&effects).len(), lookups(&effects).len()), (1, 0));
    assert_eq!(lookups(&table.run(1)).len(), 2);
}

#[test]
fn seeds_are_not_asked_while_an_outbound_peer_is_connected() {
    let mut table = Table::with_book(seeded(), book([20]));
    let dialled = dials(&table.tick())[0];
    let id = table.admit(Outbound, dialled);
    assert_eq!(lookups(&table.run(24 * 3_600)), Vec::<String>::new());
    table.done(id, Outbound, dialled);
    assert_eq!(lookups(&table.run(60)).len(), 2, "alone for a minute");
}

#[test]
fn a_seed_that_never_answers_has_failed_after_a_minute() {
    let mut table = Table::new(seeded());
    table.tick();
    table.step(answer("a.example", Vec::new()));
    let effects = table.run(60);
    let failed = |e: &Effect| matches!(e, Effect::Notice(Notice::NoSeedReached { .. }));
    assert!(effects.iter().any(failed));
    assert_eq!(
        table.step(answer("b.example", vec![addr(20)])),
        [],
        "too late"
    );
    assert!(table.table.book().is_empty());
}

#[test]
fn one_seed_gives_a_bounded_number_of_addresses() {
    let mut table = Table::new(seeded());
    table.tick();
    let flood = (0..5_000u16).map(|n| {
        let [b, c] = n.to_be_bytes();
        SocketAddr::from(([30, b, c, 1], 8333))
    });
    table.step(answer("a.example", flood.collect()));
    assert_eq!(table.table.book().len(), 256);
}

#[test]
fn a_network_without_seeds_says_once_that_nobody_is_known() {
    let mut table = Table::new(PeerTableConfig {
        dial: true,
        ..config()
    });
    assert_eq!(table.tick(), [Effect::Notice(Notice::NobodyToDial)]);
    assert_eq!(table.table.notice(), Some(Notice::NobodyToDial));
    assert_eq!(table.run(3_600), []);
    table.admit(Inbound, addr(20));
    assert_eq!(table.table.notice(), None);
}
