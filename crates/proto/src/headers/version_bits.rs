//! The state of a softfork that blocks signal for with a bit of their version (BIP9).
//!
//! Only shown: the kernel decides which rules it enforces.

use bitcoin::BlockHash;
use handfast_wire::network::VersionBits;

use super::entry::Entry;
use super::tree::HeaderTree;

/// The first three bits of a version that signals (BIP9).
pub(crate) const TOP_BITS: u32 = 0x2000_0000;
const TOP_MASK: u32 = 0xe000_0000;

/// The state of a deployment. Core `ThresholdState`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum DeploymentStatus {
    /// The bit has no meaning yet.
    Defined,
    /// Blocks may signal.
    Started,
    /// Enough blocks signalled; enforced after one more period, or later.
    LockedIn,
    /// Enforced.
    Active,
    /// The timeout passed.
    Failed,
}

impl DeploymentStatus {
    /// The word that `getdeploymentinfo` answers.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Defined => "defined",
            Self::Started => "started",
            Self::LockedIn => "locked_in",
            Self::Active => "active",
            Self::Failed => "failed",
        }
    }
}

/// A deployment as of one block.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeploymentState {
    /// The status for this block.
    pub status: DeploymentStatus,
    /// The first block with that status.
    pub since: u32,
    /// The status for the next block.
    pub next: DeploymentStatus,
    /// The first block for which it is enforced, once that is certain.
    pub active_since: Option<u32>,
    /// Whether each block of this period up to this one signalled, oldest first. Empty unless
    /// signals count or are watched (started, locked in).
    pub signals: Vec<bool>,
}

fn signals(entry: &Entry, rules: &VersionBits) -> bool {
    let version = entry.header.version.to_consensus().cast_unsigned();
    version & TOP_MASK == TOP_BITS && version >> rules.bit & 1 == 1
}

impl HeaderTree {
    /// The state of a deployment at `block`; `None` for an unknown one. Scans every header of the
    /// periods in which blocks could signal.
    pub fn deployment_state(
        &self,
        block: &BlockHash,
        rules: &VersionBits,
    ) -> Option<DeploymentState> {
        let height = self.get(block)?.height;
        let period = rules.period;
        // By period. The status changes between the last block of one and the first of the next.
        let mut by_period = vec![DeploymentStatus::Defined];
        for number in 1..=(height + 1) / period {
            let last = self.ancestor(block, number * period - 1)?;
            let before = by_period[by_period.len() - 1];
            by_period.push(self.after_period(before, &last, rules)?);
        }
        let at = |height: u32| by_period[(height / period) as usize];
        let (status, next) = (at(height), at(height + 1));
        let run = by_period[..=(height / period) as usize]
            .iter()
            .rev()
            .take_while(|other| **other == status);
        let since = (height / period + 1 - run.count() as u32) * period;
        let active_since = match (status, next) {
            (DeploymentStatus::Active, _) => Some(since),
            (_, DeploymentStatus::Active) => Some(height + 1),
            (_, _) => None,
        };
        let signals = match status {
            DeploymentStatus::Started | DeploymentStatus::LockedIn => {
                let elapsed = height % period + 1;
                let blocks = self.branch(block, height + 1 - elapsed, elapsed as usize);
                blocks.iter().map(|entry| signals(entry, rules)).collect()
            }
            DeploymentStatus::Defined | DeploymentStatus::Active | DeploymentStatus::Failed => {
                Vec::new()
            }
        };
        Some(DeploymentState {
            status,
            since,
            next,
            active_since,
            signals,
        })
    }

    /// The status after the period that ends with `last` and had the status `before`.
    fn after_period(
        &self,
        before: DeploymentStatus,
        last: &Entry,
        rules: &VersionBits,
    ) -> Option<DeploymentStatus> {
        let median = i64::from(self.median_time_past(&last.hash)?);
        let signalled = || {
            let first = last.height + 1 - rules.period;
            let blocks = self.branch(&last.hash, first, rules.period as usize);
            blocks.iter().filter(|entry| signals(entry, rules)).count()
        };
        Some(match before {
            DeploymentStatus::Defined if median >= rules.start_time => DeploymentStatus::Started,
            DeploymentStatus::Started if signalled() >= rules.threshold as usize => {
                DeploymentStatus::LockedIn
            }
            DeploymentStatus::Started if median >= rules.timeout => DeploymentStatus::Failed,
            DeploymentStatus::LockedIn if last.height + 1 >= rules.min_activation_height => {
                DeploymentStatus::Active
            }
            unchanged => unchanged,
        })
    }
}

#[cfg(test)]
mod tests {
    use bitcoin::block::{Header, Version};
    use handfast_wire::Network;

    use super::*;

    const RULES: VersionBits = VersionBits {
        name: "trial",
        bit: 3,
        start_time: 0,
        timeout: i64::MAX,
        min_activation_height: 0,
        threshold: 3,
        period: 4,
    };

    /// A chain whose blocks signal where `signals` says so, one a minute.
    fn chain(signals: &[bool]) -> HeaderTree {
        let mut last = Network::Regtest.genesis();
        let mut tree = HeaderTree::new(last);
        for signals in signals {
            let version = TOP_BITS | u32::from(*signals) << RULES.bit;
            last = Header {
                version: Version::from_consensus(version.cast_signed()),
                prev_blockhash: last.block_hash(),
                time: last.time + 60,
                ..last
            };
            tree.insert(last).expect("it builds on the one before");
        }
        tree
    }

    fn state(tree: &HeaderTree, height: u32, rules: &VersionBits) -> DeploymentState {
        let best = tree.best_header().hash;
        let block = tree.ancestor(&best, height).expect("so high").hash;
        tree.deployment_state(&block, rules).expect("it is known")
    }

    #[test]
    fn three_signals_of_four_lock_it_in_and_one_period_later_it_is_active() {
        use DeploymentStatus::{Active, Defined, LockedIn, Started};
        // Heights 1 to 3, then the periods 4..8, 8..12, 12..16, 16..20.
        let (yes, no) = (true, false);
        let signals = [
            no, no, no, yes, yes, no, no, yes, yes, no, yes, no, no, no, no, yes,
        ];
        let tree = chain(&signals);
        for (height, status, since, next, active_since) in [
            (0, Defined, 0, Defined, None),
            (2, Defined, 0, Defined, None),
            (3, Defined, 0, Started, None),
            (4, Started, 4, Started, None),
            (7, Started, 4, Started, None),
            (10, Started, 4, Started, None),
            (11, Started, 4, LockedIn, None),
            (12, LockedIn, 12, LockedIn, None),
            (15, LockedIn, 12, Active, Some(16)),
            (16, Active, 16, Active, Some(16)),
        ] {
            let found = state(&tree, height, &RULES);
            let facts = (found.status, found.since, found.next, found.active_since);
            assert_eq!(facts, (status, since, next, active_since), "at {height}");
        }
        assert_eq!(state(&tree, 9, &RULES).signals, [yes, yes]);
        assert!(state(&tree, 16, &RULES).signals.is_empty());
    }

    #[test]
    fn it_fails_when_time_runs_out_and_waits_for_its_height_when_locked_in() {
        let genesis = i64::from(Network::Regtest.genesis().time);
        let tree = chain(&[false; 12]);
        let short = VersionBits {
            timeout: genesis + 300,
            ..RULES
        };
        assert_eq!(
            state(&tree, 8, &short).status,
            DeploymentStatus::Started,
            "the median of the times is what counts"
        );
        assert_eq!(state(&tree, 12, &short).status, DeploymentStatus::Failed);
        let late = VersionBits {
            start_time: genesis + 100_000,
            ..RULES
        };
        assert_eq!(state(&tree, 12, &late).status, DeploymentStatus::Defined);

        let tree = chain(&[true; 24]);
        let high = VersionBits {
            min_activation_height: 20,
            ..RULES
        };
        assert_eq!(state(&tree, 19, &high).status, DeploymentStatus::LockedIn);
        assert_eq!(state(&tree, 20, &high).status, DeploymentStatus::Active);
        assert_eq!(state(&tree, 20, &high).since, 20);
    }

    #[test]
    fn a_version_of_another_kind_does_not_signal() {
        let tree = chain(&[true; 8]);
        let best = tree.best_header();
        let mut other = best.header;
        other.version = Version::from_consensus(0x4000_0008);
        let entry = Entry {
            header: other,
            ..best
        };
        assert!(signals(&best, &RULES) && !signals(&entry, &RULES));
    }
}
