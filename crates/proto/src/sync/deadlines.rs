//! What is decided next without a message, and when: what a quiet node waits for.

use std::time::Duration;

use crate::lifecycle::{ConnId, Direction};

use super::HeadersAsk;
use super::chain_sync::ChainSync;
use super::download::DOWNLOAD_TIMEOUT;
use super::header_sync::HEADERS_RESPONSE_TIME;
use super::known_work::PROBE_PATIENCE;
use super::manager::SyncManager;
use super::peer::{Peer, Unavailable};
use super::state::Deadline;

/// How much a deadline tells of what a quiet node waits for; the least is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Weight {
    /// What becomes of a peer that does not answer, and of what was asked of it.
    Unanswered,
    /// Something is tried again.
    Again,
    /// Peers are asked whether there is news.
    News,
    /// Sync looks after itself.
    Routine,
}

type Pending = (Weight, Duration, String);

impl SyncManager {
    /// The deadline that tells most, the earliest of its weight: a check that happens every
    /// few seconds would hide that a peer is about to be disconnected.
    /// [`SyncManager::deadline`] may be earlier.
    pub(super) fn next_deadline(&self, now: Duration) -> Option<Deadline> {
        let peers = self.peers.iter().filter(|(_, peer)| !peer.leaving);
        let check = self.watchdog.next_check();
        let check = check.map(|at| (Weight::Routine, at, "sync is checked for stalls".into()));
        let all = peers
            .flat_map(|(id, peer)| self.peer_deadlines(*id, peer, now))
            .chain(self.header_deadlines())
            .chain(self.download_deadlines())
            .chain(check);
        let (_, at, what) = all.min()?;
        Some(Deadline {
            left: at.saturating_sub(now),
            what,
        })
    }

    fn header_deadlines(&self) -> Vec<Pending> {
        let headers = &self.headers;
        let source = headers.source.as_ref().map(|source| source.id);
        let asked = source.and_then(|id| self.peers.get(&id)?.headers.ask);
        let other = self
            .peers
            .iter()
            .any(|(id, peer)| Some(*id) != source && peer.eligible());
        let (hedge, tip_check) = headers.due();
        let hedge = hedge.zip(source.filter(|_| asked.is_some() && other));
        let hedge = hedge.map(|(at, id)| {
            let what = format!("another peer is asked beside {id}");
            (Weight::Unanswered, at, what)
        });
        let tip_check = tip_check.map(|at| {
            let what = "a peer is asked for new blocks".to_owned();
            (Weight::News, at, what)
        });
        hedge.into_iter().chain(tip_check).collect()
    }

    fn download_deadlines(&self) -> Vec<Pending> {
        let hold = self.download.hold();
        let hold = hold.map(|(at, why)| {
            let what = format!("blocks are asked for again after: {why}");
            (Weight::Unanswered, *at, what)
        });
        hold.into_iter().collect()
    }

    fn peer_deadlines(&self, id: ConnId, peer: &Peer, now: Duration) -> Vec<Pending> {
        let mut due = self.unanswered(id, peer, now);
        if let Some(aside) = peer.headers.aside {
            let what = format!("{id} may be the source again");
            due.push((Weight::Again, aside.until, what));
        }
        let retry = peer.known.retry.and_then(|retry| match retry.why {
            Unavailable::Lacked => Some((retry.again, "it lacked")),
            Unavailable::Unjudged => Some((retry.again, "was not judged")),
            // When the clock allows it, which the monotonic one does not tell.
            Unavailable::TooNew(_) => None,
        });
        if let Some((again, why)) = retry {
            let what = format!("{id} is asked again for a block that {why}");
            due.push((Weight::Again, again, what));
        }
        match peer.chain_sync {
            ChainSync::Behind(behind) => {
                let what = format!("{id} is disconnected unless it has reached our tip");
                due.push((Weight::Again, behind.until, what));
            }
            ChainSync::Level | ChainSync::Protected => {}
        }
        due
    }

    /// What becomes of a peer that does not answer.
    fn unanswered(&self, id: ConnId, peer: &Peer, now: Duration) -> Vec<Pending> {
        let mut due: Vec<(Duration, String)> = Vec::new();
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
        if let Some(probe) = peer.known.probe {
            let at = probe.at + PROBE_PATIENCE;
            due.push((at, format!("{id} is taken to lack what it was probed for")));
        }
        let asked = !self.download.asked_of(id).is_empty();
        if let Some(progress) = self.download.progress_of(id).filter(|_| asked) {
            let first = progress + self.download.timeout_of(id);
            // Alone it keeps them, however late they are.
            let helped = self
                .peers
                .iter()
                .any(|(other, peer)| *other != id && !peer.leaving && peer.eligible());
            due.push(if now < first && helped {
                let what = format!("others are asked for the blocks that {id} has not delivered");
                (first, what)
            } else {
                let what = format!("{id} is disconnected unless it delivers a block");
                (progress + DOWNLOAD_TIMEOUT, what)
            });
        }
        if let Some(at) = self.download.stalling_until(id) {
            let what = match peer.direction {
                Direction::Manual => format!("{id} is asked again for a block that is late"),
                Direction::Inbound | Direction::Outbound => {
                    format!("{id} is disconnected unless it delivers a block that is late")
                }
            };
            due.push((at, what));
        }
        let weighed = |(at, what)| (Weight::Unanswered, at, what);
        due.into_iter().map(weighed).collect()
    }
}
