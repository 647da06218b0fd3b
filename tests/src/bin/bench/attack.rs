//! Hostile peers against an honest one: what each attack costs the honest peer, beside
//! `bitcoind` under the same attack.
//!
//! A cell of the table is one kind of attack, a number of hostile peers, and who opened the
//! connections. The attackers come first and are alone with the node for a second. Then
//! comes the honest peer with 2,100 blocks that cost nothing to check, and once the node has
//! them it finds six more, each of which the attackers know 50 ms earlier. It pings all the
//! while. A node that does not get so far is tried again, with attackers who come only when
//! it has the chain (`*` beside the figure).
//!
//! | figure | limit |
//! |---|---|
//! | sync: from the honest peer's coming to its tip | 3 times its time alone, and 10 s |
//! | tip: the slowest of the new blocks | 2 s |
//! | ping: the middle round trip | 100 ms |
//! | memory: most that was resident | 200 MB |
//! | cut: how often the honest peer was cut off | never |

mod cell;
pub(crate) mod child;

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use handfast_tests::adversary::{Addresses, Attack, Side};
use handfast_tests::process::Program;

use cell::{Cell, Outcome};

/// By how much a sync under attack may be slower than alone.
const SYNC_FACTOR: u32 = 3;
/// And this, for waiting for somebody who gives nothing.
const SYNC_PATIENCE: Duration = Duration::from_secs(10);
/// Time until a new block is followed.
const TIP_LIMIT: Duration = Duration::from_secs(2);
/// The honest peer's round trip.
const PING_LIMIT: Duration = Duration::from_millis(100);
/// Resident memory, bytes.
const MEMORY_LIMIT: u64 = 200_000_000;
/// How often the time alone is measured.
const ALONE_RUNS: usize = 3;
/// A figure this much above `bitcoind`'s is level with it, beside noise of
/// [`LEVEL_SLACK`].
const LEVEL: f64 = 1.25;
/// Differences below are the machine's: looks at the RPC, the scheduler.
const LEVEL_SLACK: Duration = Duration::from_millis(250);

/// What the command line chose. Empty lists mean the default.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Choice {
    /// Kinds of attack.
    pub(crate) attacks: Vec<Attack>,
    /// Numbers of hostile peers.
    pub(crate) counts: Vec<usize>,
    /// One or both of the programs.
    pub(crate) programs: Vec<Program>,
    /// Eight peers only.
    pub(crate) quick: bool,
    /// Peers have public addresses, in a network name space of its own.
    pub(crate) public: bool,
    /// No cell begins later than this.
    pub(crate) minutes: usize,
}

/// How many attackers, from which side, against whom.
type Shape = (usize, Side, Side);

/// Peers that both nodes stay connected to because their operator said so; of those that
/// were named at the start Handfast takes more.
const MANUAL: usize = 8;

/// Without a choice: every number against an inbound honest peer, and each pair of sides.
const DEFAULT: [Shape; 9] = [
    (1, Side::Inbound, Side::Inbound),
    (8, Side::Inbound, Side::Inbound),
    (60, Side::Inbound, Side::Inbound),
    (114, Side::Inbound, Side::Inbound),
    (8, Side::Inbound, Side::Dialled),
    (114, Side::Inbound, Side::Dialled),
    (8, Side::Dialled, Side::Inbound),
    (60, Side::Dialled, Side::Inbound),
    (MANUAL - 1, Side::Dialled, Side::Dialled),
];

/// With public addresses: what loopback cannot show, peers that the node chose itself and
/// hosts that it discourages.
const PUBLIC: [Shape; 5] = [
    (8, Side::Inbound, Side::Inbound),
    (114, Side::Inbound, Side::Inbound),
    (8, Side::Chosen, Side::Inbound),
    (8, Side::Chosen, Side::Dialled),
    (8, Side::Inbound, Side::Chosen),
];

impl Choice {
    fn shapes(&self) -> Vec<Shape> {
        const SIDES: [Side; 2] = [Side::Inbound, Side::Dialled];
        if self.public && self.counts.is_empty() {
            return PUBLIC.to_vec();
        }
        match (self.counts.as_slice(), self.quick) {
            ([], false) => DEFAULT.to_vec(),
            ([], true) => {
                let some = DEFAULT.into_iter();
                some.filter(|shape| (MANUAL - 1..=MANUAL).contains(&shape.0))
                    .collect()
            }
            (counts, _) => counts
                .iter()
                .flat_map(|&count| SIDES.map(|hostile| (count, hostile)))
                .flat_map(|(count, hostile)| SIDES.map(|honest| (count, hostile, honest)))
                .filter(|shape| shape.0 < MANUAL || *shape != (shape.0, SIDES[1], SIDES[1]))
                .collect(),
        }
    }

    fn cells(&self) -> Vec<Cell> {
        let attacks = match self.attacks.as_slice() {
            [] => &Attack::ALL,
            chosen => chosen,
        };
        let cells = attacks.iter().flat_map(|&attack| {
            self.shapes()
                .into_iter()
                .map(move |(count, hostile, honest)| Cell {
                    attack,
                    count,
                    hostile,
                    honest,
                    addresses: match self.public {
                        true => Addresses::Public,
                        false => Addresses::Loopback,
                    },
                })
        });
        cells.collect()
    }
}

/// Set where this program runs in a network name space of its own.
const OWN_NETWORK: &str = "HANDFAST_BENCH_OWN_NETWORK";

/// Starts this program again where public addresses are those of its own machine, and
/// nothing else can be reached.
fn run_in_own_network() {
    let own = std::env::current_exe().expect("a process knows its executable");
    let script = "ip link set lo up && ip route add local 5.0.0.0/8 dev lo && exec \"$0\" \"$@\"";
    let status = std::process::Command::new("unshare")
        .args(["--map-root-user", "--net", "sh", "-c", script])
        .arg(own)
        .args(std::env::args_os().skip(1))
        .env(OWN_NETWORK, "yes")
        .status();
    match status {
        Ok(status) if status.success() => {}
        failed => eprintln!("--public needs a network name space of its own: {failed:?}"),
    }
}

/// Tries all cells that were chosen and prints the table.
pub(crate) fn run(choice: &Choice) {
    if choice.public && std::env::var_os(OWN_NETWORK).is_none() {
        return run_in_own_network();
    }
    let programs = match choice.programs.as_slice() {
        [] => &[Program::Handfast, Program::Bitcoind],
        chosen => chosen,
    };
    let begun = Instant::now();
    let budget = Duration::from_secs(60 * choice.minutes as u64);
    println!(
        "attack: {} honest blocks; sync within {SYNC_FACTOR} times alone + {SYNC_PATIENCE:?}, tip {TIP_LIMIT:?}, ping {PING_LIMIT:?}, memory {} MB",
        cell::LENGTH,
        MEMORY_LIMIT / 1_000_000
    );
    println!("{}", heading());
    let mut alone = Alone::default();
    let mut tally = Tally::default();
    for cell in choice.cells() {
        if begun.elapsed() >= budget {
            tally.left_out += 1;
            continue;
        }
        let mut figures = vec![];
        for &program in programs {
            let Some(limit) = alone.limit(program, &cell) else {
                println!("{:9} skipped, its data is not there", cell.attack);
                break;
            };
            let Some(outcome) = cell::run(program, &cell, limit) else {
                break;
            };
            println!("{}", line(program, &cell, &outcome));
            figures.push((program, outcome));
        }
        tally.count(&figures);
    }
    tally.print(begun.elapsed());
}

/// Times without attackers, measured when they are first asked for.
#[derive(Default)]
struct Alone(BTreeMap<(bool, Attack, bool), Duration>);

impl Alone {
    /// When a sync is given up. `None`: there is no data for it.
    fn limit(&mut self, program: Program, cell: &Cell) -> Option<Duration> {
        // Attacks on nodes that are prepared alike share a time.
        let attack = match cell.attack {
            Attack::TamperedSignet => Attack::TamperedSignet,
            Attack::Useless => Attack::Useless,
            Attack::Trickle => Attack::Trickle,
            Attack::Poisoned | Attack::Mix => Attack::Poisoned,
            _ => Attack::Withhold,
        };
        let dialled = cell.honest != Side::Inbound;
        let key = (program == Program::Handfast, attack, dialled);
        let time = match self.0.get(&key) {
            Some(time) => *time,
            None => {
                let mut times = vec![];
                for _ in 0..ALONE_RUNS {
                    let honest = match dialled {
                        true => Side::Dialled,
                        false => Side::Inbound,
                    };
                    times.push(cell::alone(program, attack, honest)?);
                }
                times.sort_unstable();
                let time = times[ALONE_RUNS / 2];
                println!(
                    "{:9} alone ({}, {}): {:.2} s",
                    crate::report::name(program),
                    attack,
                    cell.honest,
                    time.as_secs_f64()
                );
                self.0.insert(key, time);
                time
            }
        };
        Some(time * SYNC_FACTOR + SYNC_PATIENCE)
    }
}

/// What of the outcome is beyond its limit.
fn faults(outcome: &Outcome) -> Vec<&'static str> {
    let ping = outcome.honest.median_round_trip();
    let tests = [
        (!outcome.alive, "DIED"),
        (outcome.synced.is_none(), "sync"),
        (outcome.followed.is_none_or(|took| took > TIP_LIMIT), "tip"),
        (ping.is_none_or(|took| took > PING_LIMIT), "ping"),
        (outcome.peak > MEMORY_LIMIT, "memory"),
        (outcome.honest.cut_off > 0, "cut"),
    ];
    let failed = tests.into_iter().filter(|(failed, _)| *failed);
    failed.map(|(_, name)| name).collect()
}

/// Where Handfast is behind `bitcoind`.
fn behind(ours: &Outcome, theirs: &Outcome) -> Vec<&'static str> {
    let slower = |ours: Option<Duration>, theirs: Option<Duration>| match (ours, theirs) {
        (_, None) => false,
        (None, Some(_)) => true,
        (Some(ours), Some(theirs)) => ours > theirs.mul_f64(LEVEL) + LEVEL_SLACK,
    };
    let ping = |outcome: &Outcome| outcome.honest.median_round_trip();
    let tests = [
        (!ours.alive && theirs.alive, "alive"),
        (slower(ours.synced, theirs.synced), "sync"),
        (slower(ours.followed, theirs.followed), "tip"),
        (slower(ping(ours), ping(theirs)), "ping"),
        (ours.honest.cut_off > theirs.honest.cut_off, "cut"),
    ];
    let behind = tests.into_iter().filter(|(behind, _)| *behind);
    behind.map(|(_, name)| name).collect()
}

fn heading() -> String {
    format!(
        "{:9} {:>4} {:7}  {:7}  {:9} {:>8} {:>8} {:>9} {:>6} {:>4}  verdict",
        "attack", "n", "hostile", "honest", "node", "sync", "tip", "ping", "MB", "cut"
    )
}

fn line(program: Program, cell: &Cell, outcome: &Outcome) -> String {
    let seconds = |time: Option<Duration>| {
        time.map_or("never".to_owned(), |time| {
            format!("{:.2} s", time.as_secs_f64())
        })
    };
    let apart = if outcome.apart { "*" } else { " " };
    let ping = outcome.honest.median_round_trip();
    let ping = ping.map_or("none".to_owned(), |time| {
        format!("{:.1} ms", time.as_secs_f64() * 1e3)
    });
    let faults = faults(outcome);
    let verdict = match faults.as_slice() {
        [] => "ok".to_owned(),
        some => format!("FAILS: {}", some.join(", ")),
    };
    format!(
        "{:9} {:4} {:7}  {:7}  {:9} {:>8} {:>8}{apart} {:>8} {:>6} {:>4}  {verdict} ({} there of {}, {} getheaders, {} blocks asked; {:.1} CPU s)",
        cell.attack,
        cell.count,
        cell.hostile,
        cell.honest,
        crate::report::name(program),
        seconds(outcome.synced),
        seconds(outcome.followed),
        ping,
        outcome.peak / 1_000_000,
        outcome.honest.cut_off,
        outcome.seen.present,
        outcome.seen.connections,
        outcome.seen.header_requests,
        outcome.seen.block_requests,
        outcome.cpu.as_secs_f64(),
    )
}

/// All cells together.
#[derive(Default)]
struct Tally {
    cells: usize,
    failed: BTreeMap<&'static str, usize>,
    compared: usize,
    behind: usize,
    left_out: usize,
}

impl Tally {
    fn count(&mut self, figures: &[(Program, Outcome)]) {
        self.cells += usize::from(!figures.is_empty());
        for (program, outcome) in figures {
            if !faults(outcome).is_empty() {
                *self
                    .failed
                    .entry(crate::report::name(*program))
                    .or_default() += 1;
            }
        }
        if let [(Program::Handfast, ours), (Program::Bitcoind, theirs)] = figures {
            self.compared += 1;
            let behind = behind(ours, theirs);
            if !behind.is_empty() {
                self.behind += 1;
                println!("{:>33} behind bitcoind: {}", "", behind.join(", "));
            }
        }
    }

    fn print(&self, took: Duration) {
        println!(
            "\n{} cells in {:.0} s; beyond a limit: {:?}; Handfast behind bitcoind in {} of {}",
            self.cells,
            took.as_secs_f64(),
            self.failed,
            self.behind,
            self.compared
        );
        if self.left_out > 0 {
            println!("{} cells were left out: the time was over", self.left_out);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn without_a_choice_each_attack_is_tried_by_1_8_60_and_114_peers_and_from_both_sides() {
        let cells = Choice::default().cells();
        for attack in Attack::ALL {
            let of: Vec<_> = cells.iter().filter(|cell| cell.attack == attack).collect();
            for count in [1, 8, 60, 114] {
                assert!(of.iter().any(|cell| cell.count == count));
            }
            for side in [Side::Inbound, Side::Dialled] {
                assert!(of.iter().any(|cell| cell.hostile == side));
                assert!(of.iter().any(|cell| cell.honest == side));
            }
            assert!(of.iter().all(|cell| cell.addresses == Addresses::Loopback));
        }
    }

    #[test]
    fn numbers_that_are_named_are_tried_from_all_sides() {
        let choice = Choice {
            attacks: vec![Attack::Withhold],
            counts: vec![3],
            ..Choice::default()
        };
        assert_eq!(choice.cells().len(), 4);
    }
}
