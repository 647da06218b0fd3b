//! The network: connections as two byte streams with latency, bandwidth and a window, that may be
//! lost at any byte, delayed, partitioned or reset.

use std::collections::{BTreeMap, VecDeque};
use std::net::SocketAddr;
use std::time::Duration;

use bytes::{Buf, Bytes, BytesMut};
use handfast_proto::lifecycle::ConnId;

use super::engine::{Engine, Event};

/// Identifies a connection within a run.
pub(crate) type LinkId = u64;

/// One end of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Side {
    Dialler,
    Acceptor,
}

impl Side {
    pub(crate) fn other(self) -> Self {
        match self {
            Self::Dialler => Self::Acceptor,
            Self::Acceptor => Self::Dialler,
        }
    }
}

/// A packet of a connection.
#[derive(Clone, Debug)]
pub(crate) enum Packet {
    Data(Bytes),
    /// That side sends no more data.
    Fin,
    Rst,
}

/// The owner of one end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Owner {
    /// Not accepted yet, or closed.
    Nobody,
    Node {
        node: usize,
        life: u32,
        id: ConnId,
    },
    Stranger(usize),
}

/// The result of a read.
#[derive(Debug)]
pub(crate) enum Read {
    Data(BytesMut),
    /// Nothing now.
    Empty,
    Eof,
    Reset,
}

#[derive(Debug)]
struct End {
    /// The machine of this end; nodes come first.
    host: usize,
    owner: Owner,
    received: BytesMut,
    eof: bool,
    reset: bool,
    closed: bool,
    fin_sent: bool,
    /// Bytes in flight to it or received, and not read: they fill the window.
    unread: usize,
    /// The other end waits for space in the window.
    wanted: bool,
    /// Packets that wait for a partition to end.
    held: VecDeque<Packet>,
    /// When the line towards it is free again, and when the last packet arrives.
    free_at: Duration,
    arrives: Duration,
}

impl End {
    fn new(host: usize) -> Self {
        Self {
            host,
            owner: Owner::Nobody,
            received: BytesMut::new(),
            eof: false,
            reset: false,
            closed: false,
            fin_sent: false,
            unread: 0,
            wanted: false,
            held: VecDeque::new(),
            free_at: Duration::ZERO,
            arrives: Duration::ZERO,
        }
    }
}

/// One connection.
#[derive(Debug)]
pub(crate) struct Link {
    ends: [End; 2],
    /// Address and ephemeral port of the dialler.
    pub(crate) from: SocketAddr,
    latency: Duration,
    bytes_per_second: u64,
    window: usize,
    /// Bytes, both directions together, after which it is lost.
    cut: Option<u64>,
    /// Until when (and a while beyond) no answer in time can be expected of it.
    pub(crate) trouble: Duration,
}

impl Link {
    fn end(&mut self, side: Side) -> &mut End {
        &mut self.ends[side as usize]
    }

    pub(crate) fn owner(&self, side: Side) -> Owner {
        self.ends[side as usize].owner
    }

    pub(crate) fn host(&self, side: Side) -> usize {
        self.ends[side as usize].host
    }
}

/// All connections, and which machines reach each other.
#[derive(Debug, Default)]
pub(crate) struct Net {
    pub(crate) links: BTreeMap<LinkId, Link>,
    next: LinkId,
    /// Partition of each machine; all are 0 when the network is whole.
    pub(crate) part: BTreeMap<usize, u8>,
    /// Properties of every line, where they are not drawn: latency, bytes per second, window.
    pub(crate) line: Option<(Duration, u64, usize)>,
    /// The machine of each address.
    pub(crate) hosts: BTreeMap<SocketAddr, usize>,
}

impl Net {
    pub(crate) fn parted(&self, a: usize, b: usize) -> bool {
        self.part.get(&a).unwrap_or(&0) != self.part.get(&b).unwrap_or(&0)
    }

    pub(crate) fn own(&mut self, link: LinkId, side: Side, owner: Owner) {
        if let Some(link) = self.links.get_mut(&link) {
            link.end(side).owner = owner;
        }
    }
}

impl Engine {
    /// Sends the first packet of a new connection. `None`: no machine has that address, and no
    /// answer will come.
    pub(crate) fn dial(&mut self, host: usize, from: SocketAddr, to: SocketAddr) -> Option<LinkId> {
        let target = *self.net.hosts.get(&to)?;
        let latency = self.between(Duration::from_millis(1), Duration::from_millis(40));
        let latency = if self.chance(100) {
            latency * 8
        } else {
            latency
        };
        let thin = self.chance(self.faults.thin);
        let cut = self.chance(self.faults.cut).then(|| {
            self.counts.count("cut at a byte");
            let most = if self.chance(500) { 600 } else { 60_000 };
            self.random.below(most)
        });
        let link = self.net.next;
        self.net.next += 1;
        let bytes_per_second = if thin {
            2_000 + self.random.below(20_000)
        } else {
            100_000 << self.random.below(7)
        };
        let window = 16_384 << self.random.below(5);
        let drawn = (latency, bytes_per_second, window);
        let (latency, bytes_per_second, window) = self.net.line.unwrap_or(drawn);
        self.net.links.insert(
            link,
            Link {
                ends: [End::new(host), End::new(target)],
                from,
                latency,
                bytes_per_second,
                window,
                cut,
                trouble: if thin { Duration::MAX } else { Duration::ZERO },
            },
        );
        self.after(latency, Event::Syn(link));
        Some(link)
    }

    /// Writes as much as the window allows; returns the number of bytes.
    pub(crate) fn write(&mut self, id: LinkId, side: Side, bytes: &[u8]) -> usize {
        let Some(link) = self.net.links.get_mut(&id) else {
            return bytes.len();
        };
        if link.end(side).reset || link.end(side).fin_sent {
            return bytes.len();
        }
        let window = link.window;
        let end = link.end(side.other());
        let count = bytes.len().min(window.saturating_sub(end.unread));
        end.wanted = count < bytes.len();
        end.unread += count;
        let (mut rest, mut lost) = (&bytes[..count], false);
        if let Some(left) = &mut link.cut {
            lost = *left < count as u64;
            rest = &rest[..count.min(usize::try_from(*left).expect("small"))];
            *left -= rest.len() as u64;
        }
        while !rest.is_empty() {
            let most = if self.chance(self.faults.split) {
                90
            } else {
                1_460 * 8
            };
            let size = 1 + self.random.index(rest.len().min(most));
            let size = if rest.len() <= most && self.chance(900) {
                rest.len()
            } else {
                size
            };
            let (packet, later) = rest.split_at(size);
            rest = later;
            self.send(
                id,
                side.other(),
                Packet::Data(Bytes::copy_from_slice(packet)),
            );
        }
        if lost {
            self.line(format_args!("link{id} is lost"));
            self.send(id, side, Packet::Rst);
            self.send(id, side.other(), Packet::Rst);
        }
        count
    }

    /// Puts a packet on the line towards a side, after the earlier ones.
    fn send(&mut self, id: LinkId, to: Side, packet: Packet) {
        let spike = self.chance(self.faults.late).then(|| {
            self.counts.count("late packet");
            self.between(Duration::from_millis(500), Duration::from_secs(20))
        });
        let jitter = Duration::from_micros(self.random.below(1_000));
        let now = self.now;
        let Some(link) = self.net.links.get_mut(&id) else {
            return;
        };
        let bytes = match &packet {
            Packet::Data(data) => data.len() as u64,
            Packet::Fin | Packet::Rst => 0,
        };
        let takes = Duration::from_micros(bytes * 1_000_000 / link.bytes_per_second);
        let latency = link.latency + jitter + spike.unwrap_or_default();
        let end = link.end(to);
        end.free_at = end.free_at.max(now) + takes;
        end.arrives = end.arrives.max(end.free_at + latency);
        let at = end.arrives;
        if spike.is_some() {
            link.trouble = link.trouble.max(at);
        }
        self.at(at, Event::Packet(id, to, packet));
    }

    /// A packet arrives at its end.
    pub(crate) fn arrive(&mut self, id: LinkId, side: Side, packet: Packet) {
        let Some(link) = self.net.links.get(&id) else {
            return;
        };
        let apart = self.net.parted(link.ends[0].host, link.ends[1].host);
        let now = self.now;
        let link = self.net.links.get_mut(&id).expect("seen above");
        let end = link.end(side);
        if apart || !end.held.is_empty() {
            end.held.push_back(packet);
            link.trouble = link.trouble.max(now);
            return;
        }
        match packet {
            Packet::Data(_) if end.closed => return self.abort(id, side),
            Packet::Data(data) => end.received.extend_from_slice(&data),
            Packet::Fin => end.eof = true,
            Packet::Rst => {
                end.reset = true;
                end.received.clear();
            }
        }
        self.after(Duration::ZERO, Event::Socket(id, side));
    }

    /// Packets that a partition delayed arrive.
    pub(crate) fn release_held(&mut self) {
        let ids: Vec<LinkId> = self.net.links.keys().copied().collect();
        for id in ids {
            for side in [Side::Dialler, Side::Acceptor] {
                let Some(link) = self.net.links.get_mut(&id) else {
                    break;
                };
                link.trouble = link.trouble.max(self.now);
                // At once, so that they do not overtake packets that are still on the line.
                for packet in std::mem::take(&mut link.end(side).held) {
                    self.arrive(id, side, packet);
                }
            }
        }
    }

    /// Reads at most `most` bytes.
    pub(crate) fn read(&mut self, id: LinkId, side: Side, most: usize) -> Read {
        let Some(link) = self.net.links.get_mut(&id) else {
            return Read::Reset;
        };
        let latency = link.latency;
        let end = link.end(side);
        if end.reset {
            return Read::Reset;
        }
        if end.received.is_empty() {
            return if end.eof { Read::Eof } else { Read::Empty };
        }
        let count = end.received.len().min(most);
        let data = end.received.split_to(count);
        end.unread -= count;
        if std::mem::take(&mut end.wanted) {
            self.after(latency, Event::Socket(id, side.other()));
        }
        Read::Data(data)
    }

    /// Whether that side was reset.
    pub(crate) fn is_reset(&self, id: LinkId, side: Side) -> bool {
        let link = self.net.links.get(&id);
        link.is_none_or(|link| link.ends[side as usize].reset)
    }

    /// Sends FIN; that side may still read.
    pub(crate) fn shut_down(&mut self, id: LinkId, side: Side) {
        if let Some(link) = self.net.links.get_mut(&id)
            && !std::mem::replace(&mut link.end(side).fin_sent, true)
        {
            self.send(id, side.other(), Packet::Fin);
        }
    }

    /// Closes that side, as dropping a socket does: with RST when something was not read.
    pub(crate) fn close(&mut self, id: LinkId, side: Side) {
        let Some(link) = self.net.links.get_mut(&id) else {
            return;
        };
        let end = link.end(side);
        if end.closed {
            return;
        }
        let orderly = end.received.is_empty();
        end.closed = true;
        end.owner = Owner::Nobody;
        end.received.clear();
        if orderly {
            self.shut_down(id, side);
        } else {
            self.send(id, side.other(), Packet::Rst);
        }
        self.forget_closed(id);
    }

    /// Resets the connection from that side.
    pub(crate) fn abort(&mut self, id: LinkId, side: Side) {
        if let Some(link) = self.net.links.get_mut(&id) {
            let end = link.end(side);
            end.closed = true;
            end.owner = Owner::Nobody;
            end.received.clear();
            self.send(id, side.other(), Packet::Rst);
            self.forget_closed(id);
        }
    }

    fn forget_closed(&mut self, id: LinkId) {
        if self.net.links[&id].ends.iter().all(|end| end.closed) {
            self.net.links.remove(&id);
        }
    }
}

/// Bytes that wait to be written to one side of a connection.
#[derive(Debug, Default)]
pub(crate) struct Unwritten(VecDeque<Bytes>);

impl Unwritten {
    pub(crate) fn push(&mut self, bytes: Bytes) {
        self.0.push_back(bytes);
    }

    /// Writes as much as possible.
    pub(crate) fn write(&mut self, engine: &mut Engine, link: LinkId, side: Side) {
        while let Some(first) = self.0.front_mut() {
            let written = engine.write(link, side, first);
            first.advance(written);
            if !first.is_empty() {
                return;
            }
            self.0.pop_front();
        }
    }
}

impl Engine {
    /// The first packet was lost: there is no machine at the other end.
    pub(crate) fn abandon(&mut self, id: LinkId) {
        if let Some(link) = self.net.links.get_mut(&id) {
            link.end(Side::Acceptor).closed = true;
        }
    }

    /// No connection is lost at a byte any more.
    pub(crate) fn uncut(&mut self) {
        for link in self.net.links.values_mut() {
            link.cut = None;
        }
    }
}
