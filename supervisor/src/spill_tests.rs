use super::*;
use cellblock_proto::execution::{Output, StreamName};

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

#[test]
fn shelf_holds_a_notebook_to_its_cap_and_forgets_with_the_journal() {
    let temp = tempfile::tempdir().unwrap();
    let folder: Arc<Path> = temp.path().into();
    let mut journal = Journal::open(&folder).unwrap();
    let outcome = crate::loss::unmeasured(
        cellblock_proto::execution::End::Ok,
        cellblock_proto::execution::Variables::Kept,
    );
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
fn on_a_disk_that_fills_less_is_kept() {
    assert_eq!(allowed(None), NOTEBOOK_BYTES);
    assert_eq!(allowed(Some(1 << 40)), NOTEBOOK_BYTES);
    assert_eq!(allowed(Some(160 << 20)), 10 << 20);
    assert_eq!(allowed(Some(0)), 0);
}
