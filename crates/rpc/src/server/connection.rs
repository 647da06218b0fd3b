//! One connection: its requests are read, carried out and answered one after the other.
//!
//! actix-http decodes requests and encodes answers; the loop around them is ours. Its own
//! looks ahead: it decodes what a caller sends who does not wait for answers, and answers
//! all of it as the last request asks. Three calls of which the last says `Connection:
//! close` get three answers that say it, and of a call that ends its connection and one
//! behind it both are carried out. A caller who goes by RFC 9112 then repeats what was done.
//! Here a request is looked at when the one before it has its answer.
//!
//! It also says `100 Continue` only when somebody wants the body: after login and length.

mod host;
mod wire;

use std::cell::RefCell;
use std::future::{Future, poll_fn};
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::task::Poll;
use std::time::Duration;

use actix_http::body::{BoxBody, MessageBody};
use actix_http::{
    ConnectionType, HttpMessage, Payload, Request, Response, ServiceConfig, StatusCode,
};
use actix_service::Service;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::watch;
use tokio::time::{Instant, timeout, timeout_at};

use super::gate::{self, Visitor};
use super::workers::{Stage, reached};
use super::{Context, PIECE, READ_TIMEOUT};

use wire::{Body, Broken, Wire};

/// Time that an idle connection is kept open.
const KEEP_ALIVE: Duration = Duration::from_secs(75);
/// Time in which a caller reads a [`PIECE`] of its answer.
const SEND_TIMEOUT: Duration = READ_TIMEOUT;
/// Time for the caller to read a refusal before its connection is cut.
const LINGER: Duration = Duration::from_secs(1);

/// What serves the connections of one socket.
pub(super) struct Serving<A> {
    /// The routes.
    pub(super) app: A,
    /// Shared, since it keeps the clock of all answers.
    pub(super) config: ServiceConfig,
    pub(super) stage: watch::Receiver<Stage>,
    pub(super) context: Context,
}

type Shared<S> = Rc<RefCell<Wire<S>>>;

/// What became of the wait for a request.
enum Next {
    Request(Request),
    /// There will be none: the connection is idle, the caller has left, or the server ends.
    Over,
    /// It cannot be read.
    Refused(StatusCode),
}

impl<A> Serving<A>
where
    A: Service<Request>,
    A::Response: Into<Response<BoxBody>>,
    A::Error: Into<Response<BoxBody>>,
{
    /// Serves one connection to its end, or until somebody else needs its seat.
    pub(super) async fn connection<S>(&self, stream: S, visitor: &Visitor)
    where
        S: AsyncRead + AsyncWrite + Unpin + 'static,
    {
        tokio::select! {
            () = visitor.seat.cut() => {}
            () = self.requests(stream, visitor) => {}
        }
    }

    async fn requests<S>(&self, stream: S, visitor: &Visitor)
    where
        S: AsyncRead + AsyncWrite + Unpin + 'static,
    {
        let wire = Rc::new(RefCell::new(Wire::new(stream, self.config.clone())));
        let seat = &visitor.seat;
        let mut ending = pin!(async {
            tokio::select! {
                () = reached(self.stage.clone(), Stage::Ending) => {}
                () = seat.asked_to_leave() => {}
            }
        });
        // For the whole head of the first request, and for the beginning of later ones.
        let mut patience = (READ_TIMEOUT, Duration::ZERO);
        loop {
            seat.idles(true);
            let next = self.next(&wire, visitor, patience, ending.as_mut()).await;
            seat.idles(false);
            let request = match next {
                Next::Request(request) => request,
                Next::Over => return,
                Next::Refused(status) => {
                    let refusal = Response::with_body(status, BoxBody::new(()));
                    if send(&wire, refusal, ConnectionType::Close).await.is_ok() {
                        linger(&wire).await;
                    }
                    return;
                }
            };
            let asked = request.head().connection_type();
            let Some(response) = self.carry_out(&wire, request, visitor).await else {
                return;
            };
            let body_read = wire.borrow_mut().skip_body();
            let stays = asked == ConnectionType::KeepAlive
                && response.head().connection_type() != ConnectionType::Close
                && body_read
                && *self.stage.borrow() < Stage::Ending
                && !seat.is_leaving();
            let last = match stays {
                true => ConnectionType::KeepAlive,
                false => ConnectionType::Close,
            };
            if send(&wire, response, last).await.is_err() {
                return;
            }
            if !stays {
                return linger(&wire).await;
            }
            patience = (KEEP_ALIVE, READ_TIMEOUT);
        }
    }

    /// Waits for the head of a request: `begins` for its first byte, and `ends` after that
    /// for the rest.
    async fn next<S: AsyncRead + AsyncWrite + Unpin>(
        &self,
        wire: &Shared<S>,
        visitor: &Visitor,
        (begins, ends): (Duration, Duration),
        mut ending: Pin<&mut impl Future>,
    ) -> Next {
        let deadline = Instant::now() + begins;
        let arrived = poll_fn(|cx| {
            if let Poll::Ready(arrived) = wire.borrow_mut().poll_arrived(cx) {
                return Poll::Ready(arrived);
            }
            ending.as_mut().poll(cx).map(|_| false)
        });
        match timeout_at(deadline, arrived).await {
            Ok(true) => {}
            Ok(false) | Err(_) => return Next::Over,
        }
        visitor.seat.idles(false);
        let deadline = match ends {
            Duration::ZERO => deadline,
            ends => Instant::now() + ends,
        };
        match timeout_at(deadline, self.head(wire, visitor)).await {
            Ok(Ok(request)) => Next::Request(request),
            Ok(Err(Broken::Gone)) => Next::Over,
            Ok(Err(Broken::Malformed | Broken::Long)) => Next::Refused(StatusCode::BAD_REQUEST),
            Err(_) => Next::Refused(StatusCode::REQUEST_TIMEOUT),
        }
    }

    /// The head of a request, of which something is there.
    async fn head<S: AsyncRead + AsyncWrite + Unpin>(
        &self,
        wire: &Shared<S>,
        visitor: &Visitor,
    ) -> Result<Request, Broken> {
        let head = poll_fn(|cx| wire.borrow_mut().poll_head(false, cx)).await;
        match head {
            Err(Broken::Long) => {}
            head => return head,
        }
        // Strangers with a long head are few at a time, and the next one takes the place of
        // one of them.
        let long = self.context.shares.long_heads.seat(visitor.seat.group());
        let long = long.await;
        let head = poll_fn(|cx| wire.borrow_mut().poll_head(true, cx));
        tokio::select! {
            head = head => head,
            () = long.cut() => Err(Broken::Gone),
        }
    }

    /// The answer; `None` if the caller has gone.
    async fn carry_out<S>(
        &self,
        wire: &Shared<S>,
        mut request: Request,
        visitor: &Visitor,
    ) -> Option<Response<BoxBody>>
    where
        S: AsyncRead + AsyncWrite + Unpin + 'static,
    {
        request.head_mut().peer_addr = visitor.addr;
        if wire.borrow_mut().has_body(request.head().expect()) {
            let payload = Box::pin(Body(wire.clone()));
            *request.payload() = Payload::Stream { payload };
        }
        let mut call = pin!(async {
            let entered = match gate::enter(request.head(), visitor, &self.context).await {
                Ok(entered) => entered,
                Err(refusal) => return refusal.into(),
            };
            if entered.0.is_some() {
                wire.borrow_mut().logged_in();
            }
            request.extensions_mut().insert(entered);
            let result = self.app.call(request).await;
            result.map_or_else(Into::into, Into::into)
        });
        poll_fn(|cx| {
            if let Poll::Ready(response) = call.as_mut().poll(cx) {
                return Poll::Ready(Some(response));
            }
            // Who has gone needs no answer, and the call is given up.
            wire.borrow_mut().poll_gone(cx).map(|()| None)
        })
        .await
    }
}

/// Sends a whole answer, which says whether the connection stays.
async fn send<S: AsyncRead + AsyncWrite + Unpin>(
    wire: &Shared<S>,
    response: Response<BoxBody>,
    last: ConnectionType,
) -> Result<(), Broken> {
    let (mut head, body) = response.into_parts();
    if last == ConnectionType::Close {
        head.head_mut().set_connection_type(last);
    }
    let mut body = pin!(body);
    wire.borrow_mut().encode_head(head, body.size())?;
    if !body.size().is_eof() {
        while let Some(bytes) = poll_fn(|cx| body.as_mut().poll_next(cx)).await {
            let mut bytes = bytes.map_err(|_| Broken::Gone)?;
            while !bytes.is_empty() {
                let piece = bytes.split_to(bytes.len().min(PIECE));
                wire.borrow_mut().encode_body(Some(piece))?;
                if wire.borrow().unsent() > PIECE {
                    flush(wire).await?;
                }
            }
        }
        wire.borrow_mut().encode_body(None)?;
    }
    flush(wire).await?;
    wire.borrow_mut().release();
    Ok(())
}

/// Sends what is encoded, to a caller who reads.
async fn flush<S: AsyncRead + AsyncWrite + Unpin>(wire: &Shared<S>) -> Result<(), Broken> {
    let sent = poll_fn(|cx| wire.borrow_mut().poll_send(cx));
    let sent = timeout(SEND_TIMEOUT, sent).await;
    sent.unwrap_or(Err(Broken::Gone))
}

/// Closes our half and, where the caller may still be sending, its half too, or waits for
/// that: what arrives at a closed socket resets it, and the caller loses the answer.
async fn linger<S: AsyncRead + AsyncWrite + Unpin>(wire: &Shared<S>) {
    let close = async {
        poll_fn(|cx| wire.borrow_mut().poll_close(cx)).await?;
        poll_fn(|cx| wire.borrow_mut().poll_discard(cx)).await
    };
    // It is over in any case.
    let _ = timeout(LINGER, close).await;
}
