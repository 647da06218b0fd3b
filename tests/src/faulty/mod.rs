//! Nodes with a fault on purpose, small and over real TCP, for the fuzzer to find.
//!
//! Each has one of the faults that Handfast grew from. They shake hands, answer pings, and
//! follow headers and blocks: enough for their trouble to be seen from outside.

mod manager;
mod peer;

use std::io::{BufRead, BufReader};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex, PoisonError, mpsc};
use std::thread;
use std::time::Duration;

use rustix::process::Pid;
use socket2::{Domain, Socket, Type};

use manager::{Event, Manager};

/// What is wrong with a node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// Nothing.
    None,
    /// A peer's beginning is told by a thread of its own and its end at once: the end can
    /// overtake the beginning, and the peer stays for ever. btcd before its pull request 2480.
    AddDoneRace,
    /// Sockets of peers that have gone are never closed.
    LeakedDescriptors,
    /// Five places in the accept queue, and a pause after each accept. Erlang's `gen_tcp`.
    ShortQueue,
    /// A table of sockets that nobody owns: after some connections the place of the
    /// listening socket is taken by one of them, and it is never looked at again.
    OverwrittenListener,
    /// It shakes hands, and never says another word.
    OnlyShakesHands,
    /// A block that does not hold what its header says makes the hash of the header invalid, for
    /// good.
    BlamesTheHash,
    /// It asks for the blocks of one branch at a time, and waits for ever for them.
    AsksOnce,
}

/// Places in the accept queue of a node that has thought about it.
const BACKLOG: i32 = 1_024;
/// Places in that of one that has not.
const SHORT_BACKLOG: i32 = 5;
/// How long such a node is busy with each connection before it takes the next.
const PAUSE: Duration = Duration::from_millis(100);
/// What the thread that tells of a peer does before, in such a node.
const LOOKS_AROUND: Duration = Duration::from_micros(50);
/// Connections after which the listening socket is lost.
const OVERWRITTEN_AFTER: u64 = 150;

impl Fault {
    /// All of them.
    pub const ALL: [Self; 8] = [
        Self::None,
        Self::AddDoneRace,
        Self::LeakedDescriptors,
        Self::ShortQueue,
        Self::OverwrittenListener,
        Self::OnlyShakesHands,
        Self::BlamesTheHash,
        Self::AsksOnce,
    ];

    /// What it is called on the command line of `faulty-node`.
    pub fn name(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::AddDoneRace => "add-done-race",
            Self::LeakedDescriptors => "leaked-descriptors",
            Self::ShortQueue => "short-queue",
            Self::OverwrittenListener => "overwritten-listener",
            Self::OnlyShakesHands => "only-shakes-hands",
            Self::BlamesTheHash => "blames-the-hash",
            Self::AsksOnce => "asks-once",
        }
    }
}

/// A running node, a process of its own. It ends when it is dropped.
#[derive(Debug)]
pub struct FaultyNode {
    address: SocketAddr,
    child: Child,
}

impl FaultyNode {
    /// Starts `program`, which is `faulty-node`, and waits until it listens.
    ///
    /// # Panics
    /// If it does not.
    pub fn start(program: &Path, fault: Fault) -> Self {
        let mut child = Command::new(program)
            .arg(fault.name())
            .stdout(Stdio::piped())
            .spawn()
            .expect("the program starts");
        let output = child.stdout.take().expect("it is piped");
        let mut line = String::new();
        BufReader::new(output)
            .read_line(&mut line)
            .expect("it says where it listens");
        let address = line.trim().parse().expect("an address");
        Self { address, child }
    }

    /// The number of its process.
    ///
    /// # Panics
    /// Never: a process that was started has one.
    pub fn id(&self) -> Pid {
        let id = i32::try_from(self.child.id()).ok().and_then(Pid::from_raw);
        id.expect("a process has a number")
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }
}

impl Drop for FaultyNode {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Is a node with this fault, and says on standard output where it listens, until it is
/// killed. Port 0: any that is free.
///
/// # Panics
/// If the port is taken, or loopback has none left.
pub fn serve(fault: Fault, port: u16) {
    let backlog = match fault {
        Fault::ShortQueue => SHORT_BACKLOG,
        _ => BACKLOG,
    };
    let listener = listen(port, backlog);
    println!("{}", listener.local_addr().expect("it is bound"));
    let node = Node {
        fault,
        manager: Manager::start(fault),
        leaked: Arc::default(),
    };
    node.accept(&listener);
}

fn listen(port: u16, backlog: i32) -> TcpListener {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).expect("a socket");
    // Connections of one who had the port before may still be in TIME_WAIT.
    socket.set_reuse_address(true).expect("a socket has it");
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
    socket.bind(&address.into()).expect("a port on loopback");
    socket.listen(backlog).expect("a bound socket listens");
    socket.into()
}

#[derive(Clone, Debug)]
struct Node {
    fault: Fault,
    manager: mpsc::Sender<Event>,
    leaked: Arc<Mutex<Vec<TcpStream>>>,
}

impl Node {
    fn accept(self, listener: &TcpListener) {
        for (id, stream) in (0..).zip(listener.incoming()) {
            let Ok(stream) = stream else { continue };
            let node = self.clone();
            thread::spawn(move || node.serve(id, &stream));
            if self.fault == Fault::ShortQueue {
                thread::park_timeout(PAUSE);
            }
            if self.fault == Fault::OverwrittenListener && id >= OVERWRITTEN_AFTER {
                loop {
                    thread::park();
                }
            }
        }
    }

    fn serve(&self, id: u64, stream: &TcpStream) {
        if self.fault == Fault::LeakedDescriptors
            && let Ok(copy) = stream.try_clone()
        {
            let mut leaked = self.leaked.lock().unwrap_or_else(PoisonError::into_inner);
            leaked.push(copy);
        }
        let (ready, manager) = (self.manager.clone(), self.manager.clone());
        let tell_ready = |event| match self.fault {
            Fault::AddDoneRace => drop(thread::spawn(move || {
                thread::park_timeout(LOOKS_AROUND);
                drop(ready.send(event));
            })),
            _ => drop(ready.send(event)),
        };
        let mute = self.fault == Fault::OnlyShakesHands;
        peer::converse(id, stream, mute, &manager, tell_ready);
        // The manager ends with the test.
        let _ = manager.send(Event::Done(id));
    }
}
