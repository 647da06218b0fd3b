//! Softforks: buried deployments with their heights, and the deployment that is still signalled.
//! Source: Bitcoin Core 31.99, `kernel/chainparams.cpp`.

use bitcoin::BlockHash;

use super::Network;

/// Blocks between two halvings of the subsidy. Core `nSubsidyHalvingInterval`.
const HALVING_INTERVAL: u32 = 210_000;

/// A softfork that is enforced from a fixed height (BIP90).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BuriedDeployment {
    /// Core's name for it.
    pub name: &'static str,
    /// The first block for which it is enforced.
    pub height: u32,
}

/// The BIP9 parameters of a softfork that is signalled in block versions. Times in Unix seconds,
/// compared with a block's median time past.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct VersionBits {
    /// Core's name for it.
    pub name: &'static str,
    /// The bit of the version, 0 to 28.
    pub bit: u8,
    /// The time from which the bit signals.
    pub start_time: i64,
    /// The time at which the deployment fails if it is not locked in; `i64::MAX`: never.
    pub timeout: i64,
    /// It is not active below this height, even if it is locked in.
    pub min_activation_height: u32,
    /// Signalling blocks of one period that lock it in.
    pub threshold: u32,
    /// Length of a period, blocks.
    pub period: u32,
}

impl Network {
    /// The buried softforks, in the order in which Core lists them.
    pub fn buried_deployments(&self) -> [BuriedDeployment; 5] {
        let [bip34, bip66, bip65, csv, segwit] = match self {
            Network::Mainnet => [227_931, 363_725, 388_381, 419_328, 481_824],
            Network::Testnet3 => [21_111, 330_776, 581_885, 770_112, 834_624],
            Network::Testnet4 | Network::Signet | Network::CustomSignet { .. } => [1; 5],
            Network::Regtest => [1, 1, 1, 1, 0],
        };
        [
            ("bip34", bip34),
            ("bip66", bip66),
            ("bip65", bip65),
            ("csv", csv),
            ("segwit", segwit),
        ]
        .map(|(name, height)| BuriedDeployment { name, height })
    }

    /// The softfork that blocks can signal: the dummy of regtest. The other networks have none at
    /// the moment.
    pub fn version_bits(&self) -> Option<VersionBits> {
        matches!(self, Network::Regtest).then_some(VersionBits {
            name: "testdummy",
            bit: 28,
            start_time: 0,
            timeout: i64::MAX,
            min_activation_height: 0,
            threshold: 108,
            period: 144,
        })
    }

    /// The script rules for the block `hash` at `height`, with Core's names and in its order. Core
    /// `GetBlockScriptFlags`.
    pub fn script_flags(&self, hash: &BlockHash, height: u32) -> Vec<&'static str> {
        let [_, bip66, bip65, csv, segwit] = self.buried_deployments();
        let mut flags = self.script_flags_of_all_blocks(hash).to_vec();
        for (deployment, flag) in [
            (bip65, "CHECKLOCKTIMEVERIFY"),
            (csv, "CHECKSEQUENCEVERIFY"),
            (bip66, "DERSIG"),
            (segwit, "NULLDUMMY"),
        ] {
            if height >= deployment.height {
                flags.push(flag);
            }
        }
        flags.sort_unstable();
        flags
    }

    /// The rules from genesis on, except for the historic blocks that break one.
    fn script_flags_of_all_blocks(&self, hash: &BlockHash) -> &'static [&'static str] {
        let exceptions: &[(&str, &'static [&'static str])] = match self {
            Network::Mainnet => &[
                (
                    "00000000000002dc756eebf4f49723ed8d30cc28a5f108eb94b1ba88ac4f9c22",
                    &[],
                ),
                (
                    "0000000000000000000f14c35b2d841e986ab5441de8c585d5ffe55ea1e395ad",
                    &["P2SH", "WITNESS"],
                ),
            ],
            Network::Testnet3 => &[(
                "00000000dd30457c001f4095d208cc1296b0eed002427aa599874af7a432b105",
                &[],
            )],
            Network::Testnet4
            | Network::Signet
            | Network::CustomSignet { .. }
            | Network::Regtest => &[],
        };
        let hash = hash.to_string();
        exceptions
            .iter()
            .find(|(exception, _)| *exception == hash)
            .map_or(&["P2SH", "TAPROOT", "WITNESS"], |(_, flags)| flags)
    }

    /// The subsidy of a block at `height`, satoshi. Core `GetBlockSubsidy`.
    pub fn block_subsidy(&self, height: u32) -> u64 {
        let interval = match self {
            Network::Regtest => 150,
            Network::Mainnet
            | Network::Testnet4
            | Network::Testnet3
            | Network::Signet
            | Network::CustomSignet { .. } => HALVING_INTERVAL,
        };
        5_000_000_000u64
            .checked_shr(height / interval)
            .unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn flags(network: &Network, hash: &str, height: u32) -> Vec<&'static str> {
        network.script_flags(&hash.parse().expect("a hash"), height)
    }

    #[test]
    fn script_rules_grow_with_the_height_and_exempt_historic_blocks() {
        let any = "00".repeat(32);
        let always = ["P2SH", "TAPROOT", "WITNESS"];
        assert_eq!(flags(&Network::Mainnet, &any, 363_724), always);
        assert_eq!(
            flags(&Network::Mainnet, &any, 363_725),
            ["DERSIG", "P2SH", "TAPROOT", "WITNESS"]
        );
        assert_eq!(
            flags(&Network::Mainnet, &any, 481_824),
            [
                "CHECKLOCKTIMEVERIFY",
                "CHECKSEQUENCEVERIFY",
                "DERSIG",
                "NULLDUMMY",
                "P2SH",
                "TAPROOT",
                "WITNESS"
            ]
        );
        let bip16 = "00000000000002dc756eebf4f49723ed8d30cc28a5f108eb94b1ba88ac4f9c22";
        assert!(flags(&Network::Mainnet, bip16, 170_060).is_empty());
        assert_eq!(flags(&Network::Testnet4, bip16, 0), always);
        assert_eq!(
            flags(&Network::Regtest, &any, 0),
            ["NULLDUMMY", "P2SH", "TAPROOT", "WITNESS"]
        );
    }

    #[test]
    fn the_subsidy_halves_and_ends() {
        for (network, height, subsidy) in [
            (Network::Mainnet, 0, 5_000_000_000),
            (Network::Mainnet, 209_999, 5_000_000_000),
            (Network::Mainnet, 840_000, 312_500_000),
            (Network::Mainnet, 210_000 * 33, 0),
            (Network::Regtest, 150, 2_500_000_000),
            (Network::Regtest, u32::MAX, 0),
        ] {
            assert_eq!(network.block_subsidy(height), subsidy, "{network} {height}");
        }
    }
}
