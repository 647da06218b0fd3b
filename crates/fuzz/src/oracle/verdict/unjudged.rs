//! What was not judged, and why: `ok` must not hide it.

use super::{Health, Observations, Verdict, how_it_was_not_followed, is_followed};
use crate::engine::Counters;
use crate::oracle::answers::Served;
use crate::oracle::follow::Followed;
use crate::oracle::honest_peer::HonestPeerError;
use crate::oracle::introspection::NoAnswer;

/// Reports why following blocks was not judged.
pub(super) fn of_what_was_not_followed(seen: &Observations, say: &mut impl FnMut(Verdict, String)) {
    let looks = || [&seen.before].into_iter().chain(&seen.during);
    let (health, when) = match looks().chain([&seen.after]).any(is_followed) {
        false => (&seen.before, "before"),
        // The verdict covers a block that should have been followed.
        true => match seen.after.block {
            Some(Ok(Followed::Overtaken { .. } | Followed::Unmade { .. })) => {
                (&seen.after, "after")
            }
            _ => return,
        },
    };
    let (why, remedy) = match &health.block {
        None | Some(Ok(Followed::After(_))) => return,
        Some(Ok(not @ Followed::Overtaken { .. })) => (
            how_it_was_not_followed(not),
            "its miner is faster than the fuzzer's: stop it for the run",
        ),
        Some(Ok(not @ Followed::Unmade { .. })) => (
            how_it_was_not_followed(not),
            "blocks of this chain cost too much work: use a younger one",
        ),
        Some(Ok(not)) => (how_it_was_not_followed(not), FINISH_SYNC),
        Some(Err(error)) => (format!("met with this: {error}"), FINISH_SYNC),
    };
    let text = format!(
        "whether it follows blocks was not judged: a new block {when} the run {why}; {remedy}"
    );
    say(Verdict::Ok, text);
}

/// The remedy for a target that followed no block before the run.
const FINISH_SYNC: &str = "let it finish its initial sync, on a chain that we can mine";

/// What was not seen because the run was ended is reported, and not judged.
pub(super) fn of_an_early_end(seen: &Observations, say: &mut impl FnMut(Verdict, String)) {
    let after = &seen.after;
    let ended = |error: Option<&HonestPeerError>| error == Some(&HonestPeerError::Ended);
    if ended(after.handshake.as_ref().err()) {
        let text = "the run was ended before an honest peer was answered after it".to_owned();
        return say(Verdict::Nothing, text);
    }
    let pong = after.answers.pong.as_ref().and_then(|it| it.as_ref().err());
    let headers = after.answers.headers.as_ref();
    let headers = headers.and_then(|it| it.as_ref().err());
    let block = after.block.as_ref().and_then(|it| it.as_ref().err());
    let unseen = [
        (ended(pong), "it answers pings"),
        (ended(headers), "it serves headers"),
        (ended(block), "it follows a new block"),
        (after.rpc == Some(Err(NoAnswer::Ended)), "its RPC answers"),
        (!seen.let_settle, "it releases ended connections"),
    ];
    let unseen = unseen.into_iter().filter(|(is, _)| *is);
    let unseen: Vec<&str> = unseen.map(|(_, what)| what).collect();
    if !unseen.is_empty() {
        let text = format!(
            "the run was ended before it was seen whether {}: that was not judged",
            unseen.join(", ")
        );
        say(Verdict::Ok, text);
    }
}

/// A scenario none of whose connections completed was not tested, whatever the result of the
/// others.
pub(super) fn of_those_that_did_not_end(
    counters: &Counters,
    say: &mut impl FnMut(Verdict, String),
) {
    if counters.total().ended == 0 {
        return;
    }
    for (scenario, counts) in &counters.scenarios {
        if counts.begun > 0 && counts.ended == 0 {
            let begun = counts.begun;
            let text = format!(
                "{scenario} was not judged: none of its {begun} connections completed \
                 before the run ended; give them more time, by --duration or by --cycles alone"
            );
            say(Verdict::Ok, text);
        }
    }
}

/// A node need not serve headers in its initial sync or below its minimum work: that this was not
/// judged is reported with `ok`.
pub(super) fn of_what_is_not_served(before: &Health, say: &mut impl FnMut(Verdict, String)) {
    let how = match &before.answers.headers {
        Some(Err(error)) => format!("left getheaders unanswered ({error})"),
        Some(Ok(Served {
            headers: 0,
            claimed,
        })) if *claimed > 0 => {
            format!("answered getheaders with no header at height {claimed}")
        }
        Some(Ok(_)) | None => return,
    };
    let text = format!(
        "whether it serves headers was not judged: before the run it {how}, as nodes do in their \
         initial sync or below their minimum work"
    );
    say(Verdict::Ok, text);
}
