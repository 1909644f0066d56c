//! A pack while it is being written.

use std::collections::HashMap;
use std::sync::Arc;

use super::chunks::{ChunkError, Place, read_chunk};
use super::folder::{FileError, Folder, Temp};
use super::pack::{self, Coding, ENTRY_BYTES, Entry, FOOTER_BYTES, Footer, PAGE_BYTES};
use crate::hash::Hash;
use crate::offer::Kind;

/// Small chunks are written together, in pieces of this many bytes.
const PIECE_BYTES: usize = 1 << 20;

/// How hard zstd tries. The stream is written once and read seldom, but while it is compressed nothing is saved yet.
const ZSTD_LEVEL: i32 = 1;

/// Chunks that are in the file already or soon, and the index that will follow them.
pub(crate) struct PackWriter {
    number: u64,
    temp: Temp,
    /// Bytes that come after those in the file.
    pending: Vec<u8>,
    entries: Vec<Entry>,
    by_hash: HashMap<Hash, usize>,
    zstd: zstd::bulk::Compressor<'static>,
}

/// A pack that has been published.
pub(crate) struct NewPack {
    pub(crate) number: u64,
    pub(crate) bytes: u64,
    pub(crate) footer: Footer,
    pub(crate) entries: Vec<Entry>,
}

impl PackWriter {
    /// Begins the pack `number`.
    pub(crate) fn begin(folder: &Arc<Folder>, number: u64) -> Result<Self, FileError> {
        let temp = folder.begin(&number.to_string())?;
        let zstd = zstd::bulk::Compressor::new(ZSTD_LEVEL).map_err(|source| FileError {
            doing: "compress into",
            file: temp.file.file.clone(),
            source,
        })?;
        let pending = pack::header().to_vec();
        Ok(PackWriter { number, temp, pending, entries: Vec::new(), by_hash: HashMap::new(), zstd })
    }

    /// What the file will have in bytes, were it finished now.
    pub(crate) fn bytes(&self) -> u64 {
        self.offset() + (self.entries.len() * ENTRY_BYTES + FOOTER_BYTES) as u64
    }

    /// Adds a chunk that is not in the pack yet, and whose hash is right.
    pub(crate) fn add(&mut self, hash: Hash, kind: Kind, chunk: &[u8]) -> Result<(), FileError> {
        let length = chunk.len() as u32;
        let compressed = match kind {
            Kind::Buffer => None,
            // A tenth must be won. An error is that the result would be longer than the chunk.
            Kind::Other => self
                .zstd
                .compress(chunk)
                .ok()
                .filter(|bytes| bytes.len() <= chunk.len() - chunk.len().div_ceil(10)),
        };
        match compressed {
            Some(stored) => self.append(hash, kind, Coding::Zstd, length, &stored),
            None => self.append(hash, kind, Coding::Raw, length, chunk),
        }
    }

    /// Adds a chunk in its stored form, that of another pack.
    pub(crate) fn copy(&mut self, entry: &Entry, stored: &[u8]) -> Result<(), FileError> {
        self.append(entry.hash, entry.kind, entry.coding, entry.length, stored)
    }

    fn append(
        &mut self,
        hash: Hash,
        kind: Kind,
        coding: Coding,
        length: u32,
        stored: &[u8],
    ) -> Result<(), FileError> {
        if kind == Kind::Buffer {
            self.pad();
        }
        let entry = Entry { hash, offset: self.offset(), stored: stored.len() as u32, length, coding, kind };
        if stored.len() >= PIECE_BYTES / 8 {
            self.flush()?;
            self.temp.append(stored)?;
        } else {
            self.pending.extend_from_slice(stored);
        }
        if kind == Kind::Buffer {
            // A page that is mapped has zeros behind the buffer's end, not somebody's chunk.
            self.pad();
        }
        if self.pending.len() >= PIECE_BYTES {
            self.flush()?;
        }
        self.by_hash.insert(hash, self.entries.len());
        self.entries.push(entry);
        Ok(())
    }

    /// Writes what is pending, so that every chunk can be read back.
    pub(crate) fn flush(&mut self) -> Result<(), FileError> {
        if !self.pending.is_empty() {
            self.temp.append(&self.pending)?;
            self.pending.clear();
        }
        Ok(())
    }

    /// Where a chunk of this pack is.
    pub(crate) fn find(&self, hash: &Hash, kind: Kind) -> Option<Place> {
        let entry = self.entries[*self.by_hash.get(hash)?];
        (entry.kind <= kind).then_some(Place { pack: self.number, entry })
    }

    /// Reads back a chunk that has been flushed.
    pub(crate) fn read(&self, place: &Place) -> Result<Vec<u8>, ChunkError> {
        read_chunk(&self.temp.file, place)
    }

    /// Writes the index and publishes the pack.
    pub(crate) fn publish(mut self) -> Result<NewPack, FileError> {
        let index: Vec<u8> = self.entries.iter().flat_map(Entry::encode).collect();
        let (index_offset, count) = (self.offset(), self.entries.len() as u64);
        let footer = Footer { index_offset, count, index_hash: Hash::of(&index) };
        self.pending.extend(index);
        self.pending.extend(footer.encode());
        self.flush()?;
        let bytes = self.temp.file.bytes;
        self.temp.publish()?;
        Ok(NewPack { number: self.number, bytes, footer, entries: self.entries })
    }

    fn offset(&self) -> u64 {
        self.temp.file.bytes + self.pending.len() as u64
    }

    fn pad(&mut self) {
        let padding = self.offset().next_multiple_of(PAGE_BYTES) - self.offset();
        self.pending.resize(self.pending.len() + padding as usize, 0);
    }
}
