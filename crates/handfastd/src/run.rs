//! The node's main function: start, run, stop.
//!
//! # Ordering
//! All checks that can fail run before anything is written: settings, the data directory, P2P
//! ports, RPC ports and socket path, then the lock of the data directory, and only then cookie,
//! socket file and log.

use std::process::ExitCode;
use std::sync::Arc;

use handfast_cli::add_config_file;
use handfast_cli::output::{keep_files_private, print_error};
use handfast_cli::signals::{SignalAction, Signals};
use handfast_cli::usage::Options;
use handfast_node::{ExitReason, Node, NodeConfig, NodeHandle};
use handfast_rpc::{Controls, Listeners, RpcConfig, Server};

use crate::logging::Log;
use crate::own_fuzzer::OwnFuzzer;
use crate::progress;
use crate::settings::{self, RunError, RunSettings};

/// Descriptors for RPC connections, if the hard limit on open files allows it: 10,000 open
/// connections, half of them over TCP, and those being accepted.
const RPC_DESCRIPTORS: u64 = 12_288;
/// Exit code after a second signal: 128 and SIGINT's number, as shells have it.
const INTERRUPTED: i32 = 130;

/// Runs a node until it stops.
pub(crate) fn run(mut options: Options) -> Result<ExitCode, String> {
    let read = |options: &mut Options| {
        add_config_file(&mut options.layers, options.config.as_deref())?;
        settings::run_settings(&options.layers)
    };
    let settings = read(&mut options).map_err(|error: RunError| error.to_string())?;
    keep_files_private();
    actix_rt::System::new().block_on(run_node(settings))
}

async fn run_node(settings: RunSettings) -> Result<ExitCode, String> {
    // First: a SIGHUP while the chain is being opened does not end the process either.
    let mut signals = Signals::new()?;
    let log = Log::start(&settings.log);
    let place = &settings.place;
    let bound = Node::bind(node_config(&settings)).map_err(|error| error.to_string())?;
    let listeners = Listeners::bind(RpcConfig {
        listen: place.rpc_listen.clone(),
        socket: Some(place.rpc_socket.clone()),
        cookie: place.cookie.clone(),
        access: settings.rpc.access.clone(),
        rest: settings.rpc.rest,
        max_calls: settings.rpc.max_calls,
        max_connections: usize::try_from(bound.other_descriptors()).unwrap_or(usize::MAX),
    });
    let listeners = listeners.map_err(|error| error.to_string())?;
    let peers_at = bound.addresses();
    let node = bound.start().map_err(|error| error.to_string())?;

    let log_file = place.network_dir.join("handfast.log");
    let opened = log
        .add_file(&log_file)
        .map_err(|error| format!("cannot write the log {}: {error}", log_file.display()));
    let fuzzer = OwnFuzzer::new(
        node.clone(),
        place.network.clone(),
        &peers_at,
        place.rpc_socket.clone(),
        settings.handshake_timeout,
    );
    let controls = Controls {
        log: Some(Arc::new(log.clone())),
        fuzzer: Some(Arc::new(fuzzer)),
    };
    tracing::info!(
        version = env!("CARGO_PKG_VERSION"),
        network = place.network.name(),
        directory = %place.network_dir.display(),
        listen = ?peers_at,
        "Handfast starts"
    );
    let server = opened.and_then(|()| {
        Server::start(listeners, node.clone(), controls).map_err(|error| error.to_string())
    });
    let server = match server {
        Ok(server) => server,
        Err(line) => {
            node.shutdown("the RPC server did not start");
            node.stopped().await;
            return Err(line);
        }
    };
    let progress = actix_rt::spawn(progress::report(node.clone(), log.clone()));
    let reason = until_stopped(&node, &mut signals, &log).await;
    progress.abort();
    log.set_bar(None);
    server.stop().await;
    if let ExitReason::Failed(why) = &reason {
        print_error(&format!(
            "the node stopped: {why}; see the log {}",
            log_file.display()
        ));
    }
    Ok(ExitCode::from(reason.exit_code()))
}

fn node_config(settings: &RunSettings) -> NodeConfig {
    let mut config = NodeConfig::new(
        settings.place.network.clone(),
        settings.place.network_dir.clone(),
    );
    config.listen = settings.listen.clone();
    config.external = settings.external.clone();
    config.discover = settings.discover;
    config.connect = settings.connect.clone();
    config.add_nodes = settings.add_nodes.clone();
    config.dial = settings.dial;
    config.max_inbound = settings.max_inbound;
    config.backlog = settings.backlog;
    config.other_descriptors = RPC_DESCRIPTORS;
    config.handshake_timeout = settings.handshake_timeout;
    config.user_agent = settings.user_agent.clone();
    config.minimum_work = settings.minimum_work;
    config.mining = settings.mining.clone();
    config.indexes = settings.indexes.clone();
    config
}

/// Waits until the node stops. The first signal requests a clean stop; the second one ends the
/// process at once.
async fn until_stopped(node: &NodeHandle, signals: &mut Signals, log: &Log) -> ExitReason {
    let mut stopping = false;
    loop {
        let action = tokio::select! {
            reason = node.stopped() => return reason,
            action = signals.next() => action,
        };
        match action {
            SignalAction::Reopen => reopen(log),
            SignalAction::Stop(name) if stopping => {
                tracing::warn!(
                    "{name} received again: exiting at once. Blocks that were not saved will be downloaded again"
                );
                std::process::exit(INTERRUPTED);
            }
            SignalAction::Stop(name) => {
                stopping = true;
                tracing::info!("{name} received: stopping; a second one stops at once");
                node.shutdown(name);
            }
        }
    }
}

fn reopen(log: &Log) {
    match log.reopen() {
        Ok(()) => tracing::info!("SIGHUP received: the log file is reopened"),
        Err(why) => tracing::warn!(
            "SIGHUP received, but the log file cannot be reopened; logging continues in the old one: {why}"
        ),
    }
}
