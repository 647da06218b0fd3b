//! Parameters of each network. Source: Bitcoin Core 31.99, `kernel/chainparams.cpp`.

use bitcoin::hex::FromHex;
use bitcoin::{Target, Work};

use super::Network;

/// Challenge of the public signet: 1 of 2 keys (BIP325).
pub(super) const SIGNET_CHALLENGE: &[u8] = &[
    0x51, 0x21, 0x03, 0xad, 0x5e, 0x0e, 0xda, 0xd1, 0x8c, 0xb1, 0xf0, 0xfc, 0x0d, 0x28, 0xa3, 0xd4,
    0xf1, 0xf3, 0xe4, 0x45, 0x64, 0x03, 0x37, 0x48, 0x9a, 0xbb, 0x10, 0x40, 0x4f, 0x2d, 0x1e, 0x08,
    0x6b, 0xe4, 0x30, 0x21, 0x03, 0x59, 0xef, 0x50, 0x21, 0x96, 0x4f, 0xe2, 0x2d, 0x6f, 0x8e, 0x05,
    0xb2, 0x46, 0x3c, 0x95, 0x40, 0xce, 0x96, 0x88, 0x3f, 0xe3, 0xb2, 0x78, 0x76, 0x0f, 0x04, 0x8f,
    0x51, 0x89, 0xf2, 0xe6, 0xc4, 0x52, 0xae,
];

/// The rules of the difficulty adjustment on one network.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PowParams {
    /// The easiest target. Core `powLimit`.
    pub limit: Target,
    /// Intended time between blocks, seconds. Core `nPowTargetSpacing`.
    pub target_spacing: u32,
    /// Intended duration of one difficulty period, seconds. Core `nPowTargetTimespan`.
    pub target_timespan: u32,
    /// A block 20 minutes after its parent may have the limit as its target.
    /// Core `fPowAllowMinDifficultyBlocks`.
    pub allow_min_difficulty_blocks: bool,
    /// The target never changes. Core `fPowNoRetargeting`.
    pub no_retargeting: bool,
    /// A period's new target is derived from its first block and the first block
    /// may not be timed far before its parent (BIP94). Core `enforce_BIP94`.
    pub enforce_bip94: bool,
}

impl PowParams {
    /// Blocks between two adjustments of the target. Core `DifficultyAdjustmentInterval`.
    pub fn adjustment_interval(&self) -> u32 {
        self.target_timespan / self.target_spacing
    }
}

/// Parameters of the sync of low-work headers with bounded memory. Core `HeadersSyncParams`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HeadersSyncParams {
    /// Headers between two one-bit commitments.
    pub commitment_period: usize,
    /// Headers buffered in the second download before the first is released.
    pub redownload_buffer_size: usize,
}

const TWO_WEEKS: u32 = 14 * 24 * 60 * 60;
const ONE_DAY: u32 = 24 * 60 * 60;

pub(super) fn pow(network: &Network) -> PowParams {
    let mainnet = PowParams {
        limit: Target::from_be_bytes(fill([0x00, 0x00, 0x00, 0x00, 0xff], 0xff)),
        target_spacing: 10 * 60,
        target_timespan: TWO_WEEKS,
        allow_min_difficulty_blocks: false,
        no_retargeting: false,
        enforce_bip94: false,
    };
    match network {
        Network::Mainnet => mainnet,
        Network::Testnet3 => PowParams {
            allow_min_difficulty_blocks: true,
            ..mainnet
        },
        Network::Testnet4 => PowParams {
            allow_min_difficulty_blocks: true,
            enforce_bip94: true,
            ..mainnet
        },
        Network::Signet | Network::CustomSignet { .. } => PowParams {
            limit: Target::from_be_bytes(fill([0x00, 0x00, 0x03, 0x77, 0xae], 0x00)),
            ..mainnet
        },
        Network::Regtest => PowParams {
            limit: Target::from_be_bytes(fill([0x7f, 0xff, 0xff, 0xff, 0xff], 0xff)),
            target_timespan: ONE_DAY,
            allow_min_difficulty_blocks: true,
            no_retargeting: true,
            ..mainnet
        },
    }
}

/// A big-endian 256-bit number: its first bytes, then one byte repeated.
fn fill(first: [u8; 5], rest: u8) -> [u8; 32] {
    let mut bytes = [rest; 32];
    bytes[..5].copy_from_slice(&first);
    bytes
}

pub(super) fn minimum_chain_work(network: &Network) -> Work {
    let hex = match network {
        Network::Mainnet => "0000000000000000000000000000000000000001128750f82f4c366153a3a030",
        Network::Testnet4 => "0000000000000000000000000000000000000000000009a0fe15d0177d086304",
        Network::Testnet3 => "0000000000000000000000000000000000000000000017dde1c649f3708d14b6",
        Network::Signet => "00000000000000000000000000000000000000000000000000000b463ea0a4b8",
        Network::CustomSignet { .. } | Network::Regtest => {
            return Work::from_be_bytes([0; 32]);
        }
    };
    Work::from_be_bytes(FromHex::from_hex(hex).expect("64 hexadecimal digits above"))
}

pub(super) fn dns_seeds(network: &Network) -> &'static [&'static str] {
    // The final dot keeps a resolver from trying its own search domains.
    match network {
        Network::Mainnet => &[
            "dnsseed.bluematt.me.",
            "seed.bitcoin.jonasschnelli.ch.",
            "seed.btc.petertodd.net.",
            "seed.bitcoin.sprovoost.nl.",
            "dnsseed.emzy.de.",
            "seed.bitcoin.wiz.biz.",
            "seed.mainnet.achownodes.xyz.",
        ],
        Network::Testnet4 => &[
            "seed.testnet4.bitcoin.sprovoost.nl.",
            "seed.testnet4.wiz.biz.",
        ],
        Network::Testnet3 => &[
            "testnet-seed.bitcoin.jonasschnelli.ch.",
            "seed.tbtc.petertodd.net.",
            "seed.testnet.bitcoin.sprovoost.nl.",
            "testnet-seed.bluematt.me.",
            "seed.testnet.achownodes.xyz.",
        ],
        Network::Signet => &[
            "seed.signet.bitcoin.sprovoost.nl.",
            "seed.signet.achownodes.xyz.",
        ],
        Network::CustomSignet { .. } | Network::Regtest => &[],
    }
}

pub(super) fn headers_sync(network: &Network) -> HeadersSyncParams {
    let (commitment_period, redownload_buffer_size) = match network {
        Network::Mainnet => (641, 15_218),
        Network::Testnet4 => (606, 16_092),
        Network::Testnet3 => (673, 14_460),
        Network::Signet | Network::CustomSignet { .. } => (620, 15_724),
        Network::Regtest => (275, 7_017),
    };
    HeadersSyncParams {
        commitment_period,
        redownload_buffer_size,
    }
}
