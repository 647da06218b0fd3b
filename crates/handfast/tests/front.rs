//! `handfast run` becomes the program `handfastd`, and no other command needs that. A script
//! stands in for it.

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use tempfile::TempDir;

/// The directory of the script.
fn stand_in() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/stand-in")
}

/// A directory that `handfast` is installed in, without `handfastd`.
struct Installed(TempDir);

impl Installed {
    fn alone() -> Self {
        // A link needs the same file system.
        let dir = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).expect("a directory");
        let handfast = dir.path().join("handfast");
        fs::hard_link(env!("CARGO_BIN_EXE_handfast"), handfast).expect("linked");
        Self(dir)
    }

    fn whole() -> Self {
        let installed = Self::alone();
        let handfastd = installed.0.path().join("handfastd");
        symlink(stand_in().join("handfastd"), handfastd).expect("linked");
        installed
    }

    fn handfast(&self) -> PathBuf {
        self.0.path().join("handfast")
    }
}

/// What it printed, and that it is what the script prints.
#[track_caller]
fn of_stand_in(output: Output) -> String {
    let text = String::from_utf8(output.stdout).expect("UTF-8");
    let errors = String::from_utf8_lossy(&output.stderr);
    // Ended by the hangup it would have no code.
    assert_eq!(output.status.code(), Some(7), "{text}{errors}");
    text
}

#[test]
fn run_is_the_same_process_as_the_program_beside_it_and_a_hangup_does_not_end_that() {
    let installed = Installed::whole();
    let child = Command::new(installed.handfast())
        .args(["run", "--network", "no such", "--help", "-x"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("the binary runs");
    let process = child.id();
    let text = of_stand_in(child.wait_with_output().expect("it ends"));
    let version = env!("CARGO_PKG_VERSION");
    let expected = format!(
        "process {process}\nof front {version}\nargument --network\nargument no such\n\
         argument --help\nargument -x\n"
    );
    assert_eq!(text, expected);
}

#[test]
fn a_link_to_the_program_finds_what_lies_beside_the_program_itself() {
    let installed = Installed::whole();
    let elsewhere = tempfile::tempdir().expect("a directory");
    let link = elsewhere.path().join("node");
    symlink(installed.handfast(), &link).expect("linked");
    let output = Command::new(link).arg("run").output();
    of_stand_in(output.expect("the binary runs"));
}

#[test]
fn the_program_is_found_on_the_path_when_there_is_none_beside() {
    let installed = Installed::alone();
    let path = std::env::join_paths([stand_in(), "/usr/bin".into(), "/bin".into()]);
    let output = Command::new(installed.handfast())
        .arg("run")
        .env("PATH", path.expect("a path"))
        .output();
    of_stand_in(output.expect("the binary runs"));
}

#[test]
fn run_without_the_program_says_in_one_line_what_is_missing_and_what_to_do() {
    let installed = Installed::alone();
    for command in ["run", "testnet"] {
        let output = Command::new(installed.handfast())
            .arg(command)
            // Relative to where the user is: not looked at.
            .env("PATH", "stand-in")
            .current_dir(stand_in().parent().expect("it has one"))
            .output()
            .expect("the binary runs");
        let line = String::from_utf8(output.stderr).expect("UTF-8");
        assert_eq!(output.status.code(), Some(1), "{line}");
        assert_eq!(line.lines().count(), 1, "{line}");
        let place = installed.0.path().canonicalize().expect("it is there");
        for part in ["handfastd", place.to_str().expect("UTF-8"), "make install"] {
            assert!(line.contains(part), "{part:?} is missing in: {line}");
        }
    }
}

#[test]
fn a_program_that_may_not_be_executed_is_named_as_such_and_not_said_to_be_missing() {
    let installed = Installed::alone();
    let program = installed.0.path().join("handfastd");
    fs::write(&program, "#!/bin/sh\nexit 7\n").expect("written");
    fs::set_permissions(&program, fs::Permissions::from_mode(0o644)).expect("changed");
    let run = |path: &Path| {
        Command::new(installed.handfast())
            .arg("run")
            .env("PATH", path)
            .output()
            .expect("the binary runs")
    };
    let output = run(Path::new("/nowhere"));
    let line = String::from_utf8(output.stderr).expect("UTF-8");
    assert_eq!(output.status.code(), Some(1), "{line}");
    assert_eq!(line.lines().count(), 1, "{line}");
    let program = program.canonicalize().expect("it is there");
    for part in [
        program.to_str().expect("UTF-8"),
        "cannot be executed",
        "chmod +x",
    ] {
        assert!(line.contains(part), "{part:?} is missing in: {line}");
    }
    // Another that may be is taken, as before.
    let path = std::env::join_paths([stand_in(), "/usr/bin".into(), "/bin".into()]);
    of_stand_in(run(Path::new(&path.expect("a path"))));
}

#[test]
fn clients_and_help_need_no_node_s_program() {
    let installed = Installed::alone();
    for arguments in [
        &["--help"][..],
        &["help", "run"],
        &["rpc", "--help"],
        &["status", "--help"],
        &["fuzz", "scenarios"],
        &["--version"],
    ] {
        let output = Command::new(installed.handfast())
            .args(arguments)
            .env("PATH", "")
            .output()
            .expect("the binary runs");
        assert!(output.status.success(), "{arguments:?}");
        assert!(!output.stdout.is_empty(), "{arguments:?}");
    }
}

/// What makes it start at once: the engine is C++, and its objects are made before `main`.
#[test]
fn the_program_needs_no_library_of_cpp() {
    let program = fs::read(env!("CARGO_BIN_EXE_handfast")).expect("readable");
    let has = |text: &[u8]| program.windows(text.len()).any(|part| part == text);
    assert!(has(b"libc.so"), "the names of libraries can be found so");
    for of_cpp in [&b"libstdc++"[..], b"GLIBCXX_", b"RandomInit"] {
        assert!(!has(of_cpp), "{}", String::from_utf8_lossy(of_cpp));
    }
}
