//! Keys, coins and signatures, all derived from counters.

use bitcoin::absolute::LockTime;
use bitcoin::hashes::{Hash, sha256};
use bitcoin::key::{Keypair, TapTweak, TweakedKeypair};
use bitcoin::script::Builder;
use bitcoin::secp256k1::{All, Message, Secp256k1, SecretKey};
use bitcoin::sighash::{EcdsaSighashType, Prevouts, SighashCache, TapSighashType};
use bitcoin::transaction::Version;
use bitcoin::{
    Amount, CompressedPublicKey, OutPoint, PublicKey, ScriptBuf, Sequence, Transaction, TxIn,
    TxOut, Witness, ecdsa, taproot,
};

/// Distinct key pairs. Enough that coins of many keys are spent side by side.
const KEYS: u64 = 64;
/// What a transaction leaves to the miner for each of its inputs, satoshi.
pub(super) const FEE_PER_INPUT: Amount = Amount::from_sat(200);

/// How a coin is locked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Lock {
    P2pkh,
    P2wpkh,
    P2tr,
}

/// An unspent output of ours.
#[derive(Clone, Debug)]
pub(super) struct Coin {
    pub(super) outpoint: OutPoint,
    pub(super) value: Amount,
    owner: Owner,
}

/// The `n`th owner: stands for a key and a lock, so that a coin needs no script of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Owner(u64);

impl Owner {
    /// What the coinbase pays to.
    pub(super) const MINER: Self = Self(1);

    pub(super) fn nth(n: u64) -> Self {
        Self(n)
    }

    fn lock(self) -> Lock {
        match self.0 % 3 {
            0 => Lock::P2pkh,
            1 => Lock::P2wpkh,
            _ => Lock::P2tr,
        }
    }

    fn key(self) -> usize {
        usize::try_from(self.0 % KEYS).expect("there are few keys")
    }
}

struct Key {
    secret: SecretKey,
    public: CompressedPublicKey,
    taproot: TweakedKeypair,
    scripts: [ScriptBuf; 3],
}

/// Knows every key and signs with it.
pub(super) struct Wallet {
    secp: Secp256k1<All>,
    keys: Vec<Key>,
}

impl Wallet {
    pub(super) fn new() -> Self {
        let secp = Secp256k1::new();
        let keys = (0..KEYS).map(|n| Key::nth(&secp, n)).collect();
        Self { secp, keys }
    }

    pub(super) fn script(&self, owner: Owner) -> &ScriptBuf {
        &self.keys[owner.key()].scripts[owner.lock() as usize]
    }

    /// Spends `coins` to `outputs`, which may be worth less (the rest is the fee).
    pub(super) fn spend(&self, coins: &[Coin], outputs: Vec<TxOut>) -> Transaction {
        let input = |coin: &Coin| TxIn {
            previous_output: coin.outpoint,
            script_sig: ScriptBuf::new(),
            sequence: Sequence::MAX,
            witness: Witness::new(),
        };
        let mut transaction = Transaction {
            version: Version::TWO,
            lock_time: LockTime::ZERO,
            input: coins.iter().map(input).collect(),
            output: outputs,
        };
        let spent: Vec<TxOut> = coins
            .iter()
            .map(|coin| TxOut {
                value: coin.value,
                script_pubkey: self.script(coin.owner).clone(),
            })
            .collect();
        let proofs: Vec<(ScriptBuf, Witness)> = {
            let mut cache = SighashCache::new(&transaction);
            (0..coins.len())
                .map(|index| self.sign(&mut cache, &spent, coins[index].owner, index))
                .collect()
        };
        for (input, (script_sig, witness)) in transaction.input.iter_mut().zip(proofs) {
            input.script_sig = script_sig;
            input.witness = witness;
        }
        transaction
    }

    /// The scriptSig and witness that unlock input `index`.
    fn sign(
        &self,
        cache: &mut SighashCache<&Transaction>,
        spent: &[TxOut],
        owner: Owner,
        index: usize,
    ) -> (ScriptBuf, Witness) {
        let key = &self.keys[owner.key()];
        let TxOut {
            value,
            script_pubkey,
        } = &spent[index];
        let ecdsa = |hash: Message| ecdsa::Signature {
            signature: self.secp.sign_ecdsa(&hash, &key.secret),
            sighash_type: EcdsaSighashType::All,
        };
        match owner.lock() {
            Lock::P2pkh => {
                let hash = cache
                    .legacy_signature_hash(index, script_pubkey, EcdsaSighashType::All.to_u32())
                    .expect("the input exists");
                let script = Builder::new()
                    .push_slice(ecdsa(hash.into()).serialize())
                    .push_key(&PublicKey::from(key.public))
                    .into_script();
                (script, Witness::new())
            }
            Lock::P2wpkh => {
                let hash = cache
                    .p2wpkh_signature_hash(index, script_pubkey, *value, EcdsaSighashType::All)
                    .expect("the input exists and its script is P2WPKH");
                (
                    ScriptBuf::new(),
                    Witness::p2wpkh(&ecdsa(hash.into()), &key.public.0),
                )
            }
            Lock::P2tr => {
                let hash = cache
                    .taproot_key_spend_signature_hash(
                        index,
                        &Prevouts::All(spent),
                        TapSighashType::Default,
                    )
                    .expect("every spent output is given");
                let signature = self
                    .secp
                    .sign_schnorr_no_aux_rand(&hash.into(), &key.taproot.to_keypair());
                let signature = taproot::Signature {
                    signature,
                    sighash_type: TapSighashType::Default,
                };
                (ScriptBuf::new(), Witness::p2tr_key_spend(&signature))
            }
        }
    }
}

impl Key {
    fn nth(secp: &Secp256k1<All>, n: u64) -> Self {
        let seed = sha256::Hash::hash(format!("handfast test key {n}").as_bytes());
        let pair =
            Keypair::from_seckey_slice(secp, seed.as_byte_array()).expect("a hash is a valid key");
        let secret = pair.secret_key();
        let public = CompressedPublicKey(pair.public_key());
        let taproot = pair.tap_tweak(secp, None);
        let scripts = [
            ScriptBuf::new_p2pkh(&public.pubkey_hash()),
            ScriptBuf::new_p2wpkh(&public.wpubkey_hash()),
            ScriptBuf::new_p2tr_tweaked(taproot.public_parts().0),
        ];
        Self {
            secret,
            public,
            taproot,
            scripts,
        }
    }
}

impl Coin {
    pub(super) fn new(outpoint: OutPoint, value: Amount, owner: Owner) -> Self {
        Self {
            outpoint,
            value,
            owner,
        }
    }
}
