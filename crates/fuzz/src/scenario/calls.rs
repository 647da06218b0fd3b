//! RPC calls in bursts: not peers, but the same node, and the same accept queue.

use bytes::Bytes;

use super::leaving::READY;
use super::machine::{Event, Expect, Leave, Machine, Wrong};
use crate::voice::Voice;

/// Longest answer that is looked at.
const MAX_ANSWER: usize = 64 * 1024;

/// Connects, calls once, reads once the whole answer, leaves: as plain as can be.
#[derive(Debug)]
pub(super) struct Caller {
    request: Bytes,
    received: Vec<u8>,
}

impl Caller {
    pub(super) fn new(request: Bytes) -> Self {
        Self {
            request,
            received: Vec::new(),
        }
    }
}

impl Machine for Caller {
    fn step(&mut self, event: Event<'_>, voice: &mut Voice<'_>) {
        match event {
            Event::Connected => voice.raw(self.request.clone()),
            Event::Raw(bytes) => {
                self.received.extend_from_slice(bytes);
                if is_whole(&self.received) || self.received.len() > MAX_ANSWER {
                    match status(&self.received) {
                        Some(200) => {}
                        Some(503) if says_when_to_come(&self.received) => {
                            voice.complain(Wrong::Later);
                        }
                        Some(other) => voice.complain(Wrong::Status(other)),
                        None => voice.complain(Wrong::NoHttp),
                    }
                    voice.leave(Leave::Drop);
                }
            }
            Event::Heard(_) | Event::Due | Event::Opened => {}
        }
    }

    fn expect(&self) -> Expect {
        READY
    }
}

/// The status of an HTTP answer.
fn status(received: &[u8]) -> Option<u16> {
    let version = received.strip_prefix(b"HTTP/1.")?;
    std::str::from_utf8(version.get(2..5)?).ok()?.parse().ok()
}

/// Whether an HTTP answer has a `Retry-After` of seconds.
fn says_when_to_come(received: &[u8]) -> bool {
    header(received, "retry-after:").is_some_and(|seconds| seconds.parse::<u64>().is_ok())
}

/// The value of a header line, in small letters.
fn header(received: &[u8], name: &str) -> Option<String> {
    let end = received.windows(4).position(|at| at == b"\r\n\r\n")?;
    let head = String::from_utf8_lossy(&received[..end]).to_ascii_lowercase();
    let mut lines = head.lines();
    lines.find_map(|line| Some(line.strip_prefix(name)?.trim().to_owned()))
}

/// Whether an HTTP answer is here up to its last byte.
fn is_whole(received: &[u8]) -> bool {
    let Some(end) = received.windows(4).position(|at| at == b"\r\n\r\n") else {
        return false;
    };
    let length = header(received, "content-length:").and_then(|length| length.parse().ok());
    length.is_some_and(|length: usize| received.len() - (end + 4) >= length)
}

#[cfg(test)]
mod tests {
    use handfast_wire::Network;

    use super::super::machine::Act;
    use super::*;
    use crate::voice::{Dialect, Dice, Memory, Phrases};

    #[test]
    fn an_answer_is_whole_with_its_last_byte() {
        let answer = b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nnull";
        for cut in 0..answer.len() {
            assert!(!is_whole(&answer[..cut]), "cut at {cut}");
        }
        assert!(is_whole(answer));
        assert_eq!(status(answer), Some(200));
        assert_eq!(status(b"SSH-2.0-OpenSSH"), None);
    }

    #[test]
    fn only_one_that_says_when_to_come_again_asks_to_come_later() {
        let answer = |head: &str| {
            let phrases = Phrases::new(Dialect::new(&Network::Regtest, 0));
            let (mut dice, mut memory, mut acts) = (Dice::new(1), Memory::default(), Vec::new());
            let mut voice = Voice {
                phrases: &phrases,
                dice: &mut dice,
                memory: &mut memory,
                acts: &mut acts,
            };
            let bytes = format!("HTTP/1.1 {head}\r\nContent-Length: 0\r\n\r\n");
            Caller::new(Bytes::new()).step(Event::Raw(bytes.as_bytes()), &mut voice);
            acts
        };
        let complains = |wrong| vec![Act::Complain(wrong), Act::Leave(Leave::Drop)];
        assert_eq!(answer("200 OK"), [Act::Leave(Leave::Drop)]);
        let later = "503 Service Unavailable\r\nRetry-After: 1";
        assert_eq!(answer(later), complains(Wrong::Later));
        for full in ["503 Full", "503 Full\r\nRetry-After: soon"] {
            assert_eq!(answer(full), complains(Wrong::Status(503)), "{full}");
        }
    }
}
