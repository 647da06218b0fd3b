//! How long the kernel's jobs take.

use std::time::Duration;

use handfast_chain::KernelEvent;
use prometheus_client::metrics::histogram::Histogram;

/// Upper ends of the buckets of all metrics that are times, seconds: from an answer out of the
/// snapshot, or an empty block, to a full block and one that fills a slow disk's caches.
pub const TIMES: [f64; 10] = [
    0.000_1, 0.000_3, 0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1.0, 10.0,
];

/// Time that the kernel's thread spent, by what it was asked.
#[derive(Clone, Debug)]
pub struct KernelTimes {
    /// A block: its checks, storing it, and connecting what could be connected then.
    pub blocks: Histogram,
    /// A batch of headers, at most 2,000.
    pub headers: Histogram,
}

impl Default for KernelTimes {
    fn default() -> Self {
        Self {
            blocks: Histogram::new(TIMES),
            headers: Histogram::new(TIMES),
        }
    }
}

impl KernelTimes {
    /// Counts the job that is answered, if one is.
    pub(crate) fn count(&self, event: &KernelEvent) {
        let observe = |times: &Histogram, busy: &Duration| times.observe(busy.as_secs_f64());
        match event {
            KernelEvent::BlockChecked { busy, .. } => observe(&self.blocks, busy),
            KernelEvent::HeadersChecked { busy, .. } => observe(&self.headers, busy),
            KernelEvent::Durable => {}
        }
    }
}
