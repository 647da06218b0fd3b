//! Who is at the other end, and whether it may come in.

use std::net::SocketAddr;

use actix_web::http::{StatusCode, header};
use actix_web::{HttpMessage, HttpRequest, HttpResponse};

use crate::auth::{Access, FAILED_LOGIN_DELAY, Rights};

use super::plain;

/// Longest header of a request, bytes, names and values together. Core `MAX_HEADERS_SIZE`.
pub(super) const MAX_HEADERS: usize = 8 * 1024;

/// Who is at the other end of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Caller {
    /// The Unix socket: the file's mode let the caller in.
    Unix,
    /// TCP: must come from an allowed address, and log in.
    Tcp,
}

/// Lets in whoever comes from an allowed address, or says why not. `Some`: over TCP.
#[expect(
    clippy::result_large_err,
    reason = "the error is the answer to a request, and passed on once"
)]
pub(super) fn allow(
    request: &HttpRequest,
    access: &Access,
) -> Result<Option<SocketAddr>, HttpResponse> {
    if header_bytes(request) > MAX_HEADERS {
        return Err(plain(StatusCode::BAD_REQUEST, ""));
    }
    let caller = request.extensions().get::<Caller>().copied();
    match (caller, request.peer_addr()) {
        (Some(Caller::Unix), _) => Ok(None),
        (Some(Caller::Tcp), Some(addr)) if access.allows(addr.ip()) => Ok(Some(addr)),
        (Some(Caller::Tcp) | None, addr) => {
            tracing::debug!(
                ?addr,
                "RPC call from an address that is not allowed refused"
            );
            Err(plain(StatusCode::FORBIDDEN, ""))
        }
    }
}

/// Lets a caller of methods in, and says which; or says why not.
pub(super) async fn admit(request: &HttpRequest, access: &Access) -> Result<Rights, HttpResponse> {
    let Some(addr) = allow(request, access)? else {
        return Ok(Rights::All);
    };
    let given = request.headers().get(header::AUTHORIZATION);
    let login = given.and_then(|value| access.login(value.to_str().ok()?));
    if let Some(rights) = login {
        return Ok(rights);
    }
    if given.is_some() {
        tracing::debug!(%addr, "RPC call with wrong credentials refused");
        tokio::time::sleep(FAILED_LOGIN_DELAY).await;
    }
    let mut response = plain(StatusCode::UNAUTHORIZED, "");
    let challenge = header::HeaderValue::from_static("Basic realm=\"jsonrpc\"");
    response
        .headers_mut()
        .insert(header::WWW_AUTHENTICATE, challenge);
    Err(response)
}

fn header_bytes(request: &HttpRequest) -> usize {
    let lines = request.headers().iter();
    lines
        .map(|(name, value)| name.as_str().len() + value.len() + ": \r\n".len())
        .sum()
}
