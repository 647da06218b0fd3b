//! One node among scripted peers, on virtual time.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use bitcoin::BlockHash;
use bitcoin::block::Header;
use bitcoin::p2p::ServiceFlags;
use bitcoin::p2p::message_blockdata::Inventory;
use handfast_wire::{Locator, Message, Network, RawBlock};

use crate::headers::HeaderTree;
use crate::lifecycle::{ConnId, Direction, DoneReason, VersionInfo};
use crate::time::Now;

use super::super::{Effect, Input, SubmitResult, SyncConfig, SyncManager};
use super::chains::Blocks;
use super::kernel::Kernel;

/// Two weeks after the last block of a chain of 2,000; the tests' chains are old.
pub(crate) const START: u32 = 1_400_000_000;

/// How a scripted peer behaves.
#[derive(Clone, Debug)]
pub(crate) struct Behaviour {
    /// Time until an answer arrives.
    pub(crate) latency: Duration,
    /// Answers `getheaders` at most that often.
    pub(crate) headers_answers: usize,
    /// Sends at most that many blocks, then nothing more.
    pub(crate) block_answers: usize,
    /// Closes the connection after so many blocks.
    pub(crate) leaves_after_blocks: Option<usize>,
    /// Says `notfound` instead of sending blocks.
    pub(crate) lacks_blocks: bool,
    /// Closes the connection at the first `getheaders`.
    pub(crate) leaves_at_getheaders: bool,
    /// Closes the connection at the first `getdata`.
    pub(crate) leaves_at_getdata: bool,
}

impl Default for Behaviour {
    fn default() -> Self {
        Self {
            latency: Duration::from_millis(5),
            headers_answers: usize::MAX,
            block_answers: usize::MAX,
            leaves_after_blocks: None,
            lacks_blocks: false,
            leaves_at_getheaders: false,
            leaves_at_getdata: false,
        }
    }
}

/// A scripted peer.
pub(crate) struct Remote {
    pub(crate) chain: Blocks,
    tree: HeaderTree,
    pub(crate) behaviour: Behaviour,
    /// When its last message arrives: messages of a connection keep their order.
    line: Duration,
    pub(crate) gone: bool,
    pub(crate) headers_served: usize,
    pub(crate) blocks_served: usize,
}

enum Event {
    ToNode(Input),
    Leave(ConnId),
    Kernel,
}

enum Job {
    Headers(Vec<Header>, Option<ConnId>),
    Block(Vec<Header>, RawBlock, Option<ConnId>),
}

pub(crate) struct World {
    pub(crate) now: Now,
    /// What the wall clock showed at the begin, as it is set now, Unix seconds.
    pub(crate) clock: u32,
    pub(crate) node: SyncManager,
    pub(crate) kernel: Kernel,
    /// Time the kernel takes for a job.
    pub(crate) kernel_time: Duration,
    jobs: Vec<Job>,
    kernel_busy: bool,
    pub(crate) remotes: BTreeMap<ConnId, Remote>,
    events: BTreeMap<(Duration, u64), Event>,
    sequence: u64,
    next_id: u64,
    /// Every block request, in order.
    pub(crate) requests: Vec<(Duration, ConnId, BlockHash)>,
    pub(crate) getdata_messages: usize,
    pub(crate) ended: Vec<(ConnId, DoneReason, Duration)>,
    /// Everything sent, in order.
    pub(crate) sent: Vec<(Duration, ConnId, Message)>,
    pub(crate) served: Vec<(ConnId, u64, BlockHash, bool)>,
    pub(crate) answers: Vec<(u64, SubmitResult)>,
    /// Most blocks ever asked for or with the kernel.
    pub(crate) most_outstanding: usize,
    pub(crate) steps: usize,
    /// Since when a peer has shown more and nothing is on its way.
    idle_since: Duration,
    /// The test breaks a guard: the watchdog may put sync on its feet.
    pub(crate) may_fire: bool,
    /// The test's peers are such that the watchdog may look for others.
    pub(crate) may_seek_peers: bool,
    /// Who was called useful, and when.
    pub(crate) useful: Vec<(Duration, ConnId)>,
    /// When the machine wanted more peers.
    pub(crate) wanted_peers: Vec<Duration>,
}

impl World {
    pub(crate) fn new() -> Self {
        Self::with(
            &Blocks::new(0, 0),
            SyncConfig::new(&Network::Regtest, None, 7),
        )
    }

    /// A node that has `chain` already.
    pub(crate) fn with(chain: &Blocks, config: SyncConfig) -> Self {
        let tree = chain.tree();
        Self {
            now: Now {
                mono: Duration::ZERO,
                unix: START,
            },
            clock: START,
            node: SyncManager::new(config, tree.clone()),
            kernel: Kernel::new(tree),
            kernel_time: Duration::from_micros(50),
            jobs: Vec::new(),
            kernel_busy: false,
            remotes: BTreeMap::new(),
            events: BTreeMap::new(),
            sequence: 0,
            next_id: 0,
            requests: Vec::new(),
            getdata_messages: 0,
            ended: Vec::new(),
            sent: Vec::new(),
            served: Vec::new(),
            answers: Vec::new(),
            most_outstanding: 0,
            steps: 0,
            idle_since: Duration::ZERO,
            may_fire: false,
            useful: Vec::new(),
            may_seek_peers: false,
            wanted_peers: Vec::new(),
        }
    }

    pub(crate) fn add(&mut self, chain: &Blocks) -> ConnId {
        self.add_as(chain, Direction::Outbound, Behaviour::default())
    }

    pub(crate) fn add_as(
        &mut self,
        chain: &Blocks,
        direction: Direction,
        behaviour: Behaviour,
    ) -> ConnId {
        let services = ServiceFlags::NETWORK | ServiceFlags::WITNESS;
        self.add_with(chain, direction, behaviour, services)
    }

    pub(crate) fn add_with(
        &mut self,
        chain: &Blocks,
        direction: Direction,
        behaviour: Behaviour,
        services: ServiceFlags,
    ) -> ConnId {
        let id = ConnId(self.next_id);
        self.next_id += 1;
        self.remotes.insert(
            id,
            Remote {
                chain: chain.clone(),
                tree: chain.tree(),
                behaviour,
                line: Duration::ZERO,
                gone: false,
                headers_served: 0,
                blocks_served: 0,
            },
        );
        let intro = VersionInfo {
            id,
            direction,
            remote: SocketAddr::from((Ipv4Addr::LOCALHOST, 18_444)),
            version: 70_016,
            services,
            user_agent: "/test/".into(),
            // A claim that must not matter.
            claimed_height: Some(1_000_000),
            relay: true,
            wants_addrv2: true,
            wtxid_relay: true,
            connected_at: self.now,
            time_offset: 0,
            sees_us_at: None,
            handshake: Duration::ZERO,
        };
        self.input(Input::Added(intro));
        id
    }

    /// The peer's active chain is this one from now on.
    pub(crate) fn set_chain(&mut self, id: ConnId, chain: &Blocks) {
        let remote = self.remotes.get_mut(&id).unwrap();
        remote.chain = chain.clone();
        remote.tree = chain.tree();
    }

    /// The peer goes away; the node hears of it at once.
    pub(crate) fn leave(&mut self, id: ConnId) {
        let remote = self.remotes.get_mut(&id).unwrap();
        if !std::mem::replace(&mut remote.gone, true) {
            self.input(Input::Done { id });
        }
    }

    pub(crate) fn message(&mut self, id: ConnId, message: Message) {
        self.input(Input::Message {
            id,
            message: message.into(),
        });
    }

    pub(crate) fn input(&mut self, input: Input) {
        if matches!(&input, Input::Message { id, .. } if self.remotes[id].gone) {
            return;
        }
        self.steps += 1;
        let effects = self.node.step(self.now, input);
        self.perform(effects);
        self.check();
    }

    fn perform(&mut self, effects: Vec<Effect>) {
        for effect in effects {
            match effect {
                Effect::Send { id, message } => self.sent_to(id, message),
                Effect::Disconnect { id, reason } => {
                    self.ended.push((id, reason, self.now.mono));
                    self.schedule(Duration::from_millis(1), Event::Leave(id));
                }
                Effect::CheckHeaders { headers, origin } => self.job(Job::Headers(headers, origin)),
                Effect::CheckBlock {
                    block,
                    before,
                    origin,
                    ..
                } => self.job(Job::Block(before, block, origin)),
                Effect::ServeBlock {
                    id,
                    ticket,
                    hash,
                    witness,
                } => {
                    self.served.push((id, ticket, hash, witness));
                }
                Effect::Answer { ticket, result } => self.answers.push((ticket, result)),
                Effect::TreeChanged => {}
                Effect::Useful { id } => self.useful.push((self.now.mono, id)),
                Effect::WantPeers => self.wanted_peers.push(self.now.mono),
            }
        }
    }

    fn job(&mut self, job: Job) {
        self.jobs.push(job);
        if !std::mem::replace(&mut self.kernel_busy, true) {
            self.schedule(self.kernel_time, Event::Kernel);
        }
    }

    fn schedule(&mut self, after: Duration, event: Event) {
        self.sequence += 1;
        self.events
            .insert((self.now.mono + after, self.sequence), event);
    }

    fn reply(&mut self, id: ConnId, message: Message) {
        let remote = self.remotes.get_mut(&id).unwrap();
        let at = (self.now.mono + remote.behaviour.latency).max(remote.line);
        remote.line = at;
        self.sequence += 1;
        self.events.insert(
            (at, self.sequence),
            Event::ToNode(Input::Message {
                id,
                message: message.into(),
            }),
        );
    }

    fn sent_to(&mut self, id: ConnId, message: Message) {
        self.sent.push((self.now.mono, id, message.clone()));
        let remote = self
            .remotes
            .get_mut(&id)
            .expect("only peers are written to");
        if remote.gone {
            return;
        }
        let latency = remote.behaviour.latency;
        match message {
            Message::GetHeaders(_) if remote.behaviour.leaves_at_getheaders => {
                self.schedule(latency, Event::Leave(id));
            }
            Message::GetData(_) if remote.behaviour.leaves_at_getdata => {
                self.schedule(latency, Event::Leave(id));
            }
            Message::GetHeaders(Locator { hashes, stop })
                if remote.headers_served < remote.behaviour.headers_answers =>
            {
                remote.headers_served += 1;
                let headers = remote.tree.headers_after(&hashes, &stop, 2_000);
                self.reply(id, Message::Headers(headers));
            }
            Message::GetData(items) => self.asked_for_blocks(id, &items),
            _ => {}
        }
    }

    fn asked_for_blocks(&mut self, id: ConnId, items: &[Inventory]) {
        self.getdata_messages += 1;
        for item in items {
            let Inventory::WitnessBlock(hash) = item else {
                panic!("asked for {item:?}")
            };
            self.requests.push((self.now.mono, id, *hash));
            let remote = self.remotes.get_mut(&id).unwrap();
            let height = remote.tree.get(hash).map(|entry| entry.height);
            let withholds = remote.behaviour.block_answers == 0;
            let Some(height) = height else {
                assert!(withholds, "asked only for what the peer has shown");
                continue;
            };
            if remote.behaviour.lacks_blocks {
                self.reply(id, Message::NotFound(vec![*item]));
                continue;
            }
            if remote.blocks_served == remote.behaviour.block_answers {
                continue;
            }
            remote.blocks_served += 1;
            let leaves = remote.behaviour.leaves_after_blocks == Some(remote.blocks_served);
            let block = remote.chain.at(height).clone();
            let latency = remote.behaviour.latency;
            self.reply(id, Message::Block(block));
            if leaves {
                self.schedule(latency, Event::Leave(id));
            }
        }
    }

    fn check(&mut self) {
        let outstanding = self.node.parts.download.outstanding();
        self.most_outstanding = self.most_outstanding.max(outstanding);
        let state_ids = self.node.ids();
        for (id, remote) in &self.remotes {
            assert_eq!(
                state_ids.contains(id),
                !remote.gone,
                "L3: the table has the live peers"
            );
        }
        let in_flight = self.node.parts.download.in_flight();
        let mut ahead = false;
        for (id, peer) in self.node.parts.peers.iter() {
            assert!(self.node.parts.download.asked_of(id).len() <= 16);
            let best = self.node.parts.known.best(id);
            let more = best.is_some_and(|best| best.work > self.node.tree().tip().work);
            ahead |= peer.serves_blocks() && more;
        }
        if !ahead || outstanding > 0 || in_flight > 0 {
            self.idle_since = self.now.mono;
        }
        self.check_source();
        let watchdog = self.node.watchdog.state();
        assert!(
            self.may_fire || watchdog.fired == 0,
            "the watchdog fired: {watchdog:?}"
        );
        assert!(
            self.may_seek_peers || watchdog.sought_peers == 0,
            "the watchdog wanted peers: {watchdog:?}"
        );
        let idle = self.now.mono - self.idle_since;
        assert!(
            idle <= Duration::from_secs(120),
            "S1: {:#?}",
            self.node.state(self.now)
        );
    }

    /// S3: after every step there is a source if there can be one.
    fn check_source(&self) {
        if self.may_fire {
            return;
        }
        let (peers, headers) = (&self.node.parts.peers, &self.node.parts.headers);
        let eligible = headers.eligible_ids(peers).next().is_some();
        let source = self.node.sync_peer();
        assert_eq!(source.is_some(), eligible, "S3: {source:?}");
        assert!(
            source.is_none_or(|id| headers.is_eligible(peers, id)),
            "S3: {source:?} is live and not set aside"
        );
    }

    /// Lets the next thing happen. False when nothing is left within `until`.
    fn advance(&mut self, until: Duration) -> bool {
        let event = self.events.keys().next().map(|(at, _)| *at);
        let timer = self.node.deadline();
        let next = [event, timer].into_iter().flatten().min();
        let Some(next) = next.filter(|next| *next <= until) else {
            self.jump(until);
            return false;
        };
        self.jump(next.max(self.now.mono));
        if event.is_some_and(|at| at <= next) {
            let (_, event) = self.events.pop_first().unwrap();
            self.happen(event);
        } else {
            self.input(Input::Tick);
        }
        true
    }

    fn jump(&mut self, to: Duration) {
        self.now.mono = to;
        self.now.unix = self.clock + to.as_secs() as u32;
    }

    fn happen(&mut self, event: Event) {
        match event {
            Event::ToNode(input) => self.input(input),
            Event::Leave(id) => self.leave(id),
            Event::Kernel => {
                let event = match self.jobs.remove(0) {
                    Job::Headers(headers, origin) => self.kernel.headers(&headers, origin),
                    Job::Block(before, block, origin) => {
                        self.kernel.block_behind(&before, &block, origin)
                    }
                };
                if self.jobs.is_empty() {
                    self.kernel_busy = false;
                } else {
                    self.schedule(self.kernel_time, Event::Kernel);
                }
                self.input(Input::Kernel(event));
            }
        }
    }

    /// Runs for `time`.
    pub(crate) fn run(&mut self, time: Duration) {
        let until = self.now.mono + time;
        while self.advance(until) {}
    }

    /// Runs until `done`, and fails if that takes longer than `time`. Returns how long.
    #[track_caller]
    pub(crate) fn run_until(
        &mut self,
        what: &str,
        time: Duration,
        done: impl Fn(&Self) -> bool,
    ) -> Duration {
        let start = self.now.mono;
        while !done(self) {
            let more = self.advance(start + time);
            assert!(
                more || done(self),
                "not within {time:?}: {what}; {:#?}",
                self.node.state(self.now)
            );
        }
        self.now.mono - start
    }

    #[track_caller]
    pub(crate) fn sync_to(&mut self, chain: &Blocks, within: Duration) -> Duration {
        let tip = chain.tip_hash();
        let time = self.run_until("the tip", within, |world| {
            world.node.tree().tip().hash == tip
        });
        assert_eq!(self.kernel.tip(), tip);
        time
    }

    pub(crate) fn tip_height(&self) -> u32 {
        self.node.tree().tip().height
    }

    pub(crate) fn sent_to_peer(&self, id: ConnId) -> Vec<&Message> {
        self.sent
            .iter()
            .filter(|(_, to, _)| *to == id)
            .map(|(_, _, message)| message)
            .collect()
    }

    pub(crate) fn reason(&self, id: ConnId) -> Option<&DoneReason> {
        self.ended
            .iter()
            .find(|(ended, ..)| *ended == id)
            .map(|(_, reason, _)| reason)
    }

    /// Blocks that were asked for more than once.
    pub(crate) fn asked_twice(&self) -> usize {
        let mut seen = BTreeSet::new();
        self.requests
            .iter()
            .filter(|(_, _, hash)| !seen.insert(*hash))
            .count()
    }
}
