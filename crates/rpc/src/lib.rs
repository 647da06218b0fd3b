//! The admin interface: JSON-RPC as Bitcoin Core speaks it, over TCP and a Unix socket.
//!
//! ```text
//! bytes ─→ server (HTTP, sockets) ─→ auth ─→ jsonrpc (pure) ─→ methods ─→ NodeHandle
//!                                                                 └→ render (JSON of blocks, scripts)
//! ```
//!
//! This crate sees the node through [`handfast_node::NodeHandle`] alone. Reads of
//! the chain come from its published view and never wait behind validation.

mod address_group;
mod auth;
mod descriptor;
mod fuzz_control;
pub mod jsonrpc;
mod log_control;
mod methods;
mod metrics;
mod payout;
mod policy;
mod render;
mod server;
mod sockets;

pub use auth::{AccessRules, COOKIE_USER, RpcUser, UserError, Whitelist, WhitelistError};
pub use fuzz_control::{FuzzControl, FuzzRequest, control_fuzzer};
pub use log_control::{LogControl, control_log};
pub use payout::address_script;
pub use server::Server;
pub use sockets::{DEFAULT_MAX_CALLS, Listeners, MAX_SOCKET_PATH, RpcConfig, RpcError};
