use super::*;

fn sample(phase: SyncPhase, headers: u32, blocks: u32) -> Sample {
    Sample {
        phase,
        lasts: false,
        headers,
        blocks,
        expected: None,
        presynced: None,
        peers: 1,
    }
}

#[test]
fn progress_is_shown_only_while_the_node_is_behind() {
    for (given, shown) in [
        (sample(SyncPhase::Synced, 100, 100), None),
        (sample(SyncPhase::BlockSync, 101, 100), None),
        (sample(SyncPhase::HeaderSync, 100, 100), None),
        (sample(SyncPhase::NoPeers, 900, 100), None),
        (sample(SyncPhase::BlockSync, 900, 100), Some(Stage::Blocks)),
        (sample(SyncPhase::Stalled, 900, 100), Some(Stage::Blocks)),
        (sample(SyncPhase::HeaderSync, 900, 0), Some(Stage::Blocks)),
    ] {
        assert_eq!(stage(&given, None), shown, "{given:?}");
    }
    let nearly = sample(SyncPhase::BlockSync, 101, 100);
    assert_eq!(stage(&nearly, Some(Stage::Blocks)), Some(Stage::Blocks));
    let done = sample(SyncPhase::BlockSync, 101, 101);
    assert_eq!(stage(&done, Some(Stage::Blocks)), None);
}

#[test]
fn headers_are_shown_while_many_are_missing_by_the_clock() {
    let at = |headers, presynced| Sample {
        expected: Some(900_000),
        presynced,
        ..sample(SyncPhase::HeaderSync, headers, 0)
    };
    assert_eq!(stage(&at(0, Some(4_000)), None), Some(Stage::Presync));
    assert_eq!(stage(&at(2_000, None), None), Some(Stage::Headers));
    assert_eq!(stage(&at(899_990, None), None), Some(Stage::Blocks));
}

#[test]
fn headers_are_counted_without_a_goal_where_no_height_is_expected() {
    let first = sample(SyncPhase::HeaderSync, 0, 0);
    assert_eq!(stage(&first, None), None, "it may be over in a moment");
    let second = Sample {
        lasts: true,
        ..first
    };
    assert_eq!(stage(&second, None), Some(Stage::Headers));
    assert_eq!(position(Stage::Headers, &second).goal, None);
    let synced = Sample {
        lasts: true,
        ..sample(SyncPhase::Synced, 9, 9)
    };
    assert_eq!(stage(&synced, Some(Stage::Headers)), None);
}

#[test]
fn the_line_is_short_and_never_shows_that_no_time_is_left() {
    let at = |done, goal| Position { done, goal };
    let hours = Duration::from_secs(3 * 3_600 + 720);
    for (stage, at, left, shown) in [
        (
            Stage::Blocks,
            at(812_345, Some(900_123)),
            Some(hours),
            "blocks 812345/900123 90.2%, 3h 12m left",
        ),
        (
            Stage::Presync,
            at(1_812_345, Some(1_900_123)),
            Some(hours),
            "headers (1 of 2) 1812345/1900123 95.3%, 3h 12m left",
        ),
        (Stage::Headers, at(2_000, None), None, "headers 2000"),
        (
            Stage::Blocks,
            at(999_999, Some(1_000_000)),
            Some(Duration::ZERO),
            "blocks 999999/1000000 99.9%, 1s left",
        ),
        (
            Stage::Headers,
            at(900_001, Some(900_000)),
            Some(Duration::ZERO),
            "headers 900001/900001 100.0%",
        ),
        (Stage::Blocks, at(0, Some(0)), None, "blocks 0/0 0.0%"),
    ] {
        let text = text(stage, at, left);
        assert_eq!(text, shown);
        assert!(
            text.len() <= 52,
            "{text}: a bar fits beside it in 60 columns"
        );
    }
}
