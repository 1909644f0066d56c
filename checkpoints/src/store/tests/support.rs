//! A folder with a store, states to save in it, and what comes back.

use std::fs::File;
use std::os::fd::AsFd;
use std::path::PathBuf;
use std::time::{Duration, UNIX_EPOCH};

use tempfile::TempDir;

use crate::hash::Hash;
use crate::offer::{CHUNK_BYTES, Kind};
use crate::store::folder::read_exact_at;
use crate::store::{Published, ReadError, Reader, Store, WorkerPart, WriteError};

/// More than any test writes.
pub(super) const QUOTA: u64 = 1 << 32;

/// A folder for a store.
pub(super) struct Home(TempDir);

impl Home {
    pub(super) fn new() -> Self {
        Home(tempfile::tempdir().unwrap())
    }

    pub(super) fn store(&self) -> Store {
        Store::open(self.dir().as_fd()).unwrap()
    }

    pub(super) fn reader(&self) -> Reader {
        Reader::open(self.dir().as_fd()).unwrap()
    }

    pub(super) fn dir(&self) -> File {
        File::open(self.0.path()).unwrap()
    }

    pub(super) fn path(&self, file: &str) -> PathBuf {
        self.0.path().join(file)
    }

    /// All files, relative to the folder, sorted.
    pub(super) fn files(&self) -> Vec<String> {
        let list = |folder: &str| -> Vec<String> {
            let entries = std::fs::read_dir(self.path(folder)).unwrap().map(|entry| entry.unwrap());
            let files = entries.filter(|entry| entry.file_type().unwrap().is_file());
            files.map(|entry| format!("{folder}{}", entry.file_name().to_str().unwrap())).collect()
        };
        let mut files = [list(""), list("packs/"), list("manifests/")].concat();
        files.sort();
        files
    }

    /// A copy that can be damaged.
    pub(super) fn copy(&self) -> Home {
        let copy = Home::new();
        for folder in ["packs", "manifests"] {
            std::fs::create_dir(copy.path(folder)).unwrap();
        }
        for file in self.files() {
            std::fs::copy(self.path(&file), copy.path(&file)).unwrap();
        }
        copy
    }
}

/// What a checkpoint holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct State {
    pub(super) buffers: Vec<Vec<u8>>,
    pub(super) stream: Vec<u8>,
}

impl State {
    /// A stream that is cut into several chunks, and buffers of these lengths; all bytes differ with `seed`.
    pub(super) fn new(seed: u8, lengths: &[usize]) -> Self {
        let buffers = lengths.iter().enumerate().map(|(at, length)| noise(seed, at as u8, *length)).collect();
        let stream = format!("stream {seed} ").repeat(400).into_bytes();
        State { buffers, stream }
    }

    /// The stream's chunks: cut by position here, by content in a worker.
    pub(super) fn stream_chunks(&self) -> impl Iterator<Item = &[u8]> {
        self.stream.chunks(1500)
    }
}

/// Bytes that do not compress, and of which no two chunks are equal.
fn noise(seed: u8, at: u8, length: usize) -> Vec<u8> {
    let mut hasher = blake3::Hasher::new();
    hasher.update(&[seed, at]);
    let mut bytes = vec![0; length];
    hasher.finalize_xof().fill(&mut bytes);
    bytes
}

/// Saves a state, taken on day `day`.
pub(super) fn save_on(store: &mut Store, state: &State, day: u64) -> Result<Published, WriteError> {
    let mut writer = store.write(QUOTA);
    for buffer in &state.buffers {
        let mut hashes = Vec::new();
        for chunk in buffer.chunks(CHUNK_BYTES) {
            hashes.push(Hash::of(chunk));
            writer.add(&Hash::of(chunk), Kind::Buffer, chunk)?;
        }
        writer.buffer(buffer.len() as u64, &hashes)?;
    }
    let mut hashes = Vec::new();
    for chunk in state.stream_chunks() {
        hashes.push(Hash::of(chunk));
        writer.add(&Hash::of(chunk), Kind::Other, chunk)?;
    }
    writer.stream(state.stream.len() as u64, &hashes)?;
    writer.finish(WorkerPart::default(), UNIX_EPOCH + Duration::from_secs(day * 86_400))
}

pub(super) fn save(store: &mut Store, state: &State) -> Result<Published, WriteError> {
    save_on(store, state, 1)
}

/// Restores a checkpoint as a worker would, but that it reads and verifies first.
pub(super) fn load(reader: &Reader, id: u64) -> Result<State, ReadError> {
    let manifest = reader.manifest(id)?;
    let mut stream = Vec::new();
    reader.stream(&manifest, &mut stream)?;
    let mut buffers = Vec::new();
    for buffer in reader.extents(&manifest)? {
        let buffer = buffer?;
        let mut bytes = Vec::new();
        for extent in buffer.extents {
            assert_eq!(extent.offset % 4096, 0);
            let pack = reader.pack(extent.pack).unwrap();
            let mut run = vec![0; extent.bytes as usize];
            read_exact_at(pack.as_fd(), &mut run, extent.offset).unwrap();
            bytes.extend(run);
        }
        assert_eq!(bytes.len() as u64, buffer.bytes);
        buffers.push(bytes);
    }
    Ok(State { buffers, stream })
}

/// The checkpoint that a restore would choose, when all of it is whole.
pub(super) fn head(reader: &Reader) -> Option<(u64, State)> {
    let id = reader.head().unwrap().manifest?.id;
    assert!(reader.verify(&reader.manifest(id).unwrap()).is_empty());
    Some((id, load(reader, id).unwrap()))
}
