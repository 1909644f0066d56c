//! Removing: checkpoints by a rule, then the chunks that none refers to any more.
//!
//! Whatever goes, goes by unlinking a whole file. A pack of which little is still needed is first copied into a new
//! one; manifests need not know, because they name chunks by their hashes. A crash in between leaves a chunk in two
//! packs, and the next collection removes the older.

use std::collections::{BTreeMap, HashSet};

use super::Store;
use super::chunks::{ChunkError, Place, read_stored, verified};
use super::damage::Damage;
use super::folder::FileError;
use super::pack_writer::PackWriter;
use super::reader::{ReadError, Reader};
use super::retention::{Candidate, Retention};
use super::verify::Loss;
use crate::hash::Hash;

/// With more packs than this, small ones are joined: opening a store reads the end of each.
const MANY_PACKS: usize = 128;
/// As many then remain.
const FEW_PACKS: usize = 64;

/// What a collection did.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Collected {
    /// How many packs were removed.
    pub packs: usize,
    /// How much less the store has, in bytes.
    pub bytes: u64,
    /// Chunks that could not be copied because they were damaged before.
    pub damaged: Vec<Damage>,
}

/// Nothing was removed that a checkpoint refers to, but not all was done.
#[derive(Debug, thiserror::Error)]
pub enum CollectError {
    /// What a checkpoint refers to could not be read, though it may be there: nothing was removed.
    #[error("cannot tell what the checkpoints refer to: nothing is removed")]
    Unreadable(#[source] ReadError),
    /// Removing or copying failed.
    #[error(transparent)]
    File(#[from] FileError),
}

impl Reader {
    /// What a [`Retention`] looks at, oldest first. A chunk counts for the one checkpoint that goes last of those that
    /// have it: the current one before all others, then the newer before the older.
    ///
    /// # Errors
    /// A file that cannot be read, though it may be there.
    pub fn candidates(&self) -> Result<Vec<Candidate>, CollectError> {
        let head = self.head()?.manifest.map(|manifest| manifest.id);
        let mut ids = self.manifests.numbers()?;
        ids.sort_by_key(|id| std::cmp::Reverse((Some(*id) == head, *id)));
        let mut counted = HashSet::new();
        let mut candidates = Vec::new();
        for id in ids {
            let mut candidate = Candidate { id, created_ms: 0, bytes: 0 };
            let mut count = |place: Place| {
                if counted.insert(place.entry.hash) {
                    candidate.bytes += u64::from(place.entry.stored);
                }
            };
            candidate.created_ms = self.references(id, &mut count)?.unwrap_or(0);
            candidates.push(candidate);
        }
        candidates.sort_by_key(|candidate| candidate.id);
        Ok(candidates)
    }

    /// Tells `each` of all chunks of a checkpoint and returns when it was taken; `None` when its manifest is damaged.
    fn references(&self, id: u64, each: &mut dyn FnMut(Place)) -> Result<Option<u64>, CollectError> {
        let manifest = match self.manifest(id) {
            Ok(manifest) => manifest,
            Err(ReadError::Manifest { .. }) => return Ok(None),
            Err(error) => return Err(CollectError::Unreadable(error)),
        };
        for (part, source) in self.walk(&manifest, &mut |_, place| each(place)) {
            // What is damaged or gone keeps nothing alive; what cannot be read just now might.
            if matches!(source, ChunkError::File(_)) {
                return Err(CollectError::Unreadable(ReadError::Lost { id, part, source }));
            }
        }
        Ok(Some(manifest.created_ms))
    }
}

impl Store {
    /// Removes the checkpoints that `rule` does not keep, and returns their numbers. Their chunks go with
    /// [`Store::collect`]. Checkpoints whose manifest is damaged count as taken in 1970.
    ///
    /// # Errors
    /// A manifest that cannot be read or removed.
    pub fn retain(&mut self, rule: &Retention) -> Result<Vec<u64>, CollectError> {
        let removable = rule.removable(self.head, &self.reader.candidates()?);
        for id in &removable {
            self.reader.manifests.remove(&id.to_string())?;
        }
        if !removable.is_empty() {
            self.reader.manifests.sync()?;
            self.look()?;
        }
        Ok(removable)
    }

    /// Removes all chunks that no checkpoint refers to: packs without any other at once; packs that have more of them
    /// than of others, or whose header or index is damaged, after a copy. What cannot be read as a pack stays as it is.
    ///
    /// # Errors
    /// What checkpoints refer to cannot be read, or the disk fails or is full; no chunk is lost by that.
    pub fn collect(&mut self) -> Result<Collected, CollectError> {
        let live = self.live()?;
        let mut live_bytes: BTreeMap<u64, u64> =
            self.reader.packs.known().keys().map(|pack| (*pack, 0)).collect();
        for place in self.reader.packs.places().filter(|place| live.contains(&place.entry.hash)) {
            *live_bytes.entry(place.pack).or_default() += place.entry.room_bytes();
        }
        let mut chosen = Vec::new();
        let mut others = Vec::new();
        for (pack, known) in self.reader.packs.known() {
            let bytes = live_bytes[pack];
            if known.is_damaged || bytes == 0 || bytes * 2 < known.chunk_bytes() {
                chosen.push(*pack);
            } else {
                others.push((bytes, *pack));
            }
        }
        if others.len() > MANY_PACKS {
            others.sort_unstable();
            // The joined ones become one.
            chosen.extend(others[..others.len() - FEW_PACKS + 1].iter().map(|(_, pack)| *pack));
        }
        self.compact(&chosen, &live)
    }

    /// Writes the packs anew in which [`super::Reader::verify`] found damaged chunks, without those. The next
    /// checkpoint that has such a chunk then stores it again, and with that mends older ones.
    ///
    /// # Errors
    /// As for [`Store::collect`].
    pub fn mend(&mut self, losses: &[Loss]) -> Result<Collected, CollectError> {
        let damaged = losses.iter().filter_map(|loss| match loss.error {
            ChunkError::Damaged { pack, .. } => Some(pack),
            _ => None,
        });
        let mut packs: Vec<u64> =
            damaged.filter(|pack| self.reader.packs.known().contains_key(pack)).collect();
        packs.sort_unstable();
        packs.dedup();
        let live = self.live()?;
        self.compact(&packs, &live)
    }

    /// The chunks that some checkpoint refers to.
    fn live(&self) -> Result<HashSet<Hash>, CollectError> {
        let mut live = HashSet::new();
        for id in self.reader.manifests.numbers()? {
            self.reader.references(id, &mut |place| {
                live.insert(place.entry.hash);
            })?;
        }
        Ok(live)
    }

    /// Copies what is live in `packs` into a new pack, and removes them.
    fn compact(&mut self, packs: &[u64], live: &HashSet<Hash>) -> Result<Collected, CollectError> {
        if packs.is_empty() {
            return Ok(Collected::default());
        }
        let before = self.used_bytes;
        let from: HashSet<u64> = packs.iter().copied().collect();
        let is_copied = |place: &&Place| from.contains(&place.pack) && live.contains(&place.entry.hash);
        let mut copied: Vec<Place> = self.reader.packs.places().filter(is_copied).copied().collect();
        // Buffers first and in their old order, so that runs stay runs.
        copied.sort_unstable_by_key(|place| (place.entry.kind, place.pack, place.entry.offset));
        let damaged = if copied.is_empty() { Vec::new() } else { self.copy(&copied)? };
        for pack in packs {
            self.reader.packs.remove(*pack)?;
        }
        self.reader.packs.folder().sync()?;
        self.look()?;
        let bytes = before.saturating_sub(self.used_bytes);
        Ok(Collected { packs: packs.len(), bytes, damaged })
    }

    /// Copies chunks into a new pack, those that are not damaged, and tells of the others.
    fn copy(&mut self, places: &[Place]) -> Result<Vec<Damage>, CollectError> {
        let packs = &self.reader.packs;
        let mut pack = PackWriter::begin(packs.folder(), self.next)?;
        let mut damaged = Vec::new();
        for place in places {
            let stored = packs.file(place.pack).and_then(|file| Ok(read_stored(&file, place)?));
            match stored.and_then(|stored| verified(stored.clone(), place).map(|_| stored)) {
                Ok(stored) => pack.copy(&place.entry, &stored)?,
                Err(ChunkError::File(error)) => return Err(error.into()),
                Err(error) => damaged.push(Damage::new(format!("packs/{}", place.pack), &error)),
            }
        }
        self.next = self.next.saturating_add(1);
        let pack = pack.publish()?;
        self.reader.packs.add(pack.number, pack.bytes, pack.footer, &pack.entries);
        Ok(damaged)
    }
}
