//! A frame that is received to disk and read back into memory when it is complete.

use std::future::Future;
use std::io;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::{BufMut, BytesMut};
use tokio::io::{AsyncRead, AsyncReadExt};
use tokio::task::{JoinHandle, spawn_blocking};
use tokio::time::Sleep;

use super::MAX_READ;
use crate::spill::{PIECE, SpillFile, SpillSlot};

/// Pause of a connection whose frame does not fit on the disk, before the next attempt.
const RETRY: Duration = Duration::from_millis(500);

/// The result of one poll of the socket.
#[derive(Debug)]
pub(super) enum Received {
    /// Bytes received.
    Bytes(usize),
    /// The remote closed before the frame was complete.
    Closed,
    /// The whole frame is on disk, except for what the reader's buffer holds.
    All,
    /// The disk is full and nothing was read from the socket yet: memory may be free by now.
    NoSpace,
}

/// A transfer on a blocking thread.
#[derive(Debug)]
enum Transfer {
    SpillSlot(JoinHandle<io::Result<SpillSlot>>),
    /// Returns the buffer.
    Write(JoinHandle<(BytesMut, io::Result<()>)>),
    Read(JoinHandle<io::Result<Vec<u8>>>),
}

/// The part of a payload that the reader's buffer does not hold. See the module.
#[derive(Debug)]
pub(super) struct Spilled {
    file: Arc<SpillFile>,
    slot: Option<Arc<SpillSlot>>,
    /// Bytes still to be received.
    missing: usize,
    /// Received bytes that are not on disk yet, up to [`PIECE`].
    piece: BytesMut,
    on_disk: usize,
    /// Bytes of those on disk that were read back into the buffer.
    returned: usize,
    transfer: Option<Transfer>,
    pause: Option<Pin<Box<Sleep>>>,
}

impl Spilled {
    /// A file slot for `missing` bytes, none of which was received.
    pub(super) fn new(file: Arc<SpillFile>, missing: usize) -> Self {
        Self {
            file,
            slot: None,
            missing,
            piece: BytesMut::new(),
            on_disk: 0,
            returned: 0,
            transfer: None,
            pause: None,
        }
    }

    /// Whether all of it is on disk.
    pub(super) fn is_complete(&self) -> bool {
        self.missing == 0 && self.piece.is_empty() && self.transfer.is_none()
            || self.returned > 0
            || matches!(self.transfer, Some(Transfer::Read(_)))
    }

    /// Whether all of it is back in memory.
    pub(super) fn is_returned(&self) -> bool {
        self.missing == 0 && self.returned == self.on_disk
    }

    /// Polls until bytes were received or all is on disk. A full disk is tried again: the frame
    /// waits, and the remote is not blamed.
    pub(super) fn poll_receive<R: AsyncRead + Unpin>(
        &mut self,
        cx: &mut Context<'_>,
        socket: &mut R,
    ) -> Poll<io::Result<Received>> {
        loop {
            if let Some(pause) = &mut self.pause {
                ready!(pause.as_mut().poll(cx));
                self.pause = None;
                if self.slot.is_none() {
                    return Poll::Ready(Ok(Received::NoSpace));
                }
            }
            if self.transfer.is_some() {
                ready!(self.poll_to_disk(cx))?;
            } else if self.slot.is_none() {
                let file = self.file.clone();
                self.transfer = Some(Transfer::SpillSlot(spawn_blocking(move || file.slot())));
            } else if self.is_complete() {
                return Poll::Ready(Ok(Received::All));
            } else if self.missing == 0 || self.piece.len() == PIECE {
                self.write_piece();
            } else {
                return self.poll_socket(cx, socket);
            }
        }
    }

    fn poll_to_disk(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let done = match &mut self.transfer {
            Some(Transfer::SpillSlot(job)) => ready!(Pin::new(job).poll(cx)).map(|slot| {
                let slot = slot.map(|slot| self.slot = Some(Arc::new(slot)));
                slot.is_ok()
            }),
            Some(Transfer::Write(job)) => ready!(Pin::new(job).poll(cx)).map(|(piece, written)| {
                match written {
                    Ok(()) => self.on_disk += piece.len(),
                    Err(_) => self.piece = piece,
                }
                written.is_ok()
            }),
            Some(Transfer::Read(_)) | None => Ok(true),
        };
        self.transfer = None;
        if !done.map_err(io::Error::other)? {
            self.pause = Some(Box::pin(tokio::time::sleep(RETRY)));
        }
        Poll::Ready(Ok(()))
    }

    fn poll_socket<R: AsyncRead + Unpin>(
        &mut self,
        cx: &mut Context<'_>,
        socket: &mut R,
    ) -> Poll<io::Result<Received>> {
        let space_left = (PIECE - self.piece.len()).min(self.missing);
        self.piece.reserve(space_left);
        let mut space = (&mut self.piece).limit(space_left);
        // The future has no state between polls: it may be created for each poll.
        let read = pin!(socket.read_buf(&mut space));
        let read = ready!(read.poll(cx))?;
        self.missing -= read;
        Poll::Ready(Ok(match read {
            0 => Received::Closed,
            read => Received::Bytes(read),
        }))
    }

    fn write_piece(&mut self) {
        let (Some(slot), offset) = (self.slot.clone(), self.on_disk) else {
            return;
        };
        let piece = std::mem::take(&mut self.piece);
        let write = move || {
            let written = slot.write(offset, &piece);
            (piece, written)
        };
        self.transfer = Some(Transfer::Write(spawn_blocking(write)));
    }

    /// Reads some of it back into `buffer`, within its capacity. Returns the number of bytes.
    ///
    /// # Errors
    /// Of the disk.
    pub(super) fn poll_return(
        &mut self,
        cx: &mut Context<'_>,
        buffer: &mut BytesMut,
    ) -> Poll<io::Result<usize>> {
        let space_left = buffer.capacity() - buffer.len();
        let job = match &mut self.transfer {
            Some(Transfer::Read(job)) => job,
            _ => {
                let Some(slot) = self.slot.clone() else {
                    let missing = "a message on disk has no file slot";
                    return Poll::Ready(Err(io::Error::other(missing)));
                };
                let offset = self.returned;
                let len = (self.on_disk - offset).min(MAX_READ).min(space_left.max(1));
                let job = spawn_blocking(move || slot.read(offset, len));
                match self.transfer.insert(Transfer::Read(job)) {
                    Transfer::Read(job) => job,
                    Transfer::SpillSlot(_) | Transfer::Write(_) => unreachable!("just inserted"),
                }
            }
        };
        let read = ready!(Pin::new(job).poll(cx));
        self.transfer = None;
        let read = read.map_err(io::Error::other)??;
        buffer.extend_from_slice(&read);
        self.returned += read.len();
        Poll::Ready(Ok(read.len()))
    }
}
