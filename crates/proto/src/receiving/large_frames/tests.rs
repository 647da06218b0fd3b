use proptest::prelude::*;

use super::*;

const BLOCK: usize = 3_990_000;
/// Blocks of inbound peers that fit into memory.
const FIT: u64 = 4;
/// Unsolicited blocks that fit into memory.
const UNASKED_FIT: u64 = 2;

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
        Event::Lost(_) | Event::Spill(_) => None,
    };
    events.iter().filter_map(granted).collect()
}

fn lost(events: &[Event]) -> Vec<u64> {
    let lost = |event: &Event| match event {
        Event::Lost(id) => Some(id.0),
        Event::Granted(_) | Event::Spill(_) => None,
    };
    events.iter().filter_map(lost).collect()
}

fn millis(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

#[test]
fn unsolicited_and_inbound_frames_take_no_memory_from_peers_that_we_chose() {
    let mut frames = LargeFrames::default();
    for id in 0..200 {
        let pool = [Pool::Inbound, Pool::Unasked][usize::from(id % 2 == 0)];
        let group = u8::try_from(id).expect("small");
        frames.claim(Duration::ZERO, of_group(id, pool, [group, 0]));
    }
    assert!(frames.bytes() <= MAX_INBOUND_BYTES + MAX_UNASKED_BYTES);
    for id in 200..210 {
        let events = frames.claim(Duration::ZERO, claim(id, Pool::Chosen));
        assert_eq!(granted(&events), [id]);
    }
}

#[test]
fn a_requested_frame_never_waits_and_costs_no_peer_its_connection() {
    let mut frames = LargeFrames::default();
    for id in 0..114 {
        let events = frames.claim(Duration::ZERO, claim(id, Pool::Inbound));
        let expected = match id < FIT {
            true => Event::Granted(ClaimId(id)),
            false => Event::Spill(ClaimId(id)),
        };
        assert_eq!(events, [expected]);
    }
    assert!(frames.bytes() <= MAX_INBOUND_BYTES);
    assert!(frames.waiting.is_empty());
    assert_eq!(frames.check(Duration::from_secs(3_600)), []);
    // A released claim can be made again.
    assert_eq!(frames.release(Duration::from_secs(3_600), ClaimId(0)), []);
    let events = frames.claim(Duration::from_secs(3_600), claim(999, Pool::Inbound));
    assert_eq!(granted(&events), [999]);
}

#[test]
fn complete_spilled_frames_wait_only_for_earlier_ones() {
    let mut frames = LargeFrames::default();
    for id in 0..200 {
        let pool =
            [Pool::Inbound, Pool::Unasked, Pool::Chosen][usize::try_from(id % 3).expect("small")];
        frames.claim(Duration::ZERO, claim(id, pool));
    }
    for id in 200..203 {
        let events = frames.claim(Duration::ZERO, claim(id, Pool::Returned));
        assert_eq!(granted(&events).len(), usize::from(id < 202));
    }
    assert_eq!(granted(&frames.release(millis(1), ClaimId(201))), [202]);
}

#[test]
fn no_holder_is_disconnected_while_no_claim_waits() {
    let mut frames = LargeFrames::default();
    let group = |id| [u8::try_from(id).expect("small"), 0];
    for id in 0..UNASKED_FIT {
        frames.claim(Duration::ZERO, of_group(id, Pool::Unasked, group(id)));
    }
    let later = Duration::from_secs(3_600);
    assert_eq!(frames.check(later), []);
    let next = of_group(UNASKED_FIT, Pool::Unasked, group(UNASKED_FIT));
    frames.claim(later, next);
    let events = frames.check(later);
    assert_eq!(
        (lost(&events), granted(&events)),
        (vec![0], vec![UNASKED_FIT])
    );
}

#[test]
fn the_slowest_holder_is_disconnected_and_trickling_is_slower_than_a_bad_line() {
    let mut frames = LargeFrames::default();
    let group = |id| [u8::try_from(id).expect("small"), 0];
    for id in 0..=UNASKED_FIT {
        frames.claim(Duration::ZERO, of_group(id, Pool::Unasked, group(id)));
    }
    let mut events = Vec::new();
    for tenth in 1..20 {
        let now = RECHECK * tenth;
        let tenth = usize::try_from(tenth).expect("small");
        frames.progress(now, ClaimId(0), 20_000 * tenth);
        // The other sends nearly all at once and then trickles.
        frames.progress(now, ClaimId(1), BLOCK - 100 + tenth);
        events.extend(frames.check(now));
        if !events.is_empty() {
            break;
        }
    }
    assert_eq!(lost(&events), [1]);
    assert_eq!(granted(&events), [UNASKED_FIT]);
}

#[test]
fn a_complete_frame_waits_for_us_and_loses_nothing() {
    let mut frames = LargeFrames::default();
    let group = |id| [u8::try_from(id).expect("small"), 0];
    for id in 0..=UNASKED_FIT {
        frames.claim(Duration::ZERO, of_group(id, Pool::Unasked, group(id)));
        frames.complete(ClaimId(id));
    }
    assert_eq!(frames.check(Duration::from_secs(60)), []);
    assert_eq!(
        granted(&frames.release(millis(1), ClaimId(1))),
        [UNASKED_FIT]
    );
}

#[test]
fn a_group_sends_one_large_unsolicited_frame_at_a_time() {
    let mut frames = LargeFrames::default();
    let one = frames.claim(Duration::ZERO, of_group(0, Pool::Unasked, [1, 1]));
    assert_eq!(granted(&one), [0]);
    for id in 1..50 {
        let same = frames.claim(Duration::ZERO, of_group(id, Pool::Unasked, [1, 1]));
        assert_eq!(same, []);
    }
    let other = frames.claim(Duration::ZERO, of_group(50, Pool::Unasked, [2, 2]));
    assert_eq!(granted(&other), [50]);
    // A holder whose group does not wait blocks no claim.
    frames.progress(millis(600), ClaimId(0), 2_000_000);
    assert_eq!(frames.check(millis(700)), []);
    let later = (8..30).map(|tenth| RECHECK * tenth);
    let events: Vec<Event> = later.flat_map(|now| frames.check(now)).collect();
    assert_eq!(lost(&events).first(), Some(&0));
    assert_eq!(granted(&events).first(), Some(&1));
}

#[test]
fn a_group_without_a_frame_is_served_before_one_that_has_some() {
    let mut frames = LargeFrames::default();
    for id in 0..20 {
        frames.claim(Duration::ZERO, of_group(id, Pool::Returned, [1, 1]));
    }
    frames.claim(Duration::ZERO, of_group(99, Pool::Returned, [2, 2]));
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
            for event in events {
                if let Event::Lost(id) | Event::Spill(id) = event {
                    open.remove(&id);
                }
            }
            for pool in Pool::ALL {
                prop_assert!(frames.used(pool) <= pool.bytes());
            }
        }
        prop_assert!(frames.waiting.iter().all(|claim| !claim.pool.spills()));
        // With every remote silent and all complete frames handled, each claim is granted.
        for _ in 0..1_000 {
            now += RECHECK;
            frames.check(now);
            let holds = frames.holders.values().map(|holder| holder.claim);
            let complete: Vec<_> = holds.filter(|claim| claim.pool == Pool::Returned).collect();
            for claim in complete {
                frames.release(now, claim.id);
            }
        }
        prop_assert!(frames.waiting.is_empty());
    }
}
