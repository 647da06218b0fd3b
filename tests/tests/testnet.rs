//! `handfast testnet`, as a user runs it: three nodes that follow a chain, of which nothing
//! is left. Runs the built programs, on loopback only.

use std::fs::{self, File};
use std::io::{BufRead, BufReader};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::{Duration, Instant};

use handfast_tests::process::Program;
use tempfile::TempDir;

/// Long enough for any machine; what is waited for usually takes seconds.
const PATIENCE: Duration = Duration::from_secs(120);
const NODES: usize = 3;

/// The command, with a directory for temporary files of its own.
struct Testnet {
    temporary: TempDir,
    /// What it says on standard error.
    errors: TempDir,
    child: Child,
    lines: Receiver<String>,
}

impl Testnet {
    fn start(arguments: &[&str]) -> Self {
        let temporary = tempfile::tempdir().expect("a temporary directory");
        let errors = tempfile::tempdir().expect("a temporary directory");
        let file = File::create(errors.path().join("said")).expect("made");
        let mut child = Command::new(Program::Handfast.path())
            .args(["testnet", "--mine-interval", "0.5"])
            .args(arguments)
            .env("TMPDIR", temporary.path())
            .process_group(0)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(file)
            .spawn()
            .expect("the binary runs");
        let output = BufReader::new(child.stdout.take().expect("it is piped"));
        let (sender, lines) = channel();
        let read = move || {
            for line in output.lines() {
                // The test may have seen enough.
                let _ = sender.send(line.expect("UTF-8"));
            }
        };
        std::thread::Builder::new()
            .spawn(read)
            .expect("a thread starts");
        Self {
            temporary,
            errors,
            child,
            lines,
        }
    }

    /// Reads what it says until every node has said that its best block is the same one, at
    /// `height` or above. Returns what they said first.
    fn agrees_at(&self, height: u64) -> u64 {
        let by = Instant::now() + PATIENCE;
        let mut said = vec![];
        let mut nodes = [const { None::<(u64, String)> }; NODES];
        let mut first = None;
        loop {
            let left = by.saturating_duration_since(Instant::now());
            let line = self.lines.recv_timeout(left);
            let line = line.unwrap_or_else(|_| panic!("they do not agree at {height}: {said:#?}"));
            assert!(!line.contains('\x1b'), "no terminal is there: {line:?}");
            if let Some((number, state)) = parse(&line) {
                first.get_or_insert(state.0);
                nodes[number - 1] = Some(state);
            }
            said.push(line);
            let agree = nodes.iter().all(|node| *node == nodes[0]);
            if agree && nodes[0].as_ref().is_some_and(|node| node.0 >= height) {
                return first.expect("somebody said something");
            }
        }
    }

    /// What it said on standard error.
    fn errors(&self) -> String {
        fs::read_to_string(self.errors.path().join("said")).expect("UTF-8")
    }

    fn signal(&self, name: &str) {
        kill(name, &self.child.id().to_string());
    }

    /// As a terminal does it: to the whole group, whose number is that of its first process.
    fn press_ctrl_c(&self) {
        kill("-INT", &format!("-{}", self.child.id()));
    }

    fn wait(&mut self) -> ExitStatus {
        let by = Instant::now() + PATIENCE;
        loop {
            if let Some(status) = self.child.try_wait().expect("a child can be waited for") {
                return status;
            }
            assert!(Instant::now() < by, "it does not end");
            // The lines end when it has.
            match self.lines.recv_timeout(Duration::from_millis(100)) {
                Ok(_) | Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => std::thread::yield_now(),
            }
        }
    }

    /// The nodes that keep their files below `home`.
    fn nodes(home: &Path) -> Vec<u32> {
        let home = home.display().to_string();
        let entries = fs::read_dir("/proc").expect("Linux has it").flatten();
        let runs = |entry: fs::DirEntry| {
            let pid = entry.file_name().to_str()?.parse().ok()?;
            let line = fs::read(entry.path().join("cmdline")).ok()?;
            let line = String::from_utf8_lossy(&line).into_owned();
            (line.contains("--datadir") && line.contains(&home) && !line.contains("testnet\0"))
                .then_some(pid)
        };
        entries.filter_map(runs).collect()
    }
}

impl Drop for Testnet {
    fn drop(&mut self) {
        // Only what this test started; it may have ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[track_caller]
fn kill(signal: &str, target: &str) {
    let status = Command::new("kill").args([signal, "--", target]).status();
    assert!(status.expect("kill runs").success());
}

/// The number of a node, its height and its best block.
fn parse(line: &str) -> Option<(usize, (u64, String))> {
    let (number, rest) = line.strip_prefix("node ")?.split_once(": height ")?;
    let (height, rest) = rest.split_once(", best block ")?;
    let (best, _) = rest.split_once(',')?;
    Some((
        number.parse().ok()?,
        (height.parse().ok()?, best.to_owned()),
    ))
}

fn entries(dir: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(dir).expect("it is there");
    entries
        .map(|entry| entry.expect("an entry").path())
        .collect()
}

#[test]
fn three_nodes_follow_the_first_ones_chain_and_leave_nothing_behind() {
    let mut testnet = Testnet::start(&[]);
    testnet.agrees_at(3);
    let home = testnet.temporary.path().to_owned();
    assert_eq!(Testnet::nodes(&home).len(), NODES);
    assert_eq!(entries(&home).len(), 1, "one directory holds all");
    testnet.press_ctrl_c();
    assert_eq!(testnet.wait().code(), Some(0), "{}", testnet.errors());
    assert_eq!(Testnet::nodes(&home), Vec::<u32>::new());
    assert_eq!(entries(&home), Vec::<PathBuf>::new());
}

#[test]
fn a_directory_that_the_user_named_is_kept_and_the_chain_in_it_goes_on() {
    let kept = tempfile::tempdir().expect("a temporary directory");
    let dir = kept.path().join("new").join("line");
    for begins_at_least_at in [0, 5] {
        let named = dir.to_str().expect("a plain name");
        let mut testnet = Testnet::start(&["--datadir", named]);
        let first = testnet.agrees_at(begins_at_least_at + 5);
        assert!(first >= begins_at_least_at, "it began at {first}");
        testnet.signal("-TERM");
        assert_eq!(testnet.wait().code(), Some(0), "{}", testnet.errors());
        assert_eq!(Testnet::nodes(&dir), Vec::<u32>::new());
        assert_eq!(entries(testnet.temporary.path()), Vec::<PathBuf>::new());
    }
}

#[test]
fn when_a_node_ends_the_others_are_ended_and_its_end_is_told() {
    let mut testnet = Testnet::start(&[]);
    testnet.agrees_at(1);
    let home = testnet.temporary.path().to_owned();
    let pid = Testnet::nodes(&home)[1].to_string();
    // Its process id was just found by its directory, which is this test's.
    kill("-KILL", &pid);
    assert_eq!(testnet.wait().code(), Some(1));
    let said = testnet.errors();
    assert!(
        said.contains("node ") && said.contains("ended with signal: 9"),
        "{said}"
    );
    assert_eq!(Testnet::nodes(&home), Vec::<u32>::new());
    assert_eq!(entries(&home), Vec::<PathBuf>::new());
}

#[test]
fn a_terminal_that_is_closed_ends_no_node_and_a_signal_to_end_still_does() {
    let mut testnet = Testnet::start(&[]);
    testnet.agrees_at(1);
    let home = testnet.temporary.path().to_owned();
    let before = Testnet::nodes(&home);
    testnet.signal("-HUP");
    let height = testnet.agrees_at(3);
    testnet.agrees_at(height + 3);
    assert_eq!(Testnet::nodes(&home), before);
    testnet.signal("-TERM");
    assert_eq!(testnet.wait().code(), Some(0), "{}", testnet.errors());
    assert_eq!(Testnet::nodes(&home), Vec::<u32>::new());
    assert_eq!(entries(&home), Vec::<PathBuf>::new());
}

#[test]
fn the_logs_and_the_directory_of_a_testnet_are_for_this_user_alone() {
    let kept = tempfile::tempdir().expect("a temporary directory");
    let dir = kept.path().join("line");
    let mut testnet = Testnet::start(&["--datadir", dir.to_str().expect("a plain name")]);
    testnet.agrees_at(1);
    let mode = |path: &Path| {
        let found = fs::metadata(path).expect("it is there");
        found.permissions().mode() & 0o777
    };
    assert_eq!(mode(&dir), 0o700);
    for number in 1..=NODES {
        assert_eq!(mode(&dir.join(format!("node{number}.log"))), 0o600);
    }
    testnet.signal("-TERM");
    assert_eq!(testnet.wait().code(), Some(0), "{}", testnet.errors());
}

#[cfg(target_os = "linux")]
#[test]
fn no_node_outlives_the_program_that_started_it_even_when_that_is_killed() {
    let mut testnet = Testnet::start(&[]);
    testnet.agrees_at(1);
    let home = testnet.temporary.path().to_owned();
    testnet.signal("-KILL");
    assert_eq!(testnet.wait().code(), None);
    let by = Instant::now() + PATIENCE;
    while !Testnet::nodes(&home).is_empty() {
        assert!(
            Instant::now() < by,
            "they live: {:?}",
            Testnet::nodes(&home)
        );
        std::thread::yield_now();
    }
}

#[test]
fn a_directory_that_cannot_be_made_is_told_before_anything_starts() {
    let kept = tempfile::tempdir().expect("a temporary directory");
    let file = kept.path().join("file");
    fs::write(&file, "").expect("written");
    let dir = file.join("line");
    let mut testnet = Testnet::start(&["--datadir", dir.to_str().expect("a plain name")]);
    assert_eq!(testnet.wait().code(), Some(1));
    let said = testnet.errors();
    assert!(
        said.contains("cannot be made") && said.lines().count() == 1,
        "{said}"
    );
}
