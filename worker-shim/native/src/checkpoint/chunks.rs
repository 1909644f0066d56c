//! Content-defined chunking of a normalised stream: after a change, the cuts are soon where they were.
//!
//! A *gear* hash rolls over the last 64 bytes. Where it is small, a chunk ends; below the usual length it
//! must be much smaller than above, which keeps lengths together (the "normalised chunking" of FastCDC). A
//! chunk that finds no such place ends where the hash was smallest. This matters for repetitive streams, such
//! as a hundred thousand equal records: cut at a fixed length, each chunk would begin elsewhere in a record
//! and no two would be equal.
//!
//! A cut depends on nothing but the bytes around it and where the chunk began. The table and the numbers here
//! decide which chunks there are. A change of them makes no checkpoint unreadable; the next one is stored
//! anew.

/// No chunk is shorter, but for the last, in bytes.
const MIN_BYTES: usize = 16 << 10;

/// From here on a cut is found more easily. Half of the cuts come within 12 KiB more, which makes the average
/// 64 KiB.
const USUAL_BYTES: usize = 52 << 10;

/// No chunk is longer, in bytes: a chunk of the offer protocol.
const MAX_BYTES: usize = cellblock_checkpoints::offer::CHUNK_BYTES;

/// Below this a hash ends a chunk that is shorter than usual: one in 256 Ki.
const RARE: u64 = 1 << (64 - 18);

/// Below this a hash ends a longer one: one in 16 Ki.
const FREQUENT: u64 = 1 << (64 - 14);

/// How many bytes back the hash reaches.
const WINDOW_BYTES: usize = 64;

/// The lengths of a stream's chunks, in order.
pub(super) fn lengths(mut stream: &[u8]) -> Vec<usize> {
    let mut lengths = Vec::with_capacity(stream.len() / USUAL_BYTES + 1);
    while !stream.is_empty() {
        let length = first(stream);
        lengths.push(length);
        stream = &stream[length..];
    }
    lengths
}

/// The length of the first chunk of `stream`.
fn first(stream: &[u8]) -> usize {
    if stream.len() <= MIN_BYTES {
        return stream.len();
    }
    let stream = &stream[..stream.len().min(MAX_BYTES)];
    let usual = stream.len().min(USUAL_BYTES);
    let mut hash = hash_before(stream, MIN_BYTES);
    cut(stream, MIN_BYTES, usual, RARE, &mut hash)
        .or_else(|| cut(stream, usual, stream.len(), FREQUENT, &mut hash))
        .unwrap_or_else(|| if stream.len() == MAX_BYTES { smallest(stream) } else { stream.len() })
}

/// The end of the first byte between `from` and `to` where the hash is below `limit`.
#[inline(always)]
fn cut(stream: &[u8], from: usize, to: usize, limit: u64, hash: &mut u64) -> Option<usize> {
    let mut rolling = *hash;
    for (index, byte) in stream[from..to].iter().enumerate() {
        rolling = roll(rolling, *byte);
        if rolling < limit {
            return Some(from + index + 1);
        }
    }
    *hash = rolling;
    None
}

/// The end of the last byte where the hash is smallest, in a chunk that has become too long.
fn smallest(stream: &[u8]) -> usize {
    let mut hash = hash_before(stream, USUAL_BYTES);
    let mut smallest = (u64::MAX, stream.len());
    for (index, byte) in stream[USUAL_BYTES..].iter().enumerate() {
        hash = roll(hash, *byte);
        if hash <= smallest.0 {
            smallest = (hash, USUAL_BYTES + index + 1);
        }
    }
    smallest.1
}

fn hash_before(stream: &[u8], position: usize) -> u64 {
    stream[position - WINDOW_BYTES..position].iter().fold(0, |hash, byte| roll(hash, *byte))
}

#[inline(always)]
fn roll(hash: u64, byte: u8) -> u64 {
    (hash << 1).wrapping_add(GEAR[byte as usize])
}

/// One random number for each byte: the first 256 of SplitMix64 (Steele, Lea, Flood 2014) from seed 0.
static GEAR: [u64; 256] = {
    let mut table = [0; 256];
    let mut state = 0u64;
    let mut index = 0;
    while index < table.len() {
        state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = state;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        table[index] = mixed ^ (mixed >> 31);
        index += 1;
    }
    table
};

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    /// Bytes without any pattern.
    fn noise(bytes: usize) -> Vec<u8> {
        let mut state = 1u64;
        let mut next = || {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (state >> 56) as u8
        };
        (0..bytes).map(|_| next()).collect()
    }

    fn chunks(stream: &[u8]) -> Vec<&[u8]> {
        let mut rest = stream;
        let cut = |length| {
            let (chunk, after) = rest.split_at(length);
            rest = after;
            chunk
        };
        lengths(stream).into_iter().map(cut).collect()
    }

    /// Bytes of the chunks of `after` that `before` does not have.
    fn new_bytes(before: &[u8], after: &[u8]) -> usize {
        let known: HashSet<_> = chunks(before).into_iter().collect();
        chunks(after).into_iter().filter(|chunk| !known.contains(chunk)).map(<[u8]>::len).sum()
    }

    #[test]
    fn the_table_is_the_documented_one() {
        // The first output of SplitMix64 from seed 0, as in Vigna's reference implementation.
        assert_eq!(GEAR[0], 0xe220_a839_7b1d_cdaf);
        assert_eq!(HashSet::from(GEAR).len(), 256);
    }

    #[test]
    fn chunks_are_64_kib_on_average_and_within_their_bounds() {
        let stream = noise(32 << 20);
        let lengths = lengths(&stream);
        assert_eq!(lengths.iter().sum::<usize>(), stream.len());
        let average = stream.len() / lengths.len();
        assert!((60 << 10..68 << 10).contains(&average), "{average} bytes on average");
        let (last, others) = lengths.split_last().unwrap();
        assert!(others.iter().all(|length| (MIN_BYTES..=MAX_BYTES).contains(length)));
        assert!(*last <= MAX_BYTES);
    }

    #[test]
    fn an_insertion_makes_few_new_chunks() {
        let before = noise(8 << 20);
        let mut after = before.clone();
        after.splice(1000..1000, *b"inserted");
        assert!(new_bytes(&before, &after) < 256 << 10);
    }

    #[test]
    fn equal_records_make_equal_chunks_wherever_they_begin() {
        let record = b"a record of 37 bytes, a prime number.";
        let before = record.repeat(100_000);
        let mut after = before.clone();
        after.splice(5..5, *b"inserted");
        let distinct: HashSet<_> = chunks(&before).into_iter().collect();
        assert!(distinct.len() <= 3, "{} distinct chunks", distinct.len());
        // The chunk with the insertion, and the stream's end.
        assert!(new_bytes(&before, &after) <= 2 * MAX_BYTES);
    }
}
