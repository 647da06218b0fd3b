//! The end of the handshake and the end of the connection at the same time, in seeded
//! rounds: what each round must give is said in [`crate::manual::ordering`].

use bytes::BytesMut;
use handfast_proto::random::Random;

use super::executor::{End, Executor, Socket, chunks};
use super::*;

/// Rounds of each test.
const ROUNDS: u64 = 1_000;

/// What happens together with the remote's verack.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Rival {
    RemoteCloses,
    ConnectionBreaks,
    TimeIsUp,
    LimiterIsFull,
    NodeStops,
}

const RIVALS: [Rival; 5] = [
    Rival::RemoteCloses,
    Rival::ConnectionBreaks,
    Rival::TimeIsUp,
    Rival::LimiterIsFull,
    Rival::NodeStops,
];

/// One connection before a clerk, both polled in an order that follows from the seed.
struct Round {
    random: Random,
    executor: Executor,
    world: World,
    socket: Socket,
    deadline: Instant,
    /// Newcomers in the handshake room.
    others: Vec<(ConnId, HandshakePermit)>,
}

impl Round {
    fn new(seed: u64) -> Self {
        let mut executor = Executor::new(seed);
        let clerk = Clerk::default();
        let (heard, links, held) = (clerk.heard.clone(), clerk.links.clone(), clerk.held.clone());
        let ctx = Context::<Clerk>::new();
        let mut world = World::context(ctx.address(), heard, links, held, Bytes::new());
        executor.add("clerk", ctx.into_future(clerk));
        let socket = Socket::default();
        let params = world.params();
        let peer = future(
            world.context.clone(),
            params,
            socket.clone(),
            tokio::io::sink(),
        );
        executor.add("peer", peer);
        let mut round = Self {
            random: Random::new(seed ^ 0x5eed),
            executor,
            world,
            socket,
            deadline: Instant::now() + TIMEOUT,
            others: Vec::new(),
        };
        round.executor.until_idle();
        round
    }

    fn cut(&mut self, messages: &[Message]) -> Vec<Vec<u8>> {
        let mut bytes = BytesMut::new();
        for message in messages {
            message
                .clone()
                .encode_into(Network::Regtest.magic(), &mut bytes);
        }
        chunks(&bytes, &mut self.random)
    }

    fn arrive(&mut self, chunks: Vec<Vec<u8>>) {
        for chunk in chunks {
            self.socket.arrive(chunk);
        }
    }

    /// Makes the rival ready; polls no actor.
    async fn make_ready(&mut self, rival: Rival) {
        match rival {
            Rival::RemoteCloses => self.socket.end(End::Eof),
            Rival::ConnectionBreaks => self.socket.end(End::Reset),
            Rival::TimeIsUp => tokio::time::sleep_until(self.deadline).await,
            Rival::LimiterIsFull => {
                for _ in 0..8 {
                    self.others.push(self.world.handshakes.enter(
                        Direction::Inbound,
                        Group::V4([127, 0]),
                        TIMEOUT,
                    ));
                }
            }
            Rival::NodeStops => self.world.handshakes.close(),
        }
    }

    /// Ends what has not ended, and tells what the manager heard.
    fn finish(mut self) -> (Vec<Heard>, Vec<&'static str>) {
        self.executor.until_idle();
        self.socket.end(End::Eof);
        self.executor.until_idle();
        assert!(!self.executor.runs("peer"));
        assert!(self.world.everything_is_free());
        (self.world.heard(), self.executor.polled)
    }
}

fn done(reason: DoneReason) -> Heard {
    Heard::Done(0, reason)
}

/// The verack has arrived and the rival is ready before the connection is polled.
fn both_ready_at_once(seed: u64) -> (Rival, Vec<Heard>, Vec<&'static str>) {
    crate::virtual_time::run(async {
        let mut round = Round::new(seed);
        let rival = RIVALS[round.random.index(RIVALS.len())];
        let early = round.random.index(2) == 0;
        if early {
            let version = round.cut(&[version()]);
            round.arrive(version);
            round.executor.until_idle();
        }
        let last = if early {
            round.cut(&[Message::Verack])
        } else {
            round.cut(&[version(), Message::Verack])
        };
        if round.random.index(2) == 0 {
            round.make_ready(rival).await;
            round.arrive(last);
        } else {
            round.arrive(last);
            round.make_ready(rival).await;
        }
        let (heard, polled) = round.finish();
        (rival, heard, polled)
    })
}

#[test]
fn both_ready_at_once_gives_add_and_then_the_end_that_the_socket_gives() {
    for seed in 0..ROUNDS {
        let (rival, heard, polled) = both_ready_at_once(seed);
        // The clock and the order to leave come too late: the connection lives until
        // its remote closes it.
        let end = match rival {
            Rival::ConnectionBreaks => {
                DoneReason::RemoteReset(std::io::ErrorKind::ConnectionReset.into())
            }
            Rival::RemoteCloses | Rival::TimeIsUp | Rival::LimiterIsFull | Rival::NodeStops => {
                DoneReason::RemoteClosed
            }
        };
        assert_eq!(heard, [Heard::Add(0), done(end)], "seed {seed}, {rival:?}");
        let again = both_ready_at_once(seed);
        assert_eq!(again, (rival, heard, polled), "seed {seed}");
    }
}

/// The verack comes in pieces, and the rival at any moment between them.
fn nearly_at_once(seed: u64) -> (Rival, Vec<Heard>, Vec<&'static str>) {
    crate::virtual_time::run(async {
        let mut round = Round::new(seed);
        let rival = RIVALS[round.random.index(RIVALS.len())];
        let mut pieces = round.cut(&[version(), Message::Verack]);
        let rival_at = round.random.index(pieces.len() + 1);
        for at in 0..=pieces.len() {
            if at == rival_at {
                round.make_ready(rival).await;
            }
            if let Some(piece) = pieces.get_mut(at) {
                round.socket.arrive(std::mem::take(piece));
            }
            for _ in 0..round.random.index(4) {
                round.executor.poll_one();
            }
        }
        let (heard, polled) = round.finish();
        (rival, heard, polled)
    })
}

#[test]
fn in_any_order_the_life_of_a_connection_is_add_and_done_or_only_done() {
    let (mut with_add, mut without) = (0, 0);
    for seed in 0..ROUNDS {
        let (rival, heard, polled) = nearly_at_once(seed);
        match &heard[..] {
            [Heard::Add(0), Heard::Done(0, _)] => with_add += 1,
            [Heard::Done(0, _)] => without += 1,
            other => panic!("seed {seed}, {rival:?}: {other:?}"),
        }
        assert_eq!(nearly_at_once(seed), (rival, heard, polled), "seed {seed}");
    }
    assert!(
        with_add > ROUNDS / 10 && without > ROUNDS / 10,
        "{with_add}, {without}"
    );
}

/// A verack so many milliseconds after the deadline of the handshake, or before it.
/// At zero the seed says which of them is polled first.
fn around_the_deadline(seed: u64) -> (i64, bool, Vec<Heard>) {
    crate::virtual_time::run(async {
        let mut round = Round::new(seed);
        let pieces = round.cut(&[version()]);
        round.arrive(pieces);
        round.executor.until_idle();
        let offset = i64::try_from(round.random.below(7)).expect("small") - 3;
        let clock_first = offset > 0 || offset == 0 && round.random.index(2) == 0;
        let verack = round.cut(&[Message::Verack]);
        let apart = Duration::from_millis(offset.unsigned_abs());
        if clock_first {
            tokio::time::sleep_until(round.deadline).await;
            round.executor.until_idle();
            tokio::time::sleep(apart).await;
            round.arrive(verack);
        } else {
            tokio::time::sleep_until(round.deadline - apart).await;
            round.arrive(verack);
            round.executor.until_idle();
            tokio::time::sleep(apart + Duration::from_millis(5)).await;
        }
        (offset, clock_first, round.finish().0)
    })
}

#[test]
fn a_verack_around_the_handshake_timeout_counts_exactly_if_it_is_there_when_the_clock_is_read() {
    let mut at_the_very_moment = [0; 2];
    for seed in 0..ROUNDS {
        let (offset, clock_first, heard) = around_the_deadline(seed);
        let expected = if clock_first {
            vec![done(DoneReason::HandshakeTimeout)]
        } else {
            vec![Heard::Add(0), done(DoneReason::RemoteClosed)]
        };
        assert_eq!(heard, expected, "seed {seed}, {offset} ms");
        if offset == 0 {
            at_the_very_moment[usize::from(clock_first)] += 1;
        }
    }
    assert!(at_the_very_moment.iter().all(|&rounds| rounds > 20));
}

#[test]
fn verack_then_disconnect_gives_exactly_add_and_done() {
    for seed in 0..ROUNDS {
        crate::virtual_time::run(async {
            let mut round = Round::new(seed);
            let pieces = round.cut(&[version(), Message::Verack]);
            round.arrive(pieces);
            let end = [End::Eof, End::Reset][round.random.index(2)];
            if round.random.index(2) == 0 {
                round.executor.until_idle();
            }
            round.socket.end(end);
            let heard = round.finish().0;
            assert!(
                matches!(&heard[..], [Heard::Add(0), Heard::Done(0, _)]),
                "seed {seed}: {heard:?}"
            );
        });
    }
}

#[test]
fn disconnect_before_verack_gives_no_add_and_exactly_one_done() {
    for seed in 0..ROUNDS {
        crate::virtual_time::run(async {
            let mut round = Round::new(seed);
            let mut pieces = round.cut(&[version(), Message::Verack]);
            // The last byte of the verack never comes.
            let last = pieces.last_mut().expect("there are bytes");
            last.pop();
            let came = round.random.index(pieces.len() + 1);
            pieces.truncate(came);
            round.arrive(pieces);
            if round.random.index(2) == 0 {
                round.executor.until_idle();
            }
            round
                .socket
                .end([End::Eof, End::Reset][round.random.index(2)]);
            let heard = round.finish().0;
            assert!(
                matches!(&heard[..], [Heard::Done(0, _)]),
                "seed {seed}: {heard:?}"
            );
        });
    }
}
