//! Whether states that the checker takes for one really are.

use std::collections::{HashMap, VecDeque};

use stateright::Model;

use crate::action::Action;
use crate::machines::key_of;
use crate::node::Node;
use crate::world::World;

/// What can happen in a state, and what each of it leads to.
fn future(node: &Node, world: &World) -> Vec<(Action, u64)> {
    let steps = node.next_steps(world).into_iter();
    steps
        .map(|(action, next)| (action, key_of(&next)))
        .collect()
}

/// Explores all states of `node`, and looks one step beyond *every* one that is reached,
/// also when a state with the same key was reached before: both must have the same future.
/// Returns how often two ways met.
pub(crate) fn equal_keys_mean_equal_futures(node: &Node) -> usize {
    // By key: how it was reached first, and the key of its future. Whole futures would
    // take gigabytes; one that differs is worked out again from its way.
    let mut futures = HashMap::<u64, (Action, Vec<u64>)>::new();
    let mut waiting: VecDeque<World> = node.init_states().into();
    let mut met = 0;
    while let Some(world) = waiting.pop_front() {
        for (action, next) in node.next_steps(&world) {
            let here = future(node, &next);
            match futures.get(&key_of(&next)) {
                Some((first, before)) => {
                    met += 1;
                    let differ: Vec<_> = here
                        .iter()
                        .zip(before)
                        .filter(|(a, b)| a.1 != **b)
                        .collect();
                    if !differ.is_empty() {
                        println!("DIFFER {differ:?}");
                    }
                    assert!(
                        differ.is_empty(),
                        "the future after {action:?} in\n{world}\n is not that of the \
                         state with the same key that was reached by {first:?}:\n{next}\n\
                         its future: {here:#?}"
                    );
                }
                None => {
                    let seen = (action, here.iter().map(|a| a.1).collect());
                    futures.insert(key_of(&next), seen);
                    waiting.push_back(next);
                }
            }
        }
    }
    met
}
