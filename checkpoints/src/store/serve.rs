//! The store's side of the offer (see [`crate::offer`]): a snapshot child hands over a checkpoint.
//!
//! The child runs user code's memory and may say anything. It costs at most the memory for one packet, one memfd and
//! the hashes of what it has offered, the quota of the disk, and the time until the deadline.

use std::collections::HashMap;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::time::{Duration, Instant, SystemTime};

use super::Store;
use super::damage::chain;
use super::layout;
use super::socket::{Socket, SocketError, read_memfd};
use super::tree::MOST_CHUNKS;
use super::worker_part::{PartError, WorkerPart};
use super::writer::{Published, WriteError, Writer};
use crate::hash::Hash;
use crate::offer::{
    CHUNK_BYTES, FromChild, FromStore, Kind, Malformed, OFFERED_CHUNKS, Offered, Records, Sent, VERSION,
};

/// What one offer may cost.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// What the whole store may have afterwards, in bytes.
    pub quota_bytes: u64,
    /// How long the offer may take, until the disk is forced at its end.
    pub time: Duration,
}

/// Why an offer came to nothing.
#[derive(Debug, thiserror::Error)]
pub enum OfferError {
    /// The child or its socket.
    #[error(transparent)]
    Socket(#[from] SocketError),
    /// A message that is none.
    #[error("the snapshot child sent what is no message")]
    Malformed(#[from] Malformed),
    /// Another version of the protocol: worker and store are of different builds.
    #[error(
        "the snapshot child speaks version {found} of the offer, the store {VERSION}: restart the notebook"
    )]
    Version {
        /// The child's version.
        found: u32,
    },
    /// A message that may not come here, or says another thing than those before it.
    #[error("the snapshot child broke the offer: {what}")]
    Order {
        /// What it did.
        what: &'static str,
    },
    /// What the worker says of the checkpoint.
    #[error(transparent)]
    Part(#[from] PartError),
    /// The checkpoint cannot be written.
    #[error(transparent)]
    Write(#[from] WriteError),
}

/// Serves one offer: receives a checkpoint, publishes it, and tells the child so, or why not.
///
/// # Errors
/// The child broke the protocol, went away or was too slow; the quota; the disk. Nothing is published then, but for a
/// child that goes away before it is told.
pub fn serve_offer(
    socket: BorrowedFd<'_>,
    store: &mut Store,
    limits: &Limits,
) -> Result<Published, OfferError> {
    let mut socket = Socket::new(socket, Instant::now() + limits.time);
    let mut packet = Vec::new();
    let served = receive(&mut socket, store.write(limits.quota_bytes));
    match &served {
        Ok(Published { id, bytes_written }) => {
            FromStore::Done { id: *id, written: *bytes_written }.encode(&mut packet);
        }
        Err(error) => {
            FromStore::Failed { reason: &chain(error) }.encode(&mut packet);
        }
    }
    // Whether it still listens or not: what is published is published.
    let _ = socket.send(&packet);
    served
}

fn receive(socket: &mut Socket<'_>, writer: Writer<'_>) -> Result<Published, OfferError> {
    let mut session = Session::begin(socket, writer)?;
    loop {
        let (packet, descriptors) = socket.receive()?;
        let message = FromChild::decode(packet)?;
        if !message.carries_memfd() && !descriptors.is_empty() {
            return Err(SocketError::Descriptors { found: descriptors.len(), expected: 0 }.into());
        }
        if !session.wanted.is_empty() && !matches!(message, FromChild::Data { .. }) {
            return Err(OfferError::Order { what: "it did not send all that was wanted" });
        }
        match message {
            FromChild::Begin { .. } => return Err(OfferError::Order { what: "it began twice" }),
            FromChild::Buffer { bytes, chunks } => session.open_buffer(bytes, chunks)?,
            FromChild::Stream { bytes } => session.open_stream(bytes)?,
            FromChild::Offer { kind, chunks } => {
                let want = session.offer(kind, chunks)?;
                socket.send(&want)?;
            }
            FromChild::Data { chunks } => session.data(chunks, &descriptors)?,
            FromChild::Names { bytes } => {
                session.close()?;
                read_memfd(&descriptors, bytes as usize, &mut session.content)?;
                session.part = Some(WorkerPart::parse(&session.content)?);
            }
            FromChild::End => return session.end(),
        }
    }
}

/// What has been received so far.
struct Session<'s> {
    writer: Writer<'s>,
    stream_chunks: u64,
    /// Buffers that have not been opened yet.
    buffers_left: u64,
    has_stream: bool,
    /// The buffer or stream whose chunks are being offered.
    open: Option<Open>,
    /// Of the last Offer: which chunks are still to come, the next one last.
    wanted: Vec<(u32, Offered)>,
    kind: Kind,
    part: Option<WorkerPart>,
    /// What the last memfd held.
    content: Vec<u8>,
}

/// A buffer or the stream, while its chunks are offered.
struct Open {
    kind: Kind,
    bytes: u64,
    chunks: u64,
    offered: Vec<Hash>,
    offered_bytes: u64,
}

impl Open {
    fn new(kind: Kind, bytes: u64, chunks: u64) -> Self {
        Open { kind, bytes, chunks, offered: Vec::new(), offered_bytes: 0 }
    }

    /// Takes the next chunk: of a buffer, each but the last is as long as a chunk can be.
    fn take(&mut self, chunk: &Offered) -> Result<(), OfferError> {
        let left = self.bytes - self.offered_bytes;
        let length = u64::from(chunk.length);
        let fits = match self.kind {
            Kind::Buffer => length == left.min(CHUNK_BYTES as u64),
            Kind::Other => length <= left && (self.offered.len() as u64) < self.chunks,
        };
        if !fits {
            return Err(OfferError::Order { what: "it offered a chunk that does not fit" });
        }
        self.offered_bytes += length;
        self.offered.push(chunk.hash);
        Ok(())
    }
}

impl<'s> Session<'s> {
    fn begin(socket: &mut Socket<'_>, writer: Writer<'s>) -> Result<Self, OfferError> {
        let (packet, descriptors) = socket.receive()?;
        let FromChild::Begin { version, stream_chunks, buffers } = FromChild::decode(packet)? else {
            return Err(OfferError::Order { what: "it did not begin" });
        };
        if !descriptors.is_empty() {
            return Err(SocketError::Descriptors { found: descriptors.len(), expected: 0 }.into());
        }
        if version != VERSION {
            return Err(OfferError::Version { found: version });
        }
        if !(1..=MOST_CHUNKS).contains(&stream_chunks) || buffers > layout::MOST_BUFFERS {
            return Err(OfferError::Order { what: "it has no stream, or too many chunks or buffers" });
        }
        Ok(Session {
            writer,
            stream_chunks,
            buffers_left: buffers,
            has_stream: false,
            open: None,
            wanted: Vec::new(),
            kind: Kind::Buffer,
            part: None,
            content: Vec::new(),
        })
    }

    fn open_buffer(&mut self, bytes: u64, chunks: u64) -> Result<(), OfferError> {
        self.close()?;
        if self.buffers_left == 0 || self.has_stream {
            return Err(OfferError::Order { what: "it has another buffer than it began with" });
        }
        if bytes > layout::MOST_BYTES {
            return Err(OfferError::Order { what: "it has a buffer that is too large" });
        }
        self.buffers_left -= 1;
        self.open = Some(Open::new(Kind::Buffer, bytes, chunks));
        Ok(())
    }

    fn open_stream(&mut self, bytes: u64) -> Result<(), OfferError> {
        self.close()?;
        if self.buffers_left > 0 || self.has_stream {
            return Err(OfferError::Order { what: "its stream came twice or before its buffers" });
        }
        self.has_stream = true;
        self.open = Some(Open::new(Kind::Other, bytes, self.stream_chunks));
        Ok(())
    }

    /// Ends the open buffer or stream, all of which has been offered.
    fn close(&mut self) -> Result<(), OfferError> {
        let Some(open) = self.open.take() else { return Ok(()) };
        if open.offered_bytes != open.bytes || open.offered.len() as u64 != open.chunks {
            return Err(OfferError::Order { what: "it offered less than it opened" });
        }
        match open.kind {
            Kind::Buffer => self.writer.buffer(open.bytes, &open.offered)?,
            Kind::Other => self.writer.stream(open.bytes, &open.offered)?,
        }
        Ok(())
    }

    /// Takes an Offer; returns the Want that answers it.
    fn offer(&mut self, kind: Kind, chunks: Records<'_, Offered>) -> Result<Vec<u8>, OfferError> {
        let open = self.open.as_mut().filter(|open| open.kind == kind);
        let open = open.ok_or(OfferError::Order { what: "it offered chunks of nothing that is open" })?;
        let mut bitmap = [0; OFFERED_CHUNKS.div_ceil(8)];
        let mut wanted = HashMap::new();
        for (index, chunk) in chunks.iter().enumerate() {
            open.take(&chunk)?;
            let known = self.writer.knows(&chunk.hash, kind).or_else(|| wanted.get(&chunk.hash).copied());
            match known {
                Some(length) if length == chunk.length => {}
                Some(_) => return Err(OfferError::Order { what: "it offered a chunk with another length" }),
                None => {
                    wanted.insert(chunk.hash, chunk.length);
                    self.wanted.push((index as u32, chunk));
                    bitmap[index / 8] |= 1 << (index % 8);
                }
            }
        }
        self.wanted.reverse();
        self.kind = kind;
        let mut packet = Vec::new();
        let bitmap = &bitmap[..chunks.len().div_ceil(8)];
        FromStore::Want { count: chunks.len() as u32, bitmap }.encode(&mut packet);
        Ok(packet)
    }

    /// Takes chunks that were wanted.
    fn data(&mut self, chunks: Records<'_, Sent>, descriptors: &[OwnedFd]) -> Result<(), OfferError> {
        let bytes = chunks.iter().map(|sent| sent.length as usize).sum();
        read_memfd(descriptors, bytes, &mut self.content)?;
        let mut rest = &self.content[..];
        for sent in chunks.iter() {
            let next = self.wanted.pop();
            let (_, offered) = next
                .filter(|(index, offered)| *index == sent.index && offered.length == sent.length)
                .ok_or(OfferError::Order { what: "it sent another chunk than the next that was wanted" })?;
            let (chunk, after) = rest.split_at(sent.length as usize);
            self.writer.add(&offered.hash, self.kind, chunk)?;
            rest = after;
        }
        Ok(())
    }

    fn end(mut self) -> Result<Published, OfferError> {
        self.close()?;
        if !self.has_stream {
            return Err(OfferError::Order { what: "it ended before its stream" });
        }
        let part = self.part.ok_or(OfferError::Order { what: "it ended before its names" })?;
        Ok(self.writer.finish(part, SystemTime::now())?)
    }
}
