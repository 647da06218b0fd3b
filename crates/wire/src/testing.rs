//! Generators and real data for the tests of this crate.

use std::net::{Ipv4Addr, Ipv6Addr};
use std::path::PathBuf;

use bitcoin::block::{Header, Version as BlockVersion};
use bitcoin::hashes::Hash;
use bitcoin::p2p::ServiceFlags;
use bitcoin::p2p::address::{AddrV2, AddrV2Message, Address};
use bitcoin::p2p::message_blockdata::Inventory;
use bitcoin::{BlockHash, CompactTarget, TxMerkleNode};
use bytes::{BufMut, Bytes, BytesMut};
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::test_runner::RngSeed;

use crate::message::{Locator, Message, RawBlock, SendCmpct, Version};
use crate::{Network, checksum, encode_head};

/// Every property test of this crate has the same cases in every run.
pub(crate) fn cases() -> ProptestConfig {
    ProptestConfig {
        cases: 512,
        rng_seed: RngSeed::Fixed(0xf9be_b4d9),
        failure_persistence: None,
        ..ProptestConfig::default()
    }
}

/// A frame of any payload, with its checksum.
pub(crate) fn frame(command: &str, payload: &[u8]) -> BytesMut {
    let magic = Network::Regtest.magic();
    let mut bytes = BytesMut::new();
    bytes.put_slice(&encode_head(
        magic,
        command,
        payload.len(),
        checksum(payload),
    ));
    bytes.put_slice(payload);
    bytes
}

/// A file of real chain data; `None`, with a message, where it is missing.
pub(crate) fn real_data(name: &str) -> Option<Vec<u8>> {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR"))
        .join("../../../shared/data")
        .join(name);
    match std::fs::read(&path) {
        Ok(bytes) => Some(bytes),
        Err(error) => {
            eprintln!("skipped: {}: {error}", path.display());
            None
        }
    }
}

/// Any message that has one encoding, so that it decodes to itself.
pub(crate) fn any_message() -> impl Strategy<Value = Message> {
    prop_oneof![
        any_version().prop_map(Message::Version),
        prop_oneof![
            Just(Message::Verack),
            Just(Message::SendHeaders),
            Just(Message::SendAddrV2),
            Just(Message::WtxidRelay),
            Just(Message::GetAddr),
            Just(Message::Mempool),
        ],
        any::<u64>().prop_map(Message::Ping),
        any::<u64>().prop_map(Message::Pong),
        (any::<bool>(), any::<u64>())
            .prop_map(|(announce, version)| Message::SendCmpct(SendCmpct { announce, version })),
        (0..=crate::limits::MAX_MONEY).prop_map(Message::FeeFilter),
        vec((any::<u32>(), any_address()), 0..300).prop_map(Message::Addr),
        vec(any_addr_v2(), 0..40).prop_map(Message::AddrV2),
        vec(any_inventory(), 0..300).prop_map(Message::Inv),
        vec(any_inventory(), 0..30).prop_map(Message::GetData),
        vec(any_inventory(), 0..30).prop_map(Message::NotFound),
        any_locator().prop_map(Message::GetHeaders),
        any_locator().prop_map(Message::GetBlocks),
        vec(any_header(), 0..300).prop_map(Message::Headers),
        any_header().prop_map(|header| Message::Block(block_of(header))),
        Just(Message::Tx(genesis_transaction())),
    ]
}

/// A block with this header and the transaction of the genesis block.
pub(crate) fn block_of(header: Header) -> RawBlock {
    let mut bytes = BytesMut::from(&bitcoin::consensus::serialize(&header)[..]);
    bytes.put_u8(1);
    bytes.put_slice(&genesis_transaction());
    RawBlock::new(bytes.freeze()).expect("a header and more")
}

fn genesis_transaction() -> Bytes {
    let genesis = Network::Regtest.genesis_block();
    bitcoin::consensus::serialize(&genesis.txdata[0]).into()
}

fn any_version() -> impl Strategy<Value = Version> {
    let first = (
        any::<i32>(),
        any::<u64>().prop_map(ServiceFlags::from),
        0..=i64::MAX,
        any_address(),
        any_address(),
    );
    let then = (
        any::<u64>(),
        "[a-zA-Z0-9 .,;_/:?@()-]{0,256}",
        any::<i32>(),
        any::<bool>(),
    );
    (first, then).prop_map(|(first, then)| Version {
        version: first.0,
        services: first.1,
        timestamp: first.2,
        receiver: first.3,
        sender: Some(first.4),
        nonce: Some(then.0),
        user_agent: then.1,
        start_height: Some(then.2),
        relay: then.3,
    })
}

fn any_address() -> impl Strategy<Value = Address> {
    (any::<u64>(), any::<[u16; 8]>(), any::<u16>()).prop_map(|(services, address, port)| Address {
        services: services.into(),
        address,
        port,
    })
}

fn any_addr_v2() -> impl Strategy<Value = AddrV2Message> {
    let addr = prop_oneof![
        any::<[u8; 4]>().prop_map(|ip| AddrV2::Ipv4(Ipv4Addr::from(ip))),
        any::<[u8; 15]>().prop_map(|ip| AddrV2::Ipv6(with_first(0x20, ip))),
        any::<[u8; 10]>().prop_map(AddrV2::TorV2),
        any::<[u8; 32]>().prop_map(AddrV2::TorV3),
        any::<[u8; 32]>().prop_map(AddrV2::I2p),
        any::<[u8; 15]>().prop_map(|ip| AddrV2::Cjdns(with_first(0xfc, ip))),
        (7..=u8::MAX, vec(any::<u8>(), 0..=512))
            .prop_map(|(network, bytes)| AddrV2::Unknown(network, bytes)),
    ];
    (any::<u32>(), any::<u64>(), addr, any::<u16>()).prop_map(|(time, services, addr, port)| {
        AddrV2Message {
            time,
            services: services.into(),
            addr,
            port,
        }
    })
}

fn with_first(first: u8, rest: [u8; 15]) -> Ipv6Addr {
    let mut ip = [first; 16];
    ip[1..].copy_from_slice(&rest);
    Ipv6Addr::from(ip)
}

fn any_inventory() -> impl Strategy<Value = Inventory> {
    const KNOWN: &[u32] = &[1, 2, 4, 5, 0x4000_0001, 0x4000_0002];
    let inv_type = prop_oneof![proptest::sample::select(KNOWN), any::<u32>()];
    (inv_type, any::<[u8; 32]>()).prop_map(|(inv_type, hash)| match inv_type {
        1 => Inventory::Transaction(Hash::from_byte_array(hash)),
        2 => Inventory::Block(Hash::from_byte_array(hash)),
        4 => Inventory::CompactBlock(Hash::from_byte_array(hash)),
        5 => Inventory::WTx(Hash::from_byte_array(hash)),
        0x4000_0001 => Inventory::WitnessTransaction(Hash::from_byte_array(hash)),
        0x4000_0002 => Inventory::WitnessBlock(Hash::from_byte_array(hash)),
        _ => Inventory::Unknown { inv_type, hash },
    })
}

fn any_locator() -> impl Strategy<Value = Locator> {
    let hash = || any::<[u8; 32]>().prop_map(BlockHash::from_byte_array);
    (vec(hash(), 0..=101), hash()).prop_map(|(hashes, stop)| Locator { hashes, stop })
}

pub(crate) fn any_header() -> impl Strategy<Value = Header> {
    let hashes = (any::<[u8; 32]>(), any::<[u8; 32]>());
    let numbers = (any::<i32>(), any::<u32>(), any::<u32>(), any::<u32>());
    (hashes, numbers).prop_map(|((prev, root), (version, time, bits, nonce))| Header {
        version: BlockVersion::from_consensus(version),
        prev_blockhash: BlockHash::from_byte_array(prev),
        merkle_root: TxMerkleNode::from_byte_array(root),
        time,
        bits: CompactTarget::from_consensus(bits),
        nonce,
    })
}
