//! `handfast testnet`: three nodes in a line on a private regtest.
//!
//! The first node mines; the second connects to it, and the third to the second. They listen on
//! loopback ports that the system assigns, and are called over their Unix sockets, so they never
//! meet other nodes. They stop with this process, and their directory is removed, unless the user
//! gave it.

mod node;
mod parent_death;
mod table;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use handfast_cli::output::{keep_files_private, print, print_note};
use handfast_cli::signals::Signals;
use handfast_disk::quoted;
use tempfile::TempDir;
use tokio::time::{MissedTickBehavior, interval, timeout};

use crate::client;
use node::Node;
use table::{Row, Table};

/// The name of the subcommand.
pub(crate) const NAME: &str = "testnet";
/// The number of nodes.
const NODES: usize = 3;
/// Interval of calls to them.
const REFRESH: Duration = Duration::from_secs(1);
/// Time for a node to stop before it is killed.
const STOP_TIMEOUT: Duration = Duration::from_secs(60);

/// The options of the subcommand.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct TestnetOptions {
    /// The nodes' directory. `None`: a temporary one.
    pub(crate) datadir: Option<PathBuf>,
    /// Interval between blocks, seconds.
    pub(crate) mine_interval: f64,
}

/// Runs the nodes until a signal arrives, or one of them exits.
pub(crate) fn run(options: &TestnetOptions) -> Result<ExitCode, String> {
    keep_files_private();
    let dir = TestnetDir::new(options.datadir.as_deref())?;
    client::block_on(run_in(dir.path(), options))??;
    dir.leave()?;
    Ok(ExitCode::SUCCESS)
}

async fn run_in(dir: &Path, options: &TestnetOptions) -> Result<(), String> {
    let mut signals = Signals::new()?;
    let mut nodes = Vec::with_capacity(NODES);
    let outcome = tokio::select! {
        failure = live(dir, options, &mut nodes) => Err(failure),
        // The nodes go on when the terminal is closed, as after `handfast run`.
        name = signals.stop() => {
            print_note(&format!("{name}: stopping the nodes; a second SIGINT or SIGTERM kills them at once"));
            Ok(())
        }
    };
    let ended = end(nodes, &mut signals).await;
    outcome.and(ended)
}

/// Starts the nodes and shows their state; returns only an error.
async fn live(dir: &Path, options: &TestnetOptions, nodes: &mut Vec<Node>) -> String {
    match start(dir, options, nodes).await {
        Ok(()) => {}
        Err(failure) => return failure,
    }
    print(&format!(
        "{NODES} regtest nodes in a line; node 1 mines a block every {}s. Ctrl-C stops them.\n\
         Query one: handfast rpc --network regtest --datadir {} getblockchaininfo\n\n",
        options.mine_interval,
        quoted(nodes[0].datadir())
    ));
    let mut table = Table::new();
    let mut ticks = interval(REFRESH);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        let mut rows = Vec::with_capacity(NODES);
        for node in &mut *nodes {
            if let Err(failure) = node.check_running() {
                return failure;
            }
            let answers = node.status().await;
            rows.push(answers.map_or(Row::Silent, |answers| Row::of(&answers)));
        }
        table.show(&rows);
    }
}

/// Starts one after the other, since each needs the address of the one before.
async fn start(dir: &Path, options: &TestnetOptions, nodes: &mut Vec<Node>) -> Result<(), String> {
    for number in 1..=NODES {
        let role: Vec<String> = match nodes.last() {
            None => {
                let seconds = options.mine_interval.to_string();
                ["--no-dial", "--mine", "--mine-interval", &seconds]
                    .map(str::to_owned)
                    .into()
            }
            Some(before) => vec!["--connect".into(), before.peer_address().into()],
        };
        let node = Node::spawn(dir, number, &role)?;
        // From here on it is stopped with the others.
        nodes.push(node);
        let node = nodes.last_mut().expect("it was just put there");
        node.wait_ready().await?;
    }
    Ok(())
}

/// Stops all nodes and waits for them. After a signal, or a timeout, the rest is killed.
async fn end(mut nodes: Vec<Node>, signals: &mut Signals) -> Result<(), String> {
    for node in &nodes {
        node.terminate();
    }
    let all_ended = async {
        let mut outcome = Ok(());
        for node in &mut nodes {
            outcome = outcome.and(node.wait_exit().await);
        }
        outcome
    };
    let in_time = tokio::select! {
        outcome = timeout(STOP_TIMEOUT, all_ended) => outcome.ok(),
        _ = signals.stop() => None,
    };
    if let Some(outcome) = in_time {
        return outcome;
    }
    for node in &mut nodes {
        node.kill().await;
    }
    Err("the nodes did not stop in time and were killed".into())
}

/// The nodes' directory.
struct TestnetDir {
    path: PathBuf,
    /// Removed with its content.
    temporary: Option<TempDir>,
}

impl TestnetDir {
    fn new(named: Option<&Path>) -> Result<Self, String> {
        let Some(named) = named else {
            let temporary = tempfile::Builder::new()
                .prefix("handfast-testnet-")
                .tempdir()
                .map_err(|error| {
                    format!("no temporary directory: {error}; name one with --datadir")
                })?;
            return Ok(Self {
                path: temporary.path().to_owned(),
                temporary: Some(temporary),
            });
        };
        let nodes: Vec<String> = (1..=NODES).map(node::name).collect();
        let path = handfast_cli::testnet_dir(named, &nodes).map_err(|error| error.to_string())?;
        match fs::create_dir_all(&path) {
            Ok(()) => Ok(Self {
                path,
                temporary: None,
            }),
            Err(error) => Err(format!(
                "the directory {} cannot be made: {error}; choose another --datadir",
                path.display()
            )),
        }
    }

    fn path(&self) -> &Path {
        &self.path
    }

    fn leave(self) -> Result<(), String> {
        let path = self.path;
        self.temporary.map_or(Ok(()), |temporary| {
            temporary
                .close()
                .map_err(|error| format!("{} could not be removed: {error}", path.display()))
        })
    }
}
