//! `Peer`: one connection. Owns its socket and its lifecycle guard.
//!
//! Input is a stream of frames that is read as fast as it may be, output a queue emptied by the actor's
//! own writer; both are items of the actor, so that its end closes the socket.

pub(crate) mod link;
pub(crate) mod messages;

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::Poll;

use actix::dev::ContextFut;
use actix::fut::wrap_future;
use actix::{
    Actor, ActorContext, ActorFuture, ActorFutureExt, Addr, AsyncContext, Context, Handler,
    Recipient, Running, StreamHandler,
};
use bitcoin::p2p::Magic;
use handfast_proto::address_book::Group;
use handfast_proto::lifecycle::{Direction, DoneReason, IoFailure, Reached};
use handfast_proto::receiving::Pool;
use handfast_proto::session::{Effect, Input, Session, SessionConfig};
use handfast_wire::{Codec, CodecError, Message, Transport};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::{Semaphore, mpsc};
use tokio::time::Instant;

use crate::alarm::{Alarm, Timed};
use crate::clock::Clock;
use crate::credit::{Charged, Credit};
use crate::frame_reader::{Exceeding, FrameReader, ReadError, Remote, Shares};
use crate::half_open::{HalfOpen, Listed};
use crate::handshake_permits::HandshakePermit;
use crate::large_frames::LargeFrames;
use crate::lifecycle::{ConnectionParams, Lifecycle};
use crate::outbox::{Outbox, QueuedToAll, outbox, write_queue};
use crate::peer::link::PeerLink;
use crate::peer::messages::{Disconnect, Ping, ServeBlock, ToPeer};
use crate::peer_manager::messages::{PeerAdd, PeerDone, PeerInput};
use crate::post::post_to;
use crate::serve::{BlockServing, serve};
use crate::stats::{Counters, TotalCounters};

/// What all connections of a node share.
#[derive(Debug)]
pub(crate) struct PeerContext {
    pub(crate) session: Arc<SessionConfig>,
    pub(crate) clock: Clock,
    pub(crate) add: Recipient<PeerAdd>,
    pub(crate) input: Recipient<PeerInput>,
    pub(crate) done: Recipient<PeerDone>,
    pub(crate) block_serving: BlockServing,
    /// The node's budget for blocks that wait for the kernel.
    pub(crate) blocks: Arc<Semaphore>,
    /// The node's memory for large frames.
    pub(crate) large: Arc<LargeFrames>,
    /// Connections that send too much.
    pub(crate) exceeding: Exceeding,
    /// Bytes of messages that are queued to remotes.
    pub(crate) queued: QueuedToAll,
    pub(crate) totals: Arc<TotalCounters>,
    /// Height of our tip, sent in `version`.
    pub(crate) height: Arc<AtomicU64>,
    /// Where connections in the handshake are listed.
    pub(crate) half_open: HalfOpen,
    /// Mixed with the connection's id for its session.
    pub(crate) seed: u64,
    /// Opens every frame of the network.
    pub(crate) magic: Magic,
}

impl PeerContext {
    fn shares(&self) -> Shares {
        Shares {
            large: self.large.clone(),
            blocks: self.blocks.clone(),
            exceeding: self.exceeding.clone(),
            clock: self.clock,
        }
    }
}

impl Remote {
    fn new(params: &ConnectionParams) -> Self {
        let pool = match params.direction {
            Direction::Inbound => Pool::Inbound,
            Direction::Outbound | Direction::Manual => Pool::Chosen,
        };
        Self {
            group: Group::of(params.remote.ip()),
            pool,
        }
    }
}

/// The actor of one connection.
#[derive(Debug)]
pub(crate) struct Peer {
    life: Lifecycle,
    session: Session,
    context: Arc<PeerContext>,
    outbox: Outbox,
    counters: Arc<Counters>,
    remote: Remote,
    /// Only during the handshake: PeerManager knows those who completed it.
    permit: Option<HandshakePermit>,
    /// While the handshake goes on.
    listed: Option<Listed>,
    /// Made with the first order.
    serving: Option<mpsc::UnboundedSender<ServeBlock>>,
}

fn to_peer(actor: &Addr<Peer>) -> ToPeer {
    ToPeer {
        disconnect: actor.clone().recipient(),
        ping: actor.clone().recipient(),
        serve: actor.clone().recipient(),
    }
}

/// Starts the actor of one connection on the current arbiter. Every connection
/// comes to life here, whatever its transport.
pub(crate) fn spawn<R, W>(
    context: Arc<PeerContext>,
    params: ConnectionParams,
    read: R,
    write: W,
) -> Addr<Peer>
where
    R: AsyncRead + Unpin + 'static,
    W: AsyncWrite + Unpin + 'static,
{
    let life = future(context, params, read, write);
    let addr = life.address();
    actix_rt::spawn(life);
    addr
}

/// The whole life of one connection's actor, to be polled by an executor.
fn future<R, W>(
    context: Arc<PeerContext>,
    params: ConnectionParams,
    read: R,
    write: W,
) -> ContextFut<Peer, Context<Peer>>
where
    R: AsyncRead + Unpin + 'static,
    W: AsyncWrite + Unpin + 'static,
{
    let now = context.clock.now();
    let magic = context.magic;
    let direction = params.direction;
    let height =
        u32::try_from(context.height.load(Ordering::Relaxed)).expect("heights fit 32 bits");
    let seed = context.seed ^ params.id.0.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    let session = Session::new(
        context.session.clone(),
        params.id,
        direction,
        params.remote,
        height,
        seed,
        now,
    );
    let remote = Remote::new(&params);
    let (outbox, outlet) = outbox(&context.queued);
    let counters = Arc::new(Counters::new(context.totals.clone(), params.local));

    let mut ctx = Context::new();
    let (all, address) = (&context.half_open, ctx.address().recipient());
    let listed = all.list(
        params.id,
        direction,
        params.remote,
        now,
        counters.clone(),
        address,
    );
    ctx.add_stream(FrameReader::new(
        read,
        Codec::for_handshake(magic).without_transactions(),
        remote,
        outbox.expected(),
        context.shares(),
        counters.clone(),
    ));
    let transport = Transport::v1(magic);
    let writer = write_queue(outlet, write, transport, context.clock, counters.clone());
    ctx.spawn(wrap_future::<_, Peer>(writer).map(|result, peer, ctx| {
        if let Err(error) = result {
            peer.step(Input::ReadFailed(IoFailure::from(&error)), None, ctx);
        }
    }));
    ctx.spawn(Watch(Alarm::new()));
    let (life, permit) = Lifecycle::new(params, now, context.add.clone(), context.done.clone());
    ctx.into_future(Peer {
        life,
        session,
        context,
        outbox,
        counters,
        remote,
        permit: Some(permit),
        listed: Some(listed),
        serving: None,
    })
}

/// The item of the context that minds the clock, and the place in the handshake.
///
/// # Ordering
/// Spawned after the stream of frames and so polled after it: what has arrived counts
/// before a deadline and before an order to leave. See [`crate::manual::ordering`].
struct Watch(Alarm);

impl ActorFuture<Peer> for Watch {
    type Output = ();

    fn poll(
        self: Pin<&mut Self>,
        peer: &mut Peer,
        ctx: &mut Context<Peer>,
        task: &mut std::task::Context<'_>,
    ) -> Poll<()> {
        if let Some(permit) = &mut peer.permit
            && let Poll::Ready(told) = Pin::new(permit).poll(task)
        {
            peer.permit = None;
            // Without a reason only if the limiter itself is gone: the node ends.
            let reason = told.unwrap_or(DoneReason::Shutdown);
            peer.step(Input::Disconnect(reason), None, ctx);
        }
        ActorFuture::<Peer>::poll(Pin::new(&mut self.get_mut().0), peer, ctx, task)
    }
}

impl Peer {
    /// One step of the session, and its effects.
    fn step(&mut self, input: Input, mut credit: Option<Credit>, ctx: &mut Context<Self>) {
        let now = self.context.clock.now();
        let mut slow = false;
        let effects = self.session.step(now, input);
        if let Some(listed) = &self.listed
            && let Some(version_info) = self.session.introduced(now)
        {
            listed.version_received(version_info);
        }
        for effect in effects {
            match effect {
                Effect::Send(message) => {
                    if matches!(message, Message::Ping(_)) {
                        self.counters.ping_sent(now.mono);
                    }
                    slow |= self.outbox.push(message).is_err();
                }
                Effect::Ready(version_info) => {
                    // Returned: the permit cannot be revoked any more.
                    self.permit = None;
                    let link = PeerLink {
                        actor: to_peer(&ctx.address()),
                        outbox: self.outbox.clone(),
                        counters: self.counters.clone(),
                    };
                    let listed = self.listed.take();
                    let listed = listed.expect("a handshake is completed once");
                    self.life.ready(version_info, link, listed);
                }
                Effect::Deliver(message) => {
                    let credit = credit.take().expect("a frame delivers one message at most");
                    post_to(
                        &self.context.input,
                        PeerInput {
                            id: self.life.id(),
                            message: Arc::new(message),
                            credit,
                        },
                    );
                }
                Effect::Rtt(took) => self.counters.round_trip(took),
                Effect::Close(reason) => {
                    self.life.ends(self.session.reached(), reason);
                    ctx.stop();
                }
            }
        }
        if slow {
            self.step(Input::SlowReader, None, ctx);
        }
    }
}

impl Actor for Peer {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Self::Context) {
        self.step(Input::Connected, None, ctx);
    }

    fn stopping(&mut self, _: &mut Self::Context) -> Running {
        Running::Stop
    }
}

impl Timed for Peer {
    fn deadline(&self) -> Option<Instant> {
        self.session
            .deadline()
            .map(|mono| self.context.clock.instant(mono))
    }

    fn on_deadline(&mut self, ctx: &mut Self::Context) {
        self.step(Input::Deadline, None, ctx);
    }
}

impl StreamHandler<Result<Charged, ReadError>> for Peer {
    fn handle(&mut self, item: Result<Charged, ReadError>, ctx: &mut Self::Context) {
        match item {
            Ok(Charged { frame, credit }) => {
                let unix = self.context.clock.now().unix;
                self.counters.received(&frame, unix);
                match frame.message {
                    Ok(message) => self.step(Input::Received(message), Some(credit), ctx),
                    Err(malformed) => self.step(Input::Malformed(malformed), None, ctx),
                }
            }
            Err(ReadError::Codec(CodecError::Decode(error))) => {
                self.step(Input::Undecodable(error), None, ctx);
            }
            Err(ReadError::Codec(CodecError::Io(error))) => {
                self.step(Input::ReadFailed(IoFailure::from(&error)), None, ctx)
            }
            Err(ReadError::SlowSender) => self.step(Input::SlowSender, None, ctx),
        }
    }

    fn finished(&mut self, ctx: &mut Self::Context) {
        self.step(Input::RemoteClosed, None, ctx);
    }
}

impl Handler<Disconnect> for Peer {
    type Result = ();

    fn handle(&mut self, Disconnect(reason): Disconnect, ctx: &mut Self::Context) {
        self.step(Input::Disconnect(reason), None, ctx);
    }
}

impl Handler<Ping> for Peer {
    type Result = ();

    fn handle(&mut self, _: Ping, ctx: &mut Self::Context) {
        self.step(Input::Ping, None, ctx);
    }
}

impl Handler<ServeBlock> for Peer {
    type Result = ();

    fn handle(&mut self, order: ServeBlock, ctx: &mut Self::Context) {
        let serving = self.serving.get_or_insert_with(|| {
            let (orders, todo) = mpsc::unbounded_channel();
            let block_serving = self.context.block_serving.clone();
            let outbox = self.outbox.clone();
            ctx.spawn(wrap_future(serve(todo, block_serving, self.remote, outbox)));
            orders
        });
        // Fails only when the connection is ending.
        let _ = serving.send(order);
    }
}

/// A connection whose socket broke before it could be used: its guard reports
/// the end like any other.
pub(crate) fn failed_setup(
    context: &PeerContext,
    params: ConnectionParams,
    error: &std::io::Error,
) {
    let now = context.clock.now();
    let (mut life, _) = Lifecycle::new(params, now, context.add.clone(), context.done.clone());
    life.ends(Reached::Connected, DoneReason::RemoteReset(error.into()));
}

#[cfg(test)]
mod tests;
