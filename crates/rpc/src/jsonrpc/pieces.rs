//! The text of an answer, in pieces: long results are neither copied nor joined.

use bytes::Bytes;

/// A longer text is a piece of its own, bytes; shorter ones are copied behind one another.
const OWN_PIECE: usize = 16 * 1024;

/// Initial capacity for a short answer, bytes, so that it does not grow by doubling.
const FIRST: usize = 256;

/// Text that grows at its end.
#[derive(Clone, Debug, Default)]
pub struct Pieces {
    done: Vec<Bytes>,
    last: String,
    length: usize,
}

impl Pieces {
    /// Adds `text`, by a copy.
    pub fn push_str(&mut self, text: &str) {
        self.length += text.len();
        if self.last.capacity() == 0 {
            self.last.reserve(FIRST);
        }
        self.last.push_str(text);
    }

    /// Adds `text`, without a copy if it is long.
    pub fn push(&mut self, text: String) {
        if text.len() < OWN_PIECE {
            return self.push_str(&text);
        }
        self.length += text.len();
        self.end_piece();
        self.done.push(text.into());
    }

    /// Bytes of all pieces.
    #[must_use]
    pub fn len(&self) -> usize {
        self.length
    }

    /// Whether there is no text.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.length == 0
    }

    /// Takes the text added so far, in order.
    pub fn take(&mut self) -> Vec<Bytes> {
        self.end_piece();
        self.length = 0;
        std::mem::take(&mut self.done)
    }

    fn end_piece(&mut self) {
        if !self.last.is_empty() {
            self.done.push(std::mem::take(&mut self.last).into());
        }
    }

    #[cfg(test)]
    pub(super) fn text(&self) -> String {
        let mut bytes = self.done.concat();
        bytes.extend_from_slice(self.last.as_bytes());
        String::from_utf8(bytes).expect("text was added")
    }
}

/// Texts are compared, not how they are cut.
impl PartialEq for Pieces {
    fn eq(&self, other: &Self) -> bool {
        let bytes = |it: &'_ Self| {
            let all = it.done.iter().flat_map(|piece| piece.iter());
            all.chain(it.last.as_bytes()).copied().collect::<Vec<_>>()
        };
        self.length == other.length && bytes(self) == bytes(other)
    }
}

impl Eq for Pieces {}

impl From<String> for Pieces {
    fn from(text: String) -> Self {
        let mut pieces = Self::default();
        pieces.push(text);
        pieces
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn short_texts_share_a_piece_and_long_ones_are_not_copied() {
        let mut pieces = Pieces::default();
        pieces.push_str("[");
        pieces.push("1".into());
        let long = "x".repeat(OWN_PIECE);
        let address = long.as_ptr();
        pieces.push(long.clone());
        assert_ne!(pieces.done.last().map(|it| it.as_ptr()), Some(address));
        let (moved, address) = {
            let long = "y".repeat(OWN_PIECE);
            let address = long.as_ptr();
            pieces.push(long);
            (pieces.done.last().map(|it| it.as_ptr()), address)
        };
        assert_eq!(moved, Some(address), "moved, not copied");
        pieces.push_str("]");
        assert_eq!(pieces.len(), 3 + 2 * OWN_PIECE);
        let taken = pieces.take();
        assert_eq!(taken.len(), 4);
        assert_eq!(taken.concat().len(), 3 + 2 * OWN_PIECE);
        assert!(pieces.is_empty() && pieces.take().is_empty());
    }
}
