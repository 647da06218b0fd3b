//! Calls a node with clients of Bitcoin Core as others publish them, and says which calls
//! came to what: one line each, `ok NAME` or `failed NAME: why`.
//!
//! `handfast-clients CLIENT URL COOKIE_FILE`, where CLIENT is `bitcoincore-rpc`, `bdk`, or a
//! version of `corepc-client`, `v24` to `v31`. The node is one of regtest, has a block or more
//! and a peer. Whether the answers are right is not looked at: only whether the client, with
//! its types, can read them.

#![allow(deprecated, reason = "client_sync is what its users have")]

mod corepc;
mod older;

use std::path::Path;
use std::process::ExitCode;

/// What a call came to.
type Outcome = (&'static str, Result<(), String>);

/// What all clients are given to work with.
const ADDRESS: &str = "bcrt1qft5p2uhsdcdc3l2ua4ap5qqfg4pjaqlp250x7us7a8qqhrxrxfsqseac85";
const KEY: &str = "0279be667ef9dcbbac55a06295ce870b07029bfcdb2dce28d959f2815b16f81798";
/// The private key of [`KEY`].
const WIF: &str = "cMahea7zqjxrtgAbB7LSGbcQUr1uX1ojuat9jZodMN87JcbXMTcA";
/// The address that pays to the hash of [`KEY`].
const OWNER: &str = "mrCDrCybB6J1vRfbwM5hemdJz73FwDBC8r";

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [client, url, cookie] = &arguments[..] else {
        eprintln!("usage: handfast-clients CLIENT URL COOKIE_FILE");
        return ExitCode::from(2);
    };
    let cookie = Path::new(cookie);
    let outcomes = match client.as_str() {
        "bitcoincore-rpc" => older::bitcoincore_rpc(url, cookie),
        "bdk" => older::bdk(url, cookie),
        version => match corepc::run(version, url, cookie) {
            Some(outcomes) => outcomes,
            None => {
                eprintln!("unknown client {version}");
                return ExitCode::from(2);
            }
        },
    };
    for (name, outcome) in outcomes {
        match outcome {
            Ok(()) => println!("ok {name}"),
            Err(why) => println!("failed {name}: {}", why.replace('\n', " ")),
        }
    }
    ExitCode::SUCCESS
}
