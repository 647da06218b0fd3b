//! DNS seeds: asked while we are alone and again until one answers, and when sync wants
//! more peers.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::time::Duration;

use super::{Effect, Notice, PeerTable};
use crate::address_book::Source;
use crate::session::full_node;
use crate::time::Now;

/// Before seeds are asked again after all failed, the first time; doubles.
pub(super) const SEED_RETRY_FIRST: Duration = Duration::from_secs(60);
/// The longest such pause.
pub(super) const SEED_RETRY_LONGEST: Duration = Duration::from_secs(600);
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
    asked: usize,
    waiting: BTreeSet<String>,
    found: usize,
    until: Duration,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Seeds {
    round: Option<Round>,
    failures: u32,
    next: Duration,
    /// Sync wants more peers than we have.
    wanted: bool,
    told_nobody: bool,
}

impl Seeds {
    pub(super) fn new(now: Now) -> Self {
        Self {
            round: None,
            failures: 0,
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
        let hosts = self.config.dns_seeds.clone();
        self.seeds.round = Some(Round {
            asked: hosts.len(),
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
        if let Some(round) = &mut self.seeds.round
            && round.waiting.remove(name)
        {
            round.found += addrs.len().min(MAX_PER_SEED);
            let over = round.waiting.is_empty();
            self.learn_from_seed(now, addrs);
            if over {
                self.finish_round(now, effects);
            }
        }
        self.named_resolved(now, name, addrs, effects);
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
        if round.found > 0 {
            self.seeds.failures = 0;
            self.seeds.next = now.mono.saturating_add(ASKED_ENOUGH);
            self.notice = None;
            effects.push(Effect::Notice(Notice::SeedsAnswered {
                addresses: round.found,
            }));
            return;
        }
        let doubled = SEED_RETRY_FIRST.saturating_mul(1 << self.seeds.failures.min(10));
        let retry_in = doubled.min(SEED_RETRY_LONGEST);
        self.seeds.failures = self.seeds.failures.saturating_add(1);
        self.seeds.next = now.mono.saturating_add(retry_in);
        let notice = Notice::NoSeedReached {
            asked: round.asked,
            retry_in,
        };
        self.notice = Some(notice);
        effects.push(Effect::Notice(notice));
    }
}
