//! What becomes of the process when a manager dies.

use std::process::{Command, Stdio};

use super::*;

/// Says to the child which actor is to die.
const WHO: &str = "HANDFAST_TEST_WHO_DIES";

/// Runs a node whose `who` panics, as the child of a test: ends the whole process with
/// the code that the binary would end with.
#[test]
#[ignore = "ends its process; run by the test below in a process of its own"]
fn a_process_whose_node_loses_an_actor() {
    let Ok(who) = std::env::var(WHO) else { return };
    let reason = with_node(
        |_| {},
        async |node| {
            let _remote = handshake(node).await;
            audit_of(node, 1, 1).await;
            let links = node.links().expect("it runs");
            match &who[..] {
                "PeerManager" => post(&links.peers, Explode),
                "SyncManager" => post(&links.sync, Explode),
                "nobody" => return,
                other => panic!("{other} is not one of them"),
            }
            until(async || node.phase() == Phase::Stopping).await;
        },
    );
    std::process::exit(reason.exit_code().into());
}

fn exit_code_when_dies(who: &str) -> Option<i32> {
    let this = std::env::current_exe().expect("a test has a program");
    let child = "node_tests::death::a_process_whose_node_loses_an_actor";
    let status = Command::new(this)
        .args(["--exact", child, "--ignored", "--test-threads=1"])
        .env(WHO, who)
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status();
    status.expect("it is a program").code()
}

#[test]
fn the_death_of_a_manager_ends_the_process_with_a_code_that_is_not_zero() {
    assert_eq!(exit_code_when_dies("PeerManager"), Some(1));
    assert_eq!(exit_code_when_dies("SyncManager"), Some(1));
    assert_eq!(exit_code_when_dies("nobody"), Some(0));
}
