//! The six wirings that went wrong elsewhere, and the one that several subscribers invite. The
//! checker must refute each.
//!
//! Each test is the same model with one rule of the wiring changed, and fails when the
//! checker finds nothing. It names the invariant that falls, and prints the shortest way there.
//!
//! The production machines notice most of it themselves and panic, which is what they
//! are for; so the last tests put sets in their place, as btcd has them, and show what the
//! wiring leaves behind where nobody keeps account: a dead peer that sync waits for.

use handfast_proto::lifecycle::Role;
use stateright::{Checker, Model};

use crate::action::End;
use crate::check::{shortest, told};
use crate::node::Node;
use crate::properties::{GHOST, L1, L2, L3, L5, L6, REST};
use crate::wiring::Wiring;
use crate::world::World;

fn mutant(wiring: Wiring) -> Node {
    Node {
        wiring,
        ..Node::new(4, 2, 1)
    }
}

/// The last state of the shortest counterexample.
fn refuted(node: &Node, property: &'static str) -> World {
    let Some(path) = shortest(node, property) else {
        panic!("{:?} survives: it never breaks {property}", node.wiring);
    };
    println!("{:?} breaks {property}\n{}", node.wiring, told(&path));
    path.last_state().clone()
}

fn says(world: &World, text: &str) -> bool {
    world.broken.iter().any(|broken| broken.text.contains(text))
}

#[test]
fn a_separate_senders_for_add_and_done_let_done_overtake_add() {
    let end = refuted(&mutant(Wiring::SeparateSenders), L1);
    assert!(says(&end, "Done overtook Add"));
}

#[test]
fn b_two_queues_at_peer_manager_let_done_overtake_add() {
    let end = refuted(&mutant(Wiring::TwoQueuesAtPeers), L1);
    assert!(says(&end, "Done overtook Add"));
}

#[test]
fn b_two_queues_at_sync_manager_let_done_overtake_add() {
    let end = refuted(&mutant(Wiring::TwoQueuesAtSync), L2);
    assert!(says(&end, "Done without Add"));
}

#[test]
fn c_a_flag_set_before_the_callback_lets_a_timeout_send_done_before_add() {
    // Nothing else may end a connection here: the timer alone is enough.
    let node = Node {
        ends: vec![End::Timer],
        ..mutant(Wiring::FlagBeforeCallback)
    };
    let end = refuted(&node, L1);
    assert!(says(&end, "Done overtook Add"));
}

#[test]
fn d_done_gated_by_the_peers_own_flag_tells_sync_manager_of_strangers() {
    let end = refuted(&mutant(Wiring::DoneByThePeersFlag), L3);
    assert!(end.sync.ids.is_empty());
}

#[test]
fn e_a_slot_freed_when_done_is_sent_lets_mailboxes_grow() {
    refuted(&mutant(Wiring::SlotFreedWhenSent), L5);
}

#[test]
fn e_a_slot_freed_when_done_is_sent_opens_the_barrier_too_early() {
    refuted(&mutant(Wiring::SlotFreedWhenSent), L6);
}

#[test]
fn f_a_drain_that_drops_events_opens_the_barrier_with_ends_unheard() {
    let end = refuted(&mutant(Wiring::DrainDropsEvents), L6);
    assert!(says(&end, "it is still in a table"));
}

#[test]
fn f_a_drain_that_drops_events_waits_for_ever_for_who_was_not_told_to_go() {
    let end = refuted(&mutant(Wiring::DrainDropsEvents), REST);
    assert!(!end.conns.is_empty() && end.free_slots < 2);
}

#[test]
fn f_a_drain_that_drops_events_leaves_peers_in_the_tables() {
    let end = refuted(&mutant(Wiring::DrainDropsEvents), GHOST);
    assert!(!end.table.ids.is_empty());
}

/// The wiring with a second subscriber.
fn with_a_second(wiring: Wiring, connections: u64, slots: usize) -> Node {
    Node {
        subscribers: Role::ALL.into(),
        wiring,
        ..Node::new(connections, slots, 1)
    }
}

#[test]
fn g_a_slot_freed_after_the_first_of_two_handlers_lets_the_others_mailbox_grow() {
    let end = refuted(&with_a_second(Wiring::SlotFreedAfterTheFirst, 2, 1), L5);
    let slots = 1;
    assert!(end.most_on_a_way() > 2 * slots);
}

#[test]
fn g_a_slot_freed_after_the_first_of_two_handlers_opens_the_barrier_too_early() {
    let end = refuted(&with_a_second(Wiring::SlotFreedAfterTheFirst, 2, 1), L6);
    assert!(says(&end, "it is still in a table"));
}

#[test]
fn g_a_slot_freed_after_the_first_handler_is_no_mistake_where_there_is_one_subscriber() {
    let one = Node {
        subscribers: Role::Sync.into(),
        ..with_a_second(Wiring::SlotFreedAfterTheFirst, 2, 1)
    };
    let checker = one.checker().threads(2).spawn_dfs().join();
    assert!(checker.discovery(L5).is_none() && checker.discovery(L6).is_none());
}

#[test]
fn with_a_second_subscriber_each_of_the_six_is_still_refuted() {
    for (wiring, property) in [
        (Wiring::SeparateSenders, L1),
        (Wiring::TwoQueuesAtPeers, L1),
        (Wiring::TwoQueuesAtSync, L2),
        (Wiring::FlagBeforeCallback, L1),
        (Wiring::DoneByThePeersFlag, L3),
        (Wiring::SlotFreedWhenSent, L5),
        (Wiring::SlotFreedWhenSent, L6),
        (Wiring::DrainDropsEvents, L6),
    ] {
        refuted(&with_a_second(wiring, 3, 2), property);
    }
}

// ---- The same with managers that keep no account.

fn naive(wiring: Wiring) -> Node {
    Node {
        observed: false,
        stops: false,
        ..mutant(wiring)
    }
}

/// At rest, with no connection left, SyncManager has a peer and syncs from it.
fn leaves_a_zombie(wiring: Wiring) {
    let node = match wiring {
        Wiring::FlagBeforeCallback => Node {
            ends: vec![End::Timer],
            ..naive(wiring)
        },
        _ => naive(wiring),
    };
    let end = refuted(&node, GHOST);
    let source = end.sync.source.expect("it syncs from somebody");
    assert!(
        !end.conns.contains_key(&source),
        "who went long ago, and nothing will ever tell it"
    );
}

#[test]
fn separate_senders_leave_a_zombie_where_nobody_keeps_account() {
    leaves_a_zombie(Wiring::SeparateSenders);
}

#[test]
fn two_queues_leave_a_zombie_where_nobody_keeps_account() {
    leaves_a_zombie(Wiring::TwoQueuesAtPeers);
    leaves_a_zombie(Wiring::TwoQueuesAtSync);
}

#[test]
fn a_flag_set_before_the_callback_leaves_a_zombie_where_nobody_keeps_account() {
    leaves_a_zombie(Wiring::FlagBeforeCallback);
}

#[test]
fn the_wiring_as_built_leaves_no_zombie_even_where_nobody_keeps_account() {
    let checker = naive(Wiring::AsBuilt).checker().threads(2).spawn_dfs();
    assert!(checker.join().discovery(GHOST).is_none());
}
