//! What a client of a node has to know: which methods its RPC has, with their parameters, by
//! which codes it refuses, and by which files in the network's directory it is reached.
//!
//! The code of the methods is in `rpc`; a client depends only on this crate, and so does not
//! link the node.

pub mod code;
pub mod methods;

/// The name of the cookie file in the network's directory: user and password for RPC over TCP.
/// Core `COOKIEAUTH_FILE`.
pub const COOKIE_FILE: &str = ".cookie";
/// The name of the Unix socket in the network's directory, unless another path is chosen.
pub const SOCKET_FILE: &str = "node.sock";
