//! What a session does not deliver, or not all of.

use bitcoin::hashes::Hash;

use super::*;

fn inventories(count: usize, item: fn(u8) -> Inventory) -> Vec<Inventory> {
    (0..count)
        .map(|at| item(u8::try_from(at % 251).expect("small")))
        .collect()
}

fn block_item(at: u8) -> Inventory {
    Inventory::Block(bitcoin::BlockHash::from_byte_array([at; 32]))
}

fn transaction_item(at: u8) -> Inventory {
    Inventory::WTx(bitcoin::Wtxid::from_byte_array([at; 32]))
}

#[test]
fn of_a_long_inv_the_end_is_delivered_and_of_a_short_one_all() {
    let mut session = ready();
    for count in [0, 1, MAX_ANNOUNCED - 1, MAX_ANNOUNCED, 50_000] {
        let items = inventories(count, block_item);
        let end = items[count.saturating_sub(MAX_ANNOUNCED)..].to_vec();
        let effects = receive(&mut session, after(1), Message::Inv(items));
        assert_eq!(effects, [Effect::Deliver(Message::Inv(end))]);
    }
    let effects = receive(
        &mut session,
        after(1),
        Message::Inv(inventories(50_000, block_item)),
    );
    let [Effect::Deliver(Message::Inv(kept))] = &effects[..] else {
        panic!("{effects:?}")
    };
    assert!(kept.capacity() < 2 * MAX_ANNOUNCED, "the rest is let go");
}

#[test]
fn a_notfound_of_more_than_we_ask_for_is_dropped() {
    let mut session = ready();
    let short = Message::NotFound(inventories(MAX_NOT_FOUND, block_item));
    let delivered = receive(&mut session, after(1), short.clone());
    assert_eq!(delivered, [Effect::Deliver(short)]);
    let long = Message::NotFound(inventories(MAX_NOT_FOUND + 1, block_item));
    assert_eq!(receive(&mut session, after(1), long), []);
}

#[test]
fn transactions_end_the_connection_since_we_asked_for_none_and_discourage_nobody() {
    let mut among_blocks = inventories(100, block_item);
    among_blocks.insert(3, transaction_item(1));
    for message in [
        Message::Tx(bytes::Bytes::from_static(&[1; 100])),
        Message::Inv(inventories(1, transaction_item)),
        Message::Inv(among_blocks),
    ] {
        let mut session = ready();
        let reasons = closes(&receive(&mut session, after(1), message));
        assert!(
            matches!(&reasons[..], [DoneReason::ProtocolViolation(_)]),
            "{reasons:?}"
        );
        assert!(!reasons[0].discourages(Reached::Admitted));
    }
}

#[test]
fn a_frame_out_of_place_and_one_that_holds_up_others_have_reasons_that_discourage_nobody() {
    for (input, expected) in [
        (
            Input::Undecodable(DecodeError::Transaction),
            DoneReason::ProtocolViolation(OutOfPlace::Frame(DecodeError::Transaction)),
        ),
        (Input::SlowSender, DoneReason::SlowSender),
    ] {
        for mut session in [ready(), session(Direction::Inbound, 1)] {
            let reasons = closes(&session.step(after(1), input.clone()));
            assert_eq!(reasons, std::slice::from_ref(&expected));
            assert!(!expected.discourages(Reached::Admitted));
        }
    }
}

#[test]
fn what_cannot_be_read_is_dropped_until_there_is_too_much_of_it() {
    for mut session in [ready(), session(Direction::Inbound, 1)] {
        let malformed = || Input::Malformed(garbled());
        for _ in 0..MALFORMED_BURST {
            assert_eq!(session.step(after(1), malformed()), []);
        }
        let reasons = closes(&session.step(after(1), malformed()));
        assert!(
            matches!(&reasons[..], [DoneReason::MalformedFlood(_)]),
            "{reasons:?}"
        );
        assert!(!reasons[0].discourages(Reached::Admitted));
    }
}

#[test]
fn a_peer_that_sends_nothing_that_can_be_read_is_not_silent() {
    let mut session = ready();
    receive(&mut session, after(600), Message::Pong(0));
    assert!(our_ping(&session.step(after(700), Input::Deadline)).is_some());
    session.step(after(1_000), Input::Malformed(garbled()));
    let before_the_ping_times_out = session.step(after(1_801), Input::Deadline);
    assert_eq!(before_the_ping_times_out, []);
}

#[test]
fn a_service_that_we_do_not_offer_ends_the_connection_and_discourages_nobody() {
    let unknown = |command: &str| Message::Unknown {
        command: command.to_owned(),
    };
    let wanted = [
        "filterload",
        "filteradd",
        "filterclear",
        "getcfilters",
        "getcfheaders",
        "getcfcheckpt",
    ];
    let messages = wanted.map(unknown).into_iter().chain([Message::Mempool]);
    for message in messages {
        let mut early = session(Direction::Inbound, 1);
        assert_eq!(receive(&mut early, after(1), message.clone()), []);
        let mut session = ready();
        let command = message.command().to_owned();
        let expected = DoneReason::ServiceNotOffered(command.leak());
        let reasons = closes(&receive(&mut session, after(1), message));
        assert_eq!(reasons, std::slice::from_ref(&expected));
        assert!(!expected.discourages(Reached::Admitted));
    }
    let mut session = ready();
    assert_eq!(receive(&mut session, after(1), unknown("cmpctblock")), []);
}
