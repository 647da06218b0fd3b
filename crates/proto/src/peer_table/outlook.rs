//! What keeps us from peers, to be shown: manual peers, DNS seeds, and why they failed.

use std::time::Duration;

use super::Notice;
use crate::lifecycle::ConnId;
use crate::text::{count, left};
use crate::time::Now;

/// Longest text of an error that is stored, bytes. A reason can quote what a peer sent.
const MAX_ERROR: usize = 200;

/// Failures to connect to a manual peer since it was connected last.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct DialFailure {
    /// The last one, one line of at most 200 bytes.
    pub error: String,
    /// When it was, Unix seconds.
    pub at: u32,
    /// How many there were.
    pub count: u32,
}

impl DialFailure {
    /// One more failure after `earlier` ones.
    pub(super) fn after(earlier: Option<Self>, error: &str, now: Now) -> Self {
        Self {
            error: shortened(error),
            at: now.unix,
            count: earlier.map_or(0, |earlier| earlier.count).saturating_add(1),
        }
    }
}

/// At most [`MAX_ERROR`] bytes of `error`, cut between two characters.
fn shortened(error: &str) -> String {
    let mut end = error.len().min(MAX_ERROR);
    while !error.is_char_boundary(end) {
        end -= 1;
    }
    error[..end].to_owned()
}

/// What is being done about a manual peer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Attempt {
    /// The next attempt is made then, time since the node started.
    Waiting {
        /// When.
        until: Duration,
    },
    /// Its name is being looked up.
    LookingUp,
    /// A connection is being opened.
    Connecting,
    /// It is connected.
    Connected(ConnId),
}

/// A peer that the operator named: `--connect`, `--add-node`, `addnode`.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct ManualPeer {
    /// As it was given.
    pub name: String,
    /// What is being done.
    pub attempt: Attempt,
    /// What failed since it was connected last.
    pub failure: Option<DialFailure>,
}

/// A DNS seed, and what it answered last.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct SeedRow {
    /// Its host name.
    pub host: String,
    /// How many addresses it gave, or the resolver's error. `None`: it was not asked yet, or
    /// has not answered yet.
    pub answer: Option<Result<usize, String>>,
}

/// What keeps us from peers. See the module.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Outlook {
    /// The operator has switched the network off: no peer is dialled or admitted.
    pub network_off: bool,
    /// Every manual peer, by name.
    pub manual: Vec<ManualPeer>,
    /// Every DNS seed that this node may ask.
    pub seeds: Vec<SeedRow>,
    /// When DNS seeds are asked again because none could be reached, time since the node
    /// started; `None` while that is not the case.
    pub seeds_again: Option<Duration>,
    /// Failed dials to addresses of the address book, while no peer is connected that we
    /// dialled.
    pub dials: Option<DialFailure>,
    /// When an address of the address book is dialled next, while no peer is connected that we
    /// dialled; `None` while one is being dialled.
    pub dials_again: Option<Duration>,
    /// No peer is known, and no seed or manual peer to ask.
    pub nobody_known: bool,
    /// Whether no peer that we dialled is connected.
    pub alone: bool,
}

impl Outlook {
    /// What keeps us from connecting to peers, one line; `None` if nothing is known that does.
    /// Without seeds and manual peers this is no failure.
    #[must_use]
    pub fn cause(&self) -> Option<String> {
        if self.network_off {
            return Some("the network is switched off (setnetworkactive)".to_owned());
        }
        if let Some(peer) = self.failing().next() {
            let more = match self.failing().skip(1).count() {
                0 => String::new(),
                1 => "; 1 more manual peer fails".to_owned(),
                more => format!("; {more} more manual peers fail"),
            };
            return Some(format!("{}{more}", peer.cause()?));
        }
        if self.seeds_again.is_none() {
            let DialFailure { error, count, .. } = self.dials.as_ref()?;
            return Some(match count {
                1 => format!("cannot connect to {error}"),
                // Attempts: an address may be dialled again.
                count => format!("{count} attempts to connect failed, the last to {error}"),
            });
        }
        let error = self.seeds.iter().find_map(|seed| match &seed.answer {
            Some(Err(error)) => Some(format!(" ({}: {error})", seed.host)),
            Some(Ok(_)) | None => None,
        });
        Some(format!(
            "none of {} gave an address to connect to{}",
            count(self.seeds.len(), "DNS seed"),
            error.unwrap_or_default(),
        ))
    }

    /// What an operator is warned of: that no peer that we dialled is connected, or that a
    /// manual peer cannot be.
    #[must_use]
    pub fn warning(&self) -> Option<String> {
        let told = self.alone || self.network_off || self.failing().next().is_some();
        self.cause().filter(|_| told)
    }

    /// The same, with what is done about it and when.
    #[must_use]
    pub fn trouble(&self, now: Now) -> Option<String> {
        if self.network_off {
            return Some(format!(
                "{}; `setnetworkactive true` switches it on",
                self.cause()?
            ));
        }
        let next = match (self.failing().next(), self.seeds_again) {
            (Some(peer), _) => peer.attempt.next(now),
            (None, Some(again)) => next_try(again, now),
            (None, None) if self.dials.is_some() => match self.dials_again {
                Some(again) => next_try(again, now),
                None => "trying another".to_owned(),
            },
            (None, None) if self.nobody_known => {
                return Some(Notice::NobodyToDial.to_string());
            }
            (None, None) => {
                let again = self.dials_again.filter(|_| self.alone)?;
                return Some(format!("no peer is connected; {}", next_try(again, now)));
            }
        };
        Some(format!("{}; {next}", self.cause()?))
    }

    /// The manual peers that are not connected because attempts fail.
    fn failing(&self) -> impl Iterator<Item = &ManualPeer> {
        self.manual.iter().filter(|peer| peer.failure.is_some())
    }
}

impl ManualPeer {
    /// Why it is not connected, one line; `None` if nothing failed.
    fn cause(&self) -> Option<String> {
        let DialFailure { error, count, .. } = self.failure.as_ref()?;
        let times = match count {
            1 => String::new(),
            count => format!(" ({count} times)"),
        };
        Some(format!("not connected to {}: {error}{times}", self.name))
    }

    /// The same, with when it is tried again.
    #[must_use]
    pub fn trouble(&self, now: Now) -> Option<String> {
        Some(format!("{}; {}", self.cause()?, self.attempt.next(now)))
    }
}

impl Attempt {
    fn next(self, now: Now) -> String {
        match self {
            Self::Waiting { until } => next_try(until, now),
            Self::LookingUp | Self::Connecting | Self::Connected(_) => "trying again".to_owned(),
        }
    }
}

fn next_try(at: Duration, now: Now) -> String {
    match at.saturating_sub(now.mono) {
        // It is overdue by less than it takes to tell.
        Duration::ZERO => "trying again".to_owned(),
        time => format!("next attempt in {}", left(time)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn peer(name: &str, attempt: Attempt, failures: u32) -> ManualPeer {
        let fail = |earlier, _| Some(DialFailure::after(earlier, "refused", Now::default()));
        ManualPeer {
            name: name.to_owned(),
            attempt,
            failure: (0..failures).fold(None, fail),
        }
    }

    #[test]
    fn the_trouble_of_a_manual_peer_names_it_the_error_and_the_next_attempt() {
        let now = Now {
            mono: Duration::from_millis(100_500),
            unix: 7,
        };
        let until = Duration::from_secs(112);
        let mut outlook = Outlook {
            manual: vec![
                peer("a:1", Attempt::Connected(ConnId(1)), 0),
                peer("b:2", Attempt::Waiting { until }, 3),
            ],
            nobody_known: true,
            ..Outlook::default()
        };
        let text = "not connected to b:2: refused (3 times); next attempt in 12s";
        assert_eq!(outlook.trouble(now).as_deref(), Some(text));
        outlook.manual.push(peer("c:3", Attempt::Connecting, 1));
        let trouble = outlook.trouble(now).expect("two fail");
        assert!(trouble.contains("; 1 more manual peer fails;"), "{trouble}");
        outlook.manual.truncate(1);
        let nobody = outlook.trouble(now).expect("nobody is known");
        assert!(nobody.contains("--connect"), "{nobody}");
        assert_eq!(outlook.cause(), None, "that is no failure");
        outlook.nobody_known = false;
        assert_eq!(outlook.trouble(now), None);
    }

    #[test]
    fn seeds_that_failed_are_told_with_the_error_of_one_and_the_next_attempt() {
        let row = |host: &str, answer| SeedRow {
            host: host.to_owned(),
            answer,
        };
        let outlook = Outlook {
            seeds: vec![
                row("a.example", None),
                row("b.example", Some(Err("no answer".to_owned()))),
            ],
            seeds_again: Some(Duration::from_secs(10)),
            ..Outlook::default()
        };
        assert_eq!(
            outlook.trouble(Now::default()).as_deref(),
            Some(
                "none of 2 DNS seeds gave an address to connect to (b.example: no answer); next attempt in 10s"
            )
        );
    }

    #[test]
    fn a_network_that_the_operator_switched_off_is_the_cause_before_all_others() {
        let outlook = Outlook {
            network_off: true,
            manual: vec![peer("b:2", Attempt::Connecting, 3)],
            nobody_known: true,
            ..Outlook::default()
        };
        let cause = "the network is switched off (setnetworkactive)";
        assert_eq!(outlook.cause().as_deref(), Some(cause));
        let trouble = outlook.trouble(Now::default()).expect("it is off");
        assert!(trouble.starts_with(cause), "{trouble}");
    }

    #[test]
    fn attempts_that_all_fail_are_told_with_how_many_the_last_error_and_the_next() {
        let fail =
            |earlier| DialFailure::after(earlier, "192.0.2.7:8333: timed out", Now::default());
        let mut outlook = Outlook {
            dials: Some(fail(None)),
            ..Outlook::default()
        };
        let trouble = |outlook: &Outlook| outlook.trouble(Now::default());
        let one = "cannot connect to 192.0.2.7:8333: timed out; trying another";
        assert_eq!(trouble(&outlook).as_deref(), Some(one));
        let earlier = outlook.dials.take();
        outlook.dials = Some(fail(earlier));
        let two = "2 attempts to connect failed, the last to 192.0.2.7:8333: timed out; \
                   next attempt in 7s";
        outlook.dials_again = Some(Duration::from_millis(6_500));
        assert_eq!(trouble(&outlook).as_deref(), Some(two));
    }

    #[test]
    fn what_is_kept_of_an_error_is_bounded_and_cut_between_characters() {
        let long = "é".repeat(500);
        let kept = DialFailure::after(None, &long, Now::default()).error;
        assert_eq!(kept, "é".repeat(100));
    }
}
