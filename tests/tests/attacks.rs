//! A node under attack in the simulator: whatever up to 114 hostile peers do, its first sync
//! ends in time, a new honest block is followed at once, its honest peer is never cut off,
//! and S1, V1 and V2 hold. Each attack runs by the numbers that fill nothing, all the places
//! that a node dials, half of its inbound ones and all; dialled and inbound, as is the honest peer.

use handfast_tests::sim::{HOSTILE, Kind, Options, Siege, Who, run};

/// Runs them all; seeds are the attack's own, so that each chain and each order comes.
fn steers_nothing(who: Who, seeds: u64) {
    let mut seed = seeds;
    for (hostile, dialled) in [
        (1, [(false, false), (true, true)]),
        (8, [(true, false), (false, true)]),
        (60, [(false, false), (true, true)]),
        (114, [(true, false), (false, true)]),
    ] {
        for (hostile_dialled, honest_dialled) in dialled {
            seed += 1;
            let outcome = run(&Options {
                seed,
                siege: Some(Siege {
                    who: Some(who),
                    hostile: Some(hostile),
                    hostile_dialled: Some(hostile_dialled),
                    honest_dialled: Some(honest_dialled),
                    patient: false,
                }),
                ..Options::default()
            });
            assert!(outcome.failure.is_none(), "{outcome}");
            // An attack that ended before it began would prove nothing.
            assert_eq!(outcome.counts.of("followed at the tip"), 6, "{outcome}");
        }
    }
}

/// A test per kind, named for what it proves.
macro_rules! attacks {
    ($($name:ident: $kind:expr,)*) => {
        $(
            #[test]
            fn $name() {
                steers_nothing(Who::All($kind), 100 * ($kind as u64));
            }
        )*

        #[test]
        fn every_kind_of_hostile_peer_has_its_test() {
            let tested = [$($kind),*];
            assert!(HOSTILE.iter().all(|kind| tested.contains(kind)));
        }
    };
}

attacks! {
    peers_that_say_nothing_steer_nothing: Kind::Mute,
    peers_that_claim_a_height_steer_nothing: Kind::Claimer,
    peers_that_show_the_chain_and_give_no_block_steer_nothing: Kind::NoBlocks,
    peers_that_show_the_chain_and_say_notfound_steer_nothing: Kind::NotFound,
    peers_that_withhold_branches_with_more_work_steer_nothing: Kind::Withholder,
    peers_that_deny_what_they_announced_and_announce_it_again_steer_nothing: Kind::Denier,
    peers_that_give_invalid_blocks_steer_nothing: Kind::BadBlocks,
    peers_that_give_blocks_which_do_not_connect_steer_nothing: Kind::BadToConnect,
    peers_that_give_invalid_headers_steer_nothing: Kind::BadHeaders,
    peers_that_give_blocks_with_other_data_steer_nothing: Kind::Tamperer,
    peers_that_push_blocks_with_other_data_steer_nothing: Kind::Forger,
    peers_that_poison_a_branch_which_only_the_engine_knows_steer_nothing: Kind::Poisoner,
    peers_that_answer_and_are_of_no_use_steer_nothing: Kind::Useless,
    peers_that_announce_what_nobody_has_steer_nothing: Kind::Rumourer,
    peers_that_send_garbage_steer_nothing: Kind::Garbage,
    peers_that_come_and_go_steer_nothing: Kind::Churner,
    peers_that_ask_for_everything_and_do_not_read_steer_nothing: Kind::SlowReader,
    peers_that_flood_steer_nothing: Kind::Flooder,
    peers_that_send_the_biggest_legal_frames_steer_nothing: Kind::Bulk,
    peers_that_send_a_byte_now_and_then_steer_nothing: Kind::Trickler,
    peers_that_close_one_side_steer_nothing: Kind::HalfCloser,
}

#[test]
fn all_kinds_of_hostile_peers_together_steer_nothing() {
    for round in 0..3 {
        steers_nothing(Who::Mixed, 10_000 + 100 * round);
    }
}
