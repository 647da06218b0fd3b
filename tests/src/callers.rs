//! Callers: connect, say `version`, and want to hear the node's. No error is ignored.

use std::collections::BTreeMap;
use std::fmt;
use std::io::{self, ErrorKind};
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use handfast_wire::Network;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::connection::{NONCE, version};

/// How long a caller waits for each step: a hang, not a measure of speed.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// What became of callers.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Fates {
    /// `connect` reported the connection as made.
    pub made: usize,
    /// Of those, the ones that heard the node's `version`.
    pub answered: usize,
    /// The node closed the connection before that.
    pub closed: usize,
    /// The node reset it before that.
    pub reset: usize,
    /// Neither happened within [`PATIENCE`].
    pub hung: usize,
    /// `connect` failed, or something else went wrong: what, and how often.
    pub failures: BTreeMap<String, usize>,
    /// From `connect` to the answer, at most.
    pub slowest: Duration,
}

impl Fates {
    /// Callers whose connection the node ended without an answer.
    pub fn unanswered(&self) -> usize {
        self.closed + self.reset
    }

    fn count(&mut self, fate: Fate, took: Duration) {
        if !matches!(fate, Fate::NotMade(_)) {
            self.made += 1;
        }
        match fate {
            Fate::Answered => {
                self.answered += 1;
                self.slowest = self.slowest.max(took);
            }
            Fate::Closed => self.closed += 1,
            Fate::Reset => self.reset += 1,
            Fate::Hung => self.hung += 1,
            Fate::NotMade(why) | Fate::Failed(why) => {
                *self.failures.entry(why).or_default() += 1;
            }
        }
    }
}

impl fmt::Display for Fates {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} made, {} answered (slowest {} ms), {} closed, {} reset, {} hung, failures {:?}",
            self.made,
            self.answered,
            self.slowest.as_millis(),
            self.closed,
            self.reset,
            self.hung,
            self.failures
        )
    }
}

enum Fate {
    NotMade(String),
    Answered,
    Closed,
    Reset,
    Hung,
    Failed(String),
}

/// `count` callers at the same time.
///
/// # Panics
/// If this process may not have as many sockets.
pub fn at_once(target: SocketAddr, network: &Network, count: usize) -> Fates {
    allow_descriptors(count);
    let version = encoded_version(network);
    run(async {
        // Each runs up to where it waits for its connection before any of them goes on.
        let callers = tokio::task::LocalSet::new();
        let calls: Vec<_> = (0..count)
            .map(|_| callers.spawn_local(timed_call(target, version.clone())))
            .collect();
        callers
            .run_until(async {
                let mut fates = Fates::default();
                for call in calls {
                    let (fate, took) = call.await.expect("a caller does not panic");
                    fates.count(fate, took);
                }
                fates
            })
            .await
    })
}

/// `count` callers, each when the one before has gone.
pub fn in_turn(target: SocketAddr, network: &Network, count: usize) -> Fates {
    let version = encoded_version(network);
    run(async {
        let mut fates = Fates::default();
        for _ in 0..count {
            let (fate, took) = timed_call(target, version.clone()).await;
            fates.count(fate, took);
        }
        fates
    })
}

fn run<T>(work: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .expect("an event loop")
        .block_on(work)
}

fn encoded_version(network: &Network) -> Arc<[u8]> {
    let encoded = version(0, "/handfast-tests:caller/", NONCE).encode(network.magic());
    encoded[..].into()
}

async fn timed_call(target: SocketAddr, version: Arc<[u8]>) -> (Fate, Duration) {
    let begun = Instant::now();
    let fate = call(target, &version).await;
    (fate, begun.elapsed())
}

async fn call(target: SocketAddr, version: &[u8]) -> Fate {
    let mut stream = match tokio::time::timeout(PATIENCE, TcpStream::connect(target)).await {
        Ok(Ok(stream)) => stream,
        Ok(Err(error)) => return Fate::NotMade(format!("connect: {error}")),
        Err(_) => return Fate::NotMade("connect: no answer".into()),
    };
    match tokio::time::timeout(PATIENCE, exchange(&mut stream, version)).await {
        Ok(Ok(())) => Fate::Answered,
        Ok(Err(error)) => match error.kind() {
            ErrorKind::UnexpectedEof => Fate::Closed,
            ErrorKind::ConnectionReset | ErrorKind::BrokenPipe => Fate::Reset,
            _ => Fate::Failed(error.to_string()),
        },
        Err(_) => Fate::Hung,
    }
}

/// Says `version` and reads the head of the answer, which must be one.
async fn exchange(stream: &mut TcpStream, version: &[u8]) -> io::Result<()> {
    // When the node has closed already, it is the end of the stream that tells so.
    let _ = stream.write_all(version).await;
    let mut head = [0; 24];
    stream.read_exact(&mut head).await?;
    if head[..4] == version[..4] && head[4..16] == version[4..16] {
        Ok(())
    } else {
        Err(io::Error::other(format!("not a version: {head:?}")))
    }
}

/// Lets this process have sockets for `count` callers.
///
/// # Panics
/// If the hard limit is lower than that.
pub fn allow_descriptors(count: usize) {
    let wanted = u64::try_from(count).expect("a number of sockets") + 256;
    let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
    if current.is_none_or(|current| current >= wanted) {
        return;
    }
    let limit = Rlimit {
        current: Some(wanted),
        maximum,
    };
    setrlimit(Resource::Nofile, limit).expect("the hard limit on open files suffices");
}

/// Keeps every core busy until dropped, at normal priority: a stand-in for a miner that
/// is less polite than ours.
#[derive(Debug)]
pub struct Burning {
    stop: Arc<AtomicBool>,
    threads: Vec<JoinHandle<()>>,
}

impl Burning {
    /// One thread for every core.
    pub fn every_core() -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        let threads = (0..cores).map(|_| {
            let stop = stop.clone();
            std::thread::spawn(move || {
                while !stop.load(Ordering::Relaxed) {
                    std::hint::spin_loop();
                }
            })
        });
        let threads = threads.collect();
        Self { stop, threads }
    }
}

impl Drop for Burning {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        for thread in self.threads.drain(..) {
            let _ = thread.join();
        }
    }
}
