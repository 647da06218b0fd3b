//! Every limit, at it and one past it.

use bytes::BufMut;

use super::*;
use crate::compact_size;
use crate::error::Fault;
use crate::limits::{
    MAX_ADDR, MAX_ADDRV2_BYTES, MAX_COUNT, MAX_HEADERS, MAX_INV, MAX_LOCATOR, MAX_MONEY,
    MAX_USER_AGENT,
};

/// A list of `count` entries, each `entry`, between `before` and `after`.
fn list(before: &[u8], count: usize, entry: &[u8], after: &[u8]) -> Vec<u8> {
    let mut payload = before.to_vec();
    compact_size::write(&mut payload, count as u64);
    for _ in 0..count {
        payload.put_slice(entry);
    }
    payload.put_slice(after);
    payload
}

fn too_many(command: &'static str, max: usize) -> Result<Message, DecodeError> {
    Err(DecodeError::TooManyEntries {
        command,
        got: max as u64 + 1,
        max,
    })
}

#[test]
fn lists_are_full_at_the_limit_and_refused_one_past_it() {
    const ADDR_V2: &[u8] = &[1, 2, 3, 4, 0, 1, 4, 127, 0, 0, 1, 0x20, 0x8d];
    type Case = (
        &'static str,
        usize,
        &'static [u8],
        &'static [u8],
        &'static [u8],
    );
    let lists: [Case; 8] = [
        ("headers", MAX_HEADERS, &[], &[0; 81], &[]),
        ("inv", MAX_INV, &[], &[2; 36], &[]),
        ("getdata", MAX_INV, &[], &[2; 36], &[]),
        ("notfound", MAX_INV, &[], &[2; 36], &[]),
        ("addr", MAX_ADDR, &[], &[3; 30], &[]),
        ("addrv2", MAX_ADDR, &[], ADDR_V2, &[]),
        ("getheaders", MAX_LOCATOR, &[0; 4], &[4; 32], &[0; 32]),
        ("getblocks", MAX_LOCATOR, &[0; 4], &[4; 32], &[0; 32]),
    ];
    for (command, max, before, entry, after) in lists {
        let full = list(before, max, entry, after);
        assert!(full.len() <= max_payload(command), "{command}");
        let message = decode_bytes(command, &full).expect(command);
        assert_eq!(payload_of(&message).len(), full.len(), "{command}");
        let overfull = list(before, max + 1, entry, after);
        let refused = match command {
            // Core ignores a notfound that is longer than its request.
            "notfound" => Ok(Message::unknown("notfound")),
            _ => too_many(command, max),
        };
        assert_eq!(decode_bytes(command, &overfull), refused);
    }
}

#[test]
fn too_many_headers_are_refused_by_their_count_and_other_lists_when_they_are_complete() {
    let mut count = Vec::new();
    compact_size::write(&mut count, MAX_HEADERS as u64 + 1);
    assert_eq!(
        decode_bytes("headers", &count),
        too_many("headers", MAX_HEADERS)
    );
    for (command, max) in [("inv", MAX_INV), ("getdata", MAX_INV), ("addr", MAX_ADDR)] {
        let mut count = Vec::new();
        compact_size::write(&mut count, max as u64 + 1);
        let decoded = decode_bytes(command, &count);
        assert!(
            matches!(decoded, Err(DecodeError::Truncated { .. })),
            "{command}: {decoded:?}"
        );
    }
}

#[test]
fn discarded_bytes_count_as_received() {
    let whole = list(&[], MAX_ADDR + 1, &[3; 30], &[]);
    let (kept, ignored) = whole.split_at(max_payload("addr").min(whole.len()) - 40);
    let decoded = decode(Kind::Addr, kept.to_vec().into(), ignored.len());
    assert_eq!(decoded, too_many("addr", MAX_ADDR));
}

#[test]
fn the_fault_of_each_error_is_that_of_core() {
    let fault = |command, payload: &[u8]| {
        let error = decode_bytes(command, payload).expect_err("it is wrong");
        error.fault()
    };
    for (command, max, entry) in [
        ("headers", MAX_HEADERS, 81),
        ("inv", MAX_INV, 36),
        ("getdata", MAX_INV, 36),
        ("addr", MAX_ADDR, 30),
    ] {
        let overfull = list(&[], max + 1, &vec![0; entry], &[]);
        assert_eq!(fault(command, &overfull), Fault::Misbehaving, "{command}");
    }
    for command in ["getheaders", "getblocks"] {
        let overfull = list(&[0; 4], MAX_LOCATOR + 1, &[4; 32], &[0; 32]);
        assert_eq!(fault(command, &overfull), Fault::OutOfPlace, "{command}");
    }
    let announces_twice = [2, 2, 0, 0, 0, 0, 0, 0, 0];
    assert_eq!(fault("sendcmpct", &announces_twice), Fault::Misbehaving);
    assert_eq!(fault("sendcmpct", &announces_twice[..8]), Fault::Malformed);
    let mut endless = Vec::new();
    compact_size::write(&mut endless, MAX_COUNT + 1);
    assert_eq!(fault("headers", &endless), Fault::Malformed);
}

#[test]
fn a_count_that_the_payload_cannot_hold_is_refused() {
    for (command, entry) in [("headers", 81), ("inv", 36), ("addr", 30), ("addrv2", 9)] {
        let payload = list(&[], 2, &vec![0; entry], &[]);
        assert_eq!(
            decode_bytes(command, &payload[..payload.len() - 1]),
            Err(DecodeError::Truncated {
                command,
                field: "entries"
            }),
        );
    }
}

#[test]
fn the_longest_message_of_every_command_fits_its_frame() {
    let address = list(&[0; 13], MAX_ADDRV2_BYTES, &[0], &[0; 2]);
    // time, services in 9 bytes, network, then the counted address and the port
    let mut entry = vec![0; 4];
    compact_size::write(&mut entry, u64::MAX);
    entry.push(9);
    entry.extend_from_slice(&address[13..]);
    let addr_v2 = list(&[], MAX_ADDR, &entry, &[]);
    assert!(decode_bytes("addrv2", &addr_v2).is_ok());
    assert!(addr_v2.len() <= max_payload("addrv2"));
    let version = list(&[0; 80], MAX_USER_AGENT, b"a", &[0; 5]);
    assert!(decode_bytes("version", &version).is_ok());
    assert!(version.len() <= max_payload("version"));
    assert_eq!(max_payload("block"), 4_000_000);
    assert_eq!(max_payload("cmpctblock"), 4_000_000);
}

#[test]
fn a_user_agent_has_at_most_256_bytes() {
    let version = list(&[0; 80], MAX_USER_AGENT + 1, b"a", &[]);
    assert_eq!(
        decode_bytes("version", &version),
        Err(DecodeError::Invalid {
            command: "version",
            field: "user agent"
        })
    );
}

#[test]
fn an_address_has_at_most_512_bytes() {
    let entry = list(&[0, 0, 0, 0, 0, 9], MAX_ADDRV2_BYTES + 1, &[0], &[0; 2]);
    let payload = list(&[], 1, &entry, &[]);
    assert_eq!(
        decode_bytes("addrv2", &payload),
        Err(DecodeError::Invalid {
            command: "addrv2",
            field: "address"
        })
    );
}

#[test]
fn a_fee_rate_beyond_all_money_is_ignored() {
    let at = decode_bytes("feefilter", &MAX_MONEY.to_le_bytes());
    assert_eq!(at, Ok(Message::FeeFilter(MAX_MONEY)));
    for rate in [MAX_MONEY + 1, (-1_i64) as u64] {
        let past = decode_bytes("feefilter", &rate.to_le_bytes());
        assert_eq!(past, Ok(Message::unknown("feefilter")));
    }
}

#[test]
fn counts_must_have_their_shortest_form() {
    let long_forms: [&[u8]; 6] = [
        &[0xfd, 0xfc, 0x00],
        &[0xfe, 0xff, 0xff, 0, 0],
        &[0xff, 0xff, 0xff, 0xff, 0xff, 0, 0, 0, 0],
        &[0xfd, 0, 0],
        &[0xfe, 0, 0, 0, 0],
        &[0xff, 0, 0, 0, 0, 0, 0, 0, 0],
    ];
    for form in long_forms {
        assert_eq!(
            decode_bytes("inv", form),
            Err(DecodeError::Invalid {
                command: "inv",
                field: "count"
            })
        );
    }
}
