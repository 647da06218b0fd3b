//! Tells the log what keeps us from peers: manual peers that cannot be reached, DNS seeds
//! that do not answer.

use handfast_proto::Now;
use handfast_proto::peer_table::{Attempt, ManualPeer, Outlook, SeedRow};

/// What became worth a line between two outlooks.
pub(crate) fn news(old: &Outlook, new: &Outlook, now: Now) -> Vec<String> {
    // While the network is off, its peers are not reported one by one.
    let manual = new.manual.iter().filter(|_| !new.network_off);
    let manual = manual.filter_map(|peer| {
        let before = old.manual.iter().find(|old| old.name == peer.name);
        manual_news(before, peer, now)
    });
    let seeds = new.seeds.iter().filter_map(|seed| {
        let before = old.seeds.iter().find(|old| old.host == seed.host);
        seed_news(before, seed)
    });
    let switched = (new.network_off != old.network_off).then_some(match new.network_off {
        true => "the network is switched off (setnetworkactive): no peer is dialled or admitted",
        false => "the network is switched on again",
    });
    let switched = switched.map(str::to_owned);
    switched.into_iter().chain(manual).chain(seeds).collect()
}

/// The first failure, each with another error, and then the second, fourth, eighth and so on.
fn manual_news(before: Option<&ManualPeer>, peer: &ManualPeer, now: Now) -> Option<String> {
    let failure = peer.failure.as_ref()?;
    let before = before.and_then(|before| before.failure.as_ref());
    if before == Some(failure) {
        return None;
    }
    let same = before.is_some_and(|before| before.error == failure.error);
    let told = !same || failure.count.is_power_of_two();
    // A peer that is being tried again has reported its failure already.
    let waits = matches!(peer.attempt, Attempt::Waiting { .. });
    (told && waits).then(|| peer.trouble(now))?
}

/// A seed that fails, when it did not or failed otherwise before.
fn seed_news(before: Option<&SeedRow>, seed: &SeedRow) -> Option<String> {
    let error = seed.answer.as_ref()?.as_ref().err()?;
    let before = before.and_then(|before| before.answer.as_ref());
    let same = matches!(before, Some(Err(before)) if before == error);
    (!same).then(|| {
        format!(
            "DNS seed {} gives no address to connect to: {error}",
            seed.host
        )
    })
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use handfast_proto::peer_table::DialFailure;

    use super::*;

    fn failing(error: &str, count: u32) -> Outlook {
        let failure = DialFailure {
            error: error.to_owned(),
            at: count,
            count,
        };
        let until = Duration::from_secs(5);
        Outlook {
            manual: vec![ManualPeer {
                name: "a:1".to_owned(),
                attempt: Attempt::Waiting { until },
                failure: Some(failure),
            }],
            ..Outlook::default()
        }
    }

    #[test]
    fn a_manual_peer_that_fails_is_told_at_once_then_ever_more_rarely_and_again_when_it_fails_otherwise()
     {
        let now = Now::default();
        let first = news(&Outlook::default(), &failing("refused", 1), now);
        assert_eq!(first, ["not connected to a:1: refused; next attempt in 5s"]);
        let lines = (2..=100).map(|count| {
            let (old, new) = (failing("refused", count - 1), failing("refused", count));
            news(&old, &new, now).len()
        });
        assert_eq!(lines.sum::<usize>(), 6, "2, 4, 8, 16, 32, 64");
        let other = news(&failing("refused", 4), &failing("timed out", 5), now);
        assert_eq!(other.len(), 1, "{other:?}");
        assert!(news(&failing("refused", 4), &failing("refused", 4), now).is_empty());
    }

    #[test]
    fn a_network_that_is_switched_off_is_told_instead_of_each_peer_that_it_costs() {
        let now = Now::default();
        let off = Outlook {
            network_off: true,
            ..failing("the connection was lost", 1)
        };
        let lines = news(&Outlook::default(), &off, now);
        assert_eq!(lines.len(), 1, "{lines:?}");
        assert!(lines[0].contains("switched off"), "{lines:?}");
        let on = news(&off, &Outlook::default(), now);
        assert_eq!(on, ["the network is switched on again"]);
    }

    #[test]
    fn a_dns_seed_is_told_by_name_with_its_error_once() {
        let with = |answer| Outlook {
            seeds: vec![SeedRow {
                host: "seed.example".to_owned(),
                answer,
            }],
            ..Outlook::default()
        };
        let now = Now::default();
        let failed = with(Some(Err("no such name".to_owned())));
        assert_eq!(
            news(&with(None), &failed, now),
            ["DNS seed seed.example gives no address to connect to: no such name"]
        );
        assert!(news(&failed, &failed, now).is_empty());
        let timed_out = with(Some(Err("no answer in time".to_owned())));
        assert_eq!(news(&failed, &timed_out, now).len(), 1);
        assert!(news(&timed_out, &with(Some(Ok(3))), now).is_empty());
    }
}
