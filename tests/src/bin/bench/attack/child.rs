//! The attackers, as a process of their own at the lowest priority: what they do is to cost
//! the node its time, not to take the processor from it.

use std::io::{BufRead, BufReader, Write};
use std::net::SocketAddr;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::time::Duration;

use handfast_tests::adversary::{Addresses, Adversary, Attack, Crew, Ground, Seen, Side};
use handfast_tests::usage::Usage;

/// The argument that makes this program the attackers.
pub(crate) const ARGUMENT: &str = "serve-adversary";
/// How much the scheduler is to prefer everything else.
const NICE: i32 = 19;

/// Running attackers. They are killed when it is dropped.
pub(super) struct Attackers {
    child: Child,
    orders: ChildStdin,
    answers: BufReader<ChildStdout>,
    /// Where they listen, those that are to be dialled.
    pub(super) addresses: Vec<SocketAddr>,
}

impl Attackers {
    pub(super) fn start(
        attack: Attack,
        count: usize,
        (side, addresses): (Side, Addresses),
        (length, now): (usize, u32),
    ) -> Self {
        let own = std::env::current_exe().expect("a process knows its executable");
        let mut child = Command::new(own)
            .args([ARGUMENT, attack.name()])
            .args([count, length].map(|number| number.to_string()))
            .args([now.to_string(), side.to_string(), name_of(addresses).into()])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("this program starts");
        let orders = child.stdin.take().expect("it is piped");
        let answers = BufReader::new(child.stdout.take().expect("it is piped"));
        let mut attackers = Self {
            child,
            orders,
            answers,
            addresses: vec![],
        };
        let line = attackers.answer();
        let addresses = line.split_ascii_whitespace().map(str::parse);
        attackers.addresses = addresses
            .map(|parsed| parsed.expect("an address"))
            .collect();
        attackers
    }

    /// They begin.
    pub(super) fn attack(&mut self, node: SocketAddr) {
        self.order(&format!("attack {node}"));
    }

    /// They learn of the first `news` new blocks.
    pub(super) fn tell(&mut self, news: usize) {
        self.order(&format!("news {news}"));
        self.answer();
    }

    /// What they saw so far.
    pub(super) fn seen(&mut self) -> Seen {
        self.order("seen");
        let line = self.answer();
        let numbers: Vec<usize> = line
            .split_ascii_whitespace()
            .map(|number| number.parse().expect("a number"))
            .collect();
        let [
            present,
            connections,
            header_requests,
            block_requests,
            written,
        ] = numbers[..]
        else {
            panic!("five numbers, not {line:?}");
        };
        Seen {
            present,
            connections,
            header_requests,
            block_requests,
            written,
        }
    }

    /// Processor time that they took.
    pub(super) fn cpu(&self) -> Duration {
        Usage::of(self.child.id()).map_or(Duration::ZERO, |usage| usage.cpu)
    }

    fn order(&mut self, line: &str) {
        writeln!(self.orders, "{line}").expect("the attackers run");
    }

    fn answer(&mut self) -> String {
        let mut line = String::new();
        let read = self.answers.read_line(&mut line);
        assert!(read.expect("the attackers run") > 0, "the attackers ended");
        line
    }
}

impl Drop for Attackers {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Attacks as the parent says, until it is gone.
pub(crate) fn serve() {
    // Refused, they attack at the usual priority.
    let _ = rustix::process::nice(NICE);
    let args: Vec<String> = std::env::args().skip(2).collect();
    let [attack, count, length, now, side, addresses] = &args[..] else {
        panic!("{ARGUMENT} takes attack, count, length, time, side and addresses");
    };
    let attack: Attack = attack.parse().expect("an attack");
    let ground = Ground::of(
        attack,
        length.parse().expect("a length"),
        now.parse().expect("a time"),
    );
    let adversary = Adversary::new(Crew {
        attack,
        count: count.parse().expect("a count"),
        side: *side_named(side),
        addresses: match addresses.as_str() {
            "public" => Addresses::Public,
            _ => Addresses::Loopback,
        },
        ground: ground.expect("the parent has looked: the data is there"),
    });
    let addresses: Vec<String> = adversary
        .addresses()
        .iter()
        .map(ToString::to_string)
        .collect();
    println!("{}", addresses.join(" "));
    for line in std::io::stdin().lines() {
        let line = line.expect("the parent writes text");
        match line.split_once(' ') {
            Some(("attack", node)) => adversary.attack(node.parse().expect("an address")),
            Some(("news", number)) => {
                adversary.tell(number.parse().expect("a number"));
                println!();
            }
            _ => {
                let seen = adversary.seen();
                println!(
                    "{} {} {} {} {}",
                    seen.present,
                    seen.connections,
                    seen.header_requests,
                    seen.block_requests,
                    seen.written
                );
            }
        }
    }
}

fn side_named(name: &str) -> &'static Side {
    let found = Side::ALL.iter().find(|side| side.to_string() == name);
    found.expect("the parent names a side")
}

fn name_of(addresses: Addresses) -> &'static str {
    match addresses {
        Addresses::Loopback => "loopback",
        Addresses::Public => "public",
    }
}
