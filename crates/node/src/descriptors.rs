//! Open files: the limit of the process, and one descriptor in reserve.

use std::cell::RefCell;
use std::fs::File;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use crate::config::NodeConfig;
use crate::slots::LEAVING;

/// For the kernel's databases and block files, event loops, logs and files being saved. Core
/// reserves 150 (`MIN_LEVELDB_FDS`) for the databases.
const OURS: u64 = 250;
/// For an index: 64 tables, journals, and files being written.
const INDEX: u64 = 100;
/// Handshake permits that are left as long as possible.
const LEAST_HANDSHAKES: usize = 16;
/// Descriptors left to other users in the process (see [`NodeConfig::other_descriptors`]), whatever
/// the limit is.
const LEAST_OTHERS: u64 = 128;

/// The limit on open files, and what the configuration needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct OpenFiles {
    /// Descriptors that the configuration may need.
    pub(crate) needed: u64,
    /// The limit.
    pub(crate) limit: u64,
}

impl OpenFiles {
    pub(crate) fn suffice(&self) -> bool {
        self.limit >= self.needed
    }
}

/// Descriptors that the node itself may need at the same time.
fn for_the_node(config: &NodeConfig) -> u64 {
    let inbound = config.max_inbound + config.max_handshakes + LEAVING;
    let named = config.connect.len() + config.add_nodes.len();
    let sockets = inbound + config.max_outbound + named + config.listen.len();
    let indexes = INDEX * u64::try_from(config.indexes.len()).unwrap_or(0);
    OURS + indexes + u64::try_from(sockets).unwrap_or(u64::MAX / 2)
}

/// The same, and the least that other users in the process have.
fn needed(config: &NodeConfig) -> u64 {
    for_the_node(config).saturating_add(config.other_descriptors.min(LEAST_OTHERS))
}

/// Descriptors for other users in the process after [`fit`]: as long as these use no more, peers
/// and files have theirs.
pub(crate) fn for_others(config: &NodeConfig, files: OpenFiles) -> u64 {
    let least = config.other_descriptors.min(LEAST_OTHERS);
    let left = files.limit.saturating_sub(for_the_node(config));
    left.clamp(least, config.other_descriptors)
}

/// Raises the soft limit to what the configuration and the other users in the process need, as far
/// as the hard limit allows. Core `RaiseFileDescriptorLimit`.
pub(crate) fn raise(config: &NodeConfig) -> OpenFiles {
    let needed = needed(config);
    let wanted = for_the_node(config).saturating_add(config.other_descriptors);
    let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
    let Some(current) = current else {
        return OpenFiles {
            needed,
            limit: u64::MAX,
        };
    };
    let target = wanted.min(maximum.unwrap_or(u64::MAX));
    let raised = current < target
        && setrlimit(
            Resource::Nofile,
            Rlimit {
                current: Some(target),
                maximum,
            },
        )
        .is_ok();
    OpenFiles {
        needed,
        limit: if raised { target } else { current },
    }
}

/// Reduces the configuration to the descriptors there are: first handshake permits, then inbound
/// slots. A kernel that cannot open a file ends the node; a refused caller can connect again.
pub(crate) fn fit(config: &mut NodeConfig, files: OpenFiles) {
    let lacking = files.needed.saturating_sub(files.limit);
    let lacking = usize::try_from(lacking).unwrap_or(usize::MAX);
    let spare = config.max_handshakes.saturating_sub(LEAST_HANDSHAKES);
    let of_handshakes = spare.min(lacking);
    config.max_handshakes -= of_handshakes;
    config.max_inbound = config.max_inbound.saturating_sub(lacking - of_handshakes);
}

/// A descriptor held in reserve for when the process has none left.
///
/// Out of descriptors, `accept` fails and the connection stays in the queue: its remote sees a
/// connection and gets no answer. With the reserve released, the connection can be accepted and
/// closed, which is an answer.
#[derive(Debug)]
pub(crate) struct Reserve(RefCell<Option<File>>);

impl Reserve {
    /// A filled reserve, if the system has a descriptor for it.
    pub(crate) fn new() -> Self {
        let reserve = Self(RefCell::default());
        reserve.fill();
        reserve
    }

    /// Releases the descriptor, for the caller to use at once.
    pub(crate) fn release(&self) {
        self.0.replace(None);
    }

    /// Takes a descriptor again, if none is held and the system has one.
    pub(crate) fn fill(&self) {
        let mut kept = self.0.borrow_mut();
        if kept.is_none() {
            *kept = File::open("/dev/null").ok();
        }
    }
}

#[cfg(test)]
mod tests {
    use handfast_wire::Network;

    use super::*;

    fn config(max_inbound: usize, max_handshakes: usize) -> NodeConfig {
        let mut config = NodeConfig::new(Network::Regtest, "/nowhere".into());
        config.max_inbound = max_inbound;
        config.max_handshakes = max_handshakes;
        config
    }

    fn fitted(lacking: u64) -> (usize, usize) {
        let mut config = config(115, 512);
        let needed = needed(&config);
        let limit = needed.saturating_sub(lacking);
        fit(&mut config, OpenFiles { needed, limit });
        (config.max_handshakes, config.max_inbound)
    }

    #[test]
    fn every_connection_that_may_exist_has_its_descriptor() {
        let base = needed(&config(0, 0));
        assert!(base > OURS + LEAVING as u64);
        assert_eq!(needed(&config(100_000, 512)), base + 100_512);
    }

    #[test]
    fn handshake_permits_are_reduced_first_and_then_inbound_slots() {
        assert_eq!(fitted(0), (512, 115));
        assert_eq!(fitted(1), (511, 115));
        assert_eq!(fitted(496), (LEAST_HANDSHAKES, 115));
        assert_eq!(fitted(500), (LEAST_HANDSHAKES, 111));
        assert_eq!(fitted(u64::MAX), (LEAST_HANDSHAKES, 0));
    }

    #[test]
    fn other_users_get_the_descriptors_that_the_node_leaves_and_a_few_in_any_case() {
        let mut config = config(115, 512);
        config.other_descriptors = 12_288;
        let node = for_the_node(&config);
        for (limit, others) in [
            (node + 20_000, 12_288),
            (node + 12_288, 12_288),
            (node + 5_000, 5_000),
            (node + 128, 128),
            (node, 128),
            (0, 128),
        ] {
            let needed = needed(&config);
            let files = OpenFiles { needed, limit };
            let mut fitted = config.clone();
            fit(&mut fitted, files);
            assert_eq!(for_others(&fitted, files), others, "{limit}");
            if limit >= node {
                assert!(for_the_node(&fitted) + others <= limit, "{limit}");
            }
        }
        config.other_descriptors = 5;
        let needed = needed(&config);
        assert_eq!(for_others(&config, OpenFiles { needed, limit: 0 }), 5);
    }

    #[test]
    fn a_sufficient_limit_is_not_changed() {
        let before = getrlimit(Resource::Nofile);
        let files = raise(&config(0, 0));
        assert!(files.suffice(), "{files:?}");
        assert_eq!(getrlimit(Resource::Nofile), before);
    }
}
