//! The kernel's reports as the sync machine takes them: the same facts, other names.

use handfast_chain as chain;
use handfast_proto::lifecycle::ConnId;
use handfast_proto::sync;

/// Stands for "nobody sent it" among the kernel's tags; ids count up from 0.
const NOBODY: u64 = u64::MAX;

/// The tag of a job whose material came from `origin`.
pub(crate) fn tag(origin: Option<ConnId>) -> u64 {
    origin.map_or(NOBODY, |id| id.0)
}

fn origin(tag: u64) -> Option<ConnId> {
    (tag != NOBODY).then_some(ConnId(tag))
}

/// What a report of the kernel is about.
#[derive(Debug)]
pub(crate) enum Report {
    /// An answer to a job.
    Answer(sync::KernelEvent),
    /// The kernel's warnings, all of them.
    Warnings(Vec<String>),
    /// The kernel cannot go on.
    Fatal(String),
}

pub(crate) fn report(event: chain::Event) -> Report {
    match event {
        chain::Event::Headers {
            tag,
            count_ok,
            rejected,
            last: _,
            busy: _,
        } => {
            let rejected = rejected.map(|(hash, why)| (hash, reject(why)));
            Report::Answer(sync::KernelEvent::HeadersChecked {
                count_ok,
                rejected,
                origin: origin(tag),
            })
        }
        chain::Event::Block {
            tag,
            hash,
            outcome,
            changes,
            kept,
            busy,
        } => {
            let changes = changes.into_iter().map(change).collect();
            let outcome = block_outcome(outcome);
            Report::Answer(sync::KernelEvent::BlockChecked {
                hash,
                outcome,
                origin: origin(tag),
                changes,
                kept: self::kept(kept),
                busy,
            })
        }
        chain::Event::Kept => Report::Answer(sync::KernelEvent::Kept),
        chain::Event::Warnings(warnings) => Report::Warnings(warnings),
        chain::Event::Fatal(why) => Report::Fatal(why),
    }
}

fn block_outcome(outcome: chain::BlockOutcome) -> sync::BlockOutcome {
    match outcome {
        chain::BlockOutcome::Stored => sync::BlockOutcome::Stored,
        chain::BlockOutcome::Duplicate => sync::BlockOutcome::Duplicate,
        chain::BlockOutcome::Rejected(why) => sync::BlockOutcome::Rejected(reject(why)),
        chain::BlockOutcome::Failed(why) => sync::BlockOutcome::Failed(why),
    }
}

/// The height with which a block goes to the kernel. 0 is genesis, which is never given:
/// the parent is not known. Of what RPC and the miner submit the kernel tells alone whether
/// the witness data fits, so that a caller gets the answer in the order of Core's checks.
pub(crate) fn known_height(height: u32, origin: Option<ConnId>) -> Option<u32> {
    (height > 0 && origin.is_some()).then_some(height)
}

/// How a block is to be kept: whoever offered one of our own waits for the answer.
pub(crate) fn keep(keep: bool, origin: Option<ConnId>) -> chain::Keep {
    match (keep, origin) {
        (false, _) => chain::Keep::No,
        (true, Some(_)) => chain::Keep::Soon,
        (true, None) => chain::Keep::Now,
    }
}

fn kept(kept: chain::Kept) -> sync::Kept {
    match kept {
        chain::Kept::Yes => sync::Kept::Yes,
        chain::Kept::Later => sync::Kept::Later,
        chain::Kept::Failed(why) => sync::Kept::Failed(why),
    }
}

fn change(change: chain::Change) -> sync::Change {
    match change {
        chain::Change::Connected(hash, header) => sync::Change::Connected(hash, header),
        chain::Change::Disconnected(hash, _) => sync::Change::Disconnected(hash),
        chain::Change::Invalid(hash, _, why) => sync::Change::Invalid(hash, reject(why)),
    }
}

fn reject(why: chain::Reject) -> sync::Reject {
    let kind = match why.kind {
        chain::RejectKind::Consensus => sync::RejectKind::Consensus,
        chain::RejectKind::Mutated => sync::RejectKind::Mutated,
        chain::RejectKind::InvalidHeader => sync::RejectKind::InvalidHeader,
        chain::RejectKind::CachedInvalid => sync::RejectKind::CachedInvalid,
        chain::RejectKind::InvalidPrev => sync::RejectKind::InvalidPrev,
        chain::RejectKind::MissingPrev => sync::RejectKind::MissingPrev,
        chain::RejectKind::TimeFuture => sync::RejectKind::TimeFuture,
        chain::RejectKind::HeaderLowWork => sync::RejectKind::HeaderLowWork,
        chain::RejectKind::Unknown => sync::RejectKind::Unknown,
    };
    sync::Reject {
        kind,
        reason: why.reason,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernel_alone_judges_witness_data_of_our_own_and_of_blocks_without_a_known_parent() {
        assert_eq!(known_height(7, Some(ConnId(0))), Some(7));
        assert_eq!(known_height(7, None), None);
        assert_eq!(known_height(0, Some(ConnId(0))), None);
    }

    #[test]
    fn the_origin_of_a_job_comes_back_with_its_verdict() {
        for sender in [None, Some(ConnId(0)), Some(ConnId(17))] {
            assert_eq!(origin(tag(sender)), sender);
        }
    }
}
