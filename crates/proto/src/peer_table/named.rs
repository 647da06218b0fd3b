//! The nodes that an operator named: `--connect`, `--add-node`, `addnode`.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Duration;

use super::outlook::{Attempt, DialFailure, ManualPeer};
use super::roster::Peer;
use super::{AddNodeCommand, AddNodeError, AddedNode, Effect, PeerTable};
use crate::address_book::{backoff, canonical, is_peer_name, overlay_network, read_ip};
use crate::lifecycle::{ConnId, Direction};
use crate::time::Now;

/// Before a lost or failed named node is dialled again, the first time; doubles.
pub(super) const RECONNECT_FIRST: Duration = Duration::from_secs(5);
/// The longest such pause; up to a fifth is added.
pub(super) const RECONNECT_LONGEST: Duration = Duration::from_secs(60);
/// The longest pause while no dial leads anywhere and nobody is connected by one: then it
/// is most likely our own network that is down, and its return is to be noticed at once.
/// Core tries `-connect` peers every few seconds, too.
pub(super) const RECONNECT_ALONE: Duration = Duration::from_secs(10);
/// A connection that lasted this long was a success: the pauses start anew.
const LASTED: Duration = Duration::from_secs(60);
/// Before it is looked at again whether a node can be dialled that could not for
/// want of a slot, or since another connection goes there.
const BUSY_RETRY: Duration = Duration::from_secs(5);
/// A look-up that was not answered has failed.
const RESOLVE_TIMEOUT: Duration = Duration::from_secs(60);

/// What a name stands for.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Target {
    /// An address.
    Address(SocketAddr),
    /// A host to be looked up.
    Host {
        /// Its name.
        host: String,
        /// The port to dial.
        port: u16,
    },
}

/// Reads `ADDRESS`, `ADDRESS:PORT`, `[IPV6]:PORT`, `HOST` or `HOST:PORT`; of an address every
/// spelling ([`read_ip`]).
///
/// Total: what is no address is a host, and one that cannot exist fails when it is
/// looked up.
#[must_use]
pub fn parse_target(name: &str, default_port: u16) -> Target {
    let name = name.trim();
    if let Ok(addr) = name.parse::<SocketAddr>() {
        return Target::Address(canonical(addr));
    }
    if let Some(ip) = read_ip(name) {
        return Target::Address(SocketAddr::new(ip, default_port));
    }
    let (host, port) = match name.rsplit_once(':') {
        Some((host, port)) => match port.parse() {
            Ok(port) => (host, port),
            Err(_) => (name, default_port),
        },
        None => (name, default_port),
    };
    if let Some(ip) = read_ip(host) {
        return Target::Address(SocketAddr::new(ip, port));
    }
    Target::Host {
        host: host.to_owned(),
        port,
    }
}

/// How a node came to be named.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Given {
    /// `--connect`: not limited, not removable.
    Connect,
    /// `--add-node`, `addnode add`.
    Added,
    /// `addnode onetry`: forgotten after the try.
    Once,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum State {
    /// To be dialled then.
    Waiting(Duration),
    /// Being looked up; has failed then.
    Resolving(Duration),
    Dialling,
    Connected {
        id: ConnId,
        since: Duration,
    },
}

/// A named node.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Named {
    given: Given,
    target: Target,
    failures: u32,
    /// The last failure since it was connected.
    failure: Option<DialFailure>,
    state: State,
}

impl Named {
    fn new(given: Given, target: Target, now: Now) -> Self {
        Self {
            given,
            target,
            failures: 0,
            failure: None,
            state: State::Waiting(now.mono),
        }
    }

    /// When something is to be done about it.
    pub(super) fn due(&self) -> Option<Duration> {
        match self.state {
            State::Waiting(at) | State::Resolving(at) => Some(at),
            State::Dialling | State::Connected { .. } => None,
        }
    }

    fn is_active(&self) -> bool {
        match self.state {
            State::Waiting(_) => false,
            State::Resolving(_) | State::Dialling | State::Connected { .. } => true,
        }
    }

    pub(super) fn row(&self, name: &str, peers: &BTreeMap<ConnId, Peer>) -> Option<AddedNode> {
        let connected = match self.state {
            State::Connected { id, .. } => {
                peers.get(&id).map(|peer| (id, peer.introduction().remote))
            }
            State::Waiting(_) | State::Resolving(_) | State::Dialling => None,
        };
        let row = AddedNode {
            name: name.to_owned(),
            connected,
            failure: self.failure.clone(),
        };
        (self.given == Given::Added).then_some(row)
    }

    /// As it is shown, by whichever option or call it was named.
    pub(super) fn manual(&self, name: &str) -> ManualPeer {
        let attempt = match self.state {
            State::Waiting(until) => Attempt::Waiting { until },
            State::Resolving(_) => Attempt::LookingUp,
            State::Dialling => Attempt::Connecting,
            State::Connected { id, .. } => Attempt::Connected(id),
        };
        ManualPeer {
            name: name.to_owned(),
            attempt,
            failure: self.failure.clone(),
        }
    }
}

impl PeerTable {
    pub(super) fn name_configured_nodes(&mut self, now: Now) {
        let connect = self
            .config
            .connect_only
            .iter()
            .map(|name| (name, Given::Connect));
        let added = self
            .config
            .add_nodes
            .iter()
            .map(|name| (name, Given::Added));
        for (name, given) in connect.chain(added) {
            let target = parse_target(name, self.config.default_port);
            let known = self.named.values().any(|node| node.target == target);
            if !known {
                self.named
                    .insert(name.clone(), Named::new(given, target, now));
            }
        }
    }

    pub(super) fn change_named(
        &mut self,
        now: Now,
        name: String,
        command: AddNodeCommand,
    ) -> Result<(), AddNodeError> {
        let target = parse_target(&name, self.config.default_port);
        if let Target::Host { host, .. } = &target
            && let Some(network) = overlay_network(host)
            && command != AddNodeCommand::Remove
        {
            return Err(AddNodeError::Unreachable(network));
        }
        // One that is on the list is removed however it is spelled.
        if command != AddNodeCommand::Remove && !is_peer_name(&name) {
            return Err(AddNodeError::Malformed);
        }
        let known = self
            .named
            .iter_mut()
            .find(|(_, node)| node.target == target);
        match (command, known) {
            (AddNodeCommand::Add, Some((_, node))) if node.given == Given::Once => {
                node.given = Given::Added;
            }
            (AddNodeCommand::Add, Some(_)) => return Err(AddNodeError::AlreadyAdded),
            (AddNodeCommand::Add, None) => {
                self.named
                    .insert(name, Named::new(Given::Added, target, now));
            }
            (AddNodeCommand::Remove, Some((known, node))) if node.given == Given::Added => {
                let known = known.clone();
                self.named.remove(&known);
            }
            (AddNodeCommand::Remove, Some(_) | None) => return Err(AddNodeError::NotAdded),
            (AddNodeCommand::OneTry, Some((_, node))) => {
                if let State::Waiting(at) = &mut node.state {
                    *at = now.mono;
                }
            }
            (AddNodeCommand::OneTry, None) => {
                self.named
                    .insert(name, Named::new(Given::Once, target, now));
            }
        }
        Ok(())
    }

    /// Whoever waits out a pause is dialled now.
    pub(super) fn hurry_named(&mut self, now: Now) {
        for node in self.named.values_mut() {
            if let State::Waiting(at) = &mut node.state {
                *at = now.mono;
            }
        }
    }

    /// Dials the named nodes that are due.
    pub(super) fn plan_named(&mut self, now: Now, effects: &mut Vec<Effect>) {
        let is_due = |node: &Named| node.due().is_some_and(|due| due <= now.mono);
        let due = self.named.iter().filter(|(_, node)| is_due(node));
        let due: Vec<String> = due.map(|(name, _)| name.clone()).collect();
        for name in due {
            match self.named[&name].state {
                State::Waiting(_) => self.try_named(now, name, effects),
                State::Resolving(_) => {
                    self.named_unreachable(now, &name, "the name was not looked up in time");
                }
                State::Dialling | State::Connected { .. } => {}
            }
        }
    }

    fn try_named(&mut self, now: Now, name: String, effects: &mut Vec<Effect>) {
        let limited = |node: &Named| node.given != Given::Connect;
        let active = self
            .named
            .values()
            .filter(|node| limited(node) && node.is_active())
            .count();
        let Some(node) = self.named.get_mut(&name) else {
            return;
        };
        if limited(node) && active >= self.config.max_manual {
            node.state = State::Waiting(now.mono.saturating_add(BUSY_RETRY));
            return;
        }
        match node.target.clone() {
            Target::Address(addr) => self.dial_named(now, name, addr, effects),
            // A DNS query for it would tell the resolver which peer this node wants.
            Target::Host { host, .. } if overlay_network(&host).is_some() => {
                let why = "addresses of Tor and I2P cannot be dialled yet";
                self.named_failed(now, &name, why, RECONNECT_LONGEST);
            }
            Target::Host { host, port } => {
                node.state = State::Resolving(now.mono.saturating_add(RESOLVE_TIMEOUT));
                effects.push(Effect::Resolve {
                    name,
                    host,
                    port,
                    seeds: false,
                });
            }
        }
    }

    /// A named host was looked up. After a failed dial the next of its addresses is tried.
    pub(super) fn named_resolved(
        &mut self,
        now: Now,
        name: &str,
        addrs: &[SocketAddr],
        effects: &mut Vec<Effect>,
    ) {
        let Some(node) = self.named.get(name) else {
            return;
        };
        if !matches!(node.state, State::Resolving(_)) {
            return;
        }
        let turn = usize::try_from(node.failures).unwrap_or(0);
        match addrs.get(turn % addrs.len().max(1)) {
            Some(addr) => self.dial_named(now, name.to_owned(), canonical(*addr), effects),
            None => self.named_unreachable(now, name, "the name has no address"),
        }
    }

    /// A named host could not be looked up.
    pub(super) fn named_resolve_failed(&mut self, now: Now, name: &str, error: &str) {
        let resolving = |node: &Named| matches!(node.state, State::Resolving(_));
        if self.named.get(name).is_some_and(resolving) {
            self.named_unreachable(now, name, error);
        }
    }

    fn dial_named(&mut self, now: Now, name: String, addr: SocketAddr, effects: &mut Vec<Effect>) {
        // A ban may be lifted, a connection may end: it is looked at again.
        if self.is_outgoing_to(addr) || self.bans.is_banned(addr.ip(), now) {
            self.named_busy(now, &name);
        } else if let Some(node) = self.named.get_mut(&name) {
            node.state = State::Dialling;
            self.dial(now, addr, Direction::Manual, Some(name), effects);
        }
    }

    /// A named node could not be dialled just now, through no fault of its own.
    pub(super) fn named_busy(&mut self, now: Now, name: &str) {
        let Some(node) = self.named.get_mut(name) else {
            return;
        };
        if node.given == Given::Once {
            tracing::info!(
                node = name,
                "addnode onetry: not dialled, since it is banned or a connection to it is there or under way"
            );
            self.named.remove(name);
        } else {
            node.state = State::Waiting(now.mono.saturating_add(BUSY_RETRY));
        }
    }

    pub(super) fn named_connected(&mut self, now: Now, name: &str, id: ConnId) {
        let Some(node) = self.named.get_mut(name) else {
            return;
        };
        if node.given == Given::Once {
            self.named.remove(name);
        } else {
            node.failure = None;
            node.state = State::Connected {
                id,
                since: now.mono,
            };
        }
    }

    /// The connection `id` to a named node is over.
    pub(super) fn named_lost(&mut self, now: Now, name: Option<&str>, id: ConnId, why: &str) {
        let Some(name) = name else { return };
        let Some(node) = self.named.get_mut(name) else {
            return;
        };
        let State::Connected { id: current, since } = node.state else {
            return;
        };
        if current != id {
            return;
        }
        if now.mono.saturating_sub(since) >= LASTED {
            node.failures = 0;
        }
        let why = format!("the connection was lost: {why}");
        self.named_failed(now, name, &why, RECONNECT_LONGEST);
    }

    /// No connection to a named node came about.
    pub(super) fn named_unreachable(&mut self, now: Now, name: &str, why: &str) {
        let longest = match self.peers.outgoing() {
            0 => RECONNECT_ALONE,
            _ => RECONNECT_LONGEST,
        };
        self.named_failed(now, name, why, longest);
    }

    /// Dials a named node again after a pause, or forgets it when it was to be tried once.
    pub(super) fn named_failed(&mut self, now: Now, name: &str, why: &str, longest: Duration) {
        let Some(node) = self.named.get_mut(name) else {
            return;
        };
        if node.given == Given::Once {
            // Told here: nothing else keeps it, and the caller has been answered.
            tracing::info!(node = name, error = why, "addnode onetry: cannot connect");
            self.named.remove(name);
            return;
        }
        node.failures = node.failures.saturating_add(1);
        node.failure = Some(DialFailure::after(node.failure.take(), why, now));
        let pause = backoff(RECONNECT_FIRST, longest, node.failures, &mut self.random);
        node.state = State::Waiting(now.mono.saturating_add(pause));
    }
}
