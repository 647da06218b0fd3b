//! Numbers of the protocol that are no limits.

/// The protocol version that we speak: everything up to BIP155 and BIP339. Core
/// `PROTOCOL_VERSION`.
pub const PROTOCOL_VERSION: i32 = 70_016;
/// Versions above this answer `ping` with `pong` (BIP31). Core `BIP0031_VERSION`.
pub const PONG_ABOVE_VERSION: i32 = 60_000;
/// How the script of an output begins that commits to the witnesses of a block (BIP141):
/// `OP_RETURN`, a push of 36 bytes, and the four bytes of the commitment, behind which its hash
/// follows.
pub const WITNESS_COMMITMENT: [u8; 6] = [0x6a, 0x24, 0xaa, 0x21, 0xa9, 0xed];
