//! One connection: hyper reads its requests one after the other and sends the answers.
//!
//! This adds what hyper does not have: timeouts and limits on what clients send (`pipe`),
//! eviction for other clients, and detection of disconnected clients.
//!
//! | the client | Unix socket | TCP |
//! |---|---|---|
//! | closed the connection | is seen as gone | looks like the next row; a reset shows it, once something was sent |
//! | closed its sending half | gets its answer | gets its answer; but a call that waits or is queued, or a long batch, is dropped |
//!
//! When a client is gone its call is dropped where it waits, which frees its permit and
//! descriptor.

mod pipe;

use std::cell::RefCell;
use std::future::poll_fn;
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::sync::{Arc, Weak};
use std::task::{Context as Poller, Poll, ready};
use std::time::Duration;

use http_body_util::BodyExt;
use hyper::body::{Body, Incoming};
use hyper::header::{CONTENT_LENGTH, EXPECT};
use hyper::http::request::Parts;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request, StatusCode};
use hyper_util::rt::TokioIo;
use tokio::sync::watch;
use tokio::time::{Instant, Sleep, sleep_until, timeout};

use crate::address_group::AddressGroup;
use crate::auth::Rights;

use super::authorize::{self, Caller};
use super::content::{Answered, Response, empty};
use super::progress::Progress;
use super::quota::Slot;
use super::workers::{Stage, reached};
use super::{Context, call, probes, rest};

pub(super) use pipe::Stream;
use pipe::{Alarm, Io, Pipe};

/// Size of hyper's buffers of one connection, each way, bytes.
const BUFFER: usize = 32 * 1024;
/// Most lines of a head: as many as fit, so that only the length is limited.
const MAX_LINES: usize = authorize::MAX_HEAD / "a:\n".len();
/// Time for the client to read a refusal before its connection is closed.
const LINGER: Duration = Duration::from_secs(1);
/// Time to skip the rest of a short unread body, so that the connection can stay open.
const SETTLE: Duration = Duration::from_millis(100);
/// A longer unread body is not skipped, bytes.
const SETTLED: usize = 64 * 1024;

/// A connection's client, and the state of its request.
pub(super) struct Client {
    caller: Caller,
    progress: Arc<Progress>,
    /// The slot of the long answer that is being sent.
    slot: RefCell<Weak<Slot>>,
}

impl Client {
    fn new(caller: Caller) -> Rc<Self> {
        Rc::new(Self {
            caller,
            progress: Arc::default(),
            slot: RefCell::default(),
        })
    }

    pub(super) fn group(&self) -> AddressGroup {
        self.caller.slot.group()
    }

    /// The progress of the current request.
    pub(super) fn progress(&self) -> &Arc<Progress> {
        &self.progress
    }

    /// Part of an answer was sent.
    fn has_read(&self) {
        // An unauthenticated client's time is limited whether it reads or not.
        if !self.caller.slot.is_unauthenticated()
            && let Some(slot) = self.slot.borrow().upgrade()
        {
            slot.set_idle(true);
        }
    }

    /// Whether its answer's slot is needed by others.
    fn should_close(&self) -> bool {
        let slot = self.slot.borrow().upgrade();
        slot.is_some_and(|slot| slot.is_closing())
    }
}

/// Serves connections.
#[derive(Clone)]
pub(super) struct Serving {
    http: http1::Builder,
    /// For heads with many lines.
    many_lines: http1::Builder,
    stage: watch::Receiver<Stage>,
    context: Arc<Context>,
}

/// How a connection ended.
enum End {
    /// In order, but the client may still be sending.
    Unread,
    /// In order.
    Closed,
    /// The bytes were no request; the client gets this status.
    Refused(StatusCode),
    /// No answer can be sent.
    Cut,
}

impl Serving {
    pub(super) fn new(stage: watch::Receiver<Stage>, context: Context) -> Self {
        let mut http = http1::Builder::new();
        // A client that closed its sending half still gets its answer: see `pipe`.
        http.half_close(true)
            .header_read_timeout(None)
            .max_buf_size(BUFFER);
        let mut many_lines = http.clone();
        many_lines.max_headers(MAX_LINES);
        Self {
            http,
            many_lines,
            stage,
            context: Arc::new(context),
        }
    }

    /// Serves one connection to its end, or until it is evicted.
    pub(super) async fn connection<S: Stream>(&self, stream: S, caller: Caller) {
        let client = Client::new(caller);
        tokio::select! {
            () = client.caller.slot.cut() => {}
            () = self.requests(stream, &client) => {}
        }
    }

    async fn requests<S: Stream>(&self, stream: S, client: &Rc<Client>) {
        let pipe = Rc::new(Pipe::new(stream, client.clone()));
        let end = self.until_the_end(&pipe, client).await;
        let refusal = match end {
            End::Closed | End::Cut => return,
            End::Unread => None,
            End::Refused(status) => Some(status),
        };
        // Bytes that arrive at a closed socket reset it, and the client would lose the answer.
        // The connection ends in any case.
        let _ = timeout(LINGER, pipe.close_gracefully(refusal)).await;
    }

    async fn until_the_end<S: Stream>(&self, pipe: &Rc<Pipe<S>>, client: &Rc<Client>) -> End {
        let serve = |http: &http1::Builder| {
            let service = service_fn(move |request| async move {
                Answered::Ok(self.answer(request, pipe, client).await)
            });
            http.serve_connection(TokioIo::new(Io(pipe.clone())), service)
        };
        let mut http = serve(&self.http);
        let slot = &client.caller.slot;
        let mut ending = pin!(async {
            tokio::select! {
                () = reached(self.stage.clone(), Stage::Disconnection) => {}
                () = slot.close_requested() => {}
            }
        });
        let mut alarm = pin!(sleep_until(pipe.next_alarm().unwrap_or_else(Instant::now)));
        let (mut is_ending, mut shutting_down) = (false, false);
        let ended = poll_fn(|cx| {
            loop {
                if let Poll::Ready(result) = Pin::new(&mut http).poll(cx) {
                    return Poll::Ready(Ok(result));
                }
                if pipe.poll_closed(cx).is_ready() {
                    return Poll::Ready(Err(End::Cut));
                }
                if pipe.has_many_lines() {
                    let few = std::mem::replace(&mut http, serve(&self.many_lines));
                    pipe.replay(&few.into_parts().read_buf);
                    continue;
                }
                if pipe.is_too_long() {
                    return Poll::Ready(Err(End::Refused(StatusCode::BAD_REQUEST)));
                }
                is_ending = is_ending || ending.as_mut().poll(cx).is_ready();
                if is_ending && !shutting_down && !pipe.is_in_head() {
                    shutting_down = true;
                    Pin::new(&mut http).graceful_shutdown();
                    continue;
                }
                return poll_alarm(pipe, alarm.as_mut(), cx).map(Err);
            }
        })
        .await;
        let unread = pipe.has_unread() || !http.into_parts().read_buf.is_empty();
        match ended {
            Ok(Ok(())) if unread => End::Unread,
            Ok(Ok(())) => End::Closed,
            // hyper has answered that it is no request.
            Ok(Err(error)) if error.is_parse() => End::Unread,
            Ok(Err(_)) => End::Cut,
            Err(end) => end,
        }
    }

    /// The answer to one request.
    async fn answer<S: Stream>(
        &self,
        request: Request<Incoming>,
        pipe: &Pipe<S>,
        client: &Client,
    ) -> Response {
        pipe.called();
        let (head, mut body) = request.into_parts();
        let mut response = match authorize::authorize(&head, &client.caller, &self.context).await {
            Ok(rights) => route(&head, &mut body, rights, client, &self.context).await,
            Err(refusal) => refusal,
        };
        let settled = settle(&head, &mut body).await;
        let ends = *self.stage.borrow() >= Stage::Disconnection || client.caller.slot.is_closing();
        if !settled || ends {
            call::last(&mut response);
        }
        let slot = response.extensions_mut().remove::<Arc<Slot>>();
        let slot = slot.as_ref().map(Arc::downgrade).unwrap_or_default();
        client.slot.replace(slot);
        pipe.answered(settled);
        response
    }
}

/// All routes, for requests that [`authorize::authorize`] has passed. Rare ones are boxed: hyper
/// allocates the largest of all futures for each connection.
async fn route(
    request: &Parts,
    body: &mut Incoming,
    rights: Option<Rights>,
    client: &Client,
    context: &Arc<Context>,
) -> Response {
    match request.uri.path() {
        "/" => call::handle(request, body, rights, client, context).await,
        "/health" => probes::health(request, context),
        "/ready" => Box::pin(probes::ready(request, context)).await,
        "/metrics" => Box::pin(probes::metrics(request, context)).await,
        path => match path.strip_prefix("/rest/") {
            Some(path) => Box::pin(rest::handle(path, request, rights, client, context)).await,
            None => empty(StatusCode::NOT_FOUND),
        },
    }
}

/// Skips what is unread of the body; whether all of it is gone, and the next request follows. A
/// body behind `Expect` is not read.
async fn settle(request: &Parts, body: &mut Incoming) -> bool {
    if body.is_end_stream() {
        return true;
    }
    let length = request.headers.get(CONTENT_LENGTH);
    let length = length.and_then(|length| length.to_str().ok()?.parse().ok());
    let is_long = length.is_some_and(|length: u64| length > SETTLED as u64);
    if is_long || request.headers.contains_key(EXPECT) {
        return false;
    }
    let skip = async {
        let mut skipped = 0;
        while let Some(frame) = body.frame().await {
            let Ok(frame) = frame else { return false };
            skipped += frame.data_ref().map_or(0, |chunk| chunk.len());
            if skipped > SETTLED {
                return false;
            }
        }
        // Only this shows the end of a chunked body.
        true
    };
    Box::pin(timeout(SETTLE, skip)).await.unwrap_or(false)
}

/// Ready when the client's time is up. The timer is reset only to an earlier time, or when it
/// fires: most requests do not touch it.
fn poll_alarm<S: Stream>(
    pipe: &Pipe<S>,
    mut alarm: Pin<&mut Sleep>,
    cx: &mut Poller<'_>,
) -> Poll<End> {
    loop {
        let Some(due) = pipe.next_alarm() else {
            return Poll::Pending;
        };
        if due < alarm.deadline() || alarm.is_elapsed() {
            alarm.as_mut().reset(due);
        }
        ready!(alarm.as_mut().poll(cx));
        match pipe.alarm(Instant::now()) {
            Some(Alarm::Slow) => return Poll::Ready(End::Refused(StatusCode::REQUEST_TIMEOUT)),
            Some(Alarm::Over) => return Poll::Ready(End::Cut),
            None => {}
        }
    }
}

#[cfg(test)]
impl Client {
    /// A client on the Unix socket.
    pub(super) fn over_unix(context: &Context) -> Rc<Self> {
        let slot = context.quotas.unix.try_slot(AddressGroup::Unix);
        Self::new(Caller {
            addr: None,
            slot: slot.expect("a free slot"),
        })
    }
}
