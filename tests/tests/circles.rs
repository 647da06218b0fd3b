//! Files of a crate do not know each other in circles, so that one can be read, or changed,
//! after those that it uses and before those that use it.
//!
//! A file and those in the folder of its name are one thing here: a module and its parts may
//! know each other.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use handfast_tests::data::workspace_root;

/// A file by its place in its crate: `["sync", "report"]`.
type Name = Vec<String>;

/// The circles that there are, each by its first file, and how many files it has at most.
const CIRCLES: [(&str, &str, usize); 4] = [
    ("fuzz", "blocks", 3),
    ("fuzz", "engine", 3),
    ("rpc", "render/descriptor", 2),
    ("rpc", "server/call", 6),
];

/// The source of every file of a crate but its root and its tests.
fn files(source: &Path) -> BTreeMap<Name, String> {
    let mut files = BTreeMap::new();
    let mut folders = vec![source.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(&folder).expect("it can be read") {
            let path = entry.expect("it can be read").path();
            if path.is_dir() {
                folders.push(path);
                continue;
            }
            let within = path.strip_prefix(source).expect("it is in there");
            let within = within.with_extension("");
            let mut name: Name = within
                .iter()
                .map(|part| part.to_string_lossy().into_owned())
                .collect();
            name.pop_if(|last| last == "mod");
            let is_test = |part: &String| {
                ["tests", "testing", "virtual_time"].contains(&part.as_str())
                    || part.ends_with("_tests")
            };
            let is_root = ["lib", "main"].contains(&name[0].as_str());
            if path.extension().is_some_and(|it| it == "rs")
                && !is_root
                && !name.iter().any(is_test)
            {
                let text = std::fs::read_to_string(&path).expect("it can be read");
                files.insert(name, without_comments_and_tests(&text));
            }
        }
    }
    files
}

fn without_comments_and_tests(text: &str) -> String {
    let text = text.split("#[cfg(test)]\nmod ").next().unwrap_or_default();
    let code = |line: &str| line.split("//").next().unwrap_or_default().to_owned();
    text.lines().map(code).collect::<Vec<_>>().join("\n")
}

/// The paths in `text` that begin with `crate` or `super`, from the crate's root on; one for
/// each name in braces.
fn paths(of: &Name, text: &str) -> Vec<Name> {
    let mut paths = Vec::new();
    let mut rest = text;
    while let Some(at) = ["crate::", "super::"]
        .iter()
        .filter_map(|it| rest.find(it))
        .min()
    {
        let before = rest[..at].chars().next_back();
        rest = &rest[at..];
        let mut base = of.clone();
        if let Some(after) = rest.strip_prefix("crate::") {
            (base, rest) = (Name::new(), after);
        }
        while let Some(after) = rest.strip_prefix("super::") {
            base.pop();
            rest = after;
        }
        if before.is_none_or(|it| !it.is_alphanumeric() && it != '_' && it != '$') {
            collect(&base, rest, &mut paths);
        }
    }
    paths
}

/// The paths that `text` begins with: `a::b`, or `a::{b, c::d}`.
fn collect(base: &Name, text: &str, into: &mut Vec<Name>) {
    let text = text.trim_start();
    if let Some(inner) = text.strip_prefix('{') {
        let mut depth = 0usize;
        let mut start = 0;
        for (at, letter) in inner.char_indices() {
            match letter {
                '{' => depth += 1,
                ',' | '}' if depth == 0 => {
                    collect(base, &inner[start..at], into);
                    start = at + 1;
                    if letter == '}' {
                        return;
                    }
                }
                '}' => depth -= 1,
                _ => {}
            }
        }
        return;
    }
    let end = text.find(|it: char| !it.is_alphanumeric() && it != '_');
    let (name, rest) = text.split_at(end.unwrap_or(text.len()));
    let mut path = base.clone();
    if !name.is_empty() && name != "self" {
        path.push(name.to_owned());
    }
    match rest.strip_prefix("::") {
        Some(rest) if !name.is_empty() => collect(&path, rest, into),
        Some(_) | None => into.push(path),
    }
}

/// Which files each file uses, its own module and parts apart.
fn uses<'a>(files: &'a BTreeMap<Name, String>) -> BTreeMap<&'a Name, BTreeSet<&'a Name>> {
    let file = |path: &Name| {
        let mut lengths = (1..=path.len()).rev();
        lengths.find_map(|length| Some(files.get_key_value(&path[..length])?.0))
    };
    let related = |one: &Name, other: &Name| one.starts_with(other) || other.starts_with(one);
    let used = |(name, text): (&'a Name, &String)| {
        let paths = paths(name, text);
        let used = paths.iter().filter_map(file);
        (name, used.filter(|used| !related(used, name)).collect())
    };
    files.iter().map(used).collect()
}

/// What can be reached from `from`.
fn reached<'a>(uses: &BTreeMap<&'a Name, BTreeSet<&'a Name>>, from: &Name) -> BTreeSet<&'a Name> {
    let mut reached = BTreeSet::new();
    let mut next: Vec<&Name> = uses[from].iter().copied().collect();
    while let Some(name) = next.pop() {
        if reached.insert(name) {
            next.extend(&uses[name]);
        }
    }
    reached
}

/// The files that know each other in circles, by circle.
fn circles(files: &BTreeMap<Name, String>) -> BTreeSet<Vec<String>> {
    let uses = uses(files);
    let reached: BTreeMap<&Name, BTreeSet<&Name>> = files
        .keys()
        .map(|name| (name, reached(&uses, name)))
        .collect();
    let circle = |name: &Name| {
        let members = reached[name].iter();
        let members = members.filter(|other| reached[**other].contains(name));
        let members: Vec<String> = members.map(|it| it.join("/")).collect();
        (!members.is_empty()).then_some(members)
    };
    files.keys().filter_map(circle).collect()
}

#[test]
fn files_of_a_crate_know_each_other_in_no_circles_but_the_named_ones() {
    let crates = workspace_root().join("crates");
    let mut found = Vec::new();
    let mut seen = 0;
    for entry in std::fs::read_dir(&crates).expect("it can be read") {
        let entry = entry.expect("it can be read");
        let name = entry.file_name().to_string_lossy().into_owned();
        for circle in circles(&files(&entry.path().join("src"))) {
            let known = CIRCLES.iter().find(|(of, first, most)| {
                *of == name && *first == circle[0] && circle.len() <= *most
            });
            match known {
                Some(_) => seen += 1,
                None => found.push(format!("{name}: {}", circle.join(", "))),
            }
        }
    }
    assert!(found.is_empty(), "circles that are not named: {found:#?}");
    assert_eq!(
        seen,
        CIRCLES.len(),
        "a circle that is gone is named no more"
    );
}

#[test]
fn a_circle_is_found_whatever_the_paths_look_like() {
    let file = |name: &str, text: &str| {
        let name = name.split('/').map(str::to_owned).collect();
        (name, without_comments_and_tests(text))
    };
    let circle = BTreeMap::from([
        file("a", "use crate::{b::{self, B}, x::X};"),
        file("b/part", "fn f() { super::super::c::f() }"),
        file("b", "use crate::b::part::P;"),
        file(
            "c",
            "// crate::x\nuse crate::a;\n#[cfg(test)]\nmod tests { use crate::x; }",
        ),
        file("x", "use crate::wire::W;"),
    ]);
    // `b` and its part are one module, and only the part leads on.
    assert_eq!(circles(&circle), BTreeSet::new());
    let mut circle = circle;
    circle.extend([file("b", "use crate::c;")]);
    let names = ["a", "b", "c"].map(str::to_owned).to_vec();
    assert_eq!(circles(&circle), BTreeSet::from([names]));
}
