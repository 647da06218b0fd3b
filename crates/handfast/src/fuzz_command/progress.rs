//! Progress of a run, on standard error: a bar on a terminal, a line every few seconds elsewhere.

use std::cell::Cell;
use std::io::IsTerminal;
use std::time::{Duration, Instant};

use handfast_fuzz::oracle::{Followed, Health};
use handfast_fuzz::plan::Limit;
use handfast_fuzz::report::in_words;
use handfast_fuzz::run::RunEvent;
use handfast_fuzz::{Counters, Plan};
use indicatif::{ProgressBar, ProgressStyle};

/// Interval of lines where there is no terminal.
const LINE_INTERVAL: Duration = Duration::from_secs(5);

/// The unit of a bar that counts connections; the other unit is time.
const CONNECTIONS: &str = "connections";

/// The position of the bar.
#[derive(Debug, PartialEq, Eq)]
struct Extent {
    position: u64,
    length: u64,
    unit: &'static str,
}

/// In connections if their number is limited, else in time.
fn extent(limit: Limit, ended: u64, elapsed: Duration) -> Extent {
    match limit.cycles {
        u64::MAX => Extent {
            position: elapsed.min(limit.duration).as_secs(),
            length: limit.duration.as_secs(),
            unit: "s",
        },
        cycles => Extent {
            position: ended,
            length: cycles,
            unit: CONNECTIONS,
        },
    }
}

/// See the module.
pub(super) struct Progress {
    bar: Option<ProgressBar>,
    limit: Limit,
    last_line: Cell<Option<Instant>>,
}

impl Progress {
    pub(super) fn new(plan: &Plan) -> Self {
        let bar = std::io::stderr().is_terminal().then(|| {
            let bar = extent(plan.limit, 0, Duration::ZERO);
            let template = format!("{{bar:40}} {{pos}}/{{len}} {} {{msg}}", bar.unit);
            let style = ProgressStyle::with_template(&template)
                .expect("the template is valid: the units are constants");
            ProgressBar::new(bar.length).with_style(style)
        });
        Self {
            bar,
            limit: plan.limit,
            last_line: Cell::new(None),
        }
    }

    pub(super) fn show(&self, event: &RunEvent<'_>) {
        match event {
            RunEvent::Connected(who) => self.line(&format!(
                "{} at height {} answers; the run starts",
                who.user_agent, who.height
            )),
            RunEvent::Going(counters) => self.show_counters(counters),
            RunEvent::Looked(health) => self.show_health(health),
            RunEvent::Gone => self.line("the target is gone; the run ends"),
            RunEvent::Settling => {
                self.line("all connections have ended; checking what remains of them")
            }
        }
    }

    fn show_counters(&self, counters: &Counters) {
        let total = counters.total();
        let text = match counters.waits_from {
            None => format!("{:.0} a second, {} failed", counters.rate(), total.failed()),
            Some(_) => format!(
                "{} failed; waiting for {} to end",
                total.failed(),
                in_words(&counters.unfinished())
            ),
        };
        match &self.bar {
            Some(bar) => {
                let extent = extent(self.limit, total.ended, counters.elapsed);
                bar.set_position(extent.position);
                bar.set_message(match extent.unit {
                    CONNECTIONS => text,
                    _ => format!("{} connections, {text}", total.ended),
                });
            }
            None => {
                let due = self.last_line.get();
                if due.is_none_or(|last| last.elapsed() >= LINE_INTERVAL) {
                    self.last_line.set(Some(Instant::now()));
                    eprintln!("{} connections, {text}", total.ended);
                }
            }
        }
    }

    /// Shows failures only: everything is in the report.
    fn show_health(&self, health: &Health) {
        if let Err(error) = &health.handshake {
            self.line(&format!("an honest peer: {error}"));
        }
        if let Some(Err(error)) = &health.answers.pong {
            self.line(&format!("a ping of an honest peer: {error}"));
        }
        match &health.block {
            Some(Ok(Followed::Not { waited, .. })) => {
                let waited = waited.as_secs_f64();
                self.line(&format!(
                    "a new block was not followed within {waited:.0} s"
                ));
            }
            Some(Ok(Followed::Overtaken { waited, blocks })) => {
                let waited = waited.as_secs_f64();
                self.line(&format!(
                    "new blocks came too late: the target's own chain grew by {blocks} in \
                     {waited:.0} s"
                ));
            }
            _ => {}
        }
    }

    fn line(&self, text: &str) {
        match &self.bar {
            Some(bar) => bar.println(text),
            None => eprintln!("{text}"),
        }
    }

    pub(super) fn end(&self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn progress_of_a_run_limited_by_time_is_its_elapsed_time() {
        let mut limit = Limit {
            cycles: u64::MAX,
            duration: Duration::from_secs(120),
        };
        let of = |limit, seconds| {
            let extent = extent(limit, 700, Duration::from_secs(seconds));
            (extent.position, extent.length, extent.unit)
        };
        assert_eq!(of(limit, 30), (30, 120, "s"));
        assert_eq!(
            of(limit, 125),
            (120, 120, "s"),
            "those that began in time end"
        );
        limit.cycles = 1_000;
        assert_eq!(of(limit, 30), (700, 1_000, CONNECTIONS));
    }
}
