use super::*;
use crate::entry::INTERRUPT;
use cellblock_proto::execution::{End, Output, StreamName, Variables};
use proptest::prelude::*;
use std::os::unix::fs::MetadataExt;

fn id(name: &str) -> ExecutionId {
    name.parse().unwrap()
}

fn end(journal: &mut Journal, name: &str, outputs: u64) -> bool {
    let outcome = crate::loss::unmeasured(End::Ok, Variables::Kept);
    journal.end(&id(name), (outputs, 7), (&outcome, b"payload"), std::iter::empty())
}

fn again(folder: &Arc<Path>) -> Journal {
    Journal::open(folder).unwrap()
}

#[test]
fn accepted_and_ended_are_known_after_a_kill() {
    let temp = tempfile::tempdir().unwrap();
    let folder: Arc<Path> = temp.path().join("outputs").into();
    let mut journal = again(&folder);
    assert!(!folder.exists(), "nothing is made before there is something to write");
    journal.accept(&id("runs"), INTERRUPT);
    journal.accept(&id("ended"), 0);
    let output = Output::Stream { name: StreamName::Stderr };
    let stored = Stored { output, payload: Payload::new(b"text".to_vec()), before: 3 };
    let outcome = crate::loss::unmeasured(End::Interrupted, Variables::Kept);
    assert!(journal.end(&id("ended"), (1, 7), (&outcome, b"p"), std::iter::once((0, &stored))));
    // A shim that tells it again changes nothing.
    journal.accept(&id("ended"), 0);
    let journal = again(&folder);
    assert_eq!(journal.open_ones(), [Open { execution: id("runs"), flags: INTERRUPT }]);
    assert!(journal.knows(&id("runs")) && !journal.has_ended(&id("runs")) && journal.has_ended(&id("ended")));
    assert!(!journal.knows(&id("other")) && journal.find(&id("runs")).is_none());
    assert_eq!(journal.recent().collect::<Vec<_>>(), [&id("ended")]);
    let found = journal.find(&id("ended")).unwrap();
    assert_eq!(
        (found.outputs, found.put_out, found.outcome, found.payload.to_vec()),
        (1, 7, outcome, b"p".to_vec())
    );
    assert_eq!(
        (found.inline[0].0, found.inline[0].1.payload.to_vec(), found.inline[0].1.before),
        (0, b"text".to_vec(), 3)
    );
}

#[test]
fn what_is_not_saved_is_known_after_a_kill_until_it_is_told() {
    let temp = tempfile::tempdir().unwrap();
    let folder: Arc<Path> = temp.path().into();
    let saved = Checkpoint::Saved { id: 1, written_bytes: 0, pause_us: 0 };
    let mut outcome = crate::loss::unmeasured(End::Ok, Variables::Kept);
    let mut end = |journal: &mut Journal, name: &str, begun: u64, checkpoint: Option<&Checkpoint>| {
        journal.accept(&id(name), 0);
        (outcome.wall_us, outcome.checkpoint) = (begun, checkpoint.cloned());
        journal.end(&id(name), (0, 0), (&outcome, b""), std::iter::empty());
    };
    let unsaved = |journal: &Journal| journal.unsaved().lost().map(ToString::to_string).collect::<Vec<_>>();
    let mut journal = again(&folder);
    end(&mut journal, "none", 1, None);
    end(&mut journal, "saved", 1, Some(&saved));
    end(&mut journal, "pending", 1, Some(&Checkpoint::Pending));
    end(&mut journal, "cancelled", 0, None);
    end(&mut journal, "last", 1, None);
    assert_eq!(unsaved(&journal), ["pending", "last"]);
    assert_eq!(unsaved(&again(&folder)), ["pending", "last"]);
    journal.settle(Some(&id("pending")));
    assert_eq!((unsaved(&journal), unsaved(&again(&folder))), (vec!["last".into()], vec!["last".into()]));
    journal.settle(None);
    assert!(unsaved(&journal).is_empty() && unsaved(&again(&folder)).is_empty());
    let bytes = fs::metadata(folder.join(NAME)).unwrap().len();
    journal.settle(None);
    journal.settle(Some(&id("pending")));
    assert_eq!(fs::metadata(folder.join(NAME)).unwrap().len(), bytes, "there is nothing to say");
    end(&mut journal, "new", 1, None);
    // Of that one there may be a checkpoint; its own end has told what is lost with it.
    let lost =
        crate::loss::unmeasured(End::WorkerDied(Death::ShimLost), Variables::Lost { names: Vec::new() });
    journal.accept(&id("ran"), 0);
    journal.end(&id("ran"), (0, 0), (&lost, b""), std::iter::empty());
    let journal = again(&folder);
    assert_eq!(unsaved(&journal), ["new"]);
    assert!(journal.unsaved().clone().settle("ran"));
    assert!(again(&folder).find(&id("last")).is_some(), "its end is there all the same");
}

#[test]
fn thousand_are_remembered_and_files_are_two_and_bounded() {
    let temp = tempfile::tempdir().unwrap();
    let folder: Arc<Path> = temp.path().into();
    let mut journal = again(&folder);
    journal.accept(&id("open"), INTERRUPT);
    for number in 0..5000 {
        journal.accept(&id(&format!("e{number}")), 0);
        assert!(end(&mut journal, &format!("e{number}"), 0));
        if number % 700 == 0 {
            journal = again(&folder);
        }
    }
    for journal in [again(&folder), journal] {
        for number in 5000 - REMEMBERED as u64..5000 {
            assert!(journal.has_ended(&id(&format!("e{number}"))), "{number}");
        }
        assert!(journal.find(&id("e4999")).is_some() && journal.find(&id("e4100")).is_some());
        assert!(!journal.knows(&id("e0")) && journal.known.len() <= 2 * REMEMBERED + 2);
        assert_eq!(journal.open_ones(), [Open { execution: id("open"), flags: INTERRUPT }]);
        assert_eq!(journal.recent().count(), RECENT);
    }
    let bytes: u64 =
        fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().metadata().unwrap().len()).sum();
    assert!(fs::read_dir(&folder).unwrap().count() == 2 && bytes < 2 * FILE_BYTES, "{bytes}");
}

#[test]
fn large_outcomes_turn_the_file_and_their_ids_stay_known() {
    let temp = tempfile::tempdir().unwrap();
    let folder: Arc<Path> = temp.path().into();
    let mut journal = again(&folder);
    let outcome = crate::loss::unmeasured(End::Ok, Variables::Kept);
    for number in 0..20 {
        journal.end(&id(&format!("e{number}")), (0, 0), (&outcome, &vec![0; 1 << 20]), std::iter::empty());
    }
    let journal = again(&folder);
    assert!(journal.has_ended(&id("e0")) && journal.find(&id("e0")).is_none());
    assert!(journal.find(&id("e19")).is_some());
}

#[test]
fn journal_that_cannot_be_written_says_so_and_is_written_when_it_can() {
    let temp = tempfile::tempdir().unwrap();
    let folder: Arc<Path> = temp.path().join("gone/outputs").into();
    let mut journal = again(&folder);
    assert!(!end(&mut journal, "a", 0));
    assert!(journal.has_ended(&id("a")), "it is remembered as long as we live");
    fs::create_dir(temp.path().join("gone")).unwrap();
    assert!(end(&mut journal, "b", 0));
    assert!(again(&folder).has_ended(&id("b")));
}

/// Runs [`small_disk`] on a disk of its own, which ends with it.
#[test]
fn on_a_full_disk_ends_are_kept_and_outputs_that_do_not_fit_are_not() {
    let temp = tempfile::tempdir().unwrap();
    let script = "mount -t tmpfs -o size=64k small \"$SMALL_DISK\" && exec \"$@\"";
    let output = std::process::Command::new("unshare")
        .args(["--user", "--map-root-user", "--mount", "sh", "-c", script, "sh"])
        .arg(std::env::current_exe().unwrap())
        .args(["--exact", "journal::tests::small_disk", "--ignored"])
        .env("SMALL_DISK", temp.path())
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success() && said.contains("1 passed"), "{said}");
}

#[test]
#[ignore = "needs a small disk: it is run by the test above"]
fn small_disk() {
    let disk = PathBuf::from(std::env::var_os("SMALL_DISK").unwrap());
    let fill = |name: &str| {
        let mut file = File::create(disk.join(name)).unwrap();
        while file.write_all(&[1; 512]).is_ok() {}
    };
    let folder: Arc<Path> = disk.join("outputs").into();
    let mut journal = again(&folder);
    for name in ["first", "second"] {
        journal.make_room().unwrap();
        journal.accept(&id(name), 0);
    }
    fill("one");
    let output = Output::Stream { name: StreamName::Stdout };
    let stored = Stored { output, payload: Payload::new(vec![1; 60 << 10]), before: 0 };
    let outcome = crate::loss::unmeasured(End::Ok, Variables::Kept);
    let has_all = journal.end(&id("first"), (1, 7), (&outcome, b""), std::iter::once((0, &stored)));
    assert!(!has_all, "the output does not fit");
    fill("two");
    assert!(end(&mut journal, "second", 0), "what was reserved for it is there");
    assert!(journal.has_room(), "and for one more");
    let journal = again(&folder);
    assert_eq!(journal.open_ones(), []);
    assert_eq!(journal.find(&id("first")).unwrap().inline.len(), 0);
}

#[test]
fn for_each_that_is_open_the_disk_has_promised_room_for_its_end_and_gets_it_back_at_rest() {
    let temp = tempfile::tempdir().unwrap();
    let folder: Arc<Path> = temp.path().into();
    let mut journal = again(&folder);
    assert!(!journal.has_room());
    for number in 0..100 {
        if !journal.has_room() {
            journal.make_room().unwrap();
        }
        journal.accept(&id(&format!("e{number}")), 0);
    }
    assert!(journal.reserved >= journal.bytes + 99 * END_BYTES, "{journal:?}");
    let taken = || fs::metadata(folder.join(NAME)).unwrap().blocks() * 512;
    assert!(taken() >= 99 * END_BYTES, "{}", taken());
    journal.rest();
    assert!(taken() < 32 << 10, "{}", taken());
    assert_eq!(again(&folder).open_ones().len(), 100);
}

#[test]
fn where_the_disk_promises_no_room_nothing_is_to_be_accepted() {
    let temp = tempfile::tempdir().unwrap();
    let folder: Arc<Path> = temp.path().into();
    let mut journal = again(&folder);
    std::os::unix::fs::symlink("/dev/full", folder.join(NAME)).unwrap();
    journal.make_room().unwrap_err();
    assert!(!journal.has_room());
}

proptest! {
    #[test]
    fn journal_cut_anywhere_is_good_up_to_there_and_written_on(cut in 0..2000_u64) {
        let temp = tempfile::tempdir().unwrap();
        let folder: Arc<Path> = temp.path().into();
        let mut journal = again(&folder);
        let mut ends = Vec::new();
        for number in 0..6 {
            end(&mut journal, &format!("e{number}"), number);
            ends.push(journal.bytes);
        }
        drop(journal);
        OpenOptions::new().write(true).open(folder.join(NAME)).unwrap().set_len(cut.min(ends[5])).unwrap();
        let mut journal = again(&folder);
        let whole = ends.iter().filter(|end| **end <= cut).count();
        prop_assert_eq!(journal.recent().count(), whole);
        end(&mut journal, "after", 0);
        let journal = again(&folder);
        prop_assert_eq!(journal.recent().count(), whole + 1);
        prop_assert!(journal.find(&id("after")).is_some());
    }
}
