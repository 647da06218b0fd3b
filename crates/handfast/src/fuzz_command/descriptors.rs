//! The limit on open files.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use super::options::Setup;

/// Open files besides connections, with a margin.
const OTHER_FILES: u64 = 32;

/// Raises the limit on open files as far as needed.
pub(super) fn raise_limit(setup: &Setup) -> Result<(), String> {
    let at_a_time = u64::try_from(setup.plan.concurrency).expect("at most 64 bits");
    let at_a_time = at_a_time.min(setup.plan.limit.cycles);
    let now = getrlimit(Resource::Nofile);
    let new_limit = match new_limit(at_a_time, now) {
        // The number of concurrent connections of a trace is known only from its replay.
        Err(_) if !setup.entries.is_empty() => Rlimit {
            current: now.maximum,
            ..now
        },
        new_limit => new_limit?,
    };
    if new_limit == now {
        return Ok(());
    }
    setrlimit(Resource::Nofile, new_limit)
        .map_err(|error| format!("cannot raise the limit on open files: {error}"))
}

/// The limit needed for so many connections. `None` in a limit: unlimited.
fn new_limit(at_a_time: u64, now: Rlimit) -> Result<Rlimit, String> {
    let needed = at_a_time.saturating_add(OTHER_FILES);
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
    fn the_limit_on_open_files_is_raised_if_allowed_and_reported_if_not() {
        let limit = |current, maximum| Rlimit { current, maximum };
        let enough = limit(Some(1_024), Some(4_096));
        assert_eq!(new_limit(300, enough), Ok(enough));
        let raised = limit(Some(3_032), Some(4_096));
        assert_eq!(new_limit(3_000, enough), Ok(raised));
        assert_eq!(new_limit(9_000, limit(None, None)), Ok(limit(None, None)));
        let line = new_limit(300, limit(Some(64), Some(64))).expect_err("too few");
        assert!(line.contains("may have 64; lower --concurrency"), "{line}");
    }
}
