//! The frame: sixteen bytes of header, then meta (a small message), then payload (raw bytes).
//!
//! ```text
//!  0      1      2      3      4            8             12              16
//!  ├ 0xCB ┼ kind ┼ codec┼ flags┼ request id ┼ meta length ┼ payload length ┤ meta … payload …
//!     u8     u8     u8     u8    u32 LE        u32 LE         u32 LE
//! ```
//!
//! Lengths are checked against [`Limits`] before anything is allocated: whoever sends a header
//! that is too large costs us sixteen bytes and his connection.

use crate::codec::Codec;

/// First byte of every frame. A text protocol spoken at the socket by mistake fails on it at once.
pub const MAGIC: u8 = 0xCB;
/// Length of the header in bytes.
pub const HEADER_BYTES: usize = 16;
/// Flag: the last frame that answers this request id.
pub const FLAG_LAST: u8 = 0b01;
/// Flag: the payload is not in the message but in a sealed memfd sent along (worker hop only).
pub const FLAG_MEMFD: u8 = 0b10;

/// What a frame's meta is, and so on which hop it may be seen.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Kind {
    /// Client to cellblockd: [`crate::client::Request`].
    Request = 1,
    /// cellblockd to client: [`crate::client::Reply`].
    Reply = 2,
    /// cellblockd to shim: [`crate::shim::Command`].
    Command = 3,
    /// Shim to cellblockd: [`crate::shim::Event`].
    Event = 4,
    /// Shim to worker: [`crate::worker::WorkerCommand`].
    WorkerCommand = 5,
    /// Worker to shim: [`crate::worker::WorkerEvent`].
    WorkerEvent = 6,
    /// cellblockd to anchor: [`crate::anchor::AnchorRequest`].
    AnchorRequest = 7,
    /// Anchor to cellblockd: [`crate::anchor::AnchorReply`].
    AnchorReply = 8,
}

impl Kind {
    fn from_wire(byte: u8) -> Option<Self> {
        use Kind::*;
        [Request, Reply, Command, Event, WorkerCommand, WorkerEvent, AnchorRequest, AnchorReply]
            .into_iter()
            .find(|kind| *kind as u8 == byte)
    }
}

/// The largest frame a reader accepts, in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Largest meta in bytes.
    pub meta_bytes: u32,
    /// Largest payload in bytes.
    pub payload_bytes: u32,
}

impl Limits {
    /// What every hop of this build uses: meta is bounded tracebacks and name lists, payload is at
    /// most one large output.
    pub const DEFAULT: Limits = Limits { meta_bytes: 1 << 20, payload_bytes: 64 << 20 };
}

/// A decoded header. Its lengths have passed [`Limits`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    /// What the meta is.
    pub kind: Kind,
    /// How the meta is written.
    pub codec: Codec,
    /// [`FLAG_LAST`] and [`FLAG_MEMFD`]; other bits are zero.
    pub flags: u8,
    /// Chosen by whoever asks; answers repeat it. 0 belongs to no request.
    pub request: u32,
    /// Length of the meta in bytes.
    pub meta_bytes: u32,
    /// Length of the payload in bytes.
    pub payload_bytes: u32,
}

impl Header {
    /// The header's wire form.
    pub fn encode(&self) -> [u8; HEADER_BYTES] {
        let mut bytes = [0; HEADER_BYTES];
        bytes[..4].copy_from_slice(&[MAGIC, self.kind as u8, self.codec as u8, self.flags]);
        bytes[4..8].copy_from_slice(&self.request.to_le_bytes());
        bytes[8..12].copy_from_slice(&self.meta_bytes.to_le_bytes());
        bytes[12..].copy_from_slice(&self.payload_bytes.to_le_bytes());
        bytes
    }

    /// Reads a header.
    ///
    /// # Errors
    /// Any byte that is not as this version writes it, and any length above `limits`.
    pub fn decode(bytes: &[u8; HEADER_BYTES], limits: &Limits) -> Result<Self, FrameError> {
        let word = |at: usize| u32::from_le_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]]);
        if bytes[0] != MAGIC {
            return Err(FrameError::Magic { found: bytes[0] });
        }
        let kind = Kind::from_wire(bytes[1]).ok_or(FrameError::Kind { found: bytes[1] })?;
        let codec = Codec::from_wire(bytes[2]).ok_or(FrameError::Codec { found: bytes[2] })?;
        if bytes[3] & !(FLAG_LAST | FLAG_MEMFD) != 0 {
            return Err(FrameError::Flags { found: bytes[3] });
        }
        let header = Header {
            kind,
            codec,
            flags: bytes[3],
            request: word(4),
            meta_bytes: word(8),
            payload_bytes: word(12),
        };
        for (part, found, limit) in [
            ("meta", header.meta_bytes, limits.meta_bytes),
            ("payload", header.payload_bytes, limits.payload_bytes),
        ] {
            if found > limit {
                return Err(FrameError::TooLarge { part, found, limit });
            }
        }
        Ok(header)
    }
}

/// A whole frame, its meta still in wire form.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Frame {
    /// What the meta is.
    pub kind: Kind,
    /// How the meta is written.
    pub codec: Codec,
    /// [`FLAG_LAST`] and [`FLAG_MEMFD`].
    pub flags: u8,
    /// The request this belongs to; 0 for none.
    pub request: u32,
    /// The message, encoded by `codec`.
    pub meta: Vec<u8>,
    /// Raw bytes; what they are is said by the meta.
    pub payload: Vec<u8>,
}

impl Frame {
    /// The header that goes before this frame's bytes.
    pub fn header(&self) -> Header {
        // A length beyond u32 cannot be said on the wire; saturating makes the reader refuse it.
        let length = |bytes: &[u8]| u32::try_from(bytes.len()).unwrap_or(u32::MAX);
        Header {
            kind: self.kind,
            codec: self.codec,
            flags: self.flags,
            request: self.request,
            meta_bytes: length(&self.meta),
            payload_bytes: length(&self.payload),
        }
    }

    /// Appends the frame's wire form to `out`.
    pub fn write_to(&self, out: &mut Vec<u8>) {
        out.reserve(HEADER_BYTES + self.meta.len() + self.payload.len());
        out.extend_from_slice(&self.header().encode());
        out.extend_from_slice(&self.meta);
        out.extend_from_slice(&self.payload);
    }

    /// Whether this is the last answer to its request.
    pub fn is_last(&self) -> bool {
        self.flags & FLAG_LAST != 0
    }
}

/// What a [`FrameReader`] keeps allocated for what comes next.
const KEPT_BYTES: usize = 256 << 10;

/// Turns a byte stream into frames. Feed it what was read, then take frames until it has none.
#[derive(Debug)]
pub struct FrameReader {
    buffer: Vec<u8>,
    /// Where the next frame begins in `buffer`; consumed bytes are dropped in bulk.
    start: usize,
    limits: Limits,
}

impl FrameReader {
    /// A reader that refuses frames above `limits`.
    pub fn new(limits: Limits) -> Self {
        FrameReader { buffer: Vec::new(), start: 0, limits }
    }

    /// Takes bytes as they came from the socket.
    pub fn feed(&mut self, bytes: &[u8]) {
        if self.start > 0 && (self.start == self.buffer.len() || self.start >= 1 << 16) {
            self.buffer.drain(..self.start);
            self.start = 0;
        }
        self.buffer.extend_from_slice(bytes);
    }

    /// The next whole frame, or `None` until more bytes are fed.
    ///
    /// # Errors
    /// The stream is not frames of this version; nothing after the error can be trusted.
    pub fn next_frame(&mut self) -> Result<Option<Frame>, FrameError> {
        let rest = &self.buffer[self.start..];
        let Some(header_bytes) = rest.first_chunk::<HEADER_BYTES>() else { return Ok(None) };
        let header = Header::decode(header_bytes, &self.limits)?;
        let meta_end = HEADER_BYTES + header.meta_bytes as usize;
        let end = meta_end + header.payload_bytes as usize;
        if rest.len() < end {
            return Ok(None);
        }
        let frame = Frame {
            kind: header.kind,
            codec: header.codec,
            flags: header.flags,
            request: header.request,
            meta: rest[HEADER_BYTES..meta_end].to_vec(),
            payload: rest[meta_end..end].to_vec(),
        };
        self.start += end;
        if self.start == self.buffer.len() && self.buffer.capacity() > KEPT_BYTES {
            // One large frame is no reason to hold its size for as long as the connection lives.
            (self.buffer, self.start) = (Vec::new(), 0);
        }
        Ok(Some(frame))
    }

    /// Bytes of a frame that has begun and not ended: after end-of-file, a torn frame.
    pub fn pending_bytes(&self) -> usize {
        self.buffer.len() - self.start
    }
}

/// Why bytes are not a frame.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[non_exhaustive]
pub enum FrameError {
    /// The first byte is not [`MAGIC`].
    #[error("not a cellblock frame: first byte is 0x{found:02x}, not 0x{MAGIC:02x}")]
    Magic {
        /// The byte found.
        found: u8,
    },
    /// No such kind in this version.
    #[error("unknown frame kind {found}")]
    Kind {
        /// The byte found.
        found: u8,
    },
    /// No such codec in this version.
    #[error("unknown codec {found} (1 is JSON, 2 is bincode)")]
    Codec {
        /// The byte found.
        found: u8,
    },
    /// A flag bit that this version does not know.
    #[error("unknown frame flags 0x{found:02x}")]
    Flags {
        /// The byte found.
        found: u8,
    },
    /// A length above the reader's limit.
    #[error("frame too large: {part} of {found} bytes, the limit is {limit} bytes")]
    TooLarge {
        /// "meta" or "payload".
        part: &'static str,
        /// What the header says, in bytes.
        found: u32,
        /// What the reader accepts, in bytes.
        limit: u32,
    },
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn large_frame_leaves_no_large_buffer() {
        let payload = vec![0; 4 * KEPT_BYTES];
        let (kind, codec) = (Kind::Reply, Codec::Json);
        let large = Frame { kind, codec, flags: 0, request: 1, meta: Vec::new(), payload };
        let mut bytes = Vec::new();
        large.write_to(&mut bytes);
        Frame { payload: Vec::new(), ..large.clone() }.write_to(&mut bytes);
        let mut reader = FrameReader::new(Limits::DEFAULT);
        reader.feed(&bytes);
        assert_eq!(reader.next_frame().unwrap().as_ref(), Some(&large));
        assert!(reader.next_frame().unwrap().is_some() && reader.pending_bytes() == 0);
        assert!(reader.buffer.capacity() <= KEPT_BYTES);
        reader.feed(&bytes);
        assert_eq!(reader.next_frame().unwrap(), Some(large));
    }
}
