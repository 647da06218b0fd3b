//! Traffic of a socket, counted by its peer and read without a lock.

mod by_command;

pub use by_command::ByCommand;

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use handfast_wire::{Frame, Garbled, Kind};

use by_command::Counts;

/// Counters of a socket for `getpeerinfo`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Traffic {
    /// Our end of the socket.
    pub local: Option<SocketAddr>,
    /// Bytes written to the socket, as far as the system accepted them.
    pub sent: u64,
    /// Bytes read from the socket, also of incomplete frames.
    pub received: u64,
    /// Bytes of the frames written.
    pub bytes_sent: ByCommand,
    /// Bytes of the frames received.
    pub bytes_received: ByCommand,
    /// Malformed messages, which were dropped.
    pub malformed: u64,
    /// Messages written.
    pub messages_sent: u64,
    /// Messages received.
    pub messages_received: u64,
    /// Last write, Unix seconds; 0: never.
    pub last_send: u64,
    /// Last time that bytes were read, Unix seconds; 0: never.
    pub last_receive: u64,
    /// Last `block` received, Unix seconds; 0: never.
    pub last_block: u64,
    /// Latest round trip of a ping.
    pub ping: Option<Duration>,
    /// Shortest round trip of a ping.
    pub min_ping: Option<Duration>,
    /// Since when a ping is unanswered.
    pub ping_wait: Option<Duration>,
}

/// Sums over all connections since start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Totals {
    /// Bytes written to sockets, as far as the system accepted them.
    pub sent: u64,
    /// Bytes read from sockets, also of incomplete frames.
    pub received: u64,
    /// Malformed messages, which were dropped.
    pub malformed: u64,
    /// Bytes of the frames written.
    pub bytes_sent: ByCommand,
    /// Bytes of the frames received.
    pub bytes_received: ByCommand,
    /// Messages written.
    pub messages_sent: ByCommand,
    /// Messages received.
    pub messages_received: ByCommand,
}

/// The sums, counted by every peer.
#[derive(Debug, Default)]
pub(crate) struct TotalCounters {
    sent: AtomicU64,
    received: AtomicU64,
    malformed: AtomicU64,
    bytes_sent: Counts,
    bytes_received: Counts,
    messages_sent: Counts,
    messages_received: Counts,
}

impl TotalCounters {
    pub(crate) fn read(&self) -> Totals {
        Totals {
            sent: self.sent.load(Ordering::Relaxed),
            received: self.received.load(Ordering::Relaxed),
            malformed: self.malformed.load(Ordering::Relaxed),
            bytes_sent: self.bytes_sent.read(),
            bytes_received: self.bytes_received.read(),
            messages_sent: self.messages_sent.read(),
            messages_received: self.messages_received.read(),
        }
    }
}

/// The counters of one connection. Written by its peer, read by PeerManager.
///
/// Each counter is independent and only shown: `Relaxed` is enough.
#[derive(Debug)]
pub(crate) struct Counters {
    totals: Arc<TotalCounters>,
    local: Option<SocketAddr>,
    sent: AtomicU64,
    received: AtomicU64,
    malformed: AtomicU64,
    bytes_sent: Counts,
    bytes_received: Counts,
    messages_sent: AtomicU64,
    messages_received: AtomicU64,
    last_send: AtomicU64,
    last_receive: AtomicU64,
    last_block: AtomicU64,
    /// Microseconds; 0: none yet.
    ping: AtomicU64,
    min_ping: AtomicU64,
    /// Monotonic microseconds of the unanswered ping; 0: none.
    ping_since: AtomicU64,
}

fn micros(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros())
        .unwrap_or(u64::MAX)
        .max(1)
}

fn shown(micros: u64) -> Option<Duration> {
    (micros != 0).then(|| Duration::from_micros(micros))
}

impl Counters {
    pub(crate) fn new(totals: Arc<TotalCounters>, local: Option<SocketAddr>) -> Self {
        Self {
            totals,
            local,
            sent: AtomicU64::new(0),
            received: AtomicU64::new(0),
            malformed: AtomicU64::new(0),
            bytes_sent: Counts::default(),
            bytes_received: Counts::default(),
            messages_sent: AtomicU64::new(0),
            messages_received: AtomicU64::new(0),
            last_send: AtomicU64::new(0),
            last_receive: AtomicU64::new(0),
            last_block: AtomicU64::new(0),
            ping: AtomicU64::new(0),
            min_ping: AtomicU64::new(0),
            ping_since: AtomicU64::new(0),
        }
    }

    /// A message was written; `bytes` with its frame header.
    pub(crate) fn sent(&self, kind: Option<Kind>, bytes: usize, unix: u32) {
        let bytes = bytes as u64;
        self.bytes_sent.add(kind, bytes);
        self.messages_sent.fetch_add(1, Ordering::Relaxed);
        self.last_send.store(u64::from(unix), Ordering::Relaxed);
        self.totals.bytes_sent.add(kind, bytes);
        self.totals.messages_sent.add(kind, 1);
    }

    /// The socket accepted so many bytes.
    pub(crate) fn wrote(&self, bytes: usize) {
        let bytes = bytes as u64;
        self.sent.fetch_add(bytes, Ordering::Relaxed);
        self.totals.sent.fetch_add(bytes, Ordering::Relaxed);
    }

    /// So many bytes were read from the socket.
    pub(crate) fn read_bytes(&self, bytes: usize, unix: u32) {
        let bytes = bytes as u64;
        self.received.fetch_add(bytes, Ordering::Relaxed);
        self.totals.received.fetch_add(bytes, Ordering::Relaxed);
        self.last_receive.store(u64::from(unix), Ordering::Relaxed);
    }

    /// A frame is complete. A broken one counts for no command, as in Core.
    pub(crate) fn received(&self, frame: &Frame, unix: u32) {
        let kind = match &frame.message {
            Ok(_) | Err(Garbled::Payload(_)) => frame.kind,
            Err(Garbled::Checksum { .. } | Garbled::InvalidCommand { .. }) => None,
        };
        if frame.message.is_err() {
            self.malformed.fetch_add(1, Ordering::Relaxed);
            self.totals.malformed.fetch_add(1, Ordering::Relaxed);
        }
        let bytes = frame.wire_bytes as u64;
        self.bytes_received.add(kind, bytes);
        self.messages_received.fetch_add(1, Ordering::Relaxed);
        if kind == Some(Kind::Block) {
            self.last_block.store(u64::from(unix), Ordering::Relaxed);
        }
        self.totals.bytes_received.add(kind, bytes);
        self.totals.messages_received.add(kind, 1);
    }

    pub(crate) fn ping_sent(&self, now: Duration) {
        self.ping_since.store(micros(now), Ordering::Relaxed);
    }

    pub(crate) fn round_trip(&self, took: Duration) {
        let took = micros(took);
        self.ping_since.store(0, Ordering::Relaxed);
        self.ping.store(took, Ordering::Relaxed);
        let least = self.min_ping.load(Ordering::Relaxed);
        if least == 0 || took < least {
            self.min_ping.store(took, Ordering::Relaxed);
        }
    }

    /// Our end of the socket.
    pub(crate) fn local(&self) -> Option<SocketAddr> {
        self.local
    }

    /// The shortest round trip of a ping so far.
    pub(crate) fn min_ping(&self) -> Option<Duration> {
        shown(self.min_ping.load(Ordering::Relaxed))
    }

    pub(crate) fn read(&self, now: Duration) -> Traffic {
        let since = shown(self.ping_since.load(Ordering::Relaxed));
        Traffic {
            local: self.local,
            sent: self.sent.load(Ordering::Relaxed),
            received: self.received.load(Ordering::Relaxed),
            malformed: self.malformed.load(Ordering::Relaxed),
            bytes_sent: self.bytes_sent.read(),
            bytes_received: self.bytes_received.read(),
            messages_sent: self.messages_sent.load(Ordering::Relaxed),
            messages_received: self.messages_received.load(Ordering::Relaxed),
            last_send: self.last_send.load(Ordering::Relaxed),
            last_receive: self.last_receive.load(Ordering::Relaxed),
            last_block: self.last_block.load(Ordering::Relaxed),
            ping: shown(self.ping.load(Ordering::Relaxed)),
            min_ping: self.min_ping(),
            ping_wait: since.map(|since| now.saturating_sub(since)),
        }
    }
}

#[cfg(test)]
mod tests {
    use handfast_wire::{DecodeError, Message};

    use super::by_command::OTHER;
    use super::*;

    #[test]
    fn an_unanswered_ping_is_shown_with_its_age_and_an_answered_one_with_its_time() {
        let counters = Counters::new(Arc::default(), None);
        counters.ping_sent(Duration::from_secs(5));
        let waiting = counters.read(Duration::from_secs(7));
        assert_eq!(
            (waiting.ping_wait, waiting.ping),
            (Some(Duration::from_secs(2)), None)
        );
        counters.round_trip(Duration::from_millis(30));
        counters.round_trip(Duration::from_millis(40));
        let answered = counters.read(Duration::from_secs(7));
        assert_eq!(answered.ping_wait, None);
        assert_eq!(answered.ping, Some(Duration::from_millis(40)));
        assert_eq!(answered.min_ping, Some(Duration::from_millis(30)));
    }

    #[test]
    fn totals_are_the_sum_over_all_connections_since_start() {
        let totals = Arc::<TotalCounters>::default();
        for bytes in [10, 20] {
            let counters = Counters::new(totals.clone(), None);
            let frame = Frame {
                message: Ok(Message::Verack),
                kind: Some(Kind::Block),
                wire_bytes: bytes,
            };
            counters.received(&frame, 9);
            counters.sent(Some(Kind::Ping), bytes, 9);
            counters.sent(None, bytes, 9);
            let traffic = counters.read(Duration::ZERO);
            assert_eq!((traffic.last_block, traffic.last_send), (9, 9));
            assert_eq!(traffic.bytes_sent.sum(), 2 * bytes as u64);
        }
        let sums = totals.read();
        let rows = |counts: ByCommand| counts.rows().collect::<Vec<_>>();
        assert_eq!(rows(sums.bytes_received), [("block", 30)]);
        assert_eq!(rows(sums.messages_received), [("block", 2)]);
        assert_eq!(rows(sums.bytes_sent), [("ping", 30), (OTHER, 30)]);
        assert_eq!(rows(sums.messages_sent), [("ping", 2), (OTHER, 2)]);
    }

    #[test]
    fn a_broken_frame_counts_for_no_command_and_a_malformed_payload_for_its_command() {
        let totals = Arc::<TotalCounters>::default();
        let counters = Counters::new(totals.clone(), None);
        let malformed = |malformed| Frame {
            message: Err(malformed),
            kind: Some(Kind::Ping),
            wire_bytes: 32,
        };
        let checksum = Garbled::Checksum {
            command: "ping",
            announced: [0; 4],
            computed: [1; 4],
        };
        let payload = DecodeError::Truncated {
            command: "ping",
            field: "nonce",
        };
        for garbling in [checksum, Garbled::Payload(payload)] {
            counters.received(&malformed(garbling), 9);
        }
        let traffic = counters.read(Duration::ZERO);
        let rows: Vec<_> = traffic.bytes_received.rows().collect();
        assert_eq!(rows, [("ping", 32), (OTHER, 32)]);
        assert_eq!((traffic.malformed, totals.read().malformed), (2, 2));
    }
}
