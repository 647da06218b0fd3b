//! `bitcoincore-rpc`, and `bdk_bitcoind_rpc`, which wallets follow a chain with.

use std::path::Path;
use std::str::FromStr;
use std::sync::Arc;

use bdk_bitcoind_rpc::{Emitter, NO_EXPECTED_MEMPOOL_TXS};
use bdk_core::CheckPoint;
use bitcoincore_rpc::bitcoin::address::NetworkUnchecked;
use bitcoincore_rpc::bitcoin::{Address, Transaction};
use bitcoincore_rpc::json::{
    GetBlockTemplateCapabilities, GetBlockTemplateModes, GetBlockTemplateRules,
};
use bitcoincore_rpc::{Auth, Client, Error, RpcApi};

use crate::{ADDRESS, KEY, Outcome};

fn client(url: &str, cookie: &Path) -> Result<Client, Error> {
    Client::new(url, Auth::CookieFile(cookie.to_path_buf()))
}

/// What a wallet and a block explorer call.
pub(crate) fn bitcoincore_rpc(url: &str, cookie: &Path) -> Vec<Outcome> {
    let mut outcomes: Vec<Outcome> = Vec::new();
    let client = match client(url, cookie) {
        Ok(client) => client,
        Err(error) => return vec![("new", Err(error.to_string()))],
    };
    macro_rules! call {
        ($name:literal, $call:expr) => {
            outcomes.push(($name, $call.map(drop).map_err(|error| error.to_string())))
        };
    }
    let unchecked = |text: &str| Address::<NetworkUnchecked>::from_str(text).expect("an address");
    let to = unchecked(ADDRESS).assume_checked();
    call!("generate_to_address", client.generate_to_address(2, &to));
    call!("version", client.version());
    call!("get_best_block_hash", client.get_best_block_hash());
    if let Ok(tip) = client.get_best_block_hash() {
        call!("get_block", client.get_block(&tip));
        call!("get_block_hex", client.get_block_hex(&tip));
        call!("get_block_info", client.get_block_info(&tip));
        call!("get_block_header", client.get_block_header(&tip));
        call!("get_block_header_info", client.get_block_header_info(&tip));
        call!(
            "get_block_stats_fields",
            client.get_block_stats_fields(1, &[])
        );
        if let Ok(block) = client.get_block(&tip) {
            let coinbase: &Transaction = &block.txdata[0];
            let txid = coinbase.compute_txid();
            call!(
                "get_raw_transaction",
                client.get_raw_transaction(&txid, Some(&tip))
            );
            call!(
                "get_raw_transaction_hex",
                client.get_raw_transaction_hex(&txid, Some(&tip))
            );
            call!(
                "get_raw_transaction_info",
                client.get_raw_transaction_info(&txid, Some(&tip))
            );
            call!(
                "decode_raw_transaction",
                client.decode_raw_transaction(coinbase, None)
            );
            call!(
                "submit_block",
                client.submit_block(&block).or_else(duplicate)
            );
        }
        call!("wait_for_block", client.wait_for_block(&tip, 1_000));
    }
    call!("get_blockchain_info", client.get_blockchain_info());
    call!("get_block_count", client.get_block_count());
    call!("get_block_hash", client.get_block_hash(1));
    call!("get_block_stats", client.get_block_stats(1));
    call!("get_chain_tips", client.get_chain_tips());
    call!("get_difficulty", client.get_difficulty());
    call!("get_mempool_info", client.get_mempool_info());
    call!("get_raw_mempool", client.get_raw_mempool());
    call!("get_raw_mempool_verbose", client.get_raw_mempool_verbose());
    call!("get_mining_info", client.get_mining_info());
    call!(
        "get_network_hash_ps",
        client.get_network_hash_ps(None, None)
    );
    call!("get_network_info", client.get_network_info());
    call!("get_net_totals", client.get_net_totals());
    call!("get_connection_count", client.get_connection_count());
    call!("get_peer_info", client.get_peer_info());
    call!("get_added_node_info", client.get_added_node_info(None));
    call!("get_node_addresses", client.get_node_addresses(Some(4)));
    call!("get_index_info", client.get_index_info());
    call!("estimate_smart_fee", client.estimate_smart_fee(6, None));
    let template = || {
        client.get_block_template(
            GetBlockTemplateModes::Template,
            &[GetBlockTemplateRules::SegWit],
            &[] as &[GetBlockTemplateCapabilities],
        )
    };
    call!("get_block_template", template());
    call!(
        "create_multisig",
        client.call::<serde_json::Value>("createmultisig", &[1.into(), serde_json::json!([KEY])],)
    );
    let described = client.get_descriptor_info(&format!("wpkh({KEY})"));
    if let Ok(described) = &described {
        call!(
            "derive_addresses",
            client.derive_addresses(&described.descriptor, None)
        );
    }
    call!("get_descriptor_info", described);
    call!("uptime", client.uptime());
    call!("ping", client.ping());
    call!("list_banned", client.list_banned());
    call!("set_network_active", client.set_network_active(true));
    outcomes
}

/// A block that is there already is what is expected.
fn duplicate(error: Error) -> Result<(), Error> {
    match error {
        Error::ReturnedError(text) if text == "duplicate" => Ok(()),
        other => Err(other),
    }
}

/// Follows the whole chain from genesis to the tip, then looks at the mempool.
pub(crate) fn bdk(url: &str, cookie: &Path) -> Vec<Outcome> {
    let client = match client(url, cookie) {
        Ok(client) => Arc::new(client),
        Err(error) => return vec![("new", Err(error.to_string()))],
    };
    let followed = follow(&client).map_err(|error| error.to_string());
    let complete = followed.and_then(|(height, expected)| match height == expected {
        true => Ok(()),
        false => Err(format!("it is at {height}, and the tip at {expected}")),
    });
    let mut outcomes = vec![("next_block", complete)];
    let genesis = client.get_block_hash(0).map_err(|error| error.to_string());
    outcomes.push((
        "mempool",
        genesis.and_then(|genesis| {
            let tip = CheckPoint::new((0, genesis).into());
            let mut emitter = Emitter::new(client.clone(), tip, 0, NO_EXPECTED_MEMPOOL_TXS);
            emitter
                .mempool()
                .map(drop)
                .map_err(|error| error.to_string())
        }),
    ));
    outcomes
}

fn follow(client: &Arc<Client>) -> Result<(u32, u32), Error> {
    let tip = CheckPoint::new((0, client.get_block_hash(0)?).into());
    let mut emitter = Emitter::new(client.clone(), tip, 0, NO_EXPECTED_MEMPOOL_TXS);
    let mut height = 0;
    while let Some(event) = emitter.next_block()? {
        height = event.block_height();
    }
    let expected = client.get_block_count()?;
    Ok((height, u32::try_from(expected).unwrap_or(u32::MAX)))
}
