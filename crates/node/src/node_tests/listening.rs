//! Listening sockets that are probed, and reopened when they are lost.

use std::mem::ManuallyDrop;
use std::net::{IpAddr, TcpListener};
use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd};
use std::sync::Arc;

use handfast_proto::self_probe::{Health, Outcome};
use rustix::net::Shutdown;

use super::*;
use crate::listening_socket::{ListeningSocket, ListeningSocketInfo};
use crate::{BanCommand, BanTime, ListenAddress};

fn info(node: &NodeHandle, index: usize) -> ListeningSocketInfo {
    node.listeners().sockets.swap_remove(index)
}

fn listening(node: &NodeHandle) -> Arc<ListeningSocket> {
    node.listening_sockets().all().swap_remove(0)
}

/// Waits for a probe that was accepted, after `probes` others.
async fn accepting(node: &NodeHandle, index: usize, probes: u64) {
    until(async || {
        let probe = info(node, index).probe;
        probe.health == Health::Accepting && probe.probes > probes
    })
    .await;
}

#[test]
fn the_node_calls_itself_when_it_has_started_and_that_is_no_connection() {
    with_node(
        |config| config.backlog = 77,
        async |node| {
            accepting(node, 0, 0).await;
            let info = info(node, 0);
            assert_eq!(
                (info.name, &info.address),
                ("p2p", &ListenAddress::Tcp(address(node)))
            );
            assert_eq!((info.backlog_asked, info.accepted), (77, 0));
            let queue = info.queue.expect("Linux tells");
            assert_eq!((queue.now, queue.granted), (0, 77));
            assert_eq!((info.probe.failures, info.probe.recreated), (0, 0));
            let last = info.probe.last.expect("one has ended");
            assert!(matches!(last.outcome, Outcome::Accepted(_)), "{last:?}");
            let audit = audit_of(node, 0, 0).await;
            assert_eq!((audit.slots_taken, audit.peer_manager.dones), (0, 0));
            assert_eq!(node.peer_history().await.expect("it runs"), []);

            let _guest = handshake(node).await;
            assert_eq!(node.network_info().acceptor.accepted, 1);
        },
    );
}

#[test]
fn a_probe_gets_in_where_everybody_is_banned_and_every_slot_is_taken() {
    with_node(
        |config| config.max_inbound = 0,
        async |node| {
            accepting(node, 0, 0).await;
            let everybody = BanCommand::Add {
                target: "127.0.0.0/8".parse().expect("a subnet"),
                time: BanTime::For(3_600),
            };
            node.ban(everybody).await.expect("it runs");
            let mut banned = connect(node).await.into_inner();
            assert_eq!(banned.read(&mut [0; 1]).await.expect("closed"), 0);
            let (listening, probes) = (listening(node), info(node, 0).probe.probes);
            listening.suspect();
            accepting(node, 0, probes).await;
            assert_eq!(info(node, 0).refused.banned, 1, "the one who was");
        },
    );
}

#[test]
fn every_address_is_listened_on_and_probed_by_itself() {
    with_node(
        |config| {
            let addresses = ["127.0.0.1:0", "0.0.0.0:0", "[::1]:0", "[::]:0"];
            let addresses = addresses.map(|text| text.parse::<SocketAddr>().expect("an address"));
            let here = |addr: &SocketAddr| TcpListener::bind(addr).is_ok();
            config.listen = addresses.into_iter().filter(here).collect();
            assert!(config.listen.len() >= 2, "IPv4 is there");
        },
        async |node| {
            let listening = node.network_info().local_addresses;
            for (index, local) in listening.iter().enumerate() {
                accepting(node, index, 0).await;
                assert_eq!(info(node, index).address, ListenAddress::Tcp(local.addr));
                let ip = match local.addr.ip() {
                    IpAddr::V4(_) => IpAddr::from([127, 0, 0, 1]),
                    IpAddr::V6(_) => "::1".parse().expect("an address"),
                };
                let socket = TcpStream::connect((ip, local.addr.port())).await;
                let socket = socket.expect("it listens");
                let codec = Codec::new(Network::Regtest.magic());
                let _remote = shake(Framed::new(socket, codec)).await;
                assert_eq!(info(node, index).accepted, 1);
            }
        },
    );
}

/// Loses the socket of a node in a way, and waits for the next one.
fn recovers_from(lose: impl FnOnce(&ListeningSocket)) {
    let reason = with_node(
        |_| {},
        async |node| {
            let before = handshake(node).await;
            accepting(node, 0, 0).await;
            let listening = listening(node);
            lose(&listening);
            until(async || info(node, 0).probe.recreated == 1).await;
            let probes = info(node, 0).probe.probes;
            accepting(node, 0, probes - 1).await;
            let after = handshake(node).await;
            audit_of(node, 2, 2).await;
            let info = info(node, 0);
            assert_eq!(info.accepted, 2, "who was there before has stayed");
            assert_eq!(info.queue.map(|queue| queue.granted), granted(&info));
            drop((before, after));
        },
    );
    assert!(matches!(reason, ExitReason::Requested(_)), "{reason:?}");
}

fn granted(info: &ListeningSocketInfo) -> Option<u32> {
    let limit = crate::accept_queue::system_limit()?;
    Some(info.backlog_asked.min(limit))
}

#[test]
fn a_listening_socket_that_was_shut_down_is_made_anew() {
    recovers_from(|listening| {
        let socket = listening.socket().expect("it listens");
        rustix::net::shutdown(socket.as_fd(), Shutdown::Both).expect("it is a socket");
    });
}

#[test]
#[allow(
    unsafe_code,
    reason = "overwrites a descriptor that it does not own: the defect itself"
)]
fn a_listening_socket_that_another_socket_overwrote_is_made_anew() {
    recovers_from(|listening| {
        let socket = listening.socket().expect("it listens");
        let elsewhere = TcpListener::bind("127.0.0.1:0").expect("a free port");
        // SAFETY: the number is open, since `socket` is held, and is not closed twice,
        // since this owner of it is never dropped.
        let number = unsafe { OwnedFd::from_raw_fd(socket.as_fd().as_raw_fd()) };
        let mut number = ManuallyDrop::new(number);
        rustix::io::dup2(&elsewhere, &mut number).expect("both are open");
        drop(socket);
        // No event ever tells of it. The next probe would: it comes within 30 s.
        listening.suspect();
    });
}

#[test]
fn an_address_that_somebody_else_took_is_taken_back_when_it_is_free() {
    with_node(
        |_| {},
        async |node| {
            accepting(node, 0, 0).await;
            let listening = listening(node);
            let socket = listening.socket().expect("it listens");
            rustix::net::shutdown(socket.as_fd(), Shutdown::Both).expect("it is a socket");
            drop(socket);
            let thief = crate::listener::bind(address(node), 16).expect("nobody listens there");
            until(async || info(node, 0).probe.not_recreated.is_some()).await;
            let why = info(node, 0).probe.not_recreated.expect("just seen");
            assert!(why.contains("Address already in use"), "{why}");
            assert_eq!(info(node, 0).probe.health, Health::Failing);
            drop(thief);
            until(async || info(node, 0).probe.recreated == 1).await;
            let _guest = handshake(node).await;
        },
    );
}
