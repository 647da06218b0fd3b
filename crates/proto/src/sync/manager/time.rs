//! What the machine does when time passes and no message comes.

use std::time::Duration;

use crate::lifecycle::{ConnId, DoneReason};
use crate::time::Now;

use super::super::chain_sync::{self, ChainSync, Lagging};
use super::super::header_sync::HeaderSync;
use super::super::timers::SyncTimer;
use super::{Step, SyncManager};

/// A timer that goes off this much late was held up by us; peers are not blamed for it.
const OVERSLEPT: Duration = Duration::from_secs(1);

impl SyncManager {
    /// A timer that fires late was held up by our own thread, during which answers
    /// may have piled up unread: such time is no peer's fault.
    pub(super) fn look_at_the_clock(&mut self, now: Now) {
        let Some(due) = self.deadline() else { return };
        let late = now.mono.saturating_sub(due);
        if late < OVERSLEPT {
            return;
        }
        let parts = &mut self.parts;
        parts.timers.delay(late, |timer| timer.waits_for_others());
        parts.headers.extend_deadlines(late);
        parts.known.extend_deadlines(late);
        parts.chain_sync.extend_deadlines(late);
        // A second more, in which what lies unread is read.
        parts.download.extend_deadlines(late + OVERSLEPT);
        self.watchdog.extend_deadlines(late);
    }

    /// Handles the timers that are due. One that is set meanwhile waits for the next step.
    /// Whether the watchdog is to look when the step has settled.
    pub(super) fn run_timers(&mut self, step: &mut Step) -> bool {
        let now = step.now;
        let timers = &mut self.parts.timers;
        let mut due: Vec<SyncTimer> = std::iter::from_fn(|| timers.pop(now.mono)).collect();
        due.sort_unstable();
        let late: Vec<ConnId> = due
            .iter()
            .filter_map(|timer| match timer {
                SyncTimer::HeadersAnswer(id) => Some(*id),
                _ => None,
            })
            .collect();
        // In one go: the next source is none of those that are late too.
        self.with_headers(step, |headers, cx| headers.answers_are_late(cx, &late));
        for timer in &due {
            self.timer(step, *timer);
        }
        due.contains(&SyncTimer::Watchdog)
    }

    fn timer(&mut self, step: &mut Step, timer: SyncTimer) {
        match timer {
            // Handled together.
            SyncTimer::HeadersAnswer(_) => {}
            SyncTimer::CoolDown(id) => {
                let now = step.now.mono;
                self.parts.headers.cool_down_is_over(now, id);
            }
            SyncTimer::HeadersFromSource => {
                self.with_headers(step, HeaderSync::source_is_late);
            }
            SyncTimer::Hedge => self.with_headers(step, HeaderSync::hedge),
            SyncTimer::TipCheck => self.with_headers(step, HeaderSync::check_tip),
            SyncTimer::Retry(id) => self.retry_expired(step, id),
            SyncTimer::ProbeAnswer(id) => self.parts.known.probe_is_late(step.now.mono, id),
            // Download probes those that have nothing to do whenever a step settles.
            SyncTimer::ProbeAgain(_) => {}
            SyncTimer::BlocksAnswer | SyncTimer::LatePeers => {
                let mut actions = Vec::new();
                self.with_download(step.now.mono, |download, view, timers| {
                    download.judge(view, timers, &mut actions);
                });
                self.perform(step, actions);
            }
            // Download asks again, and goes on, whenever a step settles.
            SyncTimer::AskLateAgain | SyncTimer::HoldIsOver => {}
            SyncTimer::Watchdog => self.judge_lagging(step),
        }
    }

    /// A peer that has shown a block which could not be had of it is tried again.
    fn retry_expired(&mut self, step: &mut Step, id: ConnId) {
        let parts = &mut self.parts;
        if !parts.peers.is_live(id) {
            return;
        }
        let (timers, tree) = (&mut parts.timers, parts.chain.tree());
        let Some(best) = parts.known.retry_expired(timers, tree, step.now, id) else {
            return;
        };
        parts.download.ask_again(id);
        if !parts.tree().contains(&best) {
            self.with_headers(step, |headers, cx| headers.ask_for_announced(cx, id));
        }
    }

    /// Peers that stay behind our chain give way to others.
    fn judge_lagging(&mut self, step: &mut Step) {
        if self.tree().tip().work < self.parts.config.minimum_work {
            return;
        }
        for id in ChainSync::judged(&self.parts.peers, &self.parts.headers) {
            let parts = &mut self.parts;
            let view = chain_sync::View {
                tree: parts.chain.tree(),
                peers: &parts.peers,
                known: &parts.known,
                always_mined: parts.config.always_mined,
                now: step.now.mono,
            };
            match parts.chain_sync.judge(view, id) {
                None => {}
                Some(Lagging::Ask(from)) => {
                    self.with_headers(step, |headers, cx| headers.ask_beyond(cx, id, from));
                }
                Some(Lagging::Disconnect) => self.disconnect(step, id, DoneReason::StaleChain),
            }
        }
    }
}
