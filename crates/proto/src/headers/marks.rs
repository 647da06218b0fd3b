//! The status of every record, two bits each.

use imbl::Vector;

use super::entry::{Slot, Status};

/// Statuses in one word.
const PER_WORD: usize = 32;

/// Statuses by slot. Packed not for the memory: a block's status changes after
/// every snapshot, and the change copies one chunk (64 words) on each level of
/// the vector. So 2,048 statuses share a chunk and mainnet's need two levels.
#[derive(Clone, Default)]
pub(super) struct Marks {
    words: Vector<u64>,
    len: usize,
}

impl Marks {
    pub(super) fn push(&mut self, status: Status) {
        if self.len.is_multiple_of(PER_WORD) {
            self.words.push_back(0);
        }
        self.len += 1;
        self.set((self.len - 1) as Slot, status);
    }

    pub(super) fn get(&self, slot: Slot) -> Status {
        let (word, shift) = place(slot);
        match self.words[word] >> shift & 3 {
            0 => Status::Header,
            1 => Status::Stored,
            2 => Status::Connected,
            _ => Status::Invalid,
        }
    }

    pub(super) fn set(&mut self, slot: Slot, status: Status) {
        debug_assert!((slot as usize) < self.len);
        let bits: u64 = match status {
            Status::Header => 0,
            Status::Stored => 1,
            Status::Connected => 2,
            Status::Invalid => 3,
        };
        let (word, shift) = place(slot);
        let old = self.words[word];
        let new = old & !(3 << shift) | bits << shift;
        if new != old {
            self.words.set(word, new);
        }
    }
}

fn place(slot: Slot) -> (usize, usize) {
    (slot as usize / PER_WORD, slot as usize % PER_WORD * 2)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn setting_one_status_changes_no_other() {
        let all = [
            Status::Header,
            Status::Stored,
            Status::Connected,
            Status::Invalid,
        ];
        let mut marks = Marks::default();
        let mut plain = Vec::new();
        for at in 0..200usize {
            marks.push(all[at % 3]);
            plain.push(all[at % 3]);
        }
        let before = marks.clone();
        for at in (0..200usize).step_by(7) {
            marks.set(at as Slot, all[at % 4]);
            plain[at] = all[at % 4];
        }
        for (at, status) in plain.iter().enumerate() {
            assert_eq!(marks.get(at as Slot), *status);
            assert_eq!(
                before.get(at as Slot),
                all[at % 3],
                "a clone stays as it was"
            );
        }
    }
}
