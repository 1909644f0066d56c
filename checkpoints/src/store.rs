//! The store of one notebook's checkpoints: the folder `checkpoints/`.
//!
//! From the bottom: `folder` does what is ever done to files; `pack` is the form of a pack, `pack_writer` writes one,
//! `chunks` finds and reads what is in them; a `tree` of chunks is a blob; `layout` and `manifest` tell of a
//! checkpoint. Above them [`Reader`] and [`Writer`], and what uses these: `serve` (the offer), `collect`, `archive`.

mod archive;
mod chunks;
mod collect;
mod damage;
#[cfg(test)]
mod faults;
mod folder;
mod layout;
mod manifest;
mod pack;
mod pack_writer;
mod reader;
mod retention;
mod serve;
mod socket;
#[cfg(test)]
mod tests;
mod tree;
mod verify;
mod worker_part;
mod writer;

pub use self::archive::ImportError;
pub use self::chunks::ChunkError;
pub use self::collect::{CollectError, Collected};
pub use self::damage::Damage;
pub use self::folder::FileError;
pub use self::layout::{MOST_BUFFERS, MOST_BYTES};
pub use self::manifest::{FORMAT, Layout, Manifest, ManifestError, Origin};
pub use self::reader::{Buffer, Extent, Head, OpenError, Part, ReadError, Reader};
pub use self::retention::{Candidate, Retention};
pub use self::serve::{Limits, OfferError, serve_offer};
pub use self::socket::SocketError;
pub use self::tree::{MOST_CHUNKS, Root};
pub use self::verify::Loss;
pub use self::worker_part::{
    LeftOut, MOST_LEFT_OUT, MOST_NAMES, MOST_PACKAGES, NAME_BYTES, Name, PartError, WORDS_BYTES, WorkerPart,
};
pub use self::writer::{Published, WriteError, Writer};

use std::os::fd::BorrowedFd;

use self::folder::{Folder, Readable};
use self::reader::{FORMAT_FILE, HEAD_FILE, check_format, format_text};
use crate::hash::Hash;

/// The only writer of a notebook's checkpoints, until it is dropped.
pub struct Store {
    pub(crate) reader: Reader,
    pub(crate) head: Option<u64>,
    /// The number of the next checkpoint or pack; no number is given twice.
    pub(crate) next: u64,
    /// What all packs and manifests have in bytes.
    pub(crate) used_bytes: u64,
    /// The lock, which goes with the descriptor.
    _lock: Readable,
}

/// The current checkpoint cannot be set.
#[derive(Debug, thiserror::Error)]
pub enum SetHeadError {
    /// The checkpoint is not there, or not complete.
    #[error("checkpoint {id} cannot become the current one")]
    Incomplete {
        /// The number.
        id: u64,
        /// What is missing.
        #[source]
        source: ReadError,
    },
    /// It could not be written down.
    #[error(transparent)]
    File(#[from] FileError),
}

impl Store {
    /// Opens the checkpoints in the folder `dir` for writing, and makes of an empty folder a store.
    ///
    /// What a writer left behind that did not come to its end is removed. Damage is no error; what is damaged counts
    /// as not there, so the next checkpoint writes it again: see [`Reader::damage`].
    ///
    /// # Errors
    /// A later format, another writer, and what files and folders give.
    pub fn open(dir: BorrowedFd<'_>) -> Result<Self, OpenError> {
        let root = Folder::root(dir)?;
        let mut lock = root.lock(FORMAT_FILE)?.ok_or(OpenError::Locked)?;
        let is_new = lock.bytes == 0;
        let mut damage = Vec::new();
        if !is_new {
            damage.extend(check_format(&lock)?);
        }
        root.make("packs")?;
        root.make("manifests")?;
        if is_new || !damage.is_empty() {
            lock.rewrite(format_text().as_bytes())?;
            root.sync()?;
        }
        root.remove_temps()?;
        let reader = Reader::load(root, damage)?;
        reader.packs.folder().remove_temps()?;
        reader.manifests.remove_temps()?;
        let mut store = Store { reader, head: None, next: 1, used_bytes: 0, _lock: lock };
        store.look()?;
        if is_new && store.next > 1 {
            store.reader.damage.push(Damage { file: FORMAT_FILE.into(), what: "it was missing".into() });
        }
        Ok(store)
    }

    /// The checkpoints, for reading.
    pub fn reader(&self) -> &Reader {
        &self.reader
    }

    /// The number of the current checkpoint, which is the parent of the next.
    pub fn head(&self) -> Option<u64> {
        self.head
    }

    /// What packs and manifests take of the disk, in bytes.
    pub fn used_bytes(&self) -> u64 {
        self.used_bytes
    }

    /// Begins a checkpoint. With it the store has at most `quota_bytes` bytes, or it is refused.
    pub fn write(&mut self, quota_bytes: u64) -> Writer<'_> {
        Writer::new(self, quota_bytes)
    }

    /// Makes `id` the current checkpoint: the next one continues from it.
    ///
    /// # Errors
    /// It is not there or not complete; `HEAD` cannot be written.
    pub fn set_head(&mut self, id: u64) -> Result<(), SetHeadError> {
        let (_, hash) = self.reader.complete(id).map_err(|source| SetHeadError::Incomplete { id, source })?;
        self.put_head(id, hash)?;
        Ok(())
    }

    /// Writes `HEAD`: from here on the checkpoint is the current one, also after a crash.
    pub(crate) fn put_head(&mut self, id: u64, manifest_file: Hash) -> Result<(), FileError> {
        self.reader.root.put(HEAD_FILE, format!("{id} {manifest_file}\n").as_bytes())?;
        self.head = Some(id);
        Ok(())
    }

    /// Looks at the folder: current checkpoint, next number, bytes.
    pub(crate) fn look(&mut self) -> Result<(), FileError> {
        let Reader { manifests, packs, .. } = &self.reader;
        let packs = packs.folder();
        let mut numbers = [manifests.numbers()?, packs.numbers()?].concat();
        // A checkpoint whose files are lost had its number all the same.
        numbers.extend(self.reader.head_file().ok().flatten().map(|(id, _)| id));
        let largest = numbers.into_iter().max();
        self.next = self.next.max(largest.unwrap_or(0).saturating_add(1));
        self.used_bytes = manifests.used_bytes()? + packs.used_bytes()?;
        self.head = self.reader.head()?.manifest.map(|manifest| manifest.id);
        Ok(())
    }
}
