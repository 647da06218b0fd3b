//! One thread that holds all connections of a run.
//!
//! It must never be what a run shows, so it is one thread around `epoll`, looks at frame
//! headers only, and sends frames that were made once where it can. It hides nothing: every
//! error, every connection that ends or falls silent where it should not is counted.
//!
//! # Ports
//! Whoever closes first keeps the connection's ports in TIME_WAIT, and here that is nearly
//! always us. Our ports (28,232 as Linux is shipped) can be used again a second later on
//! loopback (`net.ipv4.tcp_tw_reuse` = 2); a range of source addresses has as many more.

mod barrier;
mod connection;
mod failure;
mod frames;
mod pace;
mod sources;
mod tally;
mod timers;

pub use failure::Failure;
pub(crate) use sources::can_come_from;
pub use sources::{NoRange, NoSource, SourceRange};
pub use tally::{Counts, Ending, Second, Tally};

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
use crate::scenario::{Act, Arrival, Door, Event, Scenario};
use crate::trace::{Cue, Record};
use crate::voice::{Memory, Phrases};
use barrier::Barrier;
use connection::{Connection, Desk, Next, Notes};
use timers::{Name, Timers};

/// Events taken from the system at once.
const EVENTS: usize = 512;
/// What one read takes, bytes: all that a node says in a handshake, many times over.
const READ: usize = 64 * 1024;
/// How often connections that make no progress are looked for, and whoever watches is told.
const CHECK: Duration = Duration::from_secs(1);
/// How long connections may take to end once no more begin.
pub(crate) const DRAIN: Duration = Duration::from_secs(5);
/// How long one connection may act. Where it takes longer, as it makes a block that costs work,
/// the handshakes of others that were under way took that long by our fault, and say nothing
/// about the target.
const BUSY: Duration = Duration::from_millis(20);
/// First pause after the target did not take a connection; it doubles from one to the next.
const FIRST_PAUSE: Duration = Duration::from_millis(1);
/// Longest pause.
const LONGEST_PAUSE: Duration = Duration::from_secs(1);

/// Where connections go.
#[derive(Clone, Debug)]
pub struct Doors {
    /// The socket for peers.
    pub p2p: SockAddr,
    /// The socket for RPC calls, and the HTTP request of a call.
    pub rpc: Option<(SockAddr, Bytes)>,
}

/// A place for a connection. Its events carry its index.
#[derive(Debug, Default)]
struct Place {
    connection: Option<Connection>,
    /// Connections that were here: tells timers of an earlier one.
    uses: u64,
    /// Wishes to be woken: tells an earlier wish.
    wishes: u64,
    /// Whether the poller tells when it can be written.
    writes: bool,
}

/// See the module.
#[derive(Debug)]
pub struct Engine {
    plan: Plan,
    doors: Doors,
    sources: Option<SourceRange>,
    desk: Desk,
    epoll: OwnedFd,
    places: Vec<Place>,
    free: Vec<usize>,
    barrier: Barrier,
    live: usize,
    timers: Timers,
    tally: Tally,
    begun: u64,
    started: Instant,
    checked: Instant,
    pause: Option<(Instant, Duration)>,
    /// When one connection last kept all others waiting: see [`BUSY`].
    busy_until: Instant,
    /// What is made again; empty: the plan is played.
    cues: Vec<Cue>,
}

impl Engine {
    /// Ready to run.
    ///
    /// # Panics
    /// If the system cannot poll sockets, or the plan plays nothing.
    #[must_use]
    pub fn new(plan: Plan, phrases: Phrases, doors: Doors, sources: Option<SourceRange>) -> Self {
        assert!(
            plan.concurrency > 0 && !plan.shares.is_empty(),
            "a plan plays something"
        );
        let now = Instant::now();
        Self {
            plan,
            doors,
            sources,
            desk: Desk {
                phrases,
                memory: Memory::default(),
                buffer: vec![0; READ],
                acts: Vec::<Act>::new(),
                notes: Notes::default(),
                recorder: None,
            },
            epoll: epoll::create(epoll::CreateFlags::CLOEXEC).expect("the system can poll"),
            places: Vec::new(),
            free: Vec::new(),
            barrier: Barrier::default(),
            live: 0,
            timers: Timers::default(),
            tally: Tally::default(),
            begun: 0,
            started: now,
            checked: now,
            pause: None,
            busy_until: now,
            cues: Vec::new(),
        }
    }

    /// Makes these connections, at these times, instead of those of the plan.
    #[must_use]
    pub fn replaying(mut self, cues: Vec<Cue>) -> Self {
        self.plan.limit.cycles = cues.len() as u64;
        self.plan.concurrency = cues.len().max(1);
        self.barrier = Barrier::replaying(&cues);
        self.cues = cues;
        self
    }

    /// Writes down what every connection does.
    #[must_use]
    pub fn recording(mut self) -> Self {
        self.desk.recorder = Some(Recorder::default());
        self
    }

    /// Does all connections and tells what became of them. `watch` is called about once a
    /// second, and ends the run by its break.
    pub fn run(self, watch: impl FnMut(&Tally) -> ControlFlow<()>) -> Tally {
        self.run_and_record(watch).0
    }

    /// The same, with what was written down: the connections, and what was left out since it
    /// was too much.
    pub fn run_and_record(
        mut self,
        mut watch: impl FnMut(&Tally) -> ControlFlow<()>,
    ) -> (Tally, Vec<Record>, LeftOut) {
        self.started = Instant::now();
        let mut last_begun = self.started;
        loop {
            let now = Instant::now();
            self.note_the_wait(now);
            if self.may_begin(now) {
                self.begin(now);
                last_begun = now;
            }
            // When places are taken again: whoever takes one can be waited for too.
            if self.open_barrier() {
                continue;
            }
            if self.live == 0 && !self.goes_on(now) {
                break;
            }
            if now.duration_since(last_begun) > self.grace(now) {
                self.give_up_on_calls(now);
                break;
            }
            self.poll(now);
            self.wake_due();
            if now.duration_since(self.checked) >= CHECK {
                self.checked = now;
                self.give_up_on_the_silent(now);
                self.tally.elapsed = now.duration_since(self.started);
                if watch(&self.tally).is_break() {
                    break;
                }
            }
        }
        self.tally.elapsed = self.started.elapsed();
        let recorded = self.desk.recorder.unwrap_or_default();
        (self.tally, recorded.connections, recorded.left_out)
    }

    /// From the moment at which no more connections are to begin, those that are there are
    /// waited for.
    fn note_the_wait(&mut self, now: Instant) {
        if self.tally.waits_from.is_none() && !self.goes_on(now) {
            self.tally.waits_from = Some(now.duration_since(self.started));
            self.tally.waited_for = self.tally.unfinished();
        }
    }

    /// Begins as many as there is room for. Those of a wave are all connected before the
    /// first of them says a word.
    fn begin(&mut self, now: Instant) {
        let mut connected = Vec::new();
        while self.live < self.plan.concurrency
            // The time of the run is over also while one connection after the other fails.
            && self.goes_on(Instant::now())
            && self.begins_at().is_none_or(|at| at <= now)
        {
            let cue = self.next_cue().map(|cue| cue.together);
            let together = cue.unwrap_or(self.arrival() == Arrival::Waves);
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

    /// Begins one connection; its place if it is established already.
    fn connect(&mut self, now: Instant) -> Option<usize> {
        let (part, source) = match self.next_cue() {
            Some(cue) => (cue.part, cue.source),
            None => {
                let part = self.plan.part(self.begun);
                let source = self.sources.map(|range| range.address(part.number));
                (part, source)
            }
        };
        let index = usize::try_from(self.begun).expect("connections are counted by this machine");
        self.begun += 1;
        self.tally.begun(part.scenario);
        if let Some(recorder) = &mut self.desk.recorder {
            recorder.begun(part, source, now.duration_since(self.started));
        }
        let source = source.map(|source| SockAddr::from(SocketAddr::from((source, 0))));
        let (target, call, source) = match (part.scenario.door(), &self.doors.rpc) {
            (Door::P2p, _) | (Door::Rpc, None) => (&self.doors.p2p, Bytes::new(), source),
            (Door::Rpc, Some((address, call))) => (address, call.clone(), None),
        };
        let machine = part.scenario.machine(&call);
        match Connection::connect(target, source.as_ref(), (index, part), machine, now) {
            Ok((connection, connected)) => {
                let index = self.settle_in(connection);
                connected.then_some(index)
            }
            Err(failure) => {
                self.refused((index, part), failure, now);
                None
            }
        }
    }

    fn refused(&mut self, (index, part): (usize, Part), failure: Failure, now: Instant) {
        if let Some(recorder) = &mut self.desk.recorder {
            recorder.ended(index, Ending::Failed(failure));
        }
        self.barrier.went(None, index);
        let at = now.duration_since(self.started);
        self.tally.ended(at, part.scenario, Ending::Failed(failure));
        self.back_off(failure, now);
    }

    /// The target, or our own machine, wants less: wait longer each time.
    fn back_off(&mut self, failure: Failure, now: Instant) {
        if failure.asks_for_a_pause() {
            let length = self.pause.map_or(FIRST_PAUSE, |(_, length)| length * 2);
            let length = length.min(LONGEST_PAUSE);
            self.pause = Some((now + length, length));
        }
    }

    fn settle_in(&mut self, connection: Connection) -> usize {
        let index = self.free.pop().unwrap_or(self.places.len());
        if index == self.places.len() {
            self.places.push(Place::default());
        }
        let writes = connection.wants_to_write();
        let data = epoll::EventData::new_u64(index as u64);
        epoll::add(&self.epoll, connection.socket(), data, interest(writes))
            .expect("a socket can be polled");
        let place = &mut self.places[index];
        place.uses += 1;
        place.writes = writes;
        place.connection = Some(connection);
        self.live += 1;
        index
    }

    fn establish(&mut self, index: usize, now: Instant) {
        self.with(index, now, |connection, desk| {
            connection.established(desk, now)
        });
    }

    /// Waits for the target, or until there is something to do without it.
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
            self.with(index, now, |connection, desk| connection.look(desk, now));
        }
    }

    fn wake_due(&mut self) {
        let now = Instant::now();
        while let Some((name, wish)) = self.timers.due(now) {
            let place = &self.places[name.place];
            if place.uses == name.use_of_it && place.wishes == wish {
                self.with(name.place, now, |connection, desk| {
                    connection.tell(Event::Due, desk, now)
                });
            }
        }
    }

    /// Opens the barrier when all are there who can be waited for; whether it did.
    fn open_barrier(&mut self) -> bool {
        let now = Instant::now();
        let live = match self.goes_on(now) {
            true => self.live,
            false => self.still_to_come(),
        };
        let Some((opening, places)) = self.barrier.open(self.plan.gathering(), live) else {
            return false;
        };
        for place in places {
            self.with(place, now, |connection, desk| {
                if let Some(recorder) = &mut desk.recorder {
                    recorder.opened(connection.index, opening);
                }
                connection.tell(Event::Opened, desk, now)
            });
        }
        true
    }

    /// Connections that are at the barrier or may come to it. At the end of a run nobody takes
    /// the places of others, who may have a minute to stay.
    fn still_to_come(&self) -> usize {
        let connections = self.places.iter().filter_map(|it| it.connection.as_ref());
        let gathers = |it: &&Connection| it.part.scenario == Scenario::Barrier;
        connections.filter(gathers).count()
    }

    /// Peers may stay; a call that has had its grace and no answer hangs.
    fn give_up_on_calls(&mut self, now: Instant) {
        for index in 0..self.places.len() {
            let connection = self.places[index].connection.as_ref();
            if let Some(failure) = connection.and_then(Connection::unanswered_call) {
                self.end(index, Ending::Failed(failure), now);
            }
        }
    }

    fn give_up_on_the_silent(&mut self, now: Instant) {
        for index in 0..self.places.len() {
            let connection = self.places[index].connection.as_ref();
            let overdue = connection.and_then(|it| it.overdue(now, self.plan.patience));
            if let Some(failure) = overdue {
                self.end(index, Ending::Failed(failure), now);
            }
        }
    }

    /// Lets a connection do something, and does for it what it cannot do itself. It may
    /// have been ended by an earlier event of the same batch.
    fn with(
        &mut self,
        index: usize,
        now: Instant,
        act: impl FnOnce(&mut Connection, &mut Desk) -> Next,
    ) {
        let Some(place) = self.places.get_mut(index) else {
            return;
        };
        let Some(connection) = place.connection.as_mut() else {
            return;
        };
        let acted = Instant::now();
        let next = act(connection, &mut self.desk);
        let notes = std::mem::take(&mut self.desk.notes);
        if acted.elapsed() >= BUSY {
            self.busy_until = Instant::now();
        }
        if notes.shaken {
            let counts = connection.begun >= self.busy_until;
            let took = now.duration_since(connection.begun);
            let at = now.duration_since(self.started);
            let took = counts.then_some(took);
            self.tally.shaken(at, connection.part.scenario, took);
            if notes.complaints.is_empty() {
                self.pause = None;
            }
        }
        let scenario = connection.part.scenario;
        if let Some(after) = notes.wake {
            place.wishes += 1;
            let name = Name {
                place: index,
                use_of_it: place.uses,
            };
            self.timers.set(now + after, name, place.wishes);
        }
        if notes.gathered {
            self.barrier.came(index, connection.index);
        }
        match next {
            Next::Over(how) => self.end(index, how, now),
            Next::Wait => {
                let writes = connection.wants_to_write();
                if writes != place.writes {
                    place.writes = writes;
                    let data = epoll::EventData::new_u64(index as u64);
                    epoll::modify(&self.epoll, connection.socket(), data, interest(writes))
                        .expect("a socket can be polled");
                }
            }
        }
        for failure in notes.complaints {
            self.tally.complained(scenario, failure);
            self.back_off(failure, now);
        }
    }

    /// Closes the socket.
    fn end(&mut self, index: usize, how: Ending, now: Instant) {
        let Some(connection) = self.places[index].connection.take() else {
            return;
        };
        self.live -= 1;
        self.barrier.went(Some(index), connection.index);
        self.free.push(index);
        if let Some(recorder) = &mut self.desk.recorder {
            recorder.ended(connection.index, how);
        }
        let at = now.duration_since(self.started);
        self.tally.ended(at, connection.part.scenario, how);
        if let Ending::Failed(failure) = how {
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
