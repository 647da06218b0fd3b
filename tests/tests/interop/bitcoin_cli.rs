//! The real `bitcoin-cli` against our node: it cannot tell it from Bitcoin Core's.

use std::io::Write;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::{Command, Output, Stdio};
use std::time::Duration;

use handfast_tests::process::{Node, Program, Setup, free_address};
use handfast_tests::rpc::Endpoint;
use handfast_tests::wait::{poll, wait_for};
use handfast_wire::Network;

/// `bitcoin-cli` on regtest, with the address and the cookie of one node.
struct Cli {
    address: SocketAddr,
    cookie: PathBuf,
}

impl Cli {
    fn of(node: &Node) -> Self {
        let Endpoint::Tcp(address) = node.rpc().endpoint() else {
            panic!("bitcoin-cli speaks TCP");
        };
        Self {
            address: *address,
            cookie: node.setup().network_dir().join(".cookie"),
        }
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let program = Program::Bitcoind.path().with_file_name("bitcoin-cli");
        let mut command = Command::new(program);
        command
            .arg("-regtest")
            // No configuration of whoever runs the test.
            .arg("-conf=/dev/null")
            .arg(format!("-rpcconnect={}", self.address.ip()))
            .arg(format!("-rpcport={}", self.address.port()))
            .arg(format!("-rpccookiefile={}", self.cookie.display()))
            .arg("-rpcclienttimeout=60")
            .args(arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        command
    }

    /// Runs it with `input` to read.
    fn run(&self, arguments: &[&str], input: &str) -> Output {
        let mut child = self.command(arguments).spawn().expect("it starts");
        let mut stdin = child.stdin.take().expect("piped");
        stdin.write_all(input.as_bytes()).expect("it reads");
        drop(stdin);
        child.wait_with_output().expect("it ends")
    }

    /// What it prints if all goes well.
    #[track_caller]
    fn text(&self, arguments: &[&str]) -> String {
        text(&self.run(arguments, ""))
    }
}

#[track_caller]
fn text(output: &Output) -> String {
    let complaint = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{complaint}");
    String::from_utf8(output.stdout.clone()).expect("UTF-8")
}

/// Ours and Bitcoin Core's, connected.
fn pair() -> (Node, Node) {
    let core = Setup::bitcoind(Network::Regtest).start();
    let ours = Setup::handfast(Network::Regtest)
        .connect(core.p2p())
        .start();
    wait_for("they are connected", || {
        (ours.peers().len() == 1 && core.peers().len() == 1).then_some(())
    });
    (ours, core)
}

#[test]
fn getinfo_shows_our_node() {
    let (ours, _core) = pair();
    let shown = Cli::of(&ours).text(&["-getinfo"]);
    for line in [
        "Chain: regtest",
        "Blocks: 0",
        "Headers: 0",
        "Network: in 0, out 1, total 1",
        "Version: 319900",
        "Warnings: (none)",
    ] {
        assert!(
            shown.lines().any(|shown| shown == line),
            "{line:?} is missing in:\n{shown}"
        );
    }
}

#[test]
fn netinfo_counts_our_peers() {
    let (ours, core) = pair();
    let full = Cli::of(&ours).text(&["-netinfo", "4"]);
    let address = core.p2p().to_string();
    assert!(full.contains("manual") && full.contains(&address), "{full}");
    let shown = Cli::of(&ours).text(&["-netinfo"]);
    assert!(
        shown.contains("regtest - server 70016/Handfast:"),
        "{shown}"
    );
    let words = |first: &str| {
        let line = shown
            .lines()
            .map(|line| line.split_whitespace().collect::<Vec<_>>())
            .find(|words| words.first() == Some(&first));
        line.unwrap_or_else(|| panic!("no row {first} in:\n{shown}"))
    };
    // Loopback is "npr", not publicly routable.
    let columns = words("ipv4");
    assert_eq!(columns, ["ipv4", "ipv6", "npr", "total", "block", "manual"]);
    assert_eq!(words("in"), ["in", "0", "0", "0", "0"]);
    assert_eq!(words("out"), ["out", "0", "0", "1", "1", "0", "1"]);
    assert_eq!(words("total"), ["total", "0", "0", "1", "1"]);
}

#[test]
fn rpcwait_waits_for_a_node_that_is_not_there_yet() {
    let address = free_address();
    let setup = Setup::handfast(Network::Regtest)
        .arg("--rpc-listen")
        .arg(address.to_string());
    let cli = Cli {
        address,
        cookie: setup.network_dir().join(".cookie"),
    };
    let refused = cli.run(&["getblockcount"], "");
    assert!(!refused.status.success(), "nobody is there");
    let mut waiting = cli
        .command(&["-rpcwait", "getblockcount"])
        .spawn()
        .expect("it starts");
    let gave_up = poll(Duration::from_millis(500), || {
        waiting.try_wait().expect("a child can be waited for")
    });
    assert_eq!(gave_up, None, "it waits while nobody is there");
    let _node = setup.spawn();
    assert_eq!(text(&waiting.wait_with_output().expect("it ends")), "0\n");
}

#[test]
fn calls_and_mistakes_give_the_same_as_with_bitcoin_core() {
    let (ours, core) = pair();
    let both = [Cli::of(&ours), Cli::of(&core)];
    let hash = Network::Regtest.genesis().block_hash().to_string();
    let named = format!("blockhash={hash}");
    for (arguments, input) in [
        (&["getblockcount"][..], ""),
        (&["getbestblockhash"], ""),
        (&["getblockhash", "0"], ""),
        (&["-stdin", "getblockhash"], "0\n"),
        (&["-stdin", "getblock"], &format!("{hash}\n0\n")),
        (&["-named", "getblock", &named, "verbosity=2"], ""),
        (&["-named", "getblockheader", &named, "verbose=false"], ""),
        (&["getblockhash", "7"], ""),
        (&["getblockhash", "\"0\""], ""),
        (&["getblockhash", "0", "1", "2"], ""),
        (&["getblock", "00"], ""),
        (&["-named", "getblock", "hash=00"], ""),
        (&["nosuchmethod"], ""),
    ] {
        let [ours, theirs] = both.each_ref().map(|cli| cli.run(arguments, input));
        assert_eq!(ours.status.code(), theirs.status.code(), "{arguments:?}");
        assert_eq!(ours.stdout, theirs.stdout, "{arguments:?}");
        // Of a wrong number of arguments Core tells its help; ours has words of its own.
        let [said, expected] = [ours, theirs].map(|output| {
            let text = String::from_utf8_lossy(&output.stderr).into_owned();
            text.lines().take(2).map(str::to_owned).collect::<Vec<_>>()
        });
        assert_eq!(said, expected, "{arguments:?}");
    }
}
