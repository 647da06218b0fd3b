//! The bytes of a connection, as parts of requests and answers.

use std::cell::RefCell;
use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};

use actix_http::body::BodySize;
use actix_http::error::{ParseError, PayloadError};
use actix_http::h1::{Codec, Message, MessageType};
use actix_http::{Request, Response, ServiceConfig};
use bytes::{Buf, Bytes, BytesMut};
use futures_util::Stream;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_util::codec::{Decoder, Encoder};
use tokio_util::io::poll_read_buf;

use super::super::gate::MAX_HEADERS;
use super::host;

/// Room for what is received next, bytes.
const READ: usize = 8 * 1024;
/// The same before the caller has logged in: such a head is one of an ordinary request, and
/// there may be thousands of callers who send a part of one and no more.
pub(super) const SHORT_HEAD: usize = 4 * 1024;
/// With less room than this more is made.
const LEAST_READ: usize = 1024;
/// Room for parts of a long body, bytes.
const READ_BODY: usize = 64 * 1024;
/// Longest request line, bytes: a path and what REST is asked with.
const MAX_REQUEST_LINE: usize = 8 * 1024;
/// What is received of later requests while one is carried out, bytes, at most. The rest
/// stays with the system, and then with the caller. Of a stranger no more than
/// [`SHORT_HEAD`].
const MAX_AHEAD: usize = 16 * 1024;
/// Buffers that have grown beyond this are given back after an answer, bytes.
const KEPT: usize = 32 * 1024;

/// Why no more can be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Broken {
    /// The caller has left, in order or not.
    Gone,
    /// What was received is no request that is understood.
    Malformed,
    /// The head of the request is longer than it may be so far.
    Long,
}

impl From<io::Error> for Broken {
    fn from(_: io::Error) -> Self {
        Self::Gone
    }
}

/// A stream with what was received and is not decoded, and encoded and not sent.
pub(super) struct Wire<S> {
    stream: S,
    codec: Codec,
    received: BytesMut,
    sending: BytesMut,
    /// The caller sends no more.
    ended: bool,
    /// The caller waits for `100 Continue` before it sends the body.
    hesitates: bool,
    /// The caller has not logged in.
    stranger: bool,
}

impl<S: AsyncRead + AsyncWrite + Unpin> Wire<S> {
    pub(super) fn new(stream: S, config: ServiceConfig) -> Self {
        Self {
            stream,
            codec: Codec::new(config),
            received: BytesMut::new(),
            sending: BytesMut::new(),
            ended: false,
            hesitates: false,
            stranger: true,
        }
    }

    /// The caller has logged in.
    pub(super) fn logged_in(&mut self) {
        self.stranger = false;
    }

    /// Whether something of a request is there; not if there never will be.
    pub(super) fn poll_arrived(&mut self, cx: &mut Context<'_>) -> Poll<bool> {
        if !self.received.is_empty() {
            return Poll::Ready(true);
        }
        self.poll_receive(cx).map(|count| matches!(count, Ok(1..)))
    }

    /// The head of the next request. Of a stranger it may have [`SHORT_HEAD`], unless it `may_be_long`.
    pub(super) fn poll_head(
        &mut self,
        may_be_long: bool,
        cx: &mut Context<'_>,
    ) -> Poll<Result<Request, Broken>> {
        loop {
            host::complete(&mut self.received);
            match self.codec.decode(&mut self.received) {
                Ok(Some(Message::Item(request))) => return Poll::Ready(Ok(request)),
                Ok(Some(Message::Chunk(_))) => {
                    unreachable!("a body is read to its end, or the connection is at its own")
                }
                Ok(None) => {}
                Err(ParseError::Io(_)) => return Poll::Ready(Err(Broken::Gone)),
                Err(_) => return Poll::Ready(Err(Broken::Malformed)),
            }
            if self.received.len() > MAX_REQUEST_LINE + MAX_HEADERS {
                return Poll::Ready(Err(Broken::Malformed));
            }
            if self.stranger && !may_be_long && self.received.len() >= SHORT_HEAD {
                return Poll::Ready(Err(Broken::Long));
            }
            if ready!(self.poll_receive(cx))? == 0 {
                let broken = match self.received.is_empty() {
                    true => Broken::Gone,
                    false => Broken::Malformed,
                };
                return Poll::Ready(Err(broken));
            }
        }
    }

    /// Whether the request just decoded has a body; it `expects` to be asked for it or not.
    pub(super) fn has_body(&mut self, expects: bool) -> bool {
        let has_body = self.body_is_due();
        self.hesitates = has_body && expects;
        has_body
    }

    fn body_is_due(&self) -> bool {
        self.codec.message_type() != MessageType::None
    }

    /// The next part of the body, `None` at its end.
    fn poll_body(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Bytes, PayloadError>>> {
        if self.hesitates {
            self.sending
                .extend_from_slice(b"HTTP/1.1 100 Continue\r\n\r\n");
            self.hesitates = false;
        }
        if !self.sending.is_empty() {
            ready!(self.poll_send(cx)).map_err(|_| PayloadError::Incomplete(None))?;
        }
        while self.body_is_due() {
            match self.codec.decode(&mut self.received) {
                Ok(Some(Message::Chunk(Some(bytes)))) => return Poll::Ready(Some(Ok(bytes))),
                Ok(Some(Message::Chunk(None) | Message::Item(_))) => break,
                Ok(None) => {}
                Err(_) => return Poll::Ready(Some(Err(PayloadError::EncodingCorrupted))),
            }
            if !matches!(ready!(self.poll_receive(cx)), Ok(1..)) {
                return Poll::Ready(Some(Err(PayloadError::Incomplete(None))));
            }
        }
        Poll::Ready(None)
    }

    /// Passes over what nobody has read of the body; whether the next request follows.
    pub(super) fn skip_body(&mut self) -> bool {
        while self.body_is_due() {
            match self.codec.decode(&mut self.received) {
                Ok(Some(Message::Chunk(_))) => {}
                Ok(Some(Message::Item(_)) | None) | Err(_) => return false,
            }
        }
        true
    }

    /// Ready when the caller can get no answer any more. Who only sends no more can.
    pub(super) fn poll_gone(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let ahead = if self.stranger { SHORT_HEAD } else { MAX_AHEAD };
        // The body is the call's to read.
        while !self.ended && !self.body_is_due() && self.received.len() < ahead {
            if ready!(self.poll_receive(cx)).is_err() {
                return Poll::Ready(());
            }
        }
        Poll::Pending
    }

    fn poll_receive(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
        if self.ended {
            return Poll::Ready(Ok(0));
        }
        if self.received.capacity() - self.received.len() < LEAST_READ {
            self.received.reserve(match self.body_is_due() {
                true => READ_BODY,
                false if self.stranger => SHORT_HEAD,
                false => READ,
            });
        }
        let stream = Pin::new(&mut self.stream);
        let count = ready!(poll_read_buf(stream, cx, &mut self.received))?;
        self.ended = count == 0;
        Poll::Ready(Ok(count))
    }

    pub(super) fn encode_head(&mut self, head: Response<()>, size: BodySize) -> Result<(), Broken> {
        let message = Message::Item((head, size));
        Ok(self.codec.encode(message, &mut self.sending)?)
    }

    /// A part of the body, or its end.
    pub(super) fn encode_body(&mut self, bytes: Option<Bytes>) -> Result<(), Broken> {
        let message: Message<(Response<()>, BodySize)> = Message::Chunk(bytes);
        Ok(self.codec.encode(message, &mut self.sending)?)
    }

    /// Bytes that are encoded and not sent.
    pub(super) fn unsent(&self) -> usize {
        self.sending.len()
    }

    /// Sends what is encoded.
    pub(super) fn poll_send(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Broken>> {
        while !self.sending.is_empty() {
            let stream = Pin::new(&mut self.stream);
            match ready!(stream.poll_write(cx, &self.sending))? {
                0 => return Poll::Ready(Err(Broken::Gone)),
                count => self.sending.advance(count),
            }
        }
        Pin::new(&mut self.stream)
            .poll_flush(cx)
            .map_err(Into::into)
    }

    /// Gives back what long requests and answers have taken.
    pub(super) fn release(&mut self) {
        if self.sending.capacity() > KEPT {
            self.sending = BytesMut::new();
        }
        if self.received.is_empty() && self.received.capacity() > KEPT {
            self.received = BytesMut::new();
        }
    }

    /// Closes our half.
    pub(super) fn poll_close(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Broken>> {
        let stream = Pin::new(&mut self.stream);
        stream.poll_shutdown(cx).map_err(Into::into)
    }

    /// Throws away what arrives, until the caller has closed its half. Nothing is waited
    /// for of a caller who has sent all that belongs to its requests.
    pub(super) fn poll_discard(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Broken>> {
        if self.received.is_empty() && !self.body_is_due() {
            return Poll::Ready(Ok(()));
        }
        loop {
            if ready!(self.poll_receive(cx))? == 0 {
                return Poll::Ready(Ok(()));
            }
            self.received.clear();
        }
    }
}

/// The body of a request, read when it is asked for.
pub(super) struct Body<S>(pub(super) Rc<RefCell<Wire<S>>>);

impl<S: AsyncRead + AsyncWrite + Unpin> Stream for Body<S> {
    type Item = Result<Bytes, PayloadError>;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.0.borrow_mut().poll_body(cx)
    }
}
