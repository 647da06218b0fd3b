//! The socket of a connection, which can be asked whether the remote has closed its side
//! while what it sent is not read.

use std::io::{self, IoSlice};
use std::pin::{Pin, pin};
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, Interest, ReadBuf};
use tokio::net::TcpStream;

/// A TCP socket.
///
/// A read into a buffer without space reads nothing and fails when the remote has closed
/// its side, or the connection is broken: so a connection that may not be read for a while
/// does not keep its slot after its remote has left.
#[derive(Debug)]
pub(crate) struct PeerSocket(TcpStream);

impl PeerSocket {
    pub(crate) fn new(socket: TcpStream) -> Self {
        Self(socket)
    }

    /// Fails when nothing more will come than has come.
    fn look(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match pin!(self.0.ready(Interest::READABLE)).poll(cx) {
            Poll::Ready(Ok(ready)) if ready.is_read_closed() => {
                Poll::Ready(Err(io::ErrorKind::UnexpectedEof.into()))
            }
            // Something is there, or nothing is: the remote may send more.
            Poll::Ready(Ok(_)) | Poll::Pending => Poll::Ready(Ok(())),
            Poll::Ready(Err(error)) => Poll::Ready(Err(error)),
        }
    }
}

impl AsyncRead for PeerSocket {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if buf.remaining() == 0 {
            return self.look(cx);
        }
        Pin::new(&mut self.0).poll_read(cx, buf)
    }
}

impl AsyncWrite for PeerSocket {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_shutdown(cx)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0).poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        self.0.is_write_vectored()
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::AsyncWriteExt;
    use tokio::net::TcpListener;

    use super::*;

    /// Whether the remote is found to have left, now.
    async fn has_left(socket: &mut PeerSocket) -> bool {
        std::future::poll_fn(|cx| {
            let mut nothing = ReadBuf::new(&mut []);
            Pin::new(&mut *socket).poll_read(cx, &mut nothing)
        })
        .await
        .is_err()
    }

    #[actix_rt::test]
    async fn a_remote_that_left_is_noticed_though_what_it_sent_is_not_read() {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("bound");
        let mut remote = TcpStream::connect(address).await.expect("accepted");
        let (ours, _) = listener.accept().await.expect("one waits");
        let mut ours = PeerSocket::new(ours);
        assert!(!has_left(&mut ours).await);
        remote.write_all(&[7; 1_000]).await.expect("open");
        ours.0.readable().await.expect("open");
        assert!(!has_left(&mut ours).await, "it may send more");
        drop(remote);
        while !has_left(&mut ours).await {
            tokio::task::yield_now().await;
        }
    }
}
