use bitcoin::p2p::address::Address;

use super::*;
use Direction::Outbound;

/// A table in which each timer is set, with the network on.
fn waiting() -> Table {
    let mut table = Table::with_book(
        PeerTableConfig {
            dial: true,
            add_nodes: vec!["7.1.1.1:8333".to_owned(), "node.example".to_owned()],
            dns_seeds: vec!["seed.example".to_owned()],
            ..config()
        },
        book(20..30),
    );
    table.table.set_initial_download(false);
    let peers: Vec<ConnId> = (10..14).map(|n| table.admit(Outbound, addr(n))).collect();
    for id in &peers {
        table.message(*id, Message::Addr(Vec::new()));
    }
    table.step(order(Order::MorePeers));
    // The first ones are sent at once, the later ones wait.
    for n in 30..35 {
        let fresh = (START.unix, Address::new(&addr(n), full_node()));
        table.message(peers[0], Message::Addr(vec![fresh]));
    }
    table
}

#[test]
fn each_timer_is_set_in_some_situation_and_wakes_the_table() {
    let table = waiting();
    for timer in PeerTimer::ALL {
        let due = table.table.due(timer);
        assert!(due.is_some(), "{timer:?} is not set");
        let mut table = waiting();
        // Whatever else is due earlier, the table is awake then.
        while let Some(next) = table.table.deadline().filter(|next| Some(*next) < due) {
            table.now = table.now.after(next.saturating_sub(table.now.mono));
            table.tick();
            if table.table.due(timer) != due {
                break;
            }
        }
        let left = table.table.due(timer);
        assert!(left != due || table.table.deadline() == due, "{timer:?}");
    }
}

#[test]
fn with_the_network_off_only_dials_end_and_a_table_that_stops_waits_for_nothing() {
    let mut table = waiting();
    table.step(Input::SetNetworkActive(false));
    let set = |table: &Table| {
        let timers = PeerTimer::ALL.into_iter();
        let set = timers.filter(|timer| table.table.due(*timer).is_some());
        set.collect::<Vec<_>>()
    };
    assert_eq!(set(&table), [PeerTimer::DialExpires]);
    table.step(Input::Drain);
    assert_eq!(set(&table), []);
    assert_eq!(table.table.deadline(), None);
}
