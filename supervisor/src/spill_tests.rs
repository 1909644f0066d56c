use super::shelf::allowed;
use super::*;
use crate::journal::Journal;
use cellblock_proto::execution::{End, Outcome, Output, StreamName, Variables};
use std::time::SystemTime;

fn id() -> ExecutionId {
    "a".parse().unwrap()
}

fn stored(bytes: usize, before: u64) -> Stored {
    let payload = Payload::new(vec![b'x'; bytes]);
    Stored { output: Output::Stream { name: StreamName::Stdout }, payload, before }
}

fn append(spill: &mut Spill, seqs: std::ops::Range<u64>, bytes: usize) -> io::Result<()> {
    let outputs: Vec<_> = seqs.map(|seq| (seq, stored(bytes, seq * bytes as u64))).collect();
    spill.append(outputs.iter().map(|(seq, stored)| (*seq, stored)), 0)
}

fn all(spill: &Spill, from: u64) -> Vec<u64> {
    let (mut ahead, mut next, mut seqs) = (Ahead::at(from), from, Vec::new());
    while let Some((seq, _)) = spill.read(next, &mut ahead) {
        seqs.push(seq);
        next = seq + 1;
    }
    seqs
}

#[test]
fn outputs_are_read_from_any_place_while_more_are_added() {
    let temp = tempfile::tempdir().unwrap();
    let mut spill = Spill::new(&temp.path().into(), &id());
    append(&mut spill, 0..100, 100 << 10).unwrap();
    let mut ahead = Ahead::at(0);
    for seq in 0..100 {
        assert_eq!(spill.read(seq, &mut ahead).unwrap().0, seq);
    }
    assert!(spill.read(100, &mut ahead).is_none());
    append(&mut spill, 100..130, 100 << 10).unwrap();
    assert_eq!(spill.read(100, &mut ahead).unwrap().0, 100);
    assert_eq!(all(&spill, 77), (77..130).collect::<Vec<_>>());
    assert_eq!(all(&spill, 130), Vec::<u64>::new());
    // Where a reader begins is known by what it has passed over.
    let mut ahead = Ahead::at(77);
    assert_eq!(spill.read(77, &mut ahead).unwrap().0, 77);
    assert_eq!(ahead.position, Some(77 * (100 << 10)));
}

#[test]
fn of_what_all_have_read_the_head_goes_last() {
    let temp = tempfile::tempdir().unwrap();
    let mut spill = Spill::new(&temp.path().into(), &id());
    let per_segment = SEGMENT_BYTES / (1 << 20);
    let all_of = CAP_BYTES / SEGMENT_BYTES + 3;
    for segment in 0..all_of {
        let seqs = segment * per_segment..(segment + 1) * per_segment;
        let outputs: Vec<_> = seqs.clone().map(|seq| (seq, stored(1 << 20, seq << 20))).collect();
        spill.append(outputs.iter().map(|(seq, stored)| (*seq, stored)), seqs.end).unwrap();
    }
    let kept = all(&spill, 0);
    assert!(spill.bytes() <= CAP_BYTES);
    assert_eq!(
        kept[..(HEAD_SEGMENTS * per_segment) as usize],
        (0..HEAD_SEGMENTS * per_segment).collect::<Vec<_>>()
    );
    assert_eq!(kept.last(), Some(&(all_of * per_segment - 1)));
}

#[test]
fn what_a_killed_writer_left_is_read_up_to_its_last_whole_output_and_written_on() {
    let temp = tempfile::tempdir().unwrap();
    let folder: Arc<Path> = temp.path().into();
    let mut spill = Spill::new(&folder, &id());
    append(&mut spill, 0..10, 1000).unwrap();
    let bytes = spill.bytes();
    drop(spill);
    let file = OpenOptions::new().write(true).open(path(&folder, &id(), 0, 0)).unwrap();
    file.set_len(bytes - 500).unwrap();
    let mut spill = Spill::find(&folder, &id()).unwrap().unwrap();
    assert_eq!((spill.next(), spill.put_out()), (9, 9000));
    append(&mut spill, 9..12, 1000).unwrap();
    let spill = Spill::find(&folder, &id()).unwrap().unwrap();
    assert_eq!(all(&spill, 0), (0..12).collect::<Vec<_>>());
    assert!(Spill::find(&folder, &"b".parse().unwrap()).unwrap().is_none());
}

#[test]
fn damaged_segment_is_a_gap_and_no_error() {
    let temp = tempfile::tempdir().unwrap();
    let folder: Arc<Path> = temp.path().into();
    let mut spill = Spill::new(&folder, &id());
    append(&mut spill, 0..12, 1 << 20).unwrap();
    let mut names: Vec<_> = list(&folder).unwrap();
    names.sort();
    assert_eq!(names, ["a~0~0", "a~1~4", "a~2~8"]);
    let mut bytes = fs::read(folder.join("a~1~4")).unwrap();
    bytes[3 << 19] ^= 1;
    fs::write(folder.join("a~1~4"), bytes).unwrap();
    assert_eq!(all(&spill, 0), [0, 1, 2, 3, 4, 8, 9, 10, 11]);
    fs::remove_file(folder.join("a~0~0")).unwrap();
    assert_eq!(all(&spill, 0), [4, 8, 9, 10, 11]);
}

/// A disk that is full and then is not.
#[test]
fn what_does_not_fit_is_an_error_and_leaves_what_is_there_whole() {
    let temp = tempfile::tempdir().unwrap();
    let folder: Arc<Path> = temp.path().into();
    let mut spill = Spill::new(&folder, &id());
    append(&mut spill, 0..3, 1000).unwrap();
    // Nothing can be written through it.
    spill.writer = Some(File::open(path(&folder, &id(), 0, 0)).unwrap());
    append(&mut spill, 3..6, 1000).unwrap_err();
    assert_eq!(spill.next(), 3);
    spill.rest();
    append(&mut spill, 5..7, 1000).unwrap();
    assert_eq!(all(&spill, 0), [0, 1, 2, 5, 6]);
}

fn ok() -> Outcome {
    crate::loss::unmeasured(End::Ok, Variables::Kept)
}

#[test]
fn shelf_holds_a_notebook_to_its_cap_and_forgets_with_the_journal() {
    let temp = tempfile::tempdir().unwrap();
    let folder: Arc<Path> = temp.path().into();
    let mut journal = Journal::open(&folder).unwrap();
    let outcome = ok();
    for name in ["old", "new", "stray"] {
        let execution: ExecutionId = name.parse().unwrap();
        append(&mut Spill::new(&folder, &execution), 0..1, 10).unwrap();
        if name != "stray" {
            journal.end(&execution, (1, 10), (&outcome, &[]), std::iter::empty());
        }
    }
    let mut shelf = Shelf::open(&folder, &journal).unwrap();
    let there = |name: &str| folder.join(format!("{name}~0~0")).exists();
    assert_eq!((there("old"), there("new"), there("stray")), (true, true, false));
    shelf.put(Some(&folder), &"huge".parse().unwrap(), NOTEBOOK_BYTES);
    assert_eq!((there("old"), there("new")), (false, false));
    shelf.clear(&folder, &journal);
    assert!(shelf.owners.is_empty());
}

#[test]
fn what_ended_long_ago_goes_and_what_ended_first_is_the_first_to_go() {
    let temp = tempfile::tempdir().unwrap();
    let folder: Arc<Path> = temp.path().into();
    let mut journal = Journal::open(&folder).unwrap();
    let outcome = ok();
    let days = |days: u64| std::time::Duration::from_secs(days * 24 * 60 * 60);
    // Their names say nothing of their age.
    for (name, age) in [("b", 8), ("open", 8), ("a", 1), ("d", 3), ("c", 6), ("f", 2), ("e", 5), ("g", 4)] {
        let execution: ExecutionId = name.parse().unwrap();
        append(&mut Spill::new(&folder, &execution), 0..1, 10).unwrap();
        let file = OpenOptions::new().write(true).open(path(&folder, &execution, 0, 0)).unwrap();
        file.set_modified(SystemTime::now() - days(age)).unwrap();
        journal.accept(&execution, 0);
        if name != "open" {
            journal.end(&execution, (1, 10), (&outcome, &[]), std::iter::empty());
        }
    }
    let shelf = Shelf::open(&folder, &journal).unwrap();
    let there = |name: &str| path(&folder, &name.parse().unwrap(), 0, 0).exists();
    assert_eq!((there("b"), there("open")), (false, true), "{DAYS} days");
    let order: Vec<&str> = shelf.owners.iter().map(|(execution, _)| execution.as_str()).collect();
    assert_eq!(order, ["c", "e", "g", "d", "f", "a"]);
}

#[test]
fn on_a_disk_that_fills_less_is_kept() {
    assert_eq!(allowed(None), NOTEBOOK_BYTES);
    assert_eq!(allowed(Some(1 << 40)), NOTEBOOK_BYTES);
    assert_eq!(allowed(Some(160 << 20)), 10 << 20);
    assert_eq!(allowed(Some(0)), 0);
}
