//! Many calls on one connection, told apart by how each of them ended.

use std::io::{self, Read, Write};

use serde_json::{Value, json};

use super::{ANSWER_TIMEOUT, Endpoint, Stream, header, parse, request, split_head};

/// What became of one call.
#[derive(Clone, Debug, PartialEq)]
pub enum Outcome {
    /// A whole answer.
    Answered {
        /// The HTTP status.
        status: u16,
        /// The body, which was JSON.
        answer: Value,
        /// The server said that it closes now.
        last: bool,
    },
    /// The server said, in full, that it has no room or is about to end, and closes: the call
    /// was not carried out.
    TurnedAway,
    /// The server closed before the first byte of an answer.
    Closed(io::ErrorKind),
    /// The server began an answer and did not end it, or it is none: what came of it.
    Broken(String),
    /// Nothing came, and the connection stayed open.
    Unanswered,
}

/// A call as JSON-RPC 1 has it.
pub fn call(method: &str, params: Value) -> Value {
    json!({ "id": "handfast-tests", "method": method, "params": params })
}

/// One connection to a server, on which one call follows the other.
pub struct KeepAlive {
    stream: Stream,
    cookie: String,
}

impl KeepAlive {
    pub(super) fn connect(endpoint: &Endpoint, cookie: String) -> io::Result<Self> {
        let stream = Stream::connect(endpoint, ANSWER_TIMEOUT)?;
        Ok(Self { stream, cookie })
    }

    /// One call. After anything but an answer that is not the last, the connection
    /// is of no more use.
    pub fn call(&mut self, method: &str, params: Value) -> Outcome {
        match self.send(&call(method, params)) {
            Ok(()) => self.answer(|| {}),
            Err(error) => Outcome::Closed(error.kind()),
        }
    }

    /// Sends a call, or a list of calls, without waiting for the answer.
    pub fn send(&mut self, calls: &Value) -> io::Result<()> {
        let request = request(&self.cookie, "keep-alive", calls.to_string().as_bytes());
        self.stream.write_all(&request)
    }

    /// Sends all of a call but its last byte, and leaves it at that.
    pub fn send_half(&mut self, calls: &Value) -> io::Result<()> {
        let request = request(&self.cookie, "keep-alive", calls.to_string().as_bytes());
        self.stream.write_all(&request[..request.len() - 1])
    }

    /// The answer to what was sent. `between` is done before each read.
    pub fn answer(&mut self, mut between: impl FnMut()) -> Outcome {
        let mut received = Vec::new();
        let mut chunk = vec![0; 16 * 1024];
        loop {
            if let Some(outcome) = whole(&received) {
                return outcome;
            }
            between();
            let read = self.stream.read(&mut chunk);
            match read {
                Ok(0) if received.is_empty() => {
                    return Outcome::Closed(io::ErrorKind::UnexpectedEof);
                }
                Ok(0) => return broken(&received, "closed"),
                Ok(read) => received.extend_from_slice(&chunk[..read]),
                Err(error) if received.is_empty() => {
                    return match error.kind() {
                        io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut => Outcome::Unanswered,
                        kind => Outcome::Closed(kind),
                    };
                }
                Err(error) => return broken(&received, &error.to_string()),
            }
        }
    }
}

/// The outcome, once everything is there that the head promises.
fn whole(received: &[u8]) -> Option<Outcome> {
    let (head, rest) = split_head(received)?;
    let Some((status, body)) = parse(received) else {
        let length = header(head, "content-length").and_then(|text| text.parse::<usize>().ok());
        return match length {
            Some(length) if rest.len() < length => None,
            Some(_) | None => Some(broken(received, "not an answer")),
        };
    };
    let is =
        |name, value: &str| header(head, name).is_some_and(|it| it.eq_ignore_ascii_case(value));
    if status == 503 && is("retry-after", "1") && is("connection", "close") {
        return Some(Outcome::TurnedAway);
    }
    let Ok(answer) = serde_json::from_slice(&body) else {
        return Some(broken(received, "not JSON"));
    };
    Some(Outcome::Answered {
        status,
        answer,
        last: is("connection", "close"),
    })
}

fn broken(received: &[u8], how: &str) -> Outcome {
    let shown = &received[..received.len().min(400)];
    let text = String::from_utf8_lossy(shown);
    Outcome::Broken(format!("{how} after {} bytes: {text}", received.len()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_that_is_cut_anywhere_is_not_whole() {
        let text = b"HTTP/1.1 200 OK\r\ncontent-length: 4\r\nconnection: close\r\n\r\nnull";
        let answered = Outcome::Answered {
            status: 200,
            answer: Value::Null,
            last: true,
        };
        assert_eq!(whole(text), Some(answered));
        for cut in 0..text.len() {
            assert_eq!(whole(&text[..cut]), None, "cut at {cut}");
        }
    }

    #[test]
    fn whoever_is_told_to_come_again_is_told_in_full() {
        let text = b"HTTP/1.1 503 Service Unavailable\r\ncontent-length: 4\r\n\
            connection: close\r\nretry-after: 1\r\n\r\nFull";
        assert_eq!(whole(text), Some(Outcome::TurnedAway));
        for cut in 0..text.len() {
            assert_eq!(whole(&text[..cut]), None, "cut at {cut}");
        }
    }

    #[test]
    fn a_body_that_is_no_json_is_no_answer() {
        let text = b"HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\nnul ";
        assert!(matches!(whole(text), Some(Outcome::Broken(_))));
    }
}
