//! `handfast testnet`: three nodes of this program in a line, on a regtest of their own,
//! to watch a chain grow.
//!
//! The first node mines; the second is connected to it, and the third to the second. They
//! listen on ports of loopback that the system chooses, and are reached through their Unix
//! sockets, so nothing here meets a node that somebody else runs. When it ends, so do they,
//! and nobody else; and their directory goes, unless the user named it.

mod bond;
mod node;
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

/// The command.
pub(crate) const NAME: &str = "testnet";
/// How many nodes.
const NODES: usize = 3;
/// How often they are asked.
const REFRESH: Duration = Duration::from_secs(1);
/// Time for a node to write its chain and end, before it is ended.
const PATIENCE: Duration = Duration::from_secs(60);

/// What the user wants.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Wishes {
    /// Where the nodes keep their files. `None`: where nobody finds them afterwards.
    pub(crate) datadir: Option<PathBuf>,
    /// From one block to the next, seconds.
    pub(crate) mine_interval: f64,
}

/// Runs the nodes until a signal comes, or one of them ends by itself.
pub(crate) fn run(wishes: &Wishes) -> Result<ExitCode, String> {
    keep_files_private();
    let home = Home::new(wishes.datadir.as_deref())?;
    client::block_on(run_in(home.path(), wishes))??;
    home.leave()?;
    Ok(ExitCode::SUCCESS)
}

async fn run_in(home: &Path, wishes: &Wishes) -> Result<(), String> {
    let mut signals = Signals::new()?;
    let mut nodes = Vec::with_capacity(NODES);
    let outcome = tokio::select! {
        failure = live(home, wishes, &mut nodes) => Err(failure),
        // The nodes go on when their terminal is closed, as one of `handfast run` does.
        name = signals.stop() => {
            print_note(&format!("{name}: ending the nodes; a second SIGINT or SIGTERM ends them at once"));
            Ok(())
        }
    };
    let ended = end(nodes, &mut signals).await;
    outcome.and(ended)
}

/// Starts the nodes and shows how they are, without end: what it returns is why it cannot.
async fn live(home: &Path, wishes: &Wishes, nodes: &mut Vec<Node>) -> String {
    match start(home, wishes, nodes).await {
        Ok(()) => {}
        Err(failure) => return failure,
    }
    print(&format!(
        "{NODES} regtest nodes in a line; node 1 mines a block every {}s. Ctrl-C ends them.\n\
         Ask one: handfast rpc --network regtest --datadir {} getblockchaininfo\n\n",
        wishes.mine_interval,
        quoted(nodes[0].datadir())
    ));
    let mut table = Table::new();
    let mut ticks = interval(REFRESH);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        let mut rows = Vec::with_capacity(NODES);
        for node in &mut *nodes {
            if let Err(failure) = node.lives() {
                return failure;
            }
            let answers = node.status().await;
            rows.push(answers.map_or(Row::Silent, |answers| Row::of(&answers)));
        }
        table.show(&rows);
    }
}

/// Starts one after the other, since each has to know where the one before it listens.
async fn start(home: &Path, wishes: &Wishes, nodes: &mut Vec<Node>) -> Result<(), String> {
    for number in 1..=NODES {
        let role: Vec<String> = match nodes.last() {
            None => {
                let seconds = wishes.mine_interval.to_string();
                ["--no-dial", "--mine", "--mine-interval", &seconds]
                    .map(str::to_owned)
                    .into()
            }
            Some(before) => vec!["--connect".into(), before.peer_address().into()],
        };
        let node = Node::spawn(home, number, &role)?;
        // From here on it is ended with the others.
        nodes.push(node);
        let node = nodes.last_mut().expect("it was just put there");
        node.becomes_ready().await?;
    }
    Ok(())
}

/// Asks all nodes to end, and waits until they have. A signal, or too long a wait, and those
/// that are left are ended without being asked.
async fn end(mut nodes: Vec<Node>, signals: &mut Signals) -> Result<(), String> {
    for node in &nodes {
        node.ask_to_end();
    }
    let all_ended = async {
        let mut outcome = Ok(());
        for node in &mut nodes {
            outcome = outcome.and(node.ended().await);
        }
        outcome
    };
    let in_time = tokio::select! {
        outcome = timeout(PATIENCE, all_ended) => outcome.ok(),
        _ = signals.stop() => None,
    };
    if let Some(outcome) = in_time {
        return outcome;
    }
    for node in &mut nodes {
        node.kill().await;
    }
    Err("the nodes did not end by themselves, and were ended".into())
}

/// Where the nodes keep their files.
struct Home {
    path: PathBuf,
    /// Removed with what is in it.
    temporary: Option<TempDir>,
}

impl Home {
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
