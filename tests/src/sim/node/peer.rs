//! One connection: `node/src/peer.rs` and its parts.

use std::collections::VecDeque;
use std::io::ErrorKind;
use std::sync::Arc;

use bitcoin::BlockHash;
use bytes::{Bytes, BytesMut};
use handfast_proto::address_book::Group;
use handfast_proto::lifecycle::{ConnId, Direction, Disconnection, DoneReason, Reached};
use handfast_proto::session::{Effect, Input, Session};
use handfast_proto::time::Now;
use handfast_wire::{Codec, Frame, HEADER_BYTES, Message};
use std::net::SocketAddr;
use std::time::Duration;

use super::Running;
use super::peers::PeersMail;
use super::sync::SyncMail;
use crate::sim::Mutant;
use crate::sim::engine::{Actor, Engine, NETWORK};
use crate::sim::label::Label;
use crate::sim::net::{LinkId, Read, Side};

/// `node/src/outbox.rs`.
pub(super) const MAX_MESSAGES: usize = 1_000;
pub(super) const MAX_BYTES: usize = 6 << 20;
const BATCH_BYTES: usize = 64 << 10;
/// `node/src/credit.rs`.
pub(super) const MAX_FRAMES: usize = 64;
const MAX_FRAME_BYTES: usize = 64 << 10;
/// Items that a stream yields before others get their turn.
const STREAM_TURN: usize = 16;

/// The messages of a connection's actor.
#[derive(Debug)]
pub(super) enum PeerMail {
    Disconnect(DoneReason),
    /// From the handshake limiter: only while the handshake is not complete.
    Leave(DoneReason),
    Serve {
        ticket: u64,
        hash: BlockHash,
    },
}

/// `Credit`: the credit that a frame holds.
#[derive(Debug)]
pub(super) struct Credit {
    id: ConnId,
    bytes: usize,
}

/// The send queue: bounded, with the message that its writer holds.
#[derive(Debug, Default)]
pub(super) struct Outbox {
    queue: VecDeque<(Bytes, usize)>,
    /// Bytes taken from the limit.
    taken: usize,
    batch: BytesMut,
    batch_shares: usize,
}

fn share(bytes: usize) -> usize {
    bytes.saturating_add(HEADER_BYTES).min(MAX_BYTES)
}

impl Outbox {
    /// Queues a message; returns whether it was queued.
    fn push(&mut self, message: &Message) -> bool {
        let share = share(message.heap_size());
        if self.taken + share > MAX_BYTES || self.queue.len() >= MAX_MESSAGES {
            return false;
        }
        let mut bytes = BytesMut::new();
        message.encode_into(NETWORK.magic(), &mut bytes);
        self.taken += share;
        self.queue.push_back((bytes.freeze(), share));
        true
    }

    /// Whether there is space for a frame that may wait for it.
    fn has_room(&self, bytes: usize) -> bool {
        self.taken + share(bytes) <= MAX_BYTES && self.queue.len() < MAX_MESSAGES
    }

    fn put(&mut self, frame: Bytes) {
        let share = share(frame.len());
        self.taken += share;
        self.queue.push_back((frame, share));
    }

    pub(super) fn len(&self) -> usize {
        self.queue.len()
    }

    pub(super) fn bytes(&self) -> usize {
        self.taken
    }
}

/// The actor of one connection.
#[derive(Debug)]
pub(super) struct Peer {
    pub(super) link: LinkId,
    pub(super) side: Side,
    pub(super) direction: Direction,
    remote: SocketAddr,
    /// The machine of the remote.
    pub(super) other: usize,
    connected_at: Now,
    pub(super) session: Session,
    codec: Codec,
    inbuf: BytesMut,
    pub(super) outbox: Outbox,
    pub(super) mail: VecDeque<PeerMail>,
    /// Blocks to be read and sent, in order.
    serving: VecDeque<(u64, BlockHash)>,
    /// When the first of them is read.
    reads_at: Option<Duration>,
    pub(super) frames: usize,
    frame_bytes: usize,
    /// The shortest round trip so far.
    min_ping: Option<Duration>,
    reached: Reached,
    ended: Option<DoneReason>,
}

impl Peer {
    pub(super) fn reads_at(&self) -> Option<Duration> {
        self.reads_at
    }

    fn may_read(&self) -> bool {
        self.frames < MAX_FRAMES && self.frame_bytes < MAX_FRAME_BYTES
    }
}

impl Running {
    /// `peer::spawn` and `started`.
    pub(super) fn spawn(
        &mut self,
        engine: &mut Engine,
        link: LinkId,
        side: Side,
        direction: Direction,
        remote: SocketAddr,
    ) {
        let id = ConnId(self.next_id);
        self.next_id += 1;
        let now = self.now(engine);
        let height = self.sync.tree().tip().height;
        let seed = self.profile.seed ^ id.0.wrapping_mul(0x9e37_79b9_7f4a_7c15);
        let session = Session::new(
            self.session.clone(),
            id,
            direction,
            remote,
            height,
            seed,
            now,
        );
        let other = engine.net.links[&link].host(side.other());
        let owner = crate::sim::net::Owner::Node {
            node: self.host.node,
            life: self.host.life,
            id,
        };
        engine.net.own(link, side, owner);
        engine.counts.count("connections");
        engine.line(format_args!(
            "n{} {id} begins on link{link}, {}",
            self.host.node,
            super::direction_name(direction)
        ));
        self.peers.insert(
            id,
            Peer {
                link,
                side,
                direction,
                remote,
                other,
                connected_at: now,
                session,
                codec: Codec::for_handshake(NETWORK.magic()).without_transactions(),
                inbuf: BytesMut::new(),
                outbox: Outbox::default(),
                mail: VecDeque::new(),
                serving: VecDeque::new(),
                reads_at: None,
                frames: 0,
                frame_bytes: 0,
                min_ping: None,
                reached: Reached::Connected,
                ended: None,
            },
        );
        if direction == Direction::Inbound {
            self.enter_handshake(engine, id, remote);
        }
        self.step_peer(engine, id, Input::Connected, None);
        self.wake(engine, Actor::Peer(id));
    }

    /// The actor's turn: its mailbox, then reads, writes and blocks to serve.
    pub(super) fn poll_peer(&mut self, engine: &mut Engine, id: ConnId) {
        if engine.random.below(2) == 0 {
            self.handle_peer_mail(engine, id);
            self.read_frames(engine, id);
        } else {
            self.read_frames(engine, id);
            self.handle_peer_mail(engine, id);
        }
        self.serve(engine, id);
        self.write_queue(engine, id);
    }

    /// `Handler<Disconnect>` and `Handler<ServeBlock>`.
    fn handle_peer_mail(&mut self, engine: &mut Engine, id: ConnId) {
        while let Some(mail) = self
            .peers
            .get_mut(&id)
            .and_then(|peer| peer.mail.pop_front())
        {
            match mail {
                PeerMail::Disconnect(reason) => {
                    self.step_peer(engine, id, Input::Disconnect(reason), None);
                }
                PeerMail::Leave(reason) => {
                    if self.is_in_handshake(id) {
                        self.step_peer(engine, id, Input::Disconnect(reason), None);
                    }
                }
                PeerMail::Serve { ticket, hash } => {
                    let peer = self.peers.get_mut(&id).expect("its mail was there");
                    peer.serving.push_back((ticket, hash));
                }
            }
        }
    }

    /// `StreamHandler<Result<Charged, CodecError>>`, behind `Metered`.
    fn read_frames(&mut self, engine: &mut Engine, id: ConnId) {
        for _ in 0..STREAM_TURN {
            let Some(peer) = self.peers.get_mut(&id).filter(|peer| peer.may_read()) else {
                return;
            };
            let input = match peer.codec.next_frame(&mut peer.inbuf) {
                Ok(Some(frame)) => {
                    self.frame(engine, id, frame);
                    continue;
                }
                Ok(None) => match engine.read(peer.link, peer.side, 16_384) {
                    Read::Data(data) => {
                        peer.inbuf.extend_from_slice(&data);
                        continue;
                    }
                    Read::Empty => return,
                    Read::Eof => Input::RemoteClosed,
                    Read::Reset => Input::ReadFailed(ErrorKind::ConnectionReset.into()),
                },
                Err(error) => Input::Undecodable(error),
            };
            return self.step_peer(engine, id, input, None);
        }
        self.wake(engine, Actor::Peer(id));
    }

    fn frame(&mut self, engine: &mut Engine, id: ConnId, frame: Frame) {
        let bytes = frame.wire_bytes;
        let peer = self.peers.get_mut(&id).expect("it was read from");
        peer.frames += 1;
        peer.frame_bytes += bytes;
        let credit = Credit { id, bytes };
        let input = match frame.message {
            Ok(message) => {
                engine.line(format_args!(
                    "n{} {id} reads {}",
                    self.host.node,
                    Label(&message)
                ));
                self.watch.received(id, &message, engine);
                Input::Received(message)
            }
            Err(garbled) => Input::Malformed(garbled),
        };
        self.step_peer(engine, id, input, Some(credit));
    }

    /// `Drop` of `Credit`.
    pub(super) fn give_back(&mut self, engine: &mut Engine, credit: Credit) {
        let Some(peer) = self.peers.get_mut(&credit.id) else {
            return;
        };
        let was_shut = !peer.may_read();
        peer.frames -= 1;
        peer.frame_bytes -= credit.bytes;
        if was_shut {
            self.wake(engine, Actor::Peer(credit.id));
        }
    }

    /// `Peer::step`, and the end of the actor when the session closed.
    pub(super) fn step_peer(
        &mut self,
        engine: &mut Engine,
        id: ConnId,
        input: Input,
        mut credit: Option<Credit>,
    ) {
        let now = self.now(engine);
        let Some(peer) = self.peers.get_mut(&id) else {
            return;
        };
        let mut slow = false;
        for effect in peer.session.step(now, input) {
            let peer = self.peers.get_mut(&id).expect("it ends after its step");
            match effect {
                Effect::Send(message) => slow |= !peer.outbox.push(&message),
                Effect::Ready(version_info) => {
                    peer.reached = Reached::Handshake;
                    self.watch.begins(id, engine);
                    self.observe(engine, |ledger| ledger.posted(id));
                    self.post_peers(engine, PeersMail::Add(Box::new(version_info)));
                }
                Effect::Deliver(message) => {
                    let credit = credit.take().expect("a frame delivers one message at most");
                    self.post_peers(engine, PeersMail::Input(id, message.into(), credit));
                }
                Effect::Rtt(took) => {
                    peer.min_ping = Some(peer.min_ping.map_or(took, |least| least.min(took)));
                }
                Effect::Close(reason) => {
                    peer.reached = peer.session.reached();
                    peer.ended = Some(reason);
                }
            }
        }
        if let Some(credit) = credit {
            self.give_back(engine, credit);
        }
        if slow {
            self.step_peer(engine, id, Input::SlowReader, None);
        }
        let ended = self.peers.get(&id).map(|peer| peer.ended.is_some());
        match ended {
            Some(true) => self.drop_peer(engine, id),
            Some(false) => self.wake(engine, Actor::Peer(id)),
            None => {}
        }
    }

    /// `Drop` of the actor: its socket closes, its guard sends `Done`.
    fn drop_peer(&mut self, engine: &mut Engine, id: ConnId) {
        let peer = self.peers.remove(&id).expect("checked by the caller");
        self.polls.remove(&Actor::Peer(id));
        self.timers.remove(&Actor::Peer(id));
        self.watch.ends(id);
        let reason = peer.ended.expect("only an ended one is dropped");
        engine.line(format_args!("n{} {id} ends: {reason}", self.host.node));
        let trouble = engine.trouble_between(peer.link, self.host.node, peer.other);
        engine.close(peer.link, peer.side);
        let disconnection = Disconnection {
            id,
            direction: peer.direction,
            remote: peer.remote,
            connected_at: peer.connected_at,
            reached: peer.reached,
            reason,
        };
        self.judge_ending(engine, &disconnection, peer.other, trouble);
        self.observe(engine, |ledger| ledger.posted(id));
        self.post_done(engine, disconnection);
    }

    /// The one `PeerDone`, and the mutants of it.
    fn post_done(&mut self, engine: &mut Engine, disconnection: Disconnection) {
        let mut slot = Some(disconnection.direction);
        if engine.is_mutant(Mutant::SlotFreedWhenSent) {
            self.slots.free(slot.take());
        }
        if engine.is_mutant(Mutant::SeparateSenders) && disconnection.reached == Reached::Handshake
        {
            self.post_sync(engine, SyncMail::Done(disconnection.id, Arc::new(None)));
        }
        let mail = PeersMail::Done(disconnection, slot);
        if engine.is_mutant(Mutant::TwoQueues) {
            self.peers_express.push_back(mail);
            self.wake(engine, Actor::Peers);
        } else {
            self.post_peers(engine, mail);
        }
    }

    /// `write_queue`: small messages together, a large one alone.
    fn write_queue(&mut self, engine: &mut Engine, id: ConnId) {
        loop {
            let Some(peer) = self.peers.get_mut(&id) else {
                return;
            };
            let outbox = &mut peer.outbox;
            if outbox.batch.is_empty() {
                outbox.taken -= std::mem::take(&mut outbox.batch_shares);
                while outbox.batch.len() < BATCH_BYTES
                    && let Some((bytes, share)) = outbox.queue.pop_front()
                {
                    outbox.batch.extend_from_slice(&bytes);
                    outbox.batch_shares += share;
                }
            }
            if outbox.batch.is_empty() {
                return;
            }
            if engine.is_reset(peer.link, peer.side) {
                let input = Input::ReadFailed(ErrorKind::BrokenPipe.into());
                return self.step_peer(engine, id, input, None);
            }
            let written = engine.write(peer.link, peer.side, &peer.outbox.batch);
            let _ = peer.outbox.batch.split_to(written);
            if !peer.outbox.batch.is_empty() {
                return;
            }
        }
    }

    /// `serve`: reads a block, waits for space, queues it, reports.
    fn serve(&mut self, engine: &mut Engine, id: ConnId) {
        let now = self.now(engine).mono;
        let slow = self.slow_until;
        loop {
            let Some(peer) = self.peers.get_mut(&id) else {
                return;
            };
            let Some((ticket, hash)) = peer.serving.front().copied() else {
                return;
            };
            let at = *peer.reads_at.get_or_insert_with(|| {
                let disk = Duration::from_micros(50 + engine.random.below(3_000));
                (now + disk).max(slow)
            });
            if at > now {
                return;
            }
            let frame = engine.blocks.get(&hash).cloned().map(|block| {
                let mut bytes = BytesMut::new();
                Message::Block(block).encode_into(NETWORK.magic(), &mut bytes);
                bytes.freeze()
            });
            let frame = frame.expect("a block that is on disk was made once");
            if !peer.outbox.has_room(frame.len()) {
                // The writer frees space, and calls this again.
                return;
            }
            peer.outbox.put(frame);
            peer.serving.pop_front();
            peer.reads_at = None;
            self.post_peers(engine, PeersMail::Served(id, ticket));
        }
    }

    /// `Timed::on_deadline`.
    pub(super) fn tick_peer(&mut self, engine: &mut Engine, id: ConnId) {
        self.step_peer(engine, id, Input::Deadline, None);
        self.wake(engine, Actor::Peer(id));
    }

    /// PeerManager's `send` and `disconnect` by the link of a connection. One that has ended
    /// accepts everything: its `Done` is on the way.
    pub(super) fn push_to(&mut self, engine: &mut Engine, id: ConnId, message: &Message) -> bool {
        let Some(peer) = self.peers.get_mut(&id) else {
            return true;
        };
        let taken = peer.outbox.push(message);
        self.wake(engine, Actor::Peer(id));
        taken
    }

    pub(super) fn post_peer(&mut self, engine: &mut Engine, id: ConnId, mail: PeerMail) {
        if let Some(peer) = self.peers.get_mut(&id) {
            peer.mail.push_back(mail);
            self.wake(engine, Actor::Peer(id));
        }
    }

    /// `Room::enter`: when the limiter is full, another handshake is ended.
    pub(super) fn enter_handshake(&mut self, engine: &mut Engine, id: ConnId, remote: SocketAddr) {
        if self.room.is_full() {
            let peers = &self.peers;
            self.room.keep(|id| {
                let peer = peers.get(&id);
                peer.is_some_and(|peer| peer.session.awaiting_handshake())
            });
        }
        let now = self.now(engine).mono;
        if let Some(leaves) = self.room.enter(id, Group::of(remote.ip()), now) {
            self.post_peer(engine, leaves, PeerMail::Leave(DoneReason::Evicted));
        }
    }

    fn is_in_handshake(&self, id: ConnId) -> bool {
        let peer = self.peers.get(&id);
        peer.is_some_and(|peer| peer.session.awaiting_handshake())
    }

    /// `Room::close`: connections that are still in the handshake end.
    pub(super) fn close_handshakes(&mut self, engine: &mut Engine) {
        for id in self.peers.keys().copied().collect::<Vec<_>>() {
            self.post_peer(engine, id, PeerMail::Leave(DoneReason::Shutdown));
        }
    }

    /// `PeerManager::round_trips`.
    pub(super) fn round_trips(&self) -> Vec<(ConnId, Duration)> {
        let measured = |id: &ConnId| Some((*id, self.peers.get(id)?.min_ping?));
        self.links.iter().filter_map(measured).collect()
    }
}
