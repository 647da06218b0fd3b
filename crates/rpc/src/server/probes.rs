//! Monitoring: `/health`, `/ready`, `/metrics`.

use bytes::Bytes;
use handfast_node::{NodeHandle, Phase, SyncPhase, SyncState};
use hyper::http::request::Parts;
use hyper::{Method, StatusCode, header};

use super::Context;
use super::content::{self, Response, plain};
use crate::metrics::Format;

/// Blocks that a node may lack of its peers' best chain and still be ready.
const READY_LAG: u32 = 2;

/// `GET /health`: the process answers. 200, or 503 once it stops.
pub(super) fn health(request: &Parts, context: &Context) -> Response {
    if let Err(refusal) = is_read(request) {
        return refusal;
    }
    match context.methods.node.phase() {
        Phase::Starting => plain(StatusCode::OK, "starting\n"),
        Phase::Running => plain(StatusCode::OK, "running\n"),
        Phase::Stopping => plain(StatusCode::SERVICE_UNAVAILABLE, "stopping\n"),
    }
}

/// `GET /ready`: the node can be used. 200, or 503 with the reason.
pub(super) async fn ready(request: &Parts, context: &Context) -> Response {
    if let Err(refusal) = is_read(request) {
        return refusal;
    }
    if context.load.is_full() {
        let text = "not ready: the RPC work queue is full\n";
        return plain(StatusCode::SERVICE_UNAVAILABLE, text);
    }
    let look = || why_not_ready(&context.methods.node);
    match &*context.ready.get(look).await {
        None => plain(StatusCode::OK, "ready\n"),
        Some(why) => plain(
            StatusCode::SERVICE_UNAVAILABLE,
            format!("not ready: {why}\n"),
        ),
    }
}

/// `GET /metrics`, in the format that the client accepts.
pub(super) async fn metrics(request: &Parts, context: &Context) -> Response {
    if let Err(refusal) = is_read(request) {
        return refusal;
    }
    let evicted = context.quotas.evicted();
    let make = async || {
        let page = context.metrics.page(&context.methods.node, evicted).await;
        Bytes::from(page)
    };
    let page = context.page.get(make).await;
    let accept = request.headers.get(header::ACCEPT);
    let accept = accept.and_then(|accept| accept.to_str().ok());
    let format = Format::accepted(accept.unwrap_or_default());
    let page = match format {
        Format::OpenMetrics => Bytes::clone(&page),
        Format::Plain => Bytes::from(format.write(&String::from_utf8_lossy(&page))),
    };
    content::answer(StatusCode::OK, format.content_type(), page)
}

/// `GET` and `HEAD`.
#[expect(
    clippy::result_large_err,
    reason = "the error is the answer to a request, and passed on once"
)]
fn is_read(request: &Parts) -> Result<(), Response> {
    if [Method::GET, Method::HEAD].contains(&request.method) {
        return Ok(());
    }
    let mut response = plain(StatusCode::METHOD_NOT_ALLOWED, "");
    let allowed = header::HeaderValue::from_static("GET, HEAD");
    response.headers_mut().insert(header::ALLOW, allowed);
    Err(response)
}

async fn why_not_ready(node: &NodeHandle) -> Option<String> {
    let Ok(sync) = node.sync_state().await else {
        return Some(match node.phase() {
            Phase::Starting => "the chain is being opened".into(),
            Phase::Running | Phase::Stopping => "the node stops".into(),
        });
    };
    if !node.view().open {
        return Some("the chain is being opened".into());
    }
    if sync.peers.is_empty() {
        return Some(sync.why);
    }
    not_ready(&sync)
}

/// With the figures and words of `getsyncstate`.
fn not_ready(sync: &SyncState) -> Option<String> {
    let SyncState { phase, why, .. } = sync;
    if sync.missing > READY_LAG {
        let missing = sync.missing;
        return Some(format!("{missing} blocks behind; {phase}: {why}"));
    }
    let stale = *phase == SyncPhase::Stalled && sync.missing == 0;
    (sync.headers_to_come || stale).then(|| format!("{phase}: {why}"))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use handfast_node::{HeaderTree, Network, Now};
    use handfast_proto::sync::{SyncConfig, SyncManager};

    use super::*;

    #[test]
    fn a_node_is_ready_two_blocks_behind_at_most_and_says_why_not_as_getsyncstate_does() {
        let tree = HeaderTree::new(Network::Regtest.genesis());
        let machine = SyncManager::new(SyncConfig::new(&Network::Regtest, None, 1), tree);
        let now = Now {
            mono: Duration::ZERO,
            unix: 1_700_000_000,
        };
        let mut state = machine.state(now);
        state.missing = 2;
        assert_eq!(not_ready(&state), None);
        state.missing = 3;
        let said = not_ready(&state).expect("not ready");
        assert!(said.starts_with("3 blocks behind; "), "{said}");
        assert!(said.ends_with(&state.why), "{said}");
        state.missing = 0;
        state.phase = SyncPhase::Stalled;
        let said = not_ready(&state).expect("later blocks must exist");
        assert!(said.starts_with("stalled: "), "{said}");
        state.phase = SyncPhase::Synced;
        state.headers_to_come = true;
        let said = not_ready(&state).expect("headers are to come");
        assert!(said.ends_with(&state.why), "{said}");
    }
}
