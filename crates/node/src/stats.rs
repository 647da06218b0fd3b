//! What went over a socket, counted where it happens and read without a lock.

mod by_command;

pub use by_command::ByCommand;

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use handfast_wire::Kind;

use by_command::Counts;

/// What `getpeerinfo` shows of a socket.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Traffic {
    /// Our end of the socket.
    pub local: Option<SocketAddr>,
    /// Bytes written to the socket.
    pub bytes_sent: ByCommand,
    /// Bytes of the frames received.
    pub bytes_received: ByCommand,
    /// Messages written.
    pub messages_sent: u64,
    /// Messages received.
    pub messages_received: u64,
    /// Last write, Unix seconds; 0: never.
    pub last_send: u64,
    /// Last frame received, Unix seconds; 0: never.
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
    /// Bytes written to sockets.
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
    bytes_sent: Counts,
    bytes_received: Counts,
    messages_sent: Counts,
    messages_received: Counts,
}

impl TotalCounters {
    pub(crate) fn read(&self) -> Totals {
        Totals {
            bytes_sent: self.bytes_sent.read(),
            bytes_received: self.bytes_received.read(),
            messages_sent: self.messages_sent.read(),
            messages_received: self.messages_received.read(),
        }
    }
}

/// The counters of one connection. Written by its peer, read by PeerManager.
///
/// Each is independent and only shown: `Relaxed` is enough.
#[derive(Debug)]
pub(crate) struct Counters {
    totals: Arc<TotalCounters>,
    local: Option<SocketAddr>,
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

    /// A message has been written; `bytes` with its frame header.
    pub(crate) fn sent(&self, kind: Option<Kind>, bytes: usize, unix: u32) {
        let bytes = bytes as u64;
        self.bytes_sent.add(kind, bytes);
        self.messages_sent.fetch_add(1, Ordering::Relaxed);
        self.last_send.store(u64::from(unix), Ordering::Relaxed);
        self.totals.bytes_sent.add(kind, bytes);
        self.totals.messages_sent.add(kind, 1);
    }

    /// A frame has been received; `bytes` with its header.
    pub(crate) fn received(&self, kind: Option<Kind>, bytes: usize, unix: u32) {
        let bytes = bytes as u64;
        self.bytes_received.add(kind, bytes);
        self.messages_received.fetch_add(1, Ordering::Relaxed);
        self.last_receive.store(u64::from(unix), Ordering::Relaxed);
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

    /// The shortest round trip of a ping so far.
    pub(crate) fn min_ping(&self) -> Option<Duration> {
        shown(self.min_ping.load(Ordering::Relaxed))
    }

    pub(crate) fn read(&self, now: Duration) -> Traffic {
        let since = shown(self.ping_since.load(Ordering::Relaxed));
        Traffic {
            local: self.local,
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
    fn totals_are_the_sum_over_connections_that_came_and_went() {
        let totals = Arc::<TotalCounters>::default();
        for bytes in [10, 20] {
            let counters = Counters::new(totals.clone(), None);
            counters.received(Some(Kind::Block), bytes, 9);
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
}
