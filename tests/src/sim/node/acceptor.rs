//! The sources of connections: `node/src/listener.rs`, `connector.rs`, `acceptor.rs`, `slots.rs`.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use handfast_proto::lifecycle::Direction;

use super::peers::PeersMail;
use super::{Profile, Running};
use crate::sim::engine::{Actor, Engine, Event};
use crate::sim::net::{LinkId, Side};

/// `DEFAULT_DIAL_TIMEOUT`.
const DIAL_TIMEOUT: Duration = Duration::from_secs(5);
/// `slots::LEAVING`.
const LEAVING: usize = 32;

/// A dial: PeerManager's request, and the attempt in flight.
#[derive(Clone, Debug)]
pub(super) struct Dial {
    pub(super) addr: SocketAddr,
    pub(super) direction: Direction,
    pub(super) name: Option<String>,
}

/// Numbers and limits of connections by kind.
#[derive(Clone, Debug)]
pub(super) struct Slots {
    inbound: usize,
    outbound: usize,
    manual: usize,
    most_inbound: usize,
    most_outbound: usize,
    most_manual: usize,
}

impl Slots {
    /// Like `Limits`, which are made from a configuration in `node/src/node.rs`.
    pub(super) fn new(profile: &Profile) -> Self {
        Self {
            inbound: 0,
            outbound: 0,
            manual: 0,
            most_inbound: profile.max_inbound + profile.max_handshakes + LEAVING,
            most_outbound: profile.max_outbound,
            most_manual: handfast_proto::peer_table::MAX_MANUAL + profile.add_nodes.len(),
        }
    }

    fn of(&mut self, direction: Direction) -> (&mut usize, usize) {
        match direction {
            Direction::Inbound => (&mut self.inbound, self.most_inbound),
            Direction::Outbound => (&mut self.outbound, self.most_outbound),
            Direction::Manual => (&mut self.manual, self.most_manual),
        }
    }

    fn take(&mut self, direction: Direction) -> bool {
        let (taken, most) = self.of(direction);
        let free = *taken < most;
        *taken += usize::from(free);
        free
    }

    /// A slot is freed.
    pub(super) fn free(&mut self, slot: Option<Direction>) {
        if let Some(direction) = slot {
            *self.of(direction).0 -= 1;
        }
    }

    pub(super) fn taken(&self) -> usize {
        self.inbound + self.outbound + self.manual
    }

    pub(super) fn all_free(&self) -> bool {
        self.taken() == 0
    }
}

impl Running {
    /// `listener::drain` accepts one connection.
    pub(crate) fn accept(&mut self, engine: &mut Engine, link: LinkId) {
        let Some(remote) = engine.net.links.get(&link).map(|link| link.from) else {
            return;
        };
        if !self.is_open() || !self.slots.take(Direction::Inbound) {
            engine.line(format_args!(
                "n{} has no slot for link{link}",
                self.host.node
            ));
            return engine.close(link, Side::Acceptor);
        }
        self.spawn(engine, link, Side::Acceptor, Direction::Inbound, remote);
    }

    /// `Handler<Dial>` of `Connector`.
    pub(super) fn poll_connector(&mut self, engine: &mut Engine) {
        while let Some(dial) = self.connector_mail.pop_front() {
            if !self.slots.take(dial.direction) {
                self.post_peers(engine, PeersMail::NotDialled(dial));
                continue;
            }
            let IpAddr::V4(ip) = self.profile.addr.ip() else {
                unreachable!("all machines have IPv4 addresses");
            };
            let port = 32_768 + u16::try_from(engine.random.below(28_000)).expect("it fits");
            let from = SocketAddr::from((ip, port));
            match engine.dial(self.host.node, from, dial.addr) {
                Some(link) => {
                    engine.line(format_args!(
                        "n{} dials {} on link{link}",
                        self.host.node, dial.addr
                    ));
                    self.dials.insert(link, dial);
                    engine.after(DIAL_TIMEOUT, Event::DialTimeout(self.host, link));
                }
                None => {
                    self.slots.free(Some(dial.direction));
                    self.post_peers(
                        engine,
                        PeersMail::DialFailed(dial, "no route to host".into()),
                    );
                }
            }
        }
    }

    /// A dial was answered.
    pub(crate) fn dial_answered(&mut self, engine: &mut Engine, link: LinkId, connected: bool) {
        let Some(dial) = self.dials.remove(&link) else {
            // It had timed out; the socket is gone.
            return engine.abort(link, Side::Dialler);
        };
        if connected {
            self.spawn(engine, link, Side::Dialler, dial.direction, dial.addr);
        } else {
            engine.net.links.remove(&link);
            self.dial_failed(engine, dial, "connection refused");
        }
    }

    pub(crate) fn dial_timed_out(&mut self, engine: &mut Engine, link: LinkId) {
        if let Some(dial) = self.dials.remove(&link) {
            engine.abort(link, Side::Dialler);
            self.dial_failed(engine, dial, "timed out");
        }
    }

    fn dial_failed(&mut self, engine: &mut Engine, dial: Dial, error: &str) {
        self.slots.free(Some(dial.direction));
        self.post_peers(engine, PeersMail::DialFailed(dial, error.into()));
        self.home(engine);
    }

    /// `StopAccepting` of the listener and of the connector, whose dials end with it.
    pub(super) fn stop_intake(&mut self, engine: &mut Engine) {
        self.connector_mail.clear();
        self.polls.remove(&Actor::Connector);
        for (link, dial) in std::mem::take(&mut self.dials) {
            engine.abort(link, Side::Dialler);
            self.slots.free(Some(dial.direction));
        }
    }
}
