//! A checkpoint as one file, for another machine.
//!
//! ```text
//! magic `CBEXPT1\n` 8, format u32
//! length of the notebook's name u32, the name; length of the manifest u64, the manifest
//! number of chunks u64, and each: hash 32, stored u32, length u32, coding u8, kind u8, 0, 0, its stored bytes
//! BLAKE3 of all before 32
//! ```
//!
//! Integers are little endian. Such a file is hostile: it is read once from the front, what is held of it at a time
//! is bounded, nothing in it names a file, and every chunk is taken by its own hash.

use std::collections::HashSet;
use std::io::{self, Read, Write};

use super::Store;
use super::chunks::{ChunkError, Place, read_stored, verified};
use super::manifest::{FORMAT, MANIFEST_BYTES, Manifest, ManifestError, Origin};
use super::pack::{Entry, RECORD_BYTES};
use super::reader::{ReadError, Reader};
use super::worker_part::{NAME_BYTES, clean};
use super::writer::{Published, WriteError};
use crate::hash::Hash;
use crate::offer::CHUNK_BYTES;

const MAGIC: &[u8; 8] = b"CBEXPT1\n";

/// An exported file cannot be imported; nothing of it is kept.
#[derive(Debug, thiserror::Error)]
pub enum ImportError {
    /// It is not an exported checkpoint, or is cut off or changed.
    #[error("the file is not a whole exported checkpoint: {what}")]
    Form {
        /// What is wrong with it.
        what: &'static str,
    },
    /// It was written by a later version.
    #[error("the file has format {found}, and this version reads {FORMAT}: use a newer cellblock")]
    Format {
        /// The format it has.
        found: u32,
    },
    /// Its manifest is damaged.
    #[error("the manifest in the file cannot be used")]
    Manifest(#[source] ManifestError),
    /// One of its chunks is damaged.
    #[error("chunk {hash} in the file is damaged")]
    Chunk {
        /// The chunk.
        hash: Hash,
    },
    /// The file cannot be read.
    #[error("cannot read the file")]
    Input(#[source] io::Error),
    /// It cannot be written to the store, or does not have all that its manifest refers to.
    #[error("cannot keep the imported checkpoint")]
    Write(#[from] WriteError),
}

impl Reader {
    /// Writes checkpoint `id` of the notebook of this name into `into`, with every chunk that it needs, each verified.
    ///
    /// # Errors
    /// The checkpoint is not there or not whole; whatever `into` says. What was written then cannot be imported.
    pub fn export(&self, id: u64, notebook: &str, into: &mut impl Write) -> Result<(), ReadError> {
        let manifest = self.manifest(id)?;
        let file = self.manifests.open(&id.to_string())?.read_all(MANIFEST_BYTES as u64)?;
        let mut seen = HashSet::new();
        let mut places = Vec::new();
        let losses = self.walk(&manifest, &mut |part, place| {
            if seen.insert(place.entry.hash) {
                places.push((part, place));
            }
        });
        if let Some((part, source)) = losses.into_iter().next() {
            return Err(ReadError::Lost { id, part, source });
        }
        let output = |source| ReadError::Output { id, source };
        let mut out = Hashing::new(into);
        let notebook = &notebook[..notebook.floor_char_boundary(NAME_BYTES)];
        let start = [
            MAGIC,
            &FORMAT.to_le_bytes()[..],
            &(notebook.len() as u32).to_le_bytes(),
            notebook.as_bytes(),
            &(file.len() as u64).to_le_bytes(),
            &file,
            &(places.len() as u64).to_le_bytes(),
        ];
        start.iter().try_for_each(|field| out.write(field)).map_err(output)?;
        for (part, place) in places {
            let stored = self.stored(&place).map_err(|source| ReadError::Lost { id, part, source })?;
            out.write(&place.entry.record()).and_then(|()| out.write(&stored)).map_err(output)?;
        }
        let hash = Hash(*out.hasher.finalize().as_bytes());
        out.write(&hash.0).and_then(|()| out.inner.flush()).map_err(output)
    }

    /// A chunk in its stored form, verified.
    fn stored(&self, place: &Place) -> Result<Vec<u8>, ChunkError> {
        let stored = read_stored(&*self.packs.file(place.pack)?, place)?;
        verified(stored.clone(), place)?;
        Ok(stored)
    }
}

impl Store {
    /// Takes over a checkpoint that [`Reader::export`] wrote, under a number of this store. Its notebook and its number
    /// there are kept as its origin. It becomes the current checkpoint only where there was none.
    ///
    /// # Errors
    /// The file is not whole, or too large for the quota; the disk. Nothing of it is kept then.
    pub fn import(&mut self, from: &mut impl Read, quota_bytes: u64) -> Result<Published, ImportError> {
        let is_head = self.head.is_none();
        let mut input = Hashing::new(from);
        if &input.array::<8>()? != MAGIC {
            return Err(ImportError::Form { what: "it does not begin as one does" });
        }
        let found = u32::from_le_bytes(input.array()?);
        if found != FORMAT {
            return Err(ImportError::Format { found });
        }
        let length = u64::from(u32::from_le_bytes(input.array()?));
        let notebook = input.take(length, NAME_BYTES, "its notebook's name is too long")?;
        let mut notebook = String::from_utf8_lossy(&notebook).into_owned();
        clean(&mut notebook);
        let length = u64::from_le_bytes(input.array()?);
        let manifest = input.take(length, MANIFEST_BYTES, "its manifest is too long")?;
        let mut manifest = Manifest::decode(&manifest).map_err(ImportError::Manifest)?;

        let mut writer = self.write(quota_bytes);
        for _ in 0..u64::from_le_bytes(input.array()?) {
            let entry = Entry::from_record(&input.array::<RECORD_BYTES>()?)
                .ok_or(ImportError::Form { what: "it has a chunk that cannot be" })?;
            let stored =
                input.take(u64::from(entry.stored), CHUNK_BYTES, "it has a chunk that is too long")?;
            let chunk = verified(stored, &Place { pack: 0, entry })
                .map_err(|_| ImportError::Chunk { hash: entry.hash })?;
            writer.add(&entry.hash, entry.kind, &chunk)?;
        }
        let expected = Hash(*input.hasher.finalize().as_bytes());
        if Hash(input.array()?) != expected {
            return Err(ImportError::Form { what: "it does not have the hash that it ends with" });
        }
        if input.inner.read(&mut [0]).map_err(ImportError::Input)? != 0 {
            return Err(ImportError::Form { what: "something follows its end" });
        }
        writer.check_complete(&manifest)?;
        manifest.origin = Some(Origin { notebook, id: manifest.id });
        manifest.parent = None;
        Ok(writer.publish(manifest, is_head)?)
    }
}

/// A file that is hashed as it is written or read.
struct Hashing<'a, F> {
    inner: &'a mut F,
    hasher: blake3::Hasher,
}

impl<'a, F> Hashing<'a, F> {
    fn new(inner: &'a mut F) -> Self {
        Hashing { inner, hasher: blake3::Hasher::new() }
    }
}

impl<F: Write> Hashing<'_, F> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.hasher.update(bytes);
        self.inner.write_all(bytes)
    }
}

impl<F: Read> Hashing<'_, F> {
    fn array<const N: usize>(&mut self) -> Result<[u8; N], ImportError> {
        let mut array = [0; N];
        self.fill(&mut array)?;
        Ok(array)
    }

    /// The next `length` bytes, when that is at most `limit`. Memory grows with what is really there.
    fn take(&mut self, length: u64, limit: usize, what: &'static str) -> Result<Vec<u8>, ImportError> {
        if length > limit as u64 {
            return Err(ImportError::Form { what });
        }
        let mut bytes = Vec::new();
        (&mut *self.inner).take(length).read_to_end(&mut bytes).map_err(ImportError::Input)?;
        if bytes.len() as u64 != length {
            return Err(ImportError::Form { what: "it is cut off" });
        }
        self.hasher.update(&bytes);
        Ok(bytes)
    }

    fn fill(&mut self, bytes: &mut [u8]) -> Result<(), ImportError> {
        self.inner.read_exact(bytes).map_err(|error| match error.kind() {
            io::ErrorKind::UnexpectedEof => ImportError::Form { what: "it is cut off" },
            _ => ImportError::Input(error),
        })?;
        self.hasher.update(bytes);
        Ok(())
    }
}
