//! Requests that no client would send, from a seed.
//!
//! Half of them are framed as HTTP wants it and wrong inside: those can follow one another
//! on a connection, and each must get an answer. The other half break HTTP itself.

mod body;
mod http;

use handfast_proto::random::{Random, keyed};

/// One thing to do to a server.
#[derive(Clone, Debug)]
pub enum Case {
    /// A whole request with this body.
    Body {
        /// The body.
        bytes: Vec<u8>,
        /// The text of the id that must come back, where the body is sure to be understood.
        id: Option<String>,
    },
    /// Bytes for a connection of their own.
    Raw {
        /// What is sent.
        bytes: Vec<u8>,
        /// The sender waits for what comes; else it is gone at once.
        listens: bool,
    },
}

/// What cases are made of.
#[derive(Clone, Debug)]
pub struct Ingredients {
    /// Methods to call. Some would end the server or wait for ever: they are not for here.
    pub methods: Vec<String>,
    /// The line that logs in; empty where none is needed.
    pub credentials: String,
}

/// Case number `index` of `seed`: the same whatever came before it.
pub fn case(seed: u64, index: u64, ingredients: &Ingredients) -> Case {
    let mut random = Random::new(keyed(seed, *b"rpc fuzz", &index.to_le_bytes()));
    if random.below(2) == 0 {
        let (bytes, id) = body::body(&mut random, &ingredients.methods);
        return Case::Body { bytes, id };
    }
    Case::Raw {
        bytes: http::request(&mut random, ingredients),
        listens: random.below(8) > 0,
    }
}

/// One of `all`.
fn pick<'a, T: ?Sized>(random: &mut Random, all: &[&'a T]) -> &'a T {
    all[random.index(all.len())]
}

/// Changes some bytes: flips bits, cuts, repeats or inserts.
fn damage(random: &mut Random, bytes: &mut Vec<u8>) {
    for _ in 0..=random.below(3) {
        let at = random.index(bytes.len() + 1);
        match random.below(5) {
            0 => bytes.truncate(at),
            1 => bytes.insert(at, random.draw().to_le_bytes()[0]),
            2 if at < bytes.len() => bytes[at] ^= 1 << random.below(8),
            3 if at < bytes.len() => drop(bytes.remove(at)),
            _ => {
                let end = (at + random.index(64)).min(bytes.len());
                let again = bytes[at..end].to_vec();
                bytes.splice(at..at, again);
            }
        }
    }
}

fn noise(random: &mut Random, longest: u64) -> Vec<u8> {
    let length = random.below(longest);
    (0..length)
        .map(|_| random.draw().to_le_bytes()[0])
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_and_an_index_make_a_case_and_all_kinds_occur() {
        let ingredients = Ingredients {
            methods: vec!["help".into(), "getblock".into()],
            credentials: String::new(),
        };
        let (mut bodies, mut raw, mut known) = (0, 0, 0);
        for index in 0..2_000 {
            let made = case(1, index, &ingredients);
            assert_eq!(
                format!("{made:?}"),
                format!("{:?}", case(1, index, &ingredients))
            );
            match made {
                Case::Raw { .. } => raw += 1,
                Case::Body { id, .. } => {
                    bodies += 1;
                    known += usize::from(id.is_some());
                }
            }
        }
        assert!(
            bodies > 800 && raw > 800 && known > 100,
            "{bodies} {raw} {known}"
        );
    }
}
