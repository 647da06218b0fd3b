//! A frame that is received to disk, and read back into memory when it is complete.

use std::future::Future;
use std::io;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::{BufMut, BytesMut};
use tokio::io::{AsyncRead, AsyncReadExt};
use tokio::task::JoinHandle;

use super::{MAX_READ, no_room};
use crate::large_frames::Permit;
use crate::spill::{PIECE, Place};

/// What a poll has brought.
#[derive(Debug)]
pub(super) enum Step {
    /// So many bytes of the socket.
    Received(usize),
    /// The remote closed before the frame was complete.
    Closed,
    /// So many bytes from disk, into the reader's buffer.
    Returned(usize),
    /// The same, and they were the last: the whole frame is in the buffer, for which this
    /// claim holds memory.
    Whole(usize, Permit),
}

/// A transfer on a blocking thread.
#[derive(Debug)]
enum Transfer {
    Write(JoinHandle<io::Result<usize>>),
    Read(JoinHandle<io::Result<Vec<u8>>>),
}

/// The part of a payload that does not lie in the reader's buffer. See the module.
#[derive(Debug)]
pub(super) struct Spilled {
    place: Arc<Place>,
    /// Bytes that the socket has still to bring.
    missing: usize,
    /// What came last and is not on disk yet, up to [`PIECE`].
    piece: BytesMut,
    on_disk: usize,
    /// Of those on disk, the bytes that are back in the buffer.
    returned: usize,
    transfer: Option<Transfer>,
    /// Claimed when the frame is complete.
    memory: Option<Permit>,
}

impl Spilled {
    /// Nothing of `missing` bytes has come.
    pub(super) fn new(place: Place, missing: usize) -> Self {
        Self {
            place: Arc::new(place),
            missing,
            piece: BytesMut::new(),
            on_disk: 0,
            returned: 0,
            transfer: None,
            memory: None,
        }
    }

    /// Goes on with the frame. `claim` makes the claim for its memory, `buffer` takes what
    /// comes back, within its capacity.
    ///
    /// # Errors
    /// Of the socket, or of the disk.
    pub(super) fn poll_step<R: AsyncRead + Unpin>(
        &mut self,
        cx: &mut Context<'_>,
        socket: &mut R,
        buffer: &mut BytesMut,
        claim: impl FnOnce() -> Permit,
    ) -> Poll<io::Result<Step>> {
        let mut back = ready!(self.poll_transfer(cx))?;
        if back.is_none() {
            if self.missing > 0 {
                return self.poll_socket(cx, socket);
            }
            let memory = self.memory.get_or_insert_with(claim);
            if ready!(memory.poll_granted(cx, 0)).is_err() {
                let gone = "the memory for a complete message was taken back";
                return Poll::Ready(Err(io::Error::other(gone)));
            }
            self.read_back(buffer.capacity() - buffer.len());
            back = ready!(self.poll_transfer(cx))?;
        }
        let back = back.unwrap_or_default();
        buffer.extend_from_slice(&back);
        self.returned += back.len();
        let last = self.returned == self.on_disk;
        let memory = if last { self.memory.take() } else { None };
        Poll::Ready(Ok(match memory {
            Some(memory) => Step::Whole(back.len(), memory),
            None => Step::Returned(back.len()),
        }))
    }

    /// Ready when nothing is under way; with the bytes if some were read.
    fn poll_transfer(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<Option<Vec<u8>>>> {
        let done = match &mut self.transfer {
            None => return Poll::Ready(Ok(None)),
            Some(Transfer::Write(job)) => {
                let written = ready!(Pin::new(job).poll(cx)).map_err(io::Error::other)?;
                self.on_disk += written.map_err(no_room)?;
                None
            }
            Some(Transfer::Read(job)) => {
                let read = ready!(Pin::new(job).poll(cx)).map_err(io::Error::other)?;
                Some(read?)
            }
        };
        self.transfer = None;
        Poll::Ready(Ok(done))
    }

    fn poll_socket<R: AsyncRead + Unpin>(
        &mut self,
        cx: &mut Context<'_>,
        socket: &mut R,
    ) -> Poll<io::Result<Step>> {
        let room = (PIECE - self.piece.len()).min(self.missing);
        self.piece.reserve(room);
        let mut space = (&mut self.piece).limit(room);
        // It keeps nothing between polls: it may be made anew for each.
        let read = pin!(socket.read_buf(&mut space));
        let read = ready!(read.poll(cx))?;
        if read == 0 {
            return Poll::Ready(Ok(Step::Closed));
        }
        self.missing -= read;
        if self.missing == 0 || self.piece.len() == PIECE {
            self.write_piece();
        }
        Poll::Ready(Ok(Step::Received(read)))
    }

    fn write_piece(&mut self) {
        let (place, offset) = (self.place.clone(), self.on_disk);
        let piece = std::mem::take(&mut self.piece);
        let write = move || place.write(offset, &piece).map(|()| piece.len());
        self.transfer = Some(Transfer::Write(tokio::task::spawn_blocking(write)));
    }

    fn read_back(&mut self, room: usize) {
        let (place, offset) = (self.place.clone(), self.returned);
        let len = (self.on_disk - offset).min(MAX_READ).min(room.max(1));
        let read = move || place.read(offset, len);
        self.transfer = Some(Transfer::Read(tokio::task::spawn_blocking(read)));
    }
}
