//! Authorization of connections and requests.
//!
//! Addresses are checked when a connection is accepted, and every request before it is routed: no
//! route is reached without [`authorize`].

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use hyper::http::request::Parts;
use hyper::{StatusCode, header};

use crate::auth::Rights;
use crate::metrics::Refusal;

use super::Context;
use super::content::{Response, plain};
use super::quota::Slot;

/// Longest request head, bytes: request line and all headers. Core `MAX_HEADERS_SIZE`.
pub(super) const MAX_HEAD: usize = 8 * 1024;
/// Longest wait for the answer to a failed login, behind other failed logins from the same
/// address.
const LONGEST_WAIT: Duration = Duration::from_secs(30);
/// `Retry-After` of a login that was not checked, seconds.
const RETRY_AFTER: &str = "1";

/// The remote end of an RPC connection.
pub(super) struct Caller {
    /// `None`: the Unix socket, whose file mode authenticates.
    pub(super) addr: Option<SocketAddr>,
    pub(super) slot: Slot,
}

/// Authorizes a request, or returns the refusal. `None`: no credentials were sent.
///
/// # Security
/// Credentials are checked on every path, also on those that need none. A request without
/// credentials must name this machine in `Host`: see
/// [`Access::is_own_host`](crate::auth::Access::is_own_host).
pub(super) async fn authorize(
    request: &Parts,
    caller: &Caller,
    context: &Context,
) -> Result<Option<Rights>, Response> {
    if head_bytes(request) > MAX_HEAD || has_several_hosts(request) {
        return Err(plain(StatusCode::BAD_REQUEST, ""));
    }
    let Some(addr) = caller.addr else {
        return Ok(Some(Rights::All));
    };
    if let Some(given) = request.headers.get(header::AUTHORIZATION) {
        let rights = login(given, addr, &caller.slot, context).await?;
        return Ok(Some(rights));
    }
    if !is_own_host(request, context) {
        context.metrics.refused(Refusal::Host);
        if let Some(left_out) = context.logs.host.now() {
            tracing::warn!(%addr, left_out, "RPC request without credentials refused: its Host header is not a known name of this machine; log in, use an address or localhost, or allow the name with --rpc-allow-host");
        }
        let text = "This host name is not known here. Log in, use an IP address or localhost, \
                    or start the node with --rpc-allow-host NAME.\n";
        return Err(unauthorized(text));
    }
    Ok(None)
}

/// The rights of these credentials; or, when its delay has passed, the answer to a failed login.
async fn login(
    given: &header::HeaderValue,
    addr: SocketAddr,
    slot: &Slot,
    context: &Context,
) -> Result<Rights, Response> {
    let guesses = &context.guesses;
    // A connection that has logged in is not guessing passwords.
    if slot.is_unauthenticated() && !guesses.may_try(slot.group(), Instant::now()) {
        context.metrics.refused(Refusal::Guesses);
        if let Some(left_out) = context.logs.guesses.now() {
            tracing::warn!(%addr, left_out, "too many failed RPC logins from this address: its logins are not checked for now; stop the program that guesses there, or use the Unix socket");
        }
        return Err(retry_later("Too many failed logins from this address"));
    }
    let rights = given
        .to_str()
        .ok()
        .and_then(|given| context.access.login(given));
    if let Some(rights) = rights {
        if !slot.logged_in() {
            // The connection is being cut: nothing is begun on it.
            std::future::pending::<()>().await;
        }
        return Ok(rights);
    }
    tracing::debug!(%addr, "RPC call with wrong credentials refused");
    context.metrics.refused(Refusal::Login);
    if let Some(left_out) = context.logs.login.now() {
        tracing::warn!(%addr, left_out, "RPC login failed: no such user, or a wrong password; the cookie is new at every start of the node");
    }
    slot.login_failed();
    let answer = guesses.failed(slot.group(), Instant::now());
    let wait = answer.saturating_duration_since(Instant::now());
    tokio::time::sleep(wait.min(LONGEST_WAIT)).await;
    Err(match wait > LONGEST_WAIT {
        false => unauthorized(""),
        true => retry_later("Too many failed logins from this address"),
    })
}

/// The answer to missing credentials where they are needed.
pub(super) fn unauthorized(text: &'static str) -> Response {
    let mut response = plain(StatusCode::UNAUTHORIZED, text);
    let challenge = header::HeaderValue::from_static("Basic realm=\"jsonrpc\"");
    response
        .headers_mut()
        .insert(header::WWW_AUTHENTICATE, challenge);
    response
}

fn retry_later(text: &'static str) -> Response {
    let mut response = plain(StatusCode::SERVICE_UNAVAILABLE, text);
    let retry = header::HeaderValue::from_static(RETRY_AFTER);
    response.headers_mut().insert(header::RETRY_AFTER, retry);
    response
}

/// Checks every `Host` header, and the request line's host if it names one.
fn is_own_host(request: &Parts, context: &Context) -> bool {
    let in_headers = request.headers.get_all(header::HOST);
    let all_are = in_headers.into_iter().all(|host| {
        let host = host.to_str();
        host.is_ok_and(|host| context.access.is_own_host(host))
    });
    let in_line = request.uri.host();
    all_are && in_line.is_none_or(|host| context.access.is_own_host(host))
}

/// Two `Host` headers (RFC 9112, 3.2): one program may read the first and another the second.
fn has_several_hosts(request: &Parts) -> bool {
    request.headers.get_all(header::HOST).iter().count() > 1
}

/// The head's length as most clients write it; optional spaces are not counted.
fn head_bytes(request: &Parts) -> usize {
    let target = request.uri.path_and_query();
    let target = target.map_or(0, |target| target.as_str().len());
    let lines = request.headers.iter();
    let headers: usize = lines
        .map(|(name, value)| name.as_str().len() + value.len() + ": \r\n".len())
        .sum();
    request.method.as_str().len() + target + "  HTTP/1.1\r\n".len() + headers + "\r\n".len()
}
