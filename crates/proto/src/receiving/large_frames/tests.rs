use proptest::prelude::*;

use super::*;

const BLOCK: usize = 3_990_000;
/// Blocks of inbound peers for which there is memory.
const FIT: u64 = 4;

fn claim(id: u64, pool: Pool) -> Claim {
    of_group(id, pool, [10, 0])
}

fn of_group(id: u64, pool: Pool, group: [u8; 2]) -> Claim {
    Claim {
        id: ClaimId(id),
        group: Group::V4(group),
        pool,
        bytes: BLOCK,
    }
}

fn granted(events: &[Event]) -> Vec<u64> {
    let granted = |event: &Event| match event {
        Event::Granted(id) => Some(id.0),
        Event::Lost(_) => None,
    };
    events.iter().filter_map(granted).collect()
}

fn lost(events: &[Event]) -> Vec<u64> {
    let lost = |event: &Event| match event {
        Event::Lost(id) => Some(id.0),
        Event::Granted(_) => None,
    };
    events.iter().filter_map(lost).collect()
}

fn millis(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

#[test]
fn those_who_were_not_asked_and_strangers_take_nothing_from_peers_that_we_dialled() {
    let mut frames = LargeFrames::default();
    for id in 0..200 {
        let pool = [Pool::Inbound, Pool::Unasked][usize::from(id % 2 == 0)];
        let group = u8::try_from(id).expect("small");
        frames.claim(Duration::ZERO, of_group(id, pool, [group, 0]));
    }
    assert!(frames.bytes() <= MAX_INBOUND_BYTES + MAX_UNASKED_BYTES);
    for id in 200..210 {
        let events = frames.claim(Duration::ZERO, claim(id, Pool::Outgoing));
        assert_eq!(granted(&events), [id]);
    }
}

#[test]
fn a_block_that_we_asked_for_is_read_though_114_peers_send_all_bytes_but_one() {
    let mut frames = LargeFrames::default();
    for id in 0..114 {
        frames.claim(Duration::ZERO, claim(id, Pool::Inbound));
        frames.progress(Duration::ZERO, ClaimId(id), BLOCK - 1);
    }
    assert!(frames.bytes() <= MAX_INBOUND_BYTES);
    let honest = 999;
    frames.claim(Duration::ZERO, claim(honest, Pool::Inbound));
    let mut now = Duration::ZERO;
    loop {
        now += RECHECK;
        assert!(
            now < Duration::from_secs(30),
            "the honest one waits in vain"
        );
        let events = frames.check(now);
        for id in granted(&events) {
            if id == honest {
                return;
            }
            // At full speed, up to the last byte.
            frames.progress(now, ClaimId(id), BLOCK - 1);
        }
        assert!(!lost(&events).contains(&honest));
    }
}

#[test]
fn nobody_loses_a_permit_while_nobody_waits() {
    let mut frames = LargeFrames::default();
    for id in 0..FIT {
        frames.claim(Duration::ZERO, claim(id, Pool::Inbound));
    }
    assert_eq!(frames.check(Duration::from_secs(3_600)), []);
    frames.claim(Duration::from_secs(3_600), claim(FIT, Pool::Inbound));
    let events = frames.check(Duration::from_secs(3_600));
    assert_eq!((lost(&events), granted(&events)), (vec![0], vec![FIT]));
}

#[test]
fn a_peer_that_the_operator_named_is_never_too_slow() {
    let mut frames = LargeFrames::default();
    let fit = u64::try_from(MAX_MANUAL_BYTES / BLOCK).expect("small");
    for id in 0..=fit {
        frames.claim(Duration::ZERO, claim(id, Pool::Manual));
    }
    assert_eq!(frames.waiting.len(), 1);
    assert_eq!(frames.check(Duration::from_secs(3_600)), []);
    // And it holds up nobody but its like.
    for (id, pool) in [(100, Pool::Outgoing), (101, Pool::Inbound)] {
        let events = frames.claim(Duration::from_secs(3_600), claim(id, pool));
        assert_eq!(granted(&events), [id]);
    }
}

#[test]
fn the_slowest_goes_and_who_trickles_is_slower_than_a_bad_line() {
    let mut frames = LargeFrames::default();
    for id in 0..FIT {
        frames.claim(Duration::ZERO, claim(id, Pool::Inbound));
    }
    frames.claim(Duration::ZERO, claim(FIT, Pool::Inbound));
    let mut events = Vec::new();
    for tenth in 1..20 {
        let now = RECHECK * tenth;
        let tenth = usize::try_from(tenth).expect("small");
        for id in 0..FIT {
            // The third sends nearly all at once and then a byte at a time.
            let received = match id {
                2 => BLOCK - 100 + tenth,
                _ => 20_000 * tenth,
            };
            frames.progress(now, ClaimId(id), received);
        }
        events.extend(frames.check(now));
        if !events.is_empty() {
            break;
        }
    }
    assert_eq!(lost(&events), [2]);
    assert_eq!(granted(&events), [FIT]);
}

#[test]
fn a_complete_frame_waits_for_us_and_loses_nothing() {
    let mut frames = LargeFrames::default();
    for id in 0..FIT {
        frames.claim(Duration::ZERO, claim(id, Pool::Inbound));
        frames.complete(ClaimId(id));
    }
    frames.claim(Duration::ZERO, claim(FIT, Pool::Inbound));
    assert_eq!(frames.check(Duration::from_secs(60)), []);
    assert_eq!(granted(&frames.release(millis(1), ClaimId(3))), [FIT]);
}

#[test]
fn of_what_nobody_asked_for_a_group_sends_one_large_frame_at_a_time() {
    let mut frames = LargeFrames::default();
    let one = frames.claim(Duration::ZERO, of_group(0, Pool::Unasked, [1, 1]));
    assert_eq!(granted(&one), [0]);
    for id in 1..50 {
        let same = frames.claim(Duration::ZERO, of_group(id, Pool::Unasked, [1, 1]));
        assert_eq!(same, []);
    }
    let other = frames.claim(Duration::ZERO, of_group(50, Pool::Unasked, [2, 2]));
    assert_eq!(granted(&other), [50]);
    // Who is of no group that waits is not in the way.
    frames.progress(millis(600), ClaimId(0), 2_000_000);
    assert_eq!(frames.check(millis(700)), []);
    let later = (8..30).map(|tenth| RECHECK * tenth);
    let events: Vec<Event> = later.flat_map(|now| frames.check(now)).collect();
    assert_eq!(lost(&events).first(), Some(&0));
    assert_eq!(granted(&events).first(), Some(&1));
}

#[test]
fn a_group_without_a_permit_is_served_before_one_that_has_some() {
    let mut frames = LargeFrames::default();
    for id in 0..20 {
        frames.claim(Duration::ZERO, of_group(id, Pool::Inbound, [1, 1]));
    }
    frames.claim(Duration::ZERO, of_group(99, Pool::Inbound, [2, 2]));
    assert_eq!(granted(&frames.release(Duration::ZERO, ClaimId(0))), [99]);
}

proptest! {
    #[test]
    fn no_pool_is_ever_exceeded_and_every_claim_is_answered_in_the_end(
        script in prop::collection::vec((0u64..30, 0u8..4, 1usize..4_000_000, 0u8..6), 1..200),
    ) {
        let mut frames = LargeFrames::default();
        let mut open = BTreeSet::new();
        let mut now = Duration::ZERO;
        for (id, pool, bytes, action) in script {
            now += millis(50);
            let id = ClaimId(id);
            let events = match action {
                0..=2 if !open.contains(&id) => {
                    open.insert(id);
                    let group = Group::V4([0, u8::try_from(id.0 % 5).expect("small")]);
                    let pool = Pool::ALL[usize::from(pool)];
                    frames.claim(now, Claim { id, group, pool, bytes })
                }
                3 => {
                    frames.progress(now, id, bytes);
                    Vec::new()
                }
                4 => {
                    open.remove(&id);
                    frames.release(now, id)
                }
                _ => frames.check(now),
            };
            for id in lost(&events) {
                open.remove(&ClaimId(id));
            }
            for pool in Pool::ALL {
                prop_assert!(frames.used(pool) <= pool.bytes());
            }
        }
        // With nobody sending anything, each gets its turn, but for those who may take theirs.
        for _ in 0..1_000 {
            now += RECHECK;
            frames.check(now);
        }
        prop_assert!(frames.waiting.iter().all(|claim| claim.pool == Pool::Manual));
    }
}
