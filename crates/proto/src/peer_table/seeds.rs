//! DNS seeds: asked while we are alone and again until one answers, and when sync wants
//! more peers.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::time::Duration;

use super::{Effect, Notice, PeerTable, SeedRow};
use crate::address_book::Source;
use crate::session::full_node;
use crate::time::Now;

/// After all seeds failed one of them is asked this often, in turn: most likely our own
/// network is down, and its return is to be noticed at once. A seed among nine is asked once
/// in 90 s then, and what fails for want of a network asks nobody.
pub(super) const SEED_RETRY: Duration = Duration::from_secs(10);
/// That seeds still fail is told again after this, the first time; doubles.
const TELL_FIRST: Duration = Duration::from_secs(60);
/// The longest such pause.
const TELL_LONGEST: Duration = Duration::from_secs(3_600);
/// Before seeds that answered are asked again, should their addresses be of no use.
const ASKED_ENOUGH: Duration = Duration::from_secs(300);
/// How long the addresses we know are tried before seeds are asked.
const BOOK_FIRST: Duration = Duration::from_secs(60);
/// A round of look-ups is over after this; who did not answer has failed.
const ROUND_TIMEOUT: Duration = Duration::from_secs(60);
/// Most addresses taken from one seed.
const MAX_PER_SEED: usize = 256;

/// Look-ups in flight.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Round {
    waiting: BTreeSet<String>,
    found: usize,
    until: Duration,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Seeds {
    round: Option<Round>,
    /// What each answered last.
    answers: BTreeMap<String, Result<usize, String>>,
    failures: u32,
    /// When it is told again that seeds fail.
    tell_at: Duration,
    told: u32,
    next: Duration,
    /// Sync wants more peers than we have.
    wanted: bool,
    told_nobody: bool,
}

impl Seeds {
    pub(super) fn new(now: Now) -> Self {
        Self {
            round: None,
            answers: BTreeMap::new(),
            failures: 0,
            tell_at: Duration::ZERO,
            told: 0,
            next: now.mono,
            wanted: false,
            told_nobody: false,
        }
    }

    /// Wants them asked once more though we are not alone, but no sooner than they
    /// would be asked again otherwise.
    pub(super) fn ask_again(&mut self) {
        self.wanted = true;
    }
}

impl PeerTable {
    /// When seeds are to be asked, or a round is over.
    pub(super) fn seeds_due(&self) -> Option<Duration> {
        if !self.dials_automatically() || self.config.dns_seeds.is_empty() {
            return None;
        }
        match &self.seeds.round {
            Some(round) => Some(round.until),
            None if self.seeds.wanted => Some(self.seeds.next),
            None => self.lonely_since.map(|since| {
                let patience = if self.book.is_empty() {
                    Duration::ZERO
                } else {
                    BOOK_FIRST
                };
                self.seeds.next.max(since.saturating_add(patience))
            }),
        }
    }

    pub(super) fn plan_seeds(&mut self, now: Now, effects: &mut Vec<Effect>) {
        let settled = match self.notice {
            Some(Notice::NobodyToDial) => !self.peers.is_empty(),
            Some(Notice::NoSeedReached { .. }) => self.lonely_since.is_none(),
            Some(Notice::SeedsAnswered { .. }) | None => false,
        };
        if settled {
            self.notice = None;
        }
        self.tell_nobody_to_dial(effects);
        if self.seeds_due().is_none_or(|due| now.mono < due) {
            return;
        }
        if self.seeds.round.is_some() {
            self.finish_round(now, effects);
            return;
        }
        self.seeds.wanted = false;
        let mut hosts = self.config.dns_seeds.clone();
        if let Some(turn) = self.seeds.failures.checked_sub(1) {
            let turn = usize::try_from(turn).unwrap_or(0) % hosts.len();
            hosts = vec![hosts.swap_remove(turn)];
        }
        self.seeds.round = Some(Round {
            waiting: hosts.iter().cloned().collect(),
            found: 0,
            until: now.mono.saturating_add(ROUND_TIMEOUT),
        });
        effects.extend(hosts.into_iter().map(|host| Effect::Resolve {
            name: host.clone(),
            host,
            port: self.config.default_port,
            seeds: true,
        }));
    }

    /// Says once that nobody will be found.
    fn tell_nobody_to_dial(&mut self, effects: &mut Vec<Effect>) {
        let nobody = self.dials_automatically()
            && self.config.dns_seeds.is_empty()
            && self.book.is_empty()
            && self.named.is_empty()
            && self.peers.is_empty();
        if nobody && !self.seeds.told_nobody {
            self.seeds.told_nobody = true;
            self.notice = Some(Notice::NobodyToDial);
            effects.push(Effect::Notice(Notice::NobodyToDial));
        }
    }

    /// A name was looked up: a seed, a named node, or both.
    pub(super) fn resolved(
        &mut self,
        now: Now,
        name: &str,
        addrs: &[SocketAddr],
        effects: &mut Vec<Effect>,
    ) {
        let usable = addrs.iter().filter(|addr| self.book.may_hold(**addr));
        let answer = match usable.count().min(MAX_PER_SEED) {
            0 if addrs.is_empty() => Err("the name has no address".to_owned()),
            0 => Err("none of its addresses can be dialled: they are not public".to_owned()),
            found => Ok(found),
        };
        if self.seed_answered(name, answer) {
            self.learn_from_seed(now, addrs);
            self.finish_if_over(now, effects);
        }
        self.named_resolved(now, name, addrs, effects);
    }

    /// A name could not be looked up: a seed, a named node, or both.
    pub(super) fn resolve_failed(
        &mut self,
        now: Now,
        name: &str,
        error: &str,
        effects: &mut Vec<Effect>,
    ) {
        if self.seed_answered(name, Err(error.to_owned())) {
            self.finish_if_over(now, effects);
        }
        self.named_resolve_failed(now, name, error);
    }

    /// Notes what a seed answered that a round waits for; whether one did.
    fn seed_answered(&mut self, name: &str, answer: Result<usize, String>) -> bool {
        let Some(round) = &mut self.seeds.round else {
            return false;
        };
        if !round.waiting.remove(name) {
            return false;
        }
        round.found += answer.as_ref().copied().unwrap_or(0);
        self.seeds.answers.insert(name.to_owned(), answer);
        true
    }

    fn finish_if_over(&mut self, now: Now, effects: &mut Vec<Effect>) {
        let over = |round: &Round| round.waiting.is_empty();
        if self.seeds.round.as_ref().is_some_and(over) {
            self.finish_round(now, effects);
        }
    }

    /// Every seed that may be asked, and what it answered last.
    pub(super) fn seed_rows(&self) -> Vec<SeedRow> {
        if !self.dials_automatically() {
            return Vec::new();
        }
        let row = |host: &String| SeedRow {
            host: host.clone(),
            answer: self.seeds.answers.get(host).cloned(),
        };
        self.config.dns_seeds.iter().map(row).collect()
    }

    /// When seeds are asked again because none could be reached.
    pub(super) fn seeds_again(&self) -> Option<Duration> {
        let failed = matches!(self.notice, Some(Notice::NoSeedReached { .. }));
        failed.then_some(self.seeds.next)
    }

    /// Seeds tell no times; their addresses count as 3 to 7 days old, as in Core, so
    /// that fresher gossip is preferred.
    fn learn_from_seed(&mut self, now: Now, addrs: &[SocketAddr]) {
        const DAY: u64 = 24 * 3_600;
        for addr in addrs.iter().take(MAX_PER_SEED) {
            let age = u32::try_from(3 * DAY + self.random.below(4 * DAY)).unwrap_or(0);
            let seen = now.unix.saturating_sub(age);
            self.book
                .learn(*addr, full_node(), seen, Source::Own, now, &mut self.random);
        }
        self.dials.hurry(now);
    }

    fn finish_round(&mut self, now: Now, effects: &mut Vec<Effect>) {
        let Some(round) = self.seeds.round.take() else {
            return;
        };
        for host in round.waiting {
            let late = Err("no answer in time".to_owned());
            self.seeds.answers.insert(host, late);
        }
        if round.found > 0 {
            self.seeds.failures = 0;
            self.seeds.told = 0;
            self.seeds.tell_at = now.mono;
            self.seeds.next = now.mono.saturating_add(ASKED_ENOUGH);
            self.notice = None;
            effects.push(Effect::Notice(Notice::SeedsAnswered {
                addresses: round.found,
            }));
            return;
        }
        self.seeds.failures = self.seeds.failures.saturating_add(1);
        self.seeds.next = now.mono.saturating_add(SEED_RETRY);
        let notice = Notice::NoSeedReached {
            asked: self.config.dns_seeds.len(),
            retry_in: SEED_RETRY,
        };
        self.notice = Some(notice);
        if self.seeds.tell_at <= now.mono {
            let doubled = TELL_FIRST.saturating_mul(1 << self.seeds.told.min(10));
            self.seeds.told = self.seeds.told.saturating_add(1);
            self.seeds.tell_at = now.mono.saturating_add(doubled.min(TELL_LONGEST));
            effects.push(Effect::Notice(notice));
        }
    }
}
