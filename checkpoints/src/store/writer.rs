//! Writing one checkpoint.
//!
//! New chunks go into a pack as they come. Then, in this order and each forced to the disk before the next: the pack,
//! the manifest, `HEAD`. A crash between two of them leaves the old current checkpoint, and at most a file that
//! nothing refers to yet.

use std::cell::RefCell;
use std::collections::HashMap;
use std::time::{SystemTime, UNIX_EPOCH};

use super::Store;
use super::chunks::{ChunkError, Chunks, Place};
use super::folder::FileError;
use super::layout::{self, BUFFER_BYTES};
use super::manifest::{Layout, MANIFEST_BYTES, MOST_STREAM_BYTES, Manifest, ManifestError};
use super::pack_writer::PackWriter;
use super::reader;
use super::tree::{MOST_CHUNKS, Root};
use super::worker_part::{PartError, WorkerPart};
use crate::hash::Hash;
use crate::offer::{CHUNK_BYTES, Kind, buffer_chunks};

/// A checkpoint that is being written. Dropped before [`Writer::finish`], it leaves nothing behind.
pub struct Writer<'s> {
    store: &'s mut Store,
    quota_bytes: u64,
    /// Begun with the first new chunk.
    pack: Option<PackWriter>,
    /// The buffers' entries so far.
    layout: Vec<u8>,
    buffer_bytes: u64,
    stream: Option<Root>,
    /// Of the buffers: they follow the last of them, so that new buffers lie one behind the other in the pack.
    recipes: Vec<Vec<u8>>,
    /// Chunks of the stream and recipes that were there before, and whether their bytes still are what they were.
    looked_at: RefCell<HashMap<Hash, bool>>,
}

/// A checkpoint that will be found after a crash of the machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Published {
    /// Its number.
    pub id: u64,
    /// What it added to the store, in bytes: pack and manifest.
    pub bytes_written: u64,
}

/// A checkpoint cannot be written.
#[derive(Debug, thiserror::Error)]
pub enum WriteError {
    /// It would need more than the store may have.
    #[error(
        "with this checkpoint the notebook's would have {needed} bytes, more than the {quota} allowed: \
         delete variables, keep fewer checkpoints, or raise the quota"
    )]
    Quota {
        /// What the store would have, in bytes; at least so much.
        needed: u64,
        /// What it may have, in bytes.
        quota: u64,
    },
    /// A chunk's bytes are not those of its hash, or there are none or too many.
    #[error("a chunk of {bytes} bytes came as {hash}, but is another or too long")]
    Chunk {
        /// The hash that was told.
        hash: Hash,
        /// Its length.
        bytes: usize,
    },
    /// A buffer or stream cannot be as it was told.
    #[error("{what} cannot be so")]
    Shape {
        /// Which of its properties.
        what: &'static str,
    },
    /// A stream that nobody could open.
    #[error(
        "without its arrays the state has {bytes} bytes, more than the {MOST_STREAM_BYTES} that can be loaded: hold \
         large values in arrays, or delete some"
    )]
    Stream {
        /// Its length.
        bytes: u64,
    },
    /// What a buffer or stream refers to is not there, or has another length.
    #[error("a part of the checkpoint is not there")]
    Chunks(#[from] ChunkError),
    /// What the worker says cannot be.
    #[error(transparent)]
    Part(#[from] PartError),
    /// The manifest cannot be.
    #[error("the manifest of the checkpoint cannot be written")]
    Manifest(#[source] ManifestError),
    /// A file of the store cannot be written.
    #[error(transparent)]
    File(#[from] FileError),
}

impl<'s> Writer<'s> {
    pub(crate) fn new(store: &'s mut Store, quota_bytes: u64) -> Self {
        let (layout, recipes) = (Vec::new(), Vec::new());
        let looked_at = RefCell::default();
        Writer { store, quota_bytes, pack: None, layout, buffer_bytes: 0, stream: None, recipes, looked_at }
    }

    /// The length in bytes of a chunk that need not be added: the store has it in a form that serves as `kind`.
    ///
    /// What is not a buffer's is read: a checkpoint that counts on a damaged stream could not be loaded at all. To read
    /// all buffers would cost as much as to write them; that is done when a worker has mapped them.
    pub fn knows(&self, hash: &Hash, kind: Kind) -> Option<u32> {
        let place = self.find(hash, kind)?;
        if kind == Kind::Other && !self.is_as_it_was(&place) {
            return None;
        }
        Some(place.entry.length)
    }

    fn is_as_it_was(&self, place: &Place) -> bool {
        if place.pack == self.store.next {
            return true;
        }
        let mut looked_at = self.looked_at.borrow_mut();
        *looked_at.entry(place.entry.hash).or_insert_with(|| self.store.reader.packs.read(place).is_ok())
    }

    /// Adds a chunk of 1 to [`CHUNK_BYTES`] bytes, when it is not known yet.
    ///
    /// # Errors
    /// The bytes do not have this hash; the quota; the disk.
    pub fn add(&mut self, hash: &Hash, kind: Kind, chunk: &[u8]) -> Result<(), WriteError> {
        if !(1..=CHUNK_BYTES).contains(&chunk.len()) || Hash::of(chunk) != *hash {
            return Err(WriteError::Chunk { hash: *hash, bytes: chunk.len() });
        }
        self.add_verified(*hash, kind, chunk)
    }

    fn add_verified(&mut self, hash: Hash, kind: Kind, chunk: &[u8]) -> Result<(), WriteError> {
        if self.find(&hash, kind).is_some() {
            return Ok(());
        }
        self.charge(chunk.len())?;
        let pack = match &mut self.pack {
            Some(pack) => pack,
            none => none.insert(PackWriter::begin(self.store.reader.packs.folder(), self.store.next)?),
        };
        Ok(pack.add(hash, kind, chunk)?)
    }

    /// Appends a buffer of `bytes` bytes: all its chunks, in order, are known.
    ///
    /// # Errors
    /// A chunk is not known as [`Kind::Buffer`]; lengths are not those of a buffer; there are too many buffers.
    pub fn buffer(&mut self, bytes: u64, chunks: &[Hash]) -> Result<(), WriteError> {
        let total = self.buffer_bytes.saturating_add(bytes);
        if self.layout.len() as u64 >= layout::MOST_BUFFERS * BUFFER_BYTES as u64
            || total > layout::MOST_BYTES
        {
            return Err(WriteError::Shape { what: "so many or so large buffers" });
        }
        if chunks.len() as u64 != buffer_chunks(bytes) {
            return Err(WriteError::Shape { what: "the number of a buffer's chunks" });
        }
        let mut left = bytes;
        for hash in chunks {
            let expected = left.min(CHUNK_BYTES as u64);
            self.known(hash, Kind::Buffer, Some(expected))?;
            left -= expected;
        }
        let (root, recipes) = Root::build(bytes, chunks);
        self.layout.extend(layout::encode(&root));
        self.buffer_bytes = total;
        self.recipes.extend(recipes);
        Ok(())
    }

    /// Sets the stream of `bytes` bytes: all its chunks, in order, are known.
    ///
    /// # Errors
    /// A chunk is not known; lengths do not add up; there are no chunks or too many; the quota; the disk.
    pub fn stream(&mut self, bytes: u64, chunks: &[Hash]) -> Result<(), WriteError> {
        if chunks.is_empty() || chunks.len() as u64 > MOST_CHUNKS {
            return Err(WriteError::Shape { what: "the number of the stream's chunks" });
        }
        let mut sum = 0;
        for hash in chunks {
            sum += self.known(hash, Kind::Other, None)?;
        }
        if sum > MOST_STREAM_BYTES {
            return Err(WriteError::Stream { bytes: sum });
        }
        if sum != bytes {
            return Err(WriteError::Shape { what: "the length of the stream" });
        }
        self.stream = Some(self.blob(bytes, chunks)?);
        Ok(())
    }

    /// Publishes the checkpoint, which becomes the current one.
    ///
    /// # Errors
    /// No stream; names that cannot be; the quota; the disk. After an error the current checkpoint is the old one;
    /// only when the very last step failed, the forcing of `HEAD` to the disk, it may be either.
    pub fn finish(mut self, part: WorkerPart, created: SystemTime) -> Result<Published, WriteError> {
        let stream = self.stream.take().ok_or(WriteError::Shape { what: "a checkpoint without a stream" })?;
        let layout = std::mem::take(&mut self.layout);
        let mut chunks = Vec::new();
        for chunk in layout.chunks(CHUNK_BYTES) {
            let hash = Hash::of(chunk);
            self.add_verified(hash, Kind::Other, chunk)?;
            chunks.push(hash);
        }
        let blob = self.blob(layout.len() as u64, &chunks)?;
        let layout = Layout { buffers: (layout.len() / BUFFER_BYTES) as u64, bytes: self.buffer_bytes, blob };
        let mut manifest = Manifest::new(part.checked()?, stream, layout);
        let since = created.duration_since(UNIX_EPOCH).unwrap_or_default();
        manifest.created_ms = u64::try_from(since.as_millis()).unwrap_or(u64::MAX);
        manifest.parent = self.store.head;
        self.publish(manifest, true)
    }

    /// Publishes a checkpoint whose chunks have been added, under the next number.
    pub(crate) fn publish(mut self, mut manifest: Manifest, is_head: bool) -> Result<Published, WriteError> {
        for recipe in std::mem::take(&mut self.recipes) {
            self.add_verified(Hash::of(&recipe), Kind::Other, &recipe)?;
        }
        let id = self.store.next;
        manifest.id = id;
        let file = manifest.encode().map_err(|error| WriteError::Manifest(ManifestError::Json(error)))?;
        if file.len() > MANIFEST_BYTES {
            return Err(WriteError::Manifest(ManifestError::Field { field: "length" }));
        }
        self.charge(file.len())?;
        let store = self.store;
        // From here on the number may be on the disk.
        store.next = id.saturating_add(1);
        let mut bytes_written = file.len() as u64;
        if let Some(pack) = self.pack {
            let pack = pack.publish()?;
            store.reader.packs.add(pack.number, pack.bytes, pack.footer, &pack.entries);
            store.used_bytes += pack.bytes;
            bytes_written += pack.bytes;
        }
        store.reader.manifests.put(&id.to_string(), &file)?;
        store.used_bytes += file.len() as u64;
        if is_head {
            store.put_head(id, Hash::of(&file))?;
        }
        Ok(Published { id, bytes_written })
    }

    /// Looks for everything that `manifest` refers to.
    ///
    /// # Errors
    /// The first thing that is not there.
    pub(crate) fn check_complete(&mut self, manifest: &Manifest) -> Result<(), WriteError> {
        if let Some(pack) = &mut self.pack {
            pack.flush()?;
        }
        match reader::walk(manifest, self, &mut |_, _| {}).into_iter().next() {
            Some((_, loss)) => Err(loss.into()),
            None => Ok(()),
        }
    }

    /// The root of a blob whose chunks are known; adds its recipes.
    fn blob(&mut self, bytes: u64, chunks: &[Hash]) -> Result<Root, WriteError> {
        let (root, recipes) = Root::build(bytes, chunks);
        self.recipes.extend(recipes);
        Ok(root)
    }

    /// The length of a chunk that must be known, with the length `expected`.
    fn known(&self, hash: &Hash, kind: Kind, expected: Option<u64>) -> Result<u64, WriteError> {
        let found = u64::from(self.knows(hash, kind).ok_or(ChunkError::Missing { hash: *hash })?);
        match expected {
            Some(expected) if expected != found => {
                Err(ChunkError::Length { hash: *hash, found, expected }.into())
            }
            _ => Ok(found),
        }
    }

    /// Refuses to add `bytes` bytes when they do not fit the quota.
    fn charge(&self, bytes: usize) -> Result<(), WriteError> {
        let pack = self.pack.as_ref().map_or(0, PackWriter::bytes);
        let needed = self.store.used_bytes + pack + bytes as u64;
        if needed > self.quota_bytes {
            return Err(WriteError::Quota { needed, quota: self.quota_bytes });
        }
        Ok(())
    }
}

impl Chunks for Writer<'_> {
    fn find(&self, hash: &Hash, kind: Kind) -> Option<Place> {
        let new = self.pack.as_ref().and_then(|pack| pack.find(hash, kind));
        let is_damaged = || self.looked_at.borrow().get(hash) == Some(&false);
        new.or_else(|| self.store.reader.packs.find(hash, kind).filter(|_| !is_damaged()))
    }

    fn read(&self, place: &Place) -> Result<Vec<u8>, ChunkError> {
        match &self.pack {
            Some(pack) if place.pack == self.store.next => pack.read(place),
            _ => self.store.reader.packs.read(place),
        }
    }
}
