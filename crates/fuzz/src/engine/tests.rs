//! The engine against targets of a few lines, over real TCP.

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;

use bytes::BytesMut;
use handfast_wire::{Codec, Message, Network};

use super::*;
use crate::plan::{Limit, Share};
use crate::scenario::{Scenario, Stage};
use crate::trace::What;
use crate::writer::PeerParams;

/// Listens until the test ends and serves each connection on a thread of its own.
fn target(serve: impl Fn(TcpStream) + Send + Sync + Clone + 'static) -> SocketAddr {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port on loopback");
    let address = listener.local_addr().expect("it is bound");
    thread::spawn(move || {
        for stream in listener.incoming() {
            let (Ok(stream), serve) = (stream, serve.clone()) else {
                return;
            };
            thread::spawn(move || serve(stream));
        }
    });
    address
}

/// Does as a node does: shakes hands, answers pings, closes when the other side has.
fn honest(stream: TcpStream) {
    converse(stream, |nonce| vec![Message::Pong(nonce)]);
}

/// The same with what it answers a ping with.
fn converse(mut stream: TcpStream, answer_ping: fn(u64) -> Vec<Message>) {
    let mut codec = Codec::new(Network::Regtest.magic());
    let (mut bytes, mut chunk) = (BytesMut::new(), [0; 4_096]);
    while let Ok(length @ 1..) = stream.read(&mut chunk) {
        bytes.extend_from_slice(&chunk[..length]);
        loop {
            let answers = match codec.next_frame(&mut bytes) {
                Ok(None) => break,
                Err(_) => return,
                Ok(Some(frame)) => match frame.message {
                    Ok(version @ Message::Version(_)) => vec![version, Message::Verack],
                    Ok(Message::Ping(nonce)) => answer_ping(nonce),
                    Ok(_) => vec![],
                    Err(_) => return,
                },
            };
            for answer in answers {
                let all = answer.encode(Network::Regtest.magic());
                if stream.write_all(&all).is_err() {
                    return;
                }
            }
        }
    }
}

fn plan(scenario: Scenario, cycles: u64) -> Plan {
    Plan {
        seed: 7,
        shares: vec![Share {
            scenario,
            weight: 1,
        }],
        concurrency: 30,
        limit: Limit {
            cycles,
            duration: Duration::from_secs(60),
        },
        rate: None,
        answer_timeout: Duration::from_secs(20),
    }
}

fn engine(plan: Plan, target: SocketAddr) -> Engine {
    let mut params = PeerParams::new(&Network::Regtest, 1_700_000_000);
    params.handshake_deadline = Duration::from_millis(300);
    let endpoints = Endpoints {
        p2p: target.into(),
        rpc: None,
    };
    Engine::new(plan, FrameSet::new(params), endpoints, None)
}

fn run(plan: Plan, target: SocketAddr) -> Counters {
    engine(plan, target).run(|_| ControlFlow::Continue(()))
}

#[test]
fn an_honest_target_is_healthy_in_every_scenario() {
    let target = target(honest);
    // At the same time: most of them wait most of their time.
    thread::scope(|scope| {
        for scenario in Scenario::ALL {
            if scenario.interface() == Interface::Rpc {
                continue;
            }
            scope.spawn(move || {
                let total = run(plan(scenario, 30), target).total();
                assert_eq!((total.begun, total.ended), (30, 30), "{scenario}");
                assert_eq!(total.failures, [].into(), "{scenario}");
            });
        }
    });
}

#[test]
fn only_scenarios_that_wait_for_a_pong_fail_without_one() {
    let answers_no_ping = target(|stream| converse(stream, |_| vec![]));
    thread::scope(|scope| {
        for scenario in Scenario::ALL {
            if scenario.interface() == Interface::Rpc {
                continue;
            }
            scope.spawn(move || {
                let mut short_timeout = plan(scenario, 20);
                short_timeout.answer_timeout = Duration::from_secs(6);
                let total = run(short_timeout, answers_no_ping).total();
                assert_eq!(total.failed() > 0, scenario.waits_for_pong(), "{scenario}");
            });
        }
    });
}

#[test]
fn each_failure_is_counted_by_its_kind() {
    let closes = target(drop);
    let total = run(plan(Scenario::Pipelined, 20), closes).total();
    // It depends on who is faster whether our first write finds it closed.
    let of_the_handshake = |failure: &Failure| {
        matches!(
            failure,
            Failure::Closed(Stage::Handshake) | Failure::Reset(Stage::Handshake)
        )
    };
    assert!(total.failures.keys().all(of_the_handshake), "{total:?}");
    assert_eq!(total.failed(), 20);

    let silent = target(|mut stream| {
        let _ = stream.read_to_end(&mut Vec::new());
    });
    let mut short_timeout = plan(Scenario::Reset, 5);
    short_timeout.answer_timeout = Duration::from_millis(100);
    let total = run(short_timeout, silent).total();
    let unanswered = Failure::Unanswered(Stage::Handshake);
    assert_eq!(total.failures, [(unanswered, 5)].into());

    let foreign = target(|mut stream| {
        let _ = stream.write_all(b"SSH-2.0-OpenSSH_9.2p1 Debian-2+deb12u3\r\n");
        let _ = stream.read_to_end(&mut Vec::new());
    });
    let total = run(plan(Scenario::Reset, 5), foreign).total();
    assert_eq!(
        total.failures,
        [(Failure::Garbled(Stage::Handshake), 5)].into()
    );
}

#[test]
fn a_target_that_still_sends_after_our_close_does_not_hang() {
    let talkative = target(|stream| {
        let mut late = stream.try_clone().expect("a descriptor");
        honest(stream);
        for _ in 0..12 {
            let _ = late.write_all(&[0; 1_000]);
            thread::park_timeout(Duration::from_millis(300));
        }
    });
    let mut plan = plan(Scenario::Burst, 5);
    plan.answer_timeout = Duration::from_millis(1_500);
    let total = run(plan, talkative).total();
    assert_eq!((total.ended, total.failures), (5, [].into()));
}

#[test]
fn a_target_that_sends_everything_but_the_answer_does_not_answer() {
    // It shakes hands and relays, as nodes do, and never answers a ping.
    let relays = target(|mut stream| {
        let mut codec = Codec::new(Network::Regtest.magic());
        let mut bytes = BytesMut::new();
        let mut chunk = [0; 4_096];
        let length = stream.read(&mut chunk).unwrap_or(0);
        bytes.extend_from_slice(&chunk[..length]);
        let Ok(Some(frame)) = codec.next_frame(&mut bytes) else {
            return;
        };
        let version = frame.message.expect("the version");
        let say = |mut stream: &TcpStream, message: &Message| {
            let encoded = message.encode(Network::Regtest.magic());
            stream.write_all(&encoded)
        };
        let mut said = say(&stream, &version).and_then(|()| say(&stream, &Message::Verack));
        while said.is_ok() {
            thread::park_timeout(Duration::from_millis(20));
            said = say(&stream, &Message::Inv(vec![]));
        }
    });
    let mut short_timeout = plan(Scenario::Reset, 3);
    short_timeout.answer_timeout = Duration::from_millis(300);
    short_timeout.limit.duration = Duration::from_secs(5);
    let total = run(short_timeout, relays).total();
    let unanswered = Failure::Unanswered(Stage::Ready);
    assert_eq!(total.failures, [(unanswered, 3)].into());
}

#[test]
fn refused_connections_are_retried_with_a_pause() {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port on loopback");
    let closed = listener.local_addr().expect("it is bound");
    drop(listener);
    let started = Instant::now();
    let mut plan = plan(Scenario::Reset, 7);
    plan.concurrency = 1;
    let total = run(plan, closed).total();
    assert_eq!(total.failures, [(Failure::Refused, 7)].into());
    // 1 + 2 + 4 + … ms, up to a second.
    assert!(started.elapsed() >= Duration::from_millis(1 + 2 + 4 + 8 + 16 + 32));
}

#[test]
fn a_503_with_retry_after_is_retried_later() {
    let overloaded = target(|mut stream| {
        let _ = stream.read(&mut [0; 4_096]);
        let answer =
            "HTTP/1.1 503 Service Unavailable\r\nRetry-After: 1\r\nContent-Length: 0\r\n\r\n";
        let _ = stream.write_all(answer.as_bytes());
    });
    let mut one_by_one = plan(Scenario::RpcBurst, 7);
    one_by_one.concurrency = 1;
    let mut engine = engine(one_by_one, overloaded);
    engine.endpoints.rpc = Some((
        overloaded.into(),
        Bytes::from_static(b"POST / HTTP/1.1\r\n\r\n"),
    ));
    let started = Instant::now();
    let total = engine.run(|_| ControlFlow::Continue(())).total();
    let overloaded = Failure::Wrong(crate::scenario::Wrong::Later);
    assert_eq!(total.failures, [(overloaded, 7)].into());
    assert!(started.elapsed() >= Duration::from_millis(1 + 2 + 4 + 8 + 16 + 32));
}

#[test]
fn a_call_without_an_answer_at_the_end_has_failed() {
    let mute = target(|mut stream| {
        let _ = stream.read_to_end(&mut Vec::new());
    });
    let mut short = plan(Scenario::RpcBurst, 3);
    short.limit.duration = Duration::from_millis(100);
    let mut engine = engine(short, mute);
    let request = Bytes::from_static(b"POST / HTTP/1.1\r\n\r\n");
    engine.endpoints.rpc = Some((mute.into(), request));
    let total = engine.run(|_| ControlFlow::Continue(())).total();
    let unanswered = Failure::Unanswered(Stage::Ready);
    assert_eq!((total.ended, total.failures), (3, [(unanswered, 3)].into()));
}

#[test]
fn the_rate_is_limited_and_the_watcher_can_end_the_run() {
    let target = target(honest);
    let mut slow = plan(Scenario::HandshakeDrop, 50);
    slow.rate = Some(100);
    let counters = run(slow.clone(), target);
    assert!(
        counters.elapsed >= Duration::from_millis(490),
        "{counters:?}"
    );
    assert_eq!(counters.handshakes(), 50);

    slow.limit.cycles = u64::MAX;
    let counters = engine(slow, target).run(|_| ControlFlow::Break(()));
    assert!(counters.total().begun < 1_000, "{counters:?}");
}

#[test]
fn the_same_seed_sends_the_same_bytes_on_every_connection_and_so_does_a_replay() {
    let target = target(honest);
    let sent = |records: Vec<Record>| {
        let sent = |record: Record| {
            let bytes = record
                .events
                .into_iter()
                .filter_map(|event| match event.what {
                    sent @ What::Sent { .. } => Some(sent),
                    _ => None,
                });
            (record.number, record.scenario, bytes.collect::<Vec<_>>())
        };
        let mut all: Vec<_> = records.into_iter().map(sent).collect();
        all.sort();
        all
    };
    let mut mixed = plan(Scenario::Reset, 100);
    // What depends on when others come is not in it: the nonce that one learns of another.
    mixed.shares = Plan::mix(false);
    mixed.shares.retain(|share| {
        ![Scenario::SelfConnect, Scenario::NegotiateTimeout].contains(&share.scenario)
    });
    let record = |engine: Engine| {
        let (counters, records, left_out) = engine
            .recording()
            .run_and_record(|_| ControlFlow::Continue(()));
        assert_eq!(
            (counters.total().failed(), left_out),
            (0, LeftOut::default())
        );
        records
    };
    let first = record(engine(mixed.clone(), target));
    let again = record(engine(mixed.clone(), target));
    let entries = first.iter().map(|record| ReplayEntry {
        part: mixed.part(record.number),
        source: record.source,
        at: Duration::from_micros(record.begun),
        opening: record.opening,
        together: false,
    });
    let replayed = record(engine(mixed.clone(), target).replaying(entries.collect()));
    let first = sent(first);
    assert_eq!(first.len(), 100);
    assert_eq!(sent(again), first);
    assert_eq!(sent(replayed), first);
}

#[test]
fn connections_at_the_barrier_disconnect_together() {
    let target = target(honest);
    let counters = run(plan(Scenario::Barrier, 30), target);
    let total = counters.total();
    assert_eq!((total.ended, total.failed()), (30, 0), "{total:?}");
}

/// The connections that left the barrier together, and what was recorded.
fn left_together(engine: Engine) -> (Vec<Vec<u64>>, Vec<Record>) {
    let (counters, records, _) = engine
        .recording()
        .run_and_record(|_| ControlFlow::Continue(()));
    assert_eq!(counters.total().failed(), 0);
    let mut openings = BTreeMap::<_, Vec<u64>>::new();
    for record in &records {
        let together = openings.entry(record.opening).or_default();
        together.push(record.number);
    }
    let mut together: Vec<Vec<u64>> = openings.into_values().collect();
    together.sort();
    (together, records)
}

#[test]
fn the_barrier_waits_for_connections_that_replace_ended_ones() {
    let left = Arc::new(AtomicU32::new(0));
    let target = target(move |stream| {
        honest(stream.try_clone().expect("a socket can be cloned"));
        // Closes one after the other, so that all others of the next opening wait at the
        // barrier when the last one ends. Where it is too fast the test misses its point, and
        // does not fail.
        let before = left.fetch_add(1, Ordering::Relaxed);
        if before < 30 {
            thread::park_timeout(before * Duration::from_millis(20));
        }
    });
    let (together, _) = left_together(engine(plan(Scenario::Barrier, 60), target));
    let sizes: Vec<_> = together.iter().map(Vec::len).collect();
    assert_eq!(sizes, [30, 30]);
}

#[test]
fn at_the_end_the_barrier_waits_only_for_connections_that_come_to_it() {
    let share = |scenario| Share {
        scenario,
        weight: 1,
    };
    let of_seed = |seed| Plan {
        seed,
        shares: [Scenario::Barrier, Scenario::NegotiateTimeout]
            .map(share)
            .to_vec(),
        ..plan(Scenario::Barrier, 3)
    };
    let at_the_barrier = |plan: &Plan| {
        let parts = (0..3).map(|number| plan.part(number).scenario);
        parts.filter(|it| *it == Scenario::Barrier).count()
    };
    // Fewer than it would wait for in the middle of a run.
    let plan = (0..).map(of_seed).find(|plan| at_the_barrier(plan) == 2);
    let mut plan = plan.expect("one of two seeds or so");
    assert!(plan.gathering() > 2);
    plan.limit.duration = Duration::from_secs(1);
    let mut engine = engine(plan, target(honest));
    engine.context.frame_set.params.handshake_deadline = Duration::from_secs(60);
    let counters = engine.run(|_| ControlFlow::Continue(()));
    let ended = |scenario| counters.scenarios[&scenario].ended;
    assert_eq!(
        (ended(Scenario::Barrier), ended(Scenario::NegotiateTimeout)),
        (2, 0)
    );
    assert_eq!(counters.waited_for[&Scenario::NegotiateTimeout], 1);
    assert!(counters.waits_from.is_some());
}

#[test]
fn connections_that_left_together_leave_together_in_a_replay() {
    let target = target(honest);
    let plan = plan(Scenario::Barrier, 90);
    let (first, records) = left_together(engine(plan.clone(), target));
    assert_eq!(first.iter().map(Vec::len).collect::<Vec<_>>(), [30, 30, 30]);
    // All of them at once: the order of arrival does not determine the groups.
    let entries = records.iter().map(|record| ReplayEntry {
        part: plan.part(record.number),
        source: None,
        at: Duration::ZERO,
        opening: record.opening,
        together: false,
    });
    let mut replayed = plan.clone();
    replayed.shares = Plan::mix(false);
    let engine = engine(replayed, target).replaying(entries.collect());
    assert_eq!(left_together(engine).0, first);
}

#[test]
fn a_target_that_does_not_close_after_us_is_found() {
    let keeps = target(|stream| {
        honest(stream.try_clone().expect("a socket can be cloned"));
        loop {
            thread::park();
        }
    });
    let mut short_timeout = plan(Scenario::Pipelined, 3);
    short_timeout.answer_timeout = Duration::from_millis(300);
    let total = run(short_timeout, keeps).total();
    assert_eq!(
        total.failures,
        [(Failure::Unanswered(Stage::Closing), 3)].into()
    );
}
