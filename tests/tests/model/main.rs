//! All orders in which connections can come and go, and none that breaks an invariant.
//!
//! The checker (`stateright`) explores every reachable state of a node: the *production*
//! peer table, sync machine, sessions and ledgers, with mailboxes as FIFO queues between
//! them, and with one subscriber or two. Only the actors' glue is written again here, in `steps`; that the real glue does
//! the same is what the tests of `node` and those over TCP show.
//!
//! Each configuration below lets the outside do other things, and names the situations
//! that must really occur in it, so that none holds because nothing happens. `mutants` has
//! the wirings that went wrong elsewhere: the checker must refute each. `comparison`
//! shows that states which the checker takes for one are one.

mod action;
mod check;
mod comparison;
mod machines;
mod mutants;
mod naive;
mod node;
mod properties;
mod remotes;
mod situations;
mod steps;
mod wiring;
mod world;

use action::End;
use check::holds;
use handfast_proto::lifecycle::Role;
use node::Node;
use remotes::{Kind, Say};
use situations::Situation as S;

/// Everybody who may connect, more than the table admits.
fn admission(connections: u64, slots: usize) -> Node {
    Node {
        kinds: vec![Kind::Inbound, Kind::Leech, Kind::Outbound],
        ends: vec![End::Closes, End::Timer],
        situations: vec![
            S::Admitted,
            S::Refused,
            S::Duplicate,
            S::TimeoutAtVerack,
            S::DisconnectAfterVerack,
            S::DoneInFlight,
            S::Crowded,
            S::AllUsed,
            S::StopInHandshake,
            S::DrainWithAdd,
            S::DrainWithDone,
            S::Stopped,
        ],
        ..Node::new(connections, slots, 1)
    }
}

#[test]
fn whoever_comes_and_goes_the_tables_agree() {
    holds("admission", &admission(4, 2));
}

/// Every way for a connection to end, an operator who disconnects and bans.
fn endings(connections: u64, slots: usize) -> Node {
    Node {
        operator: true,
        bans: true,
        situations: vec![
            S::Admitted,
            S::BannedPeer,
            S::BannedNewcomer,
            S::TimeoutAtVerack,
            S::DisconnectAfterVerack,
            S::Panicked,
            S::DoneInFlight,
            S::Crowded,
            S::AllUsed,
            S::DrainWithAdd,
            S::DrainWithDone,
            S::Stopped,
        ],
        ..Node::new(connections, slots, 2)
    }
}

#[test]
fn however_connections_end_the_tables_agree() {
    holds("endings", &endings(4, 2));
}

/// Peers that answer, that keep silent for two minutes.
fn silence(connections: u64, slots: usize) -> Node {
    Node {
        kinds: vec![Kind::Inbound],
        says: vec![Say::NothingNew],
        silences: 1,
        sends: false,
        ends: vec![End::Closes],
        situations: vec![S::Admitted, S::Aside, S::AllUsed, S::Stopped],
        ..Node::new(connections, slots, 2)
    }
}

#[test]
fn while_peers_keep_silent_the_source_is_live() {
    holds("silence", &silence(4, 2));
}

/// Peers that break rules, of which the best are dialled.
fn misbehaviour(connections: u64, slots: usize) -> Node {
    Node {
        kinds: vec![Kind::Inbound, Kind::Outbound],
        says: vec![Say::BadHeader],
        sends: false,
        ends: vec![End::Closes],
        situations: vec![
            S::Admitted,
            S::Discouraged,
            S::OrderForTheGone,
            S::Successor,
            S::AllUsed,
            S::Stopped,
        ],
        ..Node::new(connections, slots, 2)
    }
}

#[test]
fn whoever_is_thrown_out_the_next_one_is_the_source() {
    holds("misbehaviour", &misbehaviour(4, 2));
}

/// More slots than the table admits, so that newcomers push others out.
fn eviction(connections: u64, slots: usize) -> Node {
    Node {
        sends: false,
        ends: vec![End::Closes],
        situations: vec![S::Admitted, S::Evicted, S::Crowded, S::AllUsed, S::Stopped],
        ..Node::new(connections, slots, 2)
    }
}

#[test]
fn whoever_is_evicted_the_tables_agree() {
    holds("eviction", &eviction(4, 3));
}

/// Two subscribers, of which the second does not want every connection.
fn two_subscribers(connections: u64, slots: usize) -> Node {
    Node {
        subscribers: Role::ALL.into(),
        kinds: vec![Kind::Inbound, Kind::Leech],
        ends: vec![End::Closes],
        sends: false,
        situations: vec![
            S::Admitted,
            S::Refused,
            S::Unwanted,
            S::OneIsBehind,
            S::DoneInFlight,
            S::Crowded,
            S::AllUsed,
            S::DrainWithAdd,
            S::DrainWithDone,
            S::Stopped,
        ],
        ..Node::new(connections, slots, 1)
    }
}

#[test]
fn with_two_subscribers_all_tables_agree() {
    holds("two subscribers", &two_subscribers(4, 2));
}

#[test]
fn what_holds_with_one_subscriber_holds_with_two() {
    for (name, node) in [
        ("admission", admission(3, 2)),
        ("endings", endings(3, 2)),
        ("eviction", eviction(4, 3)),
    ] {
        let node = Node {
            subscribers: Role::ALL.into(),
            ..node
        };
        holds(&format!("{name}, two subscribers"), &node);
    }
}

/// Two subscribers that both hear what a peer sends, and both want it disconnected.
fn two_that_punish(connections: u64, slots: usize) -> Node {
    Node {
        subscribers: Role::ALL.into(),
        says: vec![Say::BadHeader],
        ends: vec![End::Closes],
        sends: false,
        situations: vec![
            S::Admitted,
            S::Discouraged,
            S::TwoOrders,
            S::OrderForTheGone,
            S::Crowded,
            S::AllUsed,
            S::Stopped,
        ],
        ..Node::new(connections, slots, 2)
    }
}

#[test]
fn if_either_of_two_subscribers_disconnects_a_peer_all_tables_agree() {
    holds("two that punish", &two_that_punish(3, 2));
}

/// What the comparison leaves out must not matter: a state that is reached another way
/// goes on alike. On fewer connections, since every step is taken again.
#[test]
fn states_that_the_checker_takes_for_one_have_the_same_future() {
    let two = Node::new(2, 2, 1);
    let coming_and_going = Node {
        kinds: vec![Kind::Inbound, Kind::Leech, Kind::Outbound],
        operator: true,
        bans: true,
        ..two.clone()
    };
    let silence = Node {
        kinds: vec![Kind::Inbound, Kind::Outbound],
        says: vec![Say::NothingNew],
        silences: 2,
        sends: false,
        ends: vec![End::Closes],
        stops: false,
        ..two.clone()
    };
    let misbehaviour = Node {
        kinds: vec![Kind::Inbound, Kind::Outbound],
        says: vec![Say::BadHeader],
        silences: 1,
        sends: false,
        ends: vec![End::Closes],
        ..two
    };
    for (name, node) in [
        ("coming and going", coming_and_going),
        ("silence", silence),
        ("misbehaviour", misbehaviour),
    ] {
        let met = comparison::equal_keys_mean_equal_futures(&node);
        println!("{name}: {met} states were reached another way, and went on alike");
        assert!(met > 0);
    }
}

/// By hand: `cargo test --release -p handfast-tests --test model -- --ignored --nocapture`.
#[test]
#[ignore = "millions of states: takes minutes"]
fn five_connections_on_three_slots() {
    holds("eviction, five connections", &eviction(5, 3));
}
