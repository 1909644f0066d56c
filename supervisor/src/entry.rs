//! What is written of Executions on the disk, entry by entry: the unit of a notebook's journal and of
//! spilled outputs. Each entry says how long it is and has a checksum over all of it, so that a file whose
//! writer was killed half-way is good up to its last whole entry. Messages are JSON, so that the build
//! after this one reads them.
//!
//! An entry is a header of 32 bytes, little-endian, then the Execution's id, the message, the payload:
//!
//! ```text
//! check u32 · kind u8 · flags u8 · id_bytes u16 · meta_bytes u32 · payload_bytes u32 · number u64 · before u64
//! ```

use std::fs::File;
use std::io::{self, BufReader, Read, Seek, SeekFrom};

use cellblock_proto::id::ExecutionId;

/// See the module.
const HEAD_BYTES: usize = 32;

/// What is read ahead of an entry.
const BUFFER_BYTES: usize = 64 << 10;

/// What an entry is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// The Execution was accepted; see [`INTERRUPT`].
    Accepted = 1,
    /// One of its outputs; the number is its place, `before` how many bytes its Execution had put out before.
    Output = 2,
    /// Its end; the number is how many outputs there were.
    Ended = 3,
    /// It has been, and how it ended is kept no more.
    Known = 4,
    /// What had changed up to this one is saved, or somebody was told that it is lost, or wanted that.
    Settled = 5,
}

/// A flag of [`Kind::Accepted`]: it is to end when nobody is attached to it.
pub(crate) const INTERRUPT: u8 = 1;

/// Flags of [`Kind::Ended`]: its worker went on with what it had changed; that was saved when it ended; it was lost with
/// its shim, and may have been saved nevertheless.
pub(crate) const CHANGED: u8 = 1;
pub(crate) const SAVED: u8 = 2;
pub(crate) const PASSED: u8 = 4;

/// An entry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Entry {
    pub(crate) kind: Kind,
    pub(crate) flags: u8,
    pub(crate) execution: ExecutionId,
    pub(crate) number: u64,
    pub(crate) before: u64,
    /// The message as JSON.
    pub(crate) meta: Vec<u8>,
    pub(crate) payload: Vec<u8>,
}

/// What of an entry is written at its front.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Head<'a> {
    pub(crate) kind: Kind,
    pub(crate) flags: u8,
    pub(crate) execution: &'a ExecutionId,
    pub(crate) number: u64,
    pub(crate) before: u64,
}

impl<'a> Head<'a> {
    /// Without flags, number or anything before it.
    pub(crate) fn new(kind: Kind, execution: &'a ExecutionId) -> Self {
        Head { kind, flags: 0, execution, number: 0, before: 0 }
    }

    /// Adds the entry to what is to be written.
    pub(crate) fn write(self, meta: &[u8], payload: &[u8], out: &mut Vec<u8>) {
        let id = self.execution.as_str().as_bytes();
        let start = out.len();
        out.reserve(HEAD_BYTES + id.len() + meta.len() + payload.len());
        out.extend_from_slice(&[0; 4]);
        out.extend_from_slice(&[self.kind as u8, self.flags]);
        // Ids have 64 bytes at most, the others came in by frames, whose lengths are u32.
        out.extend_from_slice(&u16::try_from(id.len()).unwrap_or(u16::MAX).to_le_bytes());
        for part in [meta, payload] {
            out.extend_from_slice(&u32::try_from(part.len()).unwrap_or(u32::MAX).to_le_bytes());
        }
        out.extend_from_slice(&self.number.to_le_bytes());
        out.extend_from_slice(&self.before.to_le_bytes());
        out.extend_from_slice(id);
        out.extend_from_slice(meta);
        out.extend_from_slice(payload);
        let check = crc32fast::hash(&out[start + 4..]);
        out[start..start + 4].copy_from_slice(&check.to_le_bytes());
    }
}

/// The entries of a file from a place on, in order, up to the first that is not whole.
#[derive(Debug)]
pub(crate) struct Entries {
    file: BufReader<File>,
    /// Where the next one begins.
    offset: u64,
    /// How long the file was when it was opened: what an entry claims is never more.
    bytes: u64,
}

impl Entries {
    /// From `offset` on, where an entry begins.
    ///
    /// # Errors
    /// What the disk says.
    pub(crate) fn open(mut file: File, offset: u64) -> io::Result<Self> {
        let bytes = file.metadata()?.len();
        file.seek(SeekFrom::Start(offset))?;
        Ok(Entries { file: BufReader::with_capacity(BUFFER_BYTES, file), offset, bytes })
    }

    /// Where the next entry begins: after the last one, where the file is good up to.
    pub(crate) fn offset(&self) -> u64 {
        self.offset
    }

    /// How long the file was.
    pub(crate) fn file_bytes(&self) -> u64 {
        self.bytes
    }

    /// The next one; `None` where the file ends or is not good any more.
    ///
    /// # Errors
    /// What the disk says.
    pub(crate) fn next(&mut self) -> io::Result<Option<Entry>> {
        let left = self.bytes.saturating_sub(self.offset);
        if left < HEAD_BYTES as u64 {
            return Ok(None);
        }
        let mut head = [0; HEAD_BYTES];
        self.file.read_exact(&mut head)?;
        let u32_at =
            |at: usize| head[at..at + 4].iter().rev().fold(0, |sum, byte| sum << 8 | u32::from(*byte));
        let u64_at = |at: usize| u64::from(u32_at(at)) | u64::from(u32_at(at + 4)) << 32;
        let id_bytes = usize::from(u16::from_le_bytes([head[6], head[7]]));
        let (meta_bytes, payload_bytes) = (u32_at(8) as usize, u32_at(12) as usize);
        let rest = id_bytes + meta_bytes + payload_bytes;
        if rest as u64 > left - HEAD_BYTES as u64 {
            return Ok(None);
        }
        let mut id = vec![0; id_bytes];
        self.file.read_exact(&mut id)?;
        let mut meta = vec![0; meta_bytes];
        self.file.read_exact(&mut meta)?;
        let mut payload = vec![0; payload_bytes];
        self.file.read_exact(&mut payload)?;
        let mut hasher = crc32fast::Hasher::new();
        for part in [&head[4..], &id, &meta, &payload] {
            hasher.update(part);
        }
        let kind = match head[4] {
            1 => Kind::Accepted,
            2 => Kind::Output,
            3 => Kind::Ended,
            4 => Kind::Known,
            5 => Kind::Settled,
            _ => return Ok(None),
        };
        let id = String::from_utf8(id).ok().and_then(|id| ExecutionId::try_from(id).ok());
        let Some(execution) = id.filter(|_| hasher.finalize() == u32_at(0)) else { return Ok(None) };
        self.offset += (HEAD_BYTES + rest) as u64;
        let (flags, number, before) = (head[5], u64_at(16), u64_at(24));
        Ok(Some(Entry { kind, flags, execution, number, before, meta, payload }))
    }
}

/// Runs what may wait for a disk, so that meanwhile nobody else waits for it.
pub(crate) fn blocking<T>(work: impl FnOnce() -> T) -> T {
    use tokio::runtime::{Handle, RuntimeFlavor};
    let has_threads =
        Handle::try_current().is_ok_and(|handle| handle.runtime_flavor() == RuntimeFlavor::MultiThread);
    if has_threads { tokio::task::block_in_place(work) } else { work() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::io::Write;

    fn id() -> ExecutionId {
        "a".parse().unwrap()
    }

    fn file(bytes: &[u8]) -> File {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(bytes).unwrap();
        file
    }

    fn numbers(bytes: &[u8]) -> (Vec<u64>, u64) {
        let mut entries = Entries::open(file(bytes), 0).unwrap();
        let mut numbers = Vec::new();
        while let Some(entry) = entries.next().unwrap() {
            numbers.push(entry.number);
        }
        (numbers, entries.offset())
    }

    #[test]
    fn entries_come_back_as_they_were_written() {
        let mut bytes = Vec::new();
        let execution = id();
        let head =
            Head { flags: INTERRUPT, number: 1 << 40, before: 7, ..Head::new(Kind::Output, &execution) };
        head.write(b"{}", b"payload", &mut bytes);
        let entry = Entries::open(file(&bytes), 0).unwrap().next().unwrap().unwrap();
        assert_eq!((entry.kind, entry.flags, entry.number, entry.before), (Kind::Output, 1, 1 << 40, 7));
        assert_eq!((entry.execution, entry.meta, entry.payload), (id(), b"{}".to_vec(), b"payload".to_vec()));
    }

    proptest! {
        #[test]
        fn a_file_cut_or_changed_anywhere_is_good_up_to_there(cut in 0..400_usize, flip in any::<bool>()) {
            let (mut bytes, mut ends, execution) = (Vec::new(), Vec::new(), id());
            for number in 0..8 {
                let head = Head { number, ..Head::new(Kind::Output, &execution) };
                head.write(b"meta", &vec![b'x'; number as usize], &mut bytes);
                ends.push(bytes.len());
            }
            let cut = cut.min(bytes.len() - 1);
            if flip {
                bytes[cut] ^= 0x10;
            } else {
                bytes.truncate(cut);
            }
            let whole = ends.iter().filter(|end| **end <= cut).count();
            let (numbers, offset) = numbers(&bytes);
            prop_assert_eq!(numbers, (0..whole as u64).collect::<Vec<_>>());
            prop_assert_eq!(offset as usize, whole.checked_sub(1).map_or(0, |at| ends[at]));
        }

        #[test]
        fn arbitrary_bytes_are_no_entry_and_no_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            prop_assert_eq!(numbers(&bytes).0, Vec::<u64>::new());
        }
    }
}
