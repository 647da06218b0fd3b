//! How a connection begins and ends.

use handfast_proto::session::PING_INTERVAL;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::*;

#[test]
fn a_second_verack_is_passed_over() {
    crate::virtual_time::run(async {
        let mut world = World::new();
        let (_actor, mut remote) = world.ready().await;
        send(&mut remote, Message::Verack).await;
        settle().await;
        assert_eq!(world.heard(), [Heard::Add(0)]);
        send(&mut remote, Message::Ping(9)).await;
        wait_for(&mut remote, |message| *message == Message::Pong(9)).await;
    });
}

#[test]
fn silence_ends_at_the_handshake_timeout_and_not_before() {
    crate::virtual_time::run(async {
        let mut world = World::new();
        let (_actor, _remote) = world.connect();
        tokio::time::sleep(TIMEOUT - Duration::from_secs(1)).await;
        assert_eq!(world.heard(), []);
        tokio::time::sleep(Duration::from_secs(2)).await;
        assert_eq!(
            world.heard(),
            [Heard::Done(0, DoneReason::HandshakeTimeout)]
        );
    });
}

#[test]
fn a_garbled_frame_ends_the_connection_with_its_reason() {
    crate::virtual_time::run(async {
        let mut world = World::new();
        let (_actor, remote) = world.ready().await;
        let mut socket = remote.into_inner();
        socket
            .write_all(&[0xff; 24])
            .await
            .expect("the connection is open");
        settle().await;
        let heard = world.heard();
        assert!(
            matches!(
                &heard[..],
                [Heard::Add(0), Heard::Done(0, DoneReason::Undecodable(_))]
            ),
            "{heard:?}"
        );
    });
}

/// A `ping` whose checksum is wrong.
fn garbled_ping() -> Vec<u8> {
    let magic = Network::Regtest.magic();
    let mut bytes = handfast_wire::encode_head(magic, "ping", 8, [0; 4]).to_vec();
    bytes.extend_from_slice(&[7; 8]);
    bytes
}

#[test]
fn a_frame_with_a_wrong_checksum_is_dropped_and_counted() {
    crate::virtual_time::run(async {
        let mut world = World::new();
        let (_actor, mut remote) = world.ready().await;
        let socket = remote.get_mut();
        let sent = socket.write_all(&garbled_ping()).await;
        sent.expect("the connection is open");
        send(&mut remote, Message::Ping(9)).await;
        wait_for(&mut remote, |message| *message == Message::Pong(9)).await;
        assert_eq!(world.heard(), [Heard::Add(0)]);
        let traffic = world.links.borrow()[0].counters.read(Duration::ZERO);
        assert_eq!(traffic.malformed, 1);
    });
}

#[test]
fn a_flood_of_malformed_frames_ends_the_connection() {
    crate::virtual_time::run(async {
        let mut world = World::new();
        let (_actor, remote) = world.ready().await;
        let mut socket = remote.into_inner();
        let flood = garbled_ping().repeat(200);
        // Fails when the connection is closed before it has taken everything.
        let _ = socket.write_all(&flood).await;
        settle().await;
        let heard = world.heard();
        assert!(
            matches!(
                &heard[..],
                [Heard::Add(0), Heard::Done(0, DoneReason::MalformedFlood(_))]
            ),
            "{heard:?}"
        );
    });
}

#[test]
fn a_panic_costs_one_connection() {
    crate::virtual_time::run(async {
        let mut world = World::new();
        let (doomed, mut its_remote) = world.ready().await;
        let (_other, mut remote) = world.ready().await;
        crate::post::post(&doomed, Explode);
        settle().await;
        assert_eq!(
            world.heard(),
            [
                Heard::Add(0),
                Heard::Add(1),
                Heard::Done(0, DoneReason::Panicked)
            ]
        );
        assert_eq!(world.slots.counts().taken, 1, "its slot is home");
        let mut rest = Vec::new();
        its_remote
            .get_mut()
            .read_to_end(&mut rest)
            .await
            .expect("its socket is closed");
        send(&mut remote, Message::Ping(4)).await;
        wait_for(&mut remote, |message| *message == Message::Pong(4)).await;
    });
}

#[test]
fn the_drain_ends_connections_that_no_manager_knows_yet() {
    crate::virtual_time::run(async {
        let mut world = World::new();
        let (_silent, _remote) = world.connect();
        let (_ready, _other) = world.ready().await;
        world.handshakes.close();
        settle().await;
        // The other one is PeerManager's to disconnect.
        assert_eq!(
            world.heard(),
            [Heard::Add(1), Heard::Done(0, DoneReason::Shutdown)]
        );
        let (_late, _remote) = world.connect();
        settle().await;
        assert_eq!(
            world.heard().last(),
            Some(&Heard::Done(2, DoneReason::Shutdown))
        );
    });
}

#[test]
fn done_is_sent_once_however_the_actor_ends() {
    crate::virtual_time::run(async {
        let mut world = World::new();
        let (stopped, _r0) = world.ready().await;
        crate::post::post(&stopped, Disconnect(DoneReason::Requested));
        crate::post::post(&stopped, Disconnect(DoneReason::Shutdown));
        crate::post::post(&stopped, Explode);
        let params = world.params();
        failed_setup(
            &world.context,
            params,
            &std::io::ErrorKind::NotConnected.into(),
        );
        let params = world.params();
        // Never started: its arbiter was gone.
        drop(Lifecycle::new(
            params,
            world.context.clock.now(),
            world.context.add.clone(),
            world.context.done.clone(),
        ));
        settle().await;
        let heard = world.heard();
        let done: Vec<u64> = heard
            .iter()
            .filter_map(|heard| {
                if let Heard::Done(id, _) = heard {
                    Some(*id)
                } else {
                    None
                }
            })
            .collect();
        assert_eq!(done.len(), 3, "{heard:?}");
        assert!(
            heard.contains(&Heard::Done(0, DoneReason::Requested)),
            "the first reason stands: {heard:?}"
        );
        assert!(world.everything_is_free());
    });
}

#[test]
fn an_idle_day_of_answered_pings_is_survived_and_silence_is_not() {
    crate::virtual_time::run(async {
        let mut world = World::new();
        let (_actor, mut remote) = world.ready().await;
        let day = Instant::now() + Duration::from_secs(24 * 3600);
        let mut pings = 0;
        while Instant::now() < day {
            let ping = wait_for(&mut remote, |message| matches!(message, Message::Ping(_))).await;
            let Message::Ping(nonce) = ping else {
                unreachable!("waited for it")
            };
            send(&mut remote, Message::Pong(nonce)).await;
            pings += 1;
        }
        assert!(pings >= 24 * 3600 / PING_INTERVAL.as_secs() - 1, "{pings}");
        assert_eq!(world.heard(), [Heard::Add(0)]);
        tokio::time::sleep(Duration::from_secs(30 * 60)).await;
        assert_eq!(
            world.heard().last(),
            Some(&Heard::Done(0, DoneReason::Inactive))
        );
    });
}

#[test]
fn whoever_is_told_to_leave_the_handshake_leaves_and_whoever_completed_it_stays() {
    crate::virtual_time::run(async {
        let mut world = World::new();
        let (_ready, mut remote) = world.ready().await;
        let (_silent, _its_remote) = world.connect();
        settle().await;
        // A limit of eight, of which the silent one is the first.
        let _others: Vec<_> = (0..8)
            .map(|_| {
                world
                    .handshakes
                    .enter(Direction::Inbound, Group::V4([127, 0]), TIMEOUT)
            })
            .collect();
        settle().await;
        assert_eq!(
            world.heard(),
            [Heard::Add(0), Heard::Done(1, DoneReason::Evicted)]
        );
        send(&mut remote, Message::Ping(4)).await;
        wait_for(&mut remote, |message| *message == Message::Pong(4)).await;
        assert_eq!(world.slots.counts().taken, 1);
    });
}
