//! What is seen of a run while it goes on: a bar on a terminal, a line every few seconds
//! elsewhere, both on standard error.

use std::cell::Cell;
use std::io::IsTerminal;
use std::time::{Duration, Instant};

use handfast_fuzz::oracle::{Followed, Health};
use handfast_fuzz::run::News;
use handfast_fuzz::{Plan, Tally};
use indicatif::{ProgressBar, ProgressStyle};

/// How often there is a line where there is no terminal.
const LINE_INTERVAL: Duration = Duration::from_secs(5);

/// See the module.
pub(super) struct Progress {
    bar: Option<ProgressBar>,
    last_line: Cell<Option<Instant>>,
}

impl Progress {
    pub(super) fn new(plan: &Plan) -> Self {
        let bar = std::io::stderr().is_terminal().then(|| {
            let template = "{bar:40} {pos}/{len} connections {msg}";
            let style = ProgressStyle::with_template(template)
                .expect("the template is valid: it is a constant");
            let bar = match plan.limit.cycles {
                u64::MAX => ProgressBar::no_length(),
                cycles => ProgressBar::new(cycles),
            };
            bar.with_style(style)
        });
        Self {
            bar,
            last_line: Cell::new(None),
        }
    }

    pub(super) fn tell(&self, news: &News<'_>) {
        match news {
            News::Met(who) => self.line(&format!(
                "{} at height {} answers; the run begins",
                who.user_agent, who.height
            )),
            News::Going(tally) => self.going(tally),
            News::Looked(health) => self.looked(health),
            News::Settling => self.line("all connections have ended; looking what remains"),
        }
    }

    fn going(&self, tally: &Tally) {
        let total = tally.total();
        let text = format!("{:.0} a second, {} failed", tally.rate(), total.failed());
        match &self.bar {
            Some(bar) => {
                bar.set_position(total.ended);
                bar.set_message(text);
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

    /// Only what is not as it should be: all of it is in the report.
    fn looked(&self, health: &Health) {
        if let Err(error) = &health.handshake {
            self.line(&format!("an honest peer: {error}"));
        }
        if let Some(Ok(Followed::Not { waited, .. })) = &health.block {
            let waited = waited.as_secs_f64();
            self.line(&format!(
                "a new block was not followed within {waited:.0} s"
            ));
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
