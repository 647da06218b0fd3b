//! How far validation is, as Bitcoin Core guesses it: by transactions, not by blocks.
//!
//! The engine counts the transactions of the chain and offers no call to ask for their
//! number. It tells it in the line that it logs for each new tip; of the tip that it finds at
//! a start it tells only the share that it made of it, from which the number can be had again.

use std::sync::{Mutex, PoisonError};

use bitcoin::BlockHash;
use handfast_wire::Network;

use crate::clock;

/// A tip that is younger than this is judged by heights. Core `GuessVerificationProgress`.
const RECENT: f64 = 2.0 * 60.0 * 60.0;

/// What is known beforehand of a network's transactions. Core `ChainTxData`.
#[derive(Clone, Copy, Debug)]
struct KnownTransactions {
    /// When there were `count`, Unix seconds.
    time: f64,
    count: f64,
    /// A second, since then.
    rate: f64,
}

/// The numbers of the engine's own version (`kernel/chainparams.cpp`).
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

/// Where validation stands, for a guess.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stand {
    /// The tip.
    pub hash: BlockHash,
    /// Its height.
    pub height: u32,
    /// Its time, Unix seconds.
    pub time: u32,
    /// The height of the best header.
    pub best_header: u32,
}

/// What the engine said last of a tip.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Said {
    /// The transactions of the chain that ends there.
    Transactions(u64),
    /// The share that this was, at a time (Unix seconds).
    Share { share: f64, at: u32 },
}

/// The transactions of the chain, as far as the engine told of them. Written by its thread,
/// read by anybody.
#[derive(Debug, Default)]
pub struct Progress {
    /// Held for a copy, never while anything is called: the engine's callbacks take it.
    said: Mutex<Option<(BlockHash, Said)>>,
}

impl Progress {
    /// A new tip. `transactions`: if the engine told them.
    pub(crate) fn tip(&self, hash: BlockHash, transactions: Option<u64>, share: f64) {
        let at = clock::unix();
        let new = transactions.map_or(Said::Share { share, at }, Said::Transactions);
        let mut said = self.said.lock().unwrap_or_else(PoisonError::into_inner);
        // When the databases are opened anew the engine says less of the same tip.
        let is_known = matches!(*said, Some((tip, Said::Transactions(_))) if tip == hash);
        if transactions.is_some() || !is_known {
            *said = Some((hash, new));
        }
    }

    /// The share of the chain that is validated, 0.0 to 1.0, as the clock stands `now` (Unix
    /// seconds). Core `ChainstateManager::GuessVerificationProgress`.
    #[must_use]
    pub fn guess(&self, network: &Network, stand: &Stand, now: u32) -> f64 {
        let said = *self.said.lock().unwrap_or_else(PoisonError::into_inner);
        let transactions = count_of(network, stand, said);
        (transactions / total(network, stand, transactions, now)).min(1.0)
    }
}

/// The transactions of the whole chain by now, when that up to `stand` has so many.
fn total(network: &Network, stand: &Stand, transactions: f64, now: u32) -> f64 {
    let known = known(network);
    let now_f = f64::from(now);
    if transactions <= known.count {
        return known.count + (now_f - known.time) * known.rate;
    }
    transactions + since(network, stand, now) * known.rate
}

/// Seconds since the tip, in which more transactions came.
fn since(network: &Network, stand: &Stand, now: u32) -> f64 {
    let age = f64::from(now) - f64::from(stand.time);
    if age.abs() <= RECENT && stand.best_header >= stand.height {
        // The times of blocks are only about right: near the tip blocks are counted instead.
        let missing = f64::from(stand.best_header - stand.height);
        return missing * f64::from(network.pow().target_spacing);
    }
    age
}

/// The transactions of the chain up to `stand`.
fn count_of(network: &Network, stand: &Stand, said: Option<(BlockHash, Said)>) -> f64 {
    // Each block has one at least.
    let least = f64::from(stand.height) + 1.0;
    match said {
        // The engine is a few blocks ahead of what was published, at most.
        Some((_, Said::Transactions(count))) => count as f64,
        Some((hash, Said::Share { share, at })) if hash == stand.hash => {
            of_share(network, stand, share, at).unwrap_or_else(|| estimate(network, stand))
        }
        Some((_, Said::Share { .. })) | None => estimate(network, stand),
    }
    .max(least)
}

/// Turns the guess round: what was the number, if the share at that time was this? `None`: a
/// recent tip, of which the share says nothing.
fn of_share(network: &Network, stand: &Stand, share: f64, at: u32) -> Option<f64> {
    let known = known(network);
    let before = share * total(network, stand, 0.0, at);
    if before <= known.count {
        return Some(before.round());
    }
    let age = f64::from(at) - f64::from(stand.time);
    let count = share * age * known.rate / (1.0 - share);
    (age.abs() > RECENT && count.is_finite() && count > 0.0).then(|| count.round())
}

/// By what is known of the network.
fn estimate(network: &Network, stand: &Stand) -> f64 {
    let known = known(network);
    match known.count > 0.0 {
        true => known.count + (f64::from(stand.time) - known.time) * known.rate,
        false => 0.0,
    }
}

/// The tip and the number of transactions in the line that the engine logs for a new tip.
pub(crate) fn of_log_line(line: &str) -> Option<(BlockHash, u64)> {
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

    fn stand(height: u32, time: u32, best_header: u32) -> Stand {
        Stand {
            hash: BlockHash::all_zeros(),
            height,
            time,
            best_header,
        }
    }

    fn guess(network: &Network, stand: &Stand, said: Option<Said>, now: u32) -> f64 {
        let progress = Progress::default();
        *progress.said.lock().expect("no panic") = said.map(|said| (stand.hash, said));
        progress.guess(network, stand, now)
    }

    #[test]
    fn an_empty_node_and_an_old_chain_are_never_done() {
        let genesis = Network::Mainnet.genesis().time;
        let now = 1_800_000_000;
        let empty = guess(&Network::Mainnet, &stand(0, genesis, 0), None, now);
        assert!(empty < 1e-8, "{empty}");
        let regtest = stand(0, Network::Regtest.genesis().time, 0);
        let empty = guess(&Network::Regtest, &regtest, None, now);
        assert!(empty < 1e-5, "{empty}");
        // All headers there are, validated, a month ago.
        let old = stand(1_000_000, now - 2_592_000, 1_000_000);
        let said = Said::Transactions(1_500_000_000);
        let behind = guess(&Network::Mainnet, &old, Some(said), now);
        assert!((0.98..0.995).contains(&behind), "{behind}");
    }

    #[test]
    fn near_the_tip_blocks_are_counted_and_not_seconds() {
        let now = 1_800_000_000;
        let said = Some(Said::Transactions(1_500_000_000));
        let at_tip = stand(1_000_000, now - 7_000, 1_000_000);
        assert_eq!(guess(&Network::Mainnet, &at_tip, said, now), 1.0);
        let one_behind = stand(1_000_000, now - 7_000, 1_000_001);
        let share = guess(&Network::Mainnet, &one_behind, said, now);
        assert!(share < 1.0 && share > 0.999_99, "{share}");
    }

    #[test]
    fn what_the_engine_said_at_a_start_gives_the_number_again() {
        let now = 1_800_000_000;
        for (network, count, stand) in [
            (Network::Mainnet, 1_u64, stand(0, 1_231_006_505, 0)),
            (
                Network::Mainnet,
                987_654_321,
                stand(700_000, 1_650_000_000, 700_000),
            ),
            (
                Network::Mainnet,
                1_345_678_901,
                stand(960_000, 1_799_900_000, 960_000),
            ),
            (Network::Regtest, 1_234, stand(120, 1_296_688_800, 120)),
            (Network::Regtest, 777, stand(120, now - 10_000, 120)),
        ] {
            let exact = guess(&network, &stand, Some(Said::Transactions(count)), now);
            let said = Said::Share {
                share: exact,
                at: now,
            };
            let again = count_of(&network, &stand, Some((stand.hash, said)));
            assert_eq!(again, count as f64, "{network:?}");
            let later = guess(&network, &stand, Some(said), now + 1_000_000);
            assert!(later < exact, "the clock goes on");
        }
    }

    #[test]
    fn what_is_known_of_a_tip_is_not_forgotten_when_the_engine_says_less_of_it() {
        let progress = Progress::default();
        let tip = BlockHash::all_zeros();
        let said = || {
            progress
                .said
                .lock()
                .expect("no panic")
                .map(|(_, said)| said)
        };
        progress.tip(tip, None, 0.5);
        assert!(matches!(said(), Some(Said::Share { .. })));
        progress.tip(tip, Some(17), 1.0);
        progress.tip(tip, None, 1.0);
        assert_eq!(said(), Some(Said::Transactions(17)));
        progress.tip(BlockHash::from_byte_array([1; 32]), None, 1.0);
        assert!(matches!(said(), Some(Said::Share { .. })));
    }

    #[test]
    fn a_share_that_says_nothing_gives_way_to_an_estimate() {
        let now = 1_800_000_000;
        let tip = stand(960_000, now - 60, 960_000);
        let said = Some((
            tip.hash,
            Said::Share {
                share: 1.0,
                at: now,
            },
        ));
        let count = count_of(&Network::Mainnet, &tip, said);
        assert!((1.4e9..1.6e9).contains(&count), "{count}");
        let regtest = stand(7, now - 60, 7);
        assert_eq!(count_of(&Network::Regtest, &regtest, said), 8.0);
    }

    #[test]
    fn the_number_of_transactions_is_read_from_the_line_of_a_new_tip() {
        let line = "UpdateTip: new best=0f9188f13cb7b2c71f2a335e3a4fc328bf5beb436012afca590b1a11466e2206 \
                    height=0 version=0x00000001 log2_work=1.000000 tx=17 date='2011-02-02T23:16:42Z' \
                    progress=1.000000 cache=0.3MiB(0txo)";
        let (hash, count) = of_log_line(line).expect("both are there");
        assert_eq!(count, 17);
        assert!(hash.to_string().starts_with("0f9188f1"));
        assert_eq!(of_log_line("UpdateTip: new best=00 tx=1"), None);
        assert_eq!(of_log_line(""), None);
    }
}
