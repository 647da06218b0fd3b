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

/// Whether an HTTP answer is here up to its last byte.
fn is_whole(received: &[u8]) -> bool {
    let Some(end) = received.windows(4).position(|at| at == b"\r\n\r\n") else {
        return false;
    };
    let (head, body) = received.split_at(end + 4);
    let head = String::from_utf8_lossy(head).to_ascii_lowercase();
    let length = head
        .lines()
        .find_map(|line| line.strip_prefix("content-length:"))
        .and_then(|length| length.trim().parse::<usize>().ok());
    length.is_some_and(|length| body.len() >= length)
}

#[cfg(test)]
mod tests {
    use super::*;

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
}
