//! Whole nodes on a simulated network: what must hold does, in every run of a fixed set;
//! a run is what its seed says; and the observer finds mistakes.

use std::process::Command;

use handfast_tests::sim::{Explored, Kind, MUTANTS, Mutant, Options, Siege, Who, explore, run};

/// The fixed set.
const SEEDS: std::ops::Range<u64> = 0..64;
/// Where a mistake must be found: what it needs to show is rarer than faults are.
const MISTAKES: std::ops::Range<u64> = 0..400;

fn all_hold(options: &Options, seeds: std::ops::Range<u64>) -> Explored {
    let explored = explore(seeds, options, 1, |_| {});
    if let Some(failure) = explored.failures.first() {
        panic!("{failure}");
    }
    explored
}

#[test]
fn whatever_goes_wrong_the_invariants_hold_and_all_honest_nodes_come_to_the_best_chain() {
    let explored = all_hold(&Options::default(), SEEDS);
    // A set in which something never happened would prove nothing about it.
    for what in [
        "blocks",
        "cut at a byte",
        "late packet",
        "partition",
        "pause",
        "clock jump",
        "block of 60 s",
        "manager held up",
        "restart",
        "crash",
        "operator",
        "connection reset",
        "disk full",
        "stranger: mute",
        "stranger: claims a height",
        "stranger: sends no blocks",
        "stranger: withholds a longer chain",
        "stranger: invalid blocks",
        "stranger: blocks that do not connect",
        "stranger: invalid headers",
        "stranger: tampers with blocks",
        "stranger: pushes forged blocks",
        "stranger: poisons a branch",
        "stranger: denies a longer chain",
        "stranger: has only the beginning",
        "stranger: announces what nobody has",
        "stranger: big frames",
        "forged block pushed",
        "big frame",
        "stranger: garbage",
        "stranger: churner",
        "stranger: slow reader",
        "end: the peer reads too slowly",
        "end: the handshake was not completed in time",
        "end: what it sent cannot be read",
        "end: invalid block",
        "end: invalid header",
    ] {
        assert!(explored.counts.of(what) > 0, "it never happened: {what}");
    }
}

#[test]
fn with_a_second_subscriber_the_invariants_hold_whatever_goes_wrong() {
    let options = Options {
        second: true,
        ..Options::default()
    };
    let explored = all_hold(&options, SEEDS);
    for what in [
        "message shared by two subscribers",
        "manager held up",
        "restart",
        "connection reset",
    ] {
        assert!(explored.counts.of(what) > 0, "it never happened: {what}");
    }
}

#[test]
fn where_nothing_goes_wrong_nobody_is_cut_off_and_the_watchdog_never_fires() {
    let healthy = Options {
        healthy: true,
        ..Options::default()
    };
    let explored = all_hold(&healthy, SEEDS);
    assert_eq!(explored.counts.of("watchdog fired"), 0);
    assert!(explored.counts.of("blocks") > 100);
}

#[test]
fn the_same_seed_gives_the_same_trace_and_another_gives_another() {
    let traced = |seed| {
        run(&Options {
            seed,
            keep_trace: true,
            ..Options::default()
        })
    };
    for seed in [3, 7, 11] {
        let (once, again) = (traced(seed), traced(seed));
        assert!(once.lines > 1_000, "{once}");
        assert!(once.trace == again.trace, "seed {seed} differs");
        assert_eq!(once.digest, again.digest);
        assert_ne!(once.digest, traced(seed + 1).digest);
    }
}

#[test]
fn two_processes_print_the_same_trace_for_the_same_seed() {
    let print = |seed: &str| {
        let output = Command::new(env!("CARGO_BIN_EXE_sim"))
            .args(["--seed", seed, "--trace"])
            .output()
            .expect("the binary was built with this test");
        assert!(output.status.success(), "seed {seed} failed");
        output.stdout
    };
    let (once, again) = (print("5"), print("5"));
    assert!(once.len() > 100_000);
    assert!(once == again, "the traces of two processes differ");
    assert!(once != print("6"));
}

/// The observer finds this mistake, in one of these properties.
fn is_found(mutant: Mutant, siege: Option<Siege>, properties: &[&str]) {
    let options = Options {
        mutant: Some(mutant),
        second: mutant == Mutant::SlotFreedAfterOne,
        siege,
        ..Options::default()
    };
    let explored = explore(MISTAKES, &options, 1, |_| {});
    let Some(found) = explored.failures.first() else {
        panic!("{mutant:?} survived");
    };
    let failure = found.failure.as_ref().expect("only failures are listed");
    let property = failure.breach.property.as_str();
    assert!(
        properties.contains(&property),
        "{mutant:?} was found in {property}: {}",
        failure.breach.detail
    );
    let text = found.to_string();
    assert!(text.contains(&format!("replay with: make sim SEED={}", found.seed)));
}

#[test]
fn the_observer_finds_every_mistake_in_the_glue() {
    for mutant in MUTANTS {
        let properties: &[&str] = match mutant {
            Mutant::SeparateSenders => &["L3", "L2", "L4", "assertion"],
            Mutant::TwoQueues => &["L1", "L2", "assertion"],
            Mutant::SyncIsNotTold => &["L4", "L5", "L6", "audit", "assertion", "convergence"],
            Mutant::SlotFreedWhenSent => &["L5", "L6", "bounds", "assertion"],
            Mutant::SlotFreedAfterOne => &["L5", "L6"],
            Mutant::DrainDropsMail => &["L5", "L6", "bounds", "shutdown", "assertion"],
            Mutant::CreditIsLost | Mutant::ServedIsForgotten => &["convergence", "honesty", "S1"],
            Mutant::VerdictIsLost | Mutant::TimerIsLost => {
                &["convergence", "S1", "honesty", "assertion", "audit"]
            }
            _ => continue,
        };
        is_found(mutant, None, properties);
    }
}

/// Eight peers of this kind.
fn eight(kind: Kind, patient: bool) -> Option<Siege> {
    Some(Siege {
        who: Some(Who::All(kind)),
        hostile: Some(8),
        patient,
        ..Siege::default()
    })
}

/// What the node owes whatever strangers do: without the rule that a mutant takes away, one
/// of the attacks steers it. S1 tells even an observer who does not know how long anything
/// takes without an attack.
#[test]
fn without_any_of_the_rules_against_strangers_an_attack_succeeds_and_s1_tells() {
    for mutant in MUTANTS {
        let kind = match mutant {
            Mutant::VerdictMarksHash => {
                is_found(mutant, eight(Kind::Forger, false), &["V1", "honesty"]);
                continue;
            }
            Mutant::AnnouncementIsLost | Mutant::OnlySourceIsAsked | Mutant::InboundIsNotAsked => {
                Kind::Useless
            }
            Mutant::OnlyBestChainIsFetched => Kind::Withholder,
            Mutant::OneIsWaitedFor | Mutant::LateIsNotReplaced => Kind::NoBlocks,
            _ => continue,
        };
        let late = ["sync in time", "following"];
        is_found(mutant, eight(kind, false), &late);
        is_found(mutant, eight(kind, true), &["S1"]);
    }
}
