//! Frames that are refused before the handshake is complete, and frames that are always refused.

use super::*;
use crate::message::Version;

/// The codec of a node's connection.
fn connection() -> Codec {
    Codec::for_handshake(Network::Regtest.magic()).without_transactions()
}

fn version() -> Message {
    let nowhere =
        bitcoin::p2p::Address::new(&([0, 0, 0, 0], 0).into(), bitcoin::p2p::ServiceFlags::NONE);
    Message::Version(Version {
        version: 70_016,
        services: bitcoin::p2p::ServiceFlags::NONE,
        timestamp: 1_700_000_000,
        receiver: nowhere.clone(),
        sender: Some(nowhere),
        nonce: Some(3),
        user_agent: "/remote:1/".into(),
        start_height: Some(0),
        relay: true,
    })
}

fn encoded(message: &Message) -> BytesMut {
    let mut bytes = BytesMut::new();
    message.encode_into(Network::Regtest.magic(), &mut bytes);
    bytes
}

/// Reads these bytes: how many frames, and the error or none.
fn read(codec: &mut Codec, bytes: &[u8]) -> (usize, Result<(), DecodeError>) {
    let mut buffer = BytesMut::from(bytes);
    let mut frames = 0;
    loop {
        match codec.next_frame(&mut buffer) {
            Ok(Some(_)) => frames += 1,
            Ok(None) => return (frames, Ok(())),
            Err(error) => return (frames, Err(error)),
        }
    }
}

fn too_early(result: Result<(), DecodeError>) -> bool {
    matches!(result, Err(DecodeError::TooEarly { .. }))
}

#[test]
fn a_frame_head_of_a_block_before_version_or_verack_is_refused_without_its_bytes() {
    let head = announce(b"block", 3_990_000);
    let (frames, refused) = read(&mut connection(), &head);
    assert!(frames == 0 && too_early(refused));

    let mut codec = connection();
    assert_eq!(read(&mut codec, &encoded(&version())), (1, Ok(())));
    let (frames, refused) = read(&mut codec, &head);
    assert!(frames == 0 && too_early(refused));

    let mut codec = connection();
    for message in [version(), Message::Verack] {
        assert_eq!(read(&mut codec, &encoded(&message)), (1, Ok(())));
    }
    assert_eq!(read(&mut codec, &head), (0, Ok(())));
    assert_eq!(codec.payload(), Some((Kind::Block, 3_990_000)));
}

#[test]
fn a_verack_without_a_version_does_not_complete_the_handshake() {
    let mut codec = connection();
    for message in [Message::Verack, version()] {
        assert_eq!(read(&mut codec, &encoded(&message)), (1, Ok(())));
    }
    assert!(too_early(
        read(&mut codec, &announce(b"block", 3_990_000)).1
    ));
}

#[test]
fn the_length_before_the_handshake_is_checked_for_unknown_commands_too() {
    for command in [&b"block"[..], b"headers", b"cmpctblock", b"\xff"] {
        let longest = announce(command, MAX_EARLY_PAYLOAD);
        assert_eq!(read(&mut connection(), &longest), (0, Ok(())));
        let longer = announce(command, MAX_EARLY_PAYLOAD + 1);
        assert!(too_early(read(&mut connection(), &longer).1));
    }
    assert!(max_payload("version") <= MAX_EARLY_PAYLOAD);
    assert!(max_payload("getheaders") <= MAX_EARLY_PAYLOAD);
}

#[test]
fn the_sum_of_all_frames_before_the_handshake_is_bounded() {
    let frame = encoded(&Message::Ping(1));
    let flood = frame.repeat(MAX_EARLY_BYTES / frame.len() + 1);
    let (frames, refused) = read(&mut connection(), &flood);
    assert_eq!(frames, MAX_EARLY_BYTES / frame.len());
    assert!(too_early(refused));

    let mut codec = connection();
    let handshake = [encoded(&version()), encoded(&Message::Verack)].concat();
    assert_eq!(read(&mut codec, &handshake), (2, Ok(())));
    assert_eq!(read(&mut codec, &flood).1, Ok(()), "the handshake is over");
}

#[test]
fn a_codec_without_transactions_refuses_tx_by_its_header() {
    let head = announce(b"tx", 4_000_000);
    let mut codec = codec().without_transactions();
    let (frames, refused) = read(&mut codec, &head);
    assert_eq!((frames, refused), (0, Err(DecodeError::Transaction)));
    assert_eq!(read(&mut self::codec(), &head), (0, Ok(())));
}

#[test]
fn the_checksum_of_a_long_payload_does_not_depend_on_its_pieces() {
    let payload: Vec<u8> = (0..200_000u32).map(|at| at.to_le_bytes()[1]).collect();
    for step in [1_000, 16_385, 70_001, 200_024] {
        let mut bytes = frame("block", &payload).to_vec();
        assert!(in_pieces(&bytes, step)[0].message.is_ok(), "step {step}");
        *bytes.last_mut().expect("not empty") ^= 1;
        let garbled = &in_pieces(&bytes, step)[0].message;
        assert!(
            matches!(garbled, Err(Garbled::Checksum { .. })),
            "step {step}"
        );
    }
}
