//! Whether the RPC socket has a directory.

use handfast_cli::values::bad;
use handfast_cli::{Layers, NodeLocation, keys};
use handfast_rpc::MAX_SOCKET_PATH;

use super::RunError;

/// The node creates its own directory, and no other.
pub(super) fn check_socket_directory(
    layers: &Layers,
    place: &NodeLocation,
) -> Result<(), RunError> {
    let Some((origin, path)) = layers.one(keys::RPC_SOCKET) else {
        let length = place.rpc_socket.as_os_str().len();
        if length > MAX_SOCKET_PATH {
            let dir = place.network_dir.clone();
            return Err(RunError::DatadirTooLong { dir, length });
        }
        return Ok(());
    };
    match place.rpc_socket.parent() {
        Some(dir) if dir.is_dir() || place.network_dir.starts_with(dir) => Ok(()),
        Some(_) | None => Err(bad(
            origin,
            keys::RPC_SOCKET,
            path,
            "a path in a directory that exists",
        )
        .into()),
    }
}
