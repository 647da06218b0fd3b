//! Workers on sockets and on pipes, with a real node.

use handfast_node::{ListenAddress, Registration};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::*;
use crate::server::READ_TIMEOUT;
use crate::server::tests::{TestNode, config, healthy, test_node, until};
use crate::sockets::{self, Listeners};

/// All paths, and one that is not served.
const PATHS: [&str; 6] = [
    "/",
    "/health",
    "/ready",
    "/metrics",
    "/rest/chaininfo.json",
    "/moon",
];
const CALLERS: usize = 100;
const HERE: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::LOCALHOST), 7);

/// A node, and a listening socket that is not served.
struct TestServer {
    test_node: TestNode,
    context: Context,
    addr: SocketAddr,
    socket: std::net::TcpListener,
    listening: Arc<ListeningSocket>,
}

impl TestServer {
    async fn start() -> Self {
        let test_node = test_node().await;
        let context = test_node.context();
        let mut listeners = Listeners::bind(config(test_node.dir())).expect("free addresses");
        let (addr, socket) = (listeners.addresses()[0], listeners.tcp.remove(0));
        sockets::listen(&socket).expect("it is bound");
        let listening_sockets = context.methods.node.listening_sockets();
        let listening = listening_sockets.register(Registration {
            name: "test",
            address: ListenAddress::Tcp(addr),
            backlog: BACKLOG.unsigned_abs(),
            recreate: Box::new(|| Box::pin(async { Ok(()) })),
        });
        Self {
            test_node,
            context,
            addr,
            socket,
            listening,
        }
    }

    fn worker(&self, role: Role, stage: &watch::Sender<Stage>) -> Rc<Worker> {
        let context = self.context.clone();
        Rc::new(Worker::new(role, context, stage.subscribe()))
    }

    fn queue(&self, role: Role) -> Queue<std::net::TcpListener> {
        let socket = self.socket.try_clone().expect("a descriptor is left");
        Queue::new(socket, role).expect("a reactor is here")
    }

    /// As `worker` does on its own thread.
    fn serve(&self, worker: &Rc<Worker>) -> tokio::task::JoinHandle<()> {
        let (queue, worker) = (self.queue(worker.role), worker.clone());
        let listening = self.listening.clone();
        actix_rt::spawn(async move { worker.serve(queue, &listening).await })
    }

    fn connect(&self) -> io::Result<std::net::TcpStream> {
        std::net::TcpStream::connect(self.addr)
    }
}

/// An unauthenticated client from loopback.
fn caller(context: &Context) -> Caller {
    let slot = context.quotas.tcp.try_slot(HERE.ip().into());
    Caller {
        addr: Some(HERE),
        slot: slot.expect("a free slot"),
    }
}

/// How many of these connections get an answer, and close.
async fn served(callers: Vec<io::Result<std::net::TcpStream>>) -> usize {
    let served = move || {
        callers
            .into_iter()
            .filter_map(|it| healthy(it).then_some(()))
    };
    let served = tokio::task::spawn_blocking(move || served().count()).await;
    served.expect("no panic")
}

#[actix_rt::test]
async fn connections_in_the_accept_queue_are_served_when_the_sockets_are_closed() {
    for role in WORKERS {
        let mut server = TestServer::start().await;
        let early: Vec<_> = (0..CALLERS).map(|_| server.connect()).collect();
        let stage = watch::Sender::new(Stage::Closed);
        let worker = server.worker(role, &stage);
        let queue = server.queue(role);
        server.socket = std::net::TcpListener::bind("127.0.0.1:0").expect("a free port");
        worker.serve(queue, &server.listening).await;

        let late = server.connect().expect_err("the socket is closed");
        assert_eq!(late.kind(), io::ErrorKind::ConnectionRefused);
        assert_eq!(served(early).await, CALLERS);
        server.test_node.end().await;
    }
}

#[actix_rt::test]
async fn the_first_worker_accepts_all_while_it_keeps_up() {
    let server = TestServer::start().await;
    let stage = watch::Sender::new(Stage::Open);
    let workers = WORKERS.map(|role| server.worker(role, &stage));
    let [first, second] = workers.each_ref().map(|worker| server.serve(worker));
    let mut callers = Vec::new();
    for _ in 0..CALLERS {
        let caller = tokio::net::TcpStream::connect(server.addr).await;
        callers.push(caller.expect("the accept queue takes it"));
    }
    let load = &server.context.load;
    until("all are in", || load.connections.now() == CALLERS).await;
    let connections = workers.map(|worker| worker.connections.now());
    assert_eq!(connections, [CALLERS, 0]);
    drop(callers);
    stage.send_replace(Stage::Closed);
    for worker in [first, second] {
        worker.await.expect("no panic");
    }
    server.test_node.end().await;
}

#[actix_rt::test]
async fn no_route_is_served_under_an_unknown_host_name() {
    let server = TestServer::start().await;
    let stage = watch::Sender::new(Stage::Open);
    let worker = server.worker(Role::Primary, &stage);
    let serving = worker.serving();
    for path in PATHS {
        for (host, refused) in [("evil.example", true), ("localhost", false)] {
            let request =
                format!("GET {path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n");
            let (mut theirs, ours) = tokio::io::duplex(64 * 1024);
            let caller = caller(&server.context);
            let answer = async {
                let mut answer = String::new();
                theirs.write_all(request.as_bytes()).await?;
                theirs.read_to_string(&mut answer).await?;
                io::Result::Ok(answer)
            };
            let ((), answer) = tokio::join!(serving.connection(ours, caller), answer);
            let answer = answer.expect("an answer, then the end");
            let unauthorized = answer.starts_with("HTTP/1.1 401 ");
            assert_eq!(unauthorized, refused, "{path} of {host}: {answer}");
        }
    }
    server.test_node.end().await;
}

#[actix_rt::test]
async fn a_connection_from_a_forbidden_address_is_refused_unread_and_takes_no_slot() {
    let server = TestServer::start().await;
    let stage = watch::Sender::new(Stage::Open);
    let worker = server.worker(Role::Primary, &stage);
    server.socket.set_nonblocking(false).expect("a socket");
    let accepted = |addr: &str| {
        let client = server.connect().expect("it listens");
        let ours = client.local_addr().expect("it is connected");
        // The node calls its own sockets, too.
        let stream = loop {
            let (stream, from) = server.socket.accept().expect("a connection");
            if from == ours {
                break stream;
            }
        };
        let addr = Some(addr.parse().expect("an address"));
        let admit = worker.admit::<std::net::TcpListener>(stream, addr, &server.listening);
        (client, admit.is_some())
    };
    for addr in ["127.0.0.1:9", "[::1]:9", "[::ffff:127.0.0.1]:9"] {
        assert!(accepted(addr).1, "{addr}");
    }
    for addr in ["192.0.2.7:9", "[2001:db8::7]:9", "0.0.0.0:9"] {
        let (mut client, allowed) = accepted(addr);
        let mut answer = String::new();
        io::Read::read_to_string(&mut client, &mut answer).expect("it is closed");
        assert!(!allowed && answer.starts_with("HTTP/1.1 403 "), "{answer}");
    }
    server.test_node.end().await;
}

/// How long the connection of such a client lives, by the runtime's clock, which advances as soon
/// as all tasks wait.
async fn lifetime<F: Future>(
    buffer: usize,
    unauthenticated: impl FnOnce(tokio::io::DuplexStream) -> F,
) -> Duration {
    let server = TestServer::start().await;
    let stage = watch::Sender::new(Stage::Open);
    let worker = server.worker(Role::Primary, &stage);
    let serving = worker.serving();
    let (theirs, ours) = tokio::io::duplex(buffer);
    let caller = caller(&server.context);
    tokio::time::pause();
    let begun = tokio::time::Instant::now();
    tokio::select! {
        () = serving.connection(ours, caller) => {}
        _ = unauthenticated(theirs) => panic!("it does so for ever"),
    }
    let lived = begun.elapsed();
    tokio::time::resume();
    server.test_node.end().await;
    lived
}

#[actix_rt::test]
async fn a_client_that_sends_a_byte_now_and_then_has_half_a_minute() {
    let dribble = async |mut stream: tokio::io::DuplexStream| {
        for byte in b"GET /health HTTP/1.1\r\n".iter().cycle() {
            tokio::time::sleep(Duration::from_secs(1)).await;
            let _ = stream.write_all(&[*byte]).await;
        }
    };
    let lived = lifetime(1_024, dribble).await;
    // With the time for it to read the refusal.
    assert!(lived <= READ_TIMEOUT + Duration::from_secs(2), "{lived:?}");
    let silent = async |_stream: tokio::io::DuplexStream| std::future::pending::<()>().await;
    assert!(lifetime(1_024, silent).await <= READ_TIMEOUT + Duration::from_secs(2));
}

#[actix_rt::test]
async fn a_client_that_does_not_read_its_answer_has_half_a_minute() {
    let deaf = async |mut stream: tokio::io::DuplexStream| {
        let request = b"GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n";
        stream.write_all(request).await.expect("it is read");
        std::future::pending::<()>().await;
        drop(stream);
    };
    let lived = lifetime(32, deaf).await;
    assert!(lived <= READ_TIMEOUT + Duration::from_secs(2), "{lived:?}");
}

#[actix_rt::test]
async fn unread_rest_answers_hold_no_permit_of_the_work_queue() {
    let server = TestServer::start().await;
    let stage = watch::Sender::new(Stage::Open);
    let mut context = server.context.clone();
    context.rest = true;
    let worker = Worker::new(Role::Primary, context.clone(), stage.subscribe());
    let serving = worker.serving();
    let request = b"GET /rest/chaininfo.json HTTP/1.1\r\nHost: localhost\r\n\r\n";
    let (context, serving) = (&context, &serving);
    let unauthenticated = (0..100).map(|_| async move {
        let (mut theirs, ours) = tokio::io::duplex(64);
        let caller = caller(context);
        let ask = async {
            theirs.write_all(request).await.expect("it is read");
            std::future::pending::<()>().await;
        };
        tokio::join!(serving.connection(ours, caller), ask)
    });
    let others = async {
        let permits = || context.load.calls.available_permits();
        let most = config(std::path::Path::new("")).max_calls;
        until("the first are answered", || {
            context.quotas.rest.try_slot(AddressGroup::Unix).is_none() && permits() == most
        })
        .await;
    };
    tokio::select! {
        _ = futures_util::future::join_all(unauthenticated) => panic!("they do not read"),
        () = others => {}
    }
    server.test_node.end().await;
}

#[actix_rt::test]
async fn the_second_worker_accepts_what_the_first_leaves_in_the_queue() {
    let server = TestServer::start().await;
    let stage = watch::Sender::new(Stage::Open);
    // There is no first worker, as if a call held it up for good.
    let second = server.serve(&server.worker(Role::Overflow, &stage));
    for _ in 0..2 {
        let callers = (0..CALLERS).map(|_| server.connect()).collect();
        assert_eq!(served(callers).await, CALLERS);
    }
    stage.send_replace(Stage::Closed);
    second.await.expect("no panic");
    server.test_node.end().await;
}
