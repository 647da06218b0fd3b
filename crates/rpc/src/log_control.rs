//! The log levels of this process, as RPC changes them.
//!
//! There is one log per process, shared by all servers in it. Its owner registers it with
//! [`control_log`]; this module computes the directives of its filter, and reads the current
//! levels from `tracing`.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::{Mutex, OnceLock, PoisonError};

use tracing::Level;

/// The log of this process.
pub trait LogControl: Send + Sync {
    /// The file that it is written to.
    fn file(&self) -> Option<PathBuf>;

    /// Appends directives (`target=level`) to the initial ones, in place of those of the last
    /// call.
    ///
    /// # Errors
    /// The filter could not be changed; nothing has changed.
    fn adjust(&self, directives: &[String]) -> Result<(), String>;
}

/// Why the log was not changed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum AdjustError {
    /// No category has this name. The text is Core's.
    #[error("unknown logging category {0}")]
    Unknown(String),
    /// No log was registered.
    #[error("the log of this process cannot be changed: it was not set up by the program handfast")]
    NoLog,
    /// The filter could not be changed.
    #[error("the log was not changed: {0}")]
    Failed(String),
}

struct Category {
    name: &'static str,
    /// The target of its events and of its modules' events.
    target: &'static str,
    is_detailed: fn() -> bool,
}

macro_rules! categories {
    ($($name:literal => $target:literal),+ $(,)?) => {
        &[$(Category {
            name: $name,
            target: $target,
            is_detailed: || tracing::enabled!(target: $target, Level::DEBUG),
        }),+]
    };
}

/// Sorted by name.
const CATEGORIES: &[Category] = categories! {
    "chain" => "handfast_chain",
    "node" => "handfast_node",
    "node::connector" => "handfast_node::connector",
    "node::listener" => "handfast_node::listener",
    "node::peer_manager" => "handfast_node::peer_manager",
    "proto" => "handfast_proto",
    "proto::peer_table" => "handfast_proto::peer_table",
    "proto::session" => "handfast_proto::session",
    "proto::sync" => "handfast_proto::sync",
    "rpc" => "handfast_rpc",
};

/// Core's categories, sorted by name, with ours that cover them. An empty list: there is nothing
/// to log. Core's `rpc` is ours.
const OF_CORE: &[(&str, &[&str])] = &[
    ("addrman", &["proto::peer_table"]),
    ("bench", &[]),
    ("blockstorage", &["chain"]),
    ("cmpctblock", &["proto::sync"]),
    ("coindb", &["chain"]),
    ("estimatefee", &[]),
    ("http", &["rpc"]),
    ("i2p", &[]),
    ("ipc", &[]),
    ("kernel", &["chain"]),
    ("leveldb", &["chain"]),
    ("mempool", &[]),
    ("mempoolrej", &[]),
    ("net", &["node", "proto"]),
    ("privatebroadcast", &[]),
    ("proxy", &[]),
    ("prune", &["chain"]),
    ("qt", &[]),
    ("rand", &[]),
    ("reindex", &["chain"]),
    ("scan", &[]),
    ("selectcoins", &[]),
    ("tor", &[]),
    ("txpackages", &[]),
    ("txreconciliation", &[]),
    ("validation", &["chain"]),
    ("walletdb", &[]),
    ("zmq", &[]),
];

struct Registered {
    log: Box<dyn LogControl>,
    /// Targets detailed at the start.
    at_start: BTreeMap<&'static str, bool>,
    /// Targets changed since.
    asked: Mutex<BTreeMap<&'static str, bool>>,
}

static REGISTERED: OnceLock<Registered> = OnceLock::new();

/// Registers the log: from now on `logging` can change it, and `getrpcinfo` shows its file. To be
/// called when it logs already; a second call changes nothing.
pub fn control_log(log: impl LogControl + 'static) {
    REGISTERED.get_or_init(|| Registered {
        log: Box::new(log),
        at_start: CATEGORIES
            .iter()
            .map(|category| (category.target, (category.is_detailed)()))
            .collect(),
        asked: Mutex::default(),
    });
}

/// The log file.
pub(crate) fn file() -> Option<PathBuf> {
    REGISTERED.get()?.log.file()
}

/// Every category, Core's among them, sorted by name, and whether it is logged in detail.
pub(crate) fn categories() -> impl Iterator<Item = (&'static str, bool)> {
    let own = CATEGORIES.iter();
    let own = own.map(|category| (category.name, (category.is_detailed)()));
    let of_core = OF_CORE.iter().map(|(name, ours)| {
        let mut meant = CATEGORIES.iter().filter(|one| ours.contains(&one.name));
        let detailed = !ours.is_empty() && meant.all(|one| (one.is_detailed)());
        (*name, detailed)
    });
    let all: BTreeMap<_, _> = own.chain(of_core).collect();
    all.into_iter()
}

/// Logs categories in detail or not, one change after another; changes nothing when one is
/// unknown.
pub(crate) fn adjust(changes: &[(&str, bool)]) -> Result<(), AdjustError> {
    let registered = REGISTERED.get();
    let asked = registered.map(|registered| &registered.asked);
    let mut asked = match asked {
        Some(asked) => asked.lock().unwrap_or_else(PoisonError::into_inner),
        None => return Err(AdjustError::NoLog),
    };
    let next = changed(&asked, changes)?;
    let registered = registered.ok_or(AdjustError::NoLog)?;
    let directives = directives(&registered.at_start, &next);
    registered
        .log
        .adjust(&directives)
        .map_err(AdjustError::Failed)?;
    *asked = next;
    Ok(())
}

/// The requested levels after these changes.
fn changed(
    asked: &BTreeMap<&'static str, bool>,
    changes: &[(&str, bool)],
) -> Result<BTreeMap<&'static str, bool>, AdjustError> {
    let mut next = asked.clone();
    for (name, detailed) in changes {
        let of_core = OF_CORE.iter().find(|(of_core, _)| of_core == name);
        let ours = of_core.map_or(std::slice::from_ref(name), |(_, ours)| *ours);
        let is_meant = |category: &&Category| ours.iter().any(|one| stands_for(one, category));
        let meant: Vec<&Category> = CATEGORIES.iter().filter(is_meant).collect();
        if meant.is_empty() && of_core.is_none() {
            return Err(AdjustError::Unknown((*name).to_owned()));
        }
        next.extend(meant.iter().map(|category| (category.target, *detailed)));
    }
    Ok(next)
}

/// Whether `name` is this category, or one that it is a module of.
fn stands_for(name: &str, category: &Category) -> bool {
    let below = |rest: &str| rest.is_empty() || rest.starts_with("::");
    matches!(name, "all" | "1") || category.name.strip_prefix(name).is_some_and(below)
}

/// The directives that differ from the initial levels: a level below info must not be raised, nor
/// one above debug lowered.
fn directives(
    at_start: &BTreeMap<&'static str, bool>,
    asked: &BTreeMap<&'static str, bool>,
) -> Vec<String> {
    let mut directives = Vec::new();
    let mut crates = Vec::new();
    // A crate comes before its modules, and its directive would hold for them.
    for (target, detailed) in asked {
        let overruled = crates.iter().any(|one: &&str| target.starts_with(one));
        if at_start.get(target) != Some(detailed) || overruled {
            let level = if *detailed { "debug" } else { "info" };
            directives.push(format!("{target}={level}"));
            crates.push(*target);
        }
    }
    directives
}

#[cfg(test)]
mod tests {
    use super::*;

    fn after(changes: &[(&str, bool)]) -> Vec<(&'static str, bool)> {
        let asked = changed(&BTreeMap::new(), changes).expect("known");
        asked.into_iter().collect()
    }

    #[test]
    fn a_crate_stands_for_its_modules_and_exclusion_comes_last() {
        assert_eq!(after(&[("rpc", true)]), [("handfast_rpc", true)]);
        assert_eq!(
            after(&[("proto", true), ("proto::session", false)]),
            [
                ("handfast_proto", true),
                ("handfast_proto::peer_table", true),
                ("handfast_proto::session", false),
                ("handfast_proto::sync", true),
            ]
        );
        assert_eq!(after(&[("all", true)]).len(), CATEGORIES.len());
        assert_eq!(after(&[("1", false)]).len(), CATEGORIES.len());
        for name in ["none", "nod", "node::", "proto::sess", ""] {
            let error = changed(&BTreeMap::new(), &[("rpc", true), (name, true)]);
            assert_eq!(error, Err(AdjustError::Unknown(name.to_owned())));
        }
    }

    #[test]
    fn categories_of_core_stand_for_ours_where_there_are_any() {
        assert_eq!(after(&[("http", true)]), after(&[("rpc", true)]));
        let net = after(&[("net", true)]);
        assert_eq!(net, after(&[("node", true), ("proto", true)]));
        assert!(net.len() > 6, "with their modules");
        assert!(after(&[("mempool", true)]).is_empty(), "there is none");
        let names: Vec<_> = categories().map(|(name, _)| name).collect();
        assert!(names.is_sorted() && names.contains(&"net") && names.contains(&"node::listener"));
        for (name, ours) in OF_CORE {
            let is_one = |one: &&str| CATEGORIES.iter().any(|category| category.name == *one);
            assert!(ours.iter().all(&is_one), "{name}");
            assert!(!is_one(name), "{name} is one of ours");
        }
    }

    #[test]
    fn a_category_at_its_initial_level_needs_no_directive() {
        let at_start = BTreeMap::from([("handfast_rpc", true), ("handfast_chain", false)]);
        let asked = BTreeMap::from([("handfast_rpc", true), ("handfast_chain", false)]);
        assert!(directives(&at_start, &asked).is_empty());
        let asked = BTreeMap::from([("handfast_rpc", false), ("handfast_chain", true)]);
        assert_eq!(
            directives(&at_start, &asked),
            ["handfast_chain=debug", "handfast_rpc=info"]
        );
    }

    #[test]
    fn a_module_keeps_its_own_level_when_its_crate_is_changed() {
        let at_start = CATEGORIES.iter().map(|category| (category.target, false));
        let changes = [("proto", true), ("proto::sync", false)];
        let asked = changed(&BTreeMap::new(), &changes).expect("known");
        assert_eq!(
            directives(&at_start.collect(), &asked),
            [
                "handfast_proto=debug",
                "handfast_proto::peer_table=debug",
                "handfast_proto::session=debug",
                "handfast_proto::sync=info",
            ]
        );
    }

    #[test]
    fn categories_are_sorted_and_below_each_other_by_name_as_by_target() {
        assert!(CATEGORIES.is_sorted_by(|one, next| one.name < next.name));
        for category in CATEGORIES {
            assert_eq!(category.target, format!("handfast_{}", category.name));
        }
    }
}
