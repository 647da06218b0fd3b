//! Blocks on top of one another, valid under Bitcoin Core's rules for regtest.

use std::collections::VecDeque;

use bitcoin::absolute::LockTime;
use bitcoin::block::{Header, Version};
use bitcoin::consensus::serialize;
use bitcoin::constants::{COINBASE_MATURITY, genesis_block};
use bitcoin::hashes::Hash;
use bitcoin::script::{Builder, PushBytesBuf};
use bitcoin::transaction::Version as TxVersion;
use bitcoin::{
    Amount, Block, BlockHash, Network, OutPoint, ScriptBuf, Sequence, Transaction, TxIn,
    TxMerkleNode, TxOut, Weight, Witness, WitnessMerkleNode,
};

use super::wallet::{Coin, FEE_PER_INPUT, Owner, Wallet};

/// Seconds between blocks. Regtest never adjusts its difficulty; any step above the
/// median time past will do.
const SPACING: u32 = 600;
/// Blocks between halvings on regtest. Core `consensus.nSubsidyHalvingInterval`.
const HALVING: u32 = 150;
/// Bytes in one output that nobody can spend.
pub(super) const BULK_OUTPUT: usize = 9_000;

/// What a block of regtest may pay besides fees.
pub(crate) fn subsidy(height: u32) -> Amount {
    Amount::from_sat(Amount::from_int_btc(50).to_sat() >> (height / HALVING))
}

/// Extends a chain from regtest's genesis block.
pub(super) struct ChainBuilder {
    wallet: Wallet,
    label: &'static str,
    tip: Header,
    height: u32,
    /// Coinbases not spent yet, oldest first, with their height.
    coinbases: VecDeque<(u32, Coin)>,
    /// Coins to be spent, oldest first.
    coins: VecDeque<Coin>,
    /// Counts coins ever made, to give each its owner.
    owners: u64,
    /// Outputs that the next coinbase has besides, each of [`BULK_OUTPUT`] bytes.
    padding: usize,
}

impl ChainBuilder {
    pub(super) fn new() -> Self {
        Self::on(genesis_block(Network::Regtest).header, 0, "handfast")
    }

    /// Builds on any block. The label goes into every coinbase: two branches with
    /// different labels have no block in common.
    pub(super) fn on(tip: Header, height: u32, label: &'static str) -> Self {
        Self {
            wallet: Wallet::new(),
            label,
            tip,
            height,
            coinbases: VecDeque::new(),
            coins: VecDeque::new(),
            owners: 0,
            padding: 0,
        }
    }

    pub(super) fn tip(&self) -> BlockHash {
        self.tip.block_hash()
    }

    /// A block with nothing but its coinbase.
    pub(super) fn coinbase_block(&mut self) -> Vec<u8> {
        self.assemble(vec![], Amount::ZERO)
    }

    /// A block of about so many bytes, of which nearly all are outputs of the coinbase that
    /// nobody can spend.
    pub(super) fn padded_block(&mut self, bytes: usize) -> Vec<u8> {
        self.padding = bytes / BULK_OUTPUT;
        let block = self.coinbase_block();
        self.padding = 0;
        block
    }

    /// A block whose coinbase takes a satoshi more than it may: `bad-cb-amount`.
    pub(super) fn overpaying_block(&mut self) -> Vec<u8> {
        self.assemble(vec![], Amount::ONE_SAT)
    }

    /// A block that splits the oldest mature coinbase into `count` coins.
    pub(super) fn fan_out_block(&mut self, count: usize) -> Vec<u8> {
        let (mined_at, coin) = self.coinbases.pop_front().expect("a coinbase is left");
        assert!(
            self.height + 1 - mined_at >= COINBASE_MATURITY,
            "the coinbase of {mined_at} is not mature"
        );
        let each = (coin.value - FEE_PER_INPUT) / u64::try_from(count).expect("a count is a u64");
        let owners: Vec<Owner> = (0..count).map(|_| self.next_owner()).collect();
        let outputs = self.outputs(&owners, &vec![each; count]);
        let value = coin.value;
        let transaction = self.wallet.spend(&[coin], outputs);
        self.keep_coins(&transaction, &owners);
        let paid: Amount = transaction.output.iter().map(|output| output.value).sum();
        self.assemble(vec![transaction], value - paid)
    }

    /// A block that pays the oldest mature coinbase to `count` outputs with this script,
    /// and the transaction that does.
    pub(super) fn funding_block(
        &mut self,
        script: &ScriptBuf,
        count: usize,
    ) -> (Vec<u8>, Transaction) {
        let (_, coin) = self.coinbases.pop_front().expect("a coinbase is left");
        let output = TxOut {
            value: coin.value / (2 * u64::try_from(count).expect("a count is a u64")),
            script_pubkey: script.clone(),
        };
        let transaction = self.wallet.spend(&[coin], vec![output; count]);
        let block = self.assemble(vec![transaction.clone()], Amount::ZERO);
        (block, transaction)
    }

    /// A block of `count` transactions that spend the oldest coins, by turns one and two,
    /// and make as many new ones.
    pub(super) fn signed_block(&mut self, count: usize) -> Vec<u8> {
        let groups: Vec<Vec<Coin>> = (0..count)
            .map(|n| self.coins.drain(..1 + n % 2).collect())
            .collect();
        let owners: Vec<Vec<Owner>> = groups
            .iter()
            .map(|coins| coins.iter().map(|_| self.next_owner()).collect())
            .collect();
        let transactions = self.sign_on_all_cores(&groups, &owners);
        for (transaction, owners) in transactions.iter().zip(&owners) {
            self.keep_coins(transaction, owners);
        }
        let inputs = groups.iter().map(Vec::len).sum::<usize>();
        self.assemble(
            transactions,
            FEE_PER_INPUT * u64::try_from(inputs).expect("a count is a u64"),
        )
    }

    fn sign_on_all_cores(&self, groups: &[Vec<Coin>], owners: &[Vec<Owner>]) -> Vec<Transaction> {
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        let share = groups.len().div_ceil(cores);
        let sign = |(coins, owners): (&Vec<Coin>, &Vec<Owner>)| {
            let values: Vec<Amount> = coins
                .iter()
                .map(|coin| coin.value - FEE_PER_INPUT)
                .collect();
            self.wallet.spend(coins, self.outputs(owners, &values))
        };
        std::thread::scope(|scope| {
            let workers: Vec<_> = groups
                .chunks(share)
                .zip(owners.chunks(share))
                .map(|(groups, owners)| {
                    scope.spawn(move || groups.iter().zip(owners).map(sign).collect::<Vec<_>>())
                })
                .collect();
            workers
                .into_iter()
                .flat_map(|worker| worker.join().expect("signing does not panic"))
                .collect()
        })
    }

    fn outputs(&self, owners: &[Owner], values: &[Amount]) -> Vec<TxOut> {
        let output = |(owner, value): (&Owner, &Amount)| TxOut {
            value: *value,
            script_pubkey: self.wallet.script(*owner).clone(),
        };
        owners.iter().zip(values).map(output).collect()
    }

    fn keep_coins(&mut self, transaction: &Transaction, owners: &[Owner]) {
        let txid = transaction.compute_txid();
        for (vout, (output, owner)) in (0..).zip(transaction.output.iter().zip(owners)) {
            self.coins
                .push_back(Coin::new(OutPoint { txid, vout }, output.value, *owner));
        }
    }

    fn next_owner(&mut self) -> Owner {
        self.owners += 1;
        Owner::nth(self.owners)
    }

    /// Puts a coinbase before `transactions`, mines the block and answers its bytes.
    pub(super) fn assemble(&mut self, transactions: Vec<Transaction>, fees: Amount) -> Vec<u8> {
        let height = self.height + 1;
        let mut block = Block {
            header: Header {
                version: Version::NO_SOFT_FORK_SIGNALLING,
                prev_blockhash: self.tip.block_hash(),
                merkle_root: TxMerkleNode::all_zeros(),
                time: self.tip.time + SPACING,
                bits: self.tip.bits,
                nonce: 0,
            },
            txdata: vec![self.coinbase(height, fees)],
        };
        block.txdata.extend(transactions);
        commit_to_witnesses(&mut block);
        block.header.merkle_root = block.compute_merkle_root().expect("a block has a coinbase");
        assert!(
            block.weight() <= Weight::MAX_BLOCK,
            "block {height} weighs {}",
            block.weight()
        );
        mine(&mut block.header);

        let coinbase = &block.txdata[0];
        let outpoint = OutPoint {
            txid: coinbase.compute_txid(),
            vout: 0,
        };
        self.coinbases.push_back((
            height,
            Coin::new(outpoint, coinbase.output[0].value, Owner::MINER),
        ));
        self.tip = block.header;
        self.height = height;
        serialize(&block)
    }

    fn coinbase(&self, height: u32, fees: Amount) -> Transaction {
        let label =
            PushBytesBuf::try_from(self.label.as_bytes().to_vec()).expect("a label is short");
        Transaction {
            version: TxVersion::ONE,
            lock_time: LockTime::ZERO,
            input: vec![TxIn {
                previous_output: OutPoint::null(),
                // BIP34: the height first. The label makes it longer than the least of two bytes.
                script_sig: Builder::new()
                    .push_int(height.into())
                    .push_slice(label)
                    .into_script(),
                sequence: Sequence::MAX,
                witness: Witness::from_slice(&[[0; 32]]),
            }],
            output: std::iter::once(TxOut {
                value: subsidy(height) + fees,
                script_pubkey: self.wallet.script(Owner::MINER).clone(),
            })
            .chain(std::iter::repeat_n(bulk_output(), self.padding))
            .collect(),
        }
    }
}

/// [`BULK_OUTPUT`] bytes that nobody can spend.
pub(super) fn bulk_output() -> TxOut {
    let filler = PushBytesBuf::try_from(vec![0; BULK_OUTPUT]).expect("it can be pushed");
    TxOut {
        value: Amount::ZERO,
        script_pubkey: ScriptBuf::new_op_return(filler),
    }
}

/// Adds the BIP141 commitment to the coinbase, whose witness is the reserved value.
fn commit_to_witnesses(block: &mut Block) {
    // The coinbase's own wtxid counts as zero, so it may still change.
    let leaves = block
        .txdata
        .iter()
        .enumerate()
        .map(|(index, transaction)| match index {
            0 => bitcoin::Wtxid::all_zeros().to_raw_hash(),
            _ => transaction.compute_wtxid().to_raw_hash(),
        });
    let root = bitcoin::merkle_tree::calculate_root(leaves).expect("a block has a coinbase");
    let root = WitnessMerkleNode::from_raw_hash(root);
    let commitment = Block::compute_witness_commitment(&root, &[0; 32]);
    let mut push = PushBytesBuf::from([0xaa, 0x21, 0xa9, 0xed]);
    push.extend_from_slice(commitment.as_byte_array())
        .expect("36 bytes can be pushed");
    block.txdata[0].output.push(TxOut {
        value: Amount::ZERO,
        script_pubkey: ScriptBuf::new_op_return(push),
    });
}

fn mine(header: &mut Header) {
    let target = header.target();
    while header.validate_pow(target).is_err() {
        header.nonce = header
            .nonce
            .checked_add(1)
            .expect("every second nonce solves a regtest block");
    }
}
