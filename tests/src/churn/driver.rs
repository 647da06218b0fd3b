//! The loop that begins, polls and ends connections.

use std::time::{Duration, Instant};

use rustix::buffer::spare_capacity;
use rustix::event::{Timespec, epoll};
use rustix::fd::OwnedFd;
use socket2::SockAddr;

use super::peer::{Desk, Next, Peer};
use super::report::{Failure, Report};
use super::script::{Script, Variant};
use super::{Churn, Shape};

/// Events taken from the system at once.
const EVENTS: usize = 512;
/// What one read takes, bytes: all that a node says in a handshake, many times over.
const READ: usize = 16 * 1024;
/// How often connections that make no progress are looked for.
const CHECK: Duration = Duration::from_secs(1);

/// All connections of one run.
#[derive(Debug)]
pub(super) struct Driver {
    target: SockAddr,
    script: Script,
    variants: Vec<Variant>,
    cycles: usize,
    patience: Duration,
    rules: Rules,
    epoll: OwnedFd,
    peers: Vec<Option<Peer>>,
    /// Places in `peers` that are free.
    free: Vec<usize>,
    /// Peers of the current wave that are waiting for the others.
    settled: Vec<usize>,
    /// Peers of the current wave that have ended.
    ended: usize,
    /// Peers of the current wave that have begun.
    begun: usize,
    report: Report,
    buffer: Vec<u8>,
    started: Instant,
    checked: Instant,
}

/// A shape, as the loop needs it.
#[derive(Clone, Copy, Debug)]
struct Rules {
    /// Peers of a wave; a continuous churn is one wave of all cycles.
    wave: usize,
    /// Peers at most that are neither waiting for their wave nor ended.
    busy: usize,
    /// Whether a settled peer waits for its wave.
    waits: bool,
}

impl Driver {
    pub(super) fn new(churn: &Churn) -> Self {
        let rules = match churn.shape {
            Shape::Continuous { concurrency } => Rules {
                wave: churn.cycles,
                busy: concurrency,
                waits: false,
            },
            Shape::Waves {
                size,
                concurrent_handshakes,
            } => Rules {
                wave: size,
                busy: concurrent_handshakes,
                waits: true,
            },
        };
        assert!(rules.wave > 0 && rules.busy > 0, "a churn has peers");
        let now = Instant::now();
        Self {
            target: churn.target.into(),
            script: churn.script(),
            variants: churn.variants.clone(),
            cycles: churn.cycles,
            patience: churn.patience,
            rules,
            epoll: epoll::create(epoll::CreateFlags::CLOEXEC).expect("the system can poll"),
            peers: Vec::new(),
            free: Vec::new(),
            settled: Vec::new(),
            ended: 0,
            begun: 0,
            report: Report::default(),
            buffer: vec![0; READ],
            started: now,
            checked: now,
        }
    }

    pub(super) fn into_report(mut self) -> Report {
        self.report.finish(self.started.elapsed());
        self.report
    }

    /// Wave after wave until all cycles are done.
    pub(super) fn run(&mut self) {
        while self.report.cycles < self.cycles {
            self.fill_wave();
            for index in std::mem::take(&mut self.settled) {
                self.leave(index);
            }
            while self.ended < self.begun {
                self.poll();
            }
            (self.begun, self.ended) = (0, 0);
        }
    }

    /// Begins peers until all of a wave have ended or settled.
    fn fill_wave(&mut self) {
        while self.settled.len() + self.ended < self.rules.wave {
            while self.begun < self.rules.wave && self.busy() < self.rules.busy {
                self.begin();
            }
            if self.busy() > 0 {
                self.poll();
            }
        }
    }

    fn busy(&self) -> usize {
        self.begun - self.ended - self.settled.len()
    }

    fn begin(&mut self) {
        let variant = self.variants[self.report.cycles % self.variants.len()];
        self.begun += 1;
        self.report.cycles += 1;
        let mut desk = Desk {
            script: &self.script,
            report: &mut self.report,
            buffer: &mut self.buffer,
        };
        let (peer, next) = match Peer::connect(&self.target, variant, self.rules.waits, &mut desk) {
            Ok(begun) => begun,
            Err(failure) => return self.lost(failure),
        };
        if next == Next::Over {
            self.ended += 1;
            return;
        }
        let index = self.free.pop().unwrap_or(self.peers.len());
        // A connection under way is writable when it is through; what it then sends fits.
        let events = match peer.is_connecting() {
            true => epoll::EventFlags::OUT,
            false => epoll::EventFlags::IN,
        };
        let data = epoll::EventData::new_u64(index as u64);
        epoll::add(&self.epoll, peer.socket(), data, events).expect("a socket can be polled");
        match self.peers.get_mut(index) {
            Some(place) => *place = Some(peer),
            None => self.peers.push(Some(peer)),
        }
    }

    /// Waits for events and handles them.
    fn poll(&mut self) {
        let mut events = Vec::with_capacity(EVENTS);
        let timeout = Timespec::try_from(CHECK).expect("a second is a time");
        match epoll::wait(&self.epoll, spare_capacity(&mut events), Some(&timeout)) {
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(error) => panic!("cannot poll: {error}"),
        }
        for event in events {
            let index = usize::try_from(event.data.u64()).expect("an index of ours");
            self.look(index);
        }
        if self.checked.elapsed() >= CHECK {
            self.give_up_on_the_silent();
        }
    }

    fn look(&mut self, index: usize) {
        // It may have been ended by an earlier event of the same batch.
        let Some(peer) = self.peers.get_mut(index).and_then(Option::as_mut) else {
            return;
        };
        let was_connecting = peer.is_connecting();
        let mut desk = Desk {
            script: &self.script,
            report: &mut self.report,
            buffer: &mut self.buffer,
        };
        let next = peer.look(&mut desk);
        if was_connecting && next == Ok(Next::Wait) {
            let data = epoll::EventData::new_u64(index as u64);
            epoll::modify(&self.epoll, peer.socket(), data, epoll::EventFlags::IN)
                .expect("a socket can be polled");
        }
        self.go_on(index, next);
    }

    fn leave(&mut self, index: usize) {
        // One that was lost while it waited has ended already.
        let Some(peer) = self.peers[index].as_mut() else {
            return;
        };
        let next = peer.leave();
        self.go_on(index, next);
    }

    fn go_on(&mut self, index: usize, next: Result<Next, Failure>) {
        match next {
            Ok(Next::Wait) => {}
            Ok(Next::Settled) if self.rules.waits => self.settled.push(index),
            Ok(Next::Settled) => self.leave(index),
            Ok(Next::Over) => {
                self.end(index);
                self.ended += 1;
            }
            Err(failure) => {
                self.end(index);
                self.lost(failure);
            }
        }
    }

    /// Closes the socket.
    fn end(&mut self, index: usize) {
        self.peers[index] = None;
        self.free.push(index);
        self.settled.retain(|settled| *settled != index);
    }

    fn lost(&mut self, failure: Failure) {
        self.report.failed(failure);
        self.ended += 1;
    }

    fn give_up_on_the_silent(&mut self) {
        self.checked = Instant::now();
        for index in 0..self.peers.len() {
            let peer = self.peers[index].as_ref();
            if let Some(failure) = peer.and_then(|peer| peer.overdue(self.checked, self.patience)) {
                self.go_on(index, Err(failure));
            }
        }
    }
}

/// Peers that are connected and stay so until this is dropped.
#[derive(Debug)]
pub struct Crowd {
    driver: Driver,
}

impl Crowd {
    pub(super) fn gather(mut driver: Driver) -> Self {
        driver.rules.waits = true;
        driver.fill_wave();
        Self { driver }
    }

    /// Answers the node's pings for this long.
    pub fn answer_for(&mut self, duration: Duration) {
        let end = Instant::now() + duration;
        while Instant::now() < end {
            self.driver.poll();
        }
    }

    /// Peers that are connected.
    pub fn len(&self) -> usize {
        self.driver.settled.len()
    }

    /// Whether nobody is connected.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// What happened so far.
    pub fn report(&self) -> &Report {
        &self.driver.report
    }
}
