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
use stall::{News, Stall};

/// How often is looked, and the bar moves.
const LOOK_INTERVAL: Duration = Duration::from_millis(500);
/// From one line of the log to the next where there is no terminal.
const LINE_INTERVAL: Duration = Duration::from_secs(10);
/// The same beside a bar: the lines are for the log file.
const LINE_INTERVAL_BESIDE_BAR: Duration = Duration::from_secs(60);
/// Blocks by which a chain may be longer than ours without our being behind: those that were
/// just found.
const NEW_BLOCKS: u32 = 3;
/// Target time between two blocks on every network that is always mined, seconds.
const SPACING: u32 = 600;
/// The same for headers: blocks come irregularly, so the clock is that much off.
const NEW_HEADERS: u32 = 24;

/// Reports until it is aborted. Says nothing while nothing is behind.
pub(crate) async fn report(node: NodeHandle, log: Log) {
    let terminal = std::io::stderr().is_terminal();
    let line_interval = match terminal {
        true => LINE_INTERVAL_BESIDE_BAR,
        false => LINE_INTERVAL,
    };
    let mut interval = tokio::time::interval(LOOK_INTERVAL);
    interval.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let mut bar: Option<ProgressBar> = None;
    let mut pace = Pace::default();
    let mut last: Option<Stage> = None;
    let mut said_at = Instant::now();
    let mut stall = Stall::default();
    let mut looked: Option<SyncPhase> = None;
    loop {
        interval.tick().await;
        let Some((mut look, why)) = look(&node).await else {
            continue;
        };
        look.lasts = looked.replace(look.phase) == Some(look.phase);
        match stall.look(Instant::now(), look.phase == SyncPhase::Stalled) {
            Some(News::Stalled) => {
                let warning = format!("sync is stalled: {why}");
                tracing::warn!("{warning}");
                node.warn_of_sync(Some(warning));
            }
            Some(News::GoesOn) => {
                tracing::info!("sync goes on: {why}");
                node.warn_of_sync(None);
            }
            None => {}
        }
        let stage = stage(&look, last);
        if stage != last {
            pace = Pace::default();
            said_at = Instant::now();
            tell_stage(last, stage, &look);
            last = stage;
        }
        let Some(stage) = stage else {
            if let Some(bar) = bar.take() {
                log.around(None);
                bar.finish_and_clear();
            }
            continue;
        };
        let at = position(stage, &look);
        pace.add(Instant::now(), at.done);
        let left = at.goal.and_then(|goal| pace.left(goal));
        let text = text(stage, at, left);
        if terminal {
            draw(bar.get_or_insert_with(|| new_bar(&log)), at, &text);
        }
        if said_at.elapsed() >= line_interval {
            said_at = Instant::now();
            let peers = look.peers;
            tracing::info!(peers, "syncing {text}");
        }
    }
}

/// What there is to report on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Look {
    phase: SyncPhase,
    /// Whether the phase was the same when it was looked at before.
    lasts: bool,
    headers: u32,
    blocks: u32,
    /// Headers that must have been found by now, where the clock tells.
    expected: Option<u32>,
    /// Headers whose work is being added up, before any are kept.
    presynced: Option<u32>,
    peers: usize,
}

/// And what the node says that it waits for. `None` while the chain is not open.
async fn look(node: &NodeHandle) -> Option<(Look, String)> {
    let view = node.view();
    if view.phase != Phase::Running || !view.open {
        return None;
    }
    let state = node.sync_state().await.ok()?;
    let look = Look::of(&view, &state, unix_now());
    Some((look, state.why))
}

fn unix_now() -> u32 {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    now.map_or(0, |now| u32::try_from(now.as_secs()).unwrap_or(u32::MAX))
}

impl Look {
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

/// What is being caught up on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    /// Headers are looked at for their work, and not kept yet.
    Presync,
    Headers,
    Blocks,
}

/// What the node is behind with; `None`: it follows the chain, or has nobody to sync with.
/// `last`: what it was. A stage ends only when all is there, but begins only with more than
/// a block or two missing.
fn stage(look: &Look, last: Option<Stage>) -> Option<Stage> {
    if look.phase == SyncPhase::NoPeers {
        return None;
    }
    if look.presynced.is_some() {
        return Some(Stage::Presync);
    }
    let missing = look.expected.unwrap_or(0).saturating_sub(look.headers);
    if look.phase == SyncPhase::HeaderSync && missing > NEW_HEADERS {
        return Some(Stage::Headers);
    }
    let behind = look.headers.saturating_sub(look.blocks);
    let begun = last == Some(Stage::Blocks);
    if behind > NEW_BLOCKS || (begun && behind > 0) {
        return Some(Stage::Blocks);
    }
    // Where the clock tells nothing, headers that are being waited for are counted.
    let counted = look.expected.is_none() && look.lasts;
    (look.phase == SyncPhase::HeaderSync && counted).then_some(Stage::Headers)
}

/// How far a stage is. `goal` is `None` where nobody can know.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Position {
    done: u32,
    goal: Option<u32>,
}

fn position(stage: Stage, look: &Look) -> Position {
    match stage {
        Stage::Presync => Position {
            done: look.presynced.unwrap_or(0),
            goal: look.expected.filter(|goal| *goal > 0),
        },
        Stage::Headers => Position {
            done: look.headers,
            goal: look.expected,
        },
        Stage::Blocks => Position {
            done: look.blocks,
            goal: Some(look.headers),
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
        // Not rounded up: 100 % is when all is there.
        let tenths = u64::from(done) * 1_000 / u64::from(goal.max(1));
        text += &format!("/{goal} {}.{}%", tenths / 10, tenths % 10);
    }
    // A goal that was guessed and is reached tells nothing about the rest.
    if let Some(left) = left.filter(|_| goal.is_some_and(|goal| done < goal)) {
        // Under a second it is over before it is read.
        text += &format!(
            ", {} left",
            passed(Duration::from_secs(left.as_secs().max(1)))
        );
    }
    text
}

fn tell_stage(last: Option<Stage>, stage: Option<Stage>, look: &Look) {
    let Look {
        headers,
        blocks,
        peers,
        ..
    } = *look;
    match (last, stage) {
        (_, Some(Stage::Presync)) => {
            tracing::info!(
                peers,
                "adding up the work of a peer's headers before they are kept"
            );
        }
        (_, Some(Stage::Headers)) => tracing::info!(headers, peers, "syncing headers"),
        (_, Some(Stage::Blocks)) => tracing::info!(blocks, headers, peers, "syncing blocks"),
        (Some(_), None) if look.phase == SyncPhase::NoPeers => {
            tracing::info!(blocks, headers, "sync waits: no peer serves blocks");
        }
        (Some(_), None) if look.phase == SyncPhase::Stalled => {
            tracing::info!(blocks, headers, "sync waits for later blocks");
        }
        (Some(_), None) => {
            tracing::info!(height = blocks, "sync is complete: following the chain");
        }
        (None, None) => {}
    }
}

fn new_bar(log: &Log) -> ProgressBar {
    // The bar takes what the text leaves: nothing wraps in a narrow terminal.
    let style = ProgressStyle::with_template("{wide_bar} {msg}")
        .expect("the template is valid: it is a constant");
    let bar = ProgressBar::with_draw_target(None, ProgressDrawTarget::stderr()).with_style(style);
    log.around(Some(bar.clone()));
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
