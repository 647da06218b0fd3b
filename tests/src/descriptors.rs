//! Room for thousands of sockets, and for none.

use rustix::process::{Pid, Resource, Rlimit, getrlimit, prlimit, setrlimit};

use crate::process::Node;

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
        let allowed = limit.maximum.unwrap_or_default();
        crate::skipped(&format!(
            "{count} open files are needed, {allowed} are allowed (ulimit -Hn)"
        ));
        return false;
    }
    let wanted = Rlimit {
        current: Some(count),
        maximum: limit.maximum,
    };
    setrlimit(Resource::Nofile, wanted).expect("up to the hard limit everybody may");
    true
}

/// How many descriptors a node has open.
pub fn open_now(node: &Node) -> u64 {
    let open = std::fs::read_dir(format!("/proc/{}/fd", node.pid())).expect("the node runs");
    open.count() as u64
}

/// Lets a node open files up to this many. How many it could before.
pub fn set_limit(node: &Node, count: u64) -> u64 {
    let pid = Pid::from_raw(i32::try_from(node.pid()).expect("a process id"));
    // The hard limit stays: the soft one is to be raised again.
    let limit = Rlimit {
        current: Some(count),
        maximum: getrlimit(Resource::Nofile).maximum,
    };
    let before = prlimit(pid, Resource::Nofile, limit).expect("a child's limits can be set");
    before.current.expect("the node has a limit")
}
