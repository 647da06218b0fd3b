//! Progress of the sync: stages in the log, and a bar on a terminal.

mod pace;
mod stall;

use std::io::IsTerminal;
use std::time::Duration;

use handfast_node::text::passed;
use handfast_node::{ChainView, NodeHandle, Phase, SyncPhase, SyncState};
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use tokio::time::Instant;

use crate::logging::Log;
use pace::Pace;
use stall::{Stall, StallChange};

/// Interval of reading the state and moving the bar.
const SAMPLE_INTERVAL: Duration = Duration::from_millis(500);
/// Interval of log lines where there is no terminal.
const LINE_INTERVAL: Duration = Duration::from_secs(10);
/// The same with a bar: the lines are for the log file.
const LINE_INTERVAL_WITH_BAR: Duration = Duration::from_secs(60);
/// A chain may be longer than ours by so many blocks without our being behind: those just found.
const NEW_BLOCKS: u32 = 3;
/// Target time between two blocks on every network that is always mined, seconds.
const SPACING: u32 = 600;
/// The same for headers: blocks come irregularly, so the clock is off by that much.
const NEW_HEADERS: u32 = 24;

/// Reports until it is aborted; silent while the node is not behind.
pub(crate) async fn report(node: NodeHandle, log: Log) {
    let terminal = std::io::stderr().is_terminal();
    let line_interval = match terminal {
        true => LINE_INTERVAL_WITH_BAR,
        false => LINE_INTERVAL,
    };
    let mut interval = tokio::time::interval(SAMPLE_INTERVAL);
    interval.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let mut bar: Option<ProgressBar> = None;
    let mut pace = Pace::default();
    let mut last: Option<Stage> = None;
    let mut logged_at = Instant::now();
    let mut stall = Stall::default();
    let mut last_phase: Option<SyncPhase> = None;
    loop {
        interval.tick().await;
        let Some((mut sample, why)) = sample(&node).await else {
            continue;
        };
        sample.lasts = last_phase.replace(sample.phase) == Some(sample.phase);
        match stall.update(Instant::now(), sample.phase == SyncPhase::Stalled) {
            Some(StallChange::Stalled) => {
                let warning = format!("sync is stalled: {why}");
                tracing::warn!("{warning}");
                node.warn_of_sync(Some(warning));
            }
            Some(StallChange::Resumed) => {
                tracing::info!("sync continues: {why}");
                node.warn_of_sync(None);
            }
            None => {}
        }
        let stage = stage(&sample, last);
        if stage != last {
            pace = Pace::default();
            logged_at = Instant::now();
            log_stage(last, stage, &sample);
            last = stage;
        }
        let Some(stage) = stage else {
            if let Some(bar) = bar.take() {
                log.set_bar(None);
                bar.finish_and_clear();
            }
            continue;
        };
        let at = position(stage, &sample);
        pace.add(Instant::now(), at.done);
        let left = at.goal.and_then(|goal| pace.left(goal));
        let text = text(stage, at, left);
        if terminal {
            draw(bar.get_or_insert_with(|| new_bar(&log)), at, &text);
        }
        if logged_at.elapsed() >= line_interval {
            logged_at = Instant::now();
            let peers = sample.peers;
            tracing::info!(peers, "syncing {text}");
        }
    }
}

/// A sample of the sync state.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Sample {
    phase: SyncPhase,
    /// Whether the phase was the same in the last sample.
    lasts: bool,
    headers: u32,
    blocks: u32,
    /// The height expected by the clock, on networks that are always mined.
    expected: Option<u32>,
    /// Height of a header presync, before headers are stored.
    presynced: Option<u32>,
    peers: usize,
}

/// The sample, and the reason of the sync state. `None` while the chain is not open.
async fn sample(node: &NodeHandle) -> Option<(Sample, String)> {
    let view = node.view();
    if view.phase != Phase::Running || !view.open {
        return None;
    }
    let state = node.sync_state().await.ok()?;
    let sample = Sample::of(&view, &state, unix_now());
    Some((sample, state.why))
}

fn unix_now() -> u32 {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    now.map_or(0, |now| u32::try_from(now.as_secs()).unwrap_or(u32::MAX))
}

impl Sample {
    fn of(view: &ChainView, state: &SyncState, unix: u32) -> Self {
        let best = view.tree.best_header();
        let since = unix.saturating_sub(best.header.time) / SPACING;
        let presynced = state.peers.iter().filter_map(|peer| peer.presynced).max();
        Self {
            phase: state.phase,
            lasts: false,
            headers: best.height,
            blocks: view.tree.tip().height,
            expected: view
                .network
                .always_mined()
                .then_some(best.height.saturating_add(since)),
            presynced,
            peers: state.peers.len(),
        }
    }
}

/// A stage of the sync.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    /// The work of headers is summed up; they are not stored yet.
    Presync,
    Headers,
    Blocks,
}

/// The stage that the node is in; `None`: it follows the chain, or has no peers. `last`: the
/// stage before. A stage ends only when nothing is missing, but begins only with more than a
/// block or two missing.
fn stage(sample: &Sample, last: Option<Stage>) -> Option<Stage> {
    if sample.phase == SyncPhase::NoPeers {
        return None;
    }
    if sample.presynced.is_some() {
        return Some(Stage::Presync);
    }
    let missing = sample.expected.unwrap_or(0).saturating_sub(sample.headers);
    if sample.phase == SyncPhase::HeaderSync && missing > NEW_HEADERS {
        return Some(Stage::Headers);
    }
    let behind = sample.headers.saturating_sub(sample.blocks);
    let begun = last == Some(Stage::Blocks);
    if behind > NEW_BLOCKS || (begun && behind > 0) {
        return Some(Stage::Blocks);
    }
    // Without an expected height, headers are counted.
    let counted = sample.expected.is_none() && sample.lasts;
    (sample.phase == SyncPhase::HeaderSync && counted).then_some(Stage::Headers)
}

/// Progress within a stage. `goal` is `None` where it is unknown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Position {
    done: u32,
    goal: Option<u32>,
}

fn position(stage: Stage, sample: &Sample) -> Position {
    match stage {
        Stage::Presync => Position {
            done: sample.presynced.unwrap_or(0),
            goal: sample.expected.filter(|goal| *goal > 0),
        },
        Stage::Headers => Position {
            done: sample.headers,
            goal: sample.expected,
        },
        Stage::Blocks => Position {
            done: sample.blocks,
            goal: Some(sample.headers),
        },
    }
}

/// One line of at most 50 columns.
fn text(stage: Stage, at: Position, left: Option<Duration>) -> String {
    let what = match stage {
        Stage::Presync => "headers (1 of 2)",
        Stage::Headers => "headers",
        Stage::Blocks => "blocks",
    };
    let Position { done, goal } = at;
    let mut text = format!("{what} {done}");
    if let Some(goal) = goal.map(|goal| goal.max(done)) {
        // Not rounded up: 100 % means that nothing is missing.
        let tenths = u64::from(done) * 1_000 / u64::from(goal.max(1));
        text += &format!("/{goal} {}.{}%", tenths / 10, tenths % 10);
    }
    // Beyond an estimated goal the time left is unknown.
    if let Some(left) = left.filter(|_| goal.is_some_and(|goal| done < goal)) {
        // Less than a second is shown as one.
        text += &format!(
            ", {} left",
            passed(Duration::from_secs(left.as_secs().max(1)))
        );
    }
    text
}

fn log_stage(last: Option<Stage>, stage: Option<Stage>, sample: &Sample) {
    let Sample {
        headers,
        blocks,
        peers,
        ..
    } = *sample;
    match (last, stage) {
        (_, Some(Stage::Presync)) => {
            tracing::info!(
                peers,
                "presyncing headers: summing up their work before they are stored"
            );
        }
        (_, Some(Stage::Headers)) => tracing::info!(headers, peers, "syncing headers"),
        (_, Some(Stage::Blocks)) => tracing::info!(blocks, headers, peers, "syncing blocks"),
        (Some(_), None) if sample.phase == SyncPhase::NoPeers => {
            tracing::info!(blocks, headers, "sync waits for a peer that serves blocks");
        }
        (Some(_), None) if sample.phase == SyncPhase::Stalled => {
            tracing::info!(blocks, headers, "sync waits for later blocks");
        }
        (Some(_), None) => {
            tracing::info!(height = blocks, "sync is complete: following the chain");
        }
        (None, None) => {}
    }
}

fn new_bar(log: &Log) -> ProgressBar {
    // The bar takes the width that the text leaves: nothing wraps in a narrow terminal.
    let style = ProgressStyle::with_template("{wide_bar} {msg}")
        .expect("the template is valid: it is a constant");
    let bar = ProgressBar::with_draw_target(None, ProgressDrawTarget::stderr()).with_style(style);
    log.set_bar(Some(bar.clone()));
    bar
}

fn draw(bar: &ProgressBar, at: Position, text: &str) {
    // Without a goal it stays empty.
    let goal = at.goal.map_or(u64::MAX, |goal| u64::from(goal.max(1)));
    bar.set_length(goal);
    bar.set_position(u64::from(at.done));
    bar.set_message(text.to_owned());
}

#[cfg(test)]
mod tests;
