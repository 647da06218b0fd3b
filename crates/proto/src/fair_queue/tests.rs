use proptest::prelude::*;

use super::*;

/// A queue whose items are connection and position in its messages.
type Queue = FairQueue<(u64, u64)>;

fn fill(queue: &mut Queue, id: u64, cost: u64, positions: std::ops::Range<u64>) {
    for at in positions {
        queue.push(ConnId(id), cost, (id, at));
    }
}

fn drain(queue: &mut Queue) -> Vec<(u64, u64)> {
    std::iter::from_fn(|| queue.pop().map(|(_, item)| item)).collect()
}

#[test]
fn a_connection_with_little_waits_for_one_costly_message_of_others_and_not_for_all() {
    let mut queue = Queue::default();
    for flooder in 0..40 {
        fill(&mut queue, flooder, 10 * QUANTUM, 0..64);
    }
    // The flood is queued already.
    for _ in 0..100 {
        queue.pop();
    }
    for at in 0..20 {
        queue.push(ConnId(99), 2, (99, at));
        assert_eq!(queue.pop(), Some((2, (99, at))), "served at once");
        let (cost, (id, _)) = queue.pop().expect("the flood continues");
        assert!((cost, id) == (10 * QUANTUM, id) && id < 40);
    }
}

#[test]
fn a_flow_that_keeps_becoming_empty_does_not_starve_those_that_wait() {
    let mut queue = Queue::default();
    fill(&mut queue, 0, QUANTUM, 0..100);
    queue.pop();
    let mut of_the_first = 0;
    for at in 0..100 {
        // Each time its queue is empty again, it queues one more.
        queue.push(ConnId(1), QUANTUM, (1, at));
        let both = [queue.pop(), queue.pop()];
        of_the_first += both
            .iter()
            .flatten()
            .filter(|(_, (id, _))| *id == 0)
            .count();
    }
    assert!((45..=100).contains(&of_the_first), "{of_the_first}");
}

#[test]
fn work_is_shared_by_cost_and_not_by_messages() {
    let mut queue = Queue::default();
    fill(&mut queue, 0, 1_000, 0..1_000);
    fill(&mut queue, 1, 10, 0..100_000);
    let mut work = [0; 2];
    for _ in 0..20_000 {
        let (cost, (id, _)) = queue.pop().expect("more is queued");
        work[usize::try_from(id).expect("small")] += cost;
    }
    let (costly, cheap) = (work[0], work[1]);
    assert!(costly.abs_diff(cheap) <= 2_000, "{costly} and {cheap}");
}

#[test]
fn a_barrier_comes_after_all_before_it_and_before_all_after_it() {
    let mut queue = Queue::default();
    fill(&mut queue, 0, 10 * QUANTUM, 0..5);
    fill(&mut queue, 1, 1, 0..5);
    queue.push_barrier((7, 7));
    fill(&mut queue, 1, 1, 5..10);
    fill(&mut queue, 2, 1, 0..5);
    queue.push_barrier((8, 8));
    let order = drain(&mut queue);
    let first = order.iter().position(|item| *item == (7, 7));
    assert_eq!(first, Some(10));
    assert!(order[..10].iter().all(|(id, at)| *id < 2 && *at < 5));
    assert_eq!(order.last(), Some(&(8, 8)));
    assert_eq!(order.len(), 22);
}

#[test]
fn a_served_flow_leaves_nothing_behind() {
    let mut queue = Queue::default();
    for round in 0..50 {
        fill(&mut queue, round, 3 * QUANTUM, 0..3);
        fill(&mut queue, round + 1, 1, 0..3);
    }
    drain(&mut queue);
    assert!(queue.is_empty() && queue.flows.is_empty());
    assert!(queue.fresh.is_empty() && queue.busy.is_empty());
}

proptest! {
    #[test]
    fn nothing_is_lost_and_each_connection_keeps_its_order(
        script in prop::collection::vec((0u64..6, 1u64..5_000, 0usize..3, any::<bool>()), 1..300),
    ) {
        let mut queue = FairQueue::default();
        let (mut pushed, mut popped) = (Vec::new(), Vec::new());
        for (at, (id, cost, pops, barrier)) in script.into_iter().enumerate() {
            if barrier && at % 7 == 0 {
                queue.push_barrier((None, at));
                pushed.push((None, at));
            }
            queue.push(ConnId(id), cost, (Some(id), at));
            pushed.push((Some(id), at));
            popped.extend((0..pops).filter_map(|_| queue.pop()));
            prop_assert_eq!(queue.len(), pushed.len() - popped.len());
        }
        popped.extend(std::iter::from_fn(|| queue.pop()));
        let popped: Vec<_> = popped.into_iter().map(|(_, item)| item).collect();
        for id in 0..6 {
            let of = |all: &[(Option<u64>, usize)]| -> Vec<_> {
                all.iter().filter(|(of, _)| *of == Some(id) || of.is_none()).copied().collect()
            };
            prop_assert_eq!(of(&pushed), of(&popped), "connection {}", id);
        }
        prop_assert_eq!(pushed.len(), popped.len());
    }
}
