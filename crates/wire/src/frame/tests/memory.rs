//! The codec's memory, and what it does not copy.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::BufMut;
use futures_util::{FutureExt, StreamExt};
use tokio::io::{AsyncRead, ReadBuf};
use tokio_util::codec::FramedRead;

use super::*;
use crate::message::RawBlock;

const FIRST_RESERVE: usize = 64 * 1_024;

/// A reader of `bytes`, at most `segment` at a time, that counts the reads.
struct Wire<'a> {
    bytes: &'a [u8],
    segment: usize,
    reads: usize,
}

impl AsyncRead for Wire<'_> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let len = self.segment.min(buf.remaining()).min(self.bytes.len());
        let (now, later) = self.bytes.split_at(len);
        buf.put_slice(now);
        self.bytes = later;
        self.reads += 1;
        Poll::Ready(Ok(()))
    }
}

fn framed(bytes: &[u8], segment: usize) -> FramedRead<Wire<'_>, Codec> {
    let wire = Wire {
        bytes,
        segment,
        reads: 0,
    };
    FramedRead::with_capacity(wire, codec(), MIN_READ_AHEAD)
}

fn next(framed: &mut FramedRead<Wire<'_>, Codec>) -> Option<Message> {
    let frame = framed.next().now_or_never().expect("always ready")?;
    Some(frame.expect("sound frames").message.expect("sound frames"))
}

fn block(message: Message) -> RawBlock {
    match message {
        Message::Block(block) => block,
        other => panic!("not a block: {other:?}"),
    }
}

#[test]
fn a_real_block_is_the_slice_that_was_read_and_owns_its_memory() {
    for name in ["mainnet_block_1602407a.raw", "testnet3_block_928848.raw"] {
        let Some(raw) = real_data(name) else { return };
        let bytes = frame("block", &raw);
        let (mut codec, mut buffer) = (codec(), BytesMut::new());
        let mut rest = &bytes[..];
        while !rest.is_empty() {
            assert_eq!(codec.next_frame(&mut buffer), Ok(None));
            let read = rest.len().min(buffer.capacity() - buffer.len()).max(1);
            buffer.put_slice(&rest[..read]);
            rest = &rest[read..];
        }
        let read_into = buffer.as_ptr();
        let frame = codec.next_frame(&mut buffer).unwrap().expect("complete");
        let block = block(frame.message.unwrap());
        assert_eq!(block.bytes.as_ptr(), read_into, "no copy");
        assert_eq!(block.bytes, raw);
        assert!(block.bytes.is_unique(), "the codec holds no reference");
        assert!(buffer.capacity() <= MAX_READ_AHEAD);
        let theirs: bitcoin::Block = bitcoin::consensus::deserialize(&raw).unwrap();
        assert_eq!(block.hash, theirs.block_hash());
    }
}

#[test]
fn a_long_payload_reserves_by_the_received_bytes_and_never_beyond_the_announced_length() {
    let payload = vec![7; 3_000_001];
    let bytes = frame("block", &payload);
    let (mut codec, mut buffer) = (codec(), BytesMut::with_capacity(MIN_READ_AHEAD));
    let mut received = 0;
    while received < bytes.len() {
        assert_eq!(codec.next_frame(&mut buffer), Ok(None));
        let bound = payload.len().min(FIRST_RESERVE.max(received * 4));
        assert!(buffer.capacity() <= bound, "after {received} bytes");
        let offered = buffer.capacity() - buffer.len();
        let read = offered.min(10_007).min(bytes.len() - received);
        assert!(read > 0, "there is capacity after {received} bytes");
        buffer.put_slice(&bytes[received..received + read]);
        received += read;
    }
    assert!(codec.next_frame(&mut buffer).unwrap().is_some());
}

#[test]
fn announcing_a_block_and_sending_nothing_costs_the_first_reserve() {
    let (mut codec, mut buffer) = (codec(), BytesMut::with_capacity(MIN_READ_AHEAD));
    buffer.put_slice(&announce(b"block", 4_000_000));
    assert_eq!(codec.next_frame(&mut buffer), Ok(None));
    assert_eq!(buffer.capacity(), FIRST_RESERVE);
}

#[test]
fn four_megabytes_of_an_unknown_command_are_never_buffered() {
    let bytes = frame("cmpctblock", &vec![1; 4_000_000]);
    let (mut codec, mut buffer) = (codec(), BytesMut::with_capacity(MIN_READ_AHEAD));
    let mut frames = Vec::new();
    for piece in bytes.chunks(1_000) {
        buffer.put_slice(piece);
        frames.extend(codec.next_frame(&mut buffer).unwrap());
        assert!(buffer.capacity() <= MAX_READ_AHEAD * 2);
        assert!(buffer.is_empty());
    }
    assert_eq!(frames.len(), 1);
    assert_eq!(frames[0].wire_bytes, bytes.len());
    assert_eq!(frames[0].message, Ok(Message::unknown("cmpctblock")));
}

#[test]
fn many_small_blocks_take_few_reads_and_are_not_copied() {
    let one = frame("block", &[5; 240]);
    let bytes = one.repeat(2_000);
    let mut framed = framed(&bytes, usize::MAX);
    let mut adjacent = 0;
    let mut before: Option<RawBlock> = None;
    for _ in 0..2_000 {
        let now = block(next(&mut framed).expect("2,000 blocks"));
        if let Some(before) = before {
            let next_in_buffer = before.bytes.as_ptr().wrapping_add(one.len());
            adjacent += usize::from(now.bytes.as_ptr() == next_in_buffer);
        }
        before = Some(now);
    }
    assert_eq!(next(&mut framed), None);
    let reads = framed.get_ref().reads;
    assert!(reads <= bytes.len() / MAX_READ_AHEAD + 10, "{reads} reads");
    assert!(
        adjacent > 1_900,
        "{adjacent} are at the address where they were read"
    );
}

#[test]
fn an_idle_connection_frees_its_buffer() {
    let burst = frame("block", &[5; 240]).repeat(1_000);
    let long = frame("block", &vec![6; 3_000_000]).to_vec();
    let pings = frame("ping", &[0; 8]).repeat(10);
    for busy in [burst, long] {
        let mut busy = framed(&busy, usize::MAX);
        let mut last = None;
        while let Some(message) = next(&mut busy) {
            last = Some(block(message));
        }
        let mut quiet = framed(&pings, 32);
        *quiet.decoder_mut() = std::mem::replace(busy.decoder_mut(), codec());
        *quiet.read_buffer_mut() = std::mem::take(busy.read_buffer_mut());
        while next(&mut quiet).is_some() {}
        let capacity = quiet.read_buffer().capacity();
        assert!(capacity <= MIN_READ_AHEAD, "{capacity} bytes held");
        let last = last.expect("blocks came");
        assert!(last.bytes.is_unique(), "the old buffer is freed");
    }
}
