use std::sync::LazyLock;

use proptest::prelude::*;

use super::support::{Home, QUOTA, State, head, load, save};
use crate::hash::Hash;
use crate::offer::CHUNK_BYTES;
use crate::store::{ChunkError, ImportError, Origin, WriteError};

/// A state, and the file that it was exported to.
static EXPORTED: LazyLock<(State, Vec<u8>)> = LazyLock::new(|| {
    let home = Home::new();
    let mut store = home.store();
    let state = State::new(3, &[CHUNK_BYTES + 10, 0, 70]);
    save(&mut store, &State::new(2, &[1000])).unwrap();
    save(&mut store, &state).unwrap();
    let mut file = Vec::new();
    store.reader().export(2, "sales \u{1b}[31m", &mut file).unwrap();
    (state, file)
});

#[test]
fn what_was_exported_is_imported_under_a_number_of_the_target() {
    let (state, file) = EXPORTED.clone();
    let home = Home::new();
    let mut store = home.store();
    save(&mut store, &State::new(7, &[10])).unwrap();
    save(&mut store, &State::new(8, &[10])).unwrap();
    let published = store.import(&mut &file[..], QUOTA).unwrap();
    assert_eq!(published.id, 3);
    assert_eq!(load(store.reader(), 3).unwrap(), state);
    let manifest = store.reader().manifest(3).unwrap();
    assert_eq!(manifest.origin, Some(Origin { notebook: "sales  [31m".into(), id: 2 }));
    assert_eq!((manifest.parent, store.head()), (None, Some(2)), "an import is no restore");
    let again = store.import(&mut &file[..], QUOTA).unwrap();
    assert!(again.bytes_written < 3000, "chunks that are there are not stored twice");
}

#[test]
fn the_first_checkpoint_of_a_store_may_be_imported() {
    let (state, file) = EXPORTED.clone();
    let home = Home::new();
    home.store().import(&mut &file[..], QUOTA).unwrap();
    assert_eq!(head(&home.reader()), Some((1, state)));
    assert!(home.reader().head().unwrap().passed_over.is_empty());
}

#[test]
fn a_file_that_is_too_large_or_says_so_is_refused_before_it_costs() {
    let (_, file) = EXPORTED.clone();
    let home = Home::new();
    let mut store = home.store();
    assert!(matches!(store.import(&mut &file[..], 100_000), Err(ImportError::Write(_))));
    // A manifest of 2^63 bytes, a name of 2^32.
    let name = 12..16;
    let mut long = file.clone();
    long[name].fill(255);
    assert!(matches!(store.import(&mut &long[..], QUOTA), Err(ImportError::Form { .. })));
    let mut long = file.clone();
    let manifest = 16 + u32::from_le_bytes(file[12..16].try_into().unwrap()) as usize;
    long[manifest + 7] = 127;
    assert!(matches!(store.import(&mut &long[..], QUOTA), Err(ImportError::Form { .. })));
    let mut later = file.clone();
    later[8] = 2;
    assert!(matches!(store.import(&mut &later[..], QUOTA), Err(ImportError::Format { found: 2 })));
    let longer = [&file[..], b"x"].concat();
    assert!(matches!(store.import(&mut &longer[..], QUOTA), Err(ImportError::Form { .. })));
    assert_eq!(home.files(), ["FORMAT"]);
}

#[test]
fn a_file_without_a_chunk_that_its_manifest_needs_is_refused() {
    let (_, mut file) = EXPORTED.clone();
    // The last chunk is the last buffer: 70 bytes behind a record of 44, before the hash of all.
    file.truncate(file.len() - 32 - 70 - 44);
    let word = |at: usize| u32::from_le_bytes(file[at..at + 4].try_into().unwrap()) as usize;
    let manifest = 16 + word(12);
    let count = manifest + 8 + word(manifest);
    file[count] -= 1;
    file.extend(Hash::of(&file).0);
    let home = Home::new();
    let mut store = home.store();
    let error = store.import(&mut &file[..], QUOTA).unwrap_err();
    assert!(matches!(error, ImportError::Write(WriteError::Chunks(ChunkError::Missing { .. }))), "{error:?}");
    assert_eq!(home.files(), ["FORMAT"]);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, ..ProptestConfig::default() })]

    #[test]
    fn a_changed_or_cut_file_is_refused_whole(
        at in prop_oneof![0usize..3000, any::<usize>()], bit in 0u8..8, cut in any::<bool>(),
    ) {
        let (_, mut file) = EXPORTED.clone();
        let at = at % file.len();
        if cut {
            file.truncate(at);
        } else {
            file[at] ^= 1 << bit;
        }
        let home = Home::new();
        let mut store = home.store();
        prop_assert!(store.import(&mut &file[..], QUOTA).is_err());
        prop_assert_eq!(home.files(), vec!["FORMAT"]);
    }
}
