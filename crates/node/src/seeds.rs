//! Independent seeds for the machines, derived from one.

use bitcoin::hashes::{Hash, HashEngine, sha256};

/// The source of every random choice of a node.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Seeds([u8; 32]);

impl Seeds {
    /// From the operator's seed, or from the system's randomness.
    pub(crate) fn new(fixed: Option<u64>) -> Self {
        Self(match fixed {
            Some(seed) => sha256::Hash::hash(&seed.to_le_bytes()).to_byte_array(),
            None => rand::random(),
        })
    }

    fn derive(&self, what: &str) -> [u8; 32] {
        let mut engine = sha256::Hash::engine();
        engine.input(&self.0);
        engine.input(what.as_bytes());
        sha256::Hash::from_engine(engine).to_byte_array()
    }

    /// The seed of the machine `what`.
    pub(crate) fn of(&self, what: &str) -> u64 {
        u64::from_le_bytes(*self.derive(what).first_chunk().expect("32 bytes hold 8"))
    }

    /// The key `what`.
    pub(crate) fn key(&self, what: &str) -> [u8; 16] {
        *self.derive(what).first_chunk().expect("32 bytes hold 16")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fixed_seed_gives_the_same_choices_and_each_machine_its_own() {
        let (one, same) = (Seeds::new(Some(7)), Seeds::new(Some(7)));
        assert_eq!(one.of("sync"), same.of("sync"));
        assert_ne!(one.of("sync"), one.of("peers"));
        assert_ne!(one.of("sync"), Seeds::new(Some(8)).of("sync"));
        assert_ne!(Seeds::new(None).key("nonce"), Seeds::new(None).key("nonce"));
    }
}
