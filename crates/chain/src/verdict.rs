//! Verdicts from the kernel's reports.
//!
//! `process_block` returns "new block" for a consensus-invalid block too: the
//! class of a refusal comes from the `block_checked` callback, and its reason
//! is only in the log.

use bitcoin::BlockHash;
use bitcoin::block::Header;
use bitcoinkernel::{BlockValidationResult, ProcessBlockResult};

use crate::kernel_log::{body, last_line};
use crate::record::{Record, Step};
use crate::{BlockOutcome, Change, Reject, RejectKind};

/// The reason when the kernel's log has none.
const UNKNOWN_REASON: &str = "unknown";

pub(crate) fn kind(class: BlockValidationResult) -> RejectKind {
    match class {
        BlockValidationResult::Unset => RejectKind::Unknown,
        BlockValidationResult::Consensus => RejectKind::Consensus,
        BlockValidationResult::CachedInvalid => RejectKind::CachedInvalid,
        BlockValidationResult::InvalidHeader => RejectKind::InvalidHeader,
        BlockValidationResult::Mutated => RejectKind::Mutated,
        BlockValidationResult::MissingPrev => RejectKind::MissingPrev,
        BlockValidationResult::InvalidPrev => RejectKind::InvalidPrev,
        BlockValidationResult::TimeFuture => RejectKind::TimeFuture,
        BlockValidationResult::HeaderLowWork => RejectKind::HeaderLowWork,
    }
}

/// The verdict about block `own` and the changes that its job made. `marked`: the header of a
/// block that the kernel's index has marked invalid.
pub(crate) fn block(
    own: BlockHash,
    result: ProcessBlockResult,
    record: &Record,
    marked: impl Fn(&BlockHash) -> Option<Header>,
) -> (BlockOutcome, Vec<Change>) {
    let mut refusal = None;
    let mut trouble = None;
    let mut changes = Vec::with_capacity(record.steps.len());
    for step in &record.steps {
        match *step {
            Step::Connected(hash, header) => changes.push(Change::Connected(hash, header)),
            Step::Disconnected(hash, header) => changes.push(Change::Disconnected(hash, header)),
            Step::Failed {
                hash,
                broken_rule: true,
                class,
            } => {
                let connecting = reason_at_connect(&record.log, hash);
                let reason = connecting.or_else(|| reason_at_accept(&record.log));
                let reject = Reject {
                    kind: kind(class),
                    reason: reason.unwrap_or(UNKNOWN_REASON).to_owned(),
                };
                if let Some(header) = marked(&hash) {
                    changes.push(Change::Invalid(hash, header, reject.clone()));
                }
                if hash == own {
                    refusal = Some(reject);
                }
            }
            Step::Failed {
                broken_rule: false, ..
            } => trouble = Some(last_line(&record.log)),
        }
    }
    let outcome = match (refusal, result) {
        (Some(reject), _) => BlockOutcome::Rejected(reject),
        (None, ProcessBlockResult::NewBlock) => BlockOutcome::Stored,
        (None, ProcessBlockResult::Duplicate) => BlockOutcome::Duplicate,
        (None, ProcessBlockResult::Rejected) => {
            BlockOutcome::Failed(trouble.unwrap_or_else(|| last_line(&record.log)))
        }
    };
    (outcome, changes)
}

/// `ConnectTip: ConnectBlock <hash> failed, <token>[, <detail>]`
fn reason_at_connect(log: &[String], hash: BlockHash) -> Option<&str> {
    let start = format!("ConnectTip: ConnectBlock {hash} failed, ");
    log.iter()
        .find_map(|line| body(line).strip_prefix(start.as_str()))
        .map(token)
}

/// `ProcessNewBlock: AcceptBlock FAILED (<token>[, <detail>])`
fn reason_at_accept(log: &[String]) -> Option<&str> {
    log.iter()
        .find_map(|line| {
            body(line)
                .strip_prefix("ProcessNewBlock: AcceptBlock FAILED (")?
                .strip_suffix(')')
        })
        .map(token)
}

/// The reason of a refused header, from the validation log:
/// `AcceptBlockHeader: Consensus::<check>: <hash>, <token>[, <detail>]`.
/// Three refusals have another form there; their reason follows from their class.
pub(crate) fn header(class: BlockValidationResult, log: &[String]) -> Reject {
    let kind = kind(class);
    let reason = log
        .iter()
        .rev()
        .find_map(|line| body(line).strip_prefix("AcceptBlockHeader: Consensus::"))
        .and_then(|rest| rest.split_once(", "))
        .map(|(_, reason)| token(reason));
    let reason = match (kind, reason) {
        (RejectKind::MissingPrev, _) => "prev-blk-not-found",
        (RejectKind::InvalidPrev, _) => "bad-prevblk",
        (RejectKind::CachedInvalid, _) => "duplicate-invalid",
        (_, Some(reason)) => reason,
        (_, None) => UNKNOWN_REASON,
    };
    Reject {
        kind,
        reason: reason.to_owned(),
    }
}

/// The token at the front of a state's text.
fn token(state: &str) -> &str {
    state.split_once(", ").map_or(state, |(token, _)| token)
}

#[cfg(test)]
mod tests {
    use bitcoin::hashes::Hash;

    use super::*;

    fn log(lines: &[&str]) -> Vec<String> {
        lines.iter().map(|&line| line.to_owned()).collect()
    }

    #[test]
    fn a_reason_is_the_token_without_its_detail() {
        let hash = BlockHash::from_byte_array([3; 32]);
        let line =
            format!("[error] ConnectTip: ConnectBlock {hash} failed, bad-cb-amount, too much");
        assert_eq!(
            reason_at_connect(&log(&[&line]), hash),
            Some("bad-cb-amount")
        );
        let other = BlockHash::from_byte_array([4; 32]);
        assert_eq!(reason_at_connect(&log(&[&line]), other), None);

        let plain = log(&["[error] ProcessNewBlock: AcceptBlock FAILED (prev-blk-not-found)"]);
        assert_eq!(reason_at_accept(&plain), Some("prev-blk-not-found"));
        let script = "block-script-verify-flag-failed (Signature must be zero)";
        let line = format!("[error] ProcessNewBlock: AcceptBlock FAILED ({script}, input 0)");
        assert_eq!(reason_at_accept(&log(&[&line])), Some(script));
    }

    #[test]
    fn the_reason_of_a_refused_header_is_read_from_the_validation_log() {
        let class = BlockValidationResult::InvalidHeader;
        let line = "[validation] AcceptBlockHeader: Consensus::CheckBlockHeader: 00ff, high-hash, proof of work failed";
        assert_eq!(header(class, &log(&[line])).reason, "high-hash");
        let missing = header(BlockValidationResult::MissingPrev, &[]);
        assert_eq!(missing.reason, "prev-blk-not-found");
        assert_eq!(header(class, &[]).reason, UNKNOWN_REASON);
    }

    #[test]
    fn an_error_of_the_kernel_does_not_make_the_block_invalid() {
        let own = BlockHash::from_byte_array([1; 32]);
        let record = Record {
            log: log(&[
                "[error] Disk space is too low!",
                "[error] ProcessNewBlock: ActivateBestChain failed (x)",
            ]),
            ..Record::default()
        };
        let (outcome, changes) = block(own, ProcessBlockResult::Rejected, &record, |_| None);
        assert!(matches!(outcome, BlockOutcome::Failed(_)));
        assert!(changes.is_empty());
    }
}
