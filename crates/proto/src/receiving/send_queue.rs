//! The limit of the send queue to one remote that does not read.

/// Bytes that may be queued to each remote, whatever is queued to others: more than a full
/// `headers` message.
pub const LEAST_QUEUED: usize = 256 << 10;
/// Bytes that may be queued to one remote while little is queued to others: a dozen full
/// `headers` messages.
pub const MOST_QUEUED: usize = 2 << 20;
/// Bytes over all connections that the queues share beyond [`LEAST_QUEUED`] of each.
pub const SHARED_QUEUED: usize = 16 << 20;

/// Bytes of messages that may be queued to one remote, when so many are queued to all.
///
/// An eighth of what is left: so many remotes that do not read leave something for the next, and
/// each has at least [`LEAST_QUEUED`]. All together: 16 MiB and [`LEAST_QUEUED`] of each
/// connection.
///
/// Bitcoin Core pauses handling a peer's messages at 1 MB, without a bound over all.
#[must_use]
pub fn queue_limit(queued_to_all: usize) -> usize {
    let left = SHARED_QUEUED.saturating_sub(queued_to_all);
    (left / 8).clamp(LEAST_QUEUED, MOST_QUEUED)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_slow_reader_may_have_much_and_many_have_little_each() {
        assert_eq!(queue_limit(0), MOST_QUEUED);
        assert_eq!(queue_limit(usize::MAX), LEAST_QUEUED);
        let connections = 165;
        let mut queued = vec![0_usize; connections];
        // Each in turn fills its queue up to the limit with full `headers` messages.
        for _ in 0..100 {
            for at in 0..connections {
                let all = queued.iter().sum();
                if queued[at] + 160_000 <= queue_limit(all) {
                    queued[at] += 160_000;
                }
            }
        }
        let all: usize = queued.iter().sum();
        assert!(all <= SHARED_QUEUED + connections * LEAST_QUEUED, "{all}");
        assert!(queued.iter().all(|&bytes| bytes > 0));
    }
}
