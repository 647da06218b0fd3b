//! Room for thousands of sockets.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// Lets this process, and those that it starts from now on, open `count` files.
///
/// `false`, with a line that says why: the system allows fewer, and only its administrator
/// can change that.
pub fn make_room(count: u64) -> bool {
    let limit = getrlimit(Resource::Nofile);
    // `None` is no limit.
    let enough = |limit: Option<u64>| limit.is_none_or(|limit| limit >= count);
    if enough(limit.current) {
        return true;
    }
    if !enough(limit.maximum) {
        eprintln!(
            "skipped: {count} open files are needed, {} are allowed (ulimit -Hn)",
            limit.maximum.unwrap_or_default()
        );
        return false;
    }
    let wanted = Rlimit {
        current: Some(count),
        maximum: limit.maximum,
    };
    setrlimit(Resource::Nofile, wanted).expect("up to the hard limit everybody may");
    true
}
