//! The accept queue of a Unix socket, queried with `sock_diag(7)`.

use std::os::fd::BorrowedFd;

use netlink_packet_core::{NLM_F_REQUEST, NetlinkHeader, NetlinkMessage, NetlinkPayload};
use netlink_packet_sock_diag::SockDiagMessage;
use netlink_packet_sock_diag::unix::nlas::Nla;
use netlink_packet_sock_diag::unix::{ShowFlags, StateFlags, UnixRequest};
use rustix::net::{AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, netlink, sockopt};

use super::AcceptQueue;

/// Longer than an answer about one socket, bytes.
const ANSWER: usize = 1024;

/// The queue of a listening Unix socket; `None` where the system does not report it.
pub(super) fn of(socket: BorrowedFd<'_>) -> Option<AcceptQueue> {
    let is_unix = sockopt::socket_domain(socket).ok()? == AddressFamily::UNIX;
    if !(is_unix && sockopt::socket_acceptconn(socket).ok()?) {
        return None;
    }
    let request = request(rustix::fs::fstat(socket).ok()?.st_ino.try_into().ok()?);
    let diag = rustix::net::socket_with(
        AddressFamily::NETLINK,
        SocketType::DGRAM,
        SocketFlags::CLOEXEC,
        Some(netlink::SOCK_DIAG),
    );
    let diag = diag.ok()?;
    rustix::net::send(&diag, &request, SendFlags::empty()).ok()?;
    let mut answer = [0; ANSWER];
    // The system answers about a single socket before the request has returned.
    let (length, _) = rustix::net::recv(&diag, &mut answer, RecvFlags::DONTWAIT).ok()?;
    parse(answer.get(..length)?)
}

fn request(inode: u32) -> Vec<u8> {
    let request = SockDiagMessage::UnixRequest(UnixRequest {
        state_flags: StateFlags::LISTEN,
        inode,
        show_flags: ShowFlags::RQLEN,
        // The cookie matches any: the inode number is unique while the socket is open.
        cookie: [0xff; 8],
    });
    let mut header = NetlinkHeader::default();
    header.flags = NLM_F_REQUEST;
    let mut message = NetlinkMessage::new(header, request.into());
    message.finalize();
    let mut bytes = vec![0; message.buffer_len()];
    message.serialize(&mut bytes);
    bytes
}

fn parse(bytes: &[u8]) -> Option<AcceptQueue> {
    let message = NetlinkMessage::<SockDiagMessage>::deserialize(bytes).ok()?;
    let NetlinkPayload::InnerMessage(SockDiagMessage::UnixResponse(answer)) = message.payload
    else {
        return None;
    };
    // For a listening socket these are the length and the limit of its queue.
    answer.nlas.into_iter().find_map(|nla| match nla {
        Nla::ReceiveQueueLength(now, granted) => Some(AcceptQueue { now, granted }),
        _ => None,
    })
}
