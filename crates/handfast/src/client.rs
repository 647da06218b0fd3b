//! Client of the running node: over its Unix socket, else over TCP with its cookie.
//!
//! A call is retried only if it certainly was not executed: no connection was made, nothing was
//! sent, the login failed, or the node answered `503` with `Retry-After`, which it does before it
//! reads a call. All other failures are reported to the user.

mod connect;
mod exchange;

use std::path::PathBuf;
use std::time::Duration;

use bytes::Bytes;
use handfast_cli::NodeLocation;
use handfast_disk::{Unreadable, read_text};
use handfast_proto::text::passed;
use hyper::StatusCode;
use tokio::time::{Instant, sleep, sleep_until, timeout_at};

pub(crate) use connect::MAX_COOKIE;
use connect::connect;
use exchange::{Answer, Failure};

/// Default time to connect, and default time for an answer.
pub(crate) const DEFAULT_TIMEOUT: Duration = Duration::from_secs(30);
/// Interval of retries while the node is not running, or does not accept.
const RETRY_INTERVAL: Duration = Duration::from_millis(100);
/// How often a call is resent that was not read.
const MAX_RESENDS: u32 = 20;
/// Longest `Retry-After` that is honoured, seconds: a clock cannot add more than fits.
const LONGEST_PAUSE: u64 = 86_400;

/// Timeouts of a call. `None`: without limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Timeouts {
    /// To connect.
    pub(crate) connect: Option<Duration>,
    /// For the whole answer, including pauses requested by an overloaded node.
    pub(crate) answer: Option<Duration>,
}

impl Default for Timeouts {
    fn default() -> Self {
        Self {
            connect: Some(DEFAULT_TIMEOUT),
            answer: Some(DEFAULT_TIMEOUT),
        }
    }
}

/// Why a call has no answer. `Display` is one line: the cause and the remedy.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ClientError {
    #[error(
        "no {network} node is running in {} (no answer on {places}); {remedy}",
        dir.display()
    )]
    NotRunning {
        network: &'static str,
        dir: PathBuf,
        places: String,
        remedy: String,
    },
    #[error("a process listens on {at}, but there is no cookie {} to log in with; {remedy}", path.display())]
    NoCookie {
        at: String,
        path: PathBuf,
        remedy: String,
    },
    #[error("{at} does not accept the connection within {}; the node hangs or is overloaded, see its log", passed(*wait))]
    Full { at: String, wait: Duration },
    #[error("{} should be the cookie of a node, but {found}; remove it and start the node again", path.display())]
    NotACookie { path: PathBuf, found: Unreadable },
    #[error("{} cannot be accessed: {source}; use the account that runs the node", path.display())]
    Forbidden {
        path: PathBuf,
        source: std::io::Error,
    },
    #[error("{at} refuses the cookie in {}; another node runs there: give the right --datadir or --rpc-listen", cookie.display())]
    Unauthorized { at: String, cookie: PathBuf },
    #[error("{at} accepted the call but did not answer within {}; it may still be executed: see the node's log, or allow more time with `handfast rpc --timeout`", passed(*wait))]
    Silent { at: String, wait: Duration },
    #[error("{at} is overloaded and asks to retry after {after}s, longer than --timeout allows")]
    Busy { at: String, after: u64 },
    #[error("{at} closes connections before it reads a call; see the node's log")]
    ClosedUnread { at: String },
    #[error(
        "{at} closed the connection before its answer was whole; the call may have been executed: see the node's log. A port for peers closes connections so too: give the right --rpc-listen"
    )]
    Cut { at: String },
    #[error(
        "{at} sends an endless answer; another program runs there: give the right --rpc-listen or --rpc-socket"
    )]
    Endless { at: String },
    #[error(
        "{at} does not speak HTTP ({cause}); another program runs there: give the right --rpc-listen or --rpc-socket"
    )]
    Foreign { at: String, cause: String },
    #[error(
        "{at} refuses the call: the user may not call this method (the node's --rpc-whitelist), or calls are not allowed from this address (--rpc-allow-ip)"
    )]
    NotAllowed { at: String },
    #[error("{at} answered with HTTP status {status} and no JSON-RPC; is it a Handfast node?")]
    Status { at: String, status: u16 },
}

/// The body of an answer, which starts like JSON.
#[derive(Debug)]
pub(crate) struct RpcResponse {
    pub(crate) body: Vec<u8>,
    /// The path of the socket, or the address.
    at: String,
}

impl RpcResponse {
    /// The error for JSON that is no node's answer: `what` it is, in one line.
    pub(crate) fn foreign(&self, what: &str) -> String {
        format!("{} answered with {what}; is it a Handfast node?", self.at)
    }
}

/// Posts a JSON-RPC body.
pub(crate) async fn post(
    place: &NodeLocation,
    timeouts: Timeouts,
    body: String,
) -> Result<RpcResponse, ClientError> {
    let body = Bytes::from(body);
    let mut resent = 0;
    let mut answer_by = None;
    loop {
        let connection = connect(place, timeouts.connect).await?;
        // Connecting has its own timeout, which does not shorten the answer's.
        let by = *answer_by.get_or_insert_with(|| timeouts.answer.map(deadline));
        let (at, used) = (connection.at, connection.credentials);
        let talk = exchange::exchange(connection.stream, used.as_deref(), body.clone());
        let answer = match by {
            Some(by) => timeout_at(by, talk).await,
            None => Ok(talk.await),
        };
        let Ok(answer) = answer else {
            let wait = timeouts.answer.unwrap_or_default();
            return Err(ClientError::Silent { at, wait });
        };
        match judge(answer, &at, used.as_deref(), place)? {
            Verdict::Answer(body) => return Ok(RpcResponse { body, at }),
            Verdict::Again if resent == MAX_RESENDS => {
                return Err(ClientError::ClosedUnread { at });
            }
            Verdict::Again => {
                resent += 1;
                sleep(RETRY_INTERVAL).await;
            }
            Verdict::Later(after) => {
                let resume = Instant::now() + Duration::from_secs(after);
                if by.is_some_and(|by| resume >= by) {
                    return Err(ClientError::Busy { at, after });
                }
                sleep_until(resume).await;
            }
        }
    }
}

fn deadline(wait: Duration) -> Instant {
    Instant::now() + wait
}

/// The outcome of one attempt.
enum Verdict {
    Answer(Vec<u8>),
    /// The call was not executed: retry at once.
    Again,
    /// The same, after so many seconds.
    Later(u64),
}

fn judge(
    answer: Result<Answer, Failure>,
    at: &str,
    credentials: Option<&str>,
    place: &NodeLocation,
) -> Result<Verdict, ClientError> {
    let at = at.to_owned();
    let answer = match answer {
        Ok(answer) => answer,
        Err(Failure::NeverSent) => return Ok(Verdict::Again),
        Err(Failure::Foreign(cause)) => return Err(ClientError::Foreign { at, cause }),
        Err(Failure::Cut) => return Err(ClientError::Cut { at }),
        Err(Failure::TooLong) => return Err(ClientError::Endless { at }),
    };
    match (answer.status, answer.retry_after) {
        (StatusCode::UNAUTHORIZED, _) => {
            let cookie = place.cookie.clone();
            // A node that has just started has replaced the cookie since we read it.
            let now = read_text(&cookie, MAX_COOKIE).ok();
            match now.as_deref().map(str::trim) {
                Some(now) if credentials.is_some_and(|used| used != now) => Ok(Verdict::Again),
                Some(_) | None => Err(ClientError::Unauthorized { at, cookie }),
            }
        }
        (StatusCode::SERVICE_UNAVAILABLE, Some(after)) => {
            Ok(Verdict::Later(after.min(LONGEST_PAUSE)))
        }
        (StatusCode::FORBIDDEN, _) if answer.body.is_empty() => Err(ClientError::NotAllowed { at }),
        // Whatever the status: JSON-RPC errors are in the body.
        (status, _) => match answer.body.first() {
            Some(b'{' | b'[') => Ok(Verdict::Answer(answer.body)),
            _ => Err(ClientError::Status {
                at,
                status: status.as_u16(),
            }),
        },
    }
}

/// Retries while the node is not running, or `answer` is that it is starting.
///
/// # Errors
/// The last failure when `limit` is over, or the first that waiting cannot change.
pub(crate) async fn wait_while_starting<T, F>(
    limit: Option<Duration>,
    mut ask: impl FnMut() -> F,
    starting: impl Fn(&T) -> bool,
) -> Result<T, ClientError>
where
    F: Future<Output = Result<T, ClientError>>,
{
    let by = limit.map(deadline);
    loop {
        let outcome = ask().await;
        let waits = match &outcome {
            Ok(answer) => starting(answer),
            Err(ClientError::NotRunning { .. }) => true,
            Err(_) => false,
        };
        if !waits || by.is_some_and(|by| Instant::now() >= by) {
            return outcome;
        }
        sleep(RETRY_INTERVAL).await;
    }
}

/// Runs a client on a runtime of its own.
pub(crate) fn block_on<T>(work: impl Future<Output = T>) -> Result<T, String> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build();
    let runtime =
        runtime.map_err(|error: std::io::Error| format!("cannot start an event loop: {error}"))?;
    Ok(runtime.block_on(work))
}
