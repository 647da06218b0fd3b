use std::fs;

use proptest::prelude::*;

use super::*;
use crate::FileStorage;
use crate::testing::{Fault, FaultyDisk};

const FORMAT: Format = Format {
    magic: *b"HFTESTED",
    version: 3,
};

fn open(disk: &FaultyDisk) -> (Journal, Found) {
    Journal::open(disk.storage(), FORMAT).unwrap()
}

fn contents(journal: &Journal) -> Vec<Vec<u8>> {
    let read = |index| journal.read(index).unwrap();
    (0..journal.len()).map(read).collect()
}

fn payload(id: usize, length: usize) -> Vec<u8> {
    (0..length).map(|at| (id * 31 + at) as u8).collect()
}

#[test]
fn what_was_appended_is_there_after_a_loss_of_power() {
    let disk = FaultyDisk::default();
    let (mut journal, found) = open(&disk);
    assert_eq!(found, Found::default());
    assert!(disk.contents().is_none(), "nothing to keep, no file");
    let payloads = [payload(1, 1), payload(2, 4_000), payload(3, 80)];
    journal.append(&payloads[..2]).unwrap();
    journal.append(&payloads[2..]).unwrap();
    let (journal, found) = open(&disk.crash(0, 0, false));
    assert_eq!((found.records, found.unread, found.damaged), (3, 0, 0));
    assert_eq!(contents(&journal), payloads);
}

#[test]
fn a_write_cut_short_at_every_byte_of_the_last_record_costs_that_record_alone() {
    let disk = FaultyDisk::default();
    let (mut journal, _) = open(&disk);
    let payloads = [payload(1, 300), payload(2, 171), payload(3, 300)];
    journal.append(&payloads[..2]).unwrap();
    let before = disk.contents().unwrap().len();
    journal.append(&payloads[2..]).unwrap();
    let whole = disk.contents().unwrap();
    for cut in before..whole.len() {
        let torn = FaultyDisk::default();
        torn.put(&whole[..cut]);
        let (mut journal, found) = open(&torn);
        assert_eq!(found.unread, (cut - before) as u64, "cut at {cut}");
        assert_eq!(contents(&journal), payloads[..2], "cut at {cut}");
        // And what follows is right, from the same offset on.
        journal.append(&payloads[2..]).unwrap();
        let (journal, found) = open(&torn.crash(0, 0, false));
        assert_eq!((found.records, found.unread), (3, 0), "cut at {cut}");
        assert_eq!(contents(&journal), payloads, "cut at {cut}");
    }
}

/// Three records in a file, and where they begin and end in it.
fn three_records() -> (Vec<u8>, [Vec<u8>; 3], [std::ops::Range<usize>; 3]) {
    let disk = FaultyDisk::default();
    let (mut journal, _) = open(&disk);
    let payloads = [payload(1, 60), payload(2, 61), payload(3, 62)];
    let mut ends = vec![];
    for payload in &payloads {
        journal.append(std::slice::from_ref(payload)).unwrap();
        ends.push(disk.contents().unwrap().len());
    }
    let ranges = [16..ends[0], ends[0]..ends[1], ends[1]..ends[2]];
    (disk.contents().unwrap(), payloads, ranges)
}

/// Opens `bytes`, in which only the records `intact` are undamaged: exactly these are found,
/// nothing of the file is lost, and later operations work.
fn opens_with(bytes: &[u8], payloads: &[Vec<u8>], intact: &[usize], what: &str) {
    let disk = FaultyDisk::default();
    disk.put(bytes);
    let (mut journal, found) = open(&disk);
    let expected: Vec<_> = intact.iter().map(|at| payloads[*at].clone()).collect();
    assert_eq!(contents(&journal), expected, "{what}");
    assert!(
        found.quarantined.is_some() || found.unread > 0 || found.damaged > 0,
        "{what}: damage is reported"
    );
    // The copy is made before anything can be lost, and is unchanged.
    assert_eq!(disk.quarantined(), [bytes], "{what}");
    journal.append(&[payload(4, 5)]).unwrap();
    assert_eq!(disk.quarantined(), [bytes], "{what}");
    let (journal, found) = open(&disk.crash(0, 0, false));
    assert_eq!((found.unread, found.damaged), (0, 0), "{what}");
    let expected = [expected, vec![payload(4, 5)]].concat();
    assert_eq!(contents(&journal), expected, "{what}");
}

#[test]
fn every_flipped_bit_costs_the_record_it_is_in_and_no_other() {
    let (whole, payloads, ranges) = three_records();
    for bit in 0..whole.len() * 8 {
        let mut bytes = whole.clone();
        bytes[bit / 8] ^= 1 << (bit % 8);
        let intact: Vec<usize> = (0..3)
            .filter(|at| !ranges[*at].contains(&(bit / 8)))
            .collect();
        opens_with(&bytes, &payloads, &intact, &format!("bit {bit}"));
    }
}

#[test]
fn every_cut_costs_the_records_it_cuts_and_no_other() {
    let (whole, payloads, ranges) = three_records();
    for length in 0..whole.len() {
        let intact: Vec<usize> = (0..3).filter(|at| ranges[*at].end <= length).collect();
        let at_a_seam = length == 16 || ranges.iter().any(|range| range.end == length);
        if at_a_seam {
            // The file as it was before the next record was written.
            let disk = FaultyDisk::default();
            disk.put(&whole[..length]);
            let (journal, found) = open(&disk);
            assert_eq!(contents(&journal), payloads[..intact.len()]);
            assert_eq!((found.unread, found.damaged, found.copy), (0, 0, None));
        } else {
            opens_with(
                &whole[..length],
                &payloads,
                &intact,
                &format!("cut at {length}"),
            );
        }
    }
}

#[test]
fn a_copy_that_cannot_be_kept_stops_the_start_and_changes_nothing() {
    let (whole, payloads, _) = three_records();
    let disk = FaultyDisk::default();
    disk.put(&whole[..whole.len() - 1]);
    disk.fail_all(Some(ErrorKind::StorageFull));
    let error = Journal::open(disk.storage(), FORMAT).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::StorageFull);
    assert_eq!(disk.contents().unwrap(), whole[..whole.len() - 1]);
    disk.fail_all(None);
    assert_eq!(contents(&open(&disk).0), payloads[..2]);
}

#[test]
fn a_special_file_at_the_path_of_the_journal_is_quarantined_and_never_waited_for() {
    use crate::testing::{SpecialFile, put_special_file};
    for special in SpecialFile::ALL {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("blocks.journal");
        put_special_file(&path, special);
        let storage = || Box::new(FileStorage::new(&path));
        let (mut journal, found) = Journal::open(storage(), FORMAT).unwrap();
        let quarantined = found.quarantined.expect("quarantined");
        assert!(fs::symlink_metadata(quarantined).is_ok(), "{special:?}");
        journal.append(&[payload(1, 10)]).unwrap();
        let (journal, _) = Journal::open(storage(), FORMAT).unwrap();
        assert_eq!(contents(&journal), [payload(1, 10)], "{special:?}");
    }
}

#[test]
fn a_damaged_file_keeps_its_bytes_under_another_name() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("blocks.journal");
    let (mut bytes, payloads, ranges) = three_records();
    bytes[ranges[1].start] ^= 1;
    fs::write(&path, &bytes).unwrap();
    let storage = || Box::new(FileStorage::new(&path));
    for _ in 0..2 {
        // Until a record is appended the file stays as it is, and has one copy.
        let (journal, found) = Journal::open(storage(), FORMAT).unwrap();
        assert_eq!((found.records, found.damaged, found.unread), (2, 1, 0));
        assert_eq!(
            contents(&journal),
            [payloads[0].clone(), payloads[2].clone()]
        );
        assert_eq!(fs::read(found.copy.expect("a copy")).unwrap(), bytes);
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 2);
    }
    let (mut journal, found) = Journal::open(storage(), FORMAT).unwrap();
    journal.append(&[payload(4, 5)]).unwrap();
    assert_eq!(fs::read(found.copy.expect("a copy")).unwrap(), bytes);
    let (_, found) = Journal::open(storage(), FORMAT).unwrap();
    assert_eq!((found.records, found.damaged, found.unread), (3, 0, 0));
}

#[test]
fn records_of_a_length_that_none_can_have_are_refused_and_leave_no_trace() {
    let disk = FaultyDisk::default();
    let (mut journal, _) = open(&disk);
    for wrong in [vec![], vec![0; MAX_RECORD + 1]] {
        let error = journal.append(&[payload(1, 10), wrong]).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidInput);
    }
    journal.append(&[payload(2, 10)]).unwrap();
    assert_eq!(contents(&open(&disk).0), [payload(2, 10)]);
}

#[test]
fn a_record_damaged_in_the_middle_does_not_take_the_later_ones_with_it() {
    let disk = FaultyDisk::default();
    let (mut journal, _) = open(&disk);
    journal
        .append(&[payload(1, 60), payload(2, 61), payload(3, 62)])
        .unwrap();
    let mut bytes = disk.contents().unwrap();
    bytes[16 + 8 + 60 + 32 + 8 + 5] ^= 1;
    disk.put(&bytes);
    let (journal, found) = open(&disk);
    assert_eq!((found.damaged, found.unread), (1, 0));
    assert_eq!(contents(&journal), [payload(1, 60), payload(3, 62)]);
}

#[test]
fn a_file_of_another_kind_or_version_is_quarantined() {
    for format in [
        Format {
            version: 4,
            ..FORMAT
        },
        Format {
            magic: *b"OTHERONE",
            ..FORMAT
        },
    ] {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("blocks.journal");
        let storage = || Box::new(FileStorage::new(&path));
        let (mut journal, _) = Journal::open(storage(), FORMAT).unwrap();
        journal.append(&[payload(1, 10)]).unwrap();
        let bytes = fs::read(&path).unwrap();
        let (mut journal, found) = Journal::open(storage(), format).unwrap();
        let quarantined = found.quarantined.expect("quarantined");
        assert_eq!(fs::read(quarantined).unwrap(), bytes);
        assert!(journal.is_empty());
        journal.append(&[payload(2, 10)]).unwrap();
        let (journal, _) = Journal::open(storage(), format).unwrap();
        assert_eq!(contents(&journal), [payload(2, 10)]);
    }
}

#[test]
fn an_append_that_fails_anywhere_can_be_repeated_and_leaves_nothing_behind() {
    use ErrorKind::{Other, StorageFull};
    let first = [payload(1, 50)];
    let second = [payload(2, 70), payload(3, 30)];
    // A short write at every byte, and then a full disk; or a failure at once.
    let short = (0..(70 + 30 + 2 * 40)).map(Fault::Takes);
    for fault in short.chain([Fault::Fails(Other), Fault::Fails(StorageFull)]) {
        let disk = FaultyDisk::default();
        let (mut journal, _) = open(&disk);
        journal.append(&first).unwrap();
        let before = disk.contents().unwrap();
        disk.plan([fault, Fault::Fails(StorageFull)]);
        let error = journal.append(&second).unwrap_err();
        let expected = match fault {
            Fault::Takes(0) => ErrorKind::WriteZero,
            Fault::Fails(kind) => kind,
            Fault::Takes(_) | Fault::None => StorageFull,
        };
        assert_eq!(error.kind(), expected);
        disk.plan([]);
        if !journal.doubtful {
            assert_eq!(disk.contents().unwrap(), before, "{fault:?}");
        }
        assert_eq!(contents(&journal), first);
        journal.append(&second).unwrap();
        let (journal, found) = open(&disk.crash(0, 0, false));
        assert_eq!((found.records, found.unread), (3, 0), "{fault:?}");
        assert_eq!(contents(&journal)[1..], second);
    }
}

#[test]
fn when_a_failed_write_cannot_be_undone_either_the_next_one_goes_to_a_new_file() {
    let disk = FaultyDisk::default();
    let (mut journal, _) = open(&disk);
    journal.append(&[payload(1, 50)]).unwrap();
    let full = Fault::Fails(ErrorKind::StorageFull);
    disk.plan([Fault::Takes(300), full, full]);
    journal.append(&[payload(2, 2_000)]).unwrap_err();
    journal.append(&[payload(3, 50)]).unwrap();
    let (journal, found) = open(&disk.crash(0, 0, false));
    assert_eq!((found.records, found.unread), (2, 0));
    assert_eq!(contents(&journal), [payload(1, 50), payload(3, 50)]);
}

#[test]
fn a_record_at_another_offset_of_the_file_is_not_one() {
    let disk = FaultyDisk::default();
    let (mut journal, _) = open(&disk);
    journal.append(&[payload(1, 50)]).unwrap();
    let mut bytes = disk.contents().unwrap();
    // As if a file system had left it of an older file behind the end.
    let old = bytes[16..].to_vec();
    bytes.extend(&old);
    disk.put(&bytes);
    let (journal, found) = open(&disk);
    assert_eq!((found.records, found.unread), (1, old.len() as u64));
    assert_eq!(journal.len(), 1);
}

#[test]
fn after_a_failed_sync_the_next_append_trusts_nothing_that_was_in_the_file() {
    let disk = FaultyDisk::default();
    let (mut journal, _) = open(&disk);
    journal.append(&[payload(1, 50)]).unwrap();
    disk.plan([Fault::None, Fault::Fails(ErrorKind::Other)]);
    journal.append(&[payload(2, 50)]).unwrap_err();
    // A second sync would succeed without proof: the disk dropped the write.
    journal.append(&[payload(3, 50)]).unwrap();
    let (journal, found) = open(&disk.crash(0, 0, false));
    assert_eq!((found.records, found.unread, found.damaged), (2, 0, 0));
    assert_eq!(contents(&journal), [payload(1, 50), payload(3, 50)]);
}

#[test]
fn a_read_only_directory_fails_every_append_until_it_is_writable_again() {
    let disk = FaultyDisk::default();
    let (mut journal, _) = open(&disk);
    disk.fail_all(Some(ErrorKind::ReadOnlyFilesystem));
    for _ in 0..3 {
        let error = journal.append(&[payload(1, 50)]).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::ReadOnlyFilesystem);
    }
    disk.fail_all(None);
    journal.append(&[payload(1, 50)]).unwrap();
    assert_eq!(
        contents(&open(&disk.crash(0, 0, false)).0),
        [payload(1, 50)]
    );
}

#[test]
fn records_are_dropped_and_the_others_stay() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("blocks.journal");
    let storage = || Box::new(FileStorage::new(&path));
    let (mut journal, _) = Journal::open(storage(), FORMAT).unwrap();
    let payloads: Vec<_> = (0..9).map(|id| payload(id, 400_000)).collect();
    journal.append(&payloads).unwrap();
    journal.retain(&[4, 5, 6, 7, 8]).unwrap();
    assert_eq!(contents(&journal), payloads[4..]);
    journal.append(&payloads[..1]).unwrap();
    let (mut journal, found) = Journal::open(storage(), FORMAT).unwrap();
    assert_eq!((found.records, found.unread), (6, 0));
    assert_eq!(contents(&journal)[..5], payloads[4..]);
    assert_eq!(journal.bytes(), fs::metadata(&path).unwrap().len());
    journal.clear().unwrap();
    assert!(journal.is_empty());
    assert_eq!(
        fs::read_dir(dir.path()).unwrap().count(),
        1,
        "no temporary file is left"
    );
    assert!(Journal::open(storage(), FORMAT).unwrap().0.is_empty());
}

/// One operation on a journal.
#[derive(Clone, Debug)]
enum Step {
    Append(Vec<usize>),
    Drop(usize),
    Reopen,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        8 => prop::collection::vec(1..200usize, 1..4).prop_map(Step::Append),
        2 => (0..4usize).prop_map(Step::Drop),
        1 => Just(Step::Reopen),
    ]
}

fn fault() -> impl Strategy<Value = Fault> {
    prop_oneof![
        12 => Just(Fault::None),
        1 => Just(Fault::Fails(ErrorKind::StorageFull)),
        1 => Just(Fault::Fails(ErrorKind::Other)),
        1 => Just(Fault::Fails(ErrorKind::Interrupted)),
        2 => (0..300usize).prop_map(Fault::Takes),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 4_000, failure_persistence: None, ..ProptestConfig::default() })]

    /// The durability promise, whichever operation fails and whenever power is lost.
    #[test]
    fn whichever_operation_fails_and_whenever_power_is_lost_nothing_confirmed_is_lost(
        steps in prop::collection::vec(step(), 1..14),
        faults in prop::collection::vec(fault(), 0..80),
        changes in 0..5usize,
        bytes in 0..400usize,
        renamed: bool,
    ) {
        let disk = FaultyDisk::default();
        let (mut journal, _) = open(&disk);
        disk.plan(faults);
        // The records that must be there, and all that were ever appended.
        let mut confirmed: Vec<Vec<u8>> = vec![];
        let mut given: Vec<Vec<u8>> = vec![];
        for (number, step) in steps.into_iter().enumerate() {
            match step {
                Step::Append(lengths) => {
                    let payloads: Vec<Vec<u8>> = lengths
                        .iter()
                        .map(|length| payload(number, *length))
                        .collect();
                    given.extend(payloads.clone());
                    if journal.append(&payloads).is_ok() {
                        confirmed.extend(payloads);
                    }
                }
                Step::Drop(count) => {
                    let count = count.min(journal.len());
                    // After a failure they may be gone or not: no caller relies on them.
                    let keep: Vec<usize> = (count..journal.len()).collect();
                    let _ = journal.retain(&keep);
                    confirmed.drain(..count.min(confirmed.len()));
                    prop_assert!(journal.len() >= confirmed.len());
                }
                Step::Reopen => {
                    // The copy of a damaged file may fail; opening is tried until it works.
                    journal = loop {
                        if let Ok((journal, _)) = Journal::open(disk.storage(), FORMAT) {
                            break journal;
                        }
                    };
                }
            }
            let present = contents(&journal);
            prop_assert!(is_within(&confirmed, &present), "{confirmed:?} in {present:?}");
        }
        let after = disk.crash(changes, bytes, renamed);
        let (journal, found) = open(&after);
        let present = contents(&journal);
        prop_assert!(found.quarantined.is_none());
        prop_assert!(is_within(&confirmed, &present), "{confirmed:?} in {present:?}");
        prop_assert!(present.iter().all(|present| given.contains(present)));
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2_000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn whatever_is_overwritten_every_intact_record_is_found_in_order(
        lengths in prop::collection::vec(1..300usize, 1..12),
        damages in prop::collection::vec((any::<prop::sample::Index>(), 1..400usize, any::<u8>()), 1..4),
        kept in any::<prop::sample::Index>(),
    ) {
        let disk = FaultyDisk::default();
        let (mut journal, _) = open(&disk);
        let mut records = vec![];
        let mut start = 16;
        for (id, length) in lengths.into_iter().enumerate() {
            journal.append(&[payload(id, length)]).unwrap();
            let end = disk.contents().unwrap().len();
            records.push((start..end, payload(id, length)));
            start = end;
        }
        let whole = disk.contents().unwrap();
        let mut bytes = whole.clone();
        for (at, length, with) in damages {
            let at = at.index(bytes.len());
            let end = bytes.len().min(at + length);
            bytes[at..end].fill(with);
        }
        bytes.truncate(bytes.len() - kept.index(bytes.len() / 4));
        let intact = |range: &std::ops::Range<usize>| bytes.get(range.clone()) == Some(&whole[range.clone()]);
        let expected: Vec<_> = records.iter().filter(|(range, _)| intact(range)).map(|(_, payload)| payload.clone()).collect();
        let disk = FaultyDisk::default();
        disk.put(&bytes);
        let (journal, found) = open(&disk);
        prop_assert_eq!(contents(&journal), expected);
        // A file as it was before some record was written is not reported as damaged.
        prop_assert!(whole.starts_with(&bytes) && found.copy.is_none() || disk.quarantined() == [bytes]);
    }
}

/// Whether all of `wanted` are in `present`, in this order.
fn is_within(wanted: &[Vec<u8>], present: &[Vec<u8>]) -> bool {
    let mut rest = present.iter();
    wanted
        .iter()
        .all(|wanted| rest.any(|present| present == wanted))
}
