//! Descriptors, multisig, signed messages, transactions of blocks, and the fields that typed
//! clients read: equal to the letter with `bitcoind`.

use bitcoin::Block;
use bitcoin::consensus::deserialize;
use handfast_tests::generator::SMALL;
use handfast_tests::process::{Node, Setup};
use handfast_wire::Network;
use serde_json::{Value, json};

use crate::answers::{assert_same, outcome};

const KEY: &str = "0279be667ef9dcbbac55a06295ce870b07029bfcdb2dce28d959f2815b16f81798";
const OTHER: &str = "02c6047f9441ed7d6d3045406e95c07cd85c778e4b8cef3ca7abac09b95c709ee5";
const LONG: &str = "0479be667ef9dcbbac55a06295ce870b07029bfcdb2dce28d959f2815b16f81798\
                    483ada7726a3c4655da4fbfc0e1108a8fd17b448a68554199c47d08ffb10d4b8";
const WIF: &str = "cMahea7zqjxrtgAbB7LSGbcQUr1uX1ojuat9jZodMN87JcbXMTcA";
const XPRV: &str = "tprv8ZgxMBicQKsPd7Uf69XL1XwhmjHopUGep8GuEiJDZmbQz6o58LninorQAfcKZWARbtRtfnLcJ5MQ2AtHcQJCCRUcMRvmDUjyEmNUWwx8UbK";
const XPUB: &str = "tpubD6NzVbkrYhZ4WaWSyoBvQwbpLkojyoTZPRsgXELWz3Popb3qkjcJyJUGLnL4qHHoQvao8ESaAstxYSnhyswJ76uZPStJRJCTKvosUCJZL5B";

fn two() -> (Node, Node) {
    let core = Setup::bitcoind(Network::Regtest).start();
    let ours = Setup::handfast(Network::Regtest).start();
    (core, ours)
}

#[test]
fn descriptors_are_described_and_derived_as_bitcoind_does() {
    let (core, ours) = two();
    let bodies = [
        format!("pk({KEY})"),
        format!("pk({WIF})"),
        format!("pkh([D34DB33F/44'/0h/1']{})", KEY.to_uppercase()),
        format!("wpkh({WIF})"),
        format!("sh(wpkh({KEY}))"),
        format!("combo({KEY})"),
        format!("combo({LONG})"),
        format!("combo({XPRV}/0'/*')"),
        format!("wpkh({XPUB}/0/*)"),
        format!("wpkh({XPUB}/007/*)"),
        format!("wpkh({XPUB}/0h/*)"),
        format!("wpkh({XPRV}/0h/1'/*h)"),
        format!("wpkh([d34db33f/84h]{XPUB}/<0;1>/*)"),
        format!("sh(multi(1,{XPUB}/<3;7>/0,{KEY}))"),
        format!("wsh(sortedmulti(02,{OTHER},{KEY}))"),
        format!("multi(1,{KEY},{OTHER})"),
        format!("sortedmulti(2,{KEY},{OTHER})"),
        format!("sortedmulti(1,{LONG},{XPUB}/0/*,{KEY})"),
        format!("wsh(and_v(v:pk({KEY}),older(0144)))"),
        format!("wsh(or_d(pk({KEY}),and_v(v:pkh({XPUB}/1/*),older(144))))"),
        format!("wsh(and_v(v:pk({KEY}),sha256({})))", "AB".repeat(32)),
        format!("tr({})", &KEY[2..]),
        format!("tr({KEY})"),
        format!("tr({WIF})"),
        format!("tr({},{{pk({}),pk({XPRV}/5)}})", &KEY[2..], &OTHER[2..]),
        format!("tr({XPUB}/0/*,multi_a(1,{},{OTHER}))", &KEY[2..]),
        format!("rawtr({})", &KEY[2..]),
        "raw(00AB)".to_owned(),
        "raw(0014000102030405060708090A0B0C0D0E0F10111213)".to_owned(),
        "addr(BCRT1QFT5P2UHSDCDC3L2UA4AP5QQFG4PJAQLP250X7US7A8QQHRXRXFSQSEAC85)".to_owned(),
        "addr(mfWxJ45yp2SFn7UciZyNpvDKrzbhyfKrY8)".to_owned(),
    ];
    for body in &bodies {
        assert_same(&core, &ours, "getdescriptorinfo", json!([body]));
        let info = core.rpc().get("getdescriptorinfo", json!([body]));
        let sum = info["checksum"].as_str().expect("text");
        let whole = format!("{body}#{sum}");
        assert_same(&core, &ours, "getdescriptorinfo", json!([whole]));
        for range in [
            json!(2),
            json!([5, 7]),
            json!([2_147_483_646, 2_147_483_647]),
        ] {
            assert_same(&core, &ours, "deriveaddresses", json!([whole, range]));
        }
        assert_same(&core, &ours, "deriveaddresses", json!([whole]));
        assert_same(&core, &ours, "deriveaddresses", json!([whole, null]));
    }
}

#[test]
fn what_is_no_descriptor_is_refused_as_bitcoind_refuses_it() {
    let (core, ours) = two();
    let hybrid = format!("06{}", &LONG[2..]);
    let many = |count: usize| vec![KEY; count].join(",");
    for body in [
        String::new(),
        "nonsense".to_owned(),
        "wpkh()".to_owned(),
        "wpkh(02)".to_owned(),
        format!("wpkh({LONG})"),
        format!("pk({hybrid})"),
        format!("pkh( {KEY})"),
        format!("wpkh([d34db33]{KEY})"),
        format!("wpkh(d34db33f]{KEY})"),
        format!("wpkh([d34db33f/x]{KEY})"),
        format!("wpkh({XPUB}/2147483648)"),
        format!("wpkh({XPUB}/<0>/1)"),
        format!("wpkh({XPUB}/<0;0>/1)"),
        format!("wpkh({XPUB}/<0;1>/<2;3>)"),
        // Of mainnet.
        "wpkh(xpub661MyMwAqRbcFtXgS5sYJABqqG9YLmC4Q1Rdap9gSE8NqtwybGhePY2gZ29ESFjqJoCu1Rupje8YtGqsefD265TMg7usUDFdp6W1EGMcet8)".to_owned(),
        format!("multi(3,{KEY},{OTHER})"),
        format!("multi(0,{KEY})"),
        format!("multi(x,{KEY})"),
        "multi(1)".to_owned(),
        format!("multi(1,{})", many(4)),
        format!("sh(multi(1,{}))", many(16)),
        format!("wsh(multi(1,{}))", many(21)),
        "raw(zz)".to_owned(),
        "addr(nowhere)".to_owned(),
        format!("pk({KEY})#"),
        format!("pk({KEY})#aaaaaaaa"),
        format!("pk({KEY})##"),
        "pk(é)".to_owned(),
    ] {
        assert_same(&core, &ours, "getdescriptorinfo", json!([body]));
        assert_same(&core, &ours, "deriveaddresses", json!([body]));
    }
    let ranged = core
        .rpc()
        .get("getdescriptorinfo", json!([format!("wpkh({XPUB}/*)")]));
    let ranged = ranged["descriptor"].clone();
    for range in [
        json!("x"),
        json!(-1),
        json!([1]),
        json!([2, 1]),
        json!([-2, 1]),
        json!([0, "1"]),
        json!(2_147_483_648_u64),
        json!(1_000_000),
        json!(true),
        json!(1.5),
    ] {
        assert_same(&core, &ours, "deriveaddresses", json!([ranged, range]));
    }
}

#[test]
fn a_function_in_the_wrong_place_and_a_bracket_too_few_are_refused_as_bitcoind_refuses_them() {
    let (core, ours) = two();
    // K stands for a key and X for one of taproot.
    for form in [
        "raw()",
        "raw(5)",
        "addr()",
        "sh(sh(pkh(K)))",
        "wsh(wsh(pkh(K)))",
        "wsh(sh(pkh(K)))",
        "sh(wsh(sh(pkh(K))))",
        "sh(wsh(wpkh(K)))",
        "wsh(wpkh(K))",
        "sh(tr(X))",
        "wsh(tr(X))",
        "tr(X,tr(X))",
        "tr(X,wpkh(K))",
        "sh(addr(x))",
        "sh(raw(51))",
        "sh(combo(K))",
        "wsh(raw(51))",
        "sh(rawtr(X))",
        "tr(X,rawtr(X))",
        "tr(X,wsh(pk(X)))",
        "tr(X,sh(pk(X)))",
        "tr(X,multi(1,X))",
        "wsh(multi_a(1,K))",
        "multi_a(1,K)",
        "wpkh(musig(K,K))",
        "pkh(K",
        "pkh(K)x",
        "pkhK",
        "pkh",
        "(",
        ")",
        "pkh()",
        "pkh(K,K)",
        "wsh(pkh(K)",
        "sh(wsh(pkh(K))",
        "sh(",
        "sh()",
        "wsh()",
        "tr()",
        "tr(X",
        "tr(X,",
        "tr(X,)",
        "tr(X,pk(X)",
        "tr(X,{pk(X),pk(X)}",
        "tr(X,{pk(X)})",
        "tr(X,{pk(X),pk(X))",
        "tr(X,pk(X),pk(X))",
        "tr(X,pk(X)})",
        "tr(X,{pk(X),})",
        "tr(X,{})",
        "multi(1,K",
        "multi()",
        "multi(1,)",
        "multi(1,K,)",
        "sh(multi(1,K)",
        "raw(51",
        "raw(51)51",
        "addr(x",
        "rawtr(X",
        "rawtr(X,pk(X))",
        "rawtr()",
        " pkh(K)",
        "pkh(K )",
        "wsh(pk(K",
        "wsh(and_v(v:pk(K),pk(K))",
        "wsh(foo(K))",
        "sh(and_v(v:pk(K),pk(K)))",
        "sh(pk(K)x)",
        "sh(xpk(K))",
        "tr(X,foo(X))",
        "sh(sh(",
        "sh(pkh",
        "wsh(K)",
        "sh(K)",
        "sh(sh(pkh(K))",
        "wsh(multi(1,K)",
    ] {
        let text = form.replace('K', KEY).replace('X', &KEY[2..]);
        assert_same(&core, &ours, "getdescriptorinfo", json!([text]));
    }
    // Of brackets too many bitcoind says nothing but that the descriptor is refused.
    for form in [
        "pkh(K))",
        "wsh(pkh(K)))",
        "wsh(pk(K),pk(K))",
        "tr(X))",
        "multi(1,K))",
        "raw(51))",
    ] {
        let text = form.replace('K', KEY).replace('X', &KEY[2..]);
        let refused =
            |node: &Node| outcome(node, "getdescriptorinfo", &json!([text])).expect_err(form);
        let (theirs, said) = (refused(&core), refused(&ours));
        assert!(
            said.starts_with(&theirs) && said.contains("follows"),
            "{form}: {theirs:?}, {said}"
        );
    }
    // What bitcoind derives and the library cannot is refused by its name.
    let musig = json!([format!("tr(musig({KEY},{OTHER}))")]);
    let refusal = outcome(&ours, "getdescriptorinfo", &musig).expect_err("not supported");
    assert!(refusal.contains("musig() is not supported"), "{refusal}");
}

#[test]
fn multisig_addresses_are_made_as_bitcoind_makes_them() {
    let (core, ours) = two();
    let hybrid = format!("06{}", &LONG[2..]);
    let sixteen = vec![KEY; 16];
    for params in [
        json!([1, [KEY]]),
        json!([2, [KEY, OTHER, KEY]]),
        json!([2, [KEY, OTHER], "legacy"]),
        json!([2, [KEY, OTHER], "p2sh-segwit"]),
        json!([2, [KEY, OTHER], "bech32"]),
        json!([1, [LONG]]),
        json!([1, [LONG], "bech32"]),
        json!([1, [LONG, KEY], "p2sh-segwit"]),
        json!([1, [hybrid]]),
        json!([16, sixteen, "bech32"]),
        json!([17, vec![OTHER; 20], "bech32"]),
        json!([1, sixteen]),
        json!([1, vec![KEY; 21], "bech32"]),
        json!([0, [KEY]]),
        json!([-1, [KEY]]),
        json!([2, [KEY]]),
        json!([1, []]),
        json!([1, ["zz"]]),
        json!([1, [""]]),
        json!([1, ["02"]]),
        json!([1, [format!("05{}", &KEY[2..])]]),
        json!([1, [7]]),
        json!([1, [KEY], "bech32m"]),
        json!([1, [KEY], "nonsense"]),
        json!(["1", [KEY]]),
        json!([1, KEY]),
    ] {
        assert_same(&core, &ours, "createmultisig", params);
    }
}

#[test]
fn messages_are_signed_and_verified_as_bitcoind_does() {
    let (core, ours) = two();
    let uncompressed = "91avARGdfge8E4tZfYLoxeJ5sGBdNJQH4kvjJoQFacbgwmaKkrx";
    for key in [WIF, uncompressed] {
        for message in ["", "a message", "ünïcode", &"long ".repeat(100)] {
            assert_same(
                &core,
                &ours,
                "signmessagewithprivkey",
                json!([key, message]),
            );
        }
    }
    let sign = |message| {
        let signed = core
            .rpc()
            .get("signmessagewithprivkey", json!([WIF, message]));
        signed.as_str().expect("base64").to_owned()
    };
    let signature = sign("a message");
    let owner = "mrCDrCybB6J1vRfbwM5hemdJz73FwDBC8r";
    for (address, signature, message) in [
        (owner, signature.as_str(), "a message"),
        (owner, &signature, "another"),
        (
            "mfWxJ45yp2SFn7UciZyNpvDKrzbhyfKrY8",
            &signature,
            "a message",
        ),
        (
            "2MsFDzHRUAMpjHxKyoEHU3aMCMsVtMqs1PV",
            &signature,
            "a message",
        ),
        ("nowhere", &signature, "a message"),
        (owner, "", "a message"),
        (owner, "AAAA", "a message"),
        (owner, "not base64!", "a message"),
        (owner, &signature[1..], "a message"),
        (owner, signature.trim_end_matches('='), "a message"),
        (owner, &"/".repeat(88), "a message"),
    ] {
        let params = json!([address, signature, message]);
        assert_same(&core, &ours, "verifymessage", params);
    }
    for key in [
        "",
        "nonsense",
        "5HueCGU8rMjxEXxiPuD5BDku4MkFqeZyd4dZ1jvhTVqvbTLvyTJ",
    ] {
        assert_same(&core, &ours, "signmessagewithprivkey", json!([key, "x"]));
    }
}

#[test]
fn a_transaction_of_a_named_block_is_found_as_bitcoind_finds_it() {
    let core = Setup::bitcoind(Network::Regtest).start();
    let blocks = SMALL.blocks().expect("the cache can be written");
    core.submit(blocks.iter().cloned());
    let ours = Setup::handfast(Network::Regtest)
        .connect(core.p2p())
        .start();
    ours.wait_for_tip(SMALL.tip());
    let mut busy = 0;
    for raw in blocks.iter().step_by(9) {
        let block: Block = deserialize(&raw.bytes).expect("it was valid");
        let hash = raw.hash.to_string();
        busy += usize::from(block.txdata.len() > 1);
        for transaction in block.txdata.iter().take(3) {
            let txid = transaction.compute_txid().to_string();
            for verbosity in [
                json!(0),
                json!(1),
                json!(2),
                json!(true),
                json!(-1),
                json!(9),
            ] {
                let params = json!([txid, verbosity, hash]);
                assert_same(&core, &ours, "getrawtransaction", params);
            }
            assert_same(&core, &ours, "getrawtransaction", json!([txid]));
        }
    }
    assert!(busy > 0, "some blocks have more than a coinbase");
    let genesis = Network::Regtest.genesis();
    let unknown = "11".repeat(32);
    let tip = SMALL.tip().to_string();
    for params in [
        json!([genesis.merkle_root.to_string()]),
        json!([
            genesis.merkle_root.to_string(),
            1,
            genesis.block_hash().to_string()
        ]),
        json!([unknown, 1, tip]),
        json!([unknown, 0, unknown]),
        json!([unknown, 0, "zz"]),
        json!(["zz"]),
        json!([7]),
        json!([unknown, "x"]),
        json!([unknown, 1.5]),
        json!([unknown, 0, 7]),
    ] {
        assert_same(&core, &ours, "getrawtransaction", params);
    }
}

#[test]
fn echo_and_fee_estimates_are_those_of_bitcoind() {
    let (core, ours) = two();
    for (method, params) in [
        ("echo", json!([])),
        ("echo", json!([1, "two", [3], { "four": null }, null])),
        ("echo", json!({ "arg1": 7, "arg3": "x" })),
        ("echo", json!({ "arg10": 7 })),
        ("echojson", json!([true, 1.50])),
        ("syncwithvalidationinterfacequeue", json!([])),
        ("estimatesmartfee", json!([6])),
        ("estimatesmartfee", json!([1008, "Conservative"])),
        ("estimatesmartfee", json!([1, "unset"])),
        ("estimatesmartfee", json!([0])),
        ("estimatesmartfee", json!([-1])),
        ("estimatesmartfee", json!([1009])),
        ("estimatesmartfee", json!([6, "nonsense"])),
        ("estimatesmartfee", json!(["6"])),
        ("getindexinfo", json!(["nonsense"])),
    ] {
        assert_same(&core, &ours, method, params);
    }
}

/// The names of all members, those inside of members too.
fn names(value: &Value, of: &str, into: &mut Vec<String>) {
    for (name, value) in value.as_object().into_iter().flatten() {
        let path = format!("{of}.{name}");
        names(value, &path, into);
        into.push(path);
    }
    for value in value.as_array().into_iter().flatten() {
        names(value, of, into);
    }
}

#[test]
fn answers_have_every_member_that_bitcoinds_have_in_its_order() {
    let far = Setup::bitcoind(Network::Regtest).start();
    let core = Setup::bitcoind(Network::Regtest).connect(far.p2p()).start();
    let ours = Setup::handfast(Network::Regtest).connect(far.p2p()).start();
    handfast_tests::wait::wait_for("both are connected", || {
        (far.peers().len() == 2).then_some(())
    });
    for method in [
        "getnetworkinfo",
        "getmininginfo",
        "getmempoolinfo",
        "getblockchaininfo",
        "getchainstates",
        "getmemoryinfo",
        "getnettotals",
        "getpeerinfo",
    ] {
        let listed = |node: &Node| {
            let mut all = Vec::new();
            let answer = outcome(node, method, &json!([])).expect("it answers");
            names(&answer, "", &mut all);
            // Ours beyond Core's stand in a member of their own, but for two of versions up to
            // 31, which their clients read; messages by command differ,
            // and a ping may not have been answered yet.
            let other = [
                ".handfast",
                "_per_msg.",
                ".pingtime",
                ".minping",
                ".pingwait",
                ".fullrbf",
                ".startingheight",
            ];
            all.retain(|path| !other.iter().any(|other| path.contains(other)));
            all
        };
        let (own, theirs) = (listed(&ours), listed(&core));
        match method {
            // In which order Core tells the connections and `networkactive`, ours tells too;
            // a local address that Core found out is not told by ours.
            "getpeerinfo" => {
                let mapped = |path: &&String| !path.contains("addrlocal");
                let own: Vec<_> = own.iter().filter(mapped).collect();
                let theirs: Vec<_> = theirs.iter().filter(mapped).collect();
                assert_eq!(own, theirs, "{method}");
            }
            _ => assert_eq!(own, theirs, "{method}"),
        }
    }
    let [own, theirs] = [&ours, &core].map(|node| node.rpc().get("getnetworkinfo", json!([])));
    for fee in ["relayfee", "incrementalfee"] {
        assert_eq!(own[fee].to_string(), theirs[fee].to_string(), "{fee}");
    }
    let [own, theirs] = [&ours, &core].map(|node| node.rpc().get("getmininginfo", json!([])));
    let fee = "blockmintxfee";
    assert_eq!(own[fee].to_string(), theirs[fee].to_string(), "{fee}");
}

#[test]
fn fee_estimates_a_template_and_categories_of_the_log_are_those_of_bitcoind() {
    let (core, ours) = two();
    for target in [0, 1, 12, 13, 48, 49, 1_008, 1_009] {
        assert_same(&core, &ours, "estimaterawfee", json!([target]));
    }
    for threshold in [
        json!(0.5),
        json!(0),
        json!(1),
        json!(1.1),
        json!(-1),
        json!("x"),
    ] {
        assert_same(&core, &ours, "estimaterawfee", json!([6, threshold]));
    }
    let of =
        |node: &Node, method: &str, member: &str| node.rpc().get(method, json!([]))[member].clone();
    let of_block = ["currentblockweight", "currentblocktx"];
    for member in of_block {
        assert_eq!(of(&ours, "getmininginfo", member), Value::Null, "{member}");
    }
    let request = json!([{ "rules": ["segwit"] }]);
    let template = |node: &Node| node.rpc().get("getblocktemplate", request.clone());
    assert!(template(&ours).is_object() && template(&core).is_object());
    for member in of_block {
        let theirs = of(&core, "getmininginfo", member);
        assert_eq!(of(&ours, "getmininginfo", member), theirs, "{member}");
        assert!(theirs.is_number());
    }
    let most = of(&core, "getmempoolinfo", "maxmempool");
    assert_eq!(of(&ours, "getmempoolinfo", "maxmempool"), most);
    // Every category of Core's is one here, and all that have something to log are switched.
    let all = core.rpc().get("logging", json!([]));
    for category in all.as_object().expect("categories").keys() {
        let now = ours.rpc().get("logging", json!([[category]]));
        assert!(now[category].is_boolean(), "{category}");
    }
    let now = ours.rpc().get("logging", json!([["net"], ["validation"]]));
    assert_eq!(
        (&now["net"], &now["validation"]),
        (&json!(true), &json!(false))
    );
    assert_same(&core, &ours, "logging", json!([["nonsense"]]));
}
