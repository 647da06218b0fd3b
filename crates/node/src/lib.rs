//! The actors of a Handfast node: wiring, I/O, timers, shutdown.
//!
//! No decision about Bitcoin is taken here. An actor turns a message into an
//! input of its machine (`proto`), calls `step`, and performs the effects. What
//! this crate owes is order, bounds and shutdown; [`manual`] says how.

pub mod allocator;
pub mod config;
mod half_open;
pub mod handle;
pub mod manual;
pub mod miner;
pub mod scheduling;

mod accept_queue;
mod acceptor;
mod alarm;
mod arbiters;
mod audit;
mod bans_file;
mod clock;
mod connector;
mod credit;
mod critical_guard;
mod descriptors;
mod event_counts;
mod frame_reader;
mod handshake_permits;
mod indexed;
mod indexer;
mod interfaces;
mod joint;
mod kernel_times;
mod large_frames;
mod lifecycle;
mod listener;
mod listening_socket;
mod mining_file;
mod node;
#[cfg(test)]
mod node_tests;
mod opening;
mod operator;
mod outbox;
mod outlook_log;
mod peer;
mod peer_log;
mod peer_manager;
mod peer_socket;
mod peers_file;
mod post;
mod prober;
mod seeds;
mod serve;
mod shared;
mod shutdown;
mod slots;
mod snapshot;
mod spill;
mod state_files;
mod stats;
mod subscribers;
mod sync_log;
mod sync_manager;
mod turns;
pub mod view;
#[cfg(test)]
mod virtual_time;
mod wiring;

pub use accept_queue::{AcceptQueue, Overflows};
pub use audit::{Audit, Handled, Invariant, LifecycleQueue, SubscriberTable};
pub use config::{MiningConfig, NodeConfig, StartError, user_agent};
pub use event_counts::EventCounts;
pub use handle::{
    AddAddressFailure, AddNodeFailure, BanFailure, BlockError, ConnectFailure, DisconnectFailure,
    FetchFailure, FindError, GenerateError, MiningFailure, NodeHandle, NotRegtest,
};
pub use indexed::IndexName;
pub use kernel_times::{KernelTimes, TIMES};
pub use listening_socket::{
    Accepted, ListenAddress, ListeningSocket, ListeningSocketInfo, ListeningSockets, Recreate,
    Recreated, Refused, Registration,
};
pub use node::{BoundNode, Node};
pub use stats::{ByCommand, Totals, Traffic};

pub use view::{
    ChainView, ExitReason, Gone, ListenerInfo, LocalAddress, NetworkInfo, PeerInfo, Phase,
};

pub use handfast_chain::{ActiveBlock, ChainNews, Follower, Move};
pub use handfast_chain::{OpenError, ReadError, SpentOutput, Transactions};
pub use handfast_index::{IndexError, IndexProgress, Location, Subject};
pub use handfast_proto::Now;
pub use handfast_proto::address_book::{
    Row as AddressRow, is_peer_name, is_routable, overlay_network,
};
pub use handfast_proto::address_relay::OwnAddress;
pub use handfast_proto::bans::{
    Ban, BanCommand, BanError, BanTarget, BanTime, Subnet, SubnetError,
};
pub use handfast_proto::headers::{
    ChainTip, DeploymentState, DeploymentStatus, Entry, HeaderTree, Status,
};
pub use handfast_proto::lifecycle::{ConnId, Direction, DoneReason, Reached, Role, VersionInfo};
pub use handfast_proto::mining;
pub use handfast_proto::peer_table::{
    AddAddressError, AddNodeCommand, AddNodeError, AddedNode, AtCapacity, Attempt, DialFailure,
    DisconnectTarget, HistoryRow, ManualPeer, Outlook, PeerRow, SeedRow, Target, parse_target,
};
pub use handfast_proto::self_probe;
pub use handfast_proto::sync::{
    FetchRefusal, Phase as SyncPhase, Reject, RejectKind, SubmitResult, SyncState,
};
pub use handfast_proto::text;
/// Reading files that may be anything.
pub mod files {
    pub use handfast_disk::{Unreadable, check_not_special, quoted, read, read_text};
}
pub use handfast_wire::constants::WITNESS_COMMITMENT;
pub use handfast_wire::limits;
pub use handfast_wire::network::{BuriedDeployment, VersionBits};
pub use handfast_wire::{Message, Network, RawBlock};
