//! Tests of the frame codec.

mod early;
mod memory;

use proptest::prelude::*;

use super::*;
use crate::Network;
use crate::compact_size;
use crate::message::max_payload;
use crate::testing::{any_message, cases, frame, real_data};

fn codec() -> Codec {
    Codec::new(Network::Regtest.magic())
}

fn only_frame(bytes: &[u8]) -> Result<Option<Frame>, DecodeError> {
    codec().next_frame(&mut BytesMut::from(bytes))
}

fn message(bytes: &[u8]) -> Message {
    let frame = only_frame(bytes).unwrap().expect("a whole frame");
    assert_eq!(frame.wire_bytes, bytes.len());
    frame.message.expect("a sound frame")
}

/// All frames of `bytes`, arriving in pieces of `step` bytes.
fn in_pieces(bytes: &[u8], step: usize) -> Vec<Frame> {
    let (mut codec, mut buffer) = (codec(), BytesMut::new());
    let mut frames = Vec::new();
    for piece in bytes.chunks(step) {
        buffer.extend_from_slice(piece);
        while let Some(frame) = codec.next_frame(&mut buffer).expect("sound frames") {
            frames.push(frame);
        }
    }
    assert!(buffer.is_empty(), "nothing is left over");
    frames
}

#[test]
fn a_verack_has_the_bytes_that_the_protocol_documents() {
    let mut bytes = BytesMut::new();
    let mut codec = Codec::new(Network::Mainnet.magic());
    codec.encode(Message::Verack, &mut bytes).unwrap();
    let expected = *b"\xf9\xbe\xb4\xd9verack\0\0\0\0\0\0\0\0\0\0\x5d\xf6\xe0\xe2";
    assert_eq!(bytes[..], expected);
}

#[test]
fn another_magic_ends_the_connection() {
    let mut bytes = frame("verack", &[]);
    bytes[3] ^= 1;
    let error = only_frame(&bytes).unwrap_err();
    assert_eq!(
        error.to_string(),
        "wrong magic: fabfb5db instead of fabfb5da (regtest)"
    );
    let of_signet = DecodeError::WrongMagic {
        got: Network::Signet.magic(),
        expected: Network::Mainnet.magic(),
    };
    assert_eq!(
        of_signet.to_string(),
        "wrong magic: 0a03cf40 (signet) instead of f9beb4d9 (mainnet)"
    );
}

#[test]
fn after_an_error_no_more_frames_are_read() {
    let (mut codec, mut buffer) = (codec(), BytesMut::from(&[0; 24][..]));
    let error = codec.next_frame(&mut buffer).unwrap_err();
    let mut sound = frame("verack", &[]);
    assert_eq!(codec.next_frame(&mut sound), Err(error));
}

#[test]
fn an_announced_length_is_checked_in_the_header() {
    for kind in Kind::ALL {
        let command = kind.name();
        let at = announce(command.as_bytes(), MAX_PAYLOAD_BYTES);
        assert_eq!(only_frame(&at), Ok(None), "{command} at its limit");
        let past = announce(command.as_bytes(), MAX_PAYLOAD_BYTES + 1);
        assert_eq!(
            only_frame(&past),
            Err(DecodeError::PayloadTooLong {
                command: command.to_owned(),
                got: MAX_PAYLOAD_BYTES + 1,
                max: MAX_PAYLOAD_BYTES
            })
        );
    }
}

#[test]
fn bytes_after_the_longest_message_of_a_short_command_are_ignored_and_not_buffered() {
    for rest in [2_000, 3_000_000] {
        let mut payload = 7_u64.to_le_bytes().to_vec();
        payload.resize(rest, 0xab);
        let mut bytes = frame("ping", &payload);
        bytes.unsplit(frame("verack", &[]));
        for step in [1_000, 65_536, bytes.len()] {
            let frames = in_pieces(&bytes, step);
            assert_eq!(frames[0].message, Ok(Message::Ping(7)));
            assert_eq!(frames[0].wire_bytes, HEADER_BYTES + rest);
            assert_eq!(frames[1].message, Ok(Message::Verack));
        }
        let last = HEADER_BYTES + rest - 1;
        bytes[last] ^= 1;
        let garbled = &in_pieces(&bytes, 65_536)[0].message;
        assert!(matches!(garbled, Err(Garbled::Checksum { .. })), "{rest}");
    }
}

#[test]
fn a_payload_longer_than_any_list_of_its_command_is_dropped_and_the_next_frame_is_read() {
    for command in ["inv", "getdata", "notfound", "headers", "addrv2"] {
        let mut bytes = frame(command, &vec![0xfe; max_payload(command) + 1]);
        bytes.unsplit(frame("verack", &[]));
        let frames = in_pieces(&bytes, 65_536);
        let Err(Garbled::Payload(error)) = &frames[0].message else {
            panic!("{command}: {:?}", frames[0].message);
        };
        assert_eq!(error.fault(), Fault::Malformed);
        assert_eq!(frames[1].message, Ok(Message::Verack));
    }
}

#[test]
fn a_payload_that_ends_early_drops_the_frame_and_the_next_one_is_read() {
    let cases: [(&str, &[u8]); 6] = [
        ("inv", &[5; 37]),
        ("headers", &[]),
        ("feefilter", &[1, 2, 3]),
        ("addrv2", &[1, 0, 0, 0, 0, 0, 1, 3, 1, 2, 3, 0, 1]),
        ("block", &[7; 80]),
        ("notfound", &[]),
    ];
    for (command, payload) in cases {
        let mut bytes = frame(command, payload);
        bytes.unsplit(frame("verack", &[]));
        let frames = in_pieces(&bytes, bytes.len());
        let dropped = &frames[0].message;
        assert!(matches!(dropped, Err(Garbled::Payload(_))), "{command}");
        assert_eq!(frames[1].message, Ok(Message::Verack), "{command}");
    }
}

#[test]
fn unknown_and_invalid_commands_may_use_the_whole_length_and_no_more() {
    for command in [&b"cmpctblock"[..], b"\x01\x02"] {
        assert_eq!(only_frame(&announce(command, 4_000_000)), Ok(None));
        let error = only_frame(&announce(command, 4_000_001)).unwrap_err();
        assert!(matches!(
            error,
            DecodeError::PayloadTooLong { max: 4_000_000, .. }
        ));
    }
    let error = only_frame(&announce(b"\x01\x02", 1 << 30)).unwrap_err();
    let text = error.to_string();
    assert!(text.starts_with(r"\x01\x02\x00"), "{text}");
}

/// A frame header that announces `len` bytes.
fn announce(command: &[u8], len: usize) -> Vec<u8> {
    let mut header = encode_head(Network::Regtest.magic(), "", 0, [0; 4]);
    header[4..4 + command.len()].copy_from_slice(command);
    header[16..20].copy_from_slice(&u32::try_from(len).unwrap().to_le_bytes());
    header.to_vec()
}

#[test]
fn a_wrong_checksum_drops_the_frame_and_the_next_one_is_read() {
    let mut bytes = frame("ping", &7_u64.to_le_bytes());
    bytes[20] ^= 0xff;
    bytes.unsplit(frame("verack", &[]));
    let frames = in_pieces(&bytes, bytes.len());
    assert_eq!(frames.len(), 2);
    let dropped = frames[0].message.clone().unwrap_err();
    assert_eq!(dropped.to_string(), "ping: wrong checksum");
    assert_eq!(frames[0].wire_bytes, 32);
    assert_eq!(frames[1].message, Ok(Message::Verack));
}

#[test]
fn a_command_with_bytes_after_its_padding_is_dropped() {
    let invalid: [&[u8; 12]; 3] = [
        b"verack\0\0\0\0\0x",
        b"ver\x7fck\0\0\0\0\0\0",
        b"\xffinv\0\0\0\0\0\0\0\0",
    ];
    for command in invalid {
        let mut bytes = frame("verack", &[]);
        bytes[4..16].copy_from_slice(command);
        let frame = only_frame(&bytes).unwrap().expect("a whole frame");
        let command = *command;
        assert_eq!(frame.message, Err(Garbled::InvalidCommand { command }));
    }
}

#[test]
fn a_command_of_twelve_characters_needs_no_padding() {
    let unknown = message(&frame("twelve chars", &[1, 2, 3]));
    assert_eq!(unknown.command(), "twelve chars");
}

#[test]
fn a_connection_that_ends_inside_a_frame_is_no_error() {
    let mut codec = codec();
    let mut bytes = frame("ping", &[0; 8]);
    bytes.truncate(30);
    assert!(matches!(codec.decode_eof(&mut bytes), Ok(None)));
}

#[test]
fn real_headers_arrive_in_full_batches() {
    let Some(file) = real_data("mainnet_headers_0_10236.bin") else {
        return;
    };
    for batch in file.chunks(2_000 * 80) {
        let mut payload = Vec::new();
        compact_size::write(&mut payload, (batch.len() / 80) as u64);
        for header in batch.chunks(80) {
            payload.extend_from_slice(header);
            payload.push(0);
        }
        let Message::Headers(headers) = message(&frame("headers", &payload)) else {
            panic!("headers decode to headers");
        };
        assert!(headers.is_sorted_by(|a, b| a.block_hash() == b.prev_blockhash));
        let mut encoded = BytesMut::new();
        Message::Headers(headers).encode_payload(&mut encoded);
        assert_eq!(encoded[..], payload);
    }
}

proptest! {
    #![proptest_config(cases())]

    #[test]
    fn frames_cut_anywhere_come_out_whole(
        messages in proptest::collection::vec(any_message(), 1..6),
        step in 1_usize..5_000,
    ) {
        let mut bytes = BytesMut::new();
        for message in &messages {
            message.encode_into(Network::Regtest.magic(), &mut bytes);
        }
        for step in [1, step, bytes.len()] {
            let frames = in_pieces(&bytes, step);
            let sizes: usize = frames.iter().map(|frame| frame.wire_bytes).sum();
            prop_assert_eq!(sizes, bytes.len());
            let got: Vec<_> = frames.into_iter().map(|frame| frame.message.unwrap()).collect();
            prop_assert_eq!(&got, &messages);
        }
    }

    #[test]
    fn garbage_never_panics(
        bytes in proptest::collection::vec(any::<u8>(), 0..200),
        sound_magic in any::<bool>(),
    ) {
        let mut buffer = BytesMut::from(&bytes[..]);
        if sound_magic && buffer.len() >= 4 {
            buffer[..4].copy_from_slice(&Network::Regtest.magic().to_bytes());
        }
        let mut codec = codec();
        while let Ok(Some(_)) = codec.next_frame(&mut buffer) {}
    }

    #[test]
    fn garbage_in_a_sound_frame_never_panics(
        kind in proptest::sample::select(&Kind::ALL[..]),
        payload in proptest::collection::vec(any::<u8>(), 0..600),
    ) {
        let payload = &payload[..payload.len().min(kind.max_payload())];
        match only_frame(&frame(kind.name(), payload)) {
            Ok(Some(frame)) => prop_assert_eq!(frame.wire_bytes, HEADER_BYTES + payload.len()),
            Ok(None) => prop_assert!(false, "the frame is whole"),
            Err(error) => prop_assert!(error.to_string().starts_with(kind.name())),
        }
    }
}
