use std::os::fd::AsFd;

use super::support::{Home, QUOTA, State, head, load, save, save_on};
use crate::hash::Hash;
use crate::offer::{CHUNK_BYTES, Kind};
use crate::store::manifest::MOST_STREAM_BYTES;
use crate::store::{ChunkError, Extent, OpenError, Part, Reader, Retention, Store, WorkerPart, WriteError};

#[test]
fn what_was_saved_comes_back() {
    let home = Home::new();
    let mut store = home.store();
    let lengths = [0, 1, 4096, CHUNK_BYTES, CHUNK_BYTES + 1, 3 * CHUNK_BYTES - 5];
    let state = State::new(1, &lengths);
    assert_eq!(save(&mut store, &state).unwrap().id, 1);
    drop(store);
    assert_eq!(head(&home.reader()), Some((1, state)));
    assert!(home.reader().head().unwrap().passed_over.is_empty());
}

#[test]
fn a_new_buffer_is_one_run_even_between_others() {
    let home = Home::new();
    save(&mut home.store(), &State::new(1, &[5 * CHUNK_BYTES + 7, 9, 2 * CHUNK_BYTES, 11])).unwrap();
    let reader = home.reader();
    let buffers = reader.extents(&reader.manifest(1).unwrap()).unwrap();
    let extents: Vec<_> = buffers.into_iter().map(|buffer| buffer.unwrap().extents).collect();
    let first = 5 * CHUNK_BYTES as u64 + 7;
    let second = 4096 + first.next_multiple_of(4096);
    assert_eq!(extents[0], [Extent { pack: 1, offset: 4096, bytes: first }]);
    assert_eq!(extents[1], [Extent { pack: 1, offset: second, bytes: 9 }]);
    assert_eq!(extents[2], [Extent { pack: 1, offset: second + 4096, bytes: 2 * CHUNK_BYTES as u64 }]);
    // Pages are mapped whole, so behind a buffer there are zeros, and the stream only after its page.
    let pack = std::fs::read(home.path("packs/1")).unwrap();
    let end = (extents[3][0].offset + extents[3][0].bytes) as usize;
    assert!(pack[end..end.next_multiple_of(4096)].iter().all(|byte| *byte == 0));
}

#[test]
fn a_stream_that_costs_the_store_nothing_costs_whoever_opens_it_no_more_than_there_is() {
    let home = Home::new();
    let mut store = home.store();
    let chunk = vec![0; CHUNK_BYTES];
    let hash = Hash::of(&chunk);
    let most = usize::try_from(MOST_STREAM_BYTES).unwrap() / CHUNK_BYTES;
    for (chunks, fits) in [(most, true), (most + 1, false)] {
        let mut writer = store.write(QUOTA);
        writer.add(&hash, Kind::Other, &chunk).unwrap();
        let taken = writer.stream((chunks * CHUNK_BYTES) as u64, &vec![hash; chunks]);
        assert!(
            if fits { taken.is_ok() } else { matches!(taken, Err(WriteError::Stream { .. })) },
            "{chunks}"
        );
    }
}

#[test]
fn what_did_not_change_is_not_written_again() {
    let home = Home::new();
    let mut store = home.store();
    let mut state = State::new(1, &[40 * CHUNK_BYTES]);
    save(&mut store, &state).unwrap();
    let again = save(&mut store, &state).unwrap();
    assert!(again.bytes_written < 2000, "{again:?}");
    assert_eq!(home.files(), ["FORMAT", "HEAD", "manifests/1", "manifests/2", "packs/1"]);
    let [one, two] = [1, 2].map(|id| store.reader().manifest(id).unwrap());
    assert_eq!((one.fingerprint, two.parent), (two.fingerprint, Some(1)));

    state.buffers[0][7 * CHUNK_BYTES] ^= 1;
    let changed = save(&mut store, &state).unwrap();
    assert!(
        (CHUNK_BYTES as u64..CHUNK_BYTES as u64 + 16_384).contains(&changed.bytes_written),
        "{changed:?}"
    );
    assert_eq!(head(store.reader()).unwrap().1, state);
    let buffers = store.reader().extents(&store.reader().manifest(3).unwrap()).unwrap();
    assert_eq!(buffers[0].as_ref().unwrap().extents.len(), 3);
}

#[test]
fn a_chunk_of_the_stream_that_is_also_a_buffer_is_stored_again_so_that_it_can_be_mapped() {
    let home = Home::new();
    let mut store = home.store();
    let bytes = vec![7; 1000];
    save(&mut store, &State { buffers: vec![], stream: bytes.clone() }).unwrap();
    let state = State { buffers: vec![bytes.clone()], stream: bytes };
    save(&mut store, &state).unwrap();
    assert_eq!(head(&home.reader()), Some((2, state)));
}

#[test]
fn recipes_of_recipes_are_followed() {
    let home = Home::new();
    let mut store = home.store();
    // All zeros: one chunk on the disk, 8,193 hashes in the recipe, which therefore has two chunks.
    let zeros = vec![0; CHUNK_BYTES];
    let hash = Hash::of(&zeros);
    let mut writer = store.write(QUOTA);
    writer.add(&hash, Kind::Buffer, &zeros).unwrap();
    writer.buffer(8193 * CHUNK_BYTES as u64, &vec![hash; 8193]).unwrap();
    writer.stream(CHUNK_BYTES as u64, &[hash]).unwrap();
    writer.finish(WorkerPart::default(), std::time::UNIX_EPOCH).unwrap();
    let reader = home.reader();
    let manifest = reader.head().unwrap().manifest.unwrap();
    let buffer = reader.extents(&manifest).unwrap().remove(0).unwrap();
    assert_eq!((buffer.bytes, buffer.extents.len()), (8193 * CHUNK_BYTES as u64, 8193));
}

#[test]
fn chunks_are_taken_by_their_hash_and_buffers_by_their_lengths() {
    let home = Home::new();
    let mut store = home.store();
    let mut writer = store.write(QUOTA);
    let hash = Hash::of(b"abc");
    assert!(matches!(writer.add(&hash, Kind::Other, b"abd"), Err(WriteError::Chunk { .. })));
    assert!(matches!(writer.add(&Hash::of(b""), Kind::Other, b""), Err(WriteError::Chunk { .. })));
    let missing = |result| matches!(result, Err(WriteError::Chunks(ChunkError::Missing { .. })));
    assert!(missing(writer.buffer(3, &[hash])));
    writer.add(&hash, Kind::Other, b"abc").unwrap();
    assert!(missing(writer.buffer(3, &[hash])), "what is compressed cannot be mapped");
    writer.add(&hash, Kind::Buffer, b"abc").unwrap();
    assert!(matches!(writer.buffer(4, &[hash]), Err(WriteError::Chunks(ChunkError::Length { .. }))));
    assert!(matches!(writer.buffer(3, &[hash, hash]), Err(WriteError::Shape { .. })));
    writer.buffer(3, &[hash]).unwrap();
    assert!(matches!(writer.stream(4, &[hash]), Err(WriteError::Shape { .. })));
    assert!(matches!(
        writer.finish(WorkerPart::default(), std::time::UNIX_EPOCH),
        Err(WriteError::Shape { what: "a checkpoint without a stream" })
    ));
    assert_eq!(home.files(), ["FORMAT"], "nothing is left behind");
}

#[test]
fn the_quota_holds_for_packs_and_manifests_together() {
    let home = Home::new();
    let mut store = home.store();
    save(&mut store, &State::new(1, &[1_000_000])).unwrap();
    let used = store.used_bytes();
    let on_disk: u64 =
        ["packs/1", "manifests/1"].iter().map(|f| home.path(f).metadata().unwrap().len()).sum();
    assert_eq!(used, on_disk);
    let mut writer = store.write(used + 4096 + 200_000);
    let chunk = vec![1; 100_000];
    writer.add(&Hash::of(&chunk), Kind::Buffer, &chunk).unwrap();
    let chunk = vec![2; 100_000];
    let refused = writer.add(&Hash::of(&chunk), Kind::Buffer, &chunk);
    assert!(matches!(refused, Err(WriteError::Quota { quota, .. }) if quota == used + 204_096));
    drop(writer);
    assert_eq!(home.store_error(), "another process writes to these checkpoints: try again when it is done");
    assert_eq!(store.used_bytes(), used);
    assert_eq!(home.files(), ["FORMAT", "HEAD", "manifests/1", "packs/1"]);
}

impl Home {
    fn store_error(&self) -> String {
        Store::open(self.dir().as_fd()).err().unwrap().to_string()
    }
}

#[test]
fn there_is_one_writer_and_readers_need_not_wait_for_it() {
    let home = Home::new();
    let mut store = home.store();
    save(&mut store, &State::new(1, &[10])).unwrap();
    assert!(matches!(Store::open(home.dir().as_fd()), Err(OpenError::Locked)));
    assert_eq!(head(&home.reader()), Some((1, State::new(1, &[10]))));
    drop(store);
    home.store();
}

#[test]
fn the_next_checkpoint_continues_from_the_one_that_was_restored() {
    let home = Home::new();
    let mut store = home.store();
    for seed in 1..=3 {
        save(&mut store, &State::new(seed, &[10])).unwrap();
    }
    store.set_head(1).unwrap();
    assert_eq!(head(&home.reader()), Some((1, State::new(1, &[10]))));
    drop(store);
    let mut store = home.store();
    assert_eq!(save(&mut store, &State::new(4, &[10])).unwrap().id, 4);
    assert_eq!(store.reader().manifest(4).unwrap().parent, Some(1));
    let error = store.set_head(9).unwrap_err();
    assert_eq!(error.to_string(), "checkpoint 9 cannot become the current one");
}

#[test]
fn leftovers_are_removed_and_strange_files_left_alone() {
    let home = Home::new();
    save(&mut home.store(), &State::new(1, &[10])).unwrap();
    for name in [".HEAD", "packs/.2", "manifests/.2", "packs/07", "packs/x"] {
        std::fs::write(home.path(name), "x").unwrap();
    }
    let elsewhere = tempfile::NamedTempFile::new().unwrap();
    std::fs::copy(home.path("packs/1"), elsewhere.path()).unwrap();
    std::os::unix::fs::symlink(elsewhere.path(), home.path("packs/5")).unwrap();
    let store = home.store();
    assert_eq!(home.files(), ["FORMAT", "HEAD", "manifests/1", "packs/07", "packs/1", "packs/x"]);
    let [damage] = store.reader().damage() else { panic!("{:?}", store.reader().damage()) };
    assert_eq!(damage.file, "packs/5");
}

#[test]
fn a_later_format_is_refused_by_name() {
    let home = Home::new();
    std::fs::write(home.path("FORMAT"), "cellblock checkpoints 2\n").unwrap();
    let says = "the checkpoints have format `2`, and this version reads 1: use a newer cellblock";
    assert_eq!(home.store_error(), says);
    assert_eq!(Reader::open(home.dir().as_fd()).err().unwrap().to_string(), says);
}

#[test]
fn what_nobody_refers_to_is_collected_and_what_is_mapped_stays() {
    let home = Home::new();
    let mut store = home.store();
    let old = State::new(1, &[8 * CHUNK_BYTES]);
    let mut new = old.clone();
    save(&mut store, &old).unwrap();
    for chunk in 1..8 {
        new.buffers[0][chunk * CHUNK_BYTES] ^= 1;
    }
    save_on(&mut store, &new, 2).unwrap();
    let early = home.reader();
    let mapped = early.pack(1).unwrap();
    assert_eq!(store.collect().unwrap(), Default::default(), "all is needed");
    let candidates = store.reader.candidates().unwrap();
    assert!(candidates[0].bytes > 7 * CHUNK_BYTES as u64 && candidates[0].bytes < 8 * CHUNK_BYTES as u64);

    let rule = Retention { keep_last: 1, keep_daily: 0, max_bytes: None };
    assert_eq!(store.retain(&rule).unwrap(), [1]);
    let collected = store.collect().unwrap();
    // Pack 1 had one chunk in eight left: pack 3 has it now.
    assert_eq!(home.files(), ["FORMAT", "HEAD", "manifests/2", "packs/2", "packs/3"]);
    assert_eq!(collected.packs, 1);
    assert!(collected.bytes > 7 * CHUNK_BYTES as u64, "{collected:?}");
    assert_eq!(head(store.reader()), Some((2, new.clone())));
    assert_eq!(head(&home.reader()), Some((2, new)));
    assert_eq!(store.collect().unwrap(), Default::default(), "once is enough");

    let mut first = [0; 8];
    rustix::io::pread(&mapped, &mut first, 4096).unwrap();
    assert_eq!(first, old.buffers[0][..8]);
    drop(early);
}

#[test]
fn many_small_packs_become_one() {
    let home = Home::new();
    let mut store = home.store();
    let mut state = State { buffers: Vec::new(), stream: b"stream".to_vec() };
    for at in 0..140u8 {
        state.buffers.push(vec![at; 20_000]);
        save(&mut store, &state).unwrap();
    }
    store.retain(&Retention { keep_last: 1, keep_daily: 0, max_bytes: None }).unwrap();
    store.collect().unwrap();
    let packs = home.files().iter().filter(|file| file.starts_with("packs/")).count();
    assert!(packs <= 64, "{packs}");
    assert_eq!(head(&home.reader()), Some((140, state)));
}

#[test]
fn a_damaged_chunk_is_named_and_mended_by_the_next_checkpoint_that_has_it() {
    let home = Home::new();
    let state = State::new(1, &[CHUNK_BYTES, 2 * CHUNK_BYTES]);
    save(&mut home.store(), &state).unwrap();
    let mut pack = std::fs::read(home.path("packs/1")).unwrap();
    pack[4096 + 2 * CHUNK_BYTES + 99] ^= 4;
    std::fs::write(home.path("packs/1"), pack).unwrap();

    let mut store = home.store();
    let manifest = store.reader().manifest(1).unwrap();
    let losses = store.reader().verify(&manifest);
    let damaged = Hash::of(&state.buffers[1][CHUNK_BYTES..]);
    assert_eq!(losses.len(), 1);
    assert_eq!(losses[0].part, Part::Buffer(1));
    assert!(matches!(losses[0].error, ChunkError::Damaged { hash, pack: 1 } if hash == damaged));

    assert_eq!(store.mend(&losses).unwrap().damaged.len(), 1);
    let error = load(store.reader(), 1).unwrap_err();
    assert_eq!(error.to_string(), "buffer 1 of checkpoint 1 is damaged");
    let written = save(&mut store, &state).unwrap().bytes_written;
    assert!(written > CHUNK_BYTES as u64 && written < CHUNK_BYTES as u64 + 20_000);
    assert_eq!(load(store.reader(), 1).unwrap(), state);
    assert_eq!(head(&home.reader()).unwrap().1, state);
}

#[test]
fn a_pack_that_took_the_place_of_another_is_not_mistaken_for_it() {
    let [home, other] = [3, 4].map(|seed| {
        let home = Home::new();
        save(&mut home.store(), &State::new(seed, &[10_000])).unwrap();
        home
    });
    let reader = home.reader();
    std::fs::remove_file(home.path("packs/1")).unwrap();
    std::fs::copy(other.path("packs/1"), home.path("packs/1")).unwrap();
    let lengths = [&home, &other].map(|home| home.path("packs/1").metadata().unwrap().len());
    assert_eq!(lengths[0], lengths[1], "told apart by more than the length");
    assert!(matches!(reader.pack(1), Err(ChunkError::Collected { pack: 1 })));
    assert!(load(&reader, 1).is_err());
}

#[test]
fn a_number_is_not_given_twice_even_when_its_files_are_lost() {
    let home = Home::new();
    let mut store = home.store();
    for seed in 1..=3 {
        save(&mut store, &State::new(seed, &[10])).unwrap();
    }
    drop(store);
    for file in ["packs/3", "manifests/3"] {
        std::fs::remove_file(home.path(file)).unwrap();
    }
    let mut store = home.store();
    assert_eq!(store.head(), Some(2));
    assert_eq!(save(&mut store, &State::new(4, &[10])).unwrap().id, 4);
}
