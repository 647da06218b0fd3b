//! Accept queues, as the operating system reports them.

#[cfg(target_os = "linux")]
mod unix_socket;

use std::os::fd::BorrowedFd;

/// The accept queue of one listening socket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AcceptQueue {
    /// Established connections that wait to be accepted.
    pub now: u32,
    /// Capacity: the backlog that was requested, capped by the system.
    pub granted: u32,
}

/// The queue of a listening socket, TCP or Unix; `None` where the system does not report it.
#[cfg(target_os = "linux")]
pub(crate) fn of(socket: BorrowedFd<'_>) -> Option<AcceptQueue> {
    of_tcp(socket).or_else(|| unix_socket::of(socket))
}

/// The queue of a listening socket; `None` where the system does not report it.
#[cfg(not(target_os = "linux"))]
pub(crate) fn of(_: BorrowedFd<'_>) -> Option<AcceptQueue> {
    None
}

#[cfg(target_os = "linux")]
fn of_tcp(socket: BorrowedFd<'_>) -> Option<AcceptQueue> {
    let info = tcp_info(socket)?;
    // For a listening socket Linux returns the length and the limit of its queue in fields that
    // otherwise count segments (net/ipv4/tcp.c, tcp_get_info).
    const TCP_LISTEN: u8 = 10;
    (info.tcpi_state == TCP_LISTEN).then_some(AcceptQueue {
        now: info.tcpi_unacked,
        granted: info.tcpi_sacked,
    })
}

#[cfg(target_os = "linux")]
#[allow(
    unsafe_code,
    reason = "no library that is used here has a safe TCP_INFO; one call, on a borrowed descriptor"
)]
fn tcp_info(socket: BorrowedFd<'_>) -> Option<libc::tcp_info> {
    use std::os::fd::AsRawFd;

    let size = size_of::<libc::tcp_info>();
    let mut length = libc::socklen_t::try_from(size).ok()?;
    // SAFETY: a struct of integers, for which all zeroes is a value.
    let mut info: libc::tcp_info = unsafe { std::mem::zeroed() };
    // SAFETY: the descriptor is open while it is borrowed, `info` is writable for `length`
    // bytes, and the system writes no more than that. A descriptor that is no TCP socket
    // gives an error.
    let failed = unsafe {
        libc::getsockopt(
            socket.as_raw_fd(),
            libc::IPPROTO_TCP,
            libc::TCP_INFO,
            (&raw mut info).cast(),
            &raw mut length,
        )
    };
    (failed == 0).then_some(info)
}

/// Connections that the system dropped before they were queued, since it started, in this network
/// namespace, for all programs together.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Overflows {
    /// Times that an accept queue was full (`ListenOverflows`).
    pub overflows: u64,
    /// Connections that were dropped for any reason before they were queued (`ListenDrops`).
    pub drops: u64,
}

impl Overflows {
    /// Reads them; `None` where the system does not report it.
    pub(crate) fn read() -> Option<Self> {
        parse(&std::fs::read_to_string("/proc/net/netstat").ok()?)
    }

    /// The increase since `earlier`.
    pub(crate) fn since(self, earlier: Self) -> Self {
        Self {
            overflows: self.overflows.saturating_sub(earlier.overflows),
            drops: self.drops.saturating_sub(earlier.drops),
        }
    }
}

/// Pairs of lines: names, then values, each behind the same prefix.
fn parse(text: &str) -> Option<Overflows> {
    let mut lines = text.lines().filter_map(|line| line.strip_prefix("TcpExt:"));
    let (names, values) = (lines.next()?, lines.next()?);
    let value = |wanted: &str| {
        let at = names.split_whitespace().position(|name| name == wanted)?;
        values.split_whitespace().nth(at)?.parse().ok()
    };
    Some(Overflows {
        overflows: value("ListenOverflows")?,
        drops: value("ListenDrops")?,
    })
}

/// The deepest accept queue that the system grants; `None` where it does not report it.
#[cfg(test)]
pub(crate) fn system_limit() -> Option<u32> {
    let text = std::fs::read_to_string("/proc/sys/net/core/somaxconn").ok()?;
    text.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use std::net::TcpStream;
    use std::os::fd::AsFd;
    use std::os::unix::net::{UnixListener, UnixStream};

    use super::*;
    use crate::listener::bind;

    #[test]
    #[cfg(target_os = "linux")]
    fn a_queue_shows_how_many_connections_wait_and_how_many_may() {
        let listening = bind("127.0.0.1:0".parse().expect("an address"), 7).expect("a port");
        let queue = || of(listening.as_fd()).expect("Linux reports it");
        assert_eq!(queue(), AcceptQueue { now: 0, granted: 7 });
        let addr = listening.local_addr().expect("bound");
        let _waiting = [(); 3].map(|()| TcpStream::connect(addr).expect("the queue holds 7"));
        assert_eq!(queue(), AcceptQueue { now: 3, granted: 7 });
        let limit = system_limit().expect("Linux reports it");
        let deep = bind("127.0.0.1:0".parse().expect("an address"), limit + 1).expect("a port");
        assert_eq!(of(deep.as_fd()).map(|queue| queue.granted), Some(limit));
    }

    #[test]
    #[cfg(target_os = "linux")]
    fn a_queue_of_a_unix_socket_shows_the_same() {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let path = dir.path().join("socket");
        let listening = UnixListener::bind(&path).expect("a free path");
        rustix::net::listen(&listening, 7).expect("it is bound");
        let queue = || of(listening.as_fd()).expect("Linux reports it");
        assert_eq!(queue(), AcceptQueue { now: 0, granted: 7 });
        let waiting = [(); 3].map(|()| UnixStream::connect(&path).expect("the queue holds 7"));
        assert_eq!(queue(), AcceptQueue { now: 3, granted: 7 });
        assert_eq!(of(waiting[0].as_fd()), None, "it does not listen");
    }

    #[test]
    #[cfg(target_os = "linux")]
    fn a_socket_that_does_not_listen_has_no_accept_queue() {
        let listening = bind("127.0.0.1:0".parse().expect("an address"), 7).expect("a port");
        let addr = listening.local_addr().expect("bound");
        let connected = TcpStream::connect(addr).expect("it listens");
        assert_eq!(of(connected.as_fd()), None);
        let file = std::fs::File::open("/dev/null").expect("it is there");
        assert_eq!(of(file.as_fd()), None);
    }

    #[test]
    fn overflows_are_found_by_name_among_other_counters() {
        let text = "TcpExt: SyncookiesSent ListenOverflows Other ListenDrops\n\
                    TcpExt: 1 22 3 44\nIpExt: InNoRoutes\nIpExt: 5\n";
        let overflows = parse(text).expect("both are there");
        assert_eq!((overflows.overflows, overflows.drops), (22, 44));
        assert_eq!(parse("TcpExt: Other\nTcpExt: 1\n"), None);
        let earlier = Overflows {
            overflows: 20,
            drops: 45,
        };
        let since = overflows.since(earlier);
        assert_eq!((since.overflows, since.drops), (2, 0));
    }

    #[test]
    #[cfg(target_os = "linux")]
    fn this_system_counts_them() {
        assert!(Overflows::read().is_some());
    }
}
