use std::fs;
use std::path::Path;

use handfast_cli::keys::Key;
use handfast_node::Network;

use super::*;

/// What `run` would make of a command line and a configuration file.
fn settle(options: &[(&str, &str)], file: &str) -> Result<RunSettings, RunError> {
    let home = tempfile::tempdir().expect("a temporary directory");
    let mut layers = Layers::default();
    let datadir = home.path().join("data").display().to_string();
    layers.command_line(keys::DATADIR, vec![datadir]);
    for (key, value) in options {
        let key = Key::find(key).expect("a key");
        layers.command_line(key, vec![(*value).to_owned()]);
    }
    layers.add_file(Path::new("handfast.toml"), file)?;
    run_settings(&layers)
}

#[track_caller]
fn refused(options: &[(&str, &str)], file: &str, parts: &[&str]) {
    let line = settle(options, file).expect_err("refused").to_string();
    assert!(!line.contains('\n'), "one line: {line}");
    for part in parts {
        assert!(line.contains(part), "{part:?} is missing in: {line}");
    }
}

#[test]
fn every_sample_parses_and_names_its_network() {
    for (sample, network) in [
        (
            include_str!("../../../../config/mainnet.toml"),
            Network::Mainnet,
        ),
        (
            include_str!("../../../../config/testnet4.toml"),
            Network::Testnet4,
        ),
        (
            include_str!("../../../../config/testnet3.toml"),
            Network::Testnet3,
        ),
        (
            include_str!("../../../../config/signet.toml"),
            Network::Signet,
        ),
        (
            include_str!("../../../../config/custom-signet.toml"),
            Network::CustomSignet {
                challenge: vec![0x51],
            },
        ),
        (
            include_str!("../../../../config/regtest.toml"),
            Network::Regtest,
        ),
    ] {
        let settings = settle(&[], sample).expect("a sample is valid");
        assert_eq!(settings.place.network, network);
        let defaults = settle(&[("network", network.name())], "").expect("valid");
        assert_eq!(
            settings.place.rpc_listen, defaults.place.rpc_listen,
            "{network:?}: the sample shows the defaults"
        );
    }
}

#[test]
fn the_command_line_wins_over_the_file_key_by_key() {
    let file = "network = 'regtest'\nbacklog = 9\nmax-inbound = 7\nconnect = ['a:1', 'b:2']\nlog = 'debug'";
    let settings = settle(&[("connect", "c:3"), ("max-inbound", "9")], file).expect("valid");
    assert_eq!(settings.connect, ["c:3"]);
    assert_eq!(settings.max_inbound, 9);
    assert_eq!(settings.backlog, 9);
    assert_eq!(settle(&[], "").expect("valid").backlog, 4096);
    assert_eq!(settings.log, "debug");
    assert_eq!(settings.place.network, Network::Regtest);
}

#[test]
fn listen_and_no_listen_are_one_question_that_the_command_line_answers() {
    let listen =
        |options: &[(&str, &str)], file: &str| settle(options, file).expect("valid").listen;
    let five = ["127.0.0.1:5".parse().expect("valid")];
    assert_eq!(
        listen(&[("listen", "127.0.0.1:5")], "no-listen = true"),
        five
    );
    assert_eq!(
        listen(&[("no-listen", "true")], "listen = '127.0.0.1:5'"),
        []
    );
    assert_eq!(
        listen(&[], "listen = '127.0.0.1:5'\nno-listen = false"),
        five
    );
    refused(
        &[],
        "listen = '127.0.0.1:5'\nno-listen = true",
        &["handfast.toml: line 1: listen", "no-listen", "contradict"],
    );
}

#[test]
fn discover_is_unset_without_an_option() {
    let discover =
        |options: &[(&str, &str)], file: &str| settle(options, file).expect("valid").discover;
    assert_eq!(discover(&[], ""), None);
    assert_eq!(discover(&[], "discover = true"), Some(true));
    assert_eq!(discover(&[], "no-discover = true"), Some(false));
    let off = [("no-discover", "true")];
    assert_eq!(discover(&off, "discover = true"), Some(false));
    let on = [("discover", "true")];
    assert_eq!(discover(&on, "no-discover = true"), Some(true));
    refused(
        &[],
        "discover = true\nno-discover = true",
        &["line 1: discover", "no-discover", "contradict"],
    );
}

#[test]
fn addresses_get_the_port_of_the_network_when_they_have_none() {
    let file = "network = 'signet'\nlisten = ['127.0.0.1', '::1', '[::2]', '[::1]:9']\nrpc-listen = '127.0.0.2'";
    let settings = settle(&[], file).expect("valid");
    let shown: Vec<String> = settings.listen.iter().map(ToString::to_string).collect();
    assert_eq!(
        shown,
        ["127.0.0.1:38333", "[::1]:38333", "[::2]:38333", "[::1]:9"]
    );
    assert_eq!(
        settings.place.rpc_listen,
        ["127.0.0.2:38332".parse().expect("valid")]
    );
}

#[test]
fn an_address_that_is_given_twice_is_refused_before_anything_is_bound() {
    for key in ["listen", "rpc-listen"] {
        let file = format!("network = 'regtest'\n{key} = ['127.0.0.1:5', '127.0.0.1:5']");
        refused(&[], &file, &[key, "127.0.0.1:5", "given once"]);
        let any_port = format!("network = 'regtest'\n{key} = ['127.0.0.1:0', '127.0.0.1:0']");
        settle(&[], &any_port).expect("two ports");
    }
}

#[test]
fn a_socket_in_a_directory_that_does_not_exist_is_refused() {
    refused(
        &[("rpc-socket", "/nowhere/at/all/node.sock")],
        "network = 'regtest'",
        &["--rpc-socket", "/nowhere/at/all/node.sock", "exists"],
    );
}

#[test]
fn a_regtest_node_listens_to_its_own_machine_only() {
    let settings = settle(&[("network", "regtest")], "").expect("valid");
    assert_eq!(settings.listen, ["127.0.0.1:18444".parse().expect("valid")]);
    let settings = settle(&[], "").expect("valid");
    assert_eq!(
        settings.listen.first(),
        Some(&"0.0.0.0:8333".parse().expect("valid"))
    );
}

#[test]
fn a_bad_value_is_named_with_file_key_cause_and_remedy() {
    refused(
        &[],
        "max-inbound = 'many'",
        &[
            "handfast.toml: line 1: max-inbound",
            "\"many\"",
            "a number from 0 to",
        ],
    );
    refused(
        &[],
        "max-inbound = -1",
        &["handfast.toml: line 1: max-inbound", "\"-1\""],
    );
    refused(
        &[],
        "max-inbound = [1]",
        &["handfast.toml", "max-inbound", "array"],
    );
    refused(
        &[],
        "no-listen = 'yes'",
        &["no-listen must be true or false, not string"],
    );
    refused(&[], "backlog = 0", &["backlog", "from 1 to 65535"]);
    refused(&[("backlog", "65536")], "", &["--backlog", "\"65536\""]);
    refused(
        &[],
        "handshake-timeout = 0",
        &["handshake-timeout", "from 1 to 3600"],
    );
    refused(
        &[],
        "network = 'main net'",
        &["handfast.toml: line 1: network", "testnet4"],
    );
    refused(&[], "listen = 'localhost'", &["listen", "127.0.0.1:8333"]);
    refused(
        &[],
        "connect = 'a:b'",
        &["connect", "\"a:b\"", "192.0.2.7:8333"],
    );
    refused(&[], "add-node = ['']", &["add-node"]);
    refused(
        &[],
        "minimum-chain-work = 'xyz'",
        &["minimum-chain-work", "hexadecimal"],
    );
    refused(&[], "log = 'info,,=loud='", &["log"]);
    refused(&[], "log = 'loud'", &["log", "\"loud\"", "info"]);
    refused(
        &[],
        "user-agent-comment = 'a/b'",
        &["handfast.toml: line 1: user-agent-comment", "'/'"],
    );
    refused(
        &[],
        "signet-challenge = '51'",
        &["signet-challenge", "--network signet"],
    );
    refused(
        &[],
        "network = 'signet'\nsignet-challenge = 'zz'",
        &["signet-challenge", "51 for OP_TRUE"],
    );
    refused(
        &[],
        "colour = 'blue'",
        &["handfast.toml", "\"colour\"", "handfast run --help"],
    );
    refused(
        &[],
        "network = 'regtest'\n\nmax_inbund = 3",
        &[
            "handfast.toml: line 3",
            "\"max_inbund\"",
            "is max-inbound meant?",
        ],
    );
    refused(
        &[],
        "network = 'regtest'\nno-dial = 'yes'",
        &["handfast.toml: line 2: no-dial must be"],
    );
    let no_guess = settle(&[], "colour = 'blue'")
        .expect_err("no key")
        .to_string();
    assert!(!no_guess.contains("meant"), "{no_guess}");
    refused(
        &[],
        "network = 'regtest'\nlisten = [",
        &["handfast.toml: line 2"],
    );
    refused(&[("max-inbound", "x")], "", &["--max-inbound", "\"x\""]);
}

#[test]
fn a_peer_that_can_be_no_host_and_no_address_is_refused_at_the_start() {
    for peer in [
        "300.1.1.1",
        "192.0.2.7:99999",
        "192.0.2.7:0",
        "[::1]:0",
        "::1:8333x",
        "[192.0.2",
        "a..b",
        "-a.example",
        "a-.example:1",
        "http://a.example",
        "a b",
        "",
        ":8333",
        "ä.example",
    ] {
        refused(&[("connect", peer)], "", &["--connect", "192.0.2.7:8333"]);
        refused(&[("add-node", peer)], "", &["--add-node"]);
    }
    for peer in ["a_b.example.:1", "xn--4ca.example", "a1", "1a"] {
        settle(&[("connect", peer)], "").expect(peer);
    }
}

#[test]
fn a_network_has_one_name_and_core_s_short_ones_are_refused() {
    for name in ["test", "main", "Regtest"] {
        refused(
            &[("network", name)],
            "",
            &["--network", "testnet3", "regtest"],
        );
    }
}

#[test]
fn what_peers_and_work_may_look_like() {
    for peer in [
        "192.0.2.7",
        "192.0.2.7:8333",
        "::1",
        "[::1]:8333",
        "[::1]",
        "node.example.org",
        "node.example.org:1",
    ] {
        assert_eq!(
            settle(&[("connect", peer)], "").expect("valid").connect,
            [peer]
        );
    }
    let work = |text: &str| {
        settle(&[("minimum-chain-work", text)], "")
            .expect("valid")
            .minimum_work
    };
    let mut five = [0u8; 32];
    five[31] = 5;
    assert_eq!(work("5"), Some(Work::from_be_bytes(five)));
    assert_eq!(work("0x05"), Some(Work::from_be_bytes(five)));
    assert_eq!(work("00"), Some(Work::from_be_bytes([0; 32])));
}

#[test]
fn the_challenge_of_the_public_signet_is_the_public_signet() {
    let challenge = Network::Signet
        .signet_challenge()
        .expect("a signet has one");
    let hex = bitcoin::hex::DisplayHex::to_lower_hex_string(challenge);
    let settings = settle(&[("network", "signet"), ("signet-challenge", &hex)], "").expect("valid");
    assert_eq!(settings.place.network, Network::Signet);
}

#[test]
fn a_data_directory_is_refused_before_anything_is_made() {
    let home = tempfile::tempdir().expect("a temporary directory");
    let orphan = home.path().join("missing/data").display().to_string();
    refused(
        &[("datadir", &orphan)],
        "",
        &["missing does not exist", "--datadir"],
    );
    assert!(!home.path().join("missing").exists());

    let file = home.path().join("file");
    fs::write(&file, "").expect("written");
    refused(
        &[("datadir", &file.display().to_string())],
        "",
        &["not a directory"],
    );

    let core = home.path().join("core");
    fs::create_dir_all(core.join("chainstate")).expect("made");
    refused(
        &[("datadir", &core.display().to_string())],
        "",
        &["chainstate", "not Handfast's"],
    );
}

#[test]
fn mining_is_off_and_paced_on_regtest_unless_told_otherwise() {
    let settings = settle(&[("network", "regtest")], "").expect("valid");
    assert!(!settings.mining.at_start);
    assert_eq!(settings.mining.interval, Duration::from_secs(5));
    let options = [
        ("network", "regtest"),
        ("mine", "true"),
        ("mine-interval", "0.5"),
    ];
    let file = "mine-threads = 3\nmine-tag = \"lab\"\n\
                mine-address = \"bcrt1qft5p2uhsdcdc3l2ua4ap5qqfg4pjaqlp250x7us7a8qqhrxrxfsqseac85\"";
    let mining = settle(&options, file).expect("valid").mining;
    assert!(mining.at_start);
    assert_eq!(mining.interval, Duration::from_millis(500));
    assert_eq!(
        (mining.threads, mining.tag.as_slice()),
        (Some(3), &b"lab"[..])
    );
    assert!(mining.payout.expect("an address").is_p2wsh());
    let mining = settle(&[("network", "mainnet")], "").expect("valid").mining;
    assert_eq!(mining.interval, Duration::ZERO);
}

#[test]
fn mining_that_cannot_be_is_refused_with_the_remedy() {
    let own = |challenge| {
        [
            ("network", "signet"),
            ("signet-challenge", challenge),
            ("mine", "true"),
        ]
    };
    assert!(settle(&own("51"), "").expect("valid").mining.at_start);
    refused(&own("5151"), "", &["--mine", "signature", "OP_TRUE"]);
    refused(
        &[("network", "signet"), ("mine", "true")],
        "",
        &["--mine", "signature"],
    );
    refused(
        &[("network", "testnet4"), ("mine", "true")],
        "",
        &["--mine", "--mine-address"],
    );
    let regtest = ("network", "regtest");
    let foreign = "bc1qw508d6qejxtdg4y5r3zarvary0c5xw7kv8f3t4";
    refused(
        &[regtest, ("mine-address", foreign)],
        "",
        &["--mine-address", foreign, "regtest"],
    );
    refused(
        &[regtest, ("mine-threads", "0")],
        "",
        &["--mine-threads", "1 to 1024"],
    );
    refused(
        &[regtest, ("mine-interval", "-1")],
        "",
        &["--mine-interval", "0 to 86400"],
    );
    refused(
        &[regtest, ("mine-interval", "NaN")],
        "",
        &["--mine-interval"],
    );
    refused(
        &[regtest, ("mine-tag", &"x".repeat(65))],
        "",
        &["--mine-tag", "64 bytes"],
    );
}

#[test]
fn a_value_of_a_list_over_several_lines_is_named_by_its_own_line() {
    let file = "network = \"regtest\"\nconnect = [\n  \"127.0.0.1:1\",\n  \"1.2.3.4:99999\",\n]\n";
    refused(
        &[],
        file,
        &["handfast.toml: line 4: connect", "1.2.3.4:99999"],
    );
}

#[test]
fn a_peer_that_cannot_be_dialled_is_refused_at_the_start() {
    for (key, value, part) in [
        ("connect", "abc.onion", "no proxy"),
        ("add-node", "abc.b32.i2p:1", "no proxy"),
        ("connect", "1.2.3.4:99999", "optional port"),
    ] {
        refused(&[(key, value)], "", &[key, value, part]);
    }
    refused(&[("rpc-allow-ip", "0.0.0.0")], "", &["0.0.0.0/0"]);
}

#[test]
fn a_directory_below_a_file_is_refused_as_that() {
    let home = tempfile::tempdir().expect("a temporary directory");
    let file = home.path().join("file");
    fs::write(&file, "").expect("it can be written");
    for below in ["sub", "sub/sub"] {
        let below = file.join(below).display().to_string();
        let said = format!("{} is a file", file.display());
        refused(&[("datadir", &below)], "", &[&said]);
    }
}
