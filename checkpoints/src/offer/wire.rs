//! How fields and lists of records lie in a message.

use std::fmt;

use super::{CHUNK_BYTES, Malformed, OFFERED_CHUNKS, Offered, Sent};
use crate::hash::{HASH_BYTES, Hash};

/// A list of records in a message, at most [`OFFERED_CHUNKS`]: still in the packet that was read, or in the slice
/// from which one will be written.
#[derive(Clone, Copy)]
pub struct Records<'a, R>(Source<'a, R>);

#[derive(Clone, Copy)]
enum Source<'a, R> {
    /// Has been checked: whole records, each valid.
    Packet(&'a [u8]),
    Values(&'a [R]),
}

impl<'a, R> From<&'a [R]> for Records<'a, R> {
    /// # Panics
    /// With more than [`OFFERED_CHUNKS`] records: the caller cuts its list into messages.
    fn from(values: &'a [R]) -> Self {
        assert!(values.len() <= OFFERED_CHUNKS, "{} records do not fit one message", values.len());
        Records(Source::Values(values))
    }
}

#[expect(private_bounds, reason = "a record is one of this protocol's two; nobody else makes one")]
impl<'a, R: Record> Records<'a, R> {
    /// How many records there are.
    pub fn len(&self) -> usize {
        match self.0 {
            Source::Packet(bytes) => bytes.len() / R::BYTES,
            Source::Values(values) => values.len(),
        }
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The records in order.
    pub fn iter(&self) -> impl Iterator<Item = R> + use<'a, R> {
        let source = self.0;
        (0..self.len()).map(move |index| match source {
            Source::Packet(bytes) => R::read(&bytes[index * R::BYTES..][..R::BYTES]),
            Source::Values(values) => values[index],
        })
    }

    pub(super) fn encode(&self, out: &mut Vec<u8>) {
        out.extend((self.len() as u32).to_le_bytes());
        self.iter().for_each(|record| record.write(out));
    }
}

impl<R: Record + PartialEq> PartialEq for Records<'_, R> {
    fn eq(&self, other: &Self) -> bool {
        self.len() == other.len() && self.iter().eq(other.iter())
    }
}

impl<R: Record + fmt::Debug> fmt::Debug for Records<'_, R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.iter()).finish()
    }
}

/// A record of a fixed length.
pub(super) trait Record: Copy {
    /// Its length in bytes.
    const BYTES: usize;
    /// Reads it from `Self::BYTES` bytes.
    fn read(bytes: &[u8]) -> Self;
    fn write(&self, out: &mut Vec<u8>);
    /// The length of the chunk that it speaks of, in bytes.
    fn chunk_bytes(&self) -> u32;
}

impl Record for Offered {
    const BYTES: usize = HASH_BYTES + 4;

    fn read(bytes: &[u8]) -> Self {
        let mut hash = [0; HASH_BYTES];
        hash.copy_from_slice(&bytes[..HASH_BYTES]);
        Offered { hash: Hash(hash), length: word(&bytes[HASH_BYTES..]) }
    }

    fn write(&self, out: &mut Vec<u8>) {
        out.extend(self.hash.0);
        out.extend(self.length.to_le_bytes());
    }

    fn chunk_bytes(&self) -> u32 {
        self.length
    }
}

impl Record for Sent {
    const BYTES: usize = 8;

    fn read(bytes: &[u8]) -> Self {
        Sent { index: word(bytes), length: word(&bytes[4..]) }
    }

    fn write(&self, out: &mut Vec<u8>) {
        out.extend(self.index.to_le_bytes());
        out.extend(self.length.to_le_bytes());
    }

    fn chunk_bytes(&self) -> u32 {
        self.length
    }
}

fn word(bytes: &[u8]) -> u32 {
    u32::from_le_bytes([bytes[0], bytes[1], bytes[2], bytes[3]])
}

/// What of a message is still to be read.
pub(super) struct Fields<'a> {
    /// For errors: which message it is.
    pub(super) message: &'static str,
    pub(super) rest: &'a [u8],
    packet_bytes: usize,
}

impl<'a> Fields<'a> {
    /// The first byte of `packet`, and what follows it.
    pub(super) fn open(packet: &'a [u8]) -> Result<(u8, Self), Malformed> {
        let (tag, rest) = packet.split_first().ok_or(Malformed::Tag { found: None })?;
        Ok((*tag, Fields { message: "message", rest, packet_bytes: packet.len() }))
    }

    pub(super) fn take(&mut self, bytes: usize) -> Result<&'a [u8], Malformed> {
        let (taken, rest) = self.rest.split_at_checked(bytes).ok_or(self.length())?;
        self.rest = rest;
        Ok(taken)
    }

    pub(super) fn array<const N: usize>(&mut self) -> Result<[u8; N], Malformed> {
        let mut array = [0; N];
        array.copy_from_slice(self.take(N)?);
        Ok(array)
    }

    pub(super) fn u32(&mut self) -> Result<u32, Malformed> {
        self.array().map(u32::from_le_bytes)
    }

    pub(super) fn u64(&mut self) -> Result<u64, Malformed> {
        self.array().map(u64::from_le_bytes)
    }

    /// A count, and as many records, each of a chunk that can be.
    pub(super) fn records<R: Record>(&mut self) -> Result<Records<'a, R>, Malformed> {
        let count = self.u32()?;
        self.check("count", u64::from(count), (1..=OFFERED_CHUNKS).contains(&(count as usize)))?;
        let records: Records<'a, R> = Records(Source::Packet(self.take(count as usize * R::BYTES)?));
        for record in records.iter() {
            let length = record.chunk_bytes();
            self.check("chunk length", u64::from(length), (1..=CHUNK_BYTES).contains(&(length as usize)))?;
        }
        Ok(records)
    }

    pub(super) fn check(&self, field: &'static str, found: u64, holds: bool) -> Result<(), Malformed> {
        if holds { Ok(()) } else { Err(self.wrong(field, found)) }
    }

    pub(super) fn wrong(&self, field: &'static str, found: u64) -> Malformed {
        Malformed::Value { message: self.message, field, found }
    }

    pub(super) fn close(&self) -> Result<(), Malformed> {
        if self.rest.is_empty() { Ok(()) } else { Err(self.length()) }
    }

    fn length(&self) -> Malformed {
        Malformed::Length { message: self.message, found: self.packet_bytes }
    }
}
