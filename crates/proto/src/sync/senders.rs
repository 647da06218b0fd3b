//! The senders of blocks that are stored and not connected yet: a block may turn out to be invalid
//! only when it would be connected.

use std::collections::BTreeMap;

use bitcoin::BlockHash;

use crate::lifecycle::ConnId;

/// Blocks whose sender is remembered. Four windows.
const MOST: usize = 4_096;

/// Senders by block. When it is full, the block remembered longest is removed.
#[derive(Clone, Debug, Default)]
pub(super) struct Senders {
    by_block: BTreeMap<BlockHash, (u64, ConnId)>,
    /// The blocks in order of arrival.
    order: BTreeMap<u64, BlockHash>,
    next: u64,
}

impl Senders {
    pub(super) fn remember(&mut self, block: BlockHash, sender: ConnId) {
        self.take(&block);
        self.by_block.insert(block, (self.next, sender));
        self.order.insert(self.next, block);
        self.next += 1;
        if self.order.len() > MOST
            && let Some((_, oldest)) = self.order.pop_first()
        {
            self.by_block.remove(&oldest);
        }
    }

    /// Removes and returns the sender of this block.
    pub(super) fn take(&mut self, block: &BlockHash) -> Option<ConnId> {
        let (at, sender) = self.by_block.remove(block)?;
        self.order.remove(&at);
        Some(sender)
    }
}

#[cfg(test)]
mod tests {
    use bitcoin::hashes::Hash;

    use super::*;

    fn block(number: u32) -> BlockHash {
        let mut bytes = [0; 32];
        // Later blocks sort first.
        bytes[..4].copy_from_slice(&(u32::MAX - number).to_be_bytes());
        BlockHash::from_byte_array(bytes)
    }

    #[test]
    fn the_oldest_block_is_removed_first_and_the_memory_is_bounded() {
        let mut senders = Senders::default();
        let count = MOST as u32 + 2;
        for number in 0..count {
            senders.remember(block(number), ConnId(number.into()));
        }
        assert_eq!((senders.by_block.len(), senders.order.len()), (MOST, MOST));
        assert_eq!(senders.take(&block(0)), None);
        assert_eq!(senders.take(&block(1)), None);
        assert_eq!(senders.take(&block(2)), Some(ConnId(2)));
        assert_eq!(senders.take(&block(2)), None);
        // Another copy counts from its arrival.
        senders.remember(block(3), ConnId(9_999));
        senders.remember(block(count), ConnId(1));
        senders.remember(block(count + 1), ConnId(1));
        assert_eq!(senders.take(&block(4)), None);
        assert_eq!(senders.take(&block(3)), Some(ConnId(9_999)));
    }
}
