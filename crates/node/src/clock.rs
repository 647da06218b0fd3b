//! The one place that reads the time.

use std::time::Duration;

use handfast_proto::Now;
use tokio::time::Instant;

/// Gives machines their [`Now`], and turns their deadlines into instants of the timer.
///
/// Monotonic time is tokio's, so that a test can run the whole node on virtual time.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Clock {
    start: Instant,
    wall: Wall,
}

#[derive(Clone, Copy, Debug)]
enum Wall {
    /// The engine's clock: the system's, which may jump, or on regtest the one that was set.
    System,
    /// Unix seconds at the start; moves with monotonic time. For virtual time.
    #[cfg(test)]
    From(u32),
}

impl Clock {
    /// A clock that starts now.
    pub(crate) fn start() -> Self {
        Self {
            start: Instant::now(),
            wall: Wall::System,
        }
    }

    /// A clock whose wall time moves with tokio's (virtual) time.
    #[cfg(test)]
    pub(crate) fn virtual_from(unix: u32) -> Self {
        Self {
            start: Instant::now(),
            wall: Wall::From(unix),
        }
    }

    pub(crate) fn now(&self) -> Now {
        let mono = self.start.elapsed();
        let unix = match self.wall {
            Wall::System => handfast_chain::clock::unix(),
            #[cfg(test)]
            Wall::From(unix) => {
                let passed = u32::try_from(mono.as_secs()).unwrap_or(u32::MAX);
                unix.saturating_add(passed)
            }
        };
        Now { mono, unix }
    }

    /// The instant of a machine's deadline (time since the node started).
    pub(crate) fn instant(&self, mono: Duration) -> Instant {
        self.start + mono
    }
}
