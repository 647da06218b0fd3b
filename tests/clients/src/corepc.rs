//! `corepc-client`: a client for each version of Bitcoin Core, each with types of its own.

use std::path::Path;
use std::str::FromStr;

use corepc_client::bitcoin::address::{Address, NetworkChecked};
use corepc_client::bitcoin::sign_message::MessageSignature;
use corepc_client::bitcoin::{Network, PrivateKey, PublicKey};
use corepc_client::client_sync::{Auth, Result};

use crate::{ADDRESS, KEY, OWNER, Outcome, WIF};

fn came_to<T>(result: Result<T>) -> std::result::Result<(), String> {
    result.map(drop).map_err(|error| error.to_string())
}

fn address(text: &str) -> Address<NetworkChecked> {
    let address = Address::from_str(text).expect("an address");
    address
        .require_network(Network::Regtest)
        .expect("of regtest")
}

/// Calls of every version from 24 to 31.
macro_rules! calls_of_all {
    ($outcomes:ident, $client:ident, $module:ident, $($template:tt)*) => {{
        use corepc_client::client_sync::$module as version;
        let to = address(ADDRESS);
        let owner = address(OWNER);
        let key = PublicKey::from_str(KEY).expect("a key");
        let private = PrivateKey::from_wif(WIF).expect("a key");
        let (mut outcomes, client) = ($outcomes, $client);
        macro_rules! call {
            ($name:literal, $call:expr) => {
                outcomes.push(($name, came_to($call)))
            };
        }
        call!("generate_to_address", client.generate_to_address(1, &to));
        call!("generate_to_descriptor", client.generate_to_descriptor(1, "raw(51)#8lvh9jxk"));
        let tip = client.best_block_hash();
        call!("best_block_hash", client.best_block_hash());
        call!("get_best_block_hash", client.get_best_block_hash());
        if let Ok(tip) = tip {
            call!("get_block", client.get_block(tip));
            call!("get_block_verbose_zero", client.get_block_verbose_zero(tip));
            call!("get_block_verbose_one", client.get_block_verbose_one(tip));
            call!("get_block_header", client.get_block_header(&tip));
            call!("get_block_header_verbose", client.get_block_header_verbose(&tip));
            call!("get_deployment_info", client.get_deployment_info(&tip));
            call!("wait_for_block", client.wait_for_block(&tip));
            if let Ok(block) = client.get_block(tip) {
                let coinbase = &block.txdata[0];
                call!("decode_raw_transaction", client.decode_raw_transaction(coinbase));
                let script = coinbase.output[0].script_pubkey.to_hex_string();
                call!("decode_script", client.decode_script(&script));
                call!("submit_header", client.submit_header(&block.header));
            }
        }
        call!("get_blockchain_info", client.get_blockchain_info());
        call!("get_block_count", client.get_block_count());
        call!("get_block_hash", client.get_block_hash(0));
        call!("get_block_stats_by_height", client.get_block_stats_by_height(1, None));
        call!("get_chain_tips", client.get_chain_tips());
        call!("get_chain_tx_stats", client.get_chain_tx_stats());
        call!("get_difficulty", client.get_difficulty());
        call!("get_mempool_info", client.get_mempool_info());
        call!("get_raw_mempool", client.get_raw_mempool());
        call!("get_raw_mempool_verbose", client.get_raw_mempool_verbose());
        call!("get_raw_mempool_sequence", client.get_raw_mempool_sequence());
        call!("wait_for_block_height", client.wait_for_block_height(1));
        call!("get_memory_info", client.get_memory_info());
        call!("get_rpc_info", client.get_rpc_info());
        call!("help", client.help());
        call!("logging", client.logging());
        call!("uptime", client.uptime());
        call!(
            "sync_with_validation_interface_queue",
            client.sync_with_validation_interface_queue()
        );
        call!("add_peer_address", client.add_peer_address("8.8.8.8", 8333));
        call!("get_mining_info", client.get_mining_info());
        call!("get_network_hash_ps", client.get_network_hash_ps());
        let segwit = version::TemplateRequest {
            rules: vec![version::TemplateRules::Segwit],
            $($template)*
        };
        call!("get_block_template", client.get_block_template(&segwit));
        call!("get_added_node_info", client.get_added_node_info());
        call!("get_connection_count", client.get_connection_count());
        call!("get_net_totals", client.get_net_totals());
        call!("get_network_info", client.get_network_info());
        call!("server_version", client.server_version());
        call!("get_node_addresses", client.get_node_addresses());
        call!("get_peer_info", client.get_peer_info());
        call!("set_ban", client.set_ban("192.0.2.0/24", version::SetBanCommand::Add));
        call!("list_banned", client.list_banned());
        call!("clear_banned", client.clear_banned());
        call!("ping", client.ping());
        call!("set_network_active", client.set_network_active(true));
        call!("create_multisig", client.create_multisig(1, vec![key]));
        let derivable = format!("wpkh({KEY})");
        let described = client.get_descriptor_info(&derivable);
        call!("get_descriptor_info", client.get_descriptor_info(&derivable));
        if let Ok(described) = described {
            let whole = described.descriptor;
            call!("derive_addresses", client.derive_addresses(&whole));
        }
        call!("estimate_smart_fee", client.estimate_smart_fee(6));
        call!("get_index_info", client.get_index_info());
        let signed = client.sign_message_with_privkey(&private, "a message");
        call!("sign_message_with_privkey", client.sign_message_with_privkey(&private, "x"));
        let signature = signed.ok().and_then(|signed| MessageSignature::from_base64(&signed.0).ok());
        if let Some(signature) = signature {
            call!("verify_message", client.verify_message(&owner, &signature, "a message"));
        }
        call!("validate_address", client.validate_address(&to));
        (outcomes, client)
    }};
}

macro_rules! client {
    ($module:ident, $url:ident, $cookie:ident, $outcomes:ident, $($template:tt)*) => {{
        use corepc_client::client_sync::$module::Client;
        match Client::new_with_auth($url, Auth::CookieFile($cookie.to_path_buf())) {
            Ok(client) => calls_of_all!($outcomes, client, $module, $($template)*),
            Err(error) => return Some(vec![("new_with_auth", Err(error.to_string()))]),
        }
    }};
}

/// Calls that came with version 26.
macro_rules! calls_since_26 {
    ($outcomes:ident, $client:ident) => {
        $outcomes.extend([
            ("get_chain_states", came_to($client.get_chain_states())),
            (
                "get_prioritised_transactions",
                came_to($client.get_prioritised_transactions()),
            ),
            ("get_addr_man_info", came_to($client.get_addr_man_info())),
        ])
    };
}

/// Calls that came with version 29.
macro_rules! calls_since_29 {
    ($outcomes:ident, $client:ident) => {
        if let Ok(tip) = $client.best_block_hash() {
            $outcomes.extend([
                (
                    "get_block_verbose_two",
                    came_to($client.get_block_verbose_two(tip)),
                ),
                (
                    "get_block_verbose_three",
                    came_to($client.get_block_verbose_three(tip)),
                ),
            ]);
        }
    };
}

/// The calls of one version; `None`: there is no client of it.
pub(crate) fn run(version: &str, url: &str, cookie: &Path) -> Option<Vec<Outcome>> {
    let outcomes: Vec<Outcome> = Vec::new();
    macro_rules! before_26 {
        ($module:ident) => {{
            let (outcomes, _client) = client!($module, url, cookie, outcomes,);
            outcomes
        }};
    }
    macro_rules! since_26 {
        ($module:ident) => {{
            let (mut outcomes, client) = client!($module, url, cookie, outcomes,);
            calls_since_26!(outcomes, client);
            outcomes
        }};
    }
    macro_rules! since_29 {
        ($module:ident) => {{
            let (mut outcomes, client) =
                client!($module, url, cookie, outcomes, ..Default::default());
            calls_since_26!(outcomes, client);
            calls_since_29!(outcomes, client);
            outcomes
        }};
    }
    Some(match version {
        "v24" => before_26!(v24),
        "v25" => before_26!(v25),
        "v26" => since_26!(v26),
        "v27" => since_26!(v27),
        "v28" => since_26!(v28),
        "v29" => since_29!(v29),
        "v30" => since_29!(v30),
        "v31" => since_29!(v31),
        _ => return None,
    })
}
