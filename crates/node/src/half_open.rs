//! Connections whose handshake is not complete, to be shown: PeerManager does not know them.
//!
//! # Bounds
//! A connection has one entry at most, and its slot before that.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bitcoin::p2p::ServiceFlags;
use handfast_proto::lifecycle::{ConnId, Direction, Introduction};
use handfast_proto::peer_table::PeerRow;
use handfast_proto::time::Now;

use crate::stats::{Counters, Traffic};

#[derive(Debug)]
struct Entry {
    introduction: Introduction,
    counters: Arc<Counters>,
}

type Entries = BTreeMap<ConnId, Entry>;

/// All of them. Clones are one. The lock is held for moments and never across a wait.
#[derive(Clone, Debug, Default)]
pub(crate) struct HalfOpen(Arc<Mutex<Entries>>);

/// One of them, until it is dropped.
#[derive(Debug)]
pub(crate) struct Listed {
    all: HalfOpen,
    id: ConnId,
}

impl HalfOpen {
    fn lock(&self) -> MutexGuard<'_, Entries> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Lists a connection of which nothing is known yet but where it comes from.
    pub(crate) fn list(
        &self,
        id: ConnId,
        direction: Direction,
        remote: SocketAddr,
        connected_at: Now,
        counters: Arc<Counters>,
    ) -> Listed {
        let entry = Entry {
            introduction: nothing_said(id, direction, remote, connected_at),
            counters,
        };
        self.lock().insert(id, entry);
        Listed {
            all: self.clone(),
            id,
        }
    }

    /// Those that are not among `admitted`, oldest first, as they would be in the table.
    pub(crate) fn rows(
        &self,
        now: Now,
        admitted: impl Fn(ConnId) -> bool,
    ) -> Vec<(PeerRow, Traffic)> {
        let entries = self.lock();
        let shown = entries.values().filter(|it| !admitted(it.introduction.id));
        shown.map(|entry| row(entry, now.mono)).collect()
    }
}

impl Listed {
    /// Its `version` came.
    pub(crate) fn introduced(&self, introduction: Introduction) {
        if let Some(entry) = self.all.lock().get_mut(&self.id) {
            entry.introduction = introduction;
        }
    }
}

impl Drop for Listed {
    fn drop(&mut self) {
        self.all.lock().remove(&self.id);
    }
}

fn nothing_said(
    id: ConnId,
    direction: Direction,
    remote: SocketAddr,
    connected_at: Now,
) -> Introduction {
    Introduction {
        id,
        direction,
        remote,
        version: 0,
        services: ServiceFlags::NONE,
        user_agent: String::new(),
        claimed_height: None,
        relay: false,
        wants_addrv2: false,
        wtxid_relay: false,
        connected_at,
        time_offset: 0,
        sees_us_at: None,
        handshake: Duration::ZERO,
    }
}

fn row(entry: &Entry, now: Duration) -> (PeerRow, Traffic) {
    let Entry {
        introduction,
        counters,
    } = entry;
    let connected_at = introduction.connected_at;
    let introduction = Introduction {
        handshake: now.saturating_sub(connected_at.mono),
        ..introduction.clone()
    };
    let row = PeerRow {
        id: introduction.id,
        remote: introduction.remote,
        direction: introduction.direction,
        name: None,
        admitted_at: connected_at,
        closing: false,
        fee_filter: None,
        relays_addresses: false,
        addresses_processed: 0,
        addresses_rate_limited: 0,
        introduction,
    };
    (row, counters.read(now))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_connection_is_listed_until_it_is_admitted_or_ends() {
        let all = HalfOpen::default();
        let now = Now {
            mono: Duration::from_secs(7),
            unix: 1_700_000_007,
        };
        let remote = "192.0.2.7:8333".parse().expect("an address");
        let list = |id| {
            let counters = Arc::new(Counters::new(Arc::default(), None));
            all.list(
                ConnId(id),
                Direction::Inbound,
                remote,
                Now::default(),
                counters,
            )
        };
        let (first, second) = (list(1), list(2));
        let ids = |admitted: u64| {
            let rows = all.rows(now, |id| id.0 == admitted);
            rows.iter().map(|(row, _)| row.id.0).collect::<Vec<_>>()
        };
        assert_eq!(ids(0), [1, 2]);
        assert_eq!(ids(2), [1]);
        let said = nothing_said(ConnId(1), Direction::Inbound, remote, Now::default());
        first.introduced(Introduction {
            version: 70_016,
            ..said
        });
        let (row, _) = &all.rows(now, |_| false)[0];
        assert_eq!(row.introduction.version, 70_016);
        assert_eq!(row.introduction.handshake, Duration::from_secs(7));
        drop((first, second));
        assert_eq!(ids(0), [0; 0]);
    }
}
