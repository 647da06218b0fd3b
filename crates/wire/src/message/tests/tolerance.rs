//! Deviations that Bitcoin Core tolerates, and those it does not.

use super::*;

/// A `version` with every part: 85 bytes and a user agent of 16.
fn full_version() -> Vec<u8> {
    let mut payload = vec![0x80, 0x11, 1, 0];
    payload.extend_from_slice(&9_u64.to_le_bytes());
    payload.extend_from_slice(&1_700_000_000_i64.to_le_bytes());
    payload.extend_from_slice(&[1; 26]);
    payload.extend_from_slice(&[2; 26]);
    payload.extend_from_slice(&77_u64.to_le_bytes());
    payload.push(16);
    payload.extend_from_slice(b"/Satoshi:31.99\n/");
    payload.extend_from_slice(&840_000_i32.to_le_bytes());
    payload.push(0);
    payload
}

fn version(payload: &[u8]) -> Version {
    match decode_bytes("version", payload) {
        Ok(Message::Version(version)) => version,
        other => panic!("not a version: {other:?}"),
    }
}

#[test]
fn a_whole_version_is_read_and_its_user_agent_sanitized() {
    let version = version(&full_version());
    assert_eq!(version.version, 70_016);
    assert_eq!(version.services.to_u64(), 9);
    assert_eq!(version.timestamp, 1_700_000_000);
    assert_eq!(version.nonce, Some(77));
    assert_eq!(version.user_agent, "/Satoshi:31.99/");
    assert_eq!(version.start_height, Some(840_000));
    assert!(!version.relay);
}

#[test]
fn a_version_may_end_after_each_of_its_optional_parts() {
    let payload = full_version();
    // receiver | sender and nonce | user agent | start height | relay
    let ends = [46, 80, 97, 101, 102];
    assert_eq!(payload.len(), ends[4]);
    let versions = ends.map(|end| version(&payload[..end]));
    let present = |from: usize, has: fn(&Version) -> bool| {
        for (at, version) in versions.iter().enumerate() {
            assert_eq!(has(version), at >= from, "cut at {}", ends[at]);
        }
    };
    present(1, |v| v.sender.is_some());
    present(1, |v| v.nonce.is_some());
    present(2, |v| !v.user_agent.is_empty());
    present(3, |v| v.start_height.is_some());
    present(4, |v| !v.relay);
}

#[test]
fn a_version_may_not_end_inside_a_part() {
    let payload = full_version();
    for end in (0..payload.len()).filter(|end| ![46, 80, 97, 101].contains(end)) {
        let decoded = decode_bytes("version", &payload[..end]);
        assert!(
            matches!(decoded, Err(DecodeError::Truncated { .. })),
            "cut at {end}: {decoded:?}"
        );
    }
}

#[test]
fn a_clock_before_1970_counts_as_1970() {
    let mut payload = full_version();
    payload[12..20].copy_from_slice(&i64::MIN.to_le_bytes());
    assert_eq!(version(&payload).timestamp, 0);
}

#[test]
fn bytes_after_the_last_field_are_ignored() {
    let messages = [
        Message::Version(version(&full_version())),
        Message::Ping(1),
        Message::Pong(2),
        Message::FeeFilter(3),
        Message::SendCmpct(SendCmpct {
            announce: true,
            version: 2,
        }),
        Message::Verack,
        Message::SendHeaders,
        Message::SendAddrV2,
        Message::WtxidRelay,
        Message::GetAddr,
        Message::Mempool,
        Message::Inv(vec![Inventory::Block(
            Network::Regtest.genesis().block_hash(),
        )]),
        Message::Headers(vec![Network::Regtest.genesis()]),
    ];
    for message in messages {
        let mut payload = payload_of(&message).to_vec();
        payload.extend_from_slice(&[0xab; 40]);
        assert_eq!(decode_bytes(message.command(), &payload), Ok(message));
    }
}

#[test]
fn a_ping_without_nonce_wants_no_answer() {
    assert_eq!(decode_bytes("ping", &[]), Ok(Message::unknown("ping")));
    assert_eq!(decode_bytes("ping", &[0; 7]), Ok(Message::unknown("ping")));
    assert_eq!(decode_bytes("ping", &[0; 8]), Ok(Message::Ping(0)));
}

#[test]
fn a_short_pong_is_a_pong_without_nonce() {
    assert_eq!(decode_bytes("pong", &[9; 7]), Ok(Message::Pong(0)));
}

#[test]
fn the_transaction_count_after_a_header_is_ignored() {
    let header = Network::Regtest.genesis();
    let bytes = bitcoin::consensus::serialize(&header);
    let mut payload = vec![2];
    payload.extend_from_slice(&bytes);
    payload.extend_from_slice(&[0xfd, 0x00, 0x01]);
    payload.extend_from_slice(&bytes);
    payload.push(7);
    let decoded = decode_bytes("headers", &payload);
    assert_eq!(decoded, Ok(Message::Headers(vec![header, header])));
}

#[test]
fn sendcmpct_announces_or_does_not() {
    let payload = [2, 2, 0, 0, 0, 0, 0, 0, 0];
    assert_eq!(
        decode_bytes("sendcmpct", &payload),
        Err(DecodeError::Forbidden {
            command: "sendcmpct",
            field: "announce"
        })
    );
}

fn one_addr_v2(network: u8, address: &[u8]) -> Result<Message, DecodeError> {
    let mut payload = vec![1, 0, 0, 0, 0, 0, network, address.len() as u8];
    payload.extend_from_slice(address);
    payload.extend_from_slice(&[0, 1]);
    decode_bytes("addrv2", &payload)
}

#[test]
fn addresses_that_cannot_be_of_their_network_are_unknown() {
    let mapped = [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 1, 2, 3, 4];
    let mut onion_cat = [0; 16];
    onion_cat[..6].copy_from_slice(&[0xfd, 0x87, 0xd8, 0x7e, 0xeb, 0x43]);
    let cases: [(u8, &[u8]); 5] = [
        (2, &mapped),
        (2, &onion_cat),
        (3, &[0; 9]),
        (6, &[0xfd; 16]),
        (200, &[1, 2, 3]),
    ];
    for (network, address) in cases {
        let Ok(Message::AddrV2(list)) = one_addr_v2(network, address) else {
            panic!("network {network} is tolerated");
        };
        assert_eq!(list[0].addr, AddrV2::Unknown(network, address.to_vec()));
    }
}

#[test]
fn an_address_of_a_known_network_has_that_networks_length() {
    for (network, length) in [(1, 4), (2, 16), (4, 32), (5, 32), (6, 16)] {
        for wrong in [0, length - 1, length + 1] {
            assert_eq!(
                one_addr_v2(network, &vec![0x20; wrong]),
                Err(DecodeError::Invalid {
                    command: "addrv2",
                    field: "address length"
                })
            );
        }
        assert!(one_addr_v2(network, &vec![0x20; length]).is_ok());
    }
}

#[test]
fn an_unused_command_is_unknown() {
    for command in ["cmpctblock", "filterload", "sendtxrcncl", "feature", ""] {
        let decoded = decode_bytes(command, &[1, 2, 3]);
        assert_eq!(decoded, Ok(Message::unknown(command)));
    }
}
