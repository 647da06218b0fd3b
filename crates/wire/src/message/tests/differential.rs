//! Our encodings compared with those of the `bitcoin` crate.

use bitcoin::consensus::{deserialize, serialize};
use bitcoin::p2p::message::{NetworkMessage, RawNetworkMessage};
use bitcoin::p2p::message_blockdata::{GetBlocksMessage, GetHeadersMessage};
use bitcoin::p2p::message_compact_blocks::SendCmpct;
use bitcoin::p2p::message_network::VersionMessage;

use super::*;
use crate::testing::frame;

/// The same message as a type of the `bitcoin` crate.
fn theirs(message: &Message) -> NetworkMessage {
    match message.clone() {
        Message::Version(version) => NetworkMessage::Version(VersionMessage {
            version: version.version as u32,
            services: version.services,
            timestamp: version.timestamp,
            receiver: version.receiver,
            sender: version.sender.expect("generated"),
            nonce: version.nonce.expect("generated"),
            user_agent: version.user_agent,
            start_height: version.start_height.expect("generated"),
            relay: version.relay,
        }),
        Message::Verack => NetworkMessage::Verack,
        Message::Ping(nonce) => NetworkMessage::Ping(nonce),
        Message::Pong(nonce) => NetworkMessage::Pong(nonce),
        Message::SendHeaders => NetworkMessage::SendHeaders,
        Message::SendAddrV2 => NetworkMessage::SendAddrV2,
        Message::WtxidRelay => NetworkMessage::WtxidRelay,
        Message::SendCmpct(crate::SendCmpct { announce, version }) => {
            NetworkMessage::SendCmpct(SendCmpct {
                send_compact: announce,
                version,
            })
        }
        Message::FeeFilter(rate) => NetworkMessage::FeeFilter(rate as i64),
        Message::GetAddr => NetworkMessage::GetAddr,
        Message::Addr(list) => NetworkMessage::Addr(list),
        Message::AddrV2(list) => NetworkMessage::AddrV2(list),
        Message::Inv(list) => NetworkMessage::Inv(list),
        Message::GetData(list) => NetworkMessage::GetData(list),
        Message::NotFound(list) => NetworkMessage::NotFound(list),
        Message::GetHeaders(locator) => NetworkMessage::GetHeaders(GetHeadersMessage {
            version: 70_016,
            locator_hashes: locator.hashes,
            stop_hash: locator.stop,
        }),
        Message::GetBlocks(locator) => NetworkMessage::GetBlocks(GetBlocksMessage {
            version: 70_016,
            locator_hashes: locator.hashes,
            stop_hash: locator.stop,
        }),
        Message::Headers(list) => NetworkMessage::Headers(list),
        Message::Block(block) => NetworkMessage::Block(deserialize(&block.bytes).unwrap()),
        Message::Tx(bytes) => NetworkMessage::Tx(deserialize(&bytes).unwrap()),
        Message::Mempool => NetworkMessage::MemPool,
        Message::Unknown { command } => panic!("{command} is not generated"),
    }
}

/// Commands whose fields both sides read alike, so that a changed byte must be decoded
/// alike too. Not `version` (the user agent is sanitized), `feefilter` (limited to all
/// money), blocks and transactions (not decoded here).
const COMPARABLE: [&str; 11] = [
    "ping",
    "pong",
    "addr",
    "addrv2",
    "inv",
    "getdata",
    "notfound",
    "getheaders",
    "getblocks",
    "headers",
    "verack",
];

proptest! {
    #![proptest_config(cases())]

    #[test]
    fn the_bitcoin_crate_reads_what_we_write(message in any_message()) {
        let magic = Network::Regtest.magic();
        let bytes = message.encode(magic);
        let raw: RawNetworkMessage = deserialize(&bytes).unwrap();
        prop_assert_eq!(raw.payload(), &theirs(&message));
        prop_assert_eq!(raw.cmd(), message.command());
        prop_assert_eq!(raw.magic(), &magic);
    }

    #[test]
    fn we_read_what_the_bitcoin_crate_writes(message in any_message()) {
        let raw = RawNetworkMessage::new(Network::Regtest.magic(), theirs(&message));
        let payload = serialize(&raw).split_off(HEADER_BYTES);
        prop_assert_eq!(decode_bytes(message.command(), &payload), Ok(message));
    }

    #[test]
    fn a_changed_byte_that_the_bitcoin_crate_accepts_means_the_same_to_us(
        message in any_message(),
        at in any::<proptest::sample::Index>(),
        byte in any::<u8>(),
    ) {
        let mut payload = payload_of(&message).to_vec();
        prop_assume!(COMPARABLE.contains(&message.command()) && !payload.is_empty());
        let at = at.index(payload.len());
        payload[at] = byte;
        let framed = frame(message.command(), &payload);
        if let Ok(raw) = deserialize::<RawNetworkMessage>(&framed) {
            let ours = decode_bytes(message.command(), &payload).unwrap();
            let reencoded = RawNetworkMessage::new(*raw.magic(), theirs(&ours));
            // The `bitcoin` crate stores the version of a locator, we do not.
            if !message.command().starts_with("get") || at >= 4 {
                prop_assert_eq!(reencoded.payload(), raw.payload());
            }
        }
    }
}
