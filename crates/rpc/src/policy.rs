//! The constants of the engine's policy (Bitcoin Core `policy/policy.h`) that clients read:
//! the fee rates below which Bitcoin Core neither relays nor mines a transaction.
//!
//! Handfast has no mempool yet. A wallet that takes these for the floor of its fees makes
//! transactions that other nodes relay.

use bitcoin::Amount;

/// A transaction that pays less is not relayed, per 1,000 virtual bytes.
/// Core `DEFAULT_MIN_RELAY_TX_FEE`.
pub(crate) const MIN_RELAY_FEE: Amount = Amount::from_sat(100);
/// A replacement pays at least this much more, per 1,000 virtual bytes.
/// Core `DEFAULT_INCREMENTAL_RELAY_FEE`.
pub(crate) const INCREMENTAL_RELAY_FEE: Amount = Amount::from_sat(100);
/// A transaction that pays less is not mined, per 1,000 virtual bytes.
/// Core `DEFAULT_BLOCK_MIN_TX_FEE`.
pub(crate) const BLOCK_MIN_FEE: Amount = Amount::from_sat(1);
/// Weight of a template that is reserved for the header, the number of transactions and the
/// coinbase. Core `DEFAULT_BLOCK_RESERVED_WEIGHT`.
pub(crate) const RESERVED_WEIGHT: u32 = 8_000;
/// Most bytes of memory of a mempool. Core `DEFAULT_MAX_MEMPOOL_SIZE_MB`.
pub(crate) const MAX_MEMPOOL: u32 = 300_000_000;
/// Whether outputs that are a bare multisig are relayed. Core `DEFAULT_PERMIT_BAREMULTISIG`.
pub(crate) const PERMIT_BARE_MULTISIG: bool = true;
/// Most bytes of data outputs of a transaction that is relayed. Core `MAX_OP_RETURN_RELAY`.
pub(crate) const MAX_DATA_CARRIER: u32 = 100_000;
/// Most transactions that depend on each other. Core `DEFAULT_CLUSTER_LIMIT`.
pub(crate) const CLUSTER_COUNT: u32 = 64;
/// Most virtual bytes of them. Core `DEFAULT_CLUSTER_SIZE_LIMIT_KVB`.
pub(crate) const CLUSTER_SIZE: u32 = 101_000;
