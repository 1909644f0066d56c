//! The layout: a checkpoint's buffers in order, 44 bytes each, little endian.
//!
//! ```text
//! length in bytes u64, depth u32, hash 32
//! ```

use super::tree::{MOST_CHUNKS, Root};
use crate::hash::{HASH_BYTES, Hash};
use crate::offer::{CHUNK_BYTES, buffer_chunks};

/// Length of one buffer's entry, in bytes.
pub const BUFFER_BYTES: usize = 8 + 4 + HASH_BYTES;

/// Most buffers of one checkpoint.
pub const MOST_BUFFERS: u64 = 1 << 20;

/// Most bytes that the buffers of one checkpoint have together: what a walk over all their chunks is bounded by,
/// when a small file tells of many large buffers that are all the same.
pub const MOST_BYTES: u64 = MOST_CHUNKS * CHUNK_BYTES as u64;

/// The entry of the buffer with this root.
pub(crate) fn encode(root: &Root) -> [u8; BUFFER_BYTES] {
    let mut entry = [0; BUFFER_BYTES];
    entry[..8].copy_from_slice(&root.bytes.to_le_bytes());
    entry[8..12].copy_from_slice(&root.depth.to_le_bytes());
    entry[12..].copy_from_slice(&root.hash.0);
    entry
}

/// The roots of the buffers that `layout` tells of. Whether they are possible, their use shows.
pub(crate) fn decode(layout: &[u8]) -> Vec<Root> {
    let root = |entry: &[u8; BUFFER_BYTES]| {
        let (bytes, rest) = entry.split_at(8);
        let (depth, hash) = rest.split_at(4);
        let bytes = bytes.iter().rev().fold(0, |bytes, byte| bytes << 8 | u64::from(*byte));
        let depth = depth.iter().rev().fold(0, |depth, byte| depth << 8 | u32::from(*byte));
        let mut name = [0; HASH_BYTES];
        name.copy_from_slice(hash);
        Root { bytes, chunks: buffer_chunks(bytes), depth, hash: Hash(name) }
    };
    layout.as_chunks::<BUFFER_BYTES>().0.iter().map(root).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_layout_comes_back_as_it_was() {
        let roots = [
            Root { bytes: 0, chunks: 0, depth: 0, hash: Hash::NONE },
            Root {
                bytes: 0x0102_0304_0506,
                chunks: buffer_chunks(0x0102_0304_0506),
                depth: 2,
                hash: Hash([3; 32]),
            },
        ];
        let bytes: Vec<u8> = roots.iter().flat_map(encode).collect();
        assert_eq!(bytes[44..50], [6, 5, 4, 3, 2, 1]);
        assert_eq!(decode(&bytes), roots);
    }
}
