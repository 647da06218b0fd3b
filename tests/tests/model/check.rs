//! Running the checker, and telling what it found.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::time::Instant;

use stateright::{Checker, HasDiscoveries, Model, Path};

use crate::action::Action;
use crate::node::Node;
use crate::properties;
use crate::world::World;

/// Explores all states of `node`. Panics with the path, in words, when one breaks an
/// invariant, and when a situation that must occur does not.
pub(crate) fn holds(name: &str, node: &Node) {
    let begin = Instant::now();
    let checker = node.clone().checker().threads(2).spawn_dfs().join();
    println!(
        "{name}: {} states, {} steps between them, {} deep, {:.1} s",
        checker.unique_state_count(),
        checker.state_count(),
        checker.max_depth(),
        begin.elapsed().as_secs_f64()
    );
    let found: BTreeSet<&str> = checker.discoveries().into_keys().collect();
    if let Some(broken) = properties::NAMES.iter().find(|name| found.contains(*name)) {
        let path = shortest(node, broken).expect("it was found before");
        panic!("{name}: broken: {broken}\n{}", told(&path));
    }
    let never: Vec<&str> = node
        .situations
        .iter()
        .map(|situation| situation.property().name)
        .filter(|name| !found.contains(name))
        .collect();
    assert!(never.is_empty(), "{name}: never happens: {never:?}");
}

/// The shortest way to a state that breaks `property`.
pub(crate) fn shortest(node: &Node, property: &'static str) -> Option<Path<World, Action>> {
    let wanted = BTreeSet::from([property]);
    let within = |most: Option<usize>| {
        let checker = node
            .clone()
            .checker()
            .finish_when(HasDiscoveries::AnyOf(wanted.clone()));
        let checker = match most {
            Some(actions) => checker.target_max_depth(actions + 2),
            None => checker,
        };
        checker.spawn_bfs().join().discovery(property)
    };
    // A search breadth first goes on for some states after it has found one.
    let mut best = within(None)?;
    loop {
        let actions = best.clone().into_actions().len();
        match within(actions.checked_sub(1)) {
            Some(shorter) => best = shorter,
            None => return Some(best),
        }
    }
}

/// A path in plain words: what happened, and what the state was after it.
pub(crate) fn told(path: &Path<World, Action>) -> String {
    let mut text = String::new();
    for (step, (state, action)) in path.clone().into_vec().into_iter().enumerate() {
        if step > 0 {
            let _ = writeln!(text, "      {state}");
        }
        if let Some(action) = action {
            let _ = writeln!(text, "  {}. {action}", step + 1);
        }
    }
    text
}
