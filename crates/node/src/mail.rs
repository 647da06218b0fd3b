//! The one home of sending.
//!
//! A mailbox of actix has no useful bound of its own (`do_send` ignores the
//! capacity, and with a bounded mailbox it overtakes parked `send`s). So every
//! mailbox is unbounded and strictly FIFO, and each message says what bounds how
//! many of it can be queued: that is its delivery class, a trait. `clippy.toml`
//! bans the methods of `Addr` everywhere else.

use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use actix::dev::ToEnvelope;
use actix::{Actor, Addr, Handler, Message, Recipient};
use bitcoin::block::Header;
use bitcoin::{BlockHash, ScriptBuf};
use handfast_chain::OpenError;
use handfast_proto::address_book::Row;
use handfast_proto::bans::{BanError, BanOrder};
use handfast_proto::lifecycle::{ConnId, Direction, DoneReason, Ending, Introduction};
use handfast_proto::mining::{GenerateFailure, GenerateOrder, Generated, MiningState};
use handfast_proto::peer_table::{
    AddAddressError, AddNodeCommand, AddNodeError, AddedNode, AtCapacity, DisconnectTarget,
    HistoryRow, SyncOrder,
};
use handfast_proto::sync::{FetchRefusal, KernelEvent, SubmitResult, SyncState};
use handfast_wire::{Message as WireMessage, Packet, RawBlock};
use tokio::sync::oneshot;

use crate::audit::{Audit, Handled};
use crate::credit::Credit;
use crate::half_open::Listed;
use crate::handle::{Gone, PeerInfo};
use crate::miner::hash_threads::Solved;
use crate::opening::Open;
use crate::peer::PeerLink;
use crate::slots::{Queued, Slot};

/// Why a mailbox cannot grow without limit by one kind of message.
pub(crate) trait Bound {}

/// At most two per slot: the message carries the slot, or precedes the one that does (L5).
pub(crate) enum BySlot {}
/// Each carries credit of its connection and gives it back when handled.
pub(crate) enum ByCredit {}
/// Each is caused by one message or request of the receiver, which bounds those.
pub(crate) enum ByRequest {}
/// A few ever, or one per caller who waits for the answer.
pub(crate) enum Rare {}

impl Bound for BySlot {}
impl Bound for ByCredit {}
impl Bound for ByRequest {}
impl Bound for Rare {}

/// A message that is posted: the sender does not wait and learns nothing.
/// To a stopped actor it is dropped, and what it carries goes home by `Drop`.
pub(crate) trait Posted: Message<Result = ()> + Send {
    /// What keeps the receiver's mailbox short.
    type Bound: Bound;
}

/// A message whose sender waits for the answer: one in flight per caller.
pub(crate) trait Asked: Message + Send {}

/// Posts `message`; never waits. Order is kept per receiver.
pub(crate) fn post<A, M>(to: &Addr<A>, message: M)
where
    A: Actor + Handler<M>,
    A::Context: ToEnvelope<A, M>,
    M: Posted + 'static,
{
    #[expect(clippy::disallowed_methods, reason = "the one home of sending")]
    to.do_send(message);
}

/// Posts `message` to whoever receives this kind of it; never waits.
pub(crate) fn post_to<M: Posted + 'static>(to: &Recipient<M>, message: M) {
    #[expect(clippy::disallowed_methods, reason = "the one home of sending")]
    to.do_send(message);
}

/// Asks and waits for the answer. Never used by a manager: managers do not wait.
///
/// # Errors
/// The actor is not there any more.
///
/// # Cancel safety
/// Dropping the future cancels the question when it was not yet handled.
pub(crate) async fn ask<A, M>(to: &Addr<A>, message: M) -> Result<M::Result, Gone>
where
    A: Actor + Handler<M>,
    A::Context: ToEnvelope<A, M>,
    M: Asked + 'static,
    M::Result: Send,
{
    #[expect(clippy::disallowed_methods, reason = "the one home of sending")]
    let answer = to.send(message);
    answer.await.map_err(|_| Gone::Stopping)
}

macro_rules! posted {
    ($bound:ident: $($message:ty),+ $(,)?) => {
        $(impl Message for $message { type Result = (); }
          impl Posted for $message { type Bound = $bound; })+
    };
}

macro_rules! asked {
    ($($message:ty => $answer:ty),+ $(,)?) => {
        $(impl Message for $message { type Result = $answer; }
          impl Asked for $message {})+
    };
}

// ---- Peer → PeerManager. One sender per connection, one mailbox: see `manual::ordering`.

/// A connection completed its handshake.
#[derive(Debug)]
pub(crate) struct PeerAdd {
    /// Until it was handled the connection is shown as one in the handshake.
    pub(crate) listed: Listed,
    /// What it said of itself.
    pub(crate) introduction: Introduction,
    /// The way back to it.
    pub(crate) link: PeerLink,
    /// Counts it as queued until it, and what it becomes for SyncManager, was handled.
    pub(crate) queued: Queued,
}

/// A connection received a message.
#[derive(Debug)]
pub(crate) struct PeerInput {
    /// The connection.
    pub(crate) id: ConnId,
    /// The message.
    pub(crate) message: WireMessage,
    /// Given back when this has been handled.
    pub(crate) credit: Credit,
}

/// A connection has ended; nothing about `id` follows.
///
/// Sender: the peer's lifecycle guard, nobody else. Bound: frees `slot` when
/// *handled*, so at most two lifecycle messages per slot are ever queued (L5).
#[derive(Debug)]
pub(crate) struct PeerDone {
    /// Which one, and why.
    pub(crate) ending: Ending,
    /// As in [`PeerAdd`]. Goes before the slot.
    pub(crate) queued: Queued,
    /// Its slot.
    pub(crate) slot: Slot,
}

posted!(BySlot: PeerAdd, PeerDone);
posted!(ByCredit: PeerInput);

// ---- PeerManager → SyncManager.

/// PeerManager admitted a connection.
#[derive(Debug)]
pub(crate) struct SyncAdd {
    /// What it said of itself.
    pub(crate) introduction: Introduction,
    /// Of the [`PeerAdd`] that led to this.
    pub(crate) queued: Queued,
}

/// An admitted connection received a message for sync.
#[derive(Debug)]
pub(crate) struct SyncInput {
    /// The connection.
    pub(crate) id: ConnId,
    /// The message.
    pub(crate) message: WireMessage,
    /// Given back when this has been handled.
    pub(crate) credit: Credit,
}

/// An admitted connection has ended; frees the slot when handled.
#[derive(Debug)]
pub(crate) struct SyncDone {
    /// The connection.
    pub(crate) id: ConnId,
    /// Of the [`PeerDone`] that led to this. Goes before the slot.
    pub(crate) queued: Queued,
    /// Its slot.
    pub(crate) slot: Slot,
}

posted!(BySlot: SyncAdd, SyncDone);
posted!(ByCredit: SyncInput);

// ---- SyncManager → PeerManager, and what comes back to SyncManager.

/// What SyncManager wants done with a connection.
#[derive(Debug)]
pub(crate) struct SyncCommand(pub(crate) SyncOrder);

/// Verdicts of the kernel, oldest first. One message for several: each would wake
/// this thread in place of the kernel's.
#[derive(Debug)]
pub(crate) struct Kernel(pub(crate) Vec<KernelEvent>);

/// SyncManager wants a block sent to a connection.
#[derive(Debug)]
pub(crate) struct ServeBlock {
    /// The connection.
    pub(crate) id: ConnId,
    /// Comes back with [`Served`].
    pub(crate) ticket: u64,
    /// The block.
    pub(crate) hash: BlockHash,
    /// With witness data.
    pub(crate) witness: bool,
}

/// Serving a block has ended, sent or not.
#[derive(Debug)]
pub(crate) struct Served {
    /// The connection.
    pub(crate) id: ConnId,
    /// Of the order.
    pub(crate) ticket: u64,
}

/// Offers a block from outside the network.
#[derive(Debug)]
pub(crate) struct SubmitBlock {
    /// The block.
    pub(crate) block: RawBlock,
    /// Gets the verdict.
    pub(crate) answer: oneshot::Sender<SubmitResult>,
}

/// Offers a header from outside the network.
#[derive(Debug)]
pub(crate) struct SubmitHeader {
    /// The header.
    pub(crate) header: Header,
    /// Gets the verdict.
    pub(crate) answer: oneshot::Sender<SubmitResult>,
}

/// Offers a block of our own, if its parent is the tip when this is handled.
#[derive(Debug)]
pub(crate) struct SubmitMined {
    /// The block.
    pub(crate) block: RawBlock,
    /// Gets the verdict; dropped without one: the block is stale, and was not offered.
    pub(crate) answer: oneshot::Sender<SubmitResult>,
}

posted!(ByRequest: SyncCommand, Kernel, ServeBlock, Served);
posted!(Rare: SubmitBlock, SubmitHeader, SubmitMined);

// ---- To Miner.

/// A hash thread solved a block. One for each that it was given.
#[derive(Debug)]
pub(crate) struct MinerSolved(pub(crate) Solved);

/// Blocks on demand.
#[derive(Debug)]
pub(crate) struct GenerateBlocks {
    /// How many and for whom; the ticket is the miner's to fill in.
    pub(crate) order: GenerateOrder,
    /// Gets them. Dropped by the one who asks: the order is void.
    pub(crate) answer: oneshot::Sender<Result<Generated, GenerateFailure>>,
}

posted!(ByRequest: MinerSolved);
posted!(Rare: GenerateBlocks);

/// Mine until told otherwise.
#[derive(Debug)]
pub(crate) struct StartMining {
    /// Hash threads, at least one.
    pub(crate) threads: usize,
    /// Who is paid.
    pub(crate) payout: ScriptBuf,
}

/// Mine no more.
#[derive(Debug)]
pub(crate) struct StopMining;

asked! {
    StartMining => Result<Arc<MiningState>, std::io::Error>,
    StopMining => Arc<MiningState>,
}

// ---- PeerManager → Peer, Connector; Connector → PeerManager.

/// End this connection.
#[derive(Debug)]
pub(crate) struct Disconnect(pub(crate) DoneReason);

/// Send a `ping`.
#[derive(Debug)]
pub(crate) struct Ping;

/// Connect to `addr`.
#[derive(Debug)]
pub(crate) struct Dial {
    /// Where to.
    pub(crate) addr: SocketAddr,
    /// [`Direction::Outbound`] or [`Direction::Manual`].
    pub(crate) direction: Direction,
    /// The operator's name for it.
    pub(crate) name: Option<String>,
}

/// Find the addresses of a name.
#[derive(Debug)]
pub(crate) struct Resolve {
    /// Comes back in [`Resolved`].
    pub(crate) name: String,
    /// What to look up.
    pub(crate) host: String,
    /// The port that the addresses get.
    pub(crate) port: u16,
    /// Whether it is a DNS seed.
    pub(crate) seeds: bool,
}

/// The addresses of a name, or why it could not be looked up.
#[derive(Debug)]
pub(crate) struct Resolved {
    /// The name.
    pub(crate) name: String,
    /// Its addresses.
    pub(crate) addrs: Result<Vec<SocketAddr>, String>,
}

/// A dial was not tried: no slot is free.
#[derive(Debug)]
pub(crate) struct NotDialled {
    /// Where to.
    pub(crate) addr: SocketAddr,
    /// The operator's name for it.
    pub(crate) name: Option<String>,
}

/// A dial did not lead to a connection.
#[derive(Debug)]
pub(crate) struct DialFailed {
    /// Where to.
    pub(crate) addr: SocketAddr,
    /// The operator's name for it.
    pub(crate) name: Option<String>,
    /// Why.
    pub(crate) error: String,
}

posted!(Rare: Ping);
posted!(ByRequest: Disconnect, Dial, Resolve, Resolved, NotDialled, DialFailed);

// ---- The audit. Posted, not asked: it takes the way of the lifecycle messages, so
// that SyncManager is looked at when it has handled exactly what PeerManager had.

/// What PeerManager's table shows; goes on to SyncManager as [`AuditSync`].
#[derive(Debug)]
pub(crate) struct AuditPeers {
    /// Gets both managers' answer.
    pub(crate) answer: oneshot::Sender<Audit>,
}

/// What SyncManager's table shows after PeerManager's.
#[derive(Debug)]
pub(crate) struct AuditSync {
    /// PeerManager's table.
    pub(crate) peer_table: BTreeSet<ConnId>,
    /// What PeerManager has handled.
    pub(crate) peer_manager: Handled,
    /// Gets both managers' answer.
    pub(crate) answer: oneshot::Sender<Audit>,
}

posted!(Rare: AuditPeers, AuditSync);

// ---- Questions.

/// Every admitted peer.
#[derive(Debug)]
pub(crate) struct Peers;
/// The connections that ended last.
#[derive(Debug)]
pub(crate) struct PeerHistory;
/// Inbound connections from this address are left out of the history from now on, and those
/// from any other are in it.
#[derive(Debug)]
pub(crate) struct LeaveOutOfHistory(pub(crate) Option<IpAddr>);
/// The operator's addresses.
#[derive(Debug)]
pub(crate) struct AddedNodes;
/// What sync does.
#[derive(Debug)]
pub(crate) struct QuerySyncState;
/// The `getblockfrompeer` RPC.
#[derive(Debug)]
pub(crate) struct FetchBlock {
    /// The peer.
    pub(crate) id: ConnId,
    /// The block.
    pub(crate) hash: BlockHash,
}
/// The `addnode` RPC.
#[derive(Debug)]
pub(crate) struct AddNode {
    /// The address or name.
    pub(crate) name: String,
    /// What to do with it.
    pub(crate) command: AddNodeCommand,
}
/// The `disconnectnode` RPC.
#[derive(Debug)]
pub(crate) struct DisconnectPeer {
    /// Which.
    pub(crate) target: DisconnectTarget,
}
/// The `setban` and `clearbanned` RPCs.
#[derive(Debug)]
pub(crate) struct BanPeers {
    /// What to do.
    pub(crate) order: BanOrder,
}

/// The `ping` RPC.
#[derive(Debug)]
pub(crate) struct PingPeers;
/// The `setnetworkactive` RPC.
#[derive(Debug)]
pub(crate) struct SetNetworkActive {
    /// On or off.
    pub(crate) active: bool,
}
/// The address book, for `getnodeaddresses` and `getaddrmaninfo`.
#[derive(Debug)]
pub(crate) struct KnownAddresses {
    /// Only those worth telling.
    pub(crate) good: bool,
}
/// The `addpeeraddress` RPC.
#[derive(Debug)]
pub(crate) struct AddAddress {
    /// The address.
    pub(crate) addr: SocketAddr,
    /// As if we had been connected to it.
    pub(crate) tried: bool,
}
/// The `addconnection` RPC.
#[derive(Debug)]
pub(crate) struct Connect {
    /// Where to.
    pub(crate) addr: SocketAddr,
}
/// The `sendmsgtopeer` RPC. False: no such peer, or its queue is full.
#[derive(Debug)]
pub(crate) struct SendPacket {
    /// The peer.
    pub(crate) id: ConnId,
    /// What to send.
    pub(crate) packet: Packet,
}

asked! {
    PingPeers => (),
    SetNetworkActive => (),
    KnownAddresses => Vec<Row>,
    AddAddress => Result<(), AddAddressError>,
    Connect => Result<(), AtCapacity>,
    SendPacket => bool,
    BanPeers => Result<(), BanError>,
    Peers => Vec<PeerInfo>,
    PeerHistory => Vec<HistoryRow>,
    LeaveOutOfHistory => (),
    AddedNodes => Vec<AddedNode>,
    QuerySyncState => SyncState,
    FetchBlock => Result<(), FetchRefusal>,
    AddNode => Result<(), AddNodeError>,
    DisconnectPeer => bool,
}

// ---- Start and stop. `Node` alone sends the orders of a phase.

/// Shut the node down.
#[derive(Debug)]
pub(crate) struct Shutdown {
    /// Who wants it, or why.
    pub(crate) why: String,
}

/// An actor or thread that the node cannot run without has ended on its own.
#[derive(Debug)]
pub(crate) struct ActorDied {
    /// Which.
    pub(crate) who: &'static str,
    /// How.
    pub(crate) how: String,
}

posted!(Rare: Shutdown, ActorDied);

/// The kernel was opened, or cannot be.
#[derive(Debug)]
pub(crate) struct Opened(pub(crate) Result<Box<Open>, OpenError>);

posted!(Rare: Opened);

/// Phase "miner": stop.
#[derive(Debug)]
pub(crate) struct StopMiner;
/// Phase "intake": accept and dial no more.
#[derive(Debug)]
pub(crate) struct StopIntake;
/// Phase "drain": disconnect everybody, admit nobody.
#[derive(Debug)]
pub(crate) struct Drain;
/// Phase "managers": stop, and answer what has to be saved and what was handled.
#[derive(Debug)]
pub(crate) struct StopPeers {
    /// Every slot is home, so the table must be empty (L6).
    pub(crate) slots_home: bool,
}
/// Phase "managers": stop, let go of the kernel, and answer what was handled.
#[derive(Debug)]
pub(crate) struct StopSync {
    /// Every slot is home, so the table must be empty (L6).
    pub(crate) slots_home: bool,
}
/// The rows of `peers.dat`.
#[derive(Debug)]
pub(crate) struct AddressRows;

asked! {
    StopMiner => (),
    StopIntake => (),
    Drain => (),
    StopPeers => (Vec<Row>, Handled),
    StopSync => Handled,
    AddressRows => Vec<Row>,
}
