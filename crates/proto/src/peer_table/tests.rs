mod admission;
mod bans;
mod dialing;
mod eviction;
mod existing;
mod gossip;
mod manual_peers;
mod more_peers;
mod operator;
mod seeds;
mod timers;
mod walk;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;

use bitcoin::p2p::ServiceFlags;
use handfast_wire::Message;

use super::*;
use crate::address_book::Source;
use crate::bans::{BanCommand, BanError};
use crate::lifecycle::{
    AssertHeld, Direction, Disconnection, DoneReason, Ledger, Reached, Role, Roles, Scope,
    VersionInfo,
};
use crate::session::full_node;

const START: Now = Now {
    mono: Duration::from_secs(100),
    unix: 1_700_000_000,
};

/// A table, its clock, and the next connection id.
struct Table {
    table: PeerTable,
    now: Now,
    next: u64,
}

fn config() -> PeerTableConfig {
    PeerTableConfig {
        dial: false,
        ..PeerTableConfig::new(8333, 42)
    }
}

/// An address of group `n`.
fn addr(n: u8) -> SocketAddr {
    SocketAddr::from(([n, 1, 1, 1], 8333))
}

/// A book of full nodes in the groups of `numbers`.
fn book(numbers: impl IntoIterator<Item = u8>) -> AddressBook {
    let (mut book, mut random) = (AddressBook::new(false), Random::new(1));
    for n in numbers {
        book.learn(
            addr(n),
            full_node(),
            START.unix,
            Source::Own,
            START,
            &mut random,
        );
    }
    book
}

impl Table {
    fn new(config: PeerTableConfig) -> Self {
        Self::with_book(config, AddressBook::new(false))
    }

    fn with_book(config: PeerTableConfig, book: AddressBook) -> Self {
        Self {
            table: PeerTable::new(config, book, START),
            now: START,
            next: 0,
        }
    }

    fn step(&mut self, input: Input) -> Vec<Effect> {
        self.table.step(self.now, input)
    }

    fn add_node(
        &mut self,
        name: &str,
        command: AddNodeCommand,
    ) -> (Result<(), AddNodeError>, Vec<Effect>) {
        self.table.add_node(self.now, name.to_owned(), command)
    }

    fn ban(&mut self, order: BanCommand) -> (Result<(), BanError>, Vec<Effect>) {
        self.table.ban(self.now, order)
    }

    fn disconnect(&mut self, target: DisconnectTarget) -> (Result<(), NotConnected>, Vec<Effect>) {
        self.table.disconnect(self.now, target)
    }

    fn tick(&mut self) -> Vec<Effect> {
        self.step(Input::Tick)
    }

    fn wait(&mut self, seconds: u64) {
        self.now = self.now.after(Duration::from_secs(seconds));
    }

    /// Lets the time pass that the table asks for, up to `seconds`, and ticks.
    fn run(&mut self, seconds: u64) -> Vec<Effect> {
        let end = self.now.after(Duration::from_secs(seconds));
        let mut effects = self.tick();
        while let Some(due) = self.table.deadline().filter(|due| *due <= end.mono) {
            self.now = self.now.after(due.saturating_sub(self.now.mono));
            effects.extend(self.tick());
        }
        self.now = end;
        effects
    }

    fn version_info(&mut self, direction: Direction, remote: SocketAddr) -> VersionInfo {
        self.next += 1;
        VersionInfo {
            id: ConnId(self.next),
            direction,
            remote,
            version: 70_016,
            services: full_node(),
            user_agent: "/Satoshi:29.0.0/".to_owned(),
            claimed_height: Some(1),
            relay: true,
            wants_addrv2: true,
            wtxid_relay: true,
            connected_at: self.now,
            time_offset: 0,
            sees_us_at: None,
            handshake: Duration::ZERO,
        }
    }

    fn add(&mut self, direction: Direction, remote: SocketAddr) -> (ConnId, Vec<Effect>) {
        let version_info = self.version_info(direction, remote);
        let id = version_info.id;
        (id, self.step(Input::Add(version_info)))
    }

    fn admit(&mut self, direction: Direction, remote: SocketAddr) -> ConnId {
        let (id, effects) = self.add(direction, remote);
        assert!(
            matches!(effects.first(), Some(Effect::Admit { .. })),
            "{effects:?}"
        );
        id
    }

    fn done(&mut self, id: ConnId, direction: Direction, remote: SocketAddr) -> Vec<Effect> {
        self.end(id, direction, remote, DoneReason::RemoteClosed)
    }

    /// A connection that ends before its handshake is complete.
    fn fail_handshake(&mut self, direction: Direction, remote: SocketAddr) -> Vec<Effect> {
        self.next += 1;
        let id = ConnId(self.next);
        self.end(id, direction, remote, DoneReason::HandshakeTimeout)
    }

    fn end(
        &mut self,
        id: ConnId,
        direction: Direction,
        remote: SocketAddr,
        reason: DoneReason,
    ) -> Vec<Effect> {
        self.step(Input::Done(disconnection(
            self.now, id, direction, remote, reason,
        )))
    }

    fn message(&mut self, id: ConnId, message: Message) -> Vec<Effect> {
        self.step(Input::Message {
            id,
            message: message.into(),
        })
    }

    fn fail_dial(&mut self, addr: SocketAddr, name: Option<&str>) -> Vec<Effect> {
        let (name, error) = (name.map(str::to_owned), "refused".to_owned());
        self.step(Input::DialFailed { addr, name, error })
    }
}

/// What SyncManager wants.
fn order(order: Order) -> Input {
    let from = Role::Sync;
    Input::Order { from, order }
}

/// Only SyncManager gets the end of the peer.
fn retire(id: ConnId) -> Effect {
    let roles = Role::Sync.into();
    Effect::Retire { id, roles }
}

/// The end of a connection that was made at `connected_at`.
fn disconnection(
    connected_at: Now,
    id: ConnId,
    direction: Direction,
    remote: SocketAddr,
    reason: DoneReason,
) -> Disconnection {
    Disconnection {
        id,
        direction,
        remote,
        connected_at,
        reached: Reached::Connected,
        reason,
    }
}

fn dials(effects: &[Effect]) -> Vec<SocketAddr> {
    let dial = |effect: &Effect| match effect {
        Effect::Dial { addr, .. } => Some(*addr),
        _ => None,
    };
    effects.iter().filter_map(dial).collect()
}

fn lookups(effects: &[Effect]) -> Vec<String> {
    let lookup = |effect: &Effect| match effect {
        Effect::Resolve { name, .. } => Some(name.clone()),
        _ => None,
    };
    effects.iter().filter_map(lookup).collect()
}
