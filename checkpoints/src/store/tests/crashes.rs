use std::os::fd::AsFd;

use super::support::{Home, State, head, load, save};
use crate::offer::CHUNK_BYTES;
use crate::store::faults::{self, Fault};
use crate::store::folder::Step;
use crate::store::{Reader, Retention, Store};

const ONE: Retention = Retention { keep_last: 1, keep_daily: 0, max_bytes: None };

/// Three states: each has one chunk that the one before does not have, and the pack of the first is soon mostly dead.
fn states() -> [State; 3] {
    let first = State::new(1, &[4 * CHUNK_BYTES, 100]);
    let mut second = first.clone();
    for chunk in 0..3 {
        second.buffers[0][chunk * CHUNK_BYTES] ^= 1;
    }
    second.stream.extend(b"second");
    let mut third = second.clone();
    third.buffers[1][0] ^= 1;
    [first, second, third]
}

/// What a session was told before it met its fault.
#[derive(Default)]
struct Told {
    saved: bool,
    failed: bool,
}

/// Opens the store, saves the second state, goes back and forth, keeps one checkpoint and collects.
fn session(home: &Home, second: &State) -> Told {
    let mut told = Told::default();
    let Ok(mut store) = Store::open(home.dir().as_fd()) else { return Told { failed: true, ..told } };
    told.saved = save(&mut store, second).is_ok();
    let mut rest = || {
        store.set_head(1).ok()?;
        store.set_head(2).ok()?;
        store.retain(&ONE).ok()?;
        store.collect().ok()
    };
    told.failed = !told.saved || rest().is_none();
    told
}

/// The newest complete checkpoint, and nothing else, is there after `fault` at each of the operations.
fn survives(fault: Fault) {
    let states = states();
    let base = Home::new();
    save(&mut base.store(), &states[0]).unwrap();
    let mut operation = 0;
    loop {
        let home = base.copy();
        let (told, _) = faults::with(Some((operation, fault)), || session(&home, &states[1]));
        let found =
            head(&home.reader()).unwrap_or_else(|| panic!("nothing is left after operation {operation}"));
        assert!(found.1 == states[found.0 as usize - 1], "operation {operation}: other bytes");
        assert!(found.0 == 1 || found.0 == 2);
        assert!(!told.saved || told.failed || found.0 == 2, "operation {operation}: told as saved, but lost");

        let mut store = home.store();
        assert!(store.reader().damage().is_empty(), "operation {operation}: {:?}", store.reader().damage());
        assert!(store.reader().head().unwrap().passed_over.is_empty(), "operation {operation}");
        assert!(home.files().iter().all(|file| !file.contains('.')), "{:?}", home.files());
        let id = save(&mut store, &states[2]).unwrap().id;
        store.retain(&ONE).unwrap();
        store.collect().unwrap();
        assert_eq!(head(&home.reader()), Some((id, states[2].clone())), "operation {operation}");
        if !told.failed {
            break;
        }
        operation += 1;
    }
    assert!(operation >= 30, "a session has {operation} operations");
}

#[test]
fn a_writer_that_dies_before_any_operation_loses_nothing_published() {
    survives(Fault::Crash);
}

#[test]
fn a_writer_that_dies_in_the_middle_of_any_write_loses_nothing_published() {
    survives(Fault::Torn);
}

#[test]
fn a_full_disk_at_any_operation_loses_nothing_published() {
    survives(Fault::Full);
}

/// Making the very first checkpoint: afterwards there is it or none.
#[test]
fn a_store_that_dies_while_it_is_made_can_be_made_again() {
    let [state, ..] = states();
    for fault in [Fault::Crash, Fault::Torn, Fault::Full] {
        for operation in 0.. {
            let home = Home::new();
            let (told, _) = faults::with(Some((operation, fault)), || {
                let mut store = Store::open(home.dir().as_fd()).ok()?;
                save(&mut store, &state).ok()
            });
            let mut store = home.store();
            if let Some(found) = head(store.reader()) {
                assert_eq!(found, (1, state.clone()));
            }
            save(&mut store, &state).unwrap();
            assert_eq!(head(&home.reader()).unwrap().1, state, "operation {operation}");
            if told.is_some() {
                assert!(operation >= 15);
                break;
            }
        }
    }
}

#[test]
fn after_a_full_disk_the_same_store_goes_on() {
    let [first, second, _] = states();
    for operation in 0.. {
        let home = Home::new();
        let mut store = home.store();
        save(&mut store, &first).unwrap();
        let (told, _) = faults::with(Some((operation, Fault::Full)), || save(&mut store, &second));
        let full = told.is_err();
        let published = save(&mut store, &second).unwrap();
        assert_eq!(head(store.reader()), Some((published.id, second.clone())));
        assert_eq!(head(&home.reader()), Some((published.id, second.clone())));
        if !full {
            break;
        }
    }
}

/// Against a machine that loses its power: nothing has its name before its bytes are on the disk, and no second name
/// changes before the first is.
#[test]
fn bytes_are_forced_to_the_disk_before_their_name_and_each_name_before_the_next() {
    let home = Home::new();
    let [first, second, _] = states();
    save(&mut home.store(), &first).unwrap();
    let (_, log) = faults::with(None, || session(&home, &second));
    let mut renames = 0;
    for (at, (step, file)) in log.iter().enumerate() {
        match step {
            Step::Rename => {
                renames += 1;
                assert_eq!(log[at - 1], (Step::Sync, file.clone()), "{log:?}");
                let folder = file.rsplit_once('/').map_or(String::new(), |(folder, _)| format!("{folder}/"));
                assert_eq!(log[at + 1], (Step::SyncFolder, folder), "{log:?}");
            }
            Step::Remove if !file.contains('.') => {
                let before = log[..at].iter().rposition(|(step, _)| *step == Step::Rename);
                let synced = log[before.unwrap()..at].iter().any(|(step, _)| *step == Step::SyncFolder);
                assert!(synced, "a file is removed before what replaces it is safe: {log:?}");
            }
            _ => {}
        }
    }
    assert!(renames >= 5, "{log:?}");
}

/// A reader that was opened before a collection tells that it is late; it never reads something else.
#[test]
fn a_reader_across_a_collection_reads_the_same_or_says_so() {
    let states = states();
    let home = Home::new();
    let mut store = home.store();
    save(&mut store, &states[0]).unwrap();
    save(&mut store, &states[1]).unwrap();
    let reader: Reader = home.reader();
    store.retain(&ONE).unwrap();
    store.collect().unwrap();
    assert!(load(&reader, 1).is_err());
    match load(&reader, 2) {
        Ok(found) => assert_eq!(found, states[1]),
        Err(error) => assert!(
            std::error::Error::source(&error).unwrap().to_string().contains("open the checkpoints anew")
        ),
    }
    assert_eq!(load(&home.reader(), 2).unwrap(), states[1]);
}
