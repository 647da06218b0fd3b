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

mod wire;

use std::cell::RefCell;
use std::future::{Future, poll_fn};
use std::net::SocketAddr;
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
use tokio::time::timeout;

use super::READ_TIMEOUT;
use super::gate::Caller;
use super::workers::{Stage, reached};

use wire::{Body, Broken, Wire};

/// Time that an idle connection is kept open.
const KEEP_ALIVE: Duration = Duration::from_secs(75);
/// Time for the caller to read a refusal before its connection is cut.
const LINGER: Duration = Duration::from_secs(1);
/// An answer is sent in pieces of about this many bytes.
const PIECE: usize = 64 * 1024;

/// What serves the connections of one socket.
pub(super) struct Serving<A> {
    /// The routes.
    pub(super) app: A,
    /// Shared, since it keeps the clock of all answers.
    pub(super) config: ServiceConfig,
    pub(super) stage: watch::Receiver<Stage>,
    /// Who comes by the socket.
    pub(super) caller: Caller,
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
    /// Serves one connection to its end.
    pub(super) async fn connection<S>(&self, stream: S, addr: Option<SocketAddr>)
    where
        S: AsyncRead + AsyncWrite + Unpin + 'static,
    {
        let wire = Rc::new(RefCell::new(Wire::new(stream, self.config.clone())));
        let mut ending = pin!(reached(self.stage.clone(), Stage::Ending));
        let mut patience = READ_TIMEOUT;
        loop {
            let request = match next(&wire, patience, ending.as_mut()).await {
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
            let Some(response) = self.carry_out(&wire, request, addr).await else {
                return;
            };
            let body_read = wire.borrow_mut().skip_body();
            let stays = asked == ConnectionType::KeepAlive
                && response.head().connection_type() != ConnectionType::Close
                && body_read
                && *self.stage.borrow() < Stage::Ending;
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
            patience = KEEP_ALIVE;
        }
    }

    /// The answer; `None` if the caller has gone.
    async fn carry_out<S>(
        &self,
        wire: &Shared<S>,
        mut request: Request,
        addr: Option<SocketAddr>,
    ) -> Option<Response<BoxBody>>
    where
        S: AsyncRead + AsyncWrite + Unpin + 'static,
    {
        request.head_mut().peer_addr = addr;
        request.extensions_mut().insert(self.caller);
        if wire.borrow_mut().has_body(request.head().expect()) {
            let payload = Box::pin(Body(wire.clone()));
            *request.payload() = Payload::Stream { payload };
        }
        let mut call = pin!(self.app.call(request));
        poll_fn(|cx| {
            if let Poll::Ready(result) = call.as_mut().poll(cx) {
                let response = result.map_or_else(Into::into, Into::into);
                return Poll::Ready(Some(response));
            }
            // Who has gone needs no answer, and the call is given up.
            wire.borrow_mut().poll_gone(cx).map(|()| None)
        })
        .await
    }
}

/// Waits for the head of a request: `patience` for its first byte, then [`READ_TIMEOUT`].
async fn next<S: AsyncRead + AsyncWrite + Unpin>(
    wire: &Shared<S>,
    patience: Duration,
    mut ending: Pin<&mut impl Future>,
) -> Next {
    let arrived = poll_fn(|cx| {
        if let Poll::Ready(arrived) = wire.borrow_mut().poll_arrived(cx) {
            return Poll::Ready(arrived);
        }
        ending.as_mut().poll(cx).map(|_| false)
    });
    match timeout(patience, arrived).await {
        Ok(true) => {}
        Ok(false) | Err(_) => return Next::Over,
    }
    let head = poll_fn(|cx| wire.borrow_mut().poll_head(cx));
    match timeout(READ_TIMEOUT, head).await {
        Ok(Ok(request)) => Next::Request(request),
        Ok(Err(Broken::Gone)) => Next::Over,
        Ok(Err(Broken::Malformed)) => Next::Refused(StatusCode::BAD_REQUEST),
        Err(_) => Next::Refused(StatusCode::REQUEST_TIMEOUT),
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
            let bytes = bytes.map_err(|_| Broken::Gone)?;
            wire.borrow_mut().encode_body(Some(bytes))?;
            if wire.borrow().unsent() > PIECE {
                poll_fn(|cx| wire.borrow_mut().poll_send(cx)).await?;
            }
        }
        wire.borrow_mut().encode_body(None)?;
    }
    poll_fn(|cx| wire.borrow_mut().poll_send(cx)).await?;
    wire.borrow_mut().release();
    Ok(())
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
