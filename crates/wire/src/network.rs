//! The Bitcoin networks and their parameters.

mod deployments;
mod params;

pub use deployments::{BuriedDeployment, VersionBits};
pub use params::{HeadersSyncParams, PowParams};

use std::fmt;
use std::str::FromStr;

use bitcoin::block::Header;
use bitcoin::hex::{DisplayHex, FromHex};
use bitcoin::p2p::Magic;
use bitcoin::{Target, Work};

use crate::checksum::sha256d;
use crate::compact_size;

/// The prefix of a custom signet's label, before its challenge.
const CHALLENGE: &str = "signet challenge ";

/// A Bitcoin network.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Network {
    /// The main network.
    Mainnet,
    /// Public test network 4 (BIP94).
    Testnet4,
    /// Public test network 3.
    Testnet3,
    /// Public signet (BIP325).
    Signet,
    /// A custom signet: the challenge script determines the magic (BIP325).
    CustomSignet {
        /// Serialized challenge script.
        challenge: Vec<u8>,
    },
    /// Local regression test network.
    Regtest,
}

/// No network has this name.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("no network is called {name:?}: choose mainnet, testnet4, testnet3, signet or regtest")]
pub struct UnknownNetwork {
    /// The name that was given.
    pub name: String,
}

impl Network {
    /// Every network with fixed parameters, in the order in which help texts name them.
    pub const ALL: [Network; 5] = [
        Network::Mainnet,
        Network::Testnet4,
        Network::Testnet3,
        Network::Signet,
        Network::Regtest,
    ];

    /// The name that users give and see. Both kinds of signet are `signet`.
    pub fn name(&self) -> &'static str {
        match self {
            Network::Mainnet => "mainnet",
            Network::Testnet4 => "testnet4",
            Network::Testnet3 => "testnet3",
            Network::Signet | Network::CustomSignet { .. } => "signet",
            Network::Regtest => "regtest",
        }
    }

    /// The chain name in the answers of `getblockchaininfo`. Core `ChainTypeToString`.
    pub fn core_chain_name(&self) -> &'static str {
        match self {
            Network::Mainnet => "main",
            Network::Testnet3 => "test",
            Network::Testnet4
            | Network::Signet
            | Network::CustomSignet { .. }
            | Network::Regtest => self.name(),
        }
    }

    /// The sub-directory of the data directory.
    ///
    /// The name of the network; a custom signet adds its magic, so that two challenges never share
    /// a directory.
    pub fn directory(&self) -> String {
        match self {
            Network::CustomSignet { .. } => format!("signet-{:x}", self.magic()),
            _ => self.name().to_owned(),
        }
    }

    /// The network in one line, with the challenge of a custom signet. Stable: the marker of a data
    /// directory contains it.
    pub fn label(&self) -> String {
        match self {
            Network::CustomSignet { challenge } => {
                format!("{CHALLENGE}{:x}", challenge.as_slice().as_hex())
            }
            network => network.name().to_owned(),
        }
    }

    /// The network of this [`Network::label`].
    pub fn from_label(label: &str) -> Option<Network> {
        match label.strip_prefix(CHALLENGE) {
            Some(hex) => {
                let challenge = Vec::<u8>::from_hex(hex).ok()?;
                Some(Network::CustomSignet { challenge })
            }
            None => Network::ALL
                .into_iter()
                .find(|network| network.name() == label),
        }
    }

    /// The first four bytes of every frame. Core `pchMessageStart`.
    pub fn magic(&self) -> Magic {
        match self {
            Network::Mainnet => Magic::from_bytes([0xf9, 0xbe, 0xb4, 0xd9]),
            Network::Testnet4 => Magic::from_bytes([0x1c, 0x16, 0x3f, 0x28]),
            Network::Testnet3 => Magic::from_bytes([0x0b, 0x11, 0x09, 0x07]),
            Network::Signet => signet_magic(params::SIGNET_CHALLENGE),
            Network::CustomSignet { challenge } => signet_magic(challenge),
            Network::Regtest => Magic::from_bytes([0xfa, 0xbf, 0xb5, 0xda]),
        }
    }

    /// TCP port of the P2P protocol. Core `nDefaultPort`.
    pub fn p2p_port(&self) -> u16 {
        match self {
            Network::Mainnet => 8333,
            Network::Testnet4 => 48333,
            Network::Testnet3 => 18333,
            Network::Signet | Network::CustomSignet { .. } => 38333,
            Network::Regtest => 18444,
        }
    }

    /// TCP port of the RPC server, one below the P2P port. Core `CBaseChainParams::RPCPort`.
    pub fn rpc_port(&self) -> u16 {
        self.p2p_port() - 1
    }

    /// The same network as a type of the `bitcoin` crate (addresses, genesis blocks).
    pub fn bitcoin(&self) -> bitcoin::Network {
        match self {
            Network::Mainnet => bitcoin::Network::Bitcoin,
            Network::Testnet4 => bitcoin::Network::Testnet4,
            Network::Testnet3 => bitcoin::Network::Testnet,
            Network::Signet | Network::CustomSignet { .. } => bitcoin::Network::Signet,
            Network::Regtest => bitcoin::Network::Regtest,
        }
    }

    /// The whole genesis block. Every signet has the same one.
    pub fn genesis_block(&self) -> bitcoin::Block {
        bitcoin::constants::genesis_block(self.bitcoin())
    }

    /// The header of the genesis block.
    pub fn genesis(&self) -> Header {
        self.genesis_block().header
    }

    /// The easiest target that a header may have. Core `powLimit`.
    pub fn pow_limit(&self) -> Target {
        self.pow().limit
    }

    /// The signet challenge script, for signets.
    pub fn signet_challenge(&self) -> Option<&[u8]> {
        match self {
            Network::Signet => Some(params::SIGNET_CHALLENGE),
            Network::CustomSignet { challenge } => Some(challenge),
            Network::Mainnet | Network::Testnet4 | Network::Testnet3 | Network::Regtest => None,
        }
    }

    /// Whether blocks of this network need a signature that only its owners can make: the public
    /// signet, and others whose challenge is more than a constant that is true (`OP_TRUE`).
    #[must_use]
    pub fn signet_needs_a_signature(&self) -> bool {
        /// `OP_1` to `OP_16`.
        const TRUE: std::ops::RangeInclusive<u8> = 0x51..=0x60;
        match self.signet_challenge() {
            None => false,
            Some([one]) => !TRUE.contains(one),
            Some(_) => true,
        }
    }

    /// The rules of the difficulty adjustment.
    pub fn pow(&self) -> PowParams {
        params::pow(self)
    }

    /// Work that a chain must have before its headers are stored. Core `nMinimumChainWork`.
    ///
    /// Zero on networks without a known chain: custom signets and regtest.
    pub fn minimum_chain_work(&self) -> Work {
        params::minimum_chain_work(self)
    }

    /// Whether blocks are mined continuously, so that their number follows from the time. Not on
    /// regtest and custom signets.
    pub fn always_mined(&self) -> bool {
        match self {
            Network::Mainnet | Network::Testnet4 | Network::Testnet3 | Network::Signet => true,
            Network::Regtest | Network::CustomSignet { .. } => false,
        }
    }

    /// Names that resolve to addresses of nodes. Core `vSeeds`; none for private networks.
    pub fn dns_seeds(&self) -> &'static [&'static str] {
        params::dns_seeds(self)
    }

    /// Parameters of the sync of low-work headers. Core `m_headers_sync_params`.
    pub fn headers_sync(&self) -> HeadersSyncParams {
        params::headers_sync(self)
    }
}

/// The first four bytes of the double SHA-256 of the length-prefixed challenge (BIP325).
fn signet_magic(challenge: &[u8]) -> Magic {
    let mut prefixed = Vec::with_capacity(compact_size::MAX_BYTES + challenge.len());
    compact_size::write(&mut prefixed, challenge.len() as u64);
    prefixed.extend_from_slice(challenge);
    let hash = sha256d(&prefixed);
    Magic::from_bytes([hash[0], hash[1], hash[2], hash[3]])
}

impl fmt::Display for Network {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Network {
    type Err = UnknownNetwork;

    /// Parses our names and Bitcoin Core's chain names.
    fn from_str(name: &str) -> Result<Self, UnknownNetwork> {
        Network::ALL
            .into_iter()
            .find(|network| network.name() == name || network.core_chain_name() == name)
            .ok_or_else(|| UnknownNetwork {
                name: name.to_owned(),
            })
    }
}

#[cfg(test)]
mod tests;
