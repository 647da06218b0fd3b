//! Answers as HTTP frames them, one after the other, held to the letter.

use super::{header, split_head};

/// One answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HttpAnswer {
    /// The status.
    pub status: u16,
    /// The server said that it closes now.
    pub last: bool,
    /// The body, without its framing.
    pub body: Vec<u8>,
}

/// The first answer in `received` and what comes after it; `None` while it is not whole.
///
/// # Errors
/// What is there is no HTTP, whatever may still come.
pub fn next_answer(received: &[u8]) -> Result<Option<(HttpAnswer, &[u8])>, String> {
    let begins = b"HTTP/1.";
    let known = received.len().min(begins.len());
    if received[..known] != begins[..known] {
        return Err(format!(
            "no HTTP: {:?}",
            String::from_utf8_lossy(&received[..received.len().min(80)])
        ));
    }
    let Some((head, rest)) = split_head(received) else {
        return match received.windows(4).any(|window| window == b"\r\n\r\n") {
            true => Err("a head that is not UTF-8".into()),
            false => Ok(None),
        };
    };
    let status = head.split(' ').nth(1).and_then(|text| text.parse().ok());
    let status: u16 = status.ok_or_else(|| format!("no status in {head:?}"))?;
    if let Some(bad) = head.lines().skip(1).find(|line| !line.contains(':')) {
        return Err(format!("a header without a colon: {bad:?}"));
    }
    let last = header(head, "connection").is_some_and(|text| text.eq_ignore_ascii_case("close"));
    let answer = |body: &[u8], rest| {
        let body = body.to_vec();
        Ok(Some((HttpAnswer { status, last, body }, rest)))
    };
    if header(head, "transfer-encoding").is_some() {
        return Err("an answer in chunks: none of ours is that long".into());
    }
    match header(head, "content-length").map(str::parse::<usize>) {
        Some(Ok(length)) if rest.len() < length => Ok(None),
        Some(Ok(length)) => answer(&rest[..length], &rest[length..]),
        Some(Err(_)) => Err(format!("a length that is none in {head:?}")),
        // These never have a body (RFC 9110, section 6.4.1).
        None if status < 200 || status == 204 => answer(b"", rest),
        None => Err(format!("no length in {head:?}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_follow_one_another_and_a_cut_one_is_not_whole() {
        let two = b"HTTP/1.1 204 No Content\r\nconnection: close\r\n\r\nHTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}";
        let (first, rest) = next_answer(two).expect("HTTP").expect("whole");
        assert_eq!((first.status, first.last, first.body.len()), (204, true, 0));
        for cut in 0..rest.len() {
            assert_eq!(next_answer(&rest[..cut]), Ok(None), "cut at {cut}");
        }
        let (second, rest) = next_answer(rest).expect("HTTP").expect("whole");
        assert_eq!(
            (second.status, second.last, &second.body[..], rest),
            (200, false, &b"{}"[..], &b""[..])
        );
    }

    #[test]
    fn what_cannot_become_an_answer_is_said_at_once() {
        for wrong in [
            "220 mail\r\n",
            "HTTP/2 200\r\n\r\n",
            "HTTP/1.1 OK\r\n\r\n",
            "HTTP/1.1 200 OK\r\n\r\n",
            "HTTP/1.1 200 OK\r\ncontent-length: x\r\n\r\n",
            "HTTP/1.1 200 OK\r\nnonsense\r\ncontent-length: 0\r\n\r\n",
        ] {
            assert!(next_answer(wrong.as_bytes()).is_err(), "{wrong:?}");
        }
    }
}
