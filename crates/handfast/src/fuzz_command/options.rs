//! The options of `handfast fuzz`, checked.

use std::net::{SocketAddr, ToSocketAddrs};
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use bitcoin::hex::FromHex;
use clap::ArgMatches;
use handfast_cli::{Hints, NodeLocation, network_called};
use handfast_fuzz::oracle::ANSWER_TIMEOUT;
use handfast_fuzz::plan::Limit;
use handfast_fuzz::target::{Refusal, permit};
use handfast_fuzz::terms::{MIX, is_minable, shares, unix_time};
use handfast_fuzz::trace::{ReplayEntry, Trace};
use handfast_fuzz::writer::PeerParams;
use handfast_fuzz::{Endpoints, Plan, Scenario, SourceRange};
use handfast_wire::Network;

use super::terms::{answered, interface};

/// Default number of connections at a time.
pub(super) const CONCURRENCY: u64 = 100;
/// Default number of connections in all.
pub(super) const CYCLES: u64 = 10_000;
/// Default duration of a run, seconds: long enough for connections that wait for the target's
/// handshake timeout, usually 60 s.
pub(super) const DURATION: u64 = 90;
/// Longest duration, seconds: a day.
pub(super) const MAX_DURATION: u64 = 86_400;

/// The options of a run.
pub(super) struct Setup {
    pub(super) target: SocketAddr,
    pub(super) network: Network,
    pub(super) scenarios: Vec<String>,
    pub(super) plan: Plan,
    pub(super) params: PeerParams,
    pub(super) sources: Option<SourceRange>,
    pub(super) mines: bool,
    pub(super) answer_timeout: Duration,
    pub(super) report: Option<PathBuf>,
    pub(super) rpc: Option<NodeLocation>,
    /// Whether files of an earlier run are replaced.
    pub(super) overwrite: bool,
    /// The file of the trace.
    pub(super) trace: Option<PathBuf>,
    /// Connections to replay; empty: the plan is run.
    pub(super) entries: Vec<ReplayEntry>,
    /// The command line as it was given.
    given: Vec<String>,
}

impl Setup {
    /// The sockets of the target. The cookie is read now, after the target has started.
    pub(super) fn endpoints(&self) -> Result<Endpoints, String> {
        Ok(Endpoints {
            p2p: self.target.into(),
            rpc: self.rpc.as_ref().map(interface).transpose()?,
        })
    }

    /// The command that repeats this run: the same words, and the seed, unless a trace has it.
    pub(super) fn command(&self) -> String {
        let mut words = self.given.clone();
        let is_seed = |word: &String| word == "--seed" || word.starts_with("--seed=");
        if self.entries.is_empty() && !words.iter().any(is_seed) {
            words.extend(["--seed".to_owned(), self.plan.seed.to_string()]);
        }
        // The files of this run would stop the next one.
        let writes = self.report.is_some() || self.trace.is_some();
        if writes && !words.iter().any(|word| word == "--overwrite") {
            words.push("--overwrite".to_owned());
        }
        let words: Vec<&str> = words.iter().map(String::as_str).collect();
        shlex::try_join(words).unwrap_or_default()
    }
}

/// Reads and checks the options.
pub(super) fn setup(matches: &ArgMatches) -> Result<Setup, String> {
    let network = network(matches)?;
    let params = params(matches, &network)?;
    let target = resolve(word(matches, "target").unwrap_or_default())?;
    let rpc = rpc(matches, &network)?;
    permitted(matches, &network, &params, target, rpc.as_ref())?;
    let names = names(matches);
    let shares = shares(&names, rpc.is_some())?;
    answered(params.version, shares.iter().map(|share| share.scenario))?;
    let wanted = |name| matches.get_one::<u64>(name).copied();
    let sources = word(matches, "source-range").map(SourceRange::from_str);
    Ok(Setup {
        target,
        scenarios: names,
        plan: Plan {
            seed: wanted("seed").unwrap_or_else(Plan::any_seed),
            shares,
            concurrency: usize::try_from(wanted("concurrency").unwrap_or(CONCURRENCY))
                .expect("at most 20,000"),
            limit: limit(wanted("cycles"), span(matches, "duration")),
            rate: wanted("rate").map(|rate| u32::try_from(rate).expect("at most a million")),
            answer_timeout: Plan::ANSWER_TIMEOUT,
        },
        mines: is_minable(&network),
        params,
        sources: sources.transpose().map_err(|error| error.to_string())?,
        answer_timeout: span(matches, "answer-timeout").unwrap_or(ANSWER_TIMEOUT),
        report: matches.get_one::<PathBuf>("report").cloned(),
        overwrite: matches.get_flag("overwrite"),
        trace: matches.get_one::<PathBuf>("trace").cloned(),
        entries: Vec::new(),
        rpc,
        network,
        given: std::env::args().collect(),
    })
}

/// Reads the trace given by the user.
pub(super) fn trace(matches: &ArgMatches) -> Result<Trace, String> {
    let path = matches
        .get_one::<PathBuf>("FILE")
        .expect("clap requires it");
    Trace::load(path).map_err(|error| error.to_string())
}

/// Replays a trace, against its target or another one.
pub(super) fn replay(matches: &ArgMatches) -> Result<Setup, String> {
    let path = matches
        .get_one::<PathBuf>("FILE")
        .expect("clap requires it");
    let trace = trace(matches)?;
    let network = trace.network().map_err(|error| format!("{error}"))?;
    let params = trace.params(PeerParams::new(&network, trace.time));
    let target = resolve(word(matches, "target").unwrap_or(&trace.target))?;
    let rpc = rpc(matches, &network)?;
    permitted(matches, &network, &params, target, rpc.as_ref())?;
    let entries = trace.entries(path).map_err(|error| error.to_string())?;
    if entries.is_empty() {
        return Err(format!("{}: it contains no connection", path.display()));
    }
    answered(
        params.version,
        entries.iter().map(|entry| entry.part.scenario),
    )?;
    let calls = |entry: &ReplayEntry| entry.part.scenario == Scenario::RpcBurst;
    if rpc.is_none() && entries.iter().any(calls) {
        let path = path.display();
        return Err(format!(
            "{path}: it contains RPC calls: give the RPC with --rpc or --rpc-socket"
        ));
    }
    Ok(Setup {
        target,
        scenarios: vec![format!("those of {}", path.display())],
        plan: Plan {
            seed: trace.seed,
            shares: Plan::mix(false),
            concurrency: usize::try_from(trace.concurrency)
                .unwrap_or(entries.len())
                .max(1),
            limit: limit(Some(entries.len() as u64), None),
            rate: None,
            answer_timeout: Plan::ANSWER_TIMEOUT,
        },
        mines: is_minable(&network),
        params,
        sources: None,
        answer_timeout: span(matches, "answer-timeout").unwrap_or(ANSWER_TIMEOUT),
        // Runs that shrink a trace have no report.
        report: matches.try_get_one("report").ok().flatten().cloned(),
        overwrite: matches.get_flag("overwrite"),
        trace: None,
        rpc,
        network,
        entries,
        given: std::env::args().collect(),
    })
}

/// Refuses targets and RPCs that must not be fuzzed.
fn permitted(
    matches: &ArgMatches,
    network: &Network,
    params: &PeerParams,
    target: SocketAddr,
    rpc: Option<&NodeLocation>,
) -> Result<(), String> {
    let own = matches.get_flag("i-operate-this-node");
    // A network is identified by its message start bytes, whatever its name.
    let is_mainnet = params.magic == Network::Mainnet.magic().to_bytes();
    let network = match is_mainnet {
        true => &Network::Mainnet,
        false => network,
    };
    let of_rpc = rpc.iter().flat_map(|place| &place.rpc_listen).copied();
    for address in of_rpc.chain([target]) {
        permit(address, network, own).map_err(|error| error.to_string())?;
    }
    Ok(())
}

fn word<'a>(matches: &'a ArgMatches, name: &str) -> Option<&'a str> {
    matches.get_one::<String>(name).map(String::as_str)
}

fn span(matches: &ArgMatches, name: &str) -> Option<Duration> {
    matches.get_one::<Duration>(name).copied()
}

/// If one limit is given, the other one does not apply.
fn limit(cycles: Option<u64>, duration: Option<Duration>) -> Limit {
    let (cycles, duration) = match (cycles, duration) {
        (Some(cycles), Some(duration)) => (cycles, duration),
        (Some(cycles), None) => (cycles, Duration::from_secs(MAX_DURATION)),
        (None, Some(duration)) => (u64::MAX, duration),
        (None, None) => (CYCLES, Duration::from_secs(DURATION)),
    };
    Limit { cycles, duration }
}

fn network(matches: &ArgMatches) -> Result<Network, String> {
    let name = word(matches, "network").unwrap_or("regtest");
    let of_the_main_one = ["mainnet", "main", "bitcoin"];
    if of_the_main_one
        .iter()
        .any(|it| name.eq_ignore_ascii_case(it))
    {
        return Err(Refusal::Mainnet.to_string());
    }
    // Not the error of the name itself, which lists mainnet.
    let network = network_called(name).ok_or_else(|| {
        format!("unknown network {name:?}: choose regtest, signet, testnet3 or testnet4")
    })?;
    match (network, word(matches, "signet-challenge")) {
        (network, None) => Ok(network),
        (Network::Signet, Some(hex)) => {
            let challenge = Vec::<u8>::from_hex(hex)
                .map_err(|error| format!("--signet-challenge {hex:?} is no hex: {error}"))?;
            Ok(Network::CustomSignet { challenge })
        }
        (_, Some(_)) => Err("--signet-challenge is for --network signet".into()),
    }
}

fn resolve(target: &str) -> Result<SocketAddr, String> {
    let wrong = |why: String| format!("--target {target:?} is no address: {why}; give HOST:PORT");
    let port = target.rsplit_once(':').map(|(_, port)| port);
    if port.is_none_or(|port| port.parse::<u16>().is_err()) {
        return Err(wrong("it has no port".to_owned()));
    }
    let mut found = target
        .to_socket_addrs()
        .map_err(|error| wrong(handfast_proto::text::system_words(&error)))?;
    found
        .next()
        .ok_or_else(|| wrong("nothing was found".into()))
}

fn names(matches: &ArgMatches) -> Vec<String> {
    let names = matches.get_many::<String>("scenario");
    names.map_or_else(|| vec![MIX.to_owned()], |names| names.cloned().collect())
}

fn params(matches: &ArgMatches, network: &Network) -> Result<PeerParams, String> {
    let mut params = PeerParams::new(network, unix_time());
    if let Some(hex) = word(matches, "magic") {
        params.magic = <[u8; 4]>::from_hex(hex)
            .map_err(|_| format!("--magic {hex:?} is not four bytes of hex, e.g. fabfb5da"))?;
    }
    if let Some(version) = matches.get_one::<i32>("protocol-version") {
        params.version = *version;
    }
    if let Some(deadline) = span(matches, "handshake-deadline") {
        params.handshake_deadline = deadline;
    }
    Ok(params)
}

/// The location of the target's RPC, as our own client uses it.
fn rpc(matches: &ArgMatches, network: &Network) -> Result<Option<NodeLocation>, String> {
    let nowhere = PathBuf::new();
    let place = |listen, socket, cookie| NodeLocation {
        network: network.clone(),
        network_dir: PathBuf::new(),
        rpc_listen: listen,
        rpc_socket: socket,
        cookie,
        hints: Hints::default(),
    };
    if let Some(socket) = matches.get_one::<PathBuf>("rpc-socket") {
        return Ok(Some(place(vec![], socket.clone(), nowhere)));
    }
    let Some(url) = word(matches, "rpc") else {
        return Ok(None);
    };
    let host = url
        .strip_prefix("http://")
        .unwrap_or(url)
        .trim_end_matches('/');
    let address = host
        .to_socket_addrs()
        .ok()
        .and_then(|mut found| found.next());
    let address = address
        .ok_or_else(|| format!("--rpc {url:?} is no address; give it as http://127.0.0.1:18443"))?;
    let cookie = matches.get_one::<PathBuf>("rpc-cookie").cloned();
    let cookie = cookie.ok_or("--rpc needs --rpc-cookie FILE to log in with")?;
    Ok(Some(place(vec![address], nowhere, cookie)))
}

#[cfg(test)]
mod tests {
    use handfast_fuzz::trace::{LeftOut, Record};

    use super::super::cli::command;
    use super::*;

    fn parsed(line: &str) -> Result<Setup, String> {
        let words = format!("fuzz run {line}");
        let matches = command()
            .try_get_matches_from(words.split_whitespace())
            .map_err(|error| error.to_string())?;
        let (_, matches) = matches.subcommand().expect("run");
        setup(matches)
    }

    fn refused(line: &str) -> String {
        match parsed(line) {
            Ok(_) => panic!("{line} must be refused"),
            Err(error) => error,
        }
    }

    #[test]
    fn unset_limits_have_defaults() {
        let setup = parsed("--target 127.0.0.1:18444").expect("enough to begin");
        assert_eq!(setup.plan.limit.cycles, CYCLES);
        assert_eq!(setup.plan.limit.duration, Duration::from_secs(DURATION));
        assert_eq!(setup.scenarios, [MIX]);
        assert!(setup.mines && setup.rpc.is_none());
        let long = parsed("--target 127.0.0.1:1 --duration 2m").expect("a time is a bound");
        assert_eq!(long.plan.limit.duration, Duration::from_secs(120));
        assert_eq!(long.plan.limit.cycles, u64::MAX);
    }

    #[test]
    fn the_printed_command_repeats_the_run_and_overwrites_its_files() {
        let mut setup = parsed("--target 127.0.0.1:1 --report out").expect("right");
        let again = |setup: &Setup| setup.command();
        assert!(again(&setup).ends_with(" --overwrite"), "{}", again(&setup));
        setup.given.push("--overwrite".to_owned());
        assert_eq!(again(&setup).matches("--overwrite").count(), 1);
        let none = parsed("--target 127.0.0.1:1").expect("right");
        assert!(!again(&none).contains("--overwrite"), "{}", again(&none));
    }

    #[test]
    fn wrong_options_are_reported_with_the_remedy() {
        for (line, part) in [
            ("--target 8.8.8.8:18444", "--i-operate-this-node"),
            (
                "--target 127.0.0.1:8333 --network mainnet --i-operate-this-node",
                "mainnet",
            ),
            (
                "--target 127.0.0.1:1 --network MAINNET",
                "not a network to fuzz",
            ),
            (
                "--target 127.0.0.1:1 --network bitcoin",
                "not a network to fuzz",
            ),
            ("--target nonsense", "it has no port; give HOST:PORT"),
            ("--target 127.0.0.1:1 --network moon", "choose regtest"),
            (
                "--target 127.0.0.1:1 --scenario nonsense",
                "handfast fuzz scenarios",
            ),
            ("--target 127.0.0.1:1 --scenario rpc-burst", "--rpc-socket"),
            (
                "--target 127.0.0.1:1 --rpc http://127.0.0.1:2",
                "--rpc-cookie",
            ),
            ("--target 127.0.0.1:1 --magic fab", "four bytes"),
            ("--target 127.0.0.1:1 --magic f9beb4d9", "mainnet"),
            ("--target 127.0.0.1:1 --source-range 10", "127.1.0.0/16"),
            (
                "--target 127.0.0.1:1 --signet-challenge 51",
                "--network signet",
            ),
            ("--target 127.0.0.1:1 --concurrency 0", "1..="),
            ("--target 127.0.0.1:1 --duration 2d", "90s, 5m or 2h"),
            ("--target 127.0.0.1:1 --answer-timeout 2h", "1s to 1h"),
            ("--target 127.0.0.1:1 --handshake-deadline 0", "1s to 1h"),
            (
                "--target 127.0.0.1:1 --protocol-version 60000 --scenario reset",
                "no pong (BIP31), for which reset wait",
            ),
            ("--target 127.0.0.1:1 --protocol-version 60000", "60001"),
        ] {
            let error = refused(line);
            assert!(error.contains(part), "{line}: {error}");
        }
    }

    #[test]
    fn runs_that_shrink_a_trace_write_no_report() {
        let parsed = |more: &[&str]| {
            let words = ["fuzz", "shrink", "x", "--start", "y", "--output", "z"];
            command().try_get_matches_from([&words, more].concat())
        };
        assert!(parsed(&[]).is_ok());
        let error = parsed(&["--report", "out"]).expect_err("no report");
        assert!(error.to_string().contains("--report"), "{error}");
    }

    fn replayed(trace: &Trace) -> Result<Setup, String> {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("run.trace");
        trace.save(&path).expect("writable");
        let words = ["fuzz", "replay", path.to_str().expect("UTF-8")];
        let matches = command().try_get_matches_from(words).expect("a file");
        let (_, matches) = matches.subcommand().expect("replay");
        replay(matches)
    }

    fn trace_of(network: &str, magic: [u8; 4]) -> Trace {
        let record = Record {
            number: 0,
            scenario: "reset".into(),
            seed: 1,
            source: None,
            begun: 0,
            opening: None,
            events: Vec::new(),
            ended: String::new(),
        };
        Trace {
            target: "127.0.0.1:18444".into(),
            network: network.into(),
            signet_challenge: None,
            magic,
            version: 70_016,
            time: 1_700_000_000,
            handshake_deadline: 60_000,
            height: 0,
            seed: 7,
            concurrency: 20,
            waves: false,
            verdict: "stuck sync".into(),
            connections: vec![record],
            left_out: LeftOut::default(),
        }
    }

    #[test]
    fn a_replay_on_a_custom_signet_checks_blocks_as_the_run_did() {
        let own = replayed(&trace_of("regtest", [0x0a, 0x0b, 0x0c, 0x0d])).expect("a trace");
        assert!(own.mines, "what is stuck is found by a block");
        assert_eq!(own.params.magic, [0x0a, 0x0b, 0x0c, 0x0d]);
        let run = parsed("--target 127.0.0.1:1 --magic 0a0b0c0d").expect("a run");
        assert_eq!(run.mines, own.mines);
        let public = replayed(&trace_of("testnet4", [1; 4])).expect("a trace");
        assert!(!public.mines);
    }

    #[test]
    fn the_command_to_repeat_a_run_has_the_seed_and_that_of_a_replay_has_none() {
        let line = "--target 127.0.0.1:1";
        let mut setup = parsed(line).expect("enough to begin");
        setup.given = vec!["handfast".into(), "fuzz".into()];
        let seed = setup.plan.seed;
        assert_eq!(setup.command(), format!("handfast fuzz --seed {seed}"));
        setup.entries = vec![ReplayEntry {
            part: setup.plan.part(0),
            source: None,
            at: Duration::ZERO,
            opening: None,
            together: false,
        }];
        assert_eq!(setup.command(), "handfast fuzz");
    }

    #[test]
    fn a_version_without_pongs_can_run_scenarios_that_wait_for_none() {
        let line = "--target 127.0.0.1:1 --protocol-version 60000 --scenario handshake-drop";
        assert!(parsed(line).is_ok());
        let above = "--target 127.0.0.1:1 --protocol-version 60001";
        assert!(parsed(above).is_ok());
    }

    #[test]
    fn scenarios_add_up() {
        let line = "--target 127.0.0.1:1 --scenario reset --scenario burst";
        let setup = parsed(line).expect("two scenarios");
        let played: Vec<Scenario> = setup.plan.shares.iter().map(|it| it.scenario).collect();
        assert_eq!(played, [Scenario::Reset, Scenario::Burst]);
    }
}
