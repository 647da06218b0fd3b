//! Bodies of answers.
//!
//! A long answer is sent in pieces, and its [`Slot`] is held by its bytes: it is freed when the
//! last of them is sent or dropped.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;
use hyper::StatusCode;
use hyper::body::{Body, Frame, SizeHint};
use hyper::header::{CONTENT_TYPE, HeaderValue};
use tokio::sync::mpsc;

use super::PIECE;
use super::large_results::{LargeResults, ReleaseOnDrop};
use super::quota::Slot;

/// An answer over HTTP.
pub(super) type Response = hyper::Response<Content>;

/// The body of an answer.
pub(super) enum Content {
    /// All of it is there.
    Whole(Whole),
    /// It is made while it is sent.
    Made(Made),
}

/// The pieces left, and their length in bytes.
#[derive(Default)]
pub(super) struct Whole {
    left: VecDeque<Bytes>,
    length: usize,
}

/// Makes the rest of a body: the last pieces, after those sent through the channel. `None`: it
/// failed.
pub(super) type Maker = Pin<Box<dyn Future<Output = Option<Vec<Bytes>>>>>;

/// A body that is made while it is sent.
pub(super) struct Made {
    ready: Whole,
    pieces: mpsc::Receiver<Bytes>,
    maker: Option<Maker>,
    last: Vec<Bytes>,
}

/// The rest of an answer could not be made.
#[derive(Debug, thiserror::Error)]
#[error("the rest of the answer could not be made")]
pub(super) struct Unfinished;

impl Content {
    pub(super) fn made(first: Bytes, pieces: mpsc::Receiver<Bytes>, maker: Maker) -> Self {
        Self::Made(Made {
            ready: first.into(),
            pieces,
            maker: Some(maker),
            last: Vec::new(),
        })
    }
}

impl<T: Into<Bytes>> From<T> for Whole {
    fn from(bytes: T) -> Self {
        Self::from_iter([bytes.into()])
    }
}

impl FromIterator<Bytes> for Whole {
    fn from_iter<T: IntoIterator<Item = Bytes>>(pieces: T) -> Self {
        let left = VecDeque::from_iter(pieces);
        let length = left.iter().map(Bytes::len).sum();
        Self { left, length }
    }
}

impl Whole {
    /// The next bytes, [`PIECE`] at most.
    fn next(&mut self) -> Option<Bytes> {
        loop {
            let piece = self.left.front_mut()?;
            if piece.is_empty() {
                self.left.pop_front();
                continue;
            }
            let next = match piece.len() > PIECE {
                true => piece.split_to(PIECE),
                false => self.left.pop_front()?,
            };
            self.length -= next.len();
            return Some(next);
        }
    }
}

impl Made {
    fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Bytes, Unfinished>>> {
        loop {
            if let Some(piece) = self.ready.next() {
                return Poll::Ready(Some(Ok(piece)));
            }
            match self.pieces.poll_recv(cx) {
                Poll::Ready(Some(piece)) => {
                    self.ready = piece.into();
                    continue;
                }
                Poll::Ready(None) if self.maker.is_none() => {
                    if self.last.is_empty() {
                        return Poll::Ready(None);
                    }
                    self.ready = std::mem::take(&mut self.last).into_iter().collect();
                    continue;
                }
                Poll::Ready(None) | Poll::Pending => {}
            }
            let Some(maker) = &mut self.maker else {
                return Poll::Pending;
            };
            match maker.as_mut().poll(cx) {
                Poll::Pending => return Poll::Pending,
                Poll::Ready(None) => return Poll::Ready(Some(Err(Unfinished))),
                Poll::Ready(Some(last)) => {
                    self.maker = None;
                    self.last = last;
                }
            }
        }
    }
}

impl Body for Content {
    type Data = Bytes;
    type Error = Unfinished;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Unfinished>>> {
        match self.get_mut() {
            Self::Whole(whole) => Poll::Ready(whole.next().map(|piece| Ok(Frame::data(piece)))),
            Self::Made(made) => {
                let piece = made.poll_next(cx);
                piece.map(|piece| piece.map(|piece| piece.map(Frame::data)))
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        matches!(self, Self::Whole(whole) if whole.length == 0)
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Whole(whole) => SizeHint::with_exact(whole.length as u64),
            Self::Made(_) => SizeHint::default(),
        }
    }
}

/// An answer whose body is all there.
pub(super) fn answer(status: StatusCode, kind: &'static str, body: impl Into<Whole>) -> Response {
    let mut response = hyper::Response::new(Content::Whole(body.into()));
    *response.status_mut() = status;
    let kind = HeaderValue::from_static(kind);
    response.headers_mut().insert(CONTENT_TYPE, kind);
    response
}

/// An answer without a body.
pub(super) fn empty(status: StatusCode) -> Response {
    let mut response = hyper::Response::new(Content::Whole(Whole::default()));
    *response.status_mut() = status;
    response
}

/// A plain-text answer.
pub(super) fn plain(status: StatusCode, text: impl Into<Bytes>) -> Response {
    answer(status, "text/plain; charset=utf-8", text)
}

/// The same bytes, holding the slot. When they are sent or dropped, however late, the allocator
/// returns memory to the system.
pub(super) fn holding_slot(
    bytes: Bytes,
    slot: Arc<Slot>,
    large_results: &Arc<LargeResults>,
) -> Bytes {
    /// In drop order.
    struct HoldingSlot(
        Bytes,
        #[expect(dead_code, reason = "it is there to be dropped")] ReleaseOnDrop,
        #[expect(dead_code, reason = "it is there to be dropped")] Arc<Slot>,
    );
    impl AsRef<[u8]> for HoldingSlot {
        fn as_ref(&self) -> &[u8] {
            &self.0
        }
    }
    Bytes::from_owner(HoldingSlot(
        bytes,
        ReleaseOnDrop(large_results.clone()),
        slot,
    ))
}

/// For services that cannot fail.
pub(super) type Answered = Result<Response, Infallible>;

#[cfg(test)]
pub(super) mod tests {
    use std::future::poll_fn;

    use super::*;
    use crate::address_group::AddressGroup;
    use crate::server::quota::Quota;

    /// Reads a whole body.
    pub(in crate::server) async fn read(mut content: Content) -> Result<Vec<u8>, Unfinished> {
        let mut all = Vec::new();
        while let Some(frame) = poll_fn(|cx| Pin::new(&mut content).poll_frame(cx)).await {
            let piece = frame?.into_data().expect("there are no trailers");
            assert!(!piece.is_empty() && piece.len() <= PIECE);
            all.extend_from_slice(&piece);
        }
        Ok(all)
    }

    #[tokio::test]
    async fn a_long_body_is_sent_in_pieces_and_holds_its_slot_until_the_last_is_dropped() {
        let quota = Quota::new(1, std::time::Duration::from_secs(1));
        let slot = Arc::new(quota.slot(AddressGroup::Unix).await);
        let text = "0123456789".repeat(PIECE / 5);
        let large_results = Arc::new(LargeResults::default());
        let bytes = holding_slot(text.clone().into(), slot, &large_results);
        let mut content = Content::Whole(bytes.into());
        assert_eq!(content.size_hint().exact(), Some(text.len() as u64));
        let mut pieces = Vec::new();
        while let Some(frame) = poll_fn(|cx| Pin::new(&mut content).poll_frame(cx)).await {
            pieces.push(frame.expect("it is whole").into_data().expect("bytes"));
        }
        assert!(content.is_end_stream());
        drop(content);
        assert_eq!(pieces.concat(), text.as_bytes());
        pieces.truncate(1);
        assert!(quota.try_slot(AddressGroup::Unix).is_none());
        assert!(!large_results.is_planned());
        pieces.clear();
        assert!(large_results.is_planned(), "memory is given back");
        assert!(quota.try_slot(AddressGroup::Unix).is_some());
    }

    #[tokio::test]
    async fn a_streamed_body_ends_with_the_last_pieces_of_its_maker() {
        let made = |ends_well: bool| {
            let (sender, pieces) = mpsc::channel(1);
            let maker = Box::pin(async move {
                for piece in ["b", "", "c"] {
                    sender.send(piece.into()).await.ok()?;
                }
                drop(sender);
                tokio::task::yield_now().await;
                ends_well.then(|| vec!["d".into()])
            });
            Content::made("a".into(), pieces, maker)
        };
        assert_eq!(read(made(true)).await.expect("it ends"), b"abcd");
        assert!(read(made(false)).await.is_err(), "it is cut, and looks it");
    }
}
