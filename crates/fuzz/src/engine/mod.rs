//! One thread that holds all connections of a run.
//!
//! The engine must never be the bottleneck of a run, so it is one thread around `epoll`, parses
//! frame headers only, and reuses encoded frames. It hides nothing: every error, and every
//! connection that ends or falls silent unexpectedly, is counted.
//!
//! # Ports
//! The side that closes first has the connection's ports in TIME_WAIT, and that is nearly always
//! us. Our ports (28,232 by Linux's default) can be reused a second later on loopback
//! (`net.ipv4.tcp_tw_reuse` = 2); a range of source addresses has as many more.

mod barrier;
mod connection;
mod counters;
mod failure;
mod frames;
mod pace;
mod sources;
mod timers;

pub use counters::{Counters, Disconnection, ScenarioCounts, Second};
pub use failure::Failure;
pub(crate) use sources::can_come_from;
pub use sources::{NoRange, NoSource, SourceRange};

use std::net::SocketAddr;
use std::ops::ControlFlow;
use std::time::{Duration, Instant};

use bytes::Bytes;
use rustix::buffer::spare_capacity;
use rustix::event::{Timespec, epoll};
use rustix::fd::OwnedFd;
use socket2::SockAddr;

use crate::plan::{Part, Plan};
use crate::recorder::{LeftOut, Recorder};
use crate::scenario::{Act, Event, Interface, Scenario, StartMode};
use crate::trace::{Record, ReplayEntry};
use crate::writer::{FrameSet, Memory};
use barrier::Barrier;
use connection::{Connection, Context, Next, Notes};
use timers::{ConnectionKey, Timers};

/// Most events of one poll.
const EVENTS: usize = 512;
/// The size of one read, bytes: many times what a node sends in a handshake.
const READ: usize = 64 * 1024;
/// Interval of checking for overdue connections, and of calling `watch`.
const CHECK: Duration = Duration::from_secs(1);
/// Time for connections to end once no more begin.
pub(crate) const DRAIN: Duration = Duration::from_secs(5);
/// Longest step of one connection. If it takes longer, because it makes a block that costs work,
/// handshake times of others are not counted: the delay was ours.
const BUSY: Duration = Duration::from_millis(20);
/// First pause after the target did not take a connection; it doubles each time.
const FIRST_PAUSE: Duration = Duration::from_millis(1);
/// Longest pause.
const LONGEST_PAUSE: Duration = Duration::from_secs(1);

/// The target's sockets.
#[derive(Clone, Debug)]
pub struct Endpoints {
    /// The P2P socket.
    pub p2p: SockAddr,
    /// The RPC socket, and the HTTP request of a call.
    pub rpc: Option<(SockAddr, Bytes)>,
}

/// A slot for a connection. Its events carry its index.
#[derive(Debug, Default)]
struct Slot {
    connection: Option<Connection>,
    /// Connections that had this slot: identifies timers of an earlier one.
    generation: u64,
    /// The number of its last timer: identifies earlier ones.
    last_timer: u64,
    /// Whether it is polled for writing.
    writes: bool,
}

/// See the module.
#[derive(Debug)]
pub struct Engine {
    plan: Plan,
    endpoints: Endpoints,
    sources: Option<SourceRange>,
    context: Context,
    epoll: OwnedFd,
    slots: Vec<Slot>,
    free: Vec<usize>,
    barrier: Barrier,
    live: usize,
    timers: Timers,
    counters: Counters,
    begun: u64,
    started: Instant,
    checked: Instant,
    pause: Option<(Instant, Duration)>,
    /// When one connection last blocked all others: see [`BUSY`].
    busy_until: Instant,
    /// The connections to replay; empty: the plan is run.
    entries: Vec<ReplayEntry>,
}

impl Engine {
    /// An engine, ready to run.
    ///
    /// # Panics
    /// If the system cannot poll sockets, or the plan has no scenario.
    #[must_use]
    pub fn new(
        plan: Plan,
        frame_set: FrameSet,
        endpoints: Endpoints,
        sources: Option<SourceRange>,
    ) -> Self {
        assert!(
            plan.concurrency > 0 && !plan.shares.is_empty(),
            "a plan has a scenario"
        );
        let now = Instant::now();
        Self {
            plan,
            endpoints,
            sources,
            context: Context {
                frame_set,
                memory: Memory::default(),
                buffer: vec![0; READ],
                acts: Vec::<Act>::new(),
                notes: Notes::default(),
                recorder: None,
            },
            epoll: epoll::create(epoll::CreateFlags::CLOEXEC).expect("the system can poll"),
            slots: Vec::new(),
            free: Vec::new(),
            barrier: Barrier::default(),
            live: 0,
            timers: Timers::default(),
            counters: Counters::default(),
            begun: 0,
            started: now,
            checked: now,
            pause: None,
            busy_until: now,
            entries: Vec::new(),
        }
    }

    /// Replays these connections, at their times, instead of the plan's.
    #[must_use]
    pub fn replaying(mut self, entries: Vec<ReplayEntry>) -> Self {
        self.plan.limit.cycles = entries.len() as u64;
        self.plan.concurrency = entries.len().max(1);
        self.barrier = Barrier::replaying(&entries);
        self.entries = entries;
        self
    }

    /// Records the events of every connection.
    #[must_use]
    pub fn recording(mut self) -> Self {
        self.context.recorder = Some(Recorder::default());
        self
    }

    /// Runs all connections and returns the counters. `watch` is called about once a second, and
    /// ends the run by its break.
    pub fn run(self, watch: impl FnMut(&Counters) -> ControlFlow<()>) -> Counters {
        self.run_and_record(watch).0
    }

    /// The same, with the record: the connections, and what was omitted.
    pub fn run_and_record(
        mut self,
        mut watch: impl FnMut(&Counters) -> ControlFlow<()>,
    ) -> (Counters, Vec<Record>, LeftOut) {
        self.started = Instant::now();
        let mut last_begun = self.started;
        loop {
            let now = Instant::now();
            self.record_drain_start(now);
            if self.may_begin(now) {
                self.begin(now);
                last_begun = now;
            }
            // After slots are taken again: the new connections can be waited for too.
            if self.open_barrier() {
                continue;
            }
            if self.live == 0 && !self.goes_on(now) {
                break;
            }
            if now.duration_since(last_begun) > self.grace(now) {
                self.fail_unanswered_calls(now);
                break;
            }
            self.poll(now);
            self.wake_due();
            if now.duration_since(self.checked) >= CHECK {
                self.checked = now;
                self.fail_overdue(now);
                self.counters.elapsed = now.duration_since(self.started);
                if watch(&self.counters).is_break() {
                    break;
                }
            }
        }
        self.counters.elapsed = self.started.elapsed();
        let recorded = self.context.recorder.unwrap_or_default();
        (self.counters, recorded.connections, recorded.left_out)
    }

    /// Notes when no more connections are to begin and the rest is waited for.
    fn record_drain_start(&mut self, now: Instant) {
        if self.counters.waits_from.is_none() && !self.goes_on(now) {
            self.counters.waits_from = Some(now.duration_since(self.started));
            self.counters.waited_for = self.counters.unfinished();
        }
    }

    /// Begins as many connections as there are free slots. Those of a wave are all connected
    /// before the first of them sends anything.
    fn begin(&mut self, now: Instant) {
        let mut connected = Vec::new();
        while self.live < self.plan.concurrency
            // The time limit holds also while every connection fails.
            && self.goes_on(Instant::now())
            && self.begins_at().is_none_or(|at| at <= now)
        {
            let entry = self.next_entry().map(|entry| entry.together);
            let together = entry.unwrap_or(self.start_mode() == StartMode::Waves);
            let Some(index) = self.connect(now) else {
                continue;
            };
            match together {
                true => connected.push(index),
                false => self.establish(index, now),
            }
        }
        for index in connected {
            self.establish(index, now);
        }
    }

    /// Begins one connection; returns its slot if it is established already.
    fn connect(&mut self, now: Instant) -> Option<usize> {
        let (part, source) = match self.next_entry() {
            Some(entry) => (entry.part, entry.source),
            None => {
                let part = self.plan.part(self.begun);
                let source = self.sources.map(|range| range.address(part.number));
                (part, source)
            }
        };
        let index = usize::try_from(self.begun).expect("connections are counted by this machine");
        self.begun += 1;
        self.counters.begun(part.scenario);
        if let Some(recorder) = &mut self.context.recorder {
            recorder.begun(part, source, now.duration_since(self.started));
        }
        let source = source.map(|source| SockAddr::from(SocketAddr::from((source, 0))));
        let (target, call, source) = match (part.scenario.interface(), &self.endpoints.rpc) {
            (Interface::P2p, _) | (Interface::Rpc, None) => {
                (&self.endpoints.p2p, Bytes::new(), source)
            }
            (Interface::Rpc, Some((address, call))) => (address, call.clone(), None),
        };
        let machine = part.scenario.machine(&call);
        match Connection::connect(target, source.as_ref(), (index, part), machine, now) {
            Ok((connection, connected)) => {
                let index = self.insert_connection(connection);
                connected.then_some(index)
            }
            Err(failure) => {
                self.refused((index, part), failure, now);
                None
            }
        }
    }

    fn refused(&mut self, (index, part): (usize, Part), failure: Failure, now: Instant) {
        if let Some(recorder) = &mut self.context.recorder {
            recorder.ended(index, Disconnection::Failed(failure));
        }
        self.barrier.left(None, index);
        let at = now.duration_since(self.started);
        self.counters
            .ended(at, part.scenario, Disconnection::Failed(failure));
        self.back_off(failure, now);
    }

    /// The target, or our own machine, is overloaded: waits longer each time.
    fn back_off(&mut self, failure: Failure, now: Instant) {
        if failure.asks_for_a_pause() {
            let length = self.pause.map_or(FIRST_PAUSE, |(_, length)| length * 2);
            let length = length.min(LONGEST_PAUSE);
            self.pause = Some((now + length, length));
        }
    }

    fn insert_connection(&mut self, connection: Connection) -> usize {
        let index = self.free.pop().unwrap_or(self.slots.len());
        if index == self.slots.len() {
            self.slots.push(Slot::default());
        }
        let writes = connection.wants_to_write();
        let data = epoll::EventData::new_u64(index as u64);
        epoll::add(&self.epoll, connection.socket(), data, interest(writes))
            .expect("a socket can be polled");
        let slot = &mut self.slots[index];
        slot.generation += 1;
        slot.writes = writes;
        slot.connection = Some(connection);
        self.live += 1;
        index
    }

    fn establish(&mut self, index: usize, now: Instant) {
        self.with(index, now, |connection, context| {
            connection.established(context, now)
        });
    }

    /// Waits for socket events, or until the next timer.
    fn poll(&mut self, now: Instant) {
        let mut until = now + CHECK;
        until = self.timers.next().map_or(until, |at| until.min(at));
        if self.live < self.plan.concurrency
            && let Some(at) = self.begins_at()
        {
            until = until.min(at);
        }
        let timeout = Timespec::try_from(until.saturating_duration_since(now)).ok();
        let mut events = Vec::with_capacity(EVENTS);
        match epoll::wait(&self.epoll, spare_capacity(&mut events), timeout.as_ref()) {
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(error) => panic!("cannot poll: {error}"),
        }
        let now = Instant::now();
        for event in events {
            let index = usize::try_from(event.data.u64()).expect("an index of ours");
            self.with(index, now, |connection, context| {
                connection.on_ready(context, now)
            });
        }
    }

    fn wake_due(&mut self) {
        let now = Instant::now();
        while let Some((key, timer)) = self.timers.due(now) {
            let slot = &self.slots[key.slot];
            if slot.generation == key.generation && slot.last_timer == timer {
                self.with(key.slot, now, |connection, context| {
                    connection.deliver(Event::Due, context, now)
                });
            }
        }
    }

    /// Opens the barrier when all that can be expected wait at it; whether it did.
    fn open_barrier(&mut self) -> bool {
        let now = Instant::now();
        let live = match self.goes_on(now) {
            true => self.live,
            false => self.barrier_candidates(),
        };
        let Some((opening, slots)) = self.barrier.open(self.plan.gathering(), live) else {
            return false;
        };
        for slot in slots {
            self.with(slot, now, |connection, context| {
                if let Some(recorder) = &mut context.recorder {
                    recorder.opened(connection.index, opening);
                }
                connection.deliver(Event::Opened, context, now)
            });
        }
        true
    }

    /// Connections that wait at the barrier or may come to it. At the end of a run no new ones
    /// take the slots of others, which may stay for a minute.
    fn barrier_candidates(&self) -> usize {
        let connections = self.slots.iter().filter_map(|it| it.connection.as_ref());
        let gathers = |it: &&Connection| it.part.scenario == Scenario::Barrier;
        connections.filter(gathers).count()
    }

    /// Peers may stay; a call without an answer by now has failed.
    fn fail_unanswered_calls(&mut self, now: Instant) {
        for index in 0..self.slots.len() {
            let connection = self.slots[index].connection.as_ref();
            if let Some(failure) = connection.and_then(Connection::unanswered_call) {
                self.end(index, Disconnection::Failed(failure), now);
            }
        }
    }

    fn fail_overdue(&mut self, now: Instant) {
        for index in 0..self.slots.len() {
            let connection = self.slots[index].connection.as_ref();
            let overdue = connection.and_then(|it| it.overdue(now, self.plan.answer_timeout));
            if let Some(failure) = overdue {
                self.end(index, Disconnection::Failed(failure), now);
            }
        }
    }

    /// Runs a step of a connection and handles its notes. It may have been ended by an earlier
    /// event of the same batch.
    fn with(
        &mut self,
        index: usize,
        now: Instant,
        act: impl FnOnce(&mut Connection, &mut Context) -> Next,
    ) {
        let Some(slot) = self.slots.get_mut(index) else {
            return;
        };
        let Some(connection) = slot.connection.as_mut() else {
            return;
        };
        let acted = Instant::now();
        let next = act(connection, &mut self.context);
        let notes = std::mem::take(&mut self.context.notes);
        if acted.elapsed() >= BUSY {
            self.busy_until = Instant::now();
        }
        if notes.handshake_done {
            let counts = connection.begun >= self.busy_until;
            let took = now.duration_since(connection.begun);
            let at = now.duration_since(self.started);
            let took = counts.then_some(took);
            self.counters
                .handshake_done(at, connection.part.scenario, took);
            if notes.wrong_answers.is_empty() {
                self.pause = None;
            }
        }
        let scenario = connection.part.scenario;
        if let Some(after) = notes.wake {
            slot.last_timer += 1;
            let key = ConnectionKey {
                slot: index,
                generation: slot.generation,
            };
            self.timers.set(now + after, key, slot.last_timer);
        }
        if notes.gathered {
            self.barrier.joined(index, connection.index);
        }
        match next {
            Next::Over(how) => self.end(index, how, now),
            Next::Wait => {
                let writes = connection.wants_to_write();
                if writes != slot.writes {
                    slot.writes = writes;
                    let data = epoll::EventData::new_u64(index as u64);
                    epoll::modify(&self.epoll, connection.socket(), data, interest(writes))
                        .expect("a socket can be polled");
                }
            }
        }
        for failure in notes.wrong_answers {
            self.counters.wrong_answer(scenario, failure);
            self.back_off(failure, now);
        }
    }

    /// Closes the socket.
    fn end(&mut self, index: usize, how: Disconnection, now: Instant) {
        let Some(connection) = self.slots[index].connection.take() else {
            return;
        };
        self.live -= 1;
        self.barrier.left(Some(index), connection.index);
        self.free.push(index);
        if let Some(recorder) = &mut self.context.recorder {
            recorder.ended(connection.index, how);
        }
        let at = now.duration_since(self.started);
        self.counters.ended(at, connection.part.scenario, how);
        if let Disconnection::Failed(failure) = how {
            self.back_off(failure, now);
        }
    }
}

fn interest(writes: bool) -> epoll::EventFlags {
    match writes {
        true => epoll::EventFlags::IN | epoll::EventFlags::OUT,
        false => epoll::EventFlags::IN,
    }
}

#[cfg(test)]
mod tests;
