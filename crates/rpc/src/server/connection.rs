//! One connection: hyper reads its requests one after the other and sends the answers.
//!
//! Around it is what hyper does not know of: how long callers may take and how much they may
//! send (`pipe`), that others may need the connection's seat, and callers who leave.
//!
//! | the caller | Unix socket | TCP |
//! |---|---|---|
//! | has closed | it is gone | looks like the next one; a reset tells it, when something was sent |
//! | sends no more, and reads | gets its answer | gets its answer; of a call that waits, also for its turn, or a batch that takes long, it is taken for gone |
//!
//! Of who is gone the call is dropped where it waits, and its place and descriptor are free.

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

use super::content::{Answered, Response, empty};
use super::gate::{self, Visitor};
use super::progress::Progress;
use super::share::Seat;
use super::workers::{Stage, reached};
use super::{Context, call, probes, rest};

pub(super) use pipe::Stream;
use pipe::{Alarm, Io, Pipe};

/// What hyper has of one connection in its buffers, each way, bytes.
const BUFFER: usize = 32 * 1024;
/// Lines of a head at most: as many as fit, so that the length is what is judged.
const MOST_LINES: usize = gate::MAX_HEAD / "a:\n".len();
/// Time for the caller to read a refusal before its connection is cut.
const LINGER: Duration = Duration::from_secs(1);
/// Time for the rest of a short body that nobody wants, so that the connection can stay.
const SETTLE: Duration = Duration::from_millis(100);
/// A longer body that nobody wants is not read, bytes.
const SETTLED: usize = 64 * 1024;

/// Who is at the other end of a connection, and what is done for it.
pub(super) struct Client {
    visitor: Visitor,
    progress: Arc<Progress>,
    /// Of the long answer that is being sent.
    seat: RefCell<Weak<Seat>>,
}

impl Client {
    fn new(visitor: Visitor) -> Rc<Self> {
        Rc::new(Self {
            visitor,
            progress: Arc::default(),
            seat: RefCell::default(),
        })
    }

    pub(super) fn group(&self) -> AddressGroup {
        self.visitor.seat.group()
    }

    /// Of the request that is carried out.
    pub(super) fn progress(&self) -> &Arc<Progress> {
        &self.progress
    }

    /// Something of an answer went out.
    fn has_read(&self) {
        // A caller without a password has its time whether it reads or not.
        if !self.visitor.seat.is_stranger()
            && let Some(seat) = self.seat.borrow().upgrade()
        {
            seat.idles(true);
        }
    }

    /// Whether others need the seat of its answer.
    fn is_to_leave(&self) -> bool {
        let seat = self.seat.borrow().upgrade();
        seat.is_some_and(|seat| seat.is_leaving())
    }
}

/// What serves connections.
#[derive(Clone)]
pub(super) struct Serving {
    http: http1::Builder,
    /// For heads of many lines.
    many_lines: http1::Builder,
    stage: watch::Receiver<Stage>,
    context: Arc<Context>,
}

/// How a connection ended.
enum End {
    /// In order, but the caller may still be sending.
    Unread,
    /// In order.
    Closed,
    /// What was sent is no request; the caller is told.
    Refused(StatusCode),
    /// There is nobody to be told.
    Cut,
}

impl Serving {
    pub(super) fn new(stage: watch::Receiver<Stage>, context: Context) -> Self {
        let mut http = http1::Builder::new();
        // Of a caller who only sends no more the answer is sent: see `pipe`.
        http.half_close(true)
            .header_read_timeout(None)
            .max_buf_size(BUFFER);
        let mut many_lines = http.clone();
        many_lines.max_headers(MOST_LINES);
        Self {
            http,
            many_lines,
            stage,
            context: Arc::new(context),
        }
    }

    /// Serves one connection to its end, or until somebody else needs its seat.
    pub(super) async fn connection<S: Stream>(&self, stream: S, visitor: Visitor) {
        let client = Client::new(visitor);
        tokio::select! {
            () = client.visitor.seat.cut() => {}
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
        // What arrives at a closed socket resets it, and the caller loses the answer. It is
        // over in any case.
        let _ = timeout(LINGER, pipe.say_last(refusal)).await;
    }

    async fn until_the_end<S: Stream>(&self, pipe: &Rc<Pipe<S>>, client: &Rc<Client>) -> End {
        let serve = |http: &http1::Builder| {
            let service = service_fn(move |request| async move {
                Answered::Ok(self.answer(request, pipe, client).await)
            });
            http.serve_connection(TokioIo::new(Io(pipe.clone())), service)
        };
        let mut http = serve(&self.http);
        let seat = &client.visitor.seat;
        let mut ending = pin!(async {
            tokio::select! {
                () = reached(self.stage.clone(), Stage::Ending) => {}
                () = seat.asked_to_leave() => {}
            }
        });
        let mut alarm = pin!(sleep_until(pipe.next_alarm().unwrap_or_else(Instant::now)));
        let (mut is_ending, mut told) = (false, false);
        let ended = poll_fn(|cx| {
            loop {
                if let Poll::Ready(result) = Pin::new(&mut http).poll(cx) {
                    return Poll::Ready(Ok(result));
                }
                if pipe.poll_gone(cx).is_ready() {
                    return Poll::Ready(Err(End::Cut));
                }
                if pipe.has_many_lines() {
                    let few = std::mem::replace(&mut http, serve(&self.many_lines));
                    pipe.give_again(&few.into_parts().read_buf);
                    continue;
                }
                if pipe.is_too_long() {
                    return Poll::Ready(Err(End::Refused(StatusCode::BAD_REQUEST)));
                }
                is_ending = is_ending || ending.as_mut().poll(cx).is_ready();
                if is_ending && !told && !pipe.is_in_head() {
                    told = true;
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
            // hyper has said that it is no request.
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
        let mut response = match gate::enter(&head, &client.visitor, &self.context).await {
            Ok(rights) => route(&head, &mut body, rights, client, &self.context).await,
            Err(refusal) => refusal,
        };
        let settled = settle(&head, &mut body).await;
        let ends = *self.stage.borrow() >= Stage::Ending || client.visitor.seat.is_leaving();
        if !settled || ends {
            call::last(&mut response);
        }
        let seat = response.extensions_mut().remove::<Arc<Seat>>();
        let seat = seat.as_ref().map(Arc::downgrade).unwrap_or_default();
        client.seat.replace(seat);
        pipe.answered(settled);
        response
    }
}

/// Everything that is served, to those whom [`gate::enter`] has let in. What is rare is in a
/// box, for hyper keeps room for the longest of all futures with each connection.
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

/// Passes over what nobody has read of the body; whether all of it is gone, and the next
/// request follows. Of who asks first whether to send it nothing is read.
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
        // Of a body in chunks only this tells that it has ended.
        true
    };
    Box::pin(timeout(SETTLE, skip)).await.unwrap_or(false)
}

/// Ready when the caller's time is up. Set anew only when that is sooner than before, or when
/// it goes off: most requests do not touch it.
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
    /// Somebody over the Unix socket.
    pub(super) fn over_unix(context: &Context) -> Rc<Self> {
        let seat = context.shares.unix.try_seat(AddressGroup::Unix);
        Self::new(Visitor {
            addr: None,
            seat: seat.expect("there is room"),
        })
    }
}
