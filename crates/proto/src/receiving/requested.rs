//! Answers that a peer may send to our requests.

use bitcoin::p2p::message_blockdata::Inventory;
use handfast_wire::{Kind, Message};

/// Most outstanding block requests of one peer that are remembered. Sync requests 16 at a time.
const MAX_BLOCKS: usize = 128;
/// Most outstanding `getheaders` of one peer that are remembered.
const MAX_HEADERS: usize = 16;

/// Whether a large frame of this command can be an answer.
#[must_use]
pub fn answers_large(kind: Kind) -> bool {
    matches!(
        kind,
        Kind::Block | Kind::Headers | Kind::Addr | Kind::AddrV2
    )
}

/// Outstanding requests to one peer: counted, not matched. Whether an answer is the right one is
/// decided by the part that requested it; here it only decides how it is read.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Requested {
    blocks: usize,
    headers: usize,
    addresses: bool,
}

impl Requested {
    /// The message is about to be sent to the peer.
    pub fn sent(&mut self, message: &Message) {
        match message {
            Message::GetData(items) => {
                let blocks = items.iter().filter(|item| is_block(item)).count();
                self.blocks = (self.blocks + blocks).min(MAX_BLOCKS);
            }
            Message::GetHeaders(_) => self.headers = (self.headers + 1).min(MAX_HEADERS),
            Message::GetAddr => self.addresses = true,
            _ => {}
        }
    }

    /// Whether a frame of this command would be an answer.
    #[must_use]
    pub fn expects(&self, kind: Kind) -> bool {
        match kind {
            Kind::Block | Kind::NotFound => self.blocks > 0,
            Kind::Headers => self.headers > 0,
            Kind::Addr | Kind::AddrV2 => self.addresses,
            _ => false,
        }
    }

    /// The peer sent this message. Returns whether it was an answer.
    pub fn received(&mut self, message: &Message) -> bool {
        let Some(kind) = message.kind().filter(|kind| self.expects(*kind)) else {
            return false;
        };
        match message {
            Message::NotFound(items) => {
                let answer = items.len() <= self.blocks;
                self.blocks -= items.len().min(self.blocks);
                return answer;
            }
            _ if kind == Kind::Block => self.blocks -= 1,
            _ if kind == Kind::Headers => self.headers -= 1,
            // Several messages may be needed for a full answer; messages with few addresses are
            // gossip, of which no peer sends much.
            Message::Addr(list) => self.addresses = list.len() < FEW_ADDRESSES,
            Message::AddrV2(list) => self.addresses = list.len() < FEW_ADDRESSES,
            _ => {}
        }
        true
    }
}

impl Requested {
    /// The peer sent a malformed frame of this command. It counts as an answer: otherwise a peer
    /// with one request could send such frames without end.
    pub fn malformed(&mut self, kind: Kind) {
        match kind {
            Kind::Block => self.blocks = self.blocks.saturating_sub(1),
            Kind::Headers => self.headers = self.headers.saturating_sub(1),
            Kind::Addr | Kind::AddrV2 => self.addresses = false,
            _ => {}
        }
    }
}

/// Most addresses that a node relays at a time. Core `ADDR_RELAY`: ten and less.
const FEW_ADDRESSES: usize = 11;

fn is_block(item: &Inventory) -> bool {
    matches!(
        item,
        Inventory::Block(_) | Inventory::WitnessBlock(_) | Inventory::CompactBlock(_)
    )
}

#[cfg(test)]
mod tests {
    use bitcoin::BlockHash;
    use bitcoin::hashes::Hash;
    use handfast_wire::{Network, RawBlock};

    use super::*;

    fn block() -> Message {
        let genesis = bitcoin::consensus::serialize(&Network::Regtest.genesis_block());
        Message::Block(RawBlock::new(genesis.into()).expect("a block"))
    }

    fn items(count: u8) -> Vec<Inventory> {
        let hash = |at| BlockHash::from_byte_array([at; 32]);
        (0..count)
            .map(|at| Inventory::WitnessBlock(hash(at)))
            .collect()
    }

    #[test]
    fn as_many_blocks_are_answers_as_were_requested() {
        let mut requested = Requested::default();
        assert!(!requested.received(&block()));
        requested.sent(&Message::GetData(items(3)));
        assert!(requested.expects(Kind::Block) && !requested.expects(Kind::Headers));
        assert!(requested.received(&block()));
        assert!(requested.received(&Message::NotFound(items(1))));
        assert!(requested.received(&block()));
        assert!(!requested.received(&block()));
    }

    #[test]
    fn a_malformed_answer_is_not_expected_again() {
        let mut requested = Requested::default();
        requested.sent(&Message::GetData(items(2)));
        requested.malformed(Kind::Block);
        assert!(requested.received(&block()));
        assert!(!requested.expects(Kind::Block));
        requested.malformed(Kind::Block);
        requested.sent(&Message::GetAddr);
        requested.malformed(Kind::AddrV2);
        assert_eq!(requested, Requested::default());
    }

    #[test]
    fn a_notfound_of_more_than_was_requested_is_no_answer_and_ends_the_wait() {
        let mut requested = Requested::default();
        requested.sent(&Message::GetData(items(3)));
        assert!(!requested.received(&Message::NotFound(items(4))));
        assert!(!requested.expects(Kind::Block));
    }

    #[test]
    fn a_peer_that_never_answers_does_not_accumulate_requests_without_end() {
        let mut requested = Requested::default();
        for _ in 0..1_000 {
            requested.sent(&Message::GetData(items(16)));
        }
        let answers = (0..10_000).filter(|_| requested.received(&block())).count();
        assert_eq!(answers, MAX_BLOCKS);
    }

    #[test]
    fn headers_are_an_answer_once_for_each_getheaders() {
        let mut requested = Requested::default();
        let locator = handfast_wire::Locator {
            hashes: Vec::new(),
            stop: BlockHash::all_zeros(),
        };
        requested.sent(&Message::GetHeaders(locator));
        assert!(requested.received(&Message::Headers(Vec::new())));
        assert!(!requested.received(&Message::Headers(Vec::new())));
    }
}
