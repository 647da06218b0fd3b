//! Tests of decoding and encoding, without frames.

mod differential;
mod limits;
mod tolerance;

use bitcoin::p2p::address::{AddrV2, AddrV2Message};
use bitcoin::p2p::message_blockdata::Inventory;
use bytes::BytesMut;
use proptest::prelude::*;
use proptest::strategy::ValueTree;

use super::*;
use crate::checksum;
use crate::error::DecodeError;
use crate::testing::{any_message, cases};
use crate::{HEADER_BYTES, Network, Transport};

fn payload_of(message: &Message) -> Bytes {
    let mut payload = BytesMut::new();
    message.encode_payload(&mut payload);
    payload.freeze()
}

fn decode_bytes(command: &str, payload: &[u8]) -> Result<Message, DecodeError> {
    Message::decode(command, Bytes::copy_from_slice(payload))
}

#[test]
fn every_kind_is_found_by_its_name() {
    for kind in Kind::ALL {
        assert_eq!(Kind::from_name(kind.name()), Some(kind));
    }
    assert_eq!(Kind::from_name("cmpctblock"), None);
}

#[test]
fn every_row_of_the_table_has_a_generator() {
    let mut runner = proptest::test_runner::TestRunner::new(cases());
    let mut missing = Kind::ALL.to_vec();
    for _ in 0..10_000 {
        let message = any_message()
            .new_tree(&mut runner)
            .expect("none is refused");
        missing.retain(|kind| Some(*kind) != message.current().kind());
    }
    assert_eq!(missing, []);
}

#[test]
fn any_bytes_make_a_packet_unless_they_are_too_long_for_a_frame() {
    let packet = Packet::new("twelve bytes", Bytes::from_static(b"any"));
    let head = packet.expect("it fits").head;
    assert_eq!((head.kind(), head.payload_len()), (None, 3));
    assert_eq!(&head.command(), b"twelve bytes");
    assert_eq!(Packet::new("thirteen byte", Bytes::new()), None);
    let long = Bytes::from(vec![0; MAX_PAYLOAD_BYTES + 1]);
    assert_eq!(Packet::new("block", long), None);
}

#[test]
fn a_block_is_encoded_and_decoded_without_a_copy() {
    let genesis = bitcoin::consensus::serialize(&Network::Mainnet.genesis_block());
    let bytes = Bytes::from(genesis);
    let Ok(Message::Block(block)) = Message::decode("block", bytes.clone()) else {
        panic!("a block decodes to a block");
    };
    assert_eq!(block.bytes.as_ptr(), bytes.as_ptr());
    assert_eq!(block.header, Network::Mainnet.genesis());
    assert_eq!(block.hash, block.header.block_hash());
    let mut head = BytesMut::new();
    let mut v1 = Transport::v1(Network::Mainnet.magic());
    let payload = v1.frame_packet(Message::Block(block).packet(), &mut head);
    assert_eq!(payload.as_ptr(), bytes.as_ptr());
    assert_eq!(head.len(), HEADER_BYTES);
    assert_eq!(head[20..], checksum(&bytes));
}

#[test]
fn eighty_bytes_are_not_a_block() {
    let header = bitcoin::consensus::serialize(&Network::Mainnet.genesis());
    assert_eq!(
        decode_bytes("block", &header),
        Err(DecodeError::Truncated {
            command: "block",
            field: "transactions"
        })
    );
}

#[test]
fn heap_size_counts_the_memory_that_a_remote_can_make_us_hold() {
    let block = vec![7; 1_000];
    let message = decode_bytes("block", &block).unwrap();
    assert_eq!(message.heap_size(), 1_000);
    let headers = Message::Headers(vec![Network::Regtest.genesis(); 3]);
    assert_eq!(headers.heap_size(), 3 * size_of::<Header>());
    let addr = AddrV2Message {
        time: 0,
        services: ServiceFlags::NONE,
        addr: AddrV2::Unknown(9, vec![0; 512]),
        port: 1,
    };
    let entry = size_of::<AddrV2Message>();
    assert_eq!(Message::AddrV2(vec![addr]).heap_size(), entry + 512);
    assert_eq!(Message::Verack.heap_size(), 0);
}

proptest! {
    #![proptest_config(cases())]

    #[test]
    fn an_encoded_message_decodes_to_itself(message in any_message()) {
        let payload = payload_of(&message);
        prop_assert_eq!(payload.len(), message.payload_len());
        let longest = message.kind().map(Kind::longest);
        prop_assert!(longest.is_some_and(|longest| payload.len() <= longest));
        prop_assert_eq!(Message::decode(message.command(), payload), Ok(message));
    }

    #[test]
    fn both_ways_to_encode_write_the_same_frame(message in any_message()) {
        let mut v1 = Transport::v1(Network::Signet.magic());
        let (mut whole, mut head) = (BytesMut::new(), BytesMut::new());
        v1.frame(&message, &mut whole);
        let rest = v1.frame_packet(message.packet(), &mut head);
        prop_assert_eq!([&head[..], &rest].concat(), &whole[..]);
        prop_assert_eq!(v1.wire_bytes(message.payload_len()), whole.len());
    }

    #[test]
    fn a_payload_cut_anywhere_never_panics_and_never_grows(
        message in any_message(),
        cut in any::<proptest::sample::Index>(),
    ) {
        let payload = payload_of(&message);
        let cut = cut.index(payload.len() + 1);
        if let Ok(shorter) = Message::decode(message.command(), payload.slice(..cut)) {
            // `unknown` holds the command's text; no list entry is more than
            // eight times as large in memory as on the wire.
            prop_assert!(shorter.heap_size() <= 12 + cut * 8);
        }
    }

    #[test]
    fn random_payloads_never_panic_and_hold_little_memory(
        kind in proptest::sample::select(&Kind::ALL[..]),
        payload in proptest::collection::vec(any::<u8>(), 0..2_000),
    ) {
        if let Ok(message) = decode_bytes(kind.name(), &payload) {
            prop_assert!(message.heap_size() <= 12 + payload.len() * 8);
        }
    }
}
