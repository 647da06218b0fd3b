//! What was asked of one peer, and how promptly it delivers.
//!
//! # Security
//!
//! A header costs its sender nothing, so that a peer has shown a block does not mean that
//! it gives it. What a peer may have in flight therefore grows with what it has delivered:
//! one block at first, one more with each that comes within [`PROMPT`], one less with each
//! that takes longer. All times are the peer's own: a peer that keeps us waiting takes
//! nothing from another, neither time nor requests.

use std::time::Duration;

use bitcoin::BlockHash;

use super::plan::PlanId;

/// Most blocks asked of one peer at a time. Core `MAX_BLOCKS_IN_TRANSIT_PER_PEER`.
pub(in crate::sync) const MAX_IN_FLIGHT: usize = 16;
/// Least time for which a block may keep others waiting. Core
/// `BLOCK_STALLING_TIMEOUT_DEFAULT`.
pub(in crate::sync) const STALL_TIMEOUT_MIN: Duration = Duration::from_secs(2);
/// The most. Core `BLOCK_STALLING_TIMEOUT_MAX`.
const STALL_TIMEOUT_MAX: Duration = Duration::from_secs(64);
/// A block that comes within that time of being asked for lets its sender have one more in
/// flight.
const PROMPT: Duration = Duration::from_secs(1);
/// Blocks that one peer may be late with before it counts as stalling whatever else it
/// delivers.
const MAX_LATE: usize = 2 * MAX_IN_FLIGHT;

/// A block asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::sync) struct Asked {
    pub(in crate::sync) height: u32,
    pub(in crate::sync) hash: BlockHash,
    /// When, monotonic.
    pub(in crate::sync) at: Duration,
}

/// That a peer which is late has delivered nothing since. Asking it again does not end this:
/// only a block does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Silent {
    /// When it delivered last, or was first asked after that.
    pub(super) since: Duration,
    /// When another peer first delivered after this one was late: our own line works.
    pub(super) others_deliver: Option<Duration>,
}

/// What a delivered block was to the peer that sent it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Delivery {
    /// It was asked for. Peers answer in the order asked, so those asked before it and not
    /// delivered were left out.
    Asked { left_out: Vec<Asked> },
    /// It was asked for, and then of another since it was late.
    Late,
    /// It was not asked of this peer.
    Unasked,
}

/// Download from one peer.
#[derive(Clone, Debug)]
pub(super) struct PeerDownload {
    /// In the order asked; at most [`MAX_IN_FLIGHT`].
    asked: Vec<Asked>,
    /// Asked of it, then of others since it was late; what it still may deliver, in that order.
    late: Vec<BlockHash>,
    /// Since when it has delivered nothing of what it is late with. It is asked for nothing
    /// meanwhile.
    stalling: Option<Duration>,
    /// It is late and has delivered nothing since, however often it was asked again.
    silent: Option<Silent>,
    /// When it last delivered a block that we had asked for, or was first asked.
    progress: Duration,
    /// Blocks that it may have in flight.
    allowance: usize,
    /// Blocks delivered in time since it was last late.
    delivered: u32,
    /// The last of what it delivered took longer than [`PROMPT`].
    slow: bool,
    /// How long the next block may be out.
    timeout: Duration,
    /// It is late, and no other peer has the block.
    pub(super) overdue: bool,
    /// When it has to be looked at again, monotonic.
    pub(super) look_at: Duration,
    /// The plan that its best chain lies on, and up to which height.
    pub(super) plan: Option<PlanId>,
    pub(super) reach: u32,
    /// The lowest block that it keeps.
    pub(super) floor: u32,
}

impl Default for PeerDownload {
    fn default() -> Self {
        Self {
            asked: Vec::new(),
            late: Vec::new(),
            stalling: None,
            silent: None,
            progress: Duration::ZERO,
            allowance: 1,
            delivered: 0,
            slow: false,
            timeout: STALL_TIMEOUT_MIN,
            overdue: false,
            look_at: Duration::ZERO,
            plan: None,
            reach: 0,
            floor: 0,
        }
    }
}

impl PeerDownload {
    pub(super) fn asked(&self) -> &[Asked] {
        &self.asked
    }

    pub(super) fn is_asked(&self, hash: &BlockHash) -> bool {
        self.asked.iter().any(|asked| asked.hash == *hash)
    }

    /// Whether it was asked for the block and may still deliver it.
    pub(super) fn may_deliver(&self, hash: &BlockHash) -> bool {
        self.late.contains(hash) || self.is_asked(hash)
    }

    /// A block that it is late with.
    pub(super) fn first_late(&self) -> Option<BlockHash> {
        self.late.first().copied()
    }

    /// A block that it is late with or was asked for again.
    pub(super) fn first_awaited(&self) -> Option<BlockHash> {
        let asked = self.asked.first().map(|asked| asked.hash);
        self.first_late().or(asked)
    }

    pub(super) fn silent(&self) -> Option<Silent> {
        self.silent
    }

    /// It is late, and has delivered nothing since then.
    pub(super) fn is_silent_since(&mut self, since: Duration) {
        self.silent.get_or_insert(Silent {
            since,
            others_deliver: None,
        });
    }

    /// Another peer has delivered a block.
    pub(super) fn another_delivered(&mut self, now: Duration) {
        if let Some(silent) = &mut self.silent {
            silent.others_deliver.get_or_insert(now);
        }
    }

    pub(super) fn stalling_since(&self) -> Option<Duration> {
        self.stalling
    }

    pub(super) fn is_stalling(&self) -> bool {
        self.stalling.is_some()
    }

    /// Whether it has delivered, and was not late since.
    pub(super) fn is_proven(&self) -> bool {
        self.delivered > 0 && !self.is_stalling()
    }

    /// Whether others who have the block are asked before it: it may be slow on purpose.
    pub(super) fn is_slow(&self) -> bool {
        self.slow
    }

    pub(super) fn timeout(&self) -> Duration {
        self.timeout
    }

    /// When it last delivered, or was first asked after that.
    pub(super) fn progress(&self) -> Duration {
        self.silent.map_or(self.progress, |silent| silent.since)
    }

    /// Since when the next block is out.
    pub(super) fn waiting_since(&self) -> Option<Duration> {
        let first = self.asked.first()?;
        Some(first.at.max(self.progress))
    }

    /// Blocks that it may be asked for now, where no peer may have more than `share`.
    pub(super) fn capacity(&self, share: usize) -> usize {
        if self.is_stalling() {
            return 0;
        }
        self.allowance.min(share).saturating_sub(self.asked.len())
    }

    /// It is asked for this block.
    pub(super) fn ask(&mut self, now: Duration, height: u32, hash: BlockHash) {
        if self.asked.is_empty() {
            self.progress = now;
            self.look_at = now;
        }
        self.asked.push(Asked {
            height,
            hash,
            at: now,
        });
        assert!(
            self.asked.len() <= MAX_IN_FLIGHT,
            "at most 16 blocks are asked of one peer"
        );
    }

    /// It is not asked for this block any more. Whether it was.
    pub(super) fn cancel(&mut self, hash: &BlockHash) -> bool {
        let before = self.asked.len();
        self.asked.retain(|asked| asked.hash != *hash);
        if self.asked.is_empty() {
            self.overdue = false;
        }
        self.asked.len() < before
    }

    /// It sent this block.
    pub(super) fn deliver(&mut self, now: Duration, hash: &BlockHash) -> Delivery {
        if let Some(at) = self.asked.iter().position(|asked| asked.hash == *hash) {
            let left_out = self.asked[..at].to_vec();
            let took = now.saturating_sub(self.asked.remove(at).at);
            self.delivered_in_time(took);
            self.went_on(now);
            return Delivery::Asked { left_out };
        }
        if let Some(at) = self.late.iter().position(|late| late == hash) {
            self.late.remove(at);
            // The line is slow, its own or ours: it gets more time before others are asked.
            self.timeout = (self.timeout * 2).min(STALL_TIMEOUT_MAX);
            self.delivered = self.delivered.max(1);
            self.slow = true;
            self.allowance = self.allowance.max(1);
            self.went_on(now);
            return Delivery::Late;
        }
        Delivery::Unasked
    }

    fn delivered_in_time(&mut self, took: Duration) {
        self.delivered = self.delivered.saturating_add(1);
        self.slow = took > PROMPT;
        if !self.slow {
            self.allowance = (self.allowance + 1).min(MAX_IN_FLIGHT);
        } else {
            // Two, so that the line is never empty between two blocks.
            self.allowance = (self.allowance - 1).max(2);
        }
        self.timeout = self.timeout.mul_f64(0.85).max(STALL_TIMEOUT_MIN);
    }

    fn went_on(&mut self, now: Duration) {
        self.progress = now;
        self.stalling = None;
        self.silent = None;
        self.overdue = false;
    }

    /// Another is asked for this block: it was left out, or did not come in time.
    pub(super) fn is_late_with(&mut self, now: Duration, asked: Asked) {
        self.asked.retain(|one| one.hash != asked.hash);
        if !self.late.contains(&asked.hash) {
            self.late.push(asked.hash);
        }
        if self.late.len() > MAX_LATE {
            self.late.remove(0);
            self.stall(now);
        }
    }

    /// It is asked for nothing more until it delivers.
    pub(super) fn stall(&mut self, now: Duration) {
        self.stalling.get_or_insert(now);
        if !self.late.is_empty() {
            self.is_silent_since(now);
        }
        self.delivered = 0;
        self.allowance = 1;
        self.overdue = false;
    }

    /// It may be asked again though it has not delivered: no other peer can be. It has no more
    /// time for that: a peer that is asked again and again would have time without end.
    pub(super) fn give_another_chance(&mut self) {
        self.stalling = None;
        self.late.clear();
    }

    /// It counts as late no more.
    pub(super) fn forgive(&mut self) {
        self.give_another_chance();
        self.silent = None;
    }

    /// Shifts every running time by the time during which we did not look.
    pub(super) fn extend_deadlines(&mut self, by: Duration) {
        self.progress += by;
        for asked in &mut self.asked {
            asked.at += by;
        }
        if let Some(since) = &mut self.stalling {
            *since += by;
        }
        if let Some(silent) = &mut self.silent {
            silent.since += by;
            if let Some(at) = &mut silent.others_deliver {
                *at += by;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use bitcoin::hashes::Hash;

    use super::*;

    fn hash(of: u8) -> BlockHash {
        BlockHash::from_byte_array([of; 32])
    }

    fn ms(milliseconds: u64) -> Duration {
        Duration::from_millis(milliseconds)
    }

    #[test]
    fn what_a_peer_may_have_in_flight_grows_with_what_it_delivers_in_time() {
        let mut peer = PeerDownload::default();
        assert_eq!(peer.capacity(16), 1);
        for of in 0..40 {
            peer.ask(ms(0), u32::from(of), hash(of));
            let delivery = peer.deliver(ms(100), &hash(of));
            assert_eq!(delivery, Delivery::Asked { left_out: vec![] });
        }
        assert_eq!(peer.capacity(16), MAX_IN_FLIGHT);
        assert_eq!(peer.capacity(3), 3);
        for of in 0..40 {
            peer.ask(ms(0), u32::from(of), hash(of));
            peer.deliver(ms(1_500), &hash(of));
        }
        assert_eq!(peer.capacity(16), 2, "what it takes a second for");
        peer.stall(ms(2_000));
        assert_eq!(peer.capacity(16), 0);
    }

    #[test]
    fn blocks_asked_before_the_one_that_came_were_left_out() {
        let mut peer = PeerDownload::default();
        for of in 0..3 {
            peer.ask(ms(0), u32::from(of), hash(of));
        }
        let Delivery::Asked { left_out } = peer.deliver(ms(5), &hash(2)) else {
            panic!("it was asked for");
        };
        let left_out: Vec<_> = left_out.iter().map(|asked| asked.hash).collect();
        assert_eq!(left_out, [hash(0), hash(1)]);
    }

    #[test]
    fn a_block_that_comes_late_clears_its_sender_and_gives_it_more_time() {
        let mut peer = PeerDownload::default();
        peer.ask(ms(0), 1, hash(1));
        let asked = peer.asked()[0];
        peer.is_late_with(ms(2_000), asked);
        peer.stall(ms(2_000));
        assert!(peer.is_stalling() && !peer.is_proven());
        assert_eq!(peer.deliver(ms(2_500), &hash(1)), Delivery::Late);
        assert!(peer.is_proven());
        assert_eq!(peer.timeout(), STALL_TIMEOUT_MIN * 2);
        assert_eq!(peer.deliver(ms(2_500), &hash(1)), Delivery::Unasked);
    }

    #[test]
    fn leaving_out_block_after_block_is_stalling_too() {
        let mut peer = PeerDownload::default();
        for of in 0..=MAX_LATE as u8 {
            assert!(!peer.is_stalling(), "after {of}");
            peer.ask(ms(0), u32::from(of), hash(of));
            let asked = peer.asked()[0];
            peer.is_late_with(ms(0), asked);
        }
        assert!(peer.is_stalling());
    }
}
