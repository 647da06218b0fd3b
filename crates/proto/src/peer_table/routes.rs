//! How the parts of the table hear of each other: values that one returns and another takes.

use std::net::SocketAddr;

use super::manual::Attempting;
use super::seeds::Prospects;
use super::{Effect, Notice, Outlook, PeerTable, dialer};
use crate::lifecycle::{Direction, DoneReason, VersionInfo};
use crate::time::Now;

impl PeerTable {
    /// Starts whatever is due. The end of every step.
    pub(super) fn plan(&mut self, now: Now, effects: &mut Vec<Effect>) {
        if self.admission.network().draining {
            return;
        }
        for name in self.dialer.expire(dialer::Context {
            now,
            peers: &self.peers,
            book: &mut self.book,
            random: &mut self.random,
        }) {
            self.unreachable(now, &name, "the dial was never answered");
        }
        if !self.admission.network().active {
            return;
        }
        self.plan_manual(now, effects);
        self.seeds.plan(now, self.prospects(), effects);
        self.plan_more_peers(now, effects);
        let (gossip, bans, manual) = (&self.gossip, &self.bans, &self.manual);
        // Manual peers come back as such. Core leaves them out too (`ThreadOpenConnections`).
        let welcome = |addr: SocketAddr| {
            !gossip.is_own(addr) && !bans.is_unwelcome(addr.ip(), now) && !manual.is_at(addr)
        };
        let limit = self.more.limit(self.config.max_outbound);
        effects.extend(self.dialer.plan(
            dialer::Context {
                now,
                peers: &self.peers,
                book: &mut self.book,
                random: &mut self.random,
            },
            limit,
            welcome,
        ));
        self.gossip.send_due(now, &self.peers, effects);
    }

    fn plan_manual(&mut self, now: Now, effects: &mut Vec<Effect>) {
        let due = self.manual.due_names(now);
        if !due.is_empty() {
            // Before an attempt is begun that waits for a slot.
            self.manual.adopt(&self.peers);
        }
        for name in due {
            let alone = self.peers.is_alone();
            match self.manual.attempt(now, &name, alone, &mut self.random) {
                Some(Attempting::Dial(addr)) => self.dial_manual(now, &name, addr, effects),
                Some(Attempting::Resolve(effect)) => effects.push(effect),
                None => {}
            }
        }
    }

    fn dial_manual(&mut self, now: Now, name: &str, addr: SocketAddr, effects: &mut Vec<Effect>) {
        self.manual.adopt(&self.peers);
        if self.manual.is_connected(name) {
            return;
        }
        // A ban may be lifted, a dial may fail: it is looked at again.
        let connected = self.dialer.is_outgoing_to(addr, &self.peers);
        if connected || self.bans.is_banned(addr.ip(), now) {
            self.manual.busy(now, name);
        } else if self.manual.dialling(name) {
            let name = Some(name.to_owned());
            effects.push(self.dialer.dial(now, addr, Direction::Manual, name));
        }
    }

    /// Back to the usual number of outbound peers when more are no longer wanted.
    fn plan_more_peers(&mut self, now: Now, effects: &mut Vec<Effect>) {
        if !self.more.is_over(now) {
            return;
        }
        let staying = self.peers.count_staying(Direction::Outbound);
        for _ in self.config.max_outbound..staying {
            if let Some(id) = self.eviction.least_useful_outbound(&self.peers) {
                tracing::debug!(%id, "one outbound peer too many");
                self.peers.close(id, DoneReason::Evicted, effects);
            }
        }
    }

    /// Sync does not get on with the peers there are.
    pub(super) fn look_for_more_peers(&mut self, now: Now) {
        if !self.admission.network().draining && self.more.want(now) {
            self.dialer.hurry(now);
            self.seeds.ask_again();
            self.manual.hurry(now);
        }
    }

    /// Most automatic outbound peers just now.
    pub(super) fn outbound_limit(&self) -> usize {
        self.more.limit(self.config.max_outbound)
    }

    pub(super) fn prospects(&self) -> Prospects {
        Prospects {
            automatic: self.dialer.is_automatic(),
            outbound: self.peers.count(Direction::Outbound),
            peers: self.peers.len(),
            no_manual: self.manual.is_empty(),
            book_is_empty: self.book.is_empty(),
        }
    }

    /// A name was looked up: a seed, a manual peer, or both.
    pub(super) fn resolved(
        &mut self,
        now: Now,
        name: &str,
        addrs: &[SocketAddr],
        effects: &mut Vec<Effect>,
    ) {
        let (book, random) = (&mut self.book, &mut self.random);
        if self.seeds.resolved(now, name, addrs, book, random, effects) {
            self.dialer.hurry(now);
        }
        let alone = self.peers.is_alone();
        let addr = self.manual.resolved(now, name, addrs, alone, random);
        if let Some(addr) = addr {
            self.dial_manual(now, name, addr, effects);
        }
    }

    /// A name could not be looked up: a seed, a manual peer, or both.
    pub(super) fn resolve_failed(
        &mut self,
        now: Now,
        name: &str,
        error: &str,
        effects: &mut Vec<Effect>,
    ) {
        self.seeds.resolve_failed(now, name, error, effects);
        let alone = self.peers.is_alone();
        self.manual
            .resolve_failed(now, name, error, alone, &mut self.random);
    }

    /// A dial ended without a connection.
    pub(super) fn dial_failed(
        &mut self,
        now: Now,
        addr: SocketAddr,
        name: Option<&str>,
        error: &str,
    ) {
        let context = dialer::Context {
            now,
            peers: &self.peers,
            book: &mut self.book,
            random: &mut self.random,
        };
        if let Some(name) = self.dialer.failed(addr, name, error, context) {
            self.unreachable(now, &name, error);
        }
    }

    /// A dial was not tried.
    pub(super) fn not_dialled(&mut self, now: Now, addr: SocketAddr, name: Option<&str>) {
        self.dialer.not_dialled(now, addr);
        if let Some(name) = name {
            self.manual.busy(now, name);
        }
    }

    /// A connection of ours ended before its handshake was complete.
    pub(super) fn handshake_failed(&mut self, now: Now, remote: SocketAddr, reason: &DoneReason) {
        let context = dialer::Context {
            now,
            peers: &self.peers,
            book: &mut self.book,
            random: &mut self.random,
        };
        if let Some(name) = self.dialer.handshake_failed(remote, reason, context) {
            let why = reason.to_string();
            self.manual.failed(now, &name, &why, &mut self.random);
        }
    }

    /// An outgoing connection completed its handshake. Returns the manual peer that it is.
    pub(super) fn dial_connected(&mut self, now: Now, peer: &VersionInfo) -> Option<String> {
        let name = self.dialer.connected(peer)?;
        self.manual.connected(now, &name, peer.id);
        Some(name)
    }

    fn unreachable(&mut self, now: Now, name: &str, why: &str) {
        let alone = self.peers.is_alone();
        self.manual
            .unreachable(now, name, why, alone, &mut self.random);
    }

    /// What keeps the table from finding peers.
    #[must_use]
    pub fn outlook(&self) -> Outlook {
        let alone = self.peers.is_alone();
        let seeds = match self.dialer.is_automatic() {
            true => self.seeds.rows(),
            false => Vec::new(),
        };
        let never = |addr| self.gossip.is_own(addr) || self.manual.is_at(addr);
        let (peers, limit) = (&self.peers, self.outbound_limit());
        let next_dial = self.dialer.next_dial(peers, limit, &self.book, never);
        Outlook {
            network_off: !self.admission.network().active,
            manual: self.manual.rows(),
            seeds,
            seeds_again: self.seeds.again(),
            dials_again: next_dial.filter(|_| alone),
            dials: self.dialer.failure().cloned().filter(|_| alone),
            nobody_known: self.seeds.notice() == Some(Notice::NobodyToDial),
            alone,
        }
    }
}
