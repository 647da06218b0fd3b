//! Handfast beside a real `bitcoind`, in both directions. `make interop` runs these.
//!
//! Everything stays on loopback: no node is given a peer but those named here.

mod addresses;
mod answers;
mod bitcoin_cli;
mod chains;
mod clients;
mod clock;
mod electrs;
mod electrum;
mod electrum_server;
mod electrumx;
mod following;
mod fuzz;
mod indexes;
mod kit;
mod malformed;
mod mining;
mod restarts;
mod tools;
