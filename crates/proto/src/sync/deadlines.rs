//! What is decided next without a message, and when: for whoever wonders what a quiet
//! node waits for.

use std::time::Duration;

use crate::lifecycle::{ConnId, Direction};

use super::HeadersAsk;
use super::chain_sync::ChainSync;
use super::download::{DOWNLOAD_TIMEOUT, STALL_PATIENCE};
use super::header_sync::HEADERS_RESPONSE_TIME;
use super::known_work::PROBE_PATIENCE;
use super::manager::SyncManager;
use super::peer::{Peer, Unavailable};
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
        let hold = self.download.hold();
        let hold = hold.map(|(at, why)| (*at, format!("blocks are asked for again after: {why}")));
        hold.into_iter().collect()
    }

    fn peer_deadlines(&self, id: ConnId, peer: &Peer, now: Duration) -> Vec<(Duration, String)> {
        let mut due = Vec::new();
        if let Some(ask) = peer.headers.ask {
            let at = ask.at + HEADERS_RESPONSE_TIME;
            let then = match (peer.direction, ask.kind) {
                (Direction::Outbound | Direction::Manual, HeadersAsk::Sync) => {
                    "is disconnected, if another can be asked,"
                }
                (Direction::Inbound, HeadersAsk::Sync) => "is the source no more",
                _ => "is taken to have no news",
            };
            due.push((at, format!("{id} {then} unless it answers getheaders")));
        }
        if let Some(aside) = peer.headers.aside {
            due.push((aside.until, format!("{id} may be the source again")));
        }
        if let Some(probe) = peer.known.probe {
            let at = probe.at + PROBE_PATIENCE;
            due.push((at, format!("{id} is taken to lack what it was probed for")));
        }
        let asked = !self.download.asked_of(id).is_empty();
        if let Some(progress) = self.download.progress_of(id).filter(|_| asked) {
            let first = progress + self.download.timeout_of(id);
            due.push(if now < first {
                let what = format!("others are asked for the blocks that {id} has not delivered");
                (first, what)
            } else {
                let what = format!("{id} is disconnected unless it delivers a block");
                (progress + DOWNLOAD_TIMEOUT, what)
            });
        }
        if let Some(since) = self.download.stalling_since(id)
            && peer.direction != Direction::Manual
        {
            let at = since + STALL_PATIENCE;
            let what = format!("{id} is disconnected unless it delivers a block that is late");
            due.push((at, what));
        }
        match peer.known.retry.map(|retry| (retry.why, retry.again)) {
            Some((Unavailable::Lacked, again)) => {
                due.push((
                    again,
                    format!("{id} is asked again for a block that it lacked"),
                ));
            }
            Some((Unavailable::Unjudged, again)) => {
                due.push((
                    again,
                    format!("{id} is asked again for a block that was not judged"),
                ));
            }
            // When the clock allows it, which the monotonic one does not tell.
            Some((Unavailable::TooNew(_), _)) | None => {}
        }
        match peer.chain_sync {
            ChainSync::Behind(behind) => {
                let what = format!("{id} is disconnected unless it has reached our tip");
                due.push((behind.until, what));
            }
            ChainSync::Level | ChainSync::Protected => {}
        }
        due
    }
}
