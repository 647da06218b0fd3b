//! The end, phase by phase. A barrier, not a drain: nothing is thrown away, and
//! each phase is over when it is proven to be. See [`crate::manual::shutdown`].

use std::future::Future;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use handfast_chain::Chain;
use handfast_proto::lifecycle::Role;
use handfast_proto::text::passed;

use crate::arbiters::Arbiters;
use crate::audit::Handled;
use crate::connector::messages::StopAccepting;
use crate::miner::messages::StopMiner;
use crate::peer_manager::messages::{Drain, StopPeers};
use crate::post::{ask, ask_of};
use crate::shared::Shared;
use crate::subscribers::{StopSubscriber, Subscribers};
use crate::wiring::Running;

/// For answers of actors, which have at most their bounded mailbox to handle first.
const ANSWER: Duration = Duration::from_secs(5);
/// For connections to end and every Done to be handled.
const CONNECTIONS: Duration = Duration::from_secs(10);
/// For the block in progress and the flush. The databases of a full main network
/// node on a slow disk take minutes; what is cut off is downloaded again.
const KERNEL: Duration = Duration::from_secs(600);
/// For the step that an index is at, and for its database to close.
const INDEXES: Duration = Duration::from_secs(60);
/// For small files.
const FILES: Duration = Duration::from_secs(10);
/// For threads whose work is over.
const THREADS: Duration = Duration::from_secs(5);

/// Waits for one phase until its deadline, and says who is late.
async fn phase<T>(
    name: &'static str,
    deadline: Duration,
    work: impl Future<Output = T>,
) -> Option<T> {
    let began = tokio::time::Instant::now();
    let done = tokio::time::timeout(deadline, work).await.ok();
    match &done {
        Some(_) => {
            tracing::debug!(phase = name, took = %format_args!("{:.1?}", began.elapsed()), "shutdown phase over")
        }
        None => tracing::warn!(
            phase = name,
            deadline = %passed(deadline),
            "a shutdown phase timed out; continuing without it"
        ),
    }
    done
}

/// Stops everything, in order. RPC refuses writes since the phase was published.
///
/// # Errors
/// What could not be ended as it should, in one line.
pub(crate) async fn run(
    running: Running,
    arbiters: Arbiters,
    shared: Arc<Shared>,
) -> Result<(), String> {
    let Running {
        listener,
        connector,
        peers,
        subscribers,
        miner,
        chain,
        indexers,
    } = running;
    let mut failures = Vec::new();

    // Over at once when it died before, which was reported then.
    phase("miner", ANSWER, ask(&miner, StopMiner)).await;

    phase("intake", ANSWER, async {
        let _ = tokio::join!(
            ask(&listener, StopAccepting),
            ask(&connector, StopAccepting)
        );
    })
    .await;
    phase("drain", ANSWER, ask(&peers, Drain)).await;
    let slots_free = phase("connections", CONNECTIONS, shared.slots.all_free())
        .await
        .is_some();
    if !slots_free {
        failures.push(format!(
            "connections did not end: {:?}",
            shared.slots.counts()
        ));
    }
    let answers = phase("managers", ANSWER, async {
        let peers = ask(&peers, StopPeers { slots_free }).await;
        let subscribers = stop(&subscribers, slots_free).await;
        peers.ok().zip(subscribers)
    });
    let answers = answers.await.flatten();
    match &answers {
        Some(((_, peers), subscribers)) if slots_free => {
            let opened = shared.slots.counts().opened;
            failures.extend(settle(opened, *peers, subscribers).err());
        }
        Some(_) => {}
        None => failures.push("a manager did not end as it should".into()),
    }
    let rows = answers.map(|((rows, _), _)| rows);
    // Before the kernel: they read blocks. They heard of the stop with the phase, and one that
    // panicked has been reported.
    let join = move || indexers.into_iter().for_each(|it| drop(it.join()));
    phase("indexes", INDEXES, off_thread(join)).await;
    match phase("kernel", KERNEL, off_thread(move || close(chain))).await {
        Some(Ok(Ok(()))) => {}
        Some(Ok(Err(failure)) | Err(failure)) => failures.push(failure),
        None => failures.push("the kernel did not close in time".into()),
    }
    if let Some(rows) = rows {
        let addresses = shared.clone();
        let work = move || addresses.state.addresses.save(|| rows);
        failures.extend(save("state", "peers.dat", work).await);
    }
    let mined = shared.clone();
    failures.extend(save("mined", "mining.dat", move || mined.save_mined()).await);
    let bans = shared.clone();
    failures.extend(save("bans", "bans.dat", move || bans.save_bans()).await);
    match phase("threads", THREADS, off_thread(move || arbiters.join())).await {
        Some(Ok(panicked)) if panicked.is_empty() => {}
        late => failures.push(format!("threads did not end as they should: {late:?}")),
    }
    if failures.is_empty() {
        Ok(())
    } else {
        Err(failures.join("; "))
    }
}

/// One state file, in a phase of its own; the failure, in one line.
async fn save(
    name: &'static str,
    file: &str,
    work: impl FnOnce() -> io::Result<()> + Send + 'static,
) -> Option<String> {
    match phase(name, FILES, off_thread(work)).await? {
        Ok(Ok(())) => None,
        Ok(Err(error)) => Some(format!("cannot save {file}: {error}")),
        Err(panicked) => Some(format!("cannot save {file}: {panicked}")),
    }
}

/// Stops every subscriber, also after one that does not answer. What each has handled.
async fn stop(subscribers: &Subscribers, slots_free: bool) -> Option<Vec<(Role, Handled)>> {
    let mut all = Vec::new();
    for subscriber in subscribers.iter() {
        let answer = ask_of(subscriber.stop(), StopSubscriber { slots_free }).await;
        all.push(answer.ok().map(|handled| (subscriber.role(), handled)));
    }
    all.into_iter().collect()
}

async fn off_thread<T: Send + 'static>(
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, String> {
    tokio::task::spawn_blocking(work)
        .await
        .map_err(|error| error.to_string())
}

/// Draws the line under all connections: each had its Done handled, and each that a
/// subscriber was notified of ended there too.
///
/// # Errors
/// The figures do not add up (L2, L3): our own bug.
fn settle(connections: u64, peers: Handled, subscribers: &[(Role, Handled)]) -> Result<(), String> {
    let is_open = |(_, handled): &(Role, Handled)| handled.adds != handled.dones;
    if peers.dones != connections || subscribers.iter().any(is_open) {
        let told = |(role, handled): &(Role, Handled)| {
            format!(", {role} {} and {}", handled.adds, handled.dones)
        };
        return Err(format!(
            "L2: of {connections} connections PeerManager handled {} Adds and {} Dones{}",
            peers.adds,
            peers.dones,
            subscribers.iter().map(told).collect::<String>()
        ));
    }
    let told = |(role, handled): &(Role, Handled)| {
        let (name, Handled { adds, dones }) = (role.name(), handled);
        format!(" {name}_adds={adds} {name}_dones={dones}")
    };
    tracing::debug!(
        connections,
        adds = peers.adds,
        dones = peers.dones,
        "every connection ended{}",
        subscribers.iter().map(told).collect::<String>()
    );
    tracing::info!("stopping: no connection is left, of {connections} since the start");
    Ok(())
}

/// Interrupts validation, flushes and closes. SyncManager has let go of the
/// kernel with its last answer; a manager that is late still holds it, and then
/// the databases are left as the last flush left them.
fn close(chain: Arc<Chain>) -> Result<(), String> {
    chain.interrupt();
    let chain =
        Arc::try_unwrap(chain).map_err(|_| "SyncManager still holds the kernel".to_owned())?;
    chain.close().map_err(|error| error.to_string())
}
