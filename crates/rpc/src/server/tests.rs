//! A server on a real node, whose listening sockets are lost.

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

use handfast_node::self_probe::Health;
use handfast_node::{ListeningSocketInfo, Network, Node, NodeConfig, NodeHandle, Phase};
use socket2::SockRef;

use super::*;

const TIMEOUT: Duration = Duration::from_secs(60);

pub(super) async fn until(what: &str, condition: impl Fn() -> bool) {
    let wait = async {
        while !condition() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    let waited = tokio::time::timeout(TIMEOUT, wait).await;
    waited.unwrap_or_else(|_| panic!("timed out waiting: {what}"));
}

fn node(dir: &Path) -> NodeHandle {
    let mut config = NodeConfig::new(Network::Regtest, dir.to_owned());
    config.dial = false;
    Node::start(config).expect("a fresh directory")
}

pub(super) fn config(dir: &Path) -> RpcConfig {
    RpcConfig {
        listen: vec![SocketAddr::from(([127, 0, 0, 1], 0))],
        ..crate::sockets::tests::config(dir)
    }
}

/// A running node, and the context of its server's workers.
pub(super) struct TestNode {
    node: NodeHandle,
    dir: tempfile::TempDir,
}

pub(super) async fn test_node() -> TestNode {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let node = node(dir.path());
    until("the node runs", || node.phase() == Phase::Running).await;
    TestNode { node, dir }
}

impl TestNode {
    pub(super) fn context(&self) -> Context {
        let config = config(self.dir());
        let controls = Controls::default();
        let context = Context::new(&config, "secret", self.node.clone(), controls);
        context.expect("a thread")
    }

    pub(super) fn dir(&self) -> &Path {
        self.dir.path()
    }

    pub(super) async fn end(self) {
        self.node.shutdown("the test is over");
        self.node.stopped().await;
    }
}

fn sockets(node: &NodeHandle) -> Vec<ListeningSocketInfo> {
    let all = node.listening_sockets().all();
    let of_rpc = all.iter().filter(|listening| listening.name() == "rpc");
    of_rpc.map(|listening| listening.info()).collect()
}

pub(super) fn healthy(stream: io::Result<impl Read + Write>) -> bool {
    let Ok(mut stream) = stream else { return false };
    let request = b"GET /health HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n";
    let mut answer = String::new();
    let exchanged = stream
        .write_all(request)
        .and_then(|()| stream.read_to_string(&mut answer));
    exchanged.is_ok() && answer.starts_with("HTTP/1.1 200") && answer.ends_with("running\n")
}

/// Both sockets answer.
async fn answers(addr: SocketAddr, socket: std::path::PathBuf) -> bool {
    let ask = move || healthy(TcpStream::connect(addr)) && healthy(UnixStream::connect(socket));
    tokio::task::spawn_blocking(ask).await.expect("no panic")
}

/// A directory whose chain cannot be opened: the start fails after the RPC server runs.
fn with_a_damaged_chain() -> tempfile::TempDir {
    let dir = tempfile::tempdir().expect("a temporary directory");
    actix_rt::System::new().block_on(async {
        let node = node(dir.path());
        until("the node runs", || node.phase() == Phase::Running).await;
        node.shutdown("its files are to be damaged");
        node.stopped().await;
    });
    for database in ["blocks/index", "chainstate"] {
        let current = dir.path().join(database).join("CURRENT");
        std::fs::write(&current, "damaged").expect("it is there");
    }
    dir
}

#[test]
fn a_failed_start_is_never_reported_as_a_chain_without_blocks() {
    let dir = with_a_damaged_chain();
    actix_rt::System::new().block_on(async {
        let node = node(dir.path());
        let reason = node.stopped().await;
        assert!(
            matches!(reason, handfast_node::ExitReason::Failed(_)),
            "{reason:?}"
        );
        // What the server answers until the process ends.
        let methods = Methods::new(node.clone(), Controls::default());
        let depend = crate::methods::all().filter(|method| method.needs_chain);
        let mut count = 0;
        for method in depend {
            let params = crate::jsonrpc::Params::Positional(Vec::new());
            let error = methods.run(method, params).await.expect_err(method.name);
            assert_eq!(error.code, crate::jsonrpc::code::IN_WARMUP, "{error}");
            assert!(error.message.contains("failed"), "{error}");
            count += 1;
        }
        assert!(count > 20, "{count}");
        let page = RpcMetrics::default().page(&node, 0).await;
        for absent in [
            "handfast_blocks ",
            "handfast_headers ",
            "handfast_progress ",
        ] {
            assert!(!page.contains(&format!("\n{absent}")), "{absent}");
        }
        assert!(
            page.contains("handfast_phase{phase=\"stopping\"} 1"),
            "{page}"
        );
    });
}

#[test]
fn lost_listening_sockets_are_noticed_and_bound_again() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    actix_rt::System::new().block_on(async {
        let node = node(dir.path());
        until("the node runs", || node.phase() == Phase::Running).await;
        let listeners = Listeners::bind(config(dir.path())).expect("free addresses");
        let taken = listeners.tcp[0].try_clone().expect("a descriptor is left");
        let server =
            Server::start(listeners, node.clone(), Controls::default()).expect("it starts");
        let (addr, path) = (server.addresses()[0], dir.path().join("node.sock"));

        until("both were probed", || {
            sockets(&node).len() == 2
                && sockets(&node)
                    .iter()
                    .all(|it| it.probe.health == Health::Accepting)
        })
        .await;
        assert!(answers(addr, path.clone()).await);

        SockRef::from(&taken)
            .shutdown(Shutdown::Both)
            .expect("it listens");
        drop(taken);
        assert!(!answers(addr, path.clone()).await, "it is gone");
        for listening in node.listening_sockets().all() {
            // Else the next probe came after half a minute.
            listening.suspect();
        }
        until("it was bound again and probed", || {
            let tcp = &sockets(&node)[0].probe;
            tcp.recreated == 1 && tcp.health == Health::Accepting
        })
        .await;
        assert!(answers(addr, path.clone()).await, "at the same addresses");

        node.shutdown("the test is over");
        node.stopped().await;
        server.stop().await;
        assert!(!path.exists(), "the new socket goes with the server");
    });
}
