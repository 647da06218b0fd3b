//! Tests of decoding and encoding, without frames.

mod differential;
mod limits;
mod tolerance;

use bytes::BytesMut;
use proptest::prelude::*;

use super::*;
use crate::checksum;
use crate::error::DecodeError;
use crate::testing::{any_message, cases};
use crate::{HEADER_BYTES, Network};

fn payload_of(message: &Message) -> Bytes {
    let mut payload = BytesMut::new();
    message.encode_payload(&mut payload);
    payload.freeze()
}

fn decode_bytes(command: &str, payload: &[u8]) -> Result<Message, DecodeError> {
    Message::decode(command, Bytes::copy_from_slice(payload))
}

#[test]
fn every_kind_is_found_by_its_own_name() {
    for kind in Kind::ALL {
        assert_eq!(Kind::from_name(kind.name()), Some(kind));
    }
    assert_eq!(Kind::from_name("cmpctblock"), None);
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
    let encoded = Message::Block(block).encode(Network::Mainnet.magic());
    assert_eq!(encoded.body.as_ptr(), bytes.as_ptr());
    assert_eq!(encoded.head.len(), HEADER_BYTES);
    assert_eq!(encoded.head[20..], checksum(&bytes));
}

#[test]
fn eighty_bytes_are_no_block() {
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
fn heap_size_counts_what_a_remote_can_make_us_hold() {
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
    fn what_is_encoded_decodes_to_itself(message in any_message()) {
        let payload = payload_of(&message);
        prop_assert_eq!(payload.len(), message.payload_len());
        prop_assert_eq!(Message::decode(message.command(), payload), Ok(message));
    }

    #[test]
    fn both_ways_to_encode_write_the_same_frame(message in any_message()) {
        let magic = Network::Signet.magic();
        let mut whole = BytesMut::new();
        message.encode_into(magic, &mut whole);
        let encoded = message.encode(magic);
        prop_assert_eq!(encoded.len(), whole.len());
        prop_assert_eq!(encoded.into_parts().concat(), &whole[..]);
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
