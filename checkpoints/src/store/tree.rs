//! Blobs: long byte strings as trees of chunks.
//!
//! A blob is told by its [`Root`]. One chunk: the root is its hash. More: the root is the hash of a *recipe*, the
//! hashes of the chunks one after the other, which is itself cut into chunks and, while it has more than one, has a
//! recipe of its own. So a change of one chunk changes that chunk and one recipe chunk a level, and everything below
//! a root is verified by it. How often that repeats is the root's depth; it follows from the number of chunks.

use serde::{Deserialize, Serialize};

use super::chunks::{ChunkError, Chunks, Place};
use crate::hash::{HASH_BYTES, Hash};
use crate::offer::{CHUNK_BYTES, Kind};

/// Most chunks of one blob. The recipe of so many has 128 MiB, and 1 TiB of buffer has so many chunks.
pub const MOST_CHUNKS: u64 = 4 << 20;

/// Hashes in a recipe chunk: 8 KiB, so that a change of one chunk of a buffer costs little more than the chunk, and a
/// buffer of 1 GiB has 17 of them.
const FAN_OUT: u64 = 256;

/// What identifies a blob.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Root {
    /// Length of the blob in bytes.
    pub bytes: u64,
    /// How many chunks it is cut into.
    pub chunks: u64,
    /// Levels of recipes above the chunks: 0 for at most one chunk.
    pub depth: u32,
    /// Hash of the only chunk, or of the only chunk of the topmost recipe; zeros for an empty blob.
    pub hash: Hash,
}

impl Root {
    /// The root of the blob with these chunks, and the recipe chunks that must be stored with it.
    ///
    /// `bytes` is the sum of the chunks' lengths.
    pub(crate) fn build(bytes: u64, chunks: &[Hash]) -> (Self, Vec<Vec<u8>>) {
        let mut recipes = Vec::new();
        let mut depth = 0;
        let mut level = chunks.to_vec();
        while level.len() > 1 {
            let parts: Vec<Vec<u8>> = level
                .chunks(FAN_OUT as usize)
                .map(|hashes| hashes.iter().flat_map(|h| h.0).collect())
                .collect();
            level = parts.iter().map(|part| Hash::of(part)).collect();
            recipes.extend(parts);
            depth += 1;
        }
        let hash = level.first().copied().unwrap_or(Hash::NONE);
        (Root { bytes, chunks: chunks.len() as u64, depth, hash }, recipes)
    }

    /// Whether its numbers can be those of one blob.
    pub(crate) fn is_possible(&self) -> bool {
        let mut width = self.chunks;
        let mut depth = 0;
        while width > 1 {
            width = width.div_ceil(FAN_OUT);
            depth += 1;
        }
        self.depth == depth
            && self.chunks <= MOST_CHUNKS
            && self.bytes >= self.chunks
            && self.bytes <= self.chunks * CHUNK_BYTES as u64
            && (self.chunks > 0 || self.hash == Hash::NONE)
    }

    /// Where the blob's chunks lie, in order.
    ///
    /// # Errors
    /// The first chunk that is missing, cannot be read or is not as this root says.
    pub(crate) fn leaves(&self, chunks: &impl Chunks, kind: Kind) -> Result<Vec<Place>, ChunkError> {
        let mut leaves = Vec::new();
        let mut first = None;
        self.walk(chunks, kind, &mut |found| match found {
            Found::Leaf(place) => leaves.push(place),
            Found::Recipe(_) => {}
            Found::Loss(loss) => first = first.take().or(Some(loss)),
        });
        first.map_or(Ok(leaves), Err)
    }

    /// Tells `each` of everything that is found below this root, in order, and of everything that is not.
    ///
    /// Recipes are read and verified; chunks are looked up, not read.
    pub(crate) fn walk(&self, chunks: &impl Chunks, kind: Kind, each: &mut dyn FnMut(Found)) {
        if !self.is_possible() {
            let expected = self.chunks.saturating_mul(CHUNK_BYTES as u64);
            let (hash, found) = (self.hash, self.bytes);
            return each(Found::Loss(ChunkError::Length { hash, found, expected }));
        }
        let mut walk = Walk { chunks, root: self, kind, each, passed: 0, bytes: 0, whole: true };
        if self.chunks > 0 {
            walk.descend(self.hash, self.depth, self.chunks);
        }
        if walk.whole && walk.bytes != self.bytes {
            let (found, expected) = (walk.bytes, self.bytes);
            each(Found::Loss(ChunkError::Length { hash: self.hash, found, expected }));
        }
    }
}

/// What a walk comes by.
pub(crate) enum Found {
    /// A chunk of the blob.
    Leaf(Place),
    /// A chunk of a recipe.
    Recipe(Place),
    /// A chunk of either that cannot be had.
    Loss(ChunkError),
}

struct Walk<'a, C> {
    chunks: &'a C,
    root: &'a Root,
    kind: Kind,
    each: &'a mut dyn FnMut(Found),
    /// Chunks of the blob passed, found or lost.
    passed: u64,
    /// Their bytes.
    bytes: u64,
    /// Nothing was lost so far.
    whole: bool,
}

impl<C: Chunks> Walk<'_, C> {
    /// Visits the part of the tree below `hash`, which stands for `width` chunks. At most as deep as a root is, and
    /// as wide as it says, whatever the recipes hold.
    fn descend(&mut self, hash: Hash, depth: u32, width: u64) {
        let visited = if depth == 0 { self.leaf(hash) } else { self.recipe(hash, depth, width) };
        if let Err(loss) = visited {
            self.whole = false;
            (self.each)(Found::Loss(loss));
        }
    }

    fn leaf(&mut self, hash: Hash) -> Result<(), ChunkError> {
        let at = self.passed * CHUNK_BYTES as u64;
        self.passed += 1;
        let place = self.chunks.find(&hash, self.kind).ok_or(ChunkError::Missing { hash })?;
        let found = u64::from(place.entry.length);
        // Buffers are mapped by position: there a chunk of another length would be a wrong value.
        let expected = self.root.bytes.saturating_sub(at).min(CHUNK_BYTES as u64);
        if self.kind == Kind::Buffer && found != expected {
            return Err(ChunkError::Length { hash, found, expected });
        }
        self.bytes += found;
        (self.each)(Found::Leaf(place));
        Ok(())
    }

    fn recipe(&mut self, hash: Hash, depth: u32, width: u64) -> Result<(), ChunkError> {
        let recipe =
            self.chunks.find(&hash, Kind::Other).ok_or(ChunkError::Missing { hash }).and_then(|place| {
                let bytes = self.chunks.read(&place)?;
                (self.each)(Found::Recipe(place));
                Ok(bytes)
            });
        let below = FAN_OUT.pow(depth - 1);
        let expected = width.div_ceil(below) * HASH_BYTES as u64;
        let recipe = recipe.and_then(|bytes| match bytes.len() as u64 {
            found if found == expected => Ok(bytes),
            found => Err(ChunkError::Length { hash, found, expected }),
        });
        let recipe = recipe.inspect_err(|_| self.passed += width)?;
        let mut left = width;
        for hash in recipe.as_chunks::<HASH_BYTES>().0 {
            self.descend(Hash(*hash), depth - 1, left.min(below));
            left -= left.min(below);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use super::*;
    use crate::store::pack::{Coding, Entry};

    /// Chunks by their hash: the bytes of recipes, of others the length.
    #[derive(Default)]
    struct Memory(HashMap<Hash, (Vec<u8>, u32)>);

    impl Memory {
        fn with(recipes: Vec<Vec<u8>>, leaves: &[(Hash, u32)]) -> Self {
            let recipes = recipes.into_iter().map(|recipe| (Hash::of(&recipe), (recipe, 0)));
            let leaves = leaves.iter().map(|(hash, length)| (*hash, (Vec::new(), *length)));
            Memory(recipes.chain(leaves).collect())
        }
    }

    impl Chunks for Memory {
        fn find(&self, hash: &Hash, kind: Kind) -> Option<Place> {
            let (bytes, length) = self.0.get(hash)?;
            let length = if bytes.is_empty() { *length } else { bytes.len() as u32 };
            let entry =
                Entry { hash: *hash, offset: 4096, stored: length, length, coding: Coding::Raw, kind };
            Some(Place { pack: 1, entry })
        }

        fn read(&self, place: &Place) -> Result<Vec<u8>, ChunkError> {
            Ok(self.0[&place.entry.hash].0.clone())
        }
    }

    fn name(number: usize) -> Hash {
        Hash::of(&number.to_le_bytes())
    }

    #[test]
    fn trees_of_any_width_give_back_their_chunks_in_order() {
        for (width, depth) in [(0, 0), (1, 0), (2, 1), (256, 1), (257, 2), (65_536, 2), (65_537, 3)] {
            let leaves: Vec<_> = (0..width).map(|number| (name(number), 10)).collect();
            let hashes: Vec<_> = leaves.iter().map(|(hash, _)| *hash).collect();
            let (root, recipes) = Root::build(10 * width as u64, &hashes);
            assert_eq!((root.depth, root.is_possible()), (depth, true), "{width}");
            let memory = Memory::with(recipes, &leaves);
            let found = root.leaves(&memory, Kind::Other).unwrap();
            assert!(found.iter().map(|place| place.entry.hash).eq(hashes));
        }
    }

    #[test]
    fn a_lost_recipe_loses_its_chunks_and_no_others() {
        let leaves: Vec<_> = (0..256 + 5).map(|number| (name(number), CHUNK_BYTES as u32)).collect();
        let hashes: Vec<_> = leaves.iter().map(|(hash, _)| *hash).collect();
        let (root, recipes) = Root::build((256 + 5) * CHUNK_BYTES as u64, &hashes);
        let mut memory = Memory::with(recipes.clone(), &leaves);
        memory.0.remove(&Hash::of(&recipes[0]));
        let (mut found, mut lost) = (0, 0);
        root.walk(&memory, Kind::Buffer, &mut |step| match step {
            Found::Leaf(_) => found += 1,
            Found::Loss(_) => lost += 1,
            Found::Recipe(_) => {}
        });
        assert_eq!((found, lost), (5, 1));
        assert!(matches!(root.leaves(&memory, Kind::Buffer), Err(ChunkError::Missing { .. })));
    }

    #[test]
    fn a_root_that_lies_about_width_or_length_is_refused() {
        let leaves = [(name(0), 10), (name(1), CHUNK_BYTES as u32), (name(2), 10)];
        let hashes = leaves.map(|(hash, _)| hash);
        let bytes = CHUNK_BYTES as u64 + 20;
        let (root, recipes) = Root::build(bytes, &hashes);
        let memory = Memory::with(recipes, &leaves);
        assert!(root.leaves(&memory, Kind::Other).is_ok());
        let lies = [
            Root { bytes: bytes + 1, ..root },
            Root { chunks: 2, ..root },
            Root { chunks: 4, ..root },
            Root { depth: 0, ..root },
            Root { depth: 2, ..root },
            Root { chunks: u64::MAX, ..root },
        ];
        for lie in lies {
            assert!(matches!(lie.leaves(&memory, Kind::Other), Err(ChunkError::Length { .. })), "{lie:?}");
        }
        // The sum is right, but at its place in the buffer each chunk would be wrong.
        let swapped = [hashes[0], hashes[1]];
        let (root, recipes) = Root::build(CHUNK_BYTES as u64 + 10, &swapped);
        let memory = Memory::with(recipes, &leaves);
        assert!(
            matches!(root.leaves(&memory, Kind::Buffer), Err(ChunkError::Length { expected, .. }) if expected == CHUNK_BYTES as u64)
        );
    }
}
