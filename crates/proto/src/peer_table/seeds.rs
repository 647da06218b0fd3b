//! DNS seeds: queried while there are no outbound peers and again until one answers, and when sync
//! wants more peers.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::time::Duration;

use super::{Effect, Notice, PeerTableConfig, SeedRow};
use crate::address_book::{AddressBook, Source};
use crate::random::Random;
use crate::session::full_node;
use crate::time::Now;

/// After all seeds failed one of them is queried this often, in turn: most likely our own network
/// is down, and its return must be noticed at once. Each of nine seeds is queried once in 90 s
/// then, and a query without a network reaches no seed.
pub(super) const SEED_RETRY: Duration = Duration::from_secs(10);
/// First pause before failing seeds are reported again; doubles.
const REPORT_FIRST: Duration = Duration::from_secs(60);
/// The longest such pause.
const REPORT_LONGEST: Duration = Duration::from_secs(3_600);
/// Pause before seeds that answered are queried again, if their addresses were useless.
const ASKED_ENOUGH: Duration = Duration::from_secs(300);
/// How long known addresses are tried before seeds are queried.
const BOOK_FIRST: Duration = Duration::from_secs(60);
/// Timeout of a round of look-ups; a seed without an answer has failed.
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

/// The conditions for querying seeds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Prospects {
    /// The table dials automatically.
    pub(super) automatic: bool,
    /// Connected automatic outbound peers.
    pub(super) outbound: usize,
    /// Connected peers of any kind.
    pub(super) peers: usize,
    /// The operator added no node.
    pub(super) no_manual: bool,
    /// No address is known.
    pub(super) book_is_empty: bool,
}

/// The DNS seeds. Invariant: one round of look-ups at a time, which ends; between two rounds there
/// are at least [`SEED_RETRY`].
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Seeds {
    hosts: Vec<String>,
    /// The port of the seeds' addresses.
    port: u16,
    /// The last report about finding peers, while it is true.
    notice: Option<Notice>,
    /// Since when there is no automatic outbound peer.
    without_peers_since: Option<Duration>,
    round: Option<Round>,
    /// The last result of each seed.
    answers: BTreeMap<String, Result<usize, String>>,
    failures: u32,
    /// When failing seeds are reported again.
    report_at: Duration,
    reports: u32,
    next: Duration,
    /// Sync wants more peers than we have.
    wanted: bool,
    reported_no_addresses: bool,
}

impl Seeds {
    pub(super) fn new(config: &PeerTableConfig, now: Now) -> Self {
        Self {
            hosts: config.dns_seeds.clone(),
            port: config.default_port,
            notice: None,
            without_peers_since: Some(now.mono),
            round: None,
            answers: BTreeMap::new(),
            failures: 0,
            report_at: Duration::ZERO,
            reports: 0,
            next: now.mono,
            wanted: false,
            reported_no_addresses: false,
        }
    }

    /// Queries them once more though there are outbound peers, but not before the usual pause has
    /// passed.
    pub(super) fn ask_again(&mut self) {
        self.wanted = true;
    }

    pub(super) fn notice(&self) -> Option<Notice> {
        self.notice
    }

    /// When seeds must be queried, or a round times out.
    pub(super) fn due(&self, prospects: Prospects) -> Option<Duration> {
        if !prospects.automatic || self.hosts.is_empty() {
            return None;
        }
        match &self.round {
            Some(round) => Some(round.until),
            None if self.wanted => Some(self.next),
            None => self.without_peers_since.map(|since| {
                let wait = if prospects.book_is_empty {
                    Duration::ZERO
                } else {
                    BOOK_FIRST
                };
                self.next.max(since.saturating_add(wait))
            }),
        }
    }

    /// Queries seeds if that is due.
    pub(super) fn plan(&mut self, now: Now, prospects: Prospects, effects: &mut Vec<Effect>) {
        if prospects.outbound > 0 {
            self.without_peers_since = None;
        } else {
            self.without_peers_since.get_or_insert(now.mono);
        }
        let settled = match self.notice {
            Some(Notice::NobodyToDial) => prospects.peers > 0,
            Some(Notice::NoSeedReached { .. }) => self.without_peers_since.is_none(),
            Some(Notice::SeedsAnswered { .. }) | None => false,
        };
        if settled {
            self.notice = None;
        }
        self.report_no_addresses(prospects, effects);
        if self.due(prospects).is_none_or(|due| now.mono < due) {
            return;
        }
        if self.round.is_some() {
            self.finish_round(now, effects);
            return;
        }
        self.wanted = false;
        let mut hosts = self.hosts.clone();
        if let Some(turn) = self.failures.checked_sub(1) {
            let turn = usize::try_from(turn).unwrap_or(0) % hosts.len();
            hosts = vec![hosts.swap_remove(turn)];
        }
        self.round = Some(Round {
            waiting: hosts.iter().cloned().collect(),
            found: 0,
            until: now.mono.saturating_add(ROUND_TIMEOUT),
        });
        effects.extend(hosts.into_iter().map(|host| Effect::Resolve {
            name: host.clone(),
            host,
            port: self.port,
            seeds: true,
        }));
    }

    /// Reports once that no peer can be found.
    fn report_no_addresses(&mut self, prospects: Prospects, effects: &mut Vec<Effect>) {
        let no_addresses = prospects.automatic
            && self.hosts.is_empty()
            && prospects.book_is_empty
            && prospects.no_manual
            && prospects.peers == 0;
        if no_addresses && !self.reported_no_addresses {
            self.reported_no_addresses = true;
            self.notice = Some(Notice::NobodyToDial);
            effects.push(Effect::Notice(Notice::NobodyToDial));
        }
    }

    /// A name was resolved. Returns whether it is a seed that gave addresses: `book` has them.
    pub(super) fn resolved(
        &mut self,
        now: Now,
        name: &str,
        addrs: &[SocketAddr],
        book: &mut AddressBook,
        random: &mut Random,
        effects: &mut Vec<Effect>,
    ) -> bool {
        let usable = addrs.iter().filter(|addr| book.may_hold(**addr));
        let answer = match usable.count().min(MAX_PER_SEED) {
            0 if addrs.is_empty() => Err("the name has no address".to_owned()),
            0 => Err("none of its addresses can be dialled: they are not public".to_owned()),
            found => Ok(found),
        };
        if !self.answered(name, answer) {
            return false;
        }
        learn(now, addrs, book, random);
        self.finish_if_over(now, effects);
        true
    }

    /// A name could not be resolved.
    pub(super) fn resolve_failed(
        &mut self,
        now: Now,
        name: &str,
        error: &str,
        effects: &mut Vec<Effect>,
    ) {
        if self.answered(name, Err(error.to_owned())) {
            self.finish_if_over(now, effects);
        }
    }

    /// Records the result of a seed in the current round; returns whether it is one.
    fn answered(&mut self, name: &str, answer: Result<usize, String>) -> bool {
        let Some(round) = &mut self.round else {
            return false;
        };
        if !round.waiting.remove(name) {
            return false;
        }
        round.found += answer.as_ref().copied().unwrap_or(0);
        self.answers.insert(name.to_owned(), answer);
        true
    }

    fn finish_if_over(&mut self, now: Now, effects: &mut Vec<Effect>) {
        let over = |round: &Round| round.waiting.is_empty();
        if self.round.as_ref().is_some_and(over) {
            self.finish_round(now, effects);
        }
    }

    /// Every seed, and its last result.
    pub(super) fn rows(&self) -> Vec<SeedRow> {
        let row = |host: &String| SeedRow {
            host: host.clone(),
            answer: self.answers.get(host).cloned(),
        };
        self.hosts.iter().map(row).collect()
    }

    /// When seeds are queried again because none could be reached.
    pub(super) fn again(&self) -> Option<Duration> {
        let failed = matches!(self.notice, Some(Notice::NoSeedReached { .. }));
        failed.then_some(self.next)
    }

    fn finish_round(&mut self, now: Now, effects: &mut Vec<Effect>) {
        let Some(round) = self.round.take() else {
            return;
        };
        for host in round.waiting {
            let late = Err("no answer in time".to_owned());
            self.answers.insert(host, late);
        }
        if round.found > 0 {
            self.failures = 0;
            self.reports = 0;
            self.report_at = now.mono;
            self.next = now.mono.saturating_add(ASKED_ENOUGH);
            self.notice = None;
            effects.push(Effect::Notice(Notice::SeedsAnswered {
                addresses: round.found,
            }));
            return;
        }
        self.failures = self.failures.saturating_add(1);
        self.next = now.mono.saturating_add(SEED_RETRY);
        let notice = Notice::NoSeedReached {
            asked: self.hosts.len(),
            retry_in: SEED_RETRY,
        };
        self.notice = Some(notice);
        if self.report_at <= now.mono {
            let doubled = REPORT_FIRST.saturating_mul(1 << self.reports.min(10));
            self.reports = self.reports.saturating_add(1);
            self.report_at = now.mono.saturating_add(doubled.min(REPORT_LONGEST));
            effects.push(Effect::Notice(notice));
        }
    }
}

/// Seeds give no times; their addresses count as 3 to 7 days old, as in Core, so that fresher
/// gossip is preferred.
fn learn(now: Now, addrs: &[SocketAddr], book: &mut AddressBook, random: &mut Random) {
    const DAY: u64 = 24 * 3_600;
    for addr in addrs.iter().take(MAX_PER_SEED) {
        let age = u32::try_from(3 * DAY + random.below(4 * DAY)).unwrap_or(0);
        let seen = now.unix.saturating_sub(age);
        book.learn(*addr, full_node(), seen, Source::Own, now, random);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const WITHOUT_PEERS: Prospects = Prospects {
        automatic: true,
        outbound: 0,
        peers: 0,
        no_manual: true,
        book_is_empty: true,
    };

    #[test]
    fn one_round_is_asked_at_a_time_and_its_end_lets_the_next_one_wait() {
        let config = PeerTableConfig {
            dns_seeds: vec!["a.example".to_owned()],
            ..PeerTableConfig::new(8333, 1)
        };
        let (now, mut effects) = (Now::default(), Vec::new());
        let mut seeds = Seeds::new(&config, now);
        seeds.plan(now, WITHOUT_PEERS, &mut effects);
        seeds.plan(now, WITHOUT_PEERS, &mut effects);
        assert!(
            matches!(effects[..], [Effect::Resolve { .. }]),
            "{effects:?}"
        );
        assert_eq!(seeds.due(WITHOUT_PEERS), Some(ROUND_TIMEOUT));
        seeds.resolve_failed(now, "a.example", "no answer", &mut effects);
        assert_eq!(seeds.due(WITHOUT_PEERS), Some(SEED_RETRY));
        assert_eq!(seeds.again(), Some(SEED_RETRY));
        let off = Prospects {
            automatic: false,
            ..WITHOUT_PEERS
        };
        assert_eq!(seeds.due(off), None);
    }
}
