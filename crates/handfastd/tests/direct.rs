//! `handfastd`, started by itself or by another program than the `handfast` that it belongs to.

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
