//! Every way to start `handfast` wrongly: one clear line, exit code 1, nothing
//! changed on disk. Runs the built programs.

use std::fs;
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use handfast_disk::testing::{SpecialFile, put_special_file};
use handfast_tests::process::Program;
use tempfile::TempDir;

/// A home directory of its own, and what lies in it before and after.
struct Home(TempDir);

impl Home {
    fn new() -> Self {
        Self(tempfile::tempdir().expect("a temporary directory"))
    }

    fn path(&self) -> &Path {
        self.0.path()
    }

    fn handfast(&self, arguments: &[&str]) -> Output {
        // A start that should have been refused would run for ever.
        let mut command = Command::new("timeout");
        command.arg("60").arg(Program::Handfast.path());
        command
            .args(arguments)
            .env("HOME", self.path())
            .current_dir(self.path());
        command.output().expect("the binary runs")
    }

    /// Every path below it, sorted.
    fn listing(&self) -> Vec<PathBuf> {
        let mut found = Vec::new();
        let mut left = vec![self.path().to_owned()];
        while let Some(dir) = left.pop() {
            for entry in fs::read_dir(&dir).expect("readable") {
                let path = entry.expect("readable").path();
                if path.is_dir() {
                    left.push(path.clone());
                }
                found.push(path);
            }
        }
        found.sort();
        found
    }

    /// Runs it and expects one line with all `parts`, code 1, and nothing new on disk.
    #[track_caller]
    fn refused(&self, arguments: &[&str], parts: &[&str]) {
        let before = self.listing();
        let output = self.handfast(arguments);
        let line = String::from_utf8(output.stderr).expect("UTF-8");
        assert_eq!(output.status.code(), Some(1), "{arguments:?}: {line}");
        assert_eq!(line.trim_end().lines().count(), 1, "{arguments:?}: {line}");
        assert!(line.starts_with("handfast: "), "{line}");
        for part in parts {
            assert!(
                line.contains(part),
                "{arguments:?}: {part:?} is missing in: {line}"
            );
        }
        assert!(output.stdout.is_empty(), "{arguments:?}");
        assert_eq!(
            self.listing(),
            before,
            "{arguments:?} changed something on disk"
        );
    }
}

/// `run` on regtest, with ports that are free, and `more`.
fn run<'a>(more: &[&'a str]) -> Vec<&'a str> {
    let mut arguments = vec![
        "run",
        "--network",
        "regtest",
        "--listen",
        "127.0.0.1:0",
        "--rpc-listen",
        "127.0.0.1:0",
    ];
    arguments.extend(more);
    arguments
}

#[test]
fn a_command_line_that_is_none_gets_one_line_with_a_hint() {
    let home = Home::new();
    home.refused(&[], &["no command", "handfast run", "--help"]);
    home.refused(&["--verbose"], &["--verbose", "--help"]);
    home.refused(&["walk"], &["walk", "--help"]);
    home.refused(
        &["run", "--max-inbond", "3"],
        &["--max-inbond", "--max-inbound", "--help"],
    );
    home.refused(&["run", "--network"], &["--network", "--help"]);
    home.refused(&["run", "--no-dial=maybe"], &["--no-dial", "--help"]);
    home.refused(&["rpc"], &["METHOD", "--help"]);
    home.refused(&["status", "now"], &["now", "--help"]);
}

#[test]
fn a_configuration_that_is_no_file_is_refused_by_name_and_never_waited_for() {
    for special in SpecialFile::ALL {
        let home = Home::new();
        let file = home.path().join("my.toml");
        put_special_file(&file, special);
        let named = file.to_str().expect("UTF-8");
        home.refused(&run(&["--config", named]), &[named, "it "]);
        let data = home.path().join("data");
        fs::create_dir(&data).expect("made");
        put_special_file(&data.join("handfast.toml"), special);
        let data = data.to_str().expect("UTF-8");
        home.refused(&run(&["--datadir", data]), &["handfast.toml", "it "]);
    }
}

#[test]
fn a_damaged_network_file_is_refused_with_the_words_that_mend_it() {
    let home = Home::new();
    let dir = home.path().join("data/regtest");
    fs::create_dir_all(&dir).expect("made");
    fs::write(dir.join("blocks.journal"), "precious").expect("written");
    let data = home.path().join("data");
    let data = data.to_str().expect("UTF-8");
    let head = "handfast data directory, format 1";
    for damaged in [
        format!("{head}\nregtesu\n").into_bytes(),
        format!("{head}\n\u{fffd}").into_bytes(),
        b"handfast da\xf4a directory, format 1\nregtest\n".to_vec(),
        vec![],
    ] {
        fs::write(dir.join("network"), damaged).expect("written");
        home.refused(
            &run(&["--datadir", data]),
            &["regtest/network: damaged", head, "\"regtest\""],
        );
    }
    fs::remove_file(dir.join("network")).expect("it was there");
    put_special_file(&dir.join("network"), SpecialFile::Pipe);
    home.refused(
        &run(&["--datadir", data]),
        &["network: it is a pipe", "move it away"],
    );
}

#[test]
fn fuzz_without_a_command_of_its_own_is_told_those_of_fuzz() {
    let output = Home::new().handfast(&["fuzz"]);
    let line = String::from_utf8(output.stderr).expect("UTF-8");
    assert_eq!(output.status.code(), Some(2), "{line}");
    assert!(line.contains("handfast fuzz run --target"), "{line}");
}

#[test]
fn help_and_version_are_no_errors() {
    let home = Home::new();
    for arguments in [
        &["--help"][..],
        &["run", "--help"],
        &["rpc", "--help"],
        &["status", "--help"],
        &["testnet", "--help"],
        &["--version"],
    ] {
        let output = home.handfast(arguments);
        assert_eq!(output.status.code(), Some(0), "{arguments:?}");
        assert!(
            !output.stdout.is_empty() && output.stderr.is_empty(),
            "{arguments:?}"
        );
    }
}

#[test]
fn a_bad_option_is_named_with_what_would_be_right() {
    let home = Home::new();
    for (option, value, part) in [
        ("--network", "moonnet", "testnet4"),
        ("--signet-challenge", "51", "--network signet"),
        ("--listen", "8333", "127.0.0.1:8333"),
        ("--rpc-listen", "localhost", "127.0.0.1:8333"),
        ("--connect", "host:port", "192.0.2.7:8333"),
        ("--add-node", "a b", "192.0.2.7:8333"),
        ("--max-inbound", "-1", "from 0 to"),
        ("--minimum-chain-work", "ten", "hexadecimal"),
        ("--handshake-timeout", "0", "from 1 to"),
        ("--user-agent-comment", "a/b", "'/'"),
        ("--log", "=loud", "info"),
    ] {
        let joined = format!("{option}={value}");
        home.refused(&["run", &joined], &[option, part]);
    }
    home.refused(
        &["run", "--listen", "127.0.0.1", "--no-listen"],
        &["--listen", "--no-listen", "contradict"],
    );
    for interval in ["0", "-1", "inf", "NaN", "3601", "soon"] {
        let option = format!("--mine-interval={interval}");
        home.refused(&["testnet", &option], &["--mine-interval", "0.1 to 3600"]);
    }
}

#[test]
fn a_bad_configuration_is_named_with_file_and_key() {
    let home = Home::new();
    let file = home.path().join("my.toml");
    let name = file.display().to_string();
    for (content, parts) in [
        ("colour = 1", &["\"colour\"", "no key"][..]),
        ("max-inbound = 'x'", &["max-inbound", "\"x\"", "a number"]),
        ("no-dial = 1", &["no-dial", "true or false"]),
        ("network = ", &["line 1"]),
    ] {
        fs::write(&file, content).expect("written");
        let mut all = vec![name.as_str()];
        all.extend(parts);
        home.refused(&run(&["--config", &name]), &all);
    }
    home.refused(
        &run(&["--config", "missing.toml"]),
        &["missing.toml", "--config"],
    );
}

#[test]
fn an_occupied_port_is_found_before_anything_is_written() {
    let home = Home::new();
    let taken = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let addr = taken.local_addr().expect("bound").to_string();
    let p2p = [
        "run",
        "--network",
        "regtest",
        "--rpc-listen",
        "127.0.0.1:0",
        "--listen",
        &addr,
    ];
    home.refused(&p2p, &[&addr, "--listen"]);
    let rpc = [
        "run",
        "--network",
        "regtest",
        "--listen",
        "127.0.0.1:0",
        "--rpc-listen",
        &addr,
    ];
    home.refused(&rpc, &[&addr, "--rpc-listen"]);
}

#[test]
fn a_socket_path_that_cannot_be_is_found_before_anything_is_written() {
    let home = Home::new();
    let long = home.path().join("s".repeat(100)).display().to_string();
    home.refused(
        &run(&["--rpc-socket", &long]),
        &["at most 100", "--rpc-socket"],
    );

    let alive = home.path().join("alive.sock");
    let _listener = UnixListener::bind(&alive).expect("a free path");
    home.refused(
        &run(&["--rpc-socket", &alive.display().to_string()]),
        &["alive.sock", "running node"],
    );

    let file = home.path().join("file");
    fs::write(&file, "precious").expect("written");
    home.refused(
        &run(&["--rpc-socket", &file.display().to_string()]),
        &["not a socket"],
    );
}

#[test]
fn a_missing_or_foreign_data_directory_is_left_as_it_is() {
    let home = Home::new();
    home.refused(
        &run(&["--datadir", "no/such/place"]),
        &["does not exist", "--datadir"],
    );

    let file = home.path().join("file");
    fs::write(&file, "").expect("written");
    home.refused(
        &run(&["--datadir", "file"]),
        &["not a directory", "--datadir"],
    );

    fs::create_dir_all(home.path().join("core/chainstate")).expect("made");
    home.refused(&run(&["--datadir", "core"]), &["chainstate", "--datadir"]);

    // The network's own directory holds something that no node of ours wrote.
    fs::create_dir_all(home.path().join("mixed/regtest")).expect("made");
    fs::write(home.path().join("mixed/regtest/diary.txt"), "private").expect("written");
    home.refused(&run(&["--datadir", "mixed"]), &["diary.txt", "--datadir"]);
}

#[test]
fn a_directory_that_somebody_else_uses_is_refused() {
    let home = Home::new();
    let etc = home.path().join("etc");
    fs::create_dir(&etc).expect("made");
    fs::write(etc.join("passwd"), "root").expect("written");
    home.refused(&run(&["--datadir", "etc"]), &["\"passwd\"", "--datadir"]);
    fs::create_dir_all(home.path().join("core/regtest/blocks")).expect("made");
    home.refused(
        &["run", "--network", "signet", "--datadir", "core"],
        &["\"regtest/blocks\"", "--datadir"],
    );
    fs::create_dir(home.path().join("logs")).expect("made");
    fs::write(home.path().join("logs/app.log"), "started").expect("written");
    home.refused(&run(&["--datadir", "logs"]), &["\"app.log\"", "--datadir"]);
    // A configuration and the output of the first start are no reason.
    let own = home.path().join("own");
    fs::create_dir(&own).expect("made");
    fs::write(own.join("handfast.toml"), "max-inbound = 'x'").expect("written");
    fs::write(own.join("first.log"), "").expect("written");
    home.refused(&run(&["--datadir", "own"]), &["line 1: max-inbound"]);
}

#[test]
fn a_testnet_takes_no_directory_that_somebody_else_uses() {
    let home = Home::new();
    let etc = home.path().join("etc");
    fs::create_dir(&etc).expect("made");
    fs::write(etc.join("passwd"), "root").expect("written");
    home.refused(
        &["testnet", "--datadir", "etc"],
        &["\"passwd\"", "--datadir"],
    );
    std::os::unix::fs::symlink("circle", home.path().join("circle")).expect("made");
    home.refused(
        &["testnet", "--datadir", "circle"],
        &["--datadir: ", "symbolic links"],
    );
}

#[test]
fn a_directory_that_leads_nowhere_or_is_locked_is_named_as_the_cause() {
    let home = Home::new();
    let (at, away) = (home.path().join("at"), home.path().join("away"));
    std::os::unix::fs::symlink(&away, &at).expect("made");
    home.refused(&run(&["--datadir", "at"]), &["--datadir: ", "away, which"]);
    fs::create_dir(home.path().join("data")).expect("made");
    let network = home.path().join("data/regtest");
    std::os::unix::fs::symlink(&away, &network).expect("made");
    home.refused(
        &run(&["--datadir", "data"]),
        &["data/regtest: it is a link"],
    );

    // As a user who may not look into it. To root everything is open.
    let locked = home.path().join("locked");
    fs::create_dir(&locked).expect("made");
    let mode = |path: &Path, bits| {
        fs::set_permissions(path, fs::Permissions::from_mode(bits)).expect("it is ours");
    };
    mode(&locked, 0o000);
    mode(home.path(), 0o711);
    let output = Command::new("setpriv")
        .args(["--reuid=65534", "--clear-groups"])
        .arg(Program::Handfast.path())
        .args(["status", "--datadir"])
        .arg(&locked)
        .output();
    mode(&locked, 0o700);
    let output = output.expect("util-linux is installed");
    let line = String::from_utf8_lossy(&output.stderr);
    if !rustix::process::geteuid().is_root() || line.contains("setpriv") {
        return;
    }
    let start = format!("handfast: --datadir: {} cannot be used", locked.display());
    assert!(line.starts_with(&start), "{line}");
}

#[test]
fn a_path_that_cannot_be_names_its_own_option() {
    let home = Home::new();
    home.refused(&run(&["--rpc-socket", ""]), &["--rpc-socket: \"\""]);
    let endless = "x".repeat(300);
    home.refused(&run(&["--datadir", &endless]), &["--datadir: ", "too long"]);
    std::os::unix::fs::symlink("circle", home.path().join("circle")).expect("made");
    for command in [
        &run(&["--datadir", "circle"])[..],
        &["status", "--datadir", "circle"],
    ] {
        home.refused(command, &["--datadir: ", "circle", "symbolic links"]);
    }
    let long = "y".repeat(100);
    home.refused(
        &run(&["--datadir", &long]),
        &["--datadir: the RPC socket", "at most 100"],
    );
}

#[test]
fn the_directory_of_one_network_is_refused_as_data_directory_and_the_right_one_is_named() {
    let home = Home::new();
    let network = home.path().join("data/regtest");
    fs::create_dir_all(&network).expect("made");
    let marker = "handfast data directory, format 1\nregtest\n";
    fs::write(network.join("network"), marker).expect("written");
    let right = format!("--datadir {}", home.path().join("data").display());
    for command in [
        &run(&["--datadir", "data/regtest"])[..],
        &["status", "--datadir", "data/regtest"],
        &["rpc", "--datadir", "data/regtest", "uptime"],
        &["testnet", "--datadir", "data/regtest"],
    ] {
        home.refused(command, &["directory of one network", &right]);
    }
}

#[test]
fn an_option_before_its_command_is_answered_with_where_it_goes() {
    let home = Home::new();
    home.refused(
        &["--network", "signet", "rpc", "uptime"],
        &[
            "--network goes behind the command",
            "`handfast rpc --network …`",
        ],
    );
}

#[test]
fn a_slip_is_answered_with_what_was_meant_and_nothing_else_is_guessed() {
    let home = Home::new();
    home.refused(&["run", "--max-inbond", "3"], &["is --max-inbound meant?"]);
    home.refused(&["stauts"], &["is status meant?"]);
    home.refused(&["rnu"], &["is run meant?", "see `handfast --help`"]);
    let meant = "is --network regtest meant?";
    home.refused(&["run", "-regtest"], &[meant, "see `handfast run --help`"]);
    home.refused(&["run", "-datadir=x"], &["is --datadir meant?"]);
    home.refused(&["run", "-test"], &["is --network testnet3 meant?"]);
    home.refused(
        &["run", "--mine=yes"],
        &["--mine takes no value", "\"yes\""],
    );
    for guessed in [
        &["start"][..],
        &["run", "--test"],
        &["run", "--zzz"],
        &["rpc", "--zzz", "uptime"],
    ] {
        let output = home.handfast(guessed);
        let line = String::from_utf8(output.stderr).expect("UTF-8");
        assert_eq!(output.status.code(), Some(1), "{line}");
        for misleading in ["status", "meant", "as a value", "tip:"] {
            assert!(!line.contains(misleading), "{guessed:?}: {line}");
        }
    }
}

#[test]
fn a_hint_keeps_the_directory_and_names_no_network_that_was_not_named() {
    let home = Home::new();
    let dir = home.path().join("my data");
    let named = ["status", "--network", "signet", "--datadir", "my data"];
    let kept = format!(
        "handfast run --network signet --datadir '{}'`",
        dir.display()
    );
    home.refused(&named, &[&kept]);
    let output = home.handfast(&["status"]);
    let line = String::from_utf8(output.stderr).expect("UTF-8");
    assert!(line.contains("handfast run --network NAME`"), "{line}");
    assert!(!line.contains("--network mainnet"), "{line}");
    home.refused(&[], &["handfast run --network regtest"]);
}

#[test]
fn calls_to_a_node_that_does_not_run_say_so_and_how_to_start_one() {
    let home = Home::new();
    for command in [
        &["status", "--network", "signet"][..],
        &["rpc", "--network", "signet", "uptime"],
    ] {
        home.refused(
            command,
            &["no signet node is running", "handfast run --network signet"],
        );
    }
    home.refused(&["rpc", "getblockhash", "ten"], &["\"height\"", "\"ten\""]);
}

#[test]
fn a_port_that_belongs_to_another_program_is_told_from_a_node() {
    let home = Home::new();
    let other = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let addr = other.local_addr().expect("bound").to_string();
    fs::create_dir_all(home.path().join(".handfast/regtest")).expect("made");
    fs::write(
        home.path().join(".handfast/regtest/.cookie"),
        "__cookie__:00",
    )
    .expect("written");
    let answer = std::thread::spawn(move || {
        use std::io::{Read, Write};
        let (mut stream, _) = other.accept().expect("a caller");
        let mut request = [0; 512];
        let _ = stream.read(&mut request).expect("a request");
        stream
            .write_all(b"220 mail.example.org\r\n")
            .expect("written");
    });
    home.refused(
        &["status", "--network", "regtest", "--rpc-listen", &addr],
        &[&addr, "HTTP", "--rpc-listen"],
    );
    answer.join().expect("the stand-in ends");
}
