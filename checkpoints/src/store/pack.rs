//! A pack: new chunks in one file, with an index at its end.
//!
//! ```text
//! 0     header    4096 bytes: the magic, then zeros
//! 4096  chunks    buffer chunks raw and on page boundaries, each padded with zeros; others where they come
//!       index     52 bytes a chunk: hash 32, offset u64, stored u32, length u32, coding u8, kind u8, 0, 0
//!       footer    56 bytes: index offset u64, count u64, BLAKE3 of the index 32, the magic of the end
//! ```
//!
//! Integers are little endian. Here is the form alone: no file is read or written.

use crate::hash::{HASH_BYTES, Hash};
use crate::offer::{CHUNK_BYTES, Kind};

/// First bytes of a pack.
pub(crate) const MAGIC: &[u8; 8] = b"CBPACK1\n";
/// Last bytes of a pack.
pub(crate) const END_MAGIC: &[u8; 8] = b"CBPEND1\n";
/// Length of the header, and what buffer chunks are aligned to, in bytes: a page of every machine we run on.
pub(crate) const PAGE_BYTES: u64 = 4096;
/// Length of an index entry in bytes.
pub(crate) const ENTRY_BYTES: usize = 52;
/// Length of an entry without its offset, in bytes.
pub(crate) const RECORD_BYTES: usize = ENTRY_BYTES - 8;
/// Length of the footer in bytes.
pub(crate) const FOOTER_BYTES: usize = 56;

/// How a chunk is stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Coding {
    /// As it is.
    Raw = 0,
    /// As one zstd frame.
    Zstd = 1,
}

/// Where in its pack a chunk lies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Entry {
    pub(crate) hash: Hash,
    pub(crate) offset: u64,
    /// Its length in the pack, in bytes.
    pub(crate) stored: u32,
    /// Its own length, in bytes.
    pub(crate) length: u32,
    pub(crate) coding: Coding,
    pub(crate) kind: Kind,
}

impl Entry {
    /// The entry's form in the index.
    pub(crate) fn encode(&self) -> [u8; ENTRY_BYTES] {
        let mut bytes = [0; ENTRY_BYTES];
        bytes[..32].copy_from_slice(&self.hash.0);
        bytes[32..40].copy_from_slice(&self.offset.to_le_bytes());
        bytes[40..44].copy_from_slice(&self.stored.to_le_bytes());
        bytes[44..48].copy_from_slice(&self.length.to_le_bytes());
        bytes[48] = self.coding as u8;
        bytes[49] = self.kind as u8;
        bytes
    }

    /// The entry without its offset: for where the chunk follows at once.
    pub(crate) fn record(&self) -> [u8; RECORD_BYTES] {
        let mut bytes = [0; RECORD_BYTES];
        let entry = self.encode();
        bytes[..HASH_BYTES].copy_from_slice(&entry[..HASH_BYTES]);
        bytes[HASH_BYTES..].copy_from_slice(&entry[HASH_BYTES + 8..]);
        bytes
    }

    /// Reads an entry without its offset; `None` when it is not one.
    pub(crate) fn from_record(record: &[u8; RECORD_BYTES]) -> Option<Self> {
        let mut bytes = [0; ENTRY_BYTES];
        bytes[..HASH_BYTES].copy_from_slice(&record[..HASH_BYTES]);
        bytes[HASH_BYTES..HASH_BYTES + 8].copy_from_slice(&PAGE_BYTES.to_le_bytes());
        bytes[HASH_BYTES + 8..].copy_from_slice(&record[HASH_BYTES..]);
        Entry::decode(&bytes, u64::MAX)
    }

    /// What it takes of its pack, in bytes: its padding too.
    pub(crate) fn room_bytes(&self) -> u64 {
        match self.kind {
            Kind::Buffer => u64::from(self.stored).next_multiple_of(PAGE_BYTES),
            Kind::Other => u64::from(self.stored),
        }
    }

    /// Reads an entry of a pack whose chunks end at `index_offset`; `None` when it is not one.
    fn decode(bytes: &[u8; ENTRY_BYTES], index_offset: u64) -> Option<Self> {
        let entry = Entry {
            hash: Hash(array(bytes, 0)),
            offset: u64::from_le_bytes(array(bytes, 32)),
            stored: u32::from_le_bytes(array(bytes, 40)),
            length: u32::from_le_bytes(array(bytes, 44)),
            coding: match bytes[48] {
                0 => Coding::Raw,
                1 => Coding::Zstd,
                _ => return None,
            },
            kind: Kind::from_wire(bytes[49])?,
        };
        let end = entry.offset.checked_add(u64::from(entry.stored))?;
        let sizes = (1..=CHUNK_BYTES as u32).contains(&entry.length)
            && match entry.coding {
                Coding::Raw => entry.stored == entry.length,
                Coding::Zstd => (1..entry.length).contains(&entry.stored),
            };
        let place = entry.offset >= PAGE_BYTES && end <= index_offset;
        let mappable = match entry.kind {
            Kind::Buffer => entry.coding == Coding::Raw && entry.offset.is_multiple_of(PAGE_BYTES),
            Kind::Other => true,
        };
        (sizes && place && mappable && bytes[50..] == [0, 0]).then_some(entry)
    }
}

/// The end of a pack; no two packs with different chunks have the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Footer {
    /// Where the index begins, in bytes from the start of the pack.
    pub(crate) index_offset: u64,
    /// How many entries the index has.
    pub(crate) count: u64,
    /// BLAKE3 of the index.
    pub(crate) index_hash: Hash,
}

impl Footer {
    /// The footer's form at the end of the pack.
    pub(crate) fn encode(&self) -> [u8; FOOTER_BYTES] {
        let mut bytes = [0; FOOTER_BYTES];
        bytes[..8].copy_from_slice(&self.index_offset.to_le_bytes());
        bytes[8..16].copy_from_slice(&self.count.to_le_bytes());
        bytes[16..48].copy_from_slice(&self.index_hash.0);
        bytes[48..].copy_from_slice(END_MAGIC);
        bytes
    }

    /// Reads the footer of a pack of `pack_bytes` bytes.
    ///
    /// # Errors
    /// What is wrong, in words, when the index that it tells of does not lie exactly between header and footer.
    pub(crate) fn decode(bytes: &[u8; FOOTER_BYTES], pack_bytes: u64) -> Result<Self, &'static str> {
        if bytes[48..] != END_MAGIC[..] {
            return Err("it does not end as a pack does");
        }
        let footer = Footer {
            index_offset: u64::from_le_bytes(array(bytes, 0)),
            count: u64::from_le_bytes(array(bytes, 8)),
            index_hash: Hash(array(bytes, 16)),
        };
        let end = footer
            .count
            .checked_mul(ENTRY_BYTES as u64)
            .and_then(|bytes| bytes.checked_add(footer.index_offset))
            .and_then(|end| end.checked_add(FOOTER_BYTES as u64));
        if footer.index_offset < PAGE_BYTES || end != Some(pack_bytes) {
            return Err("its footer and its length do not agree");
        }
        Ok(footer)
    }

    /// Length of the index in bytes: less than that of the pack.
    pub(crate) fn index_bytes(&self) -> u64 {
        self.count * ENTRY_BYTES as u64
    }

    /// Reads the index that this footer tells of.
    ///
    /// # Errors
    /// What is wrong, in words: another hash, or an entry that points out of the pack or contradicts itself.
    pub(crate) fn entries(&self, index: &[u8]) -> Result<Vec<Entry>, &'static str> {
        if Hash::of(index) != self.index_hash {
            return Err("its index does not have the hash that the footer tells");
        }
        let (records, rest) = index.as_chunks::<ENTRY_BYTES>();
        if !rest.is_empty() || records.len() as u64 != self.count {
            return Err("its index does not have the length that the footer tells");
        }
        let entries: Vec<_> = self.possible_entries(index).collect();
        if entries.len() != records.len() {
            Err("its index has an entry that cannot be")
        } else {
            Ok(entries)
        }
    }

    /// The entries of an index that is perhaps damaged: each can be, but none need be right.
    pub(crate) fn possible_entries(&self, index: &[u8]) -> impl Iterator<Item = Entry> {
        index.as_chunks().0.iter().filter_map(|record| Entry::decode(record, self.index_offset))
    }
}

/// The header of every pack.
pub(crate) fn header() -> [u8; PAGE_BYTES as usize] {
    let mut header = [0; PAGE_BYTES as usize];
    header[..MAGIC.len()].copy_from_slice(MAGIC);
    header
}

fn array<const N: usize>(bytes: &[u8], at: usize) -> [u8; N] {
    let mut array = [0; N];
    array.copy_from_slice(&bytes[at..at + N]);
    array
}

const _: () = assert!(ENTRY_BYTES == HASH_BYTES + 8 + 4 + 4 + 1 + 1 + 2);

#[cfg(test)]
mod tests {
    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::*;

    fn entry() -> Entry {
        Entry {
            hash: Hash([9; 32]),
            offset: 8192,
            stored: 5,
            length: 5,
            coding: Coding::Raw,
            kind: Kind::Buffer,
        }
    }

    #[test]
    fn entries_come_back_and_those_that_cannot_be_are_refused() {
        let good = entry();
        assert_eq!(Entry::decode(&good.encode(), 8197), Some(good));
        assert_eq!(Entry::decode(&good.encode(), 8196), None, "beyond the index");
        for bad in [
            Entry { offset: 8193, ..good },
            Entry { offset: 0, ..good },
            Entry { offset: u64::MAX - 4095, ..good },
            Entry { coding: Coding::Zstd, stored: 4, ..good },
            Entry { stored: 4, ..good },
            Entry { length: 0, stored: 0, ..good },
            Entry { length: CHUNK_BYTES as u32 + 1, stored: CHUNK_BYTES as u32 + 1, ..good },
            Entry { coding: Coding::Zstd, kind: Kind::Other, ..good },
        ] {
            assert_eq!(Entry::decode(&bad.encode(), 1 << 40), None, "{bad:?}");
        }
        for (at, byte) in [(48, 2), (49, 2), (50, 1), (51, 1)] {
            let mut bytes = good.encode();
            bytes[at] = byte;
            assert_eq!(Entry::decode(&bytes, 8197), None, "byte {at}");
        }
    }

    proptest! {
        #[test]
        fn no_footer_makes_an_index_larger_than_its_pack(
            offset: u64, count: u64, pack_bytes: u64, small in any::<bool>(),
        ) {
            let shift = if small { 44 } else { 0 };
            let footer = Footer {
                index_offset: offset >> shift, count: count >> shift, index_hash: Hash::NONE,
            };
            let exact = footer.index_offset + footer.count.saturating_mul(52).saturating_add(56) * u64::from(small);
            for bytes in [pack_bytes, exact] {
                if let Ok(footer) = Footer::decode(&footer.encode(), bytes) {
                    prop_assert!(footer.index_bytes() < bytes);
                }
            }
        }

        #[test]
        fn arbitrary_indexes_are_refused_or_canonical(
            records in vec(prop_oneof![Just(0u8), Just(1), any::<u8>()], 0..260), shape in 0..3usize,
        ) {
            let mut index = records;
            if shape > 0 {
                index.splice(0..0, entry().encode());
            }
            let count = (index.len() / ENTRY_BYTES) as u64;
            let footer = Footer { index_offset: 1 << 30, count, index_hash: Hash::of(&index) };
            if let Ok(entries) = footer.entries(&index) {
                let again: Vec<u8> = entries.iter().flat_map(Entry::encode).collect();
                prop_assert_eq!(again, index);
            }
        }
    }
}
