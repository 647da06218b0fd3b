//! What `getblockstats` counts.

use bitcoin::consensus::encode::VarInt;
use bitcoin::{Block, Script, Transaction, TxOut};
use handfast_node::{Entry, Network, SpentOutput};
use serde_json::{Map, Value};

use super::script::MAX_SCRIPT_SIZE;

/// Bytes that an unspent output takes in a set of them besides itself: its outpoint, and
/// its height with the coinbase mark. Core `PER_UTXO_OVERHEAD`.
const UNSPENT_OVERHEAD: i64 = 36 + 4;
/// Weight units of a virtual byte. Core `WITNESS_SCALE_FACTOR`.
const WEIGHT_PER_VBYTE: i64 = 4;
/// The blocks whose coinbase repeats an older one and replaced it (BIP30).
const REPEATED_COINBASE: [(u32, &str); 2] = [
    (
        91_842,
        "00000000000a4d0a398161ffc163c503763b1f4360639393e0e4c8e300e0caec",
    ),
    (
        91_880,
        "00000000000743f190a18c5577a3c2d2a1f610ae9601ac046a38084ccb7cd721",
    ),
];

/// One number per transaction but the coinbase.
#[derive(Default)]
struct Series(Vec<i64>);

impl Series {
    fn sum(&self) -> i64 {
        self.0.iter().sum()
    }

    fn least(&self) -> i64 {
        self.0.iter().copied().min().unwrap_or(0)
    }

    fn most(&self) -> i64 {
        self.0.iter().copied().max().unwrap_or(0)
    }

    fn mean(&self) -> i64 {
        self.sum() / (self.0.len() as i64).max(1)
    }

    /// Of an even number the mean of the middle two, cut off.
    fn median(&self) -> i64 {
        let mut sorted = self.0.clone();
        sorted.sort_unstable();
        let middle = sorted.len() / 2;
        match sorted.len() {
            0 => 0,
            even if even % 2 == 0 => (sorted[middle - 1] + sorted[middle]) / 2,
            _ => sorted[middle],
        }
    }
}

/// What the block does to the set of unspent outputs.
#[derive(Default)]
struct Unspent {
    /// Bytes, all outputs.
    size: i64,
    /// Outputs that can be spent.
    spendable: i64,
    /// Bytes, outputs that can be spent.
    spendable_size: i64,
}

impl Unspent {
    fn make(&mut self, output: &TxOut, lost: bool) {
        let size = unspent_size(output);
        self.size += size;
        if !lost && !is_unspendable(&output.script_pubkey) {
            self.spendable += 1;
            self.spendable_size += size;
        }
    }

    fn spend(&mut self, output: &TxOut) {
        let size = unspent_size(output);
        self.size -= size;
        self.spendable_size -= size;
    }
}

fn unspent_size(output: &TxOut) -> i64 {
    let script = output.script_pubkey.len();
    (8 + VarInt::from(script).size() + script) as i64 + UNSPENT_OVERHEAD
}

fn is_unspendable(script: &Script) -> bool {
    script.is_op_return() || script.len() > MAX_SCRIPT_SIZE
}

fn worth<'a>(outputs: impl IntoIterator<Item = &'a TxOut>) -> i64 {
    let satoshis = outputs.into_iter().map(|output| output.value.to_sat());
    i64::try_from(satoshis.sum::<u64>()).expect("a valid block moves at most 21 million bitcoin")
}

/// The statistics of a block that was connected, in Core's order. `spent`: per transaction
/// but the coinbase, per input; `None` when it does not fit the block.
pub(crate) fn block_stats(
    entry: &Entry,
    median_time: u32,
    block: &Block,
    spent: &[Vec<SpentOutput>],
    network: &Network,
) -> Option<Map<String, Value>> {
    let hash = entry.hash.to_string();
    let repeats = REPEATED_COINBASE.contains(&(entry.height, hash.as_str()));
    let (coinbase, others) = block.txdata.split_first()?;
    if spent.len() != others.len() {
        return None;
    }
    let mut unspent = Unspent::default();
    for output in &coinbase.output {
        unspent.make(output, entry.height == 0 || repeats);
    }
    let (mut fees, mut rates, mut sizes) = <(Series, Series, Series)>::default();
    let (mut weights, mut total_out, mut ins) = (Series::default(), 0, 0);
    let mut segwit = [0; 3];
    for (transaction, spent) in others.iter().zip(spent) {
        for output in &transaction.output {
            unspent.make(output, false);
        }
        for coin in spent {
            unspent.spend(&coin.output);
        }
        let out = worth(&transaction.output);
        let fee = worth(spent.iter().map(|coin| &coin.output)) - out;
        let (size, weight) = measure(transaction);
        if transaction
            .input
            .iter()
            .any(|input| !input.witness.is_empty())
        {
            for (sum, more) in segwit.iter_mut().zip([1, size, weight]) {
                *sum += more;
            }
        }
        total_out += out;
        ins += transaction.input.len() as i64;
        fees.0.push(fee);
        rates.0.push(fee * WEIGHT_PER_VBYTE / weight.max(1));
        sizes.0.push(size);
        weights.0.push(weight);
    }
    let outs: usize = block.txdata.iter().map(|tx| tx.output.len()).sum();
    let outs = outs as i64;
    let [segwit_count, segwit_size, segwit_weight] = segwit;
    let average_rate = fees.sum() * WEIGHT_PER_VBYTE / weights.sum().max(1);
    let members: [(&str, Value); 31] = [
        ("avgfee", fees.mean().into()),
        ("avgfeerate", average_rate.into()),
        ("avgtxsize", sizes.mean().into()),
        ("blockhash", hash.into()),
        ("feerate_percentiles", percentiles(&rates, &weights).into()),
        ("height", entry.height.into()),
        ("ins", ins.into()),
        ("maxfee", fees.most().into()),
        ("maxfeerate", rates.most().into()),
        ("maxtxsize", sizes.most().into()),
        ("medianfee", fees.median().into()),
        ("mediantime", median_time.into()),
        ("mediantxsize", sizes.median().into()),
        ("minfee", fees.least().into()),
        ("minfeerate", rates.least().into()),
        ("mintxsize", sizes.least().into()),
        ("outs", outs.into()),
        ("subsidy", network.block_subsidy(entry.height).into()),
        ("swtotal_size", segwit_size.into()),
        ("swtotal_weight", segwit_weight.into()),
        ("swtxs", segwit_count.into()),
        ("time", entry.header.time.into()),
        ("total_out", total_out.into()),
        ("total_size", sizes.sum().into()),
        ("total_weight", weights.sum().into()),
        ("totalfee", fees.sum().into()),
        ("txs", block.txdata.len().into()),
        ("utxo_increase", (outs - ins).into()),
        ("utxo_size_inc", unspent.size.into()),
        ("utxo_increase_actual", (unspent.spendable - ins).into()),
        ("utxo_size_inc_actual", unspent.spendable_size.into()),
    ];
    let members = members.map(|(name, value)| (name.to_owned(), value));
    Some(members.into_iter().collect())
}

/// Bytes and weight units.
fn measure(transaction: &Transaction) -> (i64, i64) {
    let weight = transaction.weight().to_wu();
    (
        transaction.total_size() as i64,
        i64::try_from(weight).expect("at most four million"),
    )
}

/// The fee rates up to which 10, 25, 50, 75 and 90 % of the weight pay less or as much.
fn percentiles(rates: &Series, weights: &Series) -> [i64; 5] {
    let mut sorted: Vec<(i64, i64)> = rates
        .0
        .iter()
        .copied()
        .zip(weights.0.iter().copied())
        .collect();
    sorted.sort_unstable();
    let total = weights.sum() as f64;
    let bounds = [
        total / 10.0,
        total / 4.0,
        total / 2.0,
        total * 3.0 / 4.0,
        total * 9.0 / 10.0,
    ];
    let last = sorted.last().map_or(0, |(rate, _)| *rate);
    bounds.map(|bound| {
        let mut weight = 0;
        let reached = sorted.iter().find(|(_, more)| {
            weight += more;
            weight as f64 >= bound
        });
        reached.map_or(last, |(rate, _)| *rate)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_median_of_an_even_number_is_cut_off_and_of_none_it_is_zero() {
        let series = |numbers: &[i64]| Series(numbers.to_vec());
        assert_eq!(series(&[]).median(), 0);
        assert_eq!(series(&[5]).median(), 5);
        assert_eq!(series(&[9, 4]).median(), 6);
        assert_eq!(series(&[7, 1, 3]).median(), 3);
        assert_eq!((series(&[]).mean(), series(&[3, 4]).mean()), (0, 3));
    }

    #[test]
    fn percentiles_go_by_weight_and_not_by_number() {
        let rates = Series(vec![1, 2, 50]);
        let weights = Series(vec![100, 100, 800]);
        assert_eq!(percentiles(&rates, &weights), [1, 50, 50, 50, 50]);
        let even = Series(vec![250; 3]);
        assert_eq!(percentiles(&rates, &even), [1, 1, 2, 50, 50]);
        assert_eq!(percentiles(&Series(vec![]), &Series(vec![])), [0; 5]);
    }

    #[test]
    fn the_genesis_block_adds_nothing_that_can_be_spent() {
        let network = Network::Mainnet;
        let tree = handfast_node::HeaderTree::new(network.genesis());
        let stats = block_stats(
            &tree.tip(),
            1_231_006_505,
            &network.genesis_block(),
            &[],
            &network,
        )
        .expect("it fits");
        assert_eq!(stats["utxo_increase"], 1);
        // 8 bytes of value, 1 of length, 67 of script, 40 of overhead.
        assert_eq!(stats["utxo_size_inc"], 116);
        assert_eq!(stats["utxo_increase_actual"], 0);
        assert_eq!(stats["utxo_size_inc_actual"], 0);
        assert_eq!(stats["subsidy"], 5_000_000_000u64);
        assert_eq!(stats.len(), 31);
        assert_eq!(
            block_stats(
                &tree.tip(),
                0,
                &network.genesis_block(),
                &[vec![]],
                &network
            ),
            None
        );
    }
}
