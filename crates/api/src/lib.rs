//! What a client of a node has to know: which methods its RPC has, with their parameters, by
//! which codes it refuses, and by which files in the network's directory it is reached.
//!
//! Nothing is called or answered here. The code of the methods is in `rpc`; a client depends on
//! this crate alone, and so does not link the node.

pub mod code;
pub mod methods;

/// The name of the cookie file in the network's directory: user and password for calls over TCP.
/// Core `COOKIEAUTH_FILE`.
pub const COOKIE_FILE: &str = ".cookie";
/// The name of the Unix socket in the network's directory, unless another path is chosen.
pub const SOCKET_FILE: &str = "node.sock";
