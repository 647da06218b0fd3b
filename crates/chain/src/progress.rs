//! The progress of validation, as Bitcoin Core guesses it: by transactions, not by blocks.
//!
//! The engine counts the transactions of the chain, but has no call for their number. It logs
//! the number in the line of each new tip; for the tip at a start it reports only the progress
//! computed from it, from which the number can be computed back.

use std::sync::{Mutex, PoisonError};

use bitcoin::BlockHash;
use handfast_wire::Network;

use crate::clock;

/// For a younger tip the progress is by heights. Core `GuessVerificationProgress`.
const RECENT: f64 = 2.0 * 60.0 * 60.0;

/// A network's transactions at a known time. Core `ChainTxData`.
#[derive(Clone, Copy, Debug)]
struct KnownTransactions {
    /// The time at which there were `count`, Unix seconds.
    time: f64,
    count: f64,
    /// Transactions per second since then.
    rate: f64,
}

/// The numbers of the engine's version (`kernel/chainparams.cpp`).
fn known(network: &Network) -> KnownTransactions {
    let (time, count, rate) = match network {
        Network::Mainnet => (1_772_055_173.0, 1_315_805_869.0, 5.401_110_064_961_22),
        Network::Testnet3 => (1_772_051_651.0, 536_108_416.0, 0.026_914_790_162_573_17),
        Network::Testnet4 => (1_772_013_387.0, 14_191_421.0, 0.018_485_795_795_284_12),
        Network::Signet => (1_772_055_248.0, 28_676_833.0, 0.067_366_234_363_389_29),
        Network::CustomSignet { .. } => (0.0, 0.0, 0.0),
        Network::Regtest => (0.0, 0.0, 0.001),
    };
    KnownTransactions { time, count, rate }
}

/// The tip and the best header, for a guess.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TipInfo {
    /// The tip.
    pub hash: BlockHash,
    /// Its height.
    pub height: u32,
    /// Its time, Unix seconds.
    pub time: u32,
    /// The height of the best header.
    pub best_header: u32,
}

/// The engine's last report of a tip.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Reported {
    /// The transactions of the chain that ends there.
    Transactions(u64),
    /// The progress, at a time (Unix seconds).
    Share { share: f64, at: u32 },
}

/// The transactions of the chain, as far as the engine reported them. Written by the kernel
/// thread, read by any.
#[derive(Debug, Default)]
pub struct Progress {
    /// Locked only for a copy, never during a call: the engine's callbacks lock it.
    reported: Mutex<Option<(BlockHash, Reported)>>,
}

impl Progress {
    /// Sets a new tip. `transactions`: if the engine reported them.
    pub(crate) fn tip(&self, hash: BlockHash, transactions: Option<u64>, share: f64) {
        let at = clock::unix();
        let new = transactions.map_or(Reported::Share { share, at }, Reported::Transactions);
        let mut reported = self.reported.lock().unwrap_or_else(PoisonError::into_inner);
        // When the databases are opened again, the engine reports less for the same tip.
        let is_known = matches!(*reported, Some((tip, Reported::Transactions(_))) if tip == hash);
        if transactions.is_some() || !is_known {
            *reported = Some((hash, new));
        }
    }

    /// The share of the chain that is validated at the time `now` (Unix seconds), 0.0 to 1.0. Core
    /// `ChainstateManager::GuessVerificationProgress`.
    #[must_use]
    pub fn guess(&self, network: &Network, tip: &TipInfo, now: u32) -> f64 {
        let reported = *self.reported.lock().unwrap_or_else(PoisonError::into_inner);
        let transactions = count_of(network, tip, reported);
        (transactions / total(network, tip, transactions, now)).min(1.0)
    }
}

/// The transactions of the whole chain at `now`; `transactions`: those up to `tip`.
fn total(network: &Network, tip: &TipInfo, transactions: f64, now: u32) -> f64 {
    let known = known(network);
    let now_f = f64::from(now);
    if transactions <= known.count {
        return known.count + (now_f - known.time) * known.rate;
    }
    transactions + since(network, tip, now) * known.rate
}

/// Seconds from the tip to `now`, in which more transactions came.
fn since(network: &Network, tip: &TipInfo, now: u32) -> f64 {
    let age = f64::from(now) - f64::from(tip.time);
    if age.abs() <= RECENT && tip.best_header >= tip.height {
        // Block times are inexact: near the tip the missing blocks are counted instead.
        let missing = f64::from(tip.best_header - tip.height);
        return missing * f64::from(network.pow().target_spacing);
    }
    age
}

/// The transactions of the chain up to `tip`.
fn count_of(network: &Network, tip: &TipInfo, reported: Option<(BlockHash, Reported)>) -> f64 {
    // Each block has at least one.
    let least = f64::from(tip.height) + 1.0;
    match reported {
        // The engine is at most a few blocks ahead of the published tip.
        Some((_, Reported::Transactions(count))) => count as f64,
        Some((hash, Reported::Share { share, at })) if hash == tip.hash => {
            of_share(network, tip, share, at).unwrap_or_else(|| estimate(network, tip))
        }
        Some((_, Reported::Share { .. })) | None => estimate(network, tip),
    }
    .max(least)
}

/// Inverts the guess: the number of transactions for a share at the time `at`. `None`: a
/// recent tip, whose share does not determine the number.
fn of_share(network: &Network, tip: &TipInfo, share: f64, at: u32) -> Option<f64> {
    let known = known(network);
    let before = share * total(network, tip, 0.0, at);
    if before <= known.count {
        return Some(before.round());
    }
    let age = f64::from(at) - f64::from(tip.time);
    let count = share * age * known.rate / (1.0 - share);
    (age.abs() > RECENT && count.is_finite() && count > 0.0).then(|| count.round())
}

/// Estimates the transactions from the network's numbers.
fn estimate(network: &Network, tip: &TipInfo) -> f64 {
    let known = known(network);
    match known.count > 0.0 {
        true => known.count + (f64::from(tip.time) - known.time) * known.rate,
        false => 0.0,
    }
}

/// The tip and the number of transactions in the line that the engine logs for a new tip.
pub(crate) fn parse_tip_line(line: &str) -> Option<(BlockHash, u64)> {
    let field = |name: &str| {
        let (_, rest) = line.split_once(name)?;
        rest.split_whitespace().next()
    };
    let hash = field("new best=")?.parse().ok()?;
    Some((hash, field(" tx=")?.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use bitcoin::hashes::Hash;

    use super::*;

    fn tip_info(height: u32, time: u32, best_header: u32) -> TipInfo {
        TipInfo {
            hash: BlockHash::all_zeros(),
            height,
            time,
            best_header,
        }
    }

    fn guess(network: &Network, tip: &TipInfo, reported: Option<Reported>, now: u32) -> f64 {
        let progress = Progress::default();
        *progress.reported.lock().expect("no panic") =
            reported.map(|reported| (tip.hash, reported));
        progress.guess(network, tip, now)
    }

    #[test]
    fn the_progress_of_an_empty_node_and_of_an_old_chain_is_below_one() {
        let genesis = Network::Mainnet.genesis().time;
        let now = 1_800_000_000;
        let empty = guess(&Network::Mainnet, &tip_info(0, genesis, 0), None, now);
        assert!(empty < 1e-8, "{empty}");
        let regtest = tip_info(0, Network::Regtest.genesis().time, 0);
        let empty = guess(&Network::Regtest, &regtest, None, now);
        assert!(empty < 1e-5, "{empty}");
        // The chain is validated up to the best header, which is a month old.
        let old = tip_info(1_000_000, now - 2_592_000, 1_000_000);
        let reported = Reported::Transactions(1_500_000_000);
        let behind = guess(&Network::Mainnet, &old, Some(reported), now);
        assert!((0.98..0.995).contains(&behind), "{behind}");
    }

    #[test]
    fn near_the_tip_blocks_are_counted_and_not_seconds() {
        let now = 1_800_000_000;
        let reported = Some(Reported::Transactions(1_500_000_000));
        let at_tip = tip_info(1_000_000, now - 7_000, 1_000_000);
        assert_eq!(guess(&Network::Mainnet, &at_tip, reported, now), 1.0);
        let one_behind = tip_info(1_000_000, now - 7_000, 1_000_001);
        let share = guess(&Network::Mainnet, &one_behind, reported, now);
        assert!(share < 1.0 && share > 0.999_99, "{share}");
    }

    #[test]
    fn the_share_that_the_engine_reports_at_a_start_gives_the_number_of_transactions() {
        let now = 1_800_000_000;
        for (network, count, tip) in [
            (Network::Mainnet, 1_u64, tip_info(0, 1_231_006_505, 0)),
            (
                Network::Mainnet,
                987_654_321,
                tip_info(700_000, 1_650_000_000, 700_000),
            ),
            (
                Network::Mainnet,
                1_345_678_901,
                tip_info(960_000, 1_799_900_000, 960_000),
            ),
            (Network::Regtest, 1_234, tip_info(120, 1_296_688_800, 120)),
            (Network::Regtest, 777, tip_info(120, now - 10_000, 120)),
        ] {
            let exact = guess(&network, &tip, Some(Reported::Transactions(count)), now);
            let reported = Reported::Share {
                share: exact,
                at: now,
            };
            let again = count_of(&network, &tip, Some((tip.hash, reported)));
            assert_eq!(again, count as f64, "{network:?}");
            let later = guess(&network, &tip, Some(reported), now + 1_000_000);
            assert!(later < exact, "the clock advances");
        }
    }

    #[test]
    fn the_number_of_a_tip_stays_when_the_engine_reports_only_its_share_later() {
        let progress = Progress::default();
        let tip = BlockHash::all_zeros();
        let reported = || {
            progress
                .reported
                .lock()
                .expect("no panic")
                .map(|(_, reported)| reported)
        };
        progress.tip(tip, None, 0.5);
        assert!(matches!(reported(), Some(Reported::Share { .. })));
        progress.tip(tip, Some(17), 1.0);
        progress.tip(tip, None, 1.0);
        assert_eq!(reported(), Some(Reported::Transactions(17)));
        progress.tip(BlockHash::from_byte_array([1; 32]), None, 1.0);
        assert!(matches!(reported(), Some(Reported::Share { .. })));
    }

    #[test]
    fn a_share_that_does_not_determine_the_number_is_replaced_by_an_estimate() {
        let now = 1_800_000_000;
        let tip = tip_info(960_000, now - 60, 960_000);
        let reported = Some((
            tip.hash,
            Reported::Share {
                share: 1.0,
                at: now,
            },
        ));
        let count = count_of(&Network::Mainnet, &tip, reported);
        assert!((1.4e9..1.6e9).contains(&count), "{count}");
        let regtest = tip_info(7, now - 60, 7);
        assert_eq!(count_of(&Network::Regtest, &regtest, reported), 8.0);
    }

    #[test]
    fn the_number_of_transactions_is_read_from_the_line_of_a_new_tip() {
        let line = "UpdateTip: new best=0f9188f13cb7b2c71f2a335e3a4fc328bf5beb436012afca590b1a11466e2206 \
                    height=0 version=0x00000001 log2_work=1.000000 tx=17 date='2011-02-02T23:16:42Z' \
                    progress=1.000000 cache=0.3MiB(0txo)";
        let (hash, count) = parse_tip_line(line).expect("both are there");
        assert_eq!(count, 17);
        assert!(hash.to_string().starts_with("0f9188f1"));
        assert_eq!(parse_tip_line("UpdateTip: new best=00 tx=1"), None);
        assert_eq!(parse_tip_line(""), None);
    }
}
