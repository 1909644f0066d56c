//! The offer: how a snapshot child hands a checkpoint to the store process, over a SEQPACKET socket.
//!
//! ```text
//! child → Begin
//!         Buffer, its Offers      … for every buffer, in order
//!         Stream, its Offers
//!         Names   (with a memfd)
//!         End
//! store → Done or Failed
//!
//! child → Offer   hashes and lengths of the next chunks, in order
//! store → Want    which of them it does not have
//! child → Data …  those and no others, in order (each with a memfd); none when nothing is wanted
//! ```
//!
//! One message is one packet of at most [`MESSAGE_BYTES`]; the first byte says which, integers are little endian.
//! The store may say `Failed` at any time instead of what is expected of it, and then closes.
//!
//! This module needs nothing but the standard library, because the child includes it inside the worker. Decoding
//! allocates nothing: records stay in the packet and are read from there. What a message says is checked here as
//! far as one message can be wrong by itself; what depends on earlier ones, the store checks.

mod wire;

use std::fmt;

use crate::hash::Hash;

use wire::Fields;
pub use wire::Records;

/// Version of this protocol, said in [`FromChild::Begin`].
pub const VERSION: u32 = 1;

/// Longest message, in bytes. The largest offer is 54,006.
pub const MESSAGE_BYTES: usize = 64 << 10;

/// Longest chunk, in bytes. A buffer's chunks have exactly this length, but for the last.
pub const CHUNK_BYTES: usize = 256 << 10;

/// Most chunks of one [`FromChild::Offer`].
pub const OFFERED_CHUNKS: usize = 1_500;

/// Most bytes in the memfd of one [`FromChild::Data`]: what the store holds in memory at a time.
pub const DATA_BYTES: usize = 8 << 20;

/// Longest JSON text of [`FromChild::Names`], in bytes.
pub const NAMES_BYTES: usize = 16 << 20;

/// Longest reason of [`FromStore::Failed`], in bytes; a longer one is cut.
pub const REASON_BYTES: usize = 4 << 10;

/// What a chunk is part of, and so how it is stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum Kind {
    /// Of a buffer: stored as it is, on a page boundary, so that it can be mapped.
    Buffer = 0,
    /// Of anything else: compressed where that pays.
    Other = 1,
}

impl Kind {
    /// The kind of this number.
    pub fn from_wire(byte: u8) -> Option<Self> {
        match byte {
            0 => Some(Kind::Buffer),
            1 => Some(Kind::Other),
            _ => None,
        }
    }
}

/// How many chunks a buffer of `bytes` bytes has.
pub const fn buffer_chunks(bytes: u64) -> u64 {
    bytes.div_ceil(CHUNK_BYTES as u64)
}

/// A chunk that the child has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Offered {
    /// BLAKE3 of its bytes.
    pub hash: Hash,
    /// Its length in bytes, from 1 to [`CHUNK_BYTES`].
    pub length: u32,
}

/// A chunk in the memfd of a [`FromChild::Data`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sent {
    /// Which chunk of the last Offer it is, from 0.
    pub index: u32,
    /// Its length in bytes, as offered.
    pub length: u32,
}

/// What the child says.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum FromChild<'a> {
    /// First message.
    Begin {
        /// [`VERSION`].
        version: u32,
        /// How many chunks the stream has.
        stream_chunks: u64,
        /// How many buffers there are.
        buffers: u64,
    },
    /// Opens the next buffer; the offers that follow are its chunks.
    Buffer {
        /// Its length in bytes; 0 is allowed.
        bytes: u64,
        /// How many chunks it has: [`buffer_chunks`] of `bytes`.
        chunks: u64,
    },
    /// Opens the stream, after the last buffer; the offers that follow are its chunks.
    Stream {
        /// Its length in bytes, at least 1.
        bytes: u64,
    },
    /// The next chunks, in order, at most [`OFFERED_CHUNKS`].
    Offer {
        /// [`Kind::Buffer`] after `Buffer`, [`Kind::Other`] after `Stream`.
        kind: Kind,
        /// The chunks.
        chunks: Records<'a, Offered>,
    },
    /// Chunks that were wanted. One memfd comes along: their bytes, one after the other from offset 0, at most
    /// [`DATA_BYTES`] together. Indices ascend, over all the Data messages of one Offer.
    Data {
        /// Which chunks, in the order of their bytes.
        chunks: Records<'a, Sent>,
    },
    /// What the manifest takes from the worker. One memfd comes along: a JSON document from offset 0.
    Names {
        /// Length of the document in bytes, at most [`NAMES_BYTES`].
        bytes: u64,
    },
    /// Last message: publish it.
    End,
}

/// What the store answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FromStore<'a> {
    /// Answers an Offer: a bit per offered chunk, lowest bit of the first byte first. A set bit: send it.
    Want {
        /// How many chunks were offered.
        count: u32,
        /// `count` bits, in as few bytes as hold them; the bits after the last are 0.
        bitmap: &'a [u8],
    },
    /// Answers End: the checkpoint is published and will be found after a crash of the machine.
    Done {
        /// Its number.
        id: u64,
        /// What it added to the store, in bytes.
        written: u64,
    },
    /// Nothing was published.
    Failed {
        /// Why, for people.
        reason: &'a str,
    },
}

impl FromStore<'_> {
    /// Whether the chunk at `index` is wanted; false for every other message and index.
    pub fn wants(&self, index: usize) -> bool {
        match self {
            FromStore::Want { count, bitmap } if index < *count as usize => {
                bitmap[index / 8] >> (index % 8) & 1 == 1
            }
            _ => false,
        }
    }
}

/// Why a message was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Malformed {
    /// Its first byte names no message.
    Tag {
        /// The byte; `None` when the message is empty.
        found: Option<u8>,
    },
    /// It is shorter or longer than what it says.
    Length {
        /// Which message.
        message: &'static str,
        /// Its length in bytes.
        found: usize,
    },
    /// A field has a value that it cannot have.
    Value {
        /// Which message.
        message: &'static str,
        /// Which field.
        field: &'static str,
        /// The value, where it is a number.
        found: u64,
    },
}

impl fmt::Display for Malformed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Malformed::Tag { found: Some(byte) } => write!(f, "no message begins with byte {byte}"),
            Malformed::Tag { found: None } => write!(f, "an empty message"),
            Malformed::Length { message, found } => {
                write!(f, "message {message} has a wrong length of {found} bytes")
            }
            Malformed::Value { message, field, found } => {
                write!(f, "the {field} of message {message} cannot be {found}")
            }
        }
    }
}

impl std::error::Error for Malformed {}

const BEGIN: u8 = 1;
const BUFFER: u8 = 2;
const STREAM: u8 = 3;
const OFFER: u8 = 4;
const DATA: u8 = 5;
const NAMES: u8 = 6;
const END: u8 = 7;
const WANT: u8 = 65;
const DONE: u8 = 66;
const FAILED: u8 = 67;

impl<'a> FromChild<'a> {
    /// Whether exactly one memfd comes with this message; with every other there is none.
    pub fn carries_memfd(&self) -> bool {
        matches!(self, FromChild::Data { .. } | FromChild::Names { .. })
    }

    /// Writes the message over what is in `out`.
    pub fn encode(&self, out: &mut Vec<u8>) {
        out.clear();
        match self {
            FromChild::Begin { version, stream_chunks, buffers } => {
                out.push(BEGIN);
                out.extend(version.to_le_bytes());
                out.extend(stream_chunks.to_le_bytes());
                out.extend(buffers.to_le_bytes());
            }
            FromChild::Buffer { bytes, chunks } => {
                out.push(BUFFER);
                out.extend(bytes.to_le_bytes());
                out.extend(chunks.to_le_bytes());
            }
            FromChild::Stream { bytes } => {
                out.push(STREAM);
                out.extend(bytes.to_le_bytes());
            }
            FromChild::Offer { kind, chunks } => {
                out.extend([OFFER, *kind as u8]);
                chunks.encode(out);
            }
            FromChild::Data { chunks } => {
                out.push(DATA);
                chunks.encode(out);
            }
            FromChild::Names { bytes } => {
                out.push(NAMES);
                out.extend(bytes.to_le_bytes());
            }
            FromChild::End => out.push(END),
        }
    }

    /// Reads a message.
    ///
    /// # Errors
    /// Any byte that [`FromChild::encode`] would not write, and any length or count above its limit.
    pub fn decode(packet: &'a [u8]) -> Result<Self, Malformed> {
        let (tag, mut fields) = Fields::open(packet)?;
        let message = match tag {
            BEGIN => {
                fields.message = "Begin";
                FromChild::Begin {
                    version: fields.u32()?,
                    stream_chunks: fields.u64()?,
                    buffers: fields.u64()?,
                }
            }
            BUFFER => {
                fields.message = "Buffer";
                let bytes = fields.u64()?;
                let chunks = fields.u64()?;
                fields.check("chunks", chunks, chunks == buffer_chunks(bytes))?;
                FromChild::Buffer { bytes, chunks }
            }
            STREAM => {
                fields.message = "Stream";
                let bytes = fields.u64()?;
                fields.check("bytes", bytes, bytes > 0)?;
                FromChild::Stream { bytes }
            }
            OFFER => {
                fields.message = "Offer";
                let byte = fields.array::<1>()?[0];
                let kind = Kind::from_wire(byte).ok_or(fields.wrong("kind", u64::from(byte)))?;
                FromChild::Offer { kind, chunks: fields.records()? }
            }
            DATA => {
                fields.message = "Data";
                let chunks: Records<'_, Sent> = fields.records()?;
                let total = chunks.iter().map(|sent| u64::from(sent.length)).sum();
                fields.check("total length", total, total <= DATA_BYTES as u64)?;
                FromChild::Data { chunks }
            }
            NAMES => {
                fields.message = "Names";
                let bytes = fields.u64()?;
                fields.check("bytes", bytes, bytes <= NAMES_BYTES as u64)?;
                FromChild::Names { bytes }
            }
            END => {
                fields.message = "End";
                FromChild::End
            }
            found => return Err(Malformed::Tag { found: Some(found) }),
        };
        fields.close()?;
        Ok(message)
    }
}

impl<'a> FromStore<'a> {
    /// Writes the message over what is in `out`. Of a reason that is too long, the beginning.
    pub fn encode(&self, out: &mut Vec<u8>) {
        out.clear();
        match self {
            FromStore::Want { count, bitmap } => {
                out.push(WANT);
                out.extend(count.to_le_bytes());
                out.extend_from_slice(bitmap);
            }
            FromStore::Done { id, written } => {
                out.push(DONE);
                out.extend(id.to_le_bytes());
                out.extend(written.to_le_bytes());
            }
            FromStore::Failed { reason } => {
                out.push(FAILED);
                out.extend_from_slice(&reason.as_bytes()[..reason.floor_char_boundary(REASON_BYTES)]);
            }
        }
    }

    /// Reads a message.
    ///
    /// # Errors
    /// Any byte that [`FromStore::encode`] would not write.
    pub fn decode(packet: &'a [u8]) -> Result<Self, Malformed> {
        let (tag, mut fields) = Fields::open(packet)?;
        let message = match tag {
            WANT => {
                fields.message = "Want";
                let count = fields.u32()?;
                fields.check("count", u64::from(count), count as usize <= OFFERED_CHUNKS)?;
                let bitmap = fields.take((count as usize).div_ceil(8))?;
                let unused = bitmap.last().map_or(0, |last| u32::from(*last) >> ((count - 1) % 8 + 1));
                fields.check("bits after the last", u64::from(unused), unused == 0)?;
                FromStore::Want { count, bitmap }
            }
            DONE => {
                fields.message = "Done";
                FromStore::Done { id: fields.u64()?, written: fields.u64()? }
            }
            FAILED => {
                fields.message = "Failed";
                let text = fields.take(fields.rest.len())?;
                fields.check("reason's length", text.len() as u64, text.len() <= REASON_BYTES)?;
                let reason = str::from_utf8(text)
                    .map_err(|error| fields.wrong("byte", u64::from(text[error.valid_up_to()])))?;
                FromStore::Failed { reason }
            }
            found => return Err(Malformed::Tag { found: Some(found) }),
        };
        fields.close()?;
        Ok(message)
    }
}

#[cfg(test)]
mod tests;
