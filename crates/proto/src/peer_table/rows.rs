//! What the table shows to an operator.

use std::net::SocketAddr;
use std::time::Duration;

use super::DialFailure;
use crate::lifecycle::{ConnId, Direction, DoneReason, Reached, VersionInfo};
use crate::time::Now;

/// One admitted peer. Bytes, messages and round trips are counted elsewhere.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct PeerRow {
    /// The connection.
    pub id: ConnId,
    /// The remote end.
    pub remote: SocketAddr,
    /// Who opened it.
    pub direction: Direction,
    /// The name under which an operator asked for it.
    pub name: Option<String>,
    /// What its `version` says.
    pub version_info: VersionInfo,
    /// When it was admitted.
    pub admitted_at: Now,
    /// It is being disconnected.
    pub closing: bool,
    /// The lowest fee rate it wants transactions announced for, satoshi per 1,000 vbytes (BIP133).
    pub fee_filter: Option<u64>,
    /// It is sent addresses of other nodes.
    pub relays_addresses: bool,
    /// Addresses it sent that were looked at.
    pub addresses_processed: u64,
    /// Addresses it sent that were dropped because there were too many.
    pub addresses_rate_limited: u64,
}

/// A connection that ended.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct HistoryRow {
    /// The connection.
    pub id: ConnId,
    /// The remote end.
    pub remote: SocketAddr,
    /// Who opened it.
    pub direction: Direction,
    /// Its user agent; `None` when the handshake was not completed.
    pub user_agent: Option<String>,
    /// How far it came.
    pub reached: Reached,
    /// Why it ended.
    pub reason: DoneReason,
    /// When its transport was connected, Unix seconds.
    pub connected_at: u32,
    /// How long the transport was connected.
    pub lasted: Duration,
    /// When its end was handled, Unix seconds.
    pub ended_at: u32,
}

/// A node that was added, for `getaddednodeinfo`.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct AddedNode {
    /// As it was given.
    pub name: String,
    /// Its connection, while there is one, and who opened that.
    pub connected: Option<(ConnId, SocketAddr, Direction)>,
    /// Why it is not, if an attempt failed or a connection was lost.
    pub failure: Option<DialFailure>,
}
