//! Progress of the sync: a bar on a terminal, a line every ten seconds elsewhere.

use std::io::IsTerminal;
use std::time::Duration;

use handfast_node::{ChainView, NodeHandle, Phase};
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use crate::logging::Log;

/// How often the bar moves.
const BAR_INTERVAL: Duration = Duration::from_millis(500);
/// How often a line is logged where there is no terminal.
const LINE_INTERVAL: Duration = Duration::from_secs(10);

/// Reports until it is aborted. Says nothing while nothing moves.
pub(crate) async fn report(node: NodeHandle, log: Log) {
    let terminal = std::io::stderr().is_terminal();
    let mut interval = tokio::time::interval(if terminal {
        BAR_INTERVAL
    } else {
        LINE_INTERVAL
    });
    let mut bar: Option<ProgressBar> = None;
    let mut last = Heights::default();
    let mut syncing = false;
    loop {
        interval.tick().await;
        let view = node.view();
        if view.phase != Phase::Running {
            continue;
        }
        let now = Heights::of(&view);
        let moved = now != last && last != Heights::default();
        last = now;
        // Level and still for a whole interval: no batch of headers is on its way.
        if syncing && !moved && now.blocks == now.headers {
            syncing = false;
            if let Some(bar) = bar.take() {
                log.around(None);
                bar.finish_and_clear();
            }
            tracing::info!(height = now.blocks, "sync is complete: following the chain");
        } else if moved && view.initial_block_download {
            syncing = true;
            if terminal {
                draw(bar.get_or_insert_with(|| new_bar(&log)), &view, now);
            } else {
                line(&node, &view, now);
            }
        }
    }
}

/// What moves.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Heights {
    headers: u32,
    blocks: u32,
}

impl Heights {
    fn of(view: &ChainView) -> Self {
        Self {
            headers: view.tree.best_header().height,
            blocks: view.tree.tip().height,
        }
    }
}

fn new_bar(log: &Log) -> ProgressBar {
    let style = ProgressStyle::with_template("{bar:40} {pos}/{len} blocks ({percent}%) {msg}")
        .expect("the template is valid: it is a constant");
    let bar = ProgressBar::with_draw_target(None, ProgressDrawTarget::stderr()).with_style(style);
    log.around(Some(bar.clone()));
    bar
}

fn draw(bar: &ProgressBar, view: &ChainView, now: Heights) {
    bar.set_length(u64::from(now.headers));
    bar.set_position(u64::from(now.blocks));
    let age = bitcoin_date(view.tree.tip().header.time);
    bar.set_message(format!("at {age}, {} left", bar_eta(bar)));
}

/// The bar's own estimate, as words.
fn bar_eta(bar: &ProgressBar) -> String {
    indicatif::HumanDuration(bar.eta()).to_string()
}

fn line(node: &NodeHandle, view: &ChainView, now: Heights) {
    let peers = node.network_info();
    tracing::info!(
        headers = now.headers,
        blocks = now.blocks,
        progress = format!("{:.2}%", view.progress * 100.0),
        peers = peers.connections_in + peers.connections_out,
        "syncing"
    );
}

/// The UTC date of a block's time, `YYYY-MM-DD`.
pub(crate) fn bitcoin_date(unix: u32) -> String {
    // Days since 1970 to a date of the Gregorian calendar; years begin in March, so
    // that the leap day is the last of its year.
    let days = u64::from(unix) / 86_400 + 719_468;
    let era = days / 146_097;
    let of_era = days % 146_097;
    let year_of_era = (of_era - of_era / 1_460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_from_march = (5 * of_year + 2) / 153;
    let day = of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = if month_from_march < 10 {
        month_from_march + 3
    } else {
        month_from_march - 9
    };
    let year = year_of_era + era * 400 + u64::from(month <= 2);
    format!("{year:04}-{month:02}-{day:02}")
}

#[cfg(test)]
mod tests {
    use super::bitcoin_date;

    #[test]
    fn block_times_become_dates_across_leap_years() {
        assert_eq!(bitcoin_date(0), "1970-01-01");
        assert_eq!(bitcoin_date(1_231_006_505), "2009-01-03");
        assert_eq!(bitcoin_date(1_709_164_800), "2024-02-29");
        assert_eq!(bitcoin_date(1_709_251_200), "2024-03-01");
        assert_eq!(bitcoin_date(u32::MAX), "2106-02-07");
    }
}
