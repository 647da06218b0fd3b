//! What the system was told about the server's threads.

use std::fs;

use crate::exchange::{get, node};

/// `SCHED_BATCH`; sched(7).
const BATCH: &str = "3";
/// The thread of long calls.
const THREADS: usize = 1;

/// Policies of all threads of a process: field 41 of proc(5) `stat`.
fn policies(pid: u32) -> Vec<String> {
    let tasks = fs::read_dir(format!("/proc/{pid}/task")).expect("it runs");
    let lines = tasks.filter_map(|task| fs::read_to_string(task.ok()?.path().join("stat")).ok());
    let policy = |line: String| {
        // The name, which may hold anything, is in parentheses and is field 2.
        let (_, after_name) = line.rsplit_once(')').expect("a name");
        let policy = after_name.split_ascii_whitespace().nth(41 - 3);
        policy.expect("a field").to_owned()
    };
    lines.map(policy).collect()
}

#[test]
fn long_requests_take_the_core_from_nobody_who_has_a_short_one() {
    let node = node(&[]);
    assert_eq!(get(&node, "/health").status, 200);
    let policies = policies(node.pid());
    let batch = policies.iter().filter(|policy| *policy == BATCH).count();
    assert_eq!(batch, THREADS, "{policies:?}");
}
