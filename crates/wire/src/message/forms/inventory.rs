//! The entries of `inv`, `getdata` and `notfound`.

use bitcoin::hashes::Hash;
use bitcoin::p2p::message_blockdata::Inventory;
use bytes::{BufMut, BytesMut};

use super::super::reader::Reader;
use super::Entry;
use crate::error::DecodeError;

/// A type and a hash.
pub(in crate::message) struct InventoryEntry;

impl Entry for InventoryEntry {
    type Value = Inventory;

    const BYTES: (usize, usize) = (36, 36);

    fn read(reader: &mut Reader<'_>) -> Result<Inventory, DecodeError> {
        let inv_type = reader.u32("type")?;
        let hash = reader.array::<32>("hash")?;
        Ok(match inv_type {
            1 => Inventory::Transaction(Hash::from_byte_array(hash)),
            2 => Inventory::Block(Hash::from_byte_array(hash)),
            4 => Inventory::CompactBlock(Hash::from_byte_array(hash)),
            5 => Inventory::WTx(Hash::from_byte_array(hash)),
            0x4000_0001 => Inventory::WitnessTransaction(Hash::from_byte_array(hash)),
            0x4000_0002 => Inventory::WitnessBlock(Hash::from_byte_array(hash)),
            _ => Inventory::Unknown { inv_type, hash },
        })
    }

    fn write(inventory: &Inventory, out: &mut BytesMut) {
        let (inv_type, hash) = match inventory {
            Inventory::Error => (0, [0; 32]),
            Inventory::Transaction(txid) => (1, txid.to_byte_array()),
            Inventory::Block(hash) => (2, hash.to_byte_array()),
            Inventory::CompactBlock(hash) => (4, hash.to_byte_array()),
            Inventory::WTx(wtxid) => (5, wtxid.to_byte_array()),
            Inventory::WitnessTransaction(txid) => (0x4000_0001, txid.to_byte_array()),
            Inventory::WitnessBlock(hash) => (0x4000_0002, hash.to_byte_array()),
            Inventory::Unknown { inv_type, hash } => (*inv_type, *hash),
        };
        out.put_u32_le(inv_type);
        out.put_slice(&hash);
    }
}
