use std::os::fd::AsFd;

use super::support::{Home, State, head, load, save};
use crate::store::folder::read_exact_at;
use crate::store::pack::{FOOTER_BYTES, Footer, PAGE_BYTES};
use crate::store::{OpenError, Part, Reader, Store};

fn states() -> [State; 3] {
    let first = State::new(1, &[5000, 300_000]);
    let mut second = first.clone();
    second.buffers[0][0] ^= 1;
    let mut third = second.clone();
    third.buffers[1][299_000] ^= 1;
    third.stream.extend(b"third");
    [first, second, third]
}

fn saved(states: &[State]) -> Home {
    let home = Home::new();
    let mut store = home.store();
    for state in states {
        save(&mut store, state).unwrap();
    }
    home
}

/// Reads the head, and every part of it that can be had is as it was saved, or its loss is named.
///
/// Returns whether anything at all was told to be wrong.
fn look(home: &Home, states: &[State], context: &str) -> bool {
    let reader = match Reader::open(home.dir().as_fd()) {
        Ok(reader) => reader,
        Err(OpenError::Format { .. }) => return true,
        Err(error) => panic!("{context}: {error}"),
    };
    let head = reader.head().unwrap();
    let mut told = !head.passed_over.is_empty() || !reader.damage().is_empty();
    let Some(manifest) = head.manifest else {
        assert_eq!(head.passed_over.len(), 3, "{context}: {head:?}");
        return true;
    };
    assert!(told || manifest.id == 3, "{context}: went back to {} without a word", manifest.id);
    let state = &states[manifest.id as usize - 1];
    let losses = reader.verify(&manifest);
    told |= !losses.is_empty();
    let is_lost = |part| losses.iter().any(|loss| loss.part == part);
    let mut stream = Vec::new();
    match reader.stream(&manifest, &mut stream) {
        Ok(()) => assert!(stream == state.stream, "{context}: another stream"),
        Err(_) => assert!(is_lost(Part::Stream), "{context}"),
    }
    let buffers = reader.extents(&manifest).unwrap_or_else(|error| panic!("{context}: {error}"));
    for (index, buffer) in buffers.into_iter().enumerate() {
        let mut bytes = Vec::new();
        for extent in buffer.into_iter().flat_map(|buffer| buffer.extents) {
            let mut run = vec![0; extent.bytes as usize];
            read_exact_at(reader.pack(extent.pack).unwrap().as_fd(), &mut run, extent.offset).unwrap();
            bytes.extend(run);
        }
        assert!(bytes == state.buffers[index] || is_lost(Part::Buffer(index)), "{context}: other bytes");
    }
    told
}

/// Every file, in every part of it, with one bit flipped.
#[test]
fn a_flipped_bit_anywhere_is_told_or_does_not_matter() {
    let states = states();
    let home = saved(&states);
    let mut silent = Vec::new();
    let mut nothing_left = 0;
    for file in home.files() {
        let whole = std::fs::read(home.path(&file)).unwrap();
        let ends = 400.max(whole.len() / 200);
        // Small files and the ends of large ones bit by bit, in between a sample.
        let step = if whole.len() < 2000 { 1 } else { 997 };
        let sample = (0..whole.len()).step_by(step).chain(whole.len().saturating_sub(ends)..whole.len());
        for at in sample {
            let mut bytes = whole.clone();
            bytes[at] ^= 1 << (at % 8);
            std::fs::write(home.path(&file), &bytes).unwrap();
            let context = format!("{file}, byte {at}");
            if !look(&home, &states, &context) {
                silent.push((file.clone(), at));
            }
            let head = home.reader_of_this_format().map(|reader| reader.head().unwrap().manifest);
            if head.is_some_and(|manifest| manifest.is_none()) {
                nothing_left += 1;
                assert_eq!(file, "packs/1", "{context}: nothing is left");
            }
        }
        std::fs::write(home.path(&file), &whole).unwrap();
    }
    // What the head does not need may be damaged without a word: older manifests, chunks of older states, padding.
    for (file, at) in silent {
        let matters = matches!(file.as_str(), "FORMAT" | "HEAD" | "manifests/3");
        let is_form = file.starts_with("packs/") && {
            let pack = std::fs::read(home.path(&file)).unwrap();
            let footer = pack.last_chunk::<FOOTER_BYTES>().unwrap();
            let footer = Footer::decode(footer, pack.len() as u64).unwrap();
            at < PAGE_BYTES as usize || at as u64 >= footer.index_offset
        };
        assert!(!matters && !is_form, "{file}, byte {at}: nobody noticed");
    }
    // All three checkpoints have chunks in the first pack: only its footer's offset, count and magic, and the chunk of
    // a recipe or its entry, take all with them.
    assert!(nothing_left < 200, "{nothing_left}");
}

impl Home {
    fn reader_of_this_format(&self) -> Option<Reader> {
        Reader::open(self.dir().as_fd()).ok()
    }
}

/// Every file gone, empty, or cut in half; then a writer comes, and the next checkpoint is whole again.
#[test]
fn a_missing_or_torn_file_is_told_and_the_next_checkpoint_is_whole() {
    let states = states();
    let base = saved(&states);
    for file in base.files() {
        let whole = std::fs::read(base.path(&file)).unwrap();
        for (what, bytes) in [
            ("missing", None),
            ("empty", Some(&whole[..0])),
            ("cut in half", Some(&whole[..whole.len() / 2])),
            ("cut by one byte", Some(&whole[..whole.len() - 1])),
        ] {
            let context = format!("{file} {what}");
            let home = base.copy();
            match bytes {
                Some(bytes) => std::fs::write(home.path(&file), bytes).unwrap(),
                None => std::fs::remove_file(home.path(&file)).unwrap(),
            }
            let told = look(&home, &states, &context);
            assert!(told || ["manifests/1", "manifests/2", "packs/2"].contains(&file.as_str()), "{context}");
            let mut store = Store::open(home.dir().as_fd()).unwrap();
            let next = State::new(9, &[5000, 10]);
            let id = save(&mut store, &next).unwrap().id;
            assert!(id > 3, "{context}: the number {id} was given twice");
            drop(store);
            assert_eq!(head(&home.reader()), Some((id, next)), "{context}");
        }
    }
}

/// A pack that is gone takes the checkpoints that need it, and what they have is stored again by the next.
#[test]
fn what_a_lost_pack_held_is_written_again() {
    let states = states();
    let home = saved(&states);
    std::fs::remove_file(home.path("packs/1")).unwrap();
    let mut store = home.store();
    assert_eq!(store.head(), None);
    save(&mut store, &states[1]).unwrap();
    for id in 1..=4 {
        // The chunks are the same, so the older checkpoints that share them are whole again too.
        let expected = &states[[0, 1, 2, 1][id - 1]];
        match load(store.reader(), id as u64) {
            Ok(found) => assert_eq!(&found, expected),
            Err(error) => assert!(error.to_string().ends_with(&format!(" of checkpoint {id} is damaged"))),
        }
    }
    assert_eq!(head(store.reader()), Some((4, states[1].clone())));
}
