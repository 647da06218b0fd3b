//! The house keeps its shape: what may depend on what, and what lies at the top.

use std::collections::{BTreeMap, BTreeSet};
use std::process::Command;

use handfast_tests::data::workspace_root;
use serde_json::Value;

/// Each crate of ours, and those of ours that it may depend on.
const ARROWS: [(&str, &[&str]); 9] = [
    ("handfast-sha256d", &[]),
    ("handfast-wire", &[]),
    ("handfast-disk", &[]),
    ("handfast-proto", &["handfast-wire"]),
    ("handfast-chain", &["handfast-wire", "handfast-disk"]),
    (
        "handfast-node",
        &[
            "handfast-wire",
            "handfast-disk",
            "handfast-sha256d",
            "handfast-proto",
            "handfast-chain",
        ],
    ),
    ("handfast-rpc", &["handfast-node"]),
    (
        "handfast-fuzz",
        &["handfast-wire", "handfast-disk", "handfast-sha256d"],
    ),
    (
        "handfast",
        &["handfast-node", "handfast-rpc", "handfast-fuzz"],
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
fn the_pure_crates_know_no_actor_and_no_runtime() {
    let runtime = users_of(|need| need == "tokio" || need.starts_with("actix"));
    for pure in [
        "handfast-wire",
        "handfast-disk",
        "handfast-sha256d",
        "handfast-proto",
        "handfast-chain",
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
