//! Those who break the wire format.

use bytes::{BufMut, Bytes, BytesMut};
use handfast_wire::limits::MAX_PAYLOAD_BYTES;
use handfast_wire::{HEADER_BYTES, checksum};

use super::machine::{Event, Expect, Leave, Machine};
use super::visit::{Reached, Visit};
use crate::voice::{Dialect, Dice, Voice};

/// Frame header fields that are wrong, in the order in which a receiver looks at them.
const WAYS: u64 = 6;

/// How the format is broken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kin {
    /// Magic, command, length or checksum are wrong, a frame is cut, or it is just noise.
    Garbage,
    /// A length that no frame may have, and some of the bytes that it promises.
    Oversize,
}

/// A peer that sends what is no frame, before, in or after its handshake.
#[derive(Debug)]
pub(super) struct Broken {
    kin: Kin,
    visit: Visit,
    /// Sent it.
    spoken: bool,
}

impl Broken {
    pub(super) fn new(kin: Kin) -> Self {
        Self {
            kin,
            visit: Visit::default(),
            spoken: false,
        }
    }

    fn speak(&mut self, voice: &mut Voice<'_>) {
        self.spoken = true;
        let bytes = match self.kin {
            Kin::Garbage => garbage(&voice.phrases.dialect, voice.dice),
            Kin::Oversize => oversize(&voice.phrases.dialect, voice.dice),
        };
        voice.raw(bytes);
        let stay = voice.dice.time(0..1_000);
        voice.wake(stay);
    }
}

impl Machine for Broken {
    fn step(&mut self, event: Event<'_>, voice: &mut Voice<'_>) {
        match event {
            Event::Connected => match voice.dice.pick(0..3) {
                0 => self.speak(voice),
                1 => {
                    voice.version();
                    self.speak(voice);
                }
                _ => voice.version(),
            },
            Event::Heard(heard) => {
                let reached = self.visit.hear(heard, voice);
                if reached == Some(Reached::Ready) && !self.spoken {
                    self.speak(voice);
                }
            }
            Event::Due => voice.leave(Leave::Drop),
            Event::Opened | Event::Raw(_) => {}
        }
    }

    fn expect(&self) -> Expect {
        match self.spoken {
            true => Expect::Anything,
            false => self.visit.expect(),
        }
    }
}

/// A frame whose header says what we want it to say.
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

fn any_command(dice: &mut Dice) -> [u8; 12] {
    let index = usize::try_from(dice.pick(0..COMMANDS.len() as u64)).expect("an index");
    command(COMMANDS[index])
}

/// The commands of broken frames. Not those of `wire`: a message that is new there must not
/// change what a seed plays.
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

fn garbage(dialect: &Dialect, dice: &mut Dice) -> Bytes {
    let length = usize::try_from(dice.pick(0..200)).expect("at most 200");
    let payload = dice.bytes(length);
    let announced = u32::try_from(length).expect("at most 200");
    let sum = checksum(&payload);
    let magic = dialect.magic;
    match dice.pick(0..WAYS) {
        0 => {
            let wrong = [magic[0] ^ 0xff, magic[1], magic[2], magic[3]];
            frame(wrong, any_command(dice), announced, sum, &payload)
        }
        1 => {
            let wrong = [sum[0] ^ 1, sum[1], sum[2], sum[3]];
            frame(magic, any_command(dice), announced, wrong, &payload)
        }
        2 => {
            // Not padded with zeros, or not ASCII.
            let mut name = any_command(dice);
            name[11] = u8::try_from(dice.pick(128..256)).expect("a byte");
            frame(magic, name, announced, sum, &payload)
        }
        3 => {
            // The right frame of the wrong content: a payload that does not parse.
            frame(magic, any_command(dice), announced, sum, &payload)
        }
        4 => {
            // Promises more than comes.
            let more = announced + u32::try_from(dice.pick(1..100)).expect("at most 100");
            frame(magic, any_command(dice), more, sum, &payload)
        }
        _ => dice.bytes(length + 1).into(),
    }
}

fn oversize(dialect: &Dialect, dice: &mut Dice) -> Bytes {
    let least = u64::try_from(MAX_PAYLOAD_BYTES).expect("4,000,000") + 1;
    let announced = match dice.pick(0..3) {
        0 => least,
        1 => dice.pick(least..1 << 32),
        _ => u64::from(u32::MAX),
    };
    let announced = u32::try_from(announced).expect("below 2^32");
    let payload = dice.bytes(64 * 1024);
    frame(
        dialect.magic,
        any_command(dice),
        announced,
        [0; 4],
        &payload,
    )
}

#[cfg(test)]
mod tests {
    use handfast_wire::{Codec, Network};

    use super::*;

    #[test]
    fn no_garbage_is_a_message_that_an_honest_peer_sends() {
        let dialect = Dialect::new(&Network::Regtest, 0);
        let (mut broken, mut parsed) = (0, 0);
        for seed in 0..2_000 {
            let mut bytes = BytesMut::from(&garbage(&dialect, &mut Dice::new(seed))[..]);
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
        let dialect = Dialect::new(&Network::Regtest, 0);
        for seed in 0..200 {
            let bytes = oversize(&dialect, &mut Dice::new(seed));
            let mut head = BytesMut::from(&bytes[..HEADER_BYTES]);
            let mut codec = Codec::new(Network::Regtest.magic());
            codec.next_frame(&mut head).expect_err("too long");
        }
    }
}
