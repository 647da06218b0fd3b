#[cfg(target_os = "linux")]
use std::fs;
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::Duration;

use bitcoin::block::Header;
use bitcoin::consensus::deserialize;
use bitcoin::hashes::Hash;

use super::*;

/// Time limit of an awaited event. SCHED_IDLE on a busy machine can take its time.
const TIMEOUT: Duration = Duration::from_secs(60);
/// One in 256 hashes is at most this.
const EASY: [u8; 32] = one_in_2_to_the(8);
/// About one in a hundred thousand.
const SOME: [u8; 32] = one_in_2_to_the(17);
/// No hash is at most this.
const IMPOSSIBLE: [u8; 32] = [0; 32];

const fn one_in_2_to_the(bits: usize) -> [u8; 32] {
    let mut target = [0xff; 32];
    let mut bit = 0;
    while bit < bits {
        target[31 - bit / 8] >>= 1;
        bit += 1;
    }
    target
}

/// Headers that contain their generation and their extra nonce.
fn header(generation: u64, extra_nonce: u64) -> [u8; 80] {
    let mut header = [0; 80];
    header[4..12].copy_from_slice(&generation.to_le_bytes());
    header[36..44].copy_from_slice(&extra_nonce.to_le_bytes());
    header
}

fn work(generation: u64, target: [u8; 32]) -> Work {
    Work {
        generation,
        jobs: Arc::new(move |extra_nonce| header(generation, extra_nonce)),
        target,
    }
}

/// Starts threads; returns them and their solutions.
fn start(threads: usize) -> (HashThreads, Receiver<Solved>) {
    let (sender, solved) = channel();
    let on_solved = move |solved| sender.send(solved).expect("the test listens");
    (
        HashThreads::start(threads, on_solved).expect("threads start"),
        solved,
    )
}

fn is_solved(solved: &Solved, target: &[u8; 32]) -> bool {
    let header: Header = deserialize(&solved.header).expect("80 bytes");
    let hash = header.block_hash().to_byte_array();
    hash.iter().rev().le(target.iter().rev())
}

/// Waits until it holds, yielding between checks.
fn eventually(what: &str, mut holds: impl FnMut() -> bool) {
    let (_never, pause) = channel::<()>();
    for _ in 0..TIMEOUT.as_millis() {
        if holds() {
            return;
        }
        let _ = pause.recv_timeout(Duration::from_millis(1));
    }
    panic!("{what}: not in {TIMEOUT:?}");
}

#[test]
fn a_solution_is_delivered_with_everything_that_makes_the_block() {
    let (threads, solved) = start(2);
    for generation in [5, 3, 1 << 40] {
        threads.work(work(generation, SOME));
        let solved = solved.recv_timeout(TIMEOUT).expect("it can be solved");
        assert_eq!(solved.generation, generation);
        assert!(is_solved(&solved, &SOME));
        let made = header(generation, solved.extra_nonce);
        assert_eq!(solved.header[..76], made[..76], "only the nonce is new");
    }
}

#[test]
fn each_work_is_solved_once_though_every_thread_could() {
    let (threads, solved) = start(4);
    for generation in 0..200 {
        threads.work(work(generation, EASY));
        let first = solved.recv_timeout(TIMEOUT).expect("it can be solved");
        assert_eq!(first.generation, generation);
    }
    // The sender is dropped with the threads.
    drop(threads);
    assert_eq!(solved.try_iter().count(), 0);
}

#[test]
fn no_thread_hashes_solved_work_or_before_there_is_work() {
    let (threads, solved) = start(2);
    assert_eq!(threads.hashes(), 0);
    threads.work(work(1, EASY));
    solved.recv_timeout(TIMEOUT).expect("it can be solved");
    rests(&threads);
    assert!(solved.try_recv().is_err());
}

/// Waits until the count of hashes stays the same for longer than a slice.
fn rests(threads: &HashThreads) {
    let (_never, pause) = channel::<()>();
    eventually("rest", || {
        let before = threads.hashes();
        let waited = pause.recv_timeout(Duration::from_millis(200));
        assert_eq!(waited, Err(RecvTimeoutError::Timeout));
        threads.hashes() == before
    });
}

#[test]
fn new_work_replaces_the_old_in_every_thread() {
    let (threads, solved) = start(3);
    // Two extra nonces of each thread take longer than a test runs.
    threads.work(work(1, IMPOSSIBLE));
    eventually("hashing", || threads.hashes() > 3 * SLICE);
    let (asked, extra_nonces) = channel();
    threads.work(Work {
        generation: 2,
        jobs: Arc::new(move |extra_nonce| {
            asked.send(extra_nonce).expect("the test listens");
            header(2, extra_nonce)
        }),
        target: IMPOSSIBLE,
    });
    let next = |_| {
        extra_nonces
            .recv_timeout(TIMEOUT)
            .expect("each begins again")
    };
    let mut begun: Vec<u64> = (0..3).map(next).collect();
    begun.sort_unstable();
    assert_eq!(begun, [0, 1, 2], "each thread has distinct extra nonces");
    threads.work(work(3, EASY));
    let solved = solved.recv_timeout(TIMEOUT).expect("it can be solved");
    assert_eq!(solved.generation, 3);
}

#[test]
fn idle_threads_stop_hashing_and_continue_with_the_next_work() {
    let (threads, solved) = start(2);
    threads.work(work(1, IMPOSSIBLE));
    eventually("hashing", || threads.hashes() > 0);
    threads.idle();
    rests(&threads);
    threads.work(work(2, EASY));
    assert_eq!(solved.recv_timeout(TIMEOUT).expect("solved").generation, 2);
}

#[test]
fn every_hash_is_counted() {
    // One thread tries nonces from 0 on: the nonce shows how many.
    let (threads, solved) = start(1);
    let mut expected = 0;
    for generation in 0..5 {
        threads.work(work(generation, SOME));
        let solved = solved.recv_timeout(TIMEOUT).expect("it can be solved");
        assert_eq!(solved.extra_nonce, 0);
        let nonce: [u8; 4] = solved.header[76..].try_into().expect("four");
        expected += u64::from(u32::from_le_bytes(nonce)) + 1;
        assert_eq!(threads.hashes(), expected);
    }
}

#[test]
fn work_that_was_replaced_while_its_header_was_made_is_not_searched() {
    let (threads, solved) = start(1);
    let (reached, asked) = channel();
    let (go, may_go) = channel::<()>();
    let may_go = Mutex::new(may_go);
    threads.work(Work {
        generation: 1,
        jobs: Arc::new(move |extra_nonce| {
            reached.send(()).expect("the test listens");
            let _ = may_go.lock().expect("one thread").recv();
            header(1, extra_nonce)
        }),
        target: [0xff; 32],
    });
    asked
        .recv_timeout(TIMEOUT)
        .expect("the header is asked for");
    threads.work(work(2, EASY));
    go.send(()).expect("it waits");
    let first = solved.recv_timeout(TIMEOUT).expect("it can be solved");
    assert_eq!(first.generation, 2);
    drop(threads);
    assert_eq!(solved.try_iter().count(), 0);
}

#[test]
fn a_solution_counts_only_while_its_work_is_wanted() {
    let shared = Shared::new();
    let give = |generation| {
        shared.command(Command::Work(work(generation, EASY)));
        shared.next_work().expect("there is work").0
    };
    let replaced = give(1);
    let solved = give(2);
    assert!(!shared.claim(replaced), "another work came");
    assert!(shared.claim(solved));
    assert!(!shared.claim(solved), "another thread solved it");
    let given_up = give(3);
    shared.command(Command::Idle);
    assert!(!shared.claim(given_up), "nothing is wanted");
    let given_up = give(4);
    shared.command(Command::Stop);
    assert!(
        !shared.claim(given_up) && shared.next_work().is_none(),
        "the end"
    );
}

#[test]
fn dropping_joins_all_threads_at_work() {
    let (threads, solved) = start(3);
    threads.work(work(1, IMPOSSIBLE));
    eventually("hashing", || threads.hashes() > 0);
    drop(threads);
    // Each thread holds a sender; the channel closes with the last one.
    assert_eq!(
        solved.recv_timeout(Duration::ZERO),
        Err(RecvTimeoutError::Disconnected)
    );
}

#[cfg(target_os = "linux")]
#[test]
fn threads_have_their_names_and_run_at_sched_idle() {
    let (threads, _solved) = start(2);
    let (sender, seen) = channel();
    threads.work(Work {
        generation: 1,
        // Called on the threads themselves.
        jobs: Arc::new(move |extra_nonce| {
            let own = |file| fs::read_to_string(format!("/proc/thread-self/{file}"));
            let name = own("comm").expect("Linux has it").trim_end().to_owned();
            let stat = own("stat").expect("Linux has it");
            // Field 41 is the policy (proc(5)); the name is field 2, in parentheses.
            let after_name = stat.rsplit_once(')').expect("a name").1;
            let policy = after_name.split_ascii_whitespace().nth(41 - 3);
            let policy: i32 = policy.expect("a policy").parse().expect("a number");
            sender
                .send((extra_nonce, name, policy))
                .expect("the test listens");
            header(1, extra_nonce)
        }),
        target: IMPOSSIBLE,
    });
    for _ in 0..2 {
        let (extra_nonce, name, policy) = seen.recv_timeout(TIMEOUT).expect("both begin");
        assert_eq!(name, format!("hash-{extra_nonce}"));
        assert_eq!(policy, libc::SCHED_IDLE, "{name}");
    }
}
