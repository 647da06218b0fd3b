//! Answers of simulated peers.

use bitcoin::BlockHash;
use bitcoin::block::Header;
use bitcoin::p2p::message_blockdata::Inventory;
use handfast_proto::headers::HeaderTree;
use handfast_wire::limits::MAX_HEADERS;
use handfast_wire::{Locator, Message};

use super::forged::{bad_headers, forged};
use super::{Engine, Kind, LinkId, Stranger};

impl Stranger {
    pub(super) fn serve_headers(&mut self, engine: &mut Engine, link: LinkId, locator: &Locator) {
        let after =
            |tree: &HeaderTree| tree.headers_after(&locator.hashes, &locator.stop, MAX_HEADERS);
        let headers = match self.kind {
            Kind::Behind | Kind::Rumourer => Vec::new(),
            Kind::Useless => self.beginning(engine, locator),
            Kind::NoBlocks
            | Kind::NotFound
            | Kind::Tamperer
            | Kind::Forger
            | Kind::Garbage
            | Kind::Flooder
            | Kind::Bulk => after(engine.oracle.tree()),
            Kind::Withholder
            | Kind::Denier
            | Kind::BadBlocks
            | Kind::BadToConnect
            | Kind::Poisoner => after(self.chain.as_ref().unwrap_or(engine.oracle.tree())),
            Kind::BadHeaders => bad_headers(engine),
            Kind::Mute
            | Kind::Claimer
            | Kind::Churner
            | Kind::SlowReader
            | Kind::Trickler
            | Kind::HalfCloser => return,
        };
        self.send(engine, link, &Message::Headers(headers));
    }

    /// The honest chain up to a fixed height: an answer without progress.
    fn beginning(&mut self, engine: &Engine, locator: &Locator) -> Vec<Header> {
        let tree = engine.oracle.tree();
        // A full message if possible: it looks as if there were more.
        let most = u32::try_from(MAX_HEADERS).expect("2,000");
        let height = tree.tip().height;
        let begin = if height > most { most } else { height / 2 };
        let last = *self.last_shown.get_or_insert(begin);
        let after = tree.shared_with(&locator.hashes).height + 1;
        let heights = (after..=last).map_while(|height| tree.at_height(height));
        heights.map(|entry| entry.header).collect()
    }

    pub(super) fn serve_blocks(&mut self, engine: &mut Engine, link: LinkId, items: &[Inventory]) {
        match self.kind {
            Kind::NotFound => self.send(engine, link, &Message::NotFound(items.to_vec())),
            Kind::Denier => {
                self.send(engine, link, &Message::NotFound(items.to_vec()));
                if self.denials > 0 {
                    self.denials -= 1;
                    self.announce_chain(engine, link);
                }
            }
            Kind::Tamperer
            | Kind::Forger
            | Kind::BadBlocks
            | Kind::BadToConnect
            | Kind::Poisoner
            | Kind::Flooder => {
                for item in items {
                    if let Inventory::Block(hash) | Inventory::WitnessBlock(hash) = item {
                        self.serve_block(engine, link, hash);
                    }
                }
            }
            _ => {}
        }
    }

    fn serve_block(&mut self, engine: &mut Engine, link: LinkId, hash: &BlockHash) {
        let Some(block) = engine.blocks.get(hash).cloned() else {
            return;
        };
        let lies = match self.kind {
            Kind::Tamperer | Kind::Forger => true,
            Kind::Poisoner => self.poison == Some(*hash),
            _ => false,
        };
        let block = if lies { forged(engine, &block) } else { block };
        self.send(engine, link, &Message::Block(block));
    }
}
