//! Requests without a `Host`, as hand-written clients send them.

use bytes::BytesMut;

/// An empty header, which says no more than none does.
const EMPTY_HOST: &[u8] = b"Host:\r\n";

/// Gives the request at the front of `received` an empty `Host` if its head is whole, it is
/// one of HTTP/1.1 and has none. The decoder refuses it otherwise, as RFC 9112 has it; Bitcoin
/// Core answers it. A request with two is left as it is, and refused.
pub(super) fn complete(received: &mut BytesMut) {
    let Some(end) = find(received, b"\r\n\r\n") else {
        return;
    };
    let head = &received[..end + 2];
    let Some(line) = find(head, b"\r\n").filter(|line| head[..*line].ends_with(b" HTTP/1.1"))
    else {
        return;
    };
    let is_host = |line: &[u8]| {
        let name = line.get(..5);
        name.is_some_and(|name| name.eq_ignore_ascii_case(b"host:"))
    };
    if head.split(|byte| *byte == b'\n').any(is_host) {
        return;
    }
    let after = received.split_off(line + 2);
    received.extend_from_slice(EMPTY_HOST);
    received.extend_from_slice(&after);
}

fn find(bytes: &[u8], pattern: &[u8]) -> Option<usize> {
    bytes.windows(pattern.len()).position(|at| at == pattern)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_whole_head_of_version_1_1_without_a_host_is_completed() {
        let completed = |text: &str| {
            let mut received = BytesMut::from(text);
            complete(&mut received);
            String::from_utf8(received.to_vec()).expect("text")
        };
        assert_eq!(
            completed("GET / HTTP/1.1\r\nA: b\r\n\r\nbody"),
            "GET / HTTP/1.1\r\nHost:\r\nA: b\r\n\r\nbody"
        );
        assert_eq!(
            completed("GET / HTTP/1.1\r\n\r\n"),
            "GET / HTTP/1.1\r\nHost:\r\n\r\n"
        );
        for left_alone in [
            "GET / HTTP/1.0\r\n\r\n",
            "GET / HTTP/1.1\r\nhOsT: x\r\n\r\n",
            "GET / HTTP/1.1\r\nHost: x\r\nHost: y\r\n\r\n",
            "GET / HTTP/1.1\r\nA: b\r\n",
            "",
        ] {
            assert_eq!(completed(left_alone), left_alone);
        }
    }
}
