//! Workers on sockets and on pipes, beside a real node.

use handfast_node::{Place, Registration};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::*;
use crate::server::READ_TIMEOUT;
use crate::server::tests::{Scene, config, healthy, scene, until};
use crate::sockets::{self, Listeners};

/// Everything that is served, and what is not.
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
struct Street {
    scene: Scene,
    context: Context,
    addr: SocketAddr,
    socket: std::net::TcpListener,
    entrance: Arc<Entrance>,
}

impl Street {
    async fn lay() -> Self {
        let scene = scene().await;
        let context = scene.context();
        let mut listeners = Listeners::bind(config(scene.dir())).expect("free places");
        let (addr, socket) = (listeners.addresses()[0], listeners.tcp.remove(0));
        sockets::listen(&socket).expect("it is bound");
        let entrances = context.methods.node.entrances();
        let entrance = entrances.register(Registration {
            name: "test",
            place: Place::Tcp(addr),
            backlog: BACKLOG.unsigned_abs(),
            recreate: Box::new(|| Box::pin(async { Ok(()) })),
        });
        Self {
            scene,
            context,
            addr,
            socket,
            entrance,
        }
    }

    fn worker(&self, turn: Turn, stage: &watch::Sender<Stage>) -> Rc<Worker> {
        let context = self.context.clone();
        Rc::new(Worker::new(turn, context, stage.subscribe()))
    }

    fn queue(&self, turn: Turn) -> Queue<std::net::TcpListener> {
        let socket = self.socket.try_clone().expect("a descriptor is left");
        Queue::new(socket, turn).expect("a reactor is here")
    }

    /// As `worker` does on its own thread.
    fn serve(&self, worker: &Rc<Worker>) -> tokio::task::JoinHandle<()> {
        let (queue, worker) = (self.queue(worker.turn), worker.clone());
        let entrance = self.entrance.clone();
        actix_rt::spawn(async move { worker.serve(queue, &entrance).await })
    }

    fn connect(&self) -> io::Result<std::net::TcpStream> {
        std::net::TcpStream::connect(self.addr)
    }
}

/// Somebody at this machine who has not logged in.
fn visitor(context: &Context) -> Visitor {
    let seat = context.shares.tcp.try_seat(HERE.ip().into());
    Visitor {
        addr: Some(HERE),
        seat: seat.expect("there is room"),
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
async fn who_is_in_the_queue_when_the_sockets_are_closed_is_served() {
    for turn in WORKERS {
        let mut street = Street::lay().await;
        let early: Vec<_> = (0..CALLERS).map(|_| street.connect()).collect();
        let stage = watch::Sender::new(Stage::Closed);
        let worker = street.worker(turn, &stage);
        let queue = street.queue(turn);
        street.socket = std::net::TcpListener::bind("127.0.0.1:0").expect("a free port");
        worker.serve(queue, &street.entrance).await;

        let late = street.connect().expect_err("nobody listens any more");
        assert_eq!(late.kind(), io::ErrorKind::ConnectionRefused);
        assert_eq!(served(early).await, CALLERS);
        street.scene.end().await;
    }
}

#[actix_rt::test]
async fn the_first_worker_has_all_callers_as_long_as_it_keeps_up() {
    let street = Street::lay().await;
    let stage = watch::Sender::new(Stage::Open);
    let workers = WORKERS.map(|turn| street.worker(turn, &stage));
    let [first, second] = workers.each_ref().map(|worker| street.serve(worker));
    let mut callers = Vec::new();
    for _ in 0..CALLERS {
        let caller = tokio::net::TcpStream::connect(street.addr).await;
        callers.push(caller.expect("there is room in the queue"));
    }
    let load = &street.context.load;
    until("all are in", || load.connections.now() == CALLERS).await;
    let inside = workers.map(|worker| worker.inside.now());
    assert_eq!(inside, [CALLERS, 0]);
    drop(callers);
    stage.send_replace(Stage::Closed);
    for worker in [first, second] {
        worker.await.expect("no panic");
    }
    street.scene.end().await;
}

#[actix_rt::test]
async fn no_route_is_there_for_who_calls_this_machine_by_a_strange_name() {
    let street = Street::lay().await;
    let stage = watch::Sender::new(Stage::Open);
    let worker = street.worker(Turn::First, &stage);
    let serving = worker.serving();
    for path in PATHS {
        for (host, refused) in [("evil.example", true), ("localhost", false)] {
            let request =
                format!("GET {path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n");
            let (mut theirs, ours) = tokio::io::duplex(64 * 1024);
            let visitor = visitor(&street.context);
            let answer = async {
                let mut answer = String::new();
                theirs.write_all(request.as_bytes()).await?;
                theirs.read_to_string(&mut answer).await?;
                io::Result::Ok(answer)
            };
            let ((), answer) = tokio::join!(serving.connection(ours, visitor), answer);
            let answer = answer.expect("an answer, then the end");
            let unauthorized = answer.starts_with("HTTP/1.1 401 ");
            assert_eq!(unauthorized, refused, "{path} of {host}: {answer}");
        }
    }
    street.scene.end().await;
}

#[actix_rt::test]
async fn who_comes_from_an_address_that_may_not_call_is_refused_unread_and_has_no_seat() {
    let street = Street::lay().await;
    let stage = watch::Sender::new(Stage::Open);
    let worker = street.worker(Turn::First, &stage);
    street.socket.set_nonblocking(false).expect("a socket");
    let accepted = |addr: &str| {
        let client = street.connect().expect("it listens");
        let ours = client.local_addr().expect("it is connected");
        // The node calls its own sockets, too.
        let stream = loop {
            let (stream, from) = street.socket.accept().expect("somebody has connected");
            if from == ours {
                break stream;
            }
        };
        let addr = Some(addr.parse().expect("an address"));
        let judged = worker.judged::<std::net::TcpListener>(stream, addr, &street.entrance);
        (client, judged.is_some())
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
    street.scene.end().await;
}

/// How long a connection lives on which a stranger does this, by the runtime's clock,
/// which goes on as soon as everybody waits for it.
async fn lives<F: Future>(
    room: usize,
    stranger: impl FnOnce(tokio::io::DuplexStream) -> F,
) -> Duration {
    let street = Street::lay().await;
    let stage = watch::Sender::new(Stage::Open);
    let worker = street.worker(Turn::First, &stage);
    let serving = worker.serving();
    let (theirs, ours) = tokio::io::duplex(room);
    let visitor = visitor(&street.context);
    tokio::time::pause();
    let begun = tokio::time::Instant::now();
    tokio::select! {
        () = serving.connection(ours, visitor) => {}
        _ = stranger(theirs) => panic!("it does so for ever"),
    }
    let lived = begun.elapsed();
    tokio::time::resume();
    street.scene.end().await;
    lived
}

#[actix_rt::test]
async fn a_stranger_who_sends_a_byte_now_and_then_has_half_a_minute() {
    let dribble = async |mut stream: tokio::io::DuplexStream| {
        for byte in b"GET /health HTTP/1.1\r\n".iter().cycle() {
            tokio::time::sleep(Duration::from_secs(1)).await;
            let _ = stream.write_all(&[*byte]).await;
        }
    };
    let lived = lives(1_024, dribble).await;
    // With the time for it to read the refusal.
    assert!(lived <= READ_TIMEOUT + Duration::from_secs(2), "{lived:?}");
    let silent = async |_stream: tokio::io::DuplexStream| std::future::pending::<()>().await;
    assert!(lives(1_024, silent).await <= READ_TIMEOUT + Duration::from_secs(2));
}

#[actix_rt::test]
async fn who_does_not_read_its_answer_has_half_a_minute() {
    let deaf = async |mut stream: tokio::io::DuplexStream| {
        let request = b"GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n";
        stream.write_all(request).await.expect("it is read");
        std::future::pending::<()>().await;
        drop(stream);
    };
    let lived = lives(32, deaf).await;
    assert!(lived <= READ_TIMEOUT + Duration::from_secs(2), "{lived:?}");
}

#[actix_rt::test]
async fn strangers_who_do_not_read_what_rest_serves_take_no_permit_for_calls() {
    let street = Street::lay().await;
    let stage = watch::Sender::new(Stage::Open);
    let mut context = street.context.clone();
    context.rest = true;
    let worker = Worker::new(Turn::First, context.clone(), stage.subscribe());
    let serving = worker.serving();
    let request = b"GET /rest/chaininfo.json HTTP/1.1\r\nHost: localhost\r\n\r\n";
    let (context, serving) = (&context, &serving);
    let strangers = (0..100).map(|_| async move {
        let (mut theirs, ours) = tokio::io::duplex(64);
        let visitor = visitor(context);
        let ask = async {
            theirs.write_all(request).await.expect("it is read");
            std::future::pending::<()>().await;
        };
        tokio::join!(serving.connection(ours, visitor), ask)
    });
    let others = async {
        let permits = || context.load.calls.available_permits();
        let most = config(std::path::Path::new("")).max_calls;
        until("the first are answered", || {
            context.shares.rest.try_seat(AddressGroup::Unix).is_none() && permits() == most
        })
        .await;
    };
    tokio::select! {
        _ = futures_util::future::join_all(strangers) => panic!("they do not read"),
        () = others => {}
    }
    street.scene.end().await;
}

#[actix_rt::test]
async fn the_second_worker_takes_in_whom_the_first_leaves_in_the_queue() {
    let street = Street::lay().await;
    let stage = watch::Sender::new(Stage::Open);
    // There is no first one, as if a call held it up for good.
    let second = street.serve(&street.worker(Turn::WhenOverdue, &stage));
    for _ in 0..2 {
        let callers = (0..CALLERS).map(|_| street.connect()).collect();
        assert_eq!(served(callers).await, CALLERS);
    }
    stage.send_replace(Stage::Closed);
    second.await.expect("no panic");
    street.scene.end().await;
}
