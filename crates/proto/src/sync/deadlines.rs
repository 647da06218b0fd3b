//! What is decided next without a message, and when: for whoever wonders what a quiet
//! node waits for.

use std::time::Duration;

use crate::lifecycle::ConnId;

use super::chain_sync::ChainSync;
use super::header_sync::HEADERS_RESPONSE_TIME;
use super::known_work::PROBE_PATIENCE;
use super::manager::SyncManager;
use super::peer::Peer;
use super::stalls::{DOWNLOAD_TIMEOUT, OWING_PATIENCE};
use super::state::Deadline;

impl SyncManager {
    /// The earliest of all times that something hangs on. [`SyncManager::deadline`] may be
    /// earlier: a timer that is not wanted any more still wakes it once.
    pub(super) fn next_deadline(&self, now: Duration) -> Option<Deadline> {
        let peers = self.peers.iter().filter(|(_, peer)| !peer.leaving);
        let all = peers
            .flat_map(|(id, peer)| self.peer_deadlines(*id, peer, now))
            .chain(self.header_deadlines())
            .chain(self.download_deadlines())
            .chain(
                self.watchdog
                    .next_check()
                    .map(|at| (at, "the watchdog looks".into())),
            );
        let (at, what) = all.min()?;
        Some(Deadline {
            left: at.saturating_sub(now),
            what,
        })
    }

    fn header_deadlines(&self) -> Vec<(Duration, String)> {
        let headers = &self.headers;
        let source = headers.source.as_ref().map(|source| source.id);
        let asked = source.and_then(|id| self.peers.get(&id)?.headers.ask);
        let (hedge, tip_check) = headers.due();
        let hedge = hedge.zip(source.filter(|_| asked.is_some()));
        let hedge = hedge.map(|(at, id)| (at, format!("another is asked beside {id}")));
        let tip_check = tip_check.map(|at| (at, "a peer is asked for news".to_owned()));
        hedge.into_iter().chain(tip_check).collect()
    }

    fn download_deadlines(&self) -> Vec<(Duration, String)> {
        let hold = self.download.hold.as_ref();
        let hold = hold.map(|(at, why)| (*at, format!("blocks are asked for again after: {why}")));
        let stall = self.download.stall.map(|stall| {
            let at = stall.since + self.download.stall_timeout;
            (at, format!("{} must have moved the window", stall.peer))
        });
        hold.into_iter().chain(stall).collect()
    }

    fn peer_deadlines(&self, id: ConnId, peer: &Peer, now: Duration) -> Vec<(Duration, String)> {
        let mut due = Vec::new();
        if let Some(ask) = peer.headers.ask {
            let at = ask.at + HEADERS_RESPONSE_TIME;
            due.push((at, format!("{id} must have answered getheaders")));
        }
        if let Some((until, _)) = peer.headers.aside {
            due.push((until, format!("{id} may be the source again")));
        }
        if let Some(probe) = peer.known.probe {
            let at = probe.at + PROBE_PATIENCE;
            due.push((at, format!("{id} is taken to lack what it was probed for")));
        }
        if !peer.blocks.in_flight.is_empty() {
            let first = peer.blocks.progress + self.download.stall_timeout;
            let what = format!("{id} must have delivered a block");
            due.push(if now < first {
                (first, what)
            } else {
                (peer.blocks.progress + DOWNLOAD_TIMEOUT, what)
            });
        }
        if let Some(since) = peer.blocks.owing_since {
            let at = since + OWING_PATIENCE;
            due.push((at, format!("{id} must have delivered a block that it owes")));
        }
        match peer.chain_sync {
            ChainSync::Behind(behind) => {
                due.push((behind.until, format!("{id} must have reached our tip")));
            }
            ChainSync::Level | ChainSync::Protected => {}
        }
        due
    }
}
