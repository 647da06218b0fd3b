//! Peers that violate the wire format.

use bytes::{BufMut, Bytes, BytesMut};
use handfast_wire::limits::MAX_PAYLOAD_BYTES;
use handfast_wire::{HEADER_BYTES, checksum};

use super::handshake::{Handshake, Reached};
use super::machine::{Event, Expect, Leave, Machine};
use crate::writer::{ConnectionRng, PeerParams, Writer};

/// Frame header fields that are wrong, in the order in which a receiver checks them.
const WAYS: u64 = 6;

/// How the format is violated.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum BrokenKind {
    /// Magic, command, length or checksum are wrong, a frame is cut, or it is random bytes.
    Garbage,
    /// A length above the limit, and some of the bytes that it announces.
    Oversize,
}

/// A peer that sends bytes that are no frame, before, in or after its handshake.
#[derive(Debug)]
pub(super) struct Broken {
    kind: BrokenKind,
    handshake: Handshake,
    /// They were sent.
    spoken: bool,
}

impl Broken {
    pub(super) fn new(kind: BrokenKind) -> Self {
        Self {
            kind,
            handshake: Handshake::default(),
            spoken: false,
        }
    }

    fn speak(&mut self, writer: &mut Writer<'_>) {
        self.spoken = true;
        let bytes = match self.kind {
            BrokenKind::Garbage => garbage(&writer.frame_set.params, writer.rng),
            BrokenKind::Oversize => oversize(&writer.frame_set.params, writer.rng),
        };
        writer.raw(bytes);
        let stay = writer.rng.time(0..1_000);
        writer.wake(stay);
    }
}

impl Machine for Broken {
    fn step(&mut self, event: Event<'_>, writer: &mut Writer<'_>) {
        match event {
            Event::Connected => match writer.rng.pick(0..3) {
                0 => self.speak(writer),
                1 => {
                    writer.version();
                    self.speak(writer);
                }
                _ => writer.version(),
            },
            Event::Frame(received) => {
                let reached = self.handshake.receive(received, writer);
                if reached == Some(Reached::Ready) && !self.spoken {
                    self.speak(writer);
                }
            }
            Event::Due => writer.leave(Leave::Drop),
            Event::Opened | Event::Raw(_) => {}
        }
    }

    fn expect(&self) -> Expect {
        match self.spoken {
            true => Expect::Anything,
            false => self.handshake.expect(),
        }
    }
}

/// A frame with any header fields.
fn frame(magic: [u8; 4], command: [u8; 12], length: u32, sum: [u8; 4], payload: &[u8]) -> Bytes {
    let mut frame = BytesMut::with_capacity(HEADER_BYTES + payload.len());
    frame.put_slice(&magic);
    frame.put_slice(&command);
    frame.put_u32_le(length);
    frame.put_slice(&sum);
    frame.put_slice(payload);
    frame.freeze()
}

fn command(name: &str) -> [u8; 12] {
    let mut command = [0; 12];
    command[..name.len()].copy_from_slice(name.as_bytes());
    command
}

fn any_command(rng: &mut ConnectionRng) -> [u8; 12] {
    let index = usize::try_from(rng.pick(0..COMMANDS.len() as u64)).expect("an index");
    command(COMMANDS[index])
}

/// The commands of broken frames. Not those of `wire`: a new message there must not change what a
/// seed produces.
const COMMANDS: [&str; 21] = [
    "version",
    "verack",
    "ping",
    "pong",
    "sendheaders",
    "sendaddrv2",
    "wtxidrelay",
    "sendcmpct",
    "feefilter",
    "getaddr",
    "addr",
    "addrv2",
    "inv",
    "getdata",
    "notfound",
    "getheaders",
    "getblocks",
    "headers",
    "block",
    "tx",
    "mempool",
];

fn garbage(params: &PeerParams, rng: &mut ConnectionRng) -> Bytes {
    let length = usize::try_from(rng.pick(0..200)).expect("at most 200");
    let payload = rng.bytes(length);
    let announced = u32::try_from(length).expect("at most 200");
    let sum = checksum(&payload);
    let magic = params.magic;
    match rng.pick(0..WAYS) {
        0 => {
            let wrong = [magic[0] ^ 0xff, magic[1], magic[2], magic[3]];
            frame(wrong, any_command(rng), announced, sum, &payload)
        }
        1 => {
            let wrong = [sum[0] ^ 1, sum[1], sum[2], sum[3]];
            frame(magic, any_command(rng), announced, wrong, &payload)
        }
        2 => {
            // Not padded with zeros, or not ASCII.
            let mut name = any_command(rng);
            name[11] = u8::try_from(rng.pick(128..256)).expect("a byte");
            frame(magic, name, announced, sum, &payload)
        }
        3 => {
            // A valid frame whose payload does not parse.
            frame(magic, any_command(rng), announced, sum, &payload)
        }
        4 => {
            // Announces more bytes than it sends.
            let more = announced + u32::try_from(rng.pick(1..100)).expect("at most 100");
            frame(magic, any_command(rng), more, sum, &payload)
        }
        _ => rng.bytes(length + 1).into(),
    }
}

fn oversize(params: &PeerParams, rng: &mut ConnectionRng) -> Bytes {
    let least = u64::try_from(MAX_PAYLOAD_BYTES).expect("4,000,000") + 1;
    let announced = match rng.pick(0..3) {
        0 => least,
        1 => rng.pick(least..1 << 32),
        _ => u64::from(u32::MAX),
    };
    let announced = u32::try_from(announced).expect("below 2^32");
    let payload = rng.bytes(64 * 1024);
    frame(params.magic, any_command(rng), announced, [0; 4], &payload)
}

#[cfg(test)]
mod tests {
    use handfast_wire::{Codec, Network};

    use super::*;

    #[test]
    fn garbage_is_never_a_valid_message() {
        let params = PeerParams::new(&Network::Regtest, 0);
        let (mut broken, mut parsed) = (0, 0);
        for seed in 0..2_000 {
            let mut bytes = BytesMut::from(&garbage(&params, &mut ConnectionRng::new(seed))[..]);
            match Codec::new(Network::Regtest.magic()).next_frame(&mut bytes) {
                Err(_) | Ok(None) => broken += 1,
                Ok(Some(frame)) if frame.message.is_err() => broken += 1,
                // Random bytes can be a ping, or a transaction, which is not decoded.
                Ok(Some(_)) => parsed += 1,
            }
        }
        assert!(
            broken > 1_500 && parsed < 500,
            "{broken} broken, {parsed} parsed"
        );
    }

    #[test]
    fn every_oversized_frame_is_refused_by_its_header() {
        let params = PeerParams::new(&Network::Regtest, 0);
        for seed in 0..200 {
            let bytes = oversize(&params, &mut ConnectionRng::new(seed));
            let mut head = BytesMut::from(&bytes[..HEADER_BYTES]);
            let mut codec = Codec::new(Network::Regtest.magic());
            codec.next_frame(&mut head).expect_err("too long");
        }
    }
}
