//! Messages that no node would send.

use std::net::SocketAddr;

use bitcoin::block::Header;
use bitcoin::p2p::ServiceFlags;
use bitcoin::p2p::address::Address;
use bytes::{Bytes, BytesMut};
use handfast_proto::session::full_node;
use handfast_proto::testing::{self, Data};
use handfast_wire::{Message, RawBlock, Version};

use crate::sim::engine::{Engine, NETWORK};

pub(super) fn version(engine: &mut Engine) -> Version {
    let unspecified = SocketAddr::from(([0, 0, 0, 0], 0));
    Version {
        version: 70_016,
        services: full_node(),
        timestamp: i64::from(crate::sim::node::EPOCH),
        receiver: Address::new(&unspecified, ServiceFlags::NONE),
        sender: Some(Address::new(&unspecified, ServiceFlags::NONE)),
        nonce: Some(engine.random.draw()),
        user_agent: "/stranger/".into(),
        start_height: Some(1_000_000),
        relay: false,
    }
}

/// Headers that break a rule.
pub(super) fn bad_headers(engine: &mut Engine) -> Vec<Header> {
    let tip = engine.oracle.tree().tip().header;
    let (a, b) = (engine.random.draw(), engine.random.draw());
    let good = testing::mine(&tip, tip.time + 1, a);
    match engine.random.below(5) {
        // They do not connect to each other.
        0 => vec![good, testing::mine(&tip, tip.time + 2, b)],
        // Without proof of work.
        1 => {
            let mut bad = good;
            while bad.target().is_met_by(bad.block_hash()) {
                bad.nonce = bad.nonce.wrapping_add(1);
            }
            vec![bad]
        }
        // With other bits than the chain requires, or too old, with proof of work for that.
        2 => vec![testing::mine_at(&tip, tip.time + 1, a, testing::EASY - 1)],
        3 => vec![testing::mine(&tip, tip.time - 7_200, a)],
        // Their parents are unknown.
        _ => vec![testing::mine(&good, tip.time + 2, b)],
    }
}

/// Bytes that are no frame, or a malformed one.
pub(super) fn garbage(engine: &mut Engine) -> Bytes {
    let mut bytes = BytesMut::new();
    Message::Ping(engine.random.draw()).encode_into(NETWORK.magic(), &mut bytes);
    match engine.random.below(4) {
        // A wrong magic.
        0 => bytes[0] ^= 0x55,
        // A length beyond all bounds.
        1 => bytes[16..20].copy_from_slice(&u32::MAX.to_le_bytes()),
        // A wrong checksum.
        2 => bytes[20] ^= 0xff,
        // Random bytes.
        _ => {
            for byte in bytes.iter_mut() {
                *byte = engine.random.draw().to_le_bytes()[0];
            }
        }
    }
    bytes.freeze()
}

/// The header of a block with data that it does not commit to.
pub(super) fn forged(engine: &mut Engine, block: &RawBlock) -> RawBlock {
    let data = if engine.chance(500) {
        Data::Mutated
    } else {
        Data::BadBeforeMerkleRoot
    };
    testing::forge(block, data)
}
