//! One HTTP request over one connection.

use std::cell::Cell;
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use http_body_util::{BodyExt, Full, LengthLimitError, Limited};
use hyper::client::conn::http1;
use hyper::header::{AUTHORIZATION, CONNECTION, CONTENT_TYPE, HOST, RETRY_AFTER};
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// Longest answer, bytes: a program that is no node may never end its answer.
const MAX_ANSWER: usize = 1 << 30;

/// A whole answer.
#[derive(Debug)]
pub(super) struct Answer {
    pub(super) status: StatusCode,
    /// `Retry-After` in seconds. Its other form, a date, is not read.
    pub(super) retry_after: Option<u64>,
    pub(super) body: Vec<u8>,
}

/// Why there is no whole answer.
#[derive(Debug)]
pub(super) enum Failure {
    /// The connection ended before a byte of the request was taken: the call was not executed.
    NeverSent,
    /// The bytes are no HTTP.
    Foreign(String),
    /// The connection ended before the answer was whole.
    Cut,
    /// The answer has more than [`MAX_ANSWER`] bytes.
    TooLong,
}

/// Posts `body` and reads the answer to its end. The connection is closed then.
///
/// # Cancel safety
/// Dropping it closes the connection; whether the call was executed is unknown then.
pub(super) async fn exchange(
    stream: impl AsyncRead + AsyncWrite + Unpin + 'static,
    credentials: Option<&str>,
    body: Bytes,
) -> Result<Answer, Failure> {
    let sent = Rc::new(Cell::new(false));
    let stream = Watched {
        stream,
        sent: sent.clone(),
    };
    let failure = |error: &hyper::Error| match sent.get() {
        false => Failure::NeverSent,
        true if error.is_parse() => Failure::Foreign(error.to_string()),
        true => Failure::Cut,
    };
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream))
        .await
        .map_err(|error| failure(&error))?;
    let request = request(credentials, body);
    let answer = async {
        let answer = sender.send_request(request).await;
        read(answer.map_err(|error| failure(&error))?).await
    };
    // The connection ends by itself after the answer; until then it must be polled.
    tokio::pin!(answer);
    tokio::pin!(connection);
    let mut closed = false;
    loop {
        tokio::select! {
            result = &mut answer => return result,
            result = &mut connection, if !closed => {
                closed = true;
                // A failure reaches `answer` too, with a better text.
                drop(result);
            }
        }
    }
}

fn request(credentials: Option<&str>, body: Bytes) -> Request<Full<Bytes>> {
    let mut request = Request::builder()
        .method(Method::POST)
        .uri("/")
        .header(HOST, "localhost")
        .header(CONNECTION, "close")
        .header(CONTENT_TYPE, "application/json");
    if let Some(credentials) = credentials {
        let encoded = STANDARD.encode(credentials);
        request = request.header(AUTHORIZATION, format!("Basic {encoded}"));
    }
    request
        .body(Full::new(body))
        .expect("every part is valid: constants and base64")
}

async fn read(answer: Response<hyper::body::Incoming>) -> Result<Answer, Failure> {
    let status = answer.status();
    let retry_after = answer.headers().get(RETRY_AFTER);
    let retry_after = retry_after.and_then(|value| value.to_str().ok()?.trim().parse().ok());
    let body = Limited::new(answer.into_body(), MAX_ANSWER).collect().await;
    let body = body.map_err(|error| match error.downcast_ref::<hyper::Error>() {
        None if error.is::<LengthLimitError>() => Failure::TooLong,
        Some(error) if error.is_parse() => Failure::Foreign(error.to_string()),
        Some(_) | None => Failure::Cut,
    })?;
    Ok(Answer {
        status,
        retry_after,
        body: body.to_bytes().to_vec(),
    })
}

/// A stream that records whether the system took any of the bytes written.
struct Watched<S> {
    stream: S,
    sent: Rc<Cell<bool>>,
}

impl<S> Watched<S> {
    fn note(&self, written: Poll<io::Result<usize>>) -> Poll<io::Result<usize>> {
        if matches!(written, Poll::Ready(Ok(1..))) {
            self.sent.set(true);
        }
        written
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Watched<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(context, buffer)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Watched<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write(context, bytes);
        self.note(written)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write_vectored(context, slices);
        self.note(written)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, duplex};

    use super::*;

    fn failure_of(work: impl Future<Output = Result<Answer, Failure>>) -> Failure {
        let outcome = crate::client::block_on(work).expect("an event loop");
        outcome.expect_err("there is no answer")
    }

    #[test]
    fn a_call_of_which_nothing_was_sent_is_distinguished_from_one_that_may_have_been_read() {
        let unread = failure_of(async {
            let (near, far) = duplex(64);
            drop(far);
            exchange(near, None, "{}".into()).await
        });
        assert!(matches!(unread, Failure::NeverSent), "{unread:?}");

        let begun = failure_of(async {
            let (near, mut far) = duplex(64);
            let reads = async move {
                far.read_u8().await.expect("a byte of the request");
            };
            tokio::join!(exchange(near, None, "{}".into()), reads).0
        });
        assert!(matches!(begun, Failure::Cut), "{begun:?}");
    }
}
