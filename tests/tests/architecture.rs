//! The house keeps its shape: what may depend on what, and what lies at the top.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::Command;

use handfast_tests::data::workspace_root;
use serde_json::Value;

/// Each crate of ours, and those of ours that it may depend on.
const ARROWS: [(&str, &[&str]); 14] = [
    ("handfast-sha256d", &[]),
    ("handfast-wire", &[]),
    ("handfast-verdict", &[]),
    ("handfast-disk", &[]),
    ("handfast-api", &[]),
    ("handfast-proto", &["handfast-verdict", "handfast-wire"]),
    (
        "handfast-chain",
        &["handfast-wire", "handfast-verdict", "handfast-disk"],
    ),
    ("handfast-index", &["handfast-chain"]),
    (
        "handfast-node",
        &[
            "handfast-wire",
            "handfast-disk",
            "handfast-sha256d",
            "handfast-proto",
            "handfast-chain",
            "handfast-index",
        ],
    ),
    ("handfast-rpc", &["handfast-api", "handfast-node"]),
    (
        "handfast-fuzz",
        &["handfast-wire", "handfast-disk", "handfast-sha256d"],
    ),
    (
        "handfast-cli",
        &[
            "handfast-api",
            "handfast-disk",
            "handfast-proto",
            "handfast-wire",
        ],
    ),
    (
        "handfast",
        &[
            "handfast-api",
            "handfast-cli",
            "handfast-disk",
            "handfast-fuzz",
            "handfast-proto",
            "handfast-wire",
        ],
    ),
    (
        "handfastd",
        &[
            "handfast-cli",
            "handfast-fuzz",
            "handfast-node",
            "handfast-rpc",
        ],
    ),
];

/// What lies at the top, besides names that begin with a dot.
const TOP_LEVEL: [&str; 12] = [
    "CHANGELOG.md",
    "Cargo.lock",
    "Cargo.toml",
    "LICENSE",
    "Makefile",
    "README.md",
    "clippy.toml",
    "config",
    "crates",
    "deny.toml",
    "scripts",
    "tests",
];

/// Direct dependencies of each package of the workspace, without those of its tests.
fn dependencies() -> BTreeMap<String, BTreeSet<String>> {
    let output = Command::new(env!("CARGO"))
        .args([
            "metadata",
            "--no-deps",
            "--offline",
            "--format-version",
            "1",
        ])
        .current_dir(workspace_root())
        .output()
        .expect("cargo runs");
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    let metadata: Value = serde_json::from_slice(&output.stdout).expect("cargo prints JSON");
    let packages = metadata["packages"].as_array().expect("a list of packages");
    let name = |value: &Value| value["name"].as_str().expect("a name").to_owned();
    packages
        .iter()
        .map(|package| {
            let needs = package["dependencies"]
                .as_array()
                .expect("a list of dependencies");
            let built_in = needs.iter().filter(|need| need["kind"] != "dev");
            (name(package), built_in.map(name).collect())
        })
        .collect()
}

/// The packages for which `wanted` holds of one of their direct dependencies.
fn users_of(wanted: impl Fn(&str) -> bool) -> Vec<String> {
    let depends = |needs: &BTreeSet<String>| needs.iter().any(|need| wanted(need));
    dependencies()
        .into_iter()
        .filter(|(_, needs)| depends(needs))
        .map(|(package, _)| package)
        .collect()
}

#[test]
fn dependencies_point_the_way_of_the_arrows() {
    let found = dependencies();
    for (package, allowed) in ARROWS {
        let ours = found[package]
            .iter()
            .filter(|need| need.starts_with("handfast"));
        let wrong: Vec<_> = ours
            .filter(|need| !allowed.contains(&need.as_str()))
            .collect();
        assert!(wrong.is_empty(), "{package} must not depend on {wrong:?}");
    }
}

#[test]
fn every_crate_has_its_place_in_the_arrows() {
    let known: BTreeSet<&str> = ARROWS
        .iter()
        .map(|(package, _)| *package)
        .chain(["handfast-tests"])
        .collect();
    let found = dependencies();
    let found: BTreeSet<&str> = found.keys().map(String::as_str).collect();
    assert_eq!(found, known);
}

#[test]
fn nobody_depends_on_the_tests() {
    assert_eq!(
        users_of(|need| need == "handfast-tests"),
        Vec::<String>::new()
    );
}

#[test]
fn only_chain_knows_the_kernel() {
    assert_eq!(
        users_of(|need| need.contains("bitcoinkernel")),
        ["handfast-chain"]
    );
}

#[test]
fn the_command_of_clients_is_linked_with_neither_the_node_nor_the_kernel() {
    let packages = |of: &str| {
        let tree = tree(&[
            "--package",
            of,
            "--format",
            "{p}",
            "--edges",
            "normal,build",
        ]);
        let names = tree.lines().filter_map(|line| line.split(' ').next());
        names.map(str::to_owned).collect::<BTreeSet<String>>()
    };
    let engine = ["libbitcoinkernel-sys", "bitcoinkernel", "handfast-chain"];
    let (front, node) = (packages("handfast"), packages("handfastd"));
    for part in engine.into_iter().chain(["handfast-node", "handfast-rpc"]) {
        assert!(node.contains(part), "{part} is what the node is made of");
        assert!(!front.contains(part), "{part}");
    }
}

#[test]
fn the_pure_crates_know_no_actor_and_no_runtime() {
    let runtime = users_of(|need| need == "tokio" || need.starts_with("actix"));
    for pure in [
        "handfast-wire",
        "handfast-disk",
        "handfast-api",
        "handfast-sha256d",
        "handfast-verdict",
        "handfast-proto",
        "handfast-chain",
        "handfast-index",
    ] {
        assert!(
            !runtime.iter().any(|user| user == pure),
            "{pure} uses a runtime"
        );
    }
}

#[test]
fn only_disk_knows_bincode() {
    assert_eq!(users_of(|need| need == "bincode"), ["handfast-disk"]);
}

#[test]
fn the_top_level_holds_what_it_should_and_nothing_else() {
    let mut found: Vec<String> = std::fs::read_dir(workspace_root())
        .expect("the root can be read")
        .map(|entry| {
            entry
                .expect("an entry")
                .file_name()
                .into_string()
                .expect("a plain name")
        })
        // Cargo's output is there after the first build and not part of the tree.
        .filter(|name| !name.starts_with('.') && name != "target")
        .collect();
    found.sort_unstable();
    assert_eq!(found, TOP_LEVEL);
}

/// What `cargo tree` prints, a package on each line.
fn tree(arguments: &[&str]) -> String {
    let output = Command::new(env!("CARGO"))
        .args(["tree", "--offline", "--no-dedupe", "--prefix", "none"])
        .args(arguments)
        .current_dir(workspace_root())
        .output()
        .expect("cargo runs");
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    String::from_utf8(output.stdout).expect("UTF-8")
}

/// The features that each package is built with for `cargo build --workspace` (`edges`:
/// without those of tests) or `cargo test --workspace`.
fn features(edges: &str) -> BTreeMap<String, BTreeSet<String>> {
    let text = tree(&["--workspace", "--format", "{p}|{f}", "--edges", edges]);
    // A package that build scripts use too may have other features there.
    let mut found: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for line in text.lines() {
        if let Some((package, features)) = line.split_once('|') {
            let sets = found.entry(package.to_owned()).or_default();
            sets.insert(features.to_owned());
        }
    }
    found
}

#[test]
fn tests_build_no_dependency_anew_that_the_node_was_built_with() {
    let (built, tested) = (features("normal,build"), features("normal,build,dev"));
    assert!(built.len() > 100, "{}", built.len());
    let differ = built
        .iter()
        .filter(|(package, features)| tested.get(*package) != Some(*features));
    let differ: Vec<_> = differ.collect();
    assert!(
        differ.is_empty(),
        "name these features in tests/Cargo.toml, as others are: {differ:?}"
    );
}

/// The Rust sources below `dir`.
fn sources(dir: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(dir).into_iter().flatten().flatten();
    entries
        .flat_map(|entry| {
            let path = entry.path();
            match path.is_dir() {
                true => sources(&path),
                false => vec![path],
            }
        })
        .filter(|path| path.extension().is_some_and(|end| end == "rs"))
        .collect()
}

/// The arguments of every call of the macro `name` in `text`.
fn calls<'a>(text: &'a str, name: &str) -> Vec<&'a str> {
    let after = text
        .match_indices(name)
        .map(|(at, _)| &text[at + name.len()..]);
    after
        .map(|rest| {
            let mut open = 0;
            let end = rest.find(|c: char| {
                open += i32::from(c == '(') - i32::from(c == ')');
                open == 0
            });
            &rest[..end.unwrap_or(rest.len())]
        })
        .collect()
}

#[test]
fn what_the_system_says_reaches_users_without_the_number_that_rust_puts_behind_it() {
    let crates = workspace_root().join("crates");
    // Every way out: the log, lines on standard error, errors of the RPC, and what is kept of
    // an error for the history, `why` and `status`.
    for file in [
        "handfastd/src/logging.rs",
        "cli/src/output.rs",
        "rpc/src/jsonrpc/error.rs",
        "node/src/connector.rs",
        "proto/src/lifecycle/done_reason/cause.rs",
    ] {
        let text = std::fs::read_to_string(crates.join(file)).expect(file);
        let used = ["without_error_numbers(", "system_words("]
            .iter()
            .any(|helper| text.contains(helper));
        assert!(used, "{file}");
    }
    for path in sources(&crates.join("node/src")) {
        let text = std::fs::read_to_string(&path).expect("readable");
        for input in ["ReadFailed", "RemoteReset"] {
            for call in calls(&text, input) {
                let raw = call.contains("error.to_string()");
                assert!(!raw, "{}: {input}{call}", path.display());
            }
        }
    }
}

/// A list of addresses is read as easily in Rust's form as in any other.
const LISTS_OF_ADDRESSES: [&str; 2] = ["?addresses", "?peers_at"];

#[test]
fn what_operators_read_in_the_log_is_not_in_the_form_that_rust_gives_to_programmers() {
    let sources = sources(&workspace_root().join("crates"));
    let mut seen = 0;
    for path in sources
        .iter()
        .filter(|path| path.iter().any(|part| part == "src"))
    {
        let text = std::fs::read_to_string(path).expect("readable");
        for level in ["tracing::info!", "tracing::warn!", "tracing::error!"] {
            for call in calls(&text, level) {
                seen += 1;
                let debug = call
                    .split([' ', '(', ',', '\n'])
                    .find(|word| word.starts_with('?') && !LISTS_OF_ADDRESSES.contains(word));
                let place = path.display();
                assert_eq!(debug, None, "{place}: {call}");
                assert!(!call.contains(":?}"), "{place}: {call}");
            }
        }
    }
    assert!(seen > 50, "{seen} calls were found");
}

/// The walks of the manual: a word of the title, the most files and the most steps.
const WALKS: [(&str, usize, usize); 3] = [
    ("A connection", 22, 12),
    ("A block", 26, 12),
    ("An RPC call", 14, 12),
];

#[test]
fn each_walk_of_the_manual_names_files_that_exist_and_stays_short() {
    let crates = workspace_root().join("crates");
    let manual = crates.join("node/src/manual/walks.rs");
    let text = std::fs::read_to_string(manual).expect("the walks are there");
    let mut sections = text.split("\n//! # ").skip(1);
    for (title, most_files, most_steps) in WALKS {
        let section = sections.next().unwrap_or_default();
        assert!(section.starts_with(title), "{title} is missing");
        let steps: Vec<&str> = section
            .lines()
            .filter_map(|line| line.strip_prefix("//! | "))
            .filter(|row| row.starts_with(|first: char| first.is_ascii_digit()))
            .filter_map(|row| row.split(" | ").nth(1))
            .collect();
        let files: BTreeSet<&str> = steps
            .iter()
            .flat_map(|cell| cell.split(", "))
            .map(|file| file.trim_matches('`'))
            .collect();
        for file in &files {
            assert!(crates.join(file).is_file(), "{title}: no file {file}");
        }
        let (files, steps) = (files.len(), steps.len());
        assert!((1..=most_files).contains(&files), "{title}: {files} files");
        assert!((1..=most_steps).contains(&steps), "{title}: {steps} steps");
    }
}
