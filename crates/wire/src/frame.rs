//! Version 1 frames: magic, command, length and checksum before each payload.
//!
//! # Memory
//!
//! A length is checked before anything is buffered for it. A long payload gets a separate
//! allocation that grows with the received bytes, up to the announced length; it leaves the
//! codec with the payload. Payloads of unknown commands are discarded as they arrive, as are
//! bytes after the longest message of a command
//! ([`max_payload`](crate::message::max_payload)). Between frames the codec holds
//! [`MIN_READ_AHEAD`], more (up to [`MAX_READ_AHEAD`]) while reads fill it.
//! [`Codec::payload`] shows the caller a long payload before it is read.
//!
//! # Before the handshake is complete
//!
//! A codec made by [`Codec::for_handshake`] refuses every frame of more than
//! [`MAX_EARLY_PAYLOAD`] by its header, and more than [`MAX_EARLY_BYTES`] in all,
//! until `version` and `verack` have arrived. Bitcoin Core reads and ignores messages that
//! come too early, up to 4 MB a connection; so small messages that come too early are left
//! to the session here too, which ignores them.
//!
//! # Transactions
//!
//! A codec made by [`Codec::without_transactions`] refuses `tx` by its header: our
//! `version` asked for none (BIP37). Bitcoin Core disconnects such a peer too, after it
//! has read the transaction.

mod buffer;

pub use buffer::{MAX_READ_AHEAD, MIN_READ_AHEAD};

use bitcoin::p2p::Magic;
use bytes::{Buf, Bytes, BytesMut};
use tokio_util::codec::{Decoder, Encoder};

use crate::checksum::Checksum;
use crate::error::{CodecError, DecodeError, Fault};
use crate::limits::{
    LONGEST_PREFIX, MAX_COMMAND, MAX_EARLY_BYTES, MAX_EARLY_PAYLOAD, MAX_PAYLOAD_BYTES,
};
use crate::message::{Kind, Message, decode};
use buffer::ReadBuffer;

/// Length of a frame header, bytes. Core `CMessageHeader::HEADER_SIZE`.
pub const HEADER_BYTES: usize = 24;

/// A complete frame.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Frame {
    /// The message, or why the frame was dropped.
    pub message: Result<Message, Garbled>,
    /// The command, if it is known; also of a garbled frame.
    pub kind: Option<Kind>,
    /// Length of the frame on the wire, header included, bytes.
    pub wire_bytes: usize,
}

/// An error of a frame whose end is known, so that the next frame can be read.
///
/// Bitcoin Core drops any number of such messages. Here the caller decides.
#[derive(Clone, Debug, PartialEq, Eq, Hash, thiserror::Error)]
pub enum Garbled {
    /// The payload does not match the header's checksum.
    #[error("{command}: wrong checksum")]
    Checksum {
        /// The command of the frame.
        command: &'static str,
        /// The checksum in the header.
        announced: [u8; 4],
        /// The checksum of the received payload.
        computed: [u8; 4],
    },
    /// The command is not printable ASCII padded with zeros. Core `IsMessageTypeValid`.
    #[error("invalid command \"{}\"", command.escape_ascii())]
    InvalidCommand {
        /// The received command.
        command: [u8; MAX_COMMAND],
    },
    /// The payload is malformed for its command ([`Fault::Malformed`]).
    #[error(transparent)]
    Payload(DecodeError),
}

/// The v1 transport: bytes to [`Frame`]s, [`Message`]s to bytes.
///
/// After an error every further call returns the same error: the position of the
/// next frame is unknown, or the peer is to be disconnected.
#[derive(Debug)]
pub struct Codec {
    magic: Magic,
    state: State,
    buffer: ReadBuffer,
    progress: Progress,
    transactions: bool,
}

/// The progress of the remote's handshake.
#[derive(Clone, Copy, Debug)]
enum Progress {
    AwaitVersion {
        /// Bytes of all frames so far.
        early: usize,
    },
    AwaitVerack {
        /// Bytes of all frames so far.
        early: usize,
    },
    /// Complete, or not tracked by this codec.
    Complete,
}

#[derive(Debug)]
enum State {
    /// Before a frame.
    Header,
    /// The header of a frame that will be decoded has been read.
    Payload {
        kind: Kind,
        /// Bytes that are buffered.
        len: usize,
        /// Bytes that follow and are ignored.
        ignored: usize,
        announced: [u8; 4],
        /// The checksum of the received bytes of a long payload, so that its last byte takes no
        /// longer than the others.
        checksum: Checksum,
    },
    /// Bytes after the longest message of the command are hashed and discarded as they come.
    Ignore {
        kind: Kind,
        payload: Bytes,
        ignored: usize,
        /// The bytes of `ignored` that are still to come.
        rest: usize,
        announced: [u8; 4],
        checksum: Checksum,
    },
    /// The rest of a frame that will not be decoded is discarded as it comes.
    Skip { rest: usize, frame: Frame },
    /// The remote broke the format.
    Failed(DecodeError),
}

/// A frame header whose magic and length have been accepted.
struct Header {
    command: [u8; MAX_COMMAND],
    len: usize,
    checksum: [u8; 4],
}

impl Codec {
    /// A codec for the network with this magic that reads every frame at any time.
    pub fn new(magic: Magic) -> Self {
        Codec {
            magic,
            state: State::Header,
            buffer: ReadBuffer::new(),
            progress: Progress::Complete,
            transactions: true,
        }
    }

    /// A codec for a connection on which the remote's `version` is still to come. See
    /// the module.
    pub fn for_handshake(magic: Magic) -> Self {
        Codec {
            progress: Progress::AwaitVersion { early: 0 },
            ..Codec::new(magic)
        }
    }

    /// The same codec, which refuses transactions. See the module.
    #[must_use]
    pub fn without_transactions(self) -> Self {
        Codec {
            transactions: false,
            ..self
        }
    }

    /// The command and the length (bytes) of the payload that is being received: its
    /// header was accepted, and its buffered part is not complete. `None` between frames, and
    /// while bytes are discarded.
    pub fn payload(&self) -> Option<(Kind, usize)> {
        match self.state {
            State::Payload { kind, len, .. } => Some((kind, len)),
            State::Header | State::Ignore { .. } | State::Skip { .. } | State::Failed(_) => None,
        }
    }

    /// The next complete frame in `src`; `None` when more bytes are needed.
    ///
    /// [`Decoder::decode`] with the narrower error.
    pub fn next_frame(&mut self, src: &mut BytesMut) -> Result<Option<Frame>, DecodeError> {
        let frame = self.advance(src);
        if let Err(error) = &frame {
            self.state = State::Failed(error.clone());
        }
        frame
    }

    fn advance(&mut self, src: &mut BytesMut) -> Result<Option<Frame>, DecodeError> {
        loop {
            match &mut self.state {
                State::Header if src.len() < HEADER_BYTES => {
                    self.buffer.reserve(src, HEADER_BYTES);
                    return Ok(None);
                }
                State::Header => {
                    let header = parse_header(self.magic, src)?;
                    self.check_allowed(&header)?;
                    src.advance(HEADER_BYTES);
                    self.buffer.consumed(HEADER_BYTES);
                    self.state = after_header(header);
                }
                State::Payload { len, checksum, .. } if src.len() < *len => {
                    if *len > MAX_READ_AHEAD {
                        checksum.extend_to(src);
                    }
                    self.buffer.reserve(src, *len);
                    return Ok(None);
                }
                State::Payload { .. } => {
                    if let Some(frame) = self.complete_buffered(src)? {
                        return Ok(Some(frame));
                    }
                }
                State::Ignore { rest, checksum, .. } if src.len() < *rest => {
                    checksum.extend_by(src);
                    *rest -= src.len();
                    self.discard(src);
                    return Ok(None);
                }
                State::Ignore { .. } => return self.complete_ignored(src).map(Some),
                State::Skip { rest, .. } if src.len() < *rest => {
                    *rest -= src.len();
                    self.discard(src);
                    return Ok(None);
                }
                State::Skip { rest, .. } => {
                    src.advance(*rest);
                    self.buffer.consumed(*rest);
                    let State::Skip { frame, .. } =
                        std::mem::replace(&mut self.state, State::Header)
                    else {
                        unreachable!("matched above");
                    };
                    return Ok(Some(frame));
                }
                State::Failed(error) => return Err(error.clone()),
            }
        }
    }
}

impl Codec {
    /// Discards all bytes of `src`, and reserves space for the next read.
    fn discard(&mut self, src: &mut BytesMut) {
        self.buffer.consumed(src.len());
        src.clear();
        self.buffer.reserve(src, 1);
    }

    /// Decodes the buffered part of a payload, which is complete. `None`: ignored bytes follow.
    fn complete_buffered(&mut self, src: &mut BytesMut) -> Result<Option<Frame>, DecodeError> {
        let State::Payload {
            kind,
            len,
            ignored,
            announced,
            mut checksum,
        } = std::mem::replace(&mut self.state, State::Header)
        else {
            unreachable!("the caller matched it");
        };
        checksum.extend_to(&src[..len]);
        let payload = self.buffer.split(src, len);
        if ignored == 0 {
            return self
                .decode_complete(kind, announced, checksum, payload, 0)
                .map(Some);
        }
        self.state = State::Ignore {
            kind,
            payload,
            ignored,
            rest: ignored,
            announced,
            checksum,
        };
        Ok(None)
    }

    /// Decodes a payload whose last ignored byte has arrived.
    fn complete_ignored(&mut self, src: &mut BytesMut) -> Result<Frame, DecodeError> {
        let State::Ignore {
            kind,
            payload,
            ignored,
            rest,
            announced,
            mut checksum,
        } = std::mem::replace(&mut self.state, State::Header)
        else {
            unreachable!("the caller matched it");
        };
        checksum.extend_by(&src[..rest]);
        src.advance(rest);
        self.buffer.consumed(rest);
        self.decode_complete(kind, announced, checksum, payload, ignored)
    }

    /// Decodes a complete payload.
    fn decode_complete(
        &mut self,
        kind: Kind,
        announced: [u8; 4],
        checksum: Checksum,
        payload: Bytes,
        ignored: usize,
    ) -> Result<Frame, DecodeError> {
        let frame = decode_payload(kind, announced, checksum.done(), payload, ignored)?;
        self.track_handshake(&frame);
        Ok(frame)
    }

    /// Whether the frame is allowed in this state.
    fn check_allowed(&mut self, header: &Header) -> Result<(), DecodeError> {
        let kind = command_text(&header.command).and_then(Kind::from_name);
        if kind == Some(Kind::Tx) && !self.transactions {
            return Err(DecodeError::Transaction);
        }
        let early = match &mut self.progress {
            Progress::AwaitVersion { early } | Progress::AwaitVerack { early } => early,
            Progress::Complete => return Ok(()),
        };
        *early = early.saturating_add(HEADER_BYTES + header.len);
        if header.len > MAX_EARLY_PAYLOAD || *early > MAX_EARLY_BYTES {
            return Err(DecodeError::TooEarly {
                command: printable(&header.command),
                got: header.len,
                in_all: *early,
            });
        }
        Ok(())
    }

    /// Tracks the remote's handshake, as the session does: `verack` counts only after `version`.
    fn track_handshake(&mut self, frame: &Frame) {
        self.progress = match (self.progress, &frame.message) {
            (Progress::AwaitVersion { early }, Ok(Message::Version(_))) => {
                Progress::AwaitVerack { early }
            }
            (Progress::AwaitVerack { .. }, Ok(Message::Verack)) => Progress::Complete,
            (unchanged, _) => unchanged,
        };
    }
}

/// Reads and checks the header in the first [`HEADER_BYTES`] of `src`.
fn parse_header(expected: Magic, src: &[u8]) -> Result<Header, DecodeError> {
    let mut fields = &src[..HEADER_BYTES];
    let mut four = || {
        let (four, rest) = fields.split_at(4);
        fields = rest;
        <[u8; 4]>::try_from(four).expect("split at 4")
    };
    let got = Magic::from_bytes(four());
    let mut command = [0; MAX_COMMAND];
    command[..4].copy_from_slice(&four());
    command[4..8].copy_from_slice(&four());
    command[8..].copy_from_slice(&four());
    let len = usize::try_from(u32::from_le_bytes(four())).expect("usize has 32 bits or more");
    let checksum = four();
    if got != expected {
        return Err(DecodeError::WrongMagic { got, expected });
    }
    if len > MAX_PAYLOAD_BYTES {
        return Err(DecodeError::PayloadTooLong {
            command: printable(&command),
            got: len,
            max: MAX_PAYLOAD_BYTES,
        });
    }
    Ok(Header {
        command,
        len,
        checksum,
    })
}

fn after_header(header: Header) -> State {
    let text = command_text(&header.command);
    let kind = text.and_then(Kind::from_name);
    let message = match (kind, text) {
        (Some(kind), _) => {
            let max = kind.max_payload();
            if header.len <= max || max <= LONGEST_PREFIX {
                return State::Payload {
                    kind,
                    len: header.len.min(max),
                    ignored: header.len.saturating_sub(max),
                    announced: header.checksum,
                    checksum: Checksum::default(),
                };
            }
            Err(Garbled::Payload(DecodeError::Overlong {
                command: kind.name(),
                got: header.len,
                max,
            }))
        }
        (None, Some(text)) => Ok(Message::unknown(text)),
        (None, None) => Err(Garbled::InvalidCommand {
            command: header.command,
        }),
    };
    State::Skip {
        rest: header.len,
        frame: Frame {
            message,
            kind,
            wire_bytes: HEADER_BYTES + header.len,
        },
    }
}

/// The frame of a payload, of which the last `ignored` bytes were discarded.
fn decode_payload(
    kind: Kind,
    announced: [u8; 4],
    computed: [u8; 4],
    payload: Bytes,
    ignored: usize,
) -> Result<Frame, DecodeError> {
    let wire_bytes = HEADER_BYTES + payload.len() + ignored;
    let message = if computed == announced {
        match decode(kind, payload, ignored) {
            Err(error) if error.fault() == Fault::Malformed => Err(Garbled::Payload(error)),
            decoded => Ok(decoded?),
        }
    } else {
        Err(Garbled::Checksum {
            command: kind.name(),
            announced,
            computed,
        })
    };
    Ok(Frame {
        message,
        kind: Some(kind),
        wire_bytes,
    })
}

/// The command without its padding; `None` unless it is printable ASCII, then zeros only.
fn command_text(command: &[u8; MAX_COMMAND]) -> Option<&str> {
    let end = command
        .iter()
        .position(|&byte| byte == 0)
        .unwrap_or(MAX_COMMAND);
    let (text, padding) = command.split_at(end);
    let printable = text.iter().all(|byte| (b' '..=b'~').contains(byte));
    if !printable || padding.iter().any(|&byte| byte != 0) {
        return None;
    }
    std::str::from_utf8(text).ok()
}

/// Any command in printable characters, for a log.
fn printable(command: &[u8; MAX_COMMAND]) -> String {
    let text = command_text(command).map(str::to_owned);
    text.unwrap_or_else(|| command.escape_ascii().to_string())
}

/// The header of a frame.
///
/// # Panics
///
/// When `command` has more than [`MAX_COMMAND`] bytes or `payload_len` is above
/// [`MAX_PAYLOAD_BYTES`]: the caller must bound what it sends.
pub fn encode_head(
    magic: Magic,
    command: &str,
    payload_len: usize,
    checksum: [u8; 4],
) -> [u8; HEADER_BYTES] {
    let mut padded = [0; MAX_COMMAND];
    padded[..command.len()].copy_from_slice(command.as_bytes());
    head(magic, padded, payload_len, checksum)
}

/// The same for a command that is padded with zeros.
pub(crate) fn head(
    magic: Magic,
    command: [u8; MAX_COMMAND],
    payload_len: usize,
    checksum: [u8; 4],
) -> [u8; HEADER_BYTES] {
    assert!(
        payload_len <= MAX_PAYLOAD_BYTES,
        "the payload is too long for a frame"
    );
    let len = u32::try_from(payload_len).expect("4,000,000 fits");
    let mut header = [0; HEADER_BYTES];
    header[..4].copy_from_slice(&magic.to_bytes());
    header[4..16].copy_from_slice(&command);
    header[16..20].copy_from_slice(&len.to_le_bytes());
    header[20..].copy_from_slice(&checksum);
    header
}

impl Decoder for Codec {
    type Item = Frame;
    type Error = CodecError;

    fn decode(&mut self, src: &mut BytesMut) -> Result<Option<Frame>, CodecError> {
        Ok(self.next_frame(src)?)
    }

    /// A remote may disconnect in the middle of a frame, which is no error.
    fn decode_eof(&mut self, src: &mut BytesMut) -> Result<Option<Frame>, CodecError> {
        Ok(self.next_frame(src)?)
    }
}

impl Encoder<&Message> for Codec {
    type Error = CodecError;

    fn encode(&mut self, message: &Message, dst: &mut BytesMut) -> Result<(), CodecError> {
        message.encode_into(self.magic, dst);
        Ok(())
    }
}

impl Encoder<Message> for Codec {
    type Error = CodecError;

    fn encode(&mut self, message: Message, dst: &mut BytesMut) -> Result<(), CodecError> {
        message.encode_into(self.magic, dst);
        Ok(())
    }
}

#[cfg(test)]
mod tests;
