//! `handfastd`, started directly or by a `handfast` of another version.

use std::process::{Command, Output};

fn handfastd(arguments: &[&str], front: Option<&str>) -> Output {
    // A start that should have been refused would run for ever.
    let mut command = Command::new("timeout");
    command.args(["60", env!("CARGO_BIN_EXE_handfastd")]);
    command.args(arguments).env_remove("HANDFAST_FRONT_VERSION");
    if let Some(version) = front {
        command.env("HANDFAST_FRONT_VERSION", version);
    }
    command.output().expect("the binary runs")
}

fn text(bytes: Vec<u8>) -> String {
    String::from_utf8(bytes).expect("UTF-8")
}

#[test]
fn it_is_refused_to_a_front_of_another_version_with_the_remedy() {
    let output = handfastd(&["--help"], Some("0.0.9"));
    let line = text(output.stderr);
    assert_eq!(output.status.code(), Some(1), "{line}");
    assert_eq!(line.lines().count(), 1, "{line}");
    for part in [
        "handfast: ",
        "handfastd is of version",
        "0.0.9",
        "make install",
    ] {
        assert!(line.contains(part), "{part:?} is missing in: {line}");
    }
    let own = env!("CARGO_PKG_VERSION");
    assert!(handfastd(&["--help"], Some(own)).status.success());
}

#[test]
fn it_explains_itself_as_the_command_that_users_type() {
    let output = handfastd(&["--help"], None);
    assert!(output.status.success());
    let help = text(output.stdout);
    assert!(help.contains("Usage: handfast run [OPTIONS]"), "{help}");
    assert!(help.contains("--max-inbound <N>"), "{help}");
    let output = handfastd(&["--max-inbond", "3"], None);
    let line = text(output.stderr);
    assert_eq!(output.status.code(), Some(1), "{line}");
    let hint = "(is --max-inbound meant?); see `handfast run --help`";
    assert!(line.contains(hint), "{line}");
}

/// Whether the process ignores SIGHUP now; `None`: it is gone, or not this program yet.
#[cfg(target_os = "linux")]
fn ignores_hangups(pid: u32) -> Option<bool> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let field = |name: &str| status.lines().find_map(|line| line.strip_prefix(name));
    field("Name:").filter(|name| name.trim() == "handfastd")?;
    let ignored = u64::from_str_radix(field("SigIgn:")?.trim(), 16).ok()?;
    Some(ignored & 1 == 1)
}

#[test]
#[cfg(target_os = "linux")]
fn a_hangup_is_ignored_while_the_engine_makes_ready_and_not_only_after_that() {
    let mut child = Command::new(env!("CARGO_BIN_EXE_handfastd"))
        .arg("--help")
        .env_remove("HANDFAST_FRONT_VERSION")
        .stdout(std::process::Stdio::null())
        .spawn()
        .expect("the binary runs");
    let (mut looks, mut ignored) = (0u32, 0u32);
    while child.try_wait().expect("it is our child").is_none() {
        if let Some(ignores) = ignores_hangups(child.id()) {
            looks += 1;
            ignored += u32::from(ignores);
        }
    }
    // Nearly all of its life is what the engine does before `main`.
    assert!(ignored * 2 > looks, "in {ignored} of {looks} looks");
}
