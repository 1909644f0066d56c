//! Where chunks are, and their bytes, verified.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, PoisonError};

use super::damage::Damage;
use super::folder::{FileError, Folder, Readable};
use super::pack::{self, Coding, Entry, FOOTER_BYTES, Footer, PAGE_BYTES};
use crate::hash::Hash;
use crate::offer::Kind;

/// Packs that are kept open. A reader of thousands of packs must not need thousands of descriptors.
const OPEN_PACKS: usize = 64;

/// A chunk cannot be had.
#[derive(Debug, thiserror::Error)]
pub enum ChunkError {
    /// No readable pack has it.
    #[error("chunk {hash} is in no readable pack")]
    Missing {
        /// The chunk.
        hash: Hash,
    },
    /// Its bytes are not what they were.
    #[error("chunk {hash} in `packs/{pack}` is damaged")]
    Damaged {
        /// The chunk.
        hash: Hash,
        /// The number of the pack.
        pack: u64,
    },
    /// Something is shorter or longer than what refers to it says.
    #[error("what chunk {hash} stands for has {found} bytes instead of {expected}")]
    Length {
        /// The chunk, or the root of the blob.
        hash: Hash,
        /// Bytes found.
        found: u64,
        /// Bytes expected.
        expected: u64,
    },
    /// The pack was collected after this reader was opened: open another.
    #[error("`packs/{pack}` was collected meanwhile: open the checkpoints anew")]
    Collected {
        /// The number of the pack.
        pack: u64,
    },
    /// Its pack cannot be read.
    #[error(transparent)]
    File(#[from] FileError),
}

/// A chunk in a pack.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Place {
    pub(crate) pack: u64,
    pub(crate) entry: Entry,
}

/// Chunks that can be found and read: those of the published packs, or those and a writer's.
pub(crate) trait Chunks {
    /// Where the chunk is; as [`Kind::Buffer`] only where it can be mapped.
    fn find(&self, hash: &Hash, kind: Kind) -> Option<Place>;

    /// The chunk's bytes, which have its hash.
    fn read(&self, place: &Place) -> Result<Vec<u8>, ChunkError>;
}

/// The published packs.
pub(crate) struct Packs {
    folder: Arc<Folder>,
    places: HashMap<Hash, Place>,
    packs: BTreeMap<u64, Known>,
    open: Mutex<BTreeMap<u64, Arc<Readable>>>,
}

/// What is known of a pack.
#[derive(Clone, Copy)]
pub(crate) struct Known {
    /// Length of the file.
    pub(crate) bytes: u64,
    footer: Footer,
    /// Its header or index is damaged; the chunks that are known are not.
    pub(crate) is_damaged: bool,
}

impl Known {
    /// What chunks and their padding take in it, in bytes.
    pub(crate) fn chunk_bytes(&self) -> u64 {
        self.footer.index_offset - PAGE_BYTES
    }
}

impl Packs {
    /// Reads the indexes of all packs in `folder`. Of a pack that is damaged, what can be used is used, and it is told.
    pub(crate) fn load(folder: Arc<Folder>, damage: &mut Vec<Damage>) -> Result<Self, FileError> {
        let mut packs = Packs {
            places: HashMap::new(),
            packs: BTreeMap::new(),
            open: Mutex::new(BTreeMap::new()),
            folder,
        };
        for pack in packs.folder.numbers()? {
            let mut tell = |what: &PackError| damage.push(Damage::new(format!("packs/{pack}"), what));
            match packs.index(pack, &mut tell) {
                Ok((known, entries)) => packs.learn(pack, known, &entries),
                Err(PackError::File(error)) if error.is_missing() => {}
                Err(error) => tell(&error),
            }
        }
        Ok(packs)
    }

    fn index(&self, pack: u64, tell: &mut dyn FnMut(&PackError)) -> Result<(Known, Vec<Entry>), PackError> {
        let file = self.folder.open(&pack.to_string())?;
        let mut header = pack::header();
        if file.bytes < (header.len() + FOOTER_BYTES) as u64 {
            return Err(PackError::Form("it is shorter than the shortest pack"));
        }
        file.read_at(&mut header, 0)?;
        let mut is_damaged = header != pack::header();
        if is_damaged {
            tell(&PackError::Form("it does not begin as a pack does"));
        }
        let footer = read_footer(&file)?;
        // Bounded: the footer has been compared with the length of the file.
        let mut index = vec![0; footer.index_bytes() as usize];
        file.read_at(&mut index, footer.index_offset)?;
        let entries = footer.entries(&index).or_else(|what| {
            is_damaged = true;
            tell(&PackError::Form(what));
            // An entry is right all the same when the chunk that it tells of has its hash.
            let is_right = |entry: &Entry| read_chunk(&file, &Place { pack, entry: *entry }).is_ok();
            Ok::<_, PackError>(footer.possible_entries(&index).filter(is_right).collect())
        })?;
        Ok((Known { bytes: file.bytes, footer, is_damaged }, entries))
    }

    /// Adds a pack whose entries are known to be right.
    pub(crate) fn add(&mut self, pack: u64, bytes: u64, footer: Footer, entries: &[Entry]) {
        self.learn(pack, Known { bytes, footer, is_damaged: false }, entries);
    }

    fn learn(&mut self, pack: u64, known: Known, entries: &[Entry]) {
        self.packs.insert(pack, known);
        self.places.reserve(entries.len());
        for entry in entries {
            let place = Place { pack, entry: *entry };
            let old = self.places.entry(entry.hash).or_insert(place);
            // A chunk that can be mapped serves as any other too. Of equals the later: compaction copies forward.
            if entry.kind <= old.entry.kind {
                *old = place;
            }
        }
    }

    /// Unlinks a pack.
    pub(crate) fn remove(&mut self, pack: u64) -> Result<(), FileError> {
        self.folder.remove(&pack.to_string())?;
        self.packs.remove(&pack);
        self.places.retain(|_, place| place.pack != pack);
        self.open.lock().unwrap_or_else(PoisonError::into_inner).remove(&pack);
        Ok(())
    }

    /// Every pack, by number.
    pub(crate) fn known(&self) -> &BTreeMap<u64, Known> {
        &self.packs
    }

    /// Every chunk, in no order.
    pub(crate) fn places(&self) -> impl Iterator<Item = &Place> {
        self.places.values()
    }

    /// The folder of the packs.
    pub(crate) fn folder(&self) -> &Arc<Folder> {
        &self.folder
    }

    /// The pack's file. It is the one whose index was read: a later one of the same number is refused.
    pub(crate) fn file(&self, pack: u64) -> Result<Arc<Readable>, ChunkError> {
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(file) = open.get(&pack) {
            return Ok(Arc::clone(file));
        }
        let known = self.packs.get(&pack).ok_or(ChunkError::Collected { pack })?;
        let file = match self.folder.open(&pack.to_string()) {
            Err(error) if error.is_missing() => return Err(ChunkError::Collected { pack }),
            file => Arc::new(file?),
        };
        if file.bytes != known.bytes || !read_footer(&file).is_ok_and(|footer| footer == known.footer) {
            return Err(ChunkError::Collected { pack });
        }
        if open.len() >= OPEN_PACKS {
            open.pop_first();
        }
        open.insert(pack, Arc::clone(&file));
        Ok(file)
    }
}

impl Chunks for Packs {
    fn find(&self, hash: &Hash, kind: Kind) -> Option<Place> {
        self.places.get(hash).filter(|place| place.entry.kind <= kind).copied()
    }

    fn read(&self, place: &Place) -> Result<Vec<u8>, ChunkError> {
        read_chunk(&*self.file(place.pack)?, place)
    }
}

/// Reads a chunk's bytes and compares their hash.
pub(crate) fn read_chunk(file: &Readable, place: &Place) -> Result<Vec<u8>, ChunkError> {
    verified(read_stored(file, place)?, place)
}

/// Reads a chunk in its stored form, which nothing has verified.
pub(crate) fn read_stored(file: &Readable, place: &Place) -> Result<Vec<u8>, FileError> {
    let mut stored = vec![0; place.entry.stored as usize];
    file.read_at(&mut stored, place.entry.offset)?;
    Ok(stored)
}

/// The chunk of which `stored` is the stored form.
pub(crate) fn verified(stored: Vec<u8>, place: &Place) -> Result<Vec<u8>, ChunkError> {
    let Entry { hash, length, coding, .. } = place.entry;
    let bytes = match coding {
        Coding::Raw => Some(stored),
        // At most `length` bytes come out, whatever the frame says of itself.
        Coding::Zstd => zstd::bulk::decompress(&stored, length as usize).ok(),
    };
    bytes
        .filter(|bytes| bytes.len() == length as usize && Hash::of(bytes) == hash)
        .ok_or(ChunkError::Damaged { hash, pack: place.pack })
}

fn read_footer(file: &Readable) -> Result<Footer, PackError> {
    let mut footer = [0; FOOTER_BYTES];
    file.read_at(&mut footer, file.bytes.saturating_sub(FOOTER_BYTES as u64))?;
    Footer::decode(&footer, file.bytes).map_err(PackError::Form)
}

/// A pack cannot be used.
#[derive(Debug, thiserror::Error)]
enum PackError {
    #[error("{0}")]
    Form(&'static str),
    #[error(transparent)]
    File(#[from] FileError),
}
