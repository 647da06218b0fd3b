//! Random peers, faults and times: whatever happens, the bounds hold, and once the
//! faults stop the node ends on the best chain.

use std::time::Duration;

use proptest::prelude::*;

use crate::lifecycle::Direction;

use super::super::RejectKind;
use super::chains::Blocks;
use super::secs;
use super::world::{Behaviour, World};

#[derive(Clone, Debug)]
struct Plot {
    /// 0: the best chain, 1: a shorter one, 2: a branch, 3: a branch with an invalid block.
    chain: u8,
    direction: u8,
    latency_ms: u64,
    headers_answers: Option<usize>,
    block_answers: Option<usize>,
    leaves_after_blocks: Option<usize>,
    lacks_blocks: bool,
    arrives_ms: u64,
    leaves_ms: Option<u64>,
}

fn plot() -> impl Strategy<Value = Plot> {
    (
        (0..4u8, 0..3u8, 1..400u64),
        (prop::option::of(0..6usize), prop::option::of(0..200usize)),
        (prop::option::of(1..300usize), prop::bool::weighted(0.1)),
        (0..8_000u64, prop::option::of(0..20_000u64)),
    )
        .prop_map(
            |((chain, direction, latency_ms), answers, (leaves, lacks), times)| Plot {
                chain,
                direction,
                latency_ms,
                headers_answers: answers.0,
                block_answers: answers.1,
                leaves_after_blocks: leaves,
                lacks_blocks: lacks,
                arrives_ms: times.0,
                leaves_ms: times.1,
            },
        )
}

fn behaviour(plot: &Plot) -> Behaviour {
    Behaviour {
        latency: Duration::from_millis(plot.latency_ms),
        headers_answers: plot.headers_answers.unwrap_or(usize::MAX),
        block_answers: plot.block_answers.unwrap_or(usize::MAX),
        leaves_after_blocks: plot.leaves_after_blocks,
        lacks_blocks: plot.lacks_blocks,
        ..Behaviour::default()
    }
}

fn play(plots: &[Plot], kernel_us: u64, honest_after_ms: u64) {
    let best = Blocks::new(2_300, 1);
    let chains = [
        best.clone(),
        best.fork(1_500, 0, 1),
        best.fork(1_900, 350, 2),
        best.fork(1_900, 500, 3),
    ];
    let mut world = World::new();
    world.kernel_time = Duration::from_micros(kernel_us);
    world
        .kernel
        .bad
        .insert(chains[3].at(2_000).hash, RejectKind::Consensus);
    let mut happenings: Vec<(u64, usize, bool)> = Vec::new();
    for (at, plot) in plots.iter().enumerate() {
        happenings.push((plot.arrives_ms, at, true));
        if let Some(after) = plot.leaves_ms {
            happenings.push((plot.arrives_ms + after, at, false));
        }
    }
    happenings.sort_unstable();
    let mut ids = vec![None; plots.len()];
    for (ms, at, arrives) in happenings {
        world.run(Duration::from_millis(ms).saturating_sub(world.now.mono));
        if arrives {
            let plot = &plots[at];
            let direction = [Direction::Inbound, Direction::Outbound, Direction::Manual]
                [plot.direction as usize];
            let chain = &chains[plot.chain as usize];
            ids[at] = Some(world.add_as(chain, direction, behaviour(plot)));
        } else if let Some(id) = ids[at] {
            world.leave(id);
        }
    }
    world.run(Duration::from_millis(honest_after_ms));
    let honest = world.add_as(&best, Direction::Inbound, Behaviour::default());
    world.sync_to(&best, secs(60));
    ids.push(Some(honest));
    let faulty = |plot: &Plot| {
        plot.headers_answers.is_some() || plot.block_answers.is_some() || plot.lacks_blocks
    };
    for (at, id) in ids.into_iter().enumerate() {
        let Some(id) = id else { continue };
        let honest = plots
            .get(at)
            .is_none_or(|plot| plot.chain < 3 && !faulty(plot));
        assert!(
            !honest || world.reason(id).is_none(),
            "{id} is honest: {:?}",
            world.ended
        );
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, max_shrink_iters: 200, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn once_the_faults_stop_the_node_ends_on_the_best_chain(
        plots in prop::collection::vec(plot(), 0..7),
        kernel_us in 20..3_000u64,
        honest_after_ms in 0..20_000u64,
    ) {
        play(&plots, kernel_us, honest_after_ms);
    }
}
