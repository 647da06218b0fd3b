//! RPC calls in bursts: not peers, but the same node and the same machine.

use bytes::Bytes;

use super::leaving::READY;
use super::machine::{Event, Expect, Leave, Machine, Wrong};
use crate::writer::Writer;

/// Longest answer that is read.
const MAX_ANSWER: usize = 64 * 1024;

/// Connects, calls once, reads the whole answer, disconnects.
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
    fn step(&mut self, event: Event<'_>, writer: &mut Writer<'_>) {
        match event {
            Event::Connected => writer.raw(self.request.clone()),
            Event::Raw(bytes) => {
                self.received.extend_from_slice(bytes);
                if is_whole(&self.received) || self.received.len() > MAX_ANSWER {
                    match status(&self.received) {
                        Some(200) => {}
                        Some(503) if says_when_to_come(&self.received) => {
                            writer.report_wrong(Wrong::Later);
                        }
                        Some(other) => writer.report_wrong(Wrong::Status(other)),
                        None => writer.report_wrong(Wrong::NoHttp),
                    }
                    writer.leave(Leave::Drop);
                }
            }
            Event::Frame(_) | Event::Due | Event::Opened => {}
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

/// The value of a header line, in lower case.
fn header(received: &[u8], name: &str) -> Option<String> {
    let end = received.windows(4).position(|at| at == b"\r\n\r\n")?;
    let head = String::from_utf8_lossy(&received[..end]).to_ascii_lowercase();
    let mut lines = head.lines();
    lines.find_map(|line| Some(line.strip_prefix(name)?.trim().to_owned()))
}

/// Whether an HTTP answer is complete.
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
    use crate::writer::{ConnectionRng, FrameSet, Memory, PeerParams};

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
    fn only_a_503_with_retry_after_counts_as_overload() {
        let answer = |head: &str| {
            let frame_set = FrameSet::new(PeerParams::new(&Network::Regtest, 0));
            let (mut rng, mut memory, mut acts) =
                (ConnectionRng::new(1), Memory::default(), Vec::new());
            let mut writer = Writer {
                frame_set: &frame_set,
                rng: &mut rng,
                memory: &mut memory,
                acts: &mut acts,
            };
            let bytes = format!("HTTP/1.1 {head}\r\nContent-Length: 0\r\n\r\n");
            Caller::new(Bytes::new()).step(Event::Raw(bytes.as_bytes()), &mut writer);
            acts
        };
        let complains = |wrong| vec![Act::ReportWrong(wrong), Act::Leave(Leave::Drop)];
        assert_eq!(answer("200 OK"), [Act::Leave(Leave::Drop)]);
        let later = "503 Service Unavailable\r\nRetry-After: 1";
        assert_eq!(answer(later), complains(Wrong::Later));
        for full in ["503 Full", "503 Full\r\nRetry-After: soon"] {
            assert_eq!(answer(full), complains(Wrong::Status(503)), "{full}");
        }
    }
}
