//! The size of a connection's read buffer, and when it is replaced.

use bytes::{Bytes, BytesMut};

/// Buffer of a connection with little traffic, bytes.
pub const MIN_READ_AHEAD: usize = 1_024;
/// Buffer of a connection whose reads keep filling it, bytes.
///
/// Also the most memory that one small block can keep allocated besides its own bytes.
pub const MAX_READ_AHEAD: usize = 16 * 1_024;
/// First allocation for a payload longer than [`MAX_READ_AHEAD`], bytes; it grows
/// fourfold whenever it is full. So a remote makes us reserve at most this much,
/// or four times the bytes that it has sent.
const FIRST_RESERVE: usize = 64 * 1_024;

/// The state of the buffer that the caller reads into.
#[derive(Debug)]
pub(super) struct ReadBuffer {
    /// Size of the buffer's allocation, as far as it is known.
    allocated: usize,
    /// Capacity offered to the last read, with the bytes that were in the buffer already.
    offered: usize,
    /// Bytes consumed since.
    consumed: usize,
    /// Between [`MIN_READ_AHEAD`] and [`MAX_READ_AHEAD`].
    read_ahead: usize,
}

impl ReadBuffer {
    pub(super) fn new() -> Self {
        ReadBuffer {
            allocated: 0,
            offered: usize::MAX,
            consumed: 0,
            read_ahead: MIN_READ_AHEAD,
        }
    }

    pub(super) fn consumed(&mut self, bytes: usize) {
        self.consumed += bytes;
    }

    /// Splits a payload off the front, without a copy.
    ///
    /// An allocation that was made for this payload leaves with it.
    pub(super) fn split(&mut self, src: &mut BytesMut, len: usize) -> Bytes {
        self.consumed(len);
        let payload = src.split_to(len).freeze();
        if self.allocated > MAX_READ_AHEAD {
            self.replace(src, self.read_ahead);
        }
        payload
    }

    /// Reserves space for the next `need` bytes, which `src` does not hold yet.
    pub(super) fn reserve(&mut self, src: &mut BytesMut, need: usize) {
        if self.allocated == 0 {
            self.allocated = src.capacity();
        }
        if need > MAX_READ_AHEAD {
            self.reserve_long(src, need);
        } else {
            self.reserve_short(src, need);
        }
        self.offered = src.capacity();
        self.consumed = 0;
    }

    fn reserve_long(&mut self, src: &mut BytesMut, need: usize) {
        if self.allocated <= MAX_READ_AHEAD {
            self.replace(src, need.min(FIRST_RESERVE));
        } else if src.len() == src.capacity() {
            self.replace(src, need.min(src.len() * 4));
        }
    }

    fn reserve_short(&mut self, src: &mut BytesMut, need: usize) {
        // A read that filled its capacity has left more in the socket.
        let filled = self.consumed + src.len() >= self.offered;
        self.read_ahead = if filled {
            MAX_READ_AHEAD.min(self.read_ahead * 2)
        } else {
            MIN_READ_AHEAD.max(self.read_ahead / 2)
        };
        let size = need.max(self.read_ahead);
        let scarce = src.capacity() < need.max(self.read_ahead / 2);
        let oversized = self.allocated > size * 2;
        if scarce || oversized {
            self.replace(src, size);
        }
    }

    /// Moves the bytes of `src` to an allocation of exactly `size` bytes, or more if they need it.
    fn replace(&mut self, src: &mut BytesMut, size: usize) {
        let size = size.max(src.len());
        let mut fresh = BytesMut::with_capacity(size);
        fresh.extend_from_slice(src);
        *src = fresh;
        self.allocated = size;
    }
}
