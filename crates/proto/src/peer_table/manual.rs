//! Manual peers, which an operator named: `--connect`, `--add-node`, `addnode`.

mod existing;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Duration;

mod node;
mod target;

use super::admitted_peers::AdmittedPeers;
use super::outlook::{DialFailure, ManualPeer};
use super::{AddNodeCommand, AddNodeError, AddedNode, Effect, PeerTableConfig};
use crate::address_book::{backoff, canonical, is_peer_name, overlay_network};
use crate::lifecycle::ConnId;
use crate::random::Random;
use crate::time::Now;

use node::{Given, Node, State};
pub use target::{Target, parse_target};

/// Before a lost or failed manual peer is dialled again, the first time; doubles.
pub(super) const RECONNECT_FIRST: Duration = Duration::from_secs(5);
/// The longest such pause; up to a fifth is added.
pub(super) const RECONNECT_LONGEST: Duration = Duration::from_secs(60);
/// The longest pause while no dial leads anywhere and no peer is connected by one: then it
/// is most likely our own network that is down, and its return is to be noticed at once.
/// Core tries `-connect` peers every few seconds, too.
pub(super) const RECONNECT_ALONE: Duration = Duration::from_secs(10);
/// A connection that lasted this long was a success: the pauses start again.
const LASTED: Duration = Duration::from_secs(60);
/// Before it is looked at again whether a node can be dialled that could not for
/// want of a slot, or since another connection goes there.
const BUSY_RETRY: Duration = Duration::from_secs(5);
/// A look-up that was not answered has failed.
const RESOLVE_TIMEOUT: Duration = Duration::from_secs(60);

/// What an attempt to connect to a manual peer begins with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Attempting {
    /// Its address is dialled, if it may be.
    Dial(SocketAddr),
    /// Its name is looked up.
    Resolve(Effect),
}

/// The manual peers: those that the operator named.
///
/// Invariant: each is waiting, being looked up, being dialled or connected, and one that waits
/// or is looked up has a time at which that is over. While a peer is connected at an address of
/// one, that one is connected, by either side. At most `max` of those that `addnode` may
/// remove are looked up, dialled, or connected because they were dialled.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Manual {
    max: usize,
    default_port: u16,
    nodes: BTreeMap<String, Node>,
}

impl Manual {
    /// The configured ones, to be dialled at once.
    pub(super) fn new(config: &PeerTableConfig, now: Now) -> Self {
        let mut manual = Self {
            max: config.max_manual,
            default_port: config.default_port,
            nodes: BTreeMap::new(),
        };
        let connect = config
            .connect_only
            .iter()
            .map(|name| (name, Given::Connect));
        let added = config.add_nodes.iter().map(|name| (name, Given::Added));
        for (name, given) in connect.chain(added) {
            let target = parse_target(name, config.default_port);
            let known = manual.nodes.values().any(|node| node.target == target);
            if !known {
                let node = Node::new(given, target, now);
                manual.nodes.insert(name.clone(), node);
            }
        }
        manual
    }

    pub(super) fn is_empty(&self) -> bool {
        self.nodes.is_empty()
    }

    /// Forgets all of them: the node stops.
    pub(super) fn clear(&mut self) {
        self.nodes.clear();
    }

    /// When something is to be done about one.
    pub(super) fn due(&self) -> Option<Duration> {
        self.nodes.values().filter_map(Node::due).min()
    }

    /// Those that were added (`getaddednodeinfo`).
    pub(super) fn added(&self, peers: &AdmittedPeers) -> Vec<AddedNode> {
        let rows = self.nodes.iter();
        rows.filter_map(|(name, node)| node.row(name, peers))
            .collect()
    }

    /// All of them, as they are shown.
    pub(super) fn rows(&self) -> Vec<ManualPeer> {
        let rows = self.nodes.iter();
        rows.map(|(name, node)| node.manual(name)).collect()
    }

    pub(super) fn change(
        &mut self,
        now: Now,
        name: String,
        command: AddNodeCommand,
    ) -> Result<(), AddNodeError> {
        let target = parse_target(&name, self.default_port);
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
            .nodes
            .iter_mut()
            .find(|(_, node)| node.target == target);
        match (command, known) {
            (AddNodeCommand::Add, Some((_, node))) if node.given == Given::Once => {
                node.given = Given::Added;
            }
            (AddNodeCommand::Add, Some(_)) => return Err(AddNodeError::AlreadyAdded),
            (AddNodeCommand::Add, None) => {
                self.nodes
                    .insert(name, Node::new(Given::Added, target, now));
            }
            (AddNodeCommand::Remove, Some((known, node))) if node.given == Given::Added => {
                let known = known.clone();
                self.nodes.remove(&known);
            }
            (AddNodeCommand::Remove, Some(_) | None) => return Err(AddNodeError::NotAdded),
            (AddNodeCommand::OneTry, Some((_, node))) => {
                if let State::Waiting(at) = &mut node.state {
                    *at = now.mono;
                }
            }
            (AddNodeCommand::OneTry, None) => {
                self.nodes.insert(name, Node::new(Given::Once, target, now));
            }
        }
        Ok(())
    }

    /// Those that wait out a pause are dialled now.
    pub(super) fn hurry(&mut self, now: Now) {
        for node in self.nodes.values_mut() {
            if let State::Waiting(at) = &mut node.state {
                *at = now.mono;
            }
        }
    }

    /// Those about which something is to be done now.
    pub(super) fn due_names(&self, now: Now) -> Vec<String> {
        let is_due = |node: &Node| node.due().is_some_and(|due| due <= now.mono);
        let due = self.nodes.iter().filter(|(_, node)| is_due(node));
        due.map(|(name, _)| name.clone()).collect()
    }

    /// Begins an attempt to connect to one that is due, or ends a look-up that took too long.
    /// `alone`: no peer that we dialled is connected.
    pub(super) fn attempt(
        &mut self,
        now: Now,
        name: &str,
        alone: bool,
        random: &mut Random,
    ) -> Option<Attempting> {
        let limited = |node: &Node| node.given != Given::Connect;
        let active = |node: &&Node| limited(node) && node.is_active();
        let active = self.nodes.values().filter(active).count();
        let node = self.nodes.get_mut(name)?;
        match node.state {
            State::Waiting(_) => {}
            State::Resolving(_) => {
                let why = "the name was not looked up in time";
                self.unreachable(now, name, why, alone, random);
                return None;
            }
            State::Dialling | State::Connected { .. } => return None,
        }
        if limited(node) && active >= self.max {
            node.state = State::Waiting(now.mono.saturating_add(BUSY_RETRY));
            return None;
        }
        match node.target.clone() {
            Target::Address(addr) => Some(Attempting::Dial(addr)),
            // A DNS query for it would tell the resolver which peer this node wants.
            Target::Host { host, .. } if overlay_network(&host).is_some() => {
                let why = "addresses of Tor and I2P cannot be dialled yet";
                self.failed(now, name, why, random);
                None
            }
            Target::Host { host, port } => {
                node.state = State::Resolving(now.mono.saturating_add(RESOLVE_TIMEOUT));
                Some(Attempting::Resolve(Effect::Resolve {
                    name: name.to_owned(),
                    host,
                    port,
                    seeds: false,
                }))
            }
        }
    }

    /// The host of one was looked up. Returns the address to dial: after a failed dial the
    /// next one.
    pub(super) fn resolved(
        &mut self,
        now: Now,
        name: &str,
        addrs: &[SocketAddr],
        alone: bool,
        random: &mut Random,
    ) -> Option<SocketAddr> {
        let node = self.nodes.get_mut(name)?;
        node.learn(addrs);
        if !matches!(node.state, State::Resolving(_)) {
            return None;
        }
        let turn = usize::try_from(node.failures).unwrap_or(0);
        let addr = addrs.get(turn % addrs.len().max(1)).copied().map(canonical);
        if addr.is_none() {
            self.unreachable(now, name, "the name has no address", alone, random);
        }
        addr
    }

    /// The host of one could not be looked up.
    pub(super) fn resolve_failed(
        &mut self,
        now: Now,
        name: &str,
        error: &str,
        alone: bool,
        random: &mut Random,
    ) {
        let resolving = |node: &Node| matches!(node.state, State::Resolving(_));
        if self.nodes.get(name).is_some_and(resolving) {
            self.unreachable(now, name, error, alone, random);
        }
    }

    /// A dial for it begins. False: it is no longer known.
    pub(super) fn dialling(&mut self, name: &str) -> bool {
        let Some(node) = self.nodes.get_mut(name) else {
            return false;
        };
        node.state = State::Dialling;
        true
    }

    /// It could not be dialled just now, through no fault of its own.
    pub(super) fn busy(&mut self, now: Now, name: &str) {
        let Some(node) = self.unconnected(name) else {
            return;
        };
        if node.given == Given::Once {
            tracing::info!(
                node = name,
                "addnode onetry: not dialled, since it is banned or a connection to it is there or under way"
            );
            self.nodes.remove(name);
        } else {
            node.state = State::Waiting(now.mono.saturating_add(BUSY_RETRY));
        }
    }

    pub(super) fn connected(&mut self, now: Now, name: &str, id: ConnId) {
        let Some(node) = self.nodes.get_mut(name) else {
            return;
        };
        if node.given == Given::Once {
            self.nodes.remove(name);
        } else {
            node.failure = None;
            node.state = State::Connected {
                id,
                since: now.mono,
                own: true,
            };
        }
    }

    /// The connection `id` has ended, whichever of them it led to. `network_down`: that may be why,
    /// and no peer that we dialled is connected.
    pub(super) fn lost(
        &mut self,
        now: Now,
        id: ConnId,
        why: &str,
        network_down: bool,
        random: &mut Random,
    ) {
        let mut names = Vec::new();
        for (name, node) in &mut self.nodes {
            match node.state {
                State::Connected {
                    id: current, since, ..
                } if current == id => {
                    let lasted = now.mono.saturating_sub(since);
                    if lasted >= LASTED {
                        node.failures = 0;
                    }
                    // A peer that disconnects at once does so by itself.
                    let longest = match network_down && lasted >= RECONNECT_ALONE {
                        true => RECONNECT_ALONE,
                        false => RECONNECT_LONGEST,
                    };
                    names.push((name.clone(), longest));
                }
                _ => {}
            }
        }
        let why = format!("the connection was lost: {why}");
        for (name, longest) in names {
            self.failed_for(now, &name, &why, longest, random);
        }
    }

    /// No connection to it came about.
    pub(super) fn unreachable(
        &mut self,
        now: Now,
        name: &str,
        why: &str,
        alone: bool,
        random: &mut Random,
    ) {
        if self.unconnected(name).is_none() {
            return;
        }
        let longest = match alone {
            true => RECONNECT_ALONE,
            false => RECONNECT_LONGEST,
        };
        self.failed_for(now, name, why, longest, random);
    }

    /// It answered, and no connection that lasts came about.
    pub(super) fn failed(&mut self, now: Now, name: &str, why: &str, random: &mut Random) {
        if self.unconnected(name).is_some() {
            self.failed_for(now, name, why, RECONNECT_LONGEST, random);
        }
    }

    /// Lets it be dialled again after a pause, or forgets it when it was to be tried once.
    fn failed_for(
        &mut self,
        now: Now,
        name: &str,
        why: &str,
        longest: Duration,
        random: &mut Random,
    ) {
        let Some(node) = self.nodes.get_mut(name) else {
            return;
        };
        if node.given == Given::Once {
            // Said here: nothing else keeps it, and the caller has been answered.
            tracing::info!(node = name, error = why, "addnode onetry: cannot connect");
            self.nodes.remove(name);
            return;
        }
        node.failures = node.failures.saturating_add(1);
        node.failure = Some(DialFailure::after(node.failure.take(), why, now));
        let pause = backoff(RECONNECT_FIRST, longest, node.failures, random);
        node.state = State::Waiting(now.mono.saturating_add(pause));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_manual_peer_is_due_until_it_is_dialled_and_again_after_it_failed() {
        let config = PeerTableConfig {
            add_nodes: vec!["1.2.3.4".to_owned()],
            ..PeerTableConfig::new(8333, 1)
        };
        let (now, mut random) = (Now::default(), Random::new(1));
        let mut manual = Manual::new(&config, now);
        assert_eq!(manual.due_names(now), ["1.2.3.4"]);
        let attempt = manual.attempt(now, "1.2.3.4", true, &mut random);
        assert!(matches!(attempt, Some(Attempting::Dial(_))), "{attempt:?}");
        assert!(manual.dialling("1.2.3.4"));
        assert_eq!(manual.due(), None);
        manual.connected(now, "1.2.3.4", ConnId(1));
        manual.lost(now, ConnId(2), "reset", false, &mut random);
        assert_eq!(manual.due(), None, "that was another connection");
        manual.lost(now, ConnId(1), "reset", false, &mut random);
        assert!(manual.due() >= Some(RECONNECT_FIRST), "{:?}", manual.due());
    }
}
