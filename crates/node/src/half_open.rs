//! Connections whose handshake is not complete: PeerManager's table does not contain them. They are
//! shown and counted with the admitted peers, as in Bitcoin Core, and an operator disconnects them
//! by the same calls.
//!
//! # Ordering
//! A connection is removed from the list in the step that admits it and publishes the new counts:
//! it is never counted twice, nor left out.
//!
//! # Bounds
//! A connection has one entry at most, and holds a slot already.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use actix::Recipient;
use bitcoin::p2p::ServiceFlags;
use handfast_proto::lifecycle::{ConnId, Direction, DoneReason, VersionInfo};
use handfast_proto::peer_table::PeerRow;
use handfast_proto::time::Now;

use crate::peer::messages::Disconnect;
use crate::post::post_to;
use crate::stats::{Counters, Traffic};

#[derive(Debug)]
struct Entry {
    version_info: VersionInfo,
    counters: Arc<Counters>,
    actor: Recipient<Disconnect>,
}

type Entries = BTreeMap<ConnId, Entry>;

/// All of them. Clones share one list. The lock is held for moments and never across an `await`.
#[derive(Clone, Debug, Default)]
pub(crate) struct HalfOpen(Arc<Mutex<Entries>>);

/// One entry, removed when this is dropped.
#[derive(Debug)]
pub(crate) struct Listed {
    all: HalfOpen,
    id: ConnId,
}

impl HalfOpen {
    fn lock(&self) -> MutexGuard<'_, Entries> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Lists a connection of which only the address is known.
    pub(crate) fn list(
        &self,
        id: ConnId,
        direction: Direction,
        remote: SocketAddr,
        connected_at: Now,
        counters: Arc<Counters>,
        actor: Recipient<Disconnect>,
    ) -> Listed {
        let entry = Entry {
            version_info: without_version(id, direction, remote, connected_at),
            counters,
            actor,
        };
        self.lock().insert(id, entry);
        Listed {
            all: self.clone(),
            id,
        }
    }

    /// All of them, oldest first, as rows of the peer table.
    pub(crate) fn rows(&self, now: Now) -> Vec<(PeerRow, Traffic)> {
        let entries = self.lock();
        entries.values().map(|entry| row(entry, now.mono)).collect()
    }

    /// A connection was admitted: its entry is removed while `publish` publishes the new counts of
    /// admitted peers.
    pub(crate) fn admitted(&self, id: ConnId, publish: impl FnOnce()) {
        let mut entries = self.lock();
        publish();
        entries.remove(&id);
    }

    /// Counts inbound and outgoing connections, these and the `admitted` ones together.
    pub(crate) fn count(&self, admitted: impl FnOnce() -> (usize, usize)) -> (usize, usize) {
        let entries = self.lock();
        let (inbound, outgoing) = admitted();
        let is_dialled = |it: &&Entry| it.version_info.direction.is_outgoing();
        let dialled = entries.values().filter(is_dialled).count();
        let accepted = entries.len() - dialled;
        (inbound + accepted, outgoing + dialled)
    }

    /// Disconnects those that `meant` selects. Returns whether there was one.
    pub(crate) fn disconnect(
        &self,
        meant: impl Fn(&VersionInfo) -> bool,
        reason: &DoneReason,
    ) -> bool {
        let entries = self.lock();
        let meant = entries.values().filter(|entry| meant(&entry.version_info));
        let actors: Vec<Recipient<Disconnect>> = meant.map(|entry| entry.actor.clone()).collect();
        drop(entries);
        for actor in &actors {
            post_to(actor, Disconnect(reason.clone()));
        }
        !actors.is_empty()
    }
}

impl Listed {
    /// Its `version` was received.
    pub(crate) fn version_received(&self, version_info: VersionInfo) {
        if let Some(entry) = self.all.lock().get_mut(&self.id) {
            entry.version_info = version_info;
        }
    }
}

impl Drop for Listed {
    fn drop(&mut self) {
        self.all.lock().remove(&self.id);
    }
}

fn without_version(
    id: ConnId,
    direction: Direction,
    remote: SocketAddr,
    connected_at: Now,
) -> VersionInfo {
    VersionInfo {
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
        version_info,
        counters,
        ..
    } = entry;
    let connected_at = version_info.connected_at;
    let version_info = VersionInfo {
        handshake: now.saturating_sub(connected_at.mono),
        ..version_info.clone()
    };
    let row = PeerRow {
        id: version_info.id,
        remote: version_info.remote,
        direction: version_info.direction,
        name: None,
        admitted_at: connected_at,
        closing: false,
        fee_filter: None,
        relays_addresses: false,
        addresses_processed: 0,
        addresses_rate_limited: 0,
        version_info,
    };
    (row, counters.read(now))
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;
    use std::net::{IpAddr, Ipv4Addr};

    use actix::{AsyncContext, Context};

    use super::*;

    const REMOTE: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 8333);

    fn list(all: &HalfOpen, id: u64, direction: Direction) -> Listed {
        let counters = Arc::new(Counters::new(Arc::default(), None));
        let actor = Context::<crate::peer::Peer>::new().address().recipient();
        let now = Now::default();
        all.list(ConnId(id), direction, REMOTE, now, counters, actor)
    }

    #[test]
    fn a_connection_is_listed_until_it_is_admitted_or_ends() {
        let all = HalfOpen::default();
        let now = Now {
            mono: Duration::from_secs(7),
            unix: 1_700_000_007,
        };
        let (first, second) = (
            list(&all, 1, Direction::Inbound),
            list(&all, 2, Direction::Inbound),
        );
        let ids = || {
            let rows = all.rows(now);
            rows.iter().map(|(row, _)| row.id.0).collect::<Vec<_>>()
        };
        assert_eq!(ids(), [1, 2]);
        let row = without_version(ConnId(1), Direction::Inbound, REMOTE, Now::default());
        first.version_received(VersionInfo {
            version: 70_016,
            ..row
        });
        let (row, _) = &all.rows(now)[0];
        assert_eq!(row.version_info.version, 70_016);
        assert_eq!(row.version_info.handshake, Duration::from_secs(7));
        all.admitted(ConnId(2), || {});
        assert_eq!(ids(), [1]);
        drop((first, second));
        assert_eq!(ids(), [0; 0]);
    }

    #[test]
    fn a_connection_is_counted_once_in_the_handshake_and_after_it() {
        let all = HalfOpen::default();
        let admitted = Cell::new((10, 20));
        let count = || all.count(|| admitted.get());
        let directions = [Direction::Inbound, Direction::Outbound, Direction::Manual];
        let numbered = (1..).zip(directions);
        let listed: Vec<_> = numbered
            .map(|(id, direction)| list(&all, id, direction))
            .collect();
        assert_eq!(count(), (11, 22));
        all.admitted(ConnId(2), || admitted.set((10, 21)));
        assert_eq!(count(), (11, 22));
        drop(listed);
        assert_eq!(count(), (10, 21));
    }

    #[test]
    fn only_the_selected_connections_are_disconnected() {
        let all = HalfOpen::default();
        let _listed = list(&all, 1, Direction::Inbound);
        let disconnect = |id| all.disconnect(|peer| peer.id == ConnId(id), &DoneReason::Requested);
        assert!(disconnect(1));
        assert!(!disconnect(2));
    }
}
