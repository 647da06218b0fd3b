//! For those who watch over the node: `/health`, `/ready`, `/metrics`.

use bytes::Bytes;
use handfast_node::{ChainView, NodeHandle, Phase, SyncPhase, SyncState};
use hyper::http::request::Parts;
use hyper::{Method, StatusCode, header};

use super::Context;
use super::content::{self, Response, plain};
use crate::metrics::Format;

/// Blocks that a node may be behind what its peers have shown and still count as ready.
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

/// `GET /ready`: somebody could use this node now. 200, or 503 with the reason.
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

/// `GET /metrics`, in the format that the caller accepts.
pub(super) async fn metrics(request: &Parts, context: &Context) -> Response {
    if let Err(refusal) = is_read(request) {
        return refusal;
    }
    let evicted = context.shares.evicted();
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
    not_ready(sync.phase, lag(&node.view(), &sync))
}

fn not_ready(phase: SyncPhase, lag: u32) -> Option<String> {
    if phase == SyncPhase::HeaderSync {
        return Some("headers are being fetched".into());
    }
    (lag > READY_LAG).then(|| format!("{lag} blocks behind what peers have shown"))
}

/// Blocks that we are behind the best chain known.
pub(crate) fn lag(view: &ChainView, sync: &SyncState) -> u32 {
    let shown = sync.best_shown.map_or(0, |best| best.height);
    let best = shown.max(view.tree.best_header().height);
    best.saturating_sub(view.tree.tip().height)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_node_with_a_peer_is_ready_two_blocks_behind_at_most() {
        assert_eq!(not_ready(SyncPhase::Synced, 0), None);
        assert_eq!(not_ready(SyncPhase::BlockSync, 2), None);
        for (phase, lag, why) in [
            (SyncPhase::BlockSync, 3, "3 blocks behind"),
            (SyncPhase::HeaderSync, 0, "headers"),
        ] {
            let said = not_ready(phase, lag).expect("not ready");
            assert!(said.contains(why), "{said}");
        }
    }
}
