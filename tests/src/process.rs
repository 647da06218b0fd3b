//! Whole nodes as child processes: `handfast` and `bitcoind`, alike but for their
//! command lines, since both answer the same RPC.
//!
//! Every node has a data directory and loopback ports of its own and dials nobody
//! it was not told to. It is killed, by its own process id, when dropped.

mod node;

use std::fs::File;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicU16, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Instant;

use bitcoin::hex::DisplayHex;
use handfast_wire::Network;
use tempfile::TempDir;

pub use node::Node;

use crate::data;
use crate::rpc::{Endpoint, Rpc};

/// A signet of our own whose challenge is `OP_TRUE`.
pub fn op_true_signet() -> Network {
    Network::CustomSignet {
        challenge: vec![0x51],
    }
}

/// Which program a node is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Program {
    /// Ours: the command, which becomes `handfastd`, beside it, for `run`.
    Handfast,
    /// Bitcoin Core's, built by `scripts/bitcoind`.
    Bitcoind,
}

impl Program {
    /// Its executable.
    ///
    /// # Panics
    /// If it is not there, with what to do.
    pub fn path(self) -> PathBuf {
        static BITCOIND: OnceLock<PathBuf> = OnceLock::new();
        let path = match self {
            Self::Handfast => {
                std::env::var_os("HANDFAST_BIN").map_or_else(built_by_cargo, PathBuf::from)
            }
            Self::Bitcoind => BITCOIND.get_or_init(built_by_script).clone(),
        };
        let node = (self == Self::Handfast).then(|| path.with_file_name("handfastd"));
        for needed in node.iter().chain([&path]) {
            assert!(
                needed.is_file(),
                "{} is not there; run: make build",
                needed.display()
            );
        }
        path
    }
}

/// `handfast` where cargo puts it, seen from this executable.
fn built_by_cargo() -> PathBuf {
    let own = std::env::current_exe().expect("a process knows its executable");
    let dir = own.parent().expect("an executable lies in a directory");
    // Tests lie one level below programs.
    let release = if dir.ends_with("deps") {
        dir.parent().expect("deps has a parent")
    } else {
        dir
    };
    release.join("handfast")
}

/// `bitcoind` out of the cache, built now if it is not there.
fn built_by_script() -> PathBuf {
    let script = data::workspace_root().join("scripts/bitcoind");
    let output = Command::new(script)
        .arg("--path")
        .stderr(Stdio::inherit())
        .output()
        .expect("the script runs");
    assert!(output.status.success(), "scripts/bitcoind failed");
    let path = String::from_utf8(output.stdout).expect("a path in UTF-8");
    PathBuf::from(path.trim_end()).join("bitcoind")
}

/// How a node is to be started. Cloned and started again, it is the same node:
/// same data directory, new ports.
#[derive(Clone, Debug)]
pub struct Setup {
    program: Program,
    network: Network,
    datadir: Arc<TempDir>,
    connect: Vec<SocketAddr>,
    dials: bool,
    args: Vec<String>,
    open_files: Option<(u64, u64)>,
    environment: Vec<(&'static str, PathBuf)>,
    disk: Option<u32>,
}

impl Setup {
    /// A fresh node that knows only the genesis block.
    pub fn new(program: Program, network: Network) -> Self {
        let datadir = tempfile::Builder::new()
            .prefix("handfast-test-")
            .tempdir()
            .expect("a temporary directory");
        Self {
            program,
            network,
            datadir: Arc::new(datadir),
            connect: vec![],
            dials: false,
            args: vec![],
            open_files: None,
            environment: vec![],
            disk: None,
        }
    }

    /// Our node on `network`.
    pub fn handfast(network: Network) -> Self {
        Self::new(Program::Handfast, network)
    }

    /// Bitcoin Core on `network`.
    pub fn bitcoind(network: Network) -> Self {
        Self::new(Program::Bitcoind, network)
    }

    /// Also connects to `peer`, and keeps trying.
    pub fn connect(mut self, peer: SocketAddr) -> Self {
        self.connect.push(peer);
        self
    }

    /// Dials peers of its own choice. On regtest, which has no seeds, it finds those that
    /// `addpeeraddress` names.
    pub fn dialling(mut self) -> Self {
        self.dials = true;
        self
    }

    /// Connects to nobody, whatever was said before.
    pub fn alone(mut self) -> Self {
        self.connect.clear();
        self
    }

    /// One more argument, in the program's own style.
    pub fn arg(mut self, arg: impl Into<String>) -> Self {
        self.args.push(arg.into());
        self
    }

    /// With these limits on open files, soft and hard.
    pub fn open_files(mut self, soft: u64, hard: u64) -> Self {
        self.open_files = Some((soft, hard));
        self
    }

    /// With these variables in its environment.
    pub fn environment(
        mut self,
        variables: impl IntoIterator<Item = (&'static str, PathBuf)>,
    ) -> Self {
        self.environment.extend(variables);
        self
    }

    /// With its data directory on a file system of its own, of so many MiB, that is gone
    /// with the process. What is in it is found by [`Node::inside`].
    ///
    /// `None`, with a word about it, where a user may not mount in a name space of his own.
    pub fn on_a_disk_of(mut self, mebibytes: u32) -> Option<Self> {
        let allowed = Command::new("unshare")
            .args(["--map-root-user", "--mount", "true"])
            .stderr(Stdio::null())
            .status()
            .is_ok_and(|status| status.success());
        if !allowed {
            crate::skipped("unshare --map-root-user --mount is not allowed here");
        }
        self.disk = Some(mebibytes);
        allowed.then_some(self)
    }

    /// Where it keeps its files.
    pub fn datadir(&self) -> &Path {
        self.datadir.path()
    }

    /// Where it keeps the files of its network.
    pub fn network_dir(&self) -> PathBuf {
        self.datadir().join(match (self.program, &self.network) {
            (Program::Handfast, network) => network.directory(),
            (Program::Bitcoind, Network::Mainnet) => String::new(),
            (Program::Bitcoind, network) => network.name().to_owned(),
        })
    }

    /// The program.
    pub fn program(&self) -> Program {
        self.program
    }

    /// Its network.
    pub fn network(&self) -> &Network {
        &self.network
    }

    /// Starts the process and does not wait for it.
    ///
    /// # Panics
    /// If it cannot be started.
    pub fn spawn(&self) -> Node {
        // A cookie left by a killed node would be taken for the new one's.
        let _ = std::fs::remove_file(self.cookie());
        self.spawn_beside()
    }

    fn cookie(&self) -> PathBuf {
        self.network_dir().join(".cookie")
    }

    /// The same, while a node may be running in the same directory.
    ///
    /// # Panics
    /// If it cannot be started.
    pub fn spawn_beside(&self) -> Node {
        let p2p = free_address();
        let rpc = free_address();
        let log = self.datadir().join("output.log");
        let output = File::options()
            .create(true)
            .append(true)
            .open(&log)
            .expect("the log can be written");
        let started = Instant::now();
        let child = self
            .command()
            .args(self.command_line(p2p, rpc))
            .stdin(Stdio::null())
            .stdout(output.try_clone().expect("a file can be duplicated"))
            .stderr(output)
            .envs(self.environment.iter().cloned())
            .spawn()
            .expect("the program starts");
        let cookie = match self.disk {
            None => self.cookie(),
            Some(_) => inside(child.id(), &self.cookie()),
        };
        Node {
            setup: self.clone(),
            child,
            p2p,
            rpc: Rpc::new(Endpoint::Tcp(rpc), cookie),
            log,
            started,
        }
    }

    /// Starts it and waits until it answers RPC.
    ///
    /// # Panics
    /// If it ends or stays silent.
    pub fn start(&self) -> Node {
        let mut node = self.spawn();
        node.wait_until_ready();
        node
    }

    /// The program, through a shell when it is to start with other limits than ours, or
    /// with another view of the file system.
    fn command(&self) -> Command {
        let program = self.program.path();
        if let Some(mebibytes) = self.disk {
            let mut unshare = Command::new("unshare");
            let script = format!(
                "mount -t tmpfs -o size={mebibytes}m tmpfs '{}' && exec \"$0\" \"$@\"",
                self.datadir().display()
            );
            unshare.args(["--map-root-user", "--mount", "sh", "-c", &script]);
            unshare.arg(program);
            return unshare;
        }
        let Some((soft, hard)) = self.open_files else {
            return Command::new(program);
        };
        let mut shell = Command::new("sh");
        let script = format!("ulimit -Sn {soft} && ulimit -Hn {hard} && exec \"$0\" \"$@\"");
        shell.arg("-c").arg(script).arg(program);
        shell
    }

    fn command_line(&self, p2p: SocketAddr, rpc: SocketAddr) -> Vec<String> {
        let mut args = match self.program {
            Program::Handfast => self.handfast_args(p2p, rpc),
            Program::Bitcoind => self.bitcoind_args(p2p, rpc),
        };
        args.extend(self.args.iter().cloned());
        args
    }

    fn handfast_args(&self, p2p: SocketAddr, rpc: SocketAddr) -> Vec<String> {
        let mut args = vec![
            "run".to_owned(),
            "--datadir".to_owned(),
            self.datadir().display().to_string(),
        ];
        let mut option = |name: &str, value: String| args.extend([name.to_owned(), value]);
        option("--network", self.network.name().to_owned());
        if let Network::CustomSignet { challenge } = &self.network {
            option("--signet-challenge", challenge.to_lower_hex_string());
        }
        if self.network == Network::Mainnet
            && !self.args.iter().any(|arg| arg == "--minimum-chain-work")
        {
            // The mainnet chain of the tests is 255 blocks long: far from its minimum work.
            option("--minimum-chain-work", "00".to_owned());
        }
        option("--listen", p2p.to_string());
        option("--rpc-listen", rpc.to_string());
        for peer in &self.connect {
            option("--connect", peer.to_string());
        }
        if self.connect.is_empty() && !self.dials {
            args.push("--no-dial".to_owned());
        }
        args
    }

    fn bitcoind_args(&self, p2p: SocketAddr, rpc: SocketAddr) -> Vec<String> {
        let mut args = vec![format!("-chain={}", self.network.core_chain_name())];
        if let Network::CustomSignet { challenge } = &self.network {
            args.push(format!(
                "-signetchallenge={}",
                challenge.to_lower_hex_string()
            ));
        }
        if self.network == Network::Mainnet {
            args.push("-minimumchainwork=00".into());
        }
        // No seed, no map service, no onion or I2P service: loopback and nothing else.
        for arg in [
            "-server=1",
            "-listen=1",
            "-dnsseed=0",
            "-fixedseeds=0",
            "-discover=0",
            "-natpmp=0",
            "-listenonion=0",
            "-i2pacceptincoming=0",
            "-rpcallowip=127.0.0.1",
            "-assumevalid=0",
        ] {
            args.push(arg.into());
        }
        args.push(format!("-datadir={}", self.datadir().display()));
        args.push(format!("-bind={p2p}"));
        args.push(format!("-rpcbind={rpc}"));
        args.push(format!("-rpcport={}", rpc.port()));
        match self.connect.as_slice() {
            [] if self.dials => {}
            [] => args.push("-connect=0".into()),
            peers => args.extend(peers.iter().map(|peer| format!("-connect={peer}"))),
        }
        args
    }
}

/// A file as the process sees it.
fn inside(process: u32, path: &Path) -> PathBuf {
    let relative = path.strip_prefix("/").expect("an absolute path");
    PathBuf::from(format!("/proc/{process}/root")).join(relative)
}

/// A loopback address that nobody listens on.
///
/// From below the range that the system hands out to outgoing connections, so that
/// none of those takes it before the node binds it.
pub fn free_address() -> SocketAddr {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    const FIRST: u16 = 11_000;
    const COUNT: u16 = 20_000;
    let offset =
        u16::try_from(std::process::id() * 97 % u32::from(COUNT)).expect("less than COUNT");
    for _ in 0..COUNT {
        let step = NEXT.fetch_add(1, Ordering::Relaxed);
        let port = FIRST + (offset + step % COUNT) % COUNT;
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        if TcpListener::bind(address).is_ok() {
            return address;
        }
    }
    panic!("no free port on loopback");
}
