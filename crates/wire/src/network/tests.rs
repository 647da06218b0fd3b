use bitcoin::hashes::Hash;
use bitcoin::hex::DisplayHex;
use bitcoin::params::Params;

use super::*;

fn optrue() -> Network {
    Network::CustomSignet {
        challenge: vec![0x51],
    }
}

#[test]
fn the_op_true_signet_has_the_magic_that_bip325_derives() {
    assert_eq!(optrue().magic().to_bytes(), [0x54, 0xd2, 0x6f, 0xbd]);
    assert_eq!(optrue().directory(), "signet-54d26fbd");
}

#[test]
fn a_challenge_longer_than_252_bytes_gets_a_three_byte_length() {
    let challenge = vec![0x51; 253];
    let mut prefixed = vec![0xfd, 0xfd, 0x00];
    prefixed.extend_from_slice(&challenge);
    let expected = bitcoin::hashes::sha256d::Hash::hash(&prefixed).to_byte_array();
    let magic = Network::CustomSignet { challenge }.magic().to_bytes();
    assert_eq!(magic, expected[..4]);
}

#[test]
fn magic_bytes_are_those_of_the_bitcoin_crate() {
    for network in Network::ALL {
        assert_eq!(network.magic(), network.bitcoin().magic(), "{network}");
    }
}

#[test]
fn names_and_core_names_parse_back() {
    for network in Network::ALL {
        assert_eq!(network.name().parse(), Ok(network.clone()));
        assert_eq!(network.core_chain_name().parse(), Ok(network.clone()));
        assert_eq!(network.directory(), network.name());
    }
    assert_eq!("main".parse(), Ok(Network::Mainnet));
    assert_eq!("test".parse(), Ok(Network::Testnet3));
    let error = "testnet".parse::<Network>().unwrap_err();
    assert_eq!(
        error.to_string(),
        "no network is called \"testnet\": choose mainnet, testnet4, testnet3, signet or regtest"
    );
}

#[test]
fn the_pow_rules_agree_with_the_bitcoin_crate() {
    for network in Network::ALL {
        let ours = network.pow();
        let theirs = Params::new(network.bitcoin());
        assert_eq!(u64::from(ours.target_spacing), theirs.pow_target_spacing);
        assert_eq!(
            ours.allow_min_difficulty_blocks,
            theirs.allow_min_difficulty_blocks
        );
        assert_eq!(ours.no_retargeting, theirs.no_pow_retargeting);
        assert_eq!(
            ours.limit.to_compact_lossy(),
            theirs.max_attainable_target.to_compact_lossy()
        );
        assert_eq!(ours.enforce_bip94, network == Network::Testnet4);
    }
    assert_eq!(Network::Mainnet.pow().adjustment_interval(), 2_016);
    assert_eq!(Network::Regtest.pow().adjustment_interval(), 144);
}

#[test]
fn every_genesis_header_meets_its_own_target_within_the_limit() {
    for network in Network::ALL.into_iter().chain([optrue()]) {
        let genesis = network.genesis();
        assert!(genesis.validate_pow(genesis.target()).is_ok(), "{network}");
        assert!(genesis.target() <= network.pow_limit(), "{network}");
    }
    assert_eq!(
        Network::Testnet4.genesis().block_hash().to_string(),
        "00000000da84f2bafbbc53dee25a72ae507ff4914b867c565be350b0da8bf043"
    );
    assert_eq!(optrue().genesis(), Network::Signet.genesis());
}

#[test]
fn private_networks_have_neither_seeds_nor_a_minimum_chain_work() {
    for network in [optrue(), Network::Regtest] {
        assert!(network.dns_seeds().is_empty());
        assert_eq!(network.minimum_chain_work(), Work::from_be_bytes([0; 32]));
    }
    for network in &Network::ALL[..4] {
        assert!(!network.dns_seeds().is_empty());
        assert!(network.minimum_chain_work() > Work::from_be_bytes([0; 32]));
    }
    assert_eq!(
        Network::Signet
            .minimum_chain_work()
            .to_be_bytes()
            .to_lower_hex_string(),
        "00000000000000000000000000000000000000000000000000000b463ea0a4b8"
    );
}

#[test]
fn the_rpc_port_is_one_below_the_p2p_port() {
    let ports: Vec<_> = Network::ALL
        .iter()
        .map(|network| (network.p2p_port(), network.rpc_port()))
        .collect();
    assert_eq!(
        ports,
        [
            (8333, 8332),
            (48333, 48332),
            (18333, 18332),
            (38333, 38332),
            (18444, 18443)
        ]
    );
}
