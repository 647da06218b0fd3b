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

fn failure(name: &str) -> Input {
    Input::ResolveFailed {
        name: name.to_owned(),
        error: format!("{name} is silent"),
    }
}

#[test]
fn seeds_are_queried_at_once_when_the_book_is_empty() {
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
fn after_all_seeds_failed_one_of_them_is_queried_every_ten_seconds_in_turn() {
    let mut table = Table::new(seeded());
    assert_eq!(lookups(&table.tick()).len(), 2);
    assert_eq!(table.step(failure("a.example")), []);
    let notice = Notice::NoSeedReached {
        asked: 2,
        retry_in: Duration::from_secs(10),
    };
    assert_eq!(table.step(failure("b.example")), [Effect::Notice(notice)]);
    assert_eq!(table.table.notice(), Some(notice), "it can be queried");
    for host in ["a.example", "b.example", "a.example", "b.example"] {
        assert_eq!(lookups(&table.run(9)), Vec::<String>::new());
        assert_eq!(lookups(&table.run(1)), [host]);
        assert_eq!(table.step(failure(host)), [], "it was reported already");
    }
    table.run(10);
    let back = table.step(answer("a.example", vec![addr(20)]));
    assert_eq!(dials(&back), [addr(20)], "at once");
    assert_eq!(table.table.notice(), None);
}

#[test]
fn failing_seeds_are_reported_again_after_1_minute_then_2_then_4() {
    let mut table = Table::new(seeded());
    table.tick();
    table.step(failure("a.example"));
    table.step(failure("b.example"));
    let (start, mut reported) = (table.now.mono, Vec::new());
    while reported.len() < 3 {
        for host in lookups(&table.run(10)) {
            if !table.step(failure(&host)).is_empty() {
                reported.push((table.now.mono - start).as_secs());
            }
        }
    }
    assert_eq!(reported, [60, 180, 420]);
}

#[test]
fn what_each_seed_answered_is_shown_with_its_error_and_the_next_attempt() {
    let mut table = Table::new(seeded());
    table.tick();
    let answers = |table: &Table| -> Vec<_> {
        let seeds = table.table.outlook().seeds;
        seeds.into_iter().map(|seed| seed.answer).collect()
    };
    assert_eq!(answers(&table), [None, None]);
    table.step(failure("a.example"));
    let error = "a.example is silent".to_owned();
    assert_eq!(answers(&table), [Some(Err(error.clone())), None]);
    table.run(60);
    let late = Some(Err("no answer in time".to_owned()));
    assert_eq!(answers(&table), [Some(Err(error)), late.clone()]);
    let outlook = table.table.outlook();
    let again = table.now.mono + Duration::from_secs(10);
    assert_eq!(outlook.seeds_again, Some(again));
    let lookups = lookups(&table.run(10));
    assert_eq!(lookups, ["a.example"]);
    table.step(answer("a.example", vec![addr(20), addr(21)]));
    assert_eq!(answers(&table), [Some(Ok(2)), late]);
    assert_eq!(table.table.outlook().seeds_again, None);
}

#[test]
fn seeds_whose_addresses_cannot_be_dialled_have_failed_and_are_queried_again() {
    let config = PeerTableConfig {
        allow_private_addresses: false,
        ..seeded()
    };
    let mut table = Table::new(config);
    table.tick();
    let private = || vec!["10.0.0.1:8333".parse().unwrap()];
    table.step(answer("a.example", private()));
    table.step(answer("b.example", private()));
    let outlook = table.table.outlook();
    assert!(outlook.seeds_again.is_some(), "the next attempt is known");
    let trouble = outlook.trouble(table.now).expect("it is reported");
    assert!(
        trouble.contains("none of its addresses can be dialled"),
        "{trouble}"
    );
}

#[test]
fn an_address_that_failed_without_a_network_is_dialled_again_within_15_seconds() {
    let mut table = Table::with_book(seeded(), book([20]));
    let dialled = dials(&table.tick());
    table.fail_dial(dialled[0], None);
    for _ in 0..5 {
        let again = dials(&table.run(20));
        assert_eq!(again, dialled, "15 s, and 5 s until the next search");
        table.fail_dial(again[0], None);
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
        "none of 9 DNS seeds gave an address to connect to; next attempt in 1m 0s"
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
fn a_known_address_is_tried_for_a_minute_before_seeds_are_queried() {
    let mut table = Table::with_book(seeded(), book([20]));
    let effects = table.run(59);
    assert_eq!((dials(&effects).len(), lookups(&effects).len()), (1, 0));
    assert_eq!(lookups(&table.run(1)).len(), 2);
}

#[test]
fn seeds_are_not_queried_while_an_outbound_peer_is_connected() {
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
fn a_network_without_seeds_reports_once_that_no_address_is_known() {
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
