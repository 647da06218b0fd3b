//! Who is at the other end, and whether it may come in.
//!
//! Addresses are judged when a connection is accepted ([`Visitor`] has one that may call),
//! and every request before it is routed, whatever its path: there is no route behind which
//! [`enter`] has not been.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use hyper::http::request::Parts;
use hyper::{StatusCode, header};

use crate::auth::Rights;
use crate::metrics::Refusal;

use super::Context;
use super::content::{Response, plain};
use super::share::Seat;

/// Longest head of a request, bytes: its line and its headers, however many these are. Core
/// `MAX_HEADERS_SIZE`, which bounds both together too.
pub(super) const MAX_HEAD: usize = 8 * 1024;
/// Time that a caller waits at most for the answer to its failed login, behind those of
/// others at its address.
const LONGEST_WAIT: Duration = Duration::from_secs(30);
/// When a caller who was not looked at should come again, seconds.
const RETRY_AFTER: &str = "1";

/// Who is at the other end of a connection.
pub(super) struct Visitor {
    /// `None`: over the Unix socket; the file's mode let it in.
    pub(super) addr: Option<SocketAddr>,
    pub(super) seat: Seat,
}

/// Lets a request in, or says why not. What whoever sent it may call; `None`: it has shown no
/// password.
///
/// # Security
/// A request that brings a password is judged by it on every path, also on those that need
/// none. One without is judged by how it calls this machine: see
/// [`Access::is_own_host`](crate::auth::Access::is_own_host).
pub(super) async fn enter(
    request: &Parts,
    visitor: &Visitor,
    context: &Context,
) -> Result<Option<Rights>, Response> {
    if head_bytes(request) > MAX_HEAD || has_several_hosts(request) {
        return Err(plain(StatusCode::BAD_REQUEST, ""));
    }
    let Some(addr) = visitor.addr else {
        return Ok(Some(Rights::All));
    };
    if let Some(given) = request.headers.get(header::AUTHORIZATION) {
        let rights = login(given, addr, &visitor.seat, context).await?;
        return Ok(Some(rights));
    }
    if !is_own_host(request, context) {
        context.metrics.refused(Refusal::Host);
        if let Some(left_out) = context.logs.host.now() {
            tracing::warn!(%addr, left_out, "RPC caller without a password refused, who calls this machine by a name that it does not know; log in, use an address or localhost, or allow the name with --rpc-allow-host");
        }
        let text = "This host name is not known here. Log in, use an IP address or localhost, \
                    or start the node with --rpc-allow-host NAME.\n";
        return Err(unauthorized(text));
    }
    Ok(None)
}

/// What the bearer of these credentials may call; or the answer to a login that failed, when
/// its time has come.
async fn login(
    given: &header::HeaderValue,
    addr: SocketAddr,
    seat: &Seat,
    context: &Context,
) -> Result<Rights, Response> {
    let guesses = &context.guesses;
    // Who has logged in on this connection is not one of those who guess.
    if seat.is_stranger() && !guesses.may_try(seat.group(), Instant::now()) {
        context.metrics.refused(Refusal::Guesses);
        if let Some(left_out) = context.logs.guesses.now() {
            tracing::warn!(%addr, left_out, "too many failed RPC logins: those of this address are not looked at for now; stop the program that guesses there, or call over the Unix socket");
        }
        return Err(come_again("Too many failed logins from this address"));
    }
    let rights = given
        .to_str()
        .ok()
        .and_then(|given| context.access.login(given));
    if let Some(rights) = rights {
        if !seat.logged_in() {
            // The connection is being cut, and nothing is begun on it.
            std::future::pending::<()>().await;
        }
        return Ok(rights);
    }
    tracing::debug!(%addr, "RPC call with wrong credentials refused");
    context.metrics.refused(Refusal::Login);
    if let Some(left_out) = context.logs.login.now() {
        tracing::warn!(%addr, left_out, "RPC login failed: no such user, or a wrong password; the cookie is new at every start of the node");
    }
    seat.login_failed();
    let answer = guesses.failed(seat.group(), Instant::now());
    let wait = answer.saturating_duration_since(Instant::now());
    tokio::time::sleep(wait.min(LONGEST_WAIT)).await;
    Err(match wait > LONGEST_WAIT {
        false => unauthorized(""),
        true => come_again("Too many failed logins from this address"),
    })
}

/// What a caller hears who has shown no password where one is needed.
pub(super) fn unauthorized(text: &'static str) -> Response {
    let mut response = plain(StatusCode::UNAUTHORIZED, text);
    let challenge = header::HeaderValue::from_static("Basic realm=\"jsonrpc\"");
    response
        .headers_mut()
        .insert(header::WWW_AUTHENTICATE, challenge);
    response
}

fn come_again(text: &'static str) -> Response {
    let mut response = plain(StatusCode::SERVICE_UNAVAILABLE, text);
    let retry = header::HeaderValue::from_static(RETRY_AFTER);
    response.headers_mut().insert(header::RETRY_AFTER, retry);
    response
}

/// By its `Host`, by every one if there are several, and by the request line if that names
/// one.
fn is_own_host(request: &Parts, context: &Context) -> bool {
    let in_headers = request.headers.get_all(header::HOST);
    let all_are = in_headers.into_iter().all(|host| {
        let host = host.to_str();
        host.is_ok_and(|host| context.access.is_own_host(host))
    });
    let in_line = request.uri.host();
    all_are && in_line.is_none_or(|host| context.access.is_own_host(host))
}

/// Of two hosts (RFC 9112, 3.2) one program may look at the first and another at the second.
fn has_several_hosts(request: &Parts) -> bool {
    request.headers.get_all(header::HOST).iter().count() > 1
}

/// As most callers write them; one space more or less does not matter.
fn head_bytes(request: &Parts) -> usize {
    let target = request.uri.path_and_query();
    let target = target.map_or(0, |target| target.as_str().len());
    let lines = request.headers.iter();
    let headers: usize = lines
        .map(|(name, value)| name.as_str().len() + value.len() + ": \r\n".len())
        .sum();
    request.method.as_str().len() + target + "  HTTP/1.1\r\n".len() + headers + "\r\n".len()
}
