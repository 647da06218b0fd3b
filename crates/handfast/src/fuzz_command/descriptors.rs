//! Open files for as many connections at a time as the user wants.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use super::options::Setup;

/// What the process has open besides its connections, and a little more.
const BESIDES: u64 = 32;

/// Raises the limit on open files as far as it is needed.
pub(super) fn make_room(setup: &Setup) -> Result<(), String> {
    let at_a_time = u64::try_from(setup.plan.concurrency).expect("at most 64 bits");
    let at_a_time = at_a_time.min(setup.plan.limit.cycles);
    let now = getrlimit(Resource::Nofile);
    let room = match room(at_a_time, now) {
        // How many of a trace are there at a time, only the replay shows.
        Err(_) if !setup.cues.is_empty() => Rlimit {
            current: now.maximum,
            ..now
        },
        room => room?,
    };
    if room == now {
        return Ok(());
    }
    setrlimit(Resource::Nofile, room)
        .map_err(|error| format!("cannot raise the limit on open files: {error}"))
}

/// The limit under which so many connections can be open. `None` in a limit: there is none.
fn room(at_a_time: u64, now: Rlimit) -> Result<Rlimit, String> {
    let needed = at_a_time.saturating_add(BESIDES);
    let suffices = |limit: Option<u64>| limit.is_none_or(|limit| limit >= needed);
    match (now.current, now.maximum) {
        (soft, _) if suffices(soft) => Ok(now),
        (_, hard) if suffices(hard) => Ok(Rlimit {
            current: Some(needed),
            maximum: hard,
        }),
        (_, hard) => Err(format!(
            "{at_a_time} connections at a time need {needed} open files, and this process may \
             have {}; lower --concurrency, or raise the hard limit (ulimit -Hn)",
            hard.unwrap_or_default()
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_limit_on_open_files_is_raised_where_it_may_be_and_told_where_it_may_not() {
        let limit = |current, maximum| Rlimit { current, maximum };
        let enough = limit(Some(1_024), Some(4_096));
        assert_eq!(room(300, enough), Ok(enough));
        let raised = limit(Some(3_032), Some(4_096));
        assert_eq!(room(3_000, enough), Ok(raised));
        assert_eq!(room(9_000, limit(None, None)), Ok(limit(None, None)));
        let line = room(300, limit(Some(64), Some(64))).expect_err("too few");
        assert!(line.contains("may have 64; lower --concurrency"), "{line}");
    }
}
